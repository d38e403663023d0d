//! `proxy_completion`: asks another model, and reads its answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rmcp::RoleServer;
use rmcp::model::JsonObject;
use rmcp::service::RequestContext;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::exchange::{Answer, Request};

use super::args::{Args, BadArgs};
use super::body::{self, Question};
use super::collect::{Collected, collect};
use super::files;
use super::outcome::{Outcome, SHOWN, Tokens, Trouble};
use super::progress::Progress;
use super::sessions::{CONVERSATION_BYTES, Conversation};
use super::{HANDLER_LIMIT, Shared};

/// How much later than the daemon this front gives up.
pub(crate) const GRACE: Duration = Duration::from_millis(500);

/// What the tool was called with.
#[derive(Debug)]
pub(crate) struct Call {
    pub question: Question,
    pub model: Option<String>,
    pub provider: Option<String>,
    pub stream: bool,
    pub images: Vec<Value>,
    pub files: Vec<String>,
    pub conversation: Option<String>,
    pub timeout: Option<Duration>,
}

// === impl Call ===

impl Call {
    pub fn read(arguments: Option<JsonObject>) -> Result<Call, BadArgs> {
        let mut args = Args::new("proxy_completion", arguments);
        let call = Call {
            question: Question::take(&mut args)?,
            model: args.text("model")?,
            provider: args.text("provider")?,
            stream: args.flag("stream")?.unwrap_or(true),
            images: args.list("images"),
            files: args.texts("files")?,
            conversation: args.text("conversation_id")?,
            timeout: args.span("timeout")?,
        };
        args.done()?;
        let asks = call.question.messages.iter().any(|message| message["role"] == "user");
        if !asks && call.files.is_empty() && call.images.is_empty() {
            return Err(BadArgs(
                "`messages` is missing: say what to ask, as text or a list of messages".into(),
            ));
        }
        Ok(call)
    }

    /// How long the whole call may take. A little more than its timeout: the daemon keeps to that itself, and
    /// says better what happened.
    pub fn limit(&self) -> Duration {
        self.timeout.map_or(HANDLER_LIMIT, |timeout| timeout.saturating_add(GRACE).min(HANDLER_LIMIT))
    }
}

// === running ===

/// Runs the call. Dropping the future cancels what it does upstream.
pub(crate) async fn run(shared: &Shared, call: Call, context: &RequestContext<RoleServer>) -> Outcome {
    match attempt(shared, call, context).await {
        Ok(mut outcome) => {
            outcome.shorten(shared, SHOWN).await;
            outcome
        }
        Err(trouble) => trouble.into(),
    }
}

async fn attempt(
    shared: &Shared,
    mut call: Call,
    context: &RequestContext<RoleServer>,
) -> Result<Outcome, Trouble> {
    let attached = attachments(&mut call, context).await?;
    call.question.attach(attached);
    let (id, conversation) = open(shared, call.conversation.take()).await?;
    // Whoever else continues this conversation waits here: its turns come one after another.
    let mut held = conversation.turns.lock().await;
    let fresh = call.question.messages.clone();
    let mut question = call.question;
    question.messages.splice(0..0, held.messages.iter().cloned());
    question.system = question.system.or_else(|| held.system.clone());

    let model = model(shared, call.model.as_deref(), call.provider.as_deref())?;
    let request_id = shared.daemon.next_request_id();
    let mut request = body::request(request_id, &question, &model, call.provider.as_deref(), Some(&id));
    let progress = Progress::new(&context.peer, context.meta.get_progress_token());
    request.timeout = call.timeout;
    request.progress = progress.notes();
    let pieces = progress.texts().filter(|_| call.stream);
    request.unseen = pieces.is_none();
    let (mut outcome, answer) = ask(shared, request, pieces).await;
    progress.finish().await;

    if outcome.error.is_none() {
        held.messages.extend(fresh);
        held.messages.push(json!({ "role": "assistant", "content": answer.blocks }));
        held.system = question.system;
        let bytes = serde_json::to_vec(&held.messages).map_or(0, |text| text.len())
            + held.system.as_ref().map_or(0, String::len);
        conversation.bytes.store(bytes, Ordering::Relaxed);
        drop(held);
        shared.sessions.keep_conversation(id.clone(), conversation).await;
        outcome.conversation_id = Some(id);
    }
    Ok(outcome)
}

