//! The server of one session: what rmcp asks, dispatched and guarded.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[allow(
    deprecated,
    reason = "the clients of today speak the revisions in which these are not deprecated"
)]
use rmcp::model::*;
use rmcp::service::{NotificationContext, RequestContext, SubscriptionContext};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::completion::Call;
use super::guard::{Ended, guarded};
use super::outcome::Trouble;
use super::state::{SUBSCRIPTIONS, State, URI_BYTES};
use super::watch_status::{Watcher, locked, print};
use super::{Daemon, SERVER_NAME, Sessions, Shared, compare, completion, manage, prompts, resources, tools};

/// How long anything but a tool may take.
const QUICK: Duration = Duration::from_secs(30);
/// How long a watcher that panicked waits before it goes on.
const AFTER_PANIC: Duration = Duration::from_secs(1);
/// Most sessions at once over HTTP.
const SESSIONS: usize = 2048;

/// The methods that take parameters.
const METHODS: [&str; 8] = [
    "initialize",
    "tools/call",
    "resources/read",
    "resources/subscribe",
    "resources/unsubscribe",
    "prompts/get",
    "completion/complete",
    "logging/setLevel",
];

const INSTRUCTIONS: &str = "This proxy reaches other AI models. Use proxy_completion to ask one (a second opinion, \
    another model's strengths), proxy_compare to ask several at once. cproxy://models lists what can be asked, \
    cproxy://health says who is well, cproxy://status shows all. Results carry a conversation_id; pass it back \
    to continue with the same or another model. If a call fails, the error says what to do.";

/// The server of one session.
pub struct Server {
    shared: Shared,
    state: Arc<State>,
    /// Ends the session's watcher with the session.
    _ended: DropGuard,
    ended: CancellationToken,
    /// Counts sessions.
    _alive: Arc<()>,
}

// === impl Server ===

#[allow(deprecated, reason = "the clients of today are told of logs this way")]
impl Server {
    /// A server for one session; an error while there are too many.
    pub fn admit(daemon: Arc<dyn Daemon>, sessions: Arc<Sessions>) -> std::io::Result<Server> {
        if Arc::strong_count(&sessions.alive) > SESSIONS {
            let message =
                format!("there are {SESSIONS} MCP sessions; close some, or wait for idle ones to end");
            tracing::warn!("{message}");
            return Err(std::io::Error::other(message));
        }
        Ok(Server::new(daemon, sessions))
    }

    /// A server for one session.
    pub fn new(daemon: Arc<dyn Daemon>, sessions: Arc<Sessions>) -> Server {
        let ended = CancellationToken::new();
        Server {
            _alive: sessions.alive.clone(),
            shared: Shared { daemon, sessions },
            state: Arc::default(),
            _ended: ended.clone().drop_guard(),
            ended,
        }
    }