/// Sends one request and reads its answer; its text goes to `pieces` as it comes.
pub(crate) async fn ask(
    shared: &Shared,
    request: Request,
    pieces: Option<&mpsc::Sender<String>>,
) -> (Outcome, Collected) {
    let asked_model = request.facts.head.model.clone();
    let asked_provider = request.facts.provider.as_ref().map(ToString::to_string);
    let request_id = request.id.to_string();
    let started = Instant::now();
    let answer = shared.daemon.run(request).await;
    let (served, route) = (answer.served.clone(), route(&answer));
    let mut collected = collect(answer, pieces).await;

    let provider = served.as_ref().map(|served| served.provider.to_string());
    let named = || served.as_ref().map_or(asked_model, |served| served.model.to_string());
    let model = if collected.model.is_empty() { named() } else { collected.model.clone() };
    let cost = match (&provider, &collected.usage) {
        (Some(provider), Some(usage)) => shared.daemon.cost(provider, &model, usage),
        _ => None,
    };
    let outcome = Outcome {
        text: collected.text(),
        tool_calls: collected.tool_calls(),
        model: Some(model),
        provider: provider.or(asked_provider),
        finish_reason: collected.stop_reason.take(),
        usage: collected.usage.as_ref().map(Tokens::from),
        cost_usd: cost,
        seconds: Some((started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0),
        route,
        request_id: Some(request_id),
        error: collected.failure.take().map(Trouble::from),
        ..Outcome::default()
    };
    (outcome, collected)
}

/// What the answer's headers say of its way.
fn route(answer: &Answer) -> Option<Value> {
    let text = answer.headers.get("x-cproxy-route")?.to_str().ok()?;
    Some(serde_json::from_str(text).unwrap_or_else(|_| Value::from(text)))
}

/// The model to ask: named, or the default, or the first that the provider lists.
pub(crate) fn model(shared: &Shared, model: Option<&str>, provider: Option<&str>) -> Result<String, Trouble> {
    if let Some(model) = model {
        return Ok(model.to_owned());
    }
    let settings = shared.daemon.settings();
    if provider.is_none()
        && let Some(model) = settings.default_model
    {
        return Ok(model);
    }
    let models = shared.daemon.models();
    let first = models
        .iter()
        .filter(|model| !model.is_pattern())
        .find(|model| provider.is_none_or(|provider| model.provider == provider));
    first.map(|model| model.id.clone()).ok_or_else(|| {
        let whom = provider.map(|provider| format!(" of provider \"{provider}\"")).unwrap_or_default();
        Trouble::new(
            "no_model",
            format!("no `model` was named, and no model{whom} is listed in the config"),
            "Name a `model`; cproxy://models lists them, cproxy://providers lists the providers.",
        )
    })
}

async fn attachments(call: &mut Call, context: &RequestContext<RoleServer>) -> Result<Vec<Value>, Trouble> {
    let mut blocks = Vec::new();
    let mut paths = Vec::new();
    for image in std::mem::take(&mut call.images) {
        match image {
            Value::String(text) if is_url(&text) => blocks.push(body::image(&text).map_err(bad)?),
            Value::String(path) => paths.push(path),
            Value::Object(fields) => {
                let field = |name: &str| fields.get(name).and_then(Value::as_str);
                let kind = field("media_type").or_else(|| field("mimeType")).unwrap_or("image/png");
                match (field("url"), field("data")) {
                    (Some(url), _) => blocks.push(body::image(url).map_err(bad)?),
                    (None, Some(data)) => {
                        blocks.push(body::image(&format!("data:{kind};base64,{data}")).map_err(bad)?);
                    }
                    (None, None) => return Err(bad(super::args::wrong("images", IMAGES, &fields.into()))),
                }
            }
            other => return Err(bad(super::args::wrong("images", IMAGES, &other))),
        }
    }
    let unread = |error: files::FileError| Trouble::arguments(error.to_string());
    blocks.extend(files::read(context, paths, true).await.map_err(unread)?);
    blocks.extend(files::read(context, std::mem::take(&mut call.files), false).await.map_err(unread)?);
    Ok(blocks)
}

const IMAGES: &str = "a list of URLs, data: URLs, paths, or {data, media_type}";

fn is_url(text: &str) -> bool {
    ["http://", "https://", "data:"].iter().any(|scheme| text.starts_with(scheme))
}

fn bad(error: BadArgs) -> Trouble {
    Trouble::arguments(error.0)
}

/// The conversation to continue, or a new one.
async fn open(shared: &Shared, id: Option<String>) -> Result<(String, Arc<Conversation>), Trouble> {
    let Some(id) = id else {
        let id = shared.daemon.next_request_id().0.replacen("req_", "conv_", 1);
        return Ok((id, Arc::new(Conversation::default())));
    };
    let Some(conversation) = shared.sessions.conversation(&id).await else {
        return Err(Trouble::new(
            "conversation_gone",
            format!("there is no conversation \"{}\" (any more)", id.chars().take(60).collect::<String>()),
            "Leave `conversation_id` out to begin a new one, and send the earlier messages along.",
        ));
    };
    if conversation.bytes.load(Ordering::Relaxed) > CONVERSATION_BYTES {
        return Err(Trouble::new(
            "conversation_too_long",
            format!("the conversation \"{id}\" has grown past {CONVERSATION_BYTES} bytes"),
            "Leave `conversation_id` out to begin a new one, with a summary of this one.",
        ));
    }
    Ok((id, conversation))
}