    /// Runs a tool. Unknown names are the caller's protocol error; all else is a result.
    async fn tool(
        &self,
        request: CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ErrorData> {
        let (shared, ct) = (&self.shared, &context.ct);
        let arguments = request.arguments;
        let bad = |error: super::args::BadArgs| manage::refused(Trouble::arguments(error.0));
        let result = match &*request.name {
            tools::COMPLETION => match Call::read(arguments) {
                Err(error) => Ok(bad(error)),
                Ok(call) => {
                    let limit = call.limit();
                    guarded(ct, limit, completion::run(shared, call, context))
                        .await
                        .map(super::outcome::Outcome::into_result)
                }
            },
            tools::COMPARE => match compare::Comparison::read(arguments) {
                Err(error) => Ok(bad(error)),
                // Its own answers end in time; the rest is a margin to put them together.
                Ok(comparison) => {
                    let limit = comparison.limit() + QUICK;
                    guarded(ct, limit, compare::run(shared, comparison, context)).await
                }
            },
            tools::CONFIG => guarded(ct, QUICK, manage::config(shared, arguments)).await,
            tools::EXPLAIN => guarded(ct, QUICK, async { manage::explain(shared, arguments) }).await,
            tools::FAULT if shared.daemon.settings().faults_enabled => {
                guarded(ct, QUICK, manage::fault(shared, arguments)).await
            }
            unknown => {
                let unknown: String = unknown.chars().take(60).collect();
                let names: Vec<_> =
                    tools::all(&shared.daemon.settings()).into_iter().map(|tool| tool.name).collect();
                return Err(ErrorData::invalid_params(
                    format!("unknown tool \"{unknown}\"; the tools are {}", names.join(", ")),
                    None,
                ));
            }
        };
        Ok(result.unwrap_or_else(|ended| manage::refused(Trouble::from(ended))))
    }

    /// Runs the body of anything but a tool.
    async fn quick<T>(
        &self,
        context: &RequestContext<RoleServer>,
        body: impl Future<Output = Result<T, ErrorData>>,
    ) -> Result<T, ErrorData> {
        match guarded(&context.ct, QUICK, body).await {
            Ok(result) => result,
            Err(ended) => Err(ErrorData::internal_error(ended.to_string(), None)),
        }
    }

    /// Names that complete what was typed.
    fn names(&self, reference: &Reference, argument: &ArgumentInfo) -> Vec<String> {
        let providers = || {
            self.shared
                .daemon
                .status()
                .providers
                .into_iter()
                .map(|provider| provider.name)
                .collect::<Vec<_>>()
        };
        let models = || {
            let all = self.shared.daemon.models().into_iter();
            all.filter(|model| !model.is_pattern()).map(|model| model.id).collect::<Vec<_>>()
        };
        match reference {
            Reference::Prompt(_) if argument.name == "provider" => {
                prompts::complete("provider", &argument.value, &providers())
            }
            Reference::Prompt(_) => prompts::complete(&argument.name, &argument.value, &models()),
            Reference::Resource(resource) if resource.uri.starts_with("cproxy://providers/") => {
                prompts::complete("provider", &argument.value, &providers())
            }
            _ => Vec::new(),
        }
    }
}

/// All lists fit on one page, so a cursor can't be ours.
fn one_page(request: &Option<PaginatedRequestParams>) -> Result<(), ErrorData> {
    match request.as_ref().and_then(|request| request.cursor.as_ref()) {
        None => Ok(()),
        Some(_) => {
            Err(ErrorData::invalid_params("unknown cursor: this server's lists have one page each", None))
        }
    }
}

#[allow(deprecated, reason = "the clients of today speak the revisions in which these are not deprecated")]
impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_tool_list_changed()
            .enable_prompts()
            .enable_resources()
            .enable_resources_subscribe()
            .enable_resources_list_changed()
            .enable_logging()
            .enable_completions()
            .build();
        ServerConfig::new(capabilities)
            .with_server_info(
                Implementation::new(SERVER_NAME, env!("CARGO_PKG_VERSION")).with_title("cproxy"),
            )
            .with_instructions(INSTRUCTIONS)
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        let (shared, state, ended) = (self.shared.clone(), self.state.clone(), self.ended.clone());
        tokio::spawn(async move {
            while let Err(Ended::Panicked) =
                guarded(&ended, Duration::MAX, state.watch(shared.clone(), &context.peer)).await
            {
                tokio::time::sleep(AFTER_PANIC).await;
            }
        });
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        self.quick(&context, async {
            one_page(&request)?;
            Ok(ListToolsResult::with_all_items(tools::all(&self.shared.daemon.settings())))
        })
        .await
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let (name, begun) = (request.name.clone(), tokio::time::Instant::now());
        // The parts of a call guard themselves; this guards what lies between them.
        let limit = super::HANDLER_LIMIT + 2 * QUICK;
        let result = match guarded(&context.ct, limit, self.tool(request, &context)).await {
            Ok(result) => result?,
            Err(ended) => manage::refused(Trouble::from(ended)),
        };
        let (level, data) = match result.structured_content.as_ref().and_then(|content| content.get("error"))
        {
            Some(error) => (LoggingLevel::Warning, json!({ "tool": name, "error": error })),
            None => {
                let seconds = (begun.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
                (LoggingLevel::Info, json!({ "tool": name, "seconds": seconds }))
            }
        };
        let _ = tokio::time::timeout(QUICK, self.state.log(&context.peer, level, data)).await;
        Ok(result.into())
    }

    async fn list_resources(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        one_page(&request)?;
        Ok(ListResourcesResult::with_all_items(resources::list()))
    }

    async fn list_resource_templates(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        one_page(&request)?;
        Ok(ListResourceTemplatesResult::with_all_items(resources::templates()))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        self.quick(&context, async {
            let Some(value) = resources::read(&self.shared, &request.uri).await else {
                let data = json!({ "uri": request.uri });
                return Err(ErrorData::resource_not_found(
                    "there is no such resource; resources/list names those there are, and long answers are \
                     kept for a day at most",
                    Some(data),
                ));
            };
            let contents = ResourceContents::text(value.to_string(), request.uri.clone())
                .with_mime_type(resources::MIME);
            Ok(ReadResourceResult::new(vec![contents]).into())
        })
        .await
    }

    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.quick(&context, async {
            // What is not there yet may come with the next config, such as a provider.
            let print = print(&self.shared, &request.uri).await;
            self.state.subscribe(request.uri, print)
        })
        .await
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.state.unsubscribe(&request.uri);
        Ok(())
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        let mut accepted = requested.clone();
        if let Some(uris) = &mut accepted.resource_subscriptions {
            uris.retain(|uri| uri.len() <= URI_BYTES);
            uris.truncate(SUBSCRIPTIONS);
        }
        Some(accepted)
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let seen = Mutex::new(BTreeMap::new());
        for uri in context.accepted().resource_subscriptions.iter().flatten() {
            let print = print(&self.shared, uri).await;
            locked(&seen).insert(uri.clone(), print);
        }
        let mut watcher = Watcher::new(self.shared.clone());
        loop {
            let changes = tokio::select! {
                biased;
                () = context.cancelled() => return Ok(()),
                changes = watcher.next(&seen) => changes,
            };
            for uri in changes.updated {
                let _ = context.sink().notify_resource_updated(uri).await;
            }
            if changes.lists {
                let _ = context.sink().notify_resource_list_changed().await;
                let _ = context.sink().notify_tool_list_changed().await;
            }
        }
    }

    async fn set_level(
        &self,
        request: SetLevelRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.state.set_level(request.level);
        Ok(())
    }

    async fn list_prompts(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        one_page(&request)?;
        Ok(ListPromptsResult::with_all_items(prompts::list()))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        self.quick(&context, async {
            Ok(prompts::get(&request.name, request.arguments, &self.shared.daemon.models())?.into())
        })
        .await
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        self.quick(&context, async {
            let mut names = self.names(&request.r#ref, &request.argument);
            let total = u32::try_from(names.len()).unwrap_or(u32::MAX);
            let more = names.len() > CompletionInfo::MAX_VALUES;
            names.truncate(CompletionInfo::MAX_VALUES);
            let info = CompletionInfo::with_pagination(names, Some(total), more)
                .map_err(|error| ErrorData::internal_error(error, None))?;
            Ok(CompleteResult::new(info))
        })
        .await
    }

    async fn on_custom_request(
        &self,
        request: CustomRequest,
        _: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        if request.method == super::lines::REFUSED {
            let why = request.params.as_ref().and_then(|params| params.get("why")).and_then(Value::as_str);
            let why = why.unwrap_or("the message was refused").to_owned();
            return Err(ErrorData::invalid_request(why, None));
        }
        let method: String = request.method.chars().take(60).collect();
        // What is known by its name comes here when its parameters can't be read.
        if METHODS.contains(&&*request.method) {
            let why = format!("the parameters of \"{method}\" are missing or not of the right shape");
            return Err(ErrorData::invalid_params(why, None));
        }
        Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, format!("unknown method \"{method}\""), None))
    }
}
