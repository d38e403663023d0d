//! Messages requests, written as Chat Completions requests.
//!
//! The same request gives the same bytes, and a conversation that grows keeps its beginning: prompt caches
//! depend on both. What the other side has no word for is left out and named in [`Translated::dropped`].
//!
//! Sources: Anthropic API reference, "Create a Message"; OpenAI API reference, "Create chat completion"; the
//! vendors' references for the peculiarities in [`table`](crate::dialect::table).

pub(in crate::dialect) mod content;
pub(in crate::dialect) mod local;
mod messages;
pub(in crate::dialect) mod models;
pub(in crate::dialect) mod reasoning;
pub(in crate::dialect) mod tools;
pub(in crate::dialect) mod turns;

use std::sync::Arc;

use bytes::Bytes;

use super::rectify::{Param, Rectify};
use super::stream::Context;
use super::write::Json;
use crate::dialect::anthropic::types::{Content, MessagesRequest, OutputFormat, ParseError};
use crate::dialect::json::{self, Raw, Text};
use crate::dialect::names::{self, NameMap};
use crate::dialect::schema;
use crate::dialect::table::{MaxField, Prefill, Reasoning, UserField, Variant, WebSearch};
use crate::dialect::{Fault, FaultKind, Part};
use content::Notes;
use messages::Markers;
use turns::{Conversation, Turn};

/// Whom a request is written for.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The model, as the upstream calls it.
    pub model: &'a str,
    /// The upstream's row.
    pub variant: &'static Variant,
    /// The session, for the upstream's prompt cache.
    pub session: Option<&'a str>,
    /// An effort that the user's config sets in place of the caller's.
    pub effort: Option<&'a str>,
    /// The model's limit on output.
    pub max_output_tokens: Option<u64>,
    /// Whether the model takes images; `None`: as the row says.
    pub images: Option<bool>,
    /// Whether the model takes PDFs; `None`: as the row says.
    pub documents: Option<bool>,
    /// Input tokens, estimated, for upstreams that give no figures.
    pub input_estimate: u64,
    /// What earlier refusals of this upstream and model have taught.
    pub rectified: &'a [Rectify],
    /// Fields of the user's config for the top level of the body; they come before ours.
    pub extra: Option<&'a Extra>,
}

/// Fields for the top level of a body, by name.
pub type Extra = std::collections::BTreeMap<String, serde_json::Value>;

/// A request, written.
#[derive(Clone, Debug)]
pub struct Translated {
    /// The body.
    pub body: Bytes,
    /// The names that were changed, for the way back.
    pub names: NameMap,
    /// What was left out, by its name in the Messages API; each once.
    pub dropped: Vec<&'static str>,
    /// What was mended in the conversation; each once.
    pub healed: Vec<&'static str>,
    /// Hashes of the ids of the calls in the conversation.
    pub used_ids: Arc<[u64]>,
    /// Whether the caller takes one call at most.
    pub one_call: bool,
    /// Whether the caller wants a stream.
    pub stream: bool,
    /// Input tokens, estimated.
    pub input_estimate: u64,
    /// The limit on output that was asked for.
    pub max_tokens: Option<u64>,
    /// Strings that end the answer and that the upstream is not told of: the reader looks for them.
    pub stops: Arc<[String]>,
}

/// What becomes of a request.
#[derive(Clone, Debug)]
pub enum Translation {
    /// It goes to the upstream.
    Send(Box<Translated>),
    /// No upstream is needed: this is the answer.
    Answer(Vec<Part<'static>>),
}

/// Why a request can't be written: the caller's fault, whoever would answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The body is no Messages request.
    #[error(transparent)]
    Body(#[from] ParseError),
    /// A field is wrong.
    #[error("{path}: {message}")]
    Field {
        /// The field's path.
        path: String,
        /// What is wrong.
        message: String,
    },
    /// A field asks for what only Anthropic can do.
    #[error("{path}: {feature} is only available from Anthropic, and this request goes to another provider")]
    OnlyAnthropic {
        /// The field's path.
        path: String,
        /// What it asks for.
        feature: &'static str,
    },
    /// A signature of ours was changed on its way. Callers that read this wording drop their old reasoning and
    /// try again.
    #[error("{path}: invalid signature in thinking block")]
    Signature {
        /// The block's path.
        path: String,
    },
}

/// Writes a Messages body for an upstream that speaks Chat Completions.
pub fn from_messages(body: &[u8], target: &Target<'_>) -> Result<Translation, RequestError> {
    write(&MessagesRequest::parse(body)?, body.len(), target)
}

/// The same for a body of which it is known that it is JSON: [`head::scan`](crate::dialect::head::scan) took it, or we
/// wrote it. What other text becomes need not be JSON either.
pub fn from_known(body: &[u8], target: &Target<'_>) -> Result<Translation, RequestError> {
    write(&MessagesRequest::parse_known(body)?, body.len(), target)
}

fn write(
    request: &MessagesRequest<'_>,
    size: usize,
    target: &Target<'_>,
) -> Result<Translation, RequestError> {
    let mut notes = Notes::default();
    refuse_what_cannot_be(request, &mut notes)?;
    if let Some(answer) = local::answer(request, target, target.searches()) {
        return Ok(Translation::Answer(answer));
    }
    let conversation = turns::read(request, target, &mut notes)?;
    let wish = reasoning::Wish::read(request, target);
    let tools = tools::Tools::choose(request, &conversation, target, wish.is_on(), &mut notes)?;
    let names = NameMap::new(
        tools
            .list
            .iter()
            .filter_map(|tool| tool.name.as_deref())
            .chain(conversation.called_names.iter().copied()),
    );

    let mut json = Json::with_capacity(size + size / 8 + 256);
    json.object(|json| {
        json.key("model").string(target.model);
        if request.stream {
            json.key("stream").boolean(true);
            if target.variant.stream_options && target.sends(Param::StreamOptions) {
                json.key("stream_options").object(|json| json.key("include_usage").boolean(true));
            }
        }
        let mut markers = Markers::count(request, &conversation, &tools, target);
        tools.write(json, target, &mut markers);
        sampling(json, request, target, &wish, &mut notes);
        wish.write(json, request, target, !tools.list.is_empty());
        format(json, request, target, &mut notes);
        caller(json, request, target);
        json.key("messages").array(|json| {
            messages::system(json, request, &tools, target, &mut markers);
            messages::turns(json, &conversation, target, &mut markers, &mut notes);
        });
        prefill(json, &conversation, target);
    });

    let used_ids: Arc<[u64]> = conversation.call_ids.iter().map(|id| super::calls::id_hash(id)).collect();
    Ok(Translation::Send(Box::new(Translated {
        body: Bytes::from(json::with_extra(json.finish(), target.extra)),
        names,
        dropped: notes.dropped,
        healed: notes.healed,
        used_ids,
        one_call: request.tool_choice.as_ref().is_some_and(|choice| choice.disable_parallel_tool_use),
        stream: request.stream,
        input_estimate: target.input_estimate,
        max_tokens: max_tokens(request, target),
        stops: untold_stops(request, told_stops(request, target)),
    })))
}

// === impl Target ===

impl<'a> Target<'a> {
    /// A target of which nothing but its row is known.
    pub fn new(model: &'a str, variant: &'static Variant) -> Target<'a> {
        Target {
            model,
            variant,
            session: None,
            effort: None,
            max_output_tokens: None,
            images: None,
            documents: None,
            input_estimate: 0,
            rectified: &[],
            extra: None,
        }
    }

    pub(in crate::dialect) fn takes_images(&self) -> bool {
        self.images.unwrap_or(self.variant.images) && !self.is_rectified(Rectify::DropImages)
    }

    pub(in crate::dialect) fn takes_documents(&self) -> bool {
        self.documents.unwrap_or(self.variant.documents) && !self.is_rectified(Rectify::DropDocuments)
    }

    /// Whether the upstream searches the web if it is asked to.
    pub(in crate::dialect) fn searches(&self) -> bool {
        match self.variant.web_search {
            WebSearch::Plugin | WebSearch::BuiltIn => true,
            WebSearch::Options => self.model.contains("-search"),
            WebSearch::None => false,
        }
    }

    /// Whether the server fetches images from the web.
    pub(in crate::dialect) fn fetches_images(&self) -> bool {
        self.variant.image_urls && !self.is_rectified(Rectify::DropImageUrls)
    }

    pub(in crate::dialect) fn schema(&self) -> schema::Target {
        if self.is_rectified(Rectify::StripSchemas) { schema::Target::Gemini } else { self.variant.schema }
    }

    pub(in crate::dialect) fn is_rectified(&self, rectify: Rectify) -> bool {
        self.rectified.contains(&rectify)
    }

    pub(in crate::dialect) fn sends(&self, param: Param) -> bool {
        !self.is_rectified(Rectify::DropParam(param))
    }
}

// === impl Translated ===

impl Translated {
    /// What the reader of the answer must know.
    pub fn context(&self, target: &Target<'_>) -> Context {
        Context {
            variant: target.variant,
            model: target.model.to_owned(),
            names: self.names.clone(),
            used_ids: Arc::clone(&self.used_ids),
            one_call: self.one_call,
            input_estimate: self.input_estimate,
            stops: Arc::clone(&self.stops),
        }
    }
}

impl From<RequestError> for Fault {
    fn from(error: RequestError) -> Fault {
        Fault { status: Some(400), ..Fault::new(FaultKind::Caller, error.to_string()) }
    }
}

/// Fields that can't be honoured are errors; fields that can be ignored are noted.
pub(in crate::dialect) fn refuse_what_cannot_be(
    request: &MessagesRequest<'_>,
    notes: &mut Notes,
) -> Result<(), RequestError> {
    let only = |path: &str, feature| RequestError::OnlyAnthropic { path: path.to_owned(), feature };
    let thread = request.thread.as_ref().and_then(|thread| thread.kind.as_deref());
    if thread == Some("continue") {
        return Err(only("thread", "continuing a conversation held by the server"));
    }
    if request.compaction.is_some() {
        return Err(only("compaction", "compaction by the server"));
    }
    for (field, is_there) in [
        ("thread", thread.is_some()),
        ("context_management", request.context_management.is_some()),
        ("mcp_servers", request.mcp_servers.is_some()),
        ("container", request.container.is_some()),
        ("speed", request.speed.is_some()),
        ("inference_geo", request.inference_geo.is_some()),
        ("fallbacks", request.fallbacks.is_some()),
    ] {
        if is_there {
            notes.drop(field);
        }
    }
    Ok(())
}

pub(in crate::dialect) fn max_tokens(request: &MessagesRequest<'_>, target: &Target<'_>) -> Option<u64> {
    let learned = target.rectified.iter().filter_map(|rectify| match rectify {
        Rectify::MaxTokens(most) => Some(*most),
        _ => None,
    });
    let most = target.max_output_tokens.into_iter().chain(learned).min();
    match (request.max_tokens, most) {
        (Some(asked), Some(most)) => Some(asked.min(most)),
        (asked, None) => asked,
        (None, Some(_)) => None,
    }
}

fn sampling(
    json: &mut Json,
    request: &MessagesRequest<'_>,
    target: &Target<'_>,
    wish: &reasoning::Wish,
    notes: &mut Notes,
) {
    if let Some(most) = max_tokens(request, target) {
        let learned = target.rectified.iter().rev().find_map(|rectify| match rectify {
            Rectify::UseMaxField(field) => Some(*field),
            _ => None,
        });
        let field = match learned.unwrap_or(target.variant.max_field) {
            MaxField::MaxTokens => "max_tokens",
            MaxField::MaxCompletionTokens => "max_completion_tokens",
        };
        json.key(field).number(most);
    }
    // OpenAI's reasoning models take none of these, and DeepSeek's not while they reason.
    let reasons = models::is_openai_reasoning(target.model)
        || (target.variant.reasoning == Reasoning::Thinking && wish.is_on());
    for (key, value, param) in
        [("temperature", request.temperature, Param::Temperature), ("top_p", request.top_p, Param::TopP)]
    {
        let Some(value) = value else { continue };
        if reasons || !target.sends(param) {
            notes.drop(key);
        } else {
            json.key(key).raw(value);
        }
    }
    if let Some(top_k) = request.top_k {
        if target.variant.top_k && target.sends(Param::TopK) {
            json.key("top_k").raw(top_k);
        } else {
            notes.drop("top_k");
        }
    }
    let told = told_stops(request, target);
    if told > 0 {
        json.key("stop").array(|json| {
            request.stop_sequences.iter().take(told).for_each(|stop| json.string(stop));
        });
    }
}

/// How many of the stop strings the upstream is told of. OpenAI's reasoning models take none.
fn told_stops(request: &MessagesRequest<'_>, target: &Target<'_>) -> usize {
    let is_known = !models::is_openai_reasoning(target.model) && target.sends(Param::Stop);
    if is_known { request.stop_sequences.len().min(target.variant.max_stops) } else { 0 }
}

/// The stop strings that the reader must look for: all but the first `told`.
pub(in crate::dialect) fn untold_stops(request: &MessagesRequest<'_>, told: usize) -> Arc<[String]> {
    let untold = request.stop_sequences.iter().skip(told).filter(|stop| !stop.is_empty());
    untold.map(|stop| stop.clone().into_owned()).collect()
}

/// The format of the answer.
fn format(json: &mut Json, request: &MessagesRequest<'_>, target: &Target<'_>, notes: &mut Notes) {
    let config = request.output_config.as_ref().and_then(|config| config.format.as_ref());
    let Some(OutputFormat { schema: Some(wanted), .. }) = config.or(request.output_format.as_ref()) else {
        return;
    };
    if !target.sends(Param::ResponseFormat) {
        notes.drop("output_config.format");
        return;
    }
    json.key("response_format").object(|json| {
        if !target.variant.response_format {
            json.key("type").string("json_object");
            return;
        }
        json.key("type").string("json_schema");
        json.key("json_schema").object(|json| {
            json.key("name").string("output");
            json.key("schema").json(&schema::clean(Some(*wanted), target.schema()));
            json.key("strict")
                .boolean(schema::is_strict(*wanted) && !target.is_rectified(Rectify::NotStrict));
        });
    });
}

/// Who asks, and how the upstream may find its cache again.
fn caller(json: &mut Json, request: &MessagesRequest<'_>, target: &Target<'_>) {
    let user = request.metadata.as_ref().and_then(|metadata| metadata.user_id.as_deref());
    if let Some(user) = user.filter(|_| target.sends(Param::User)) {
        // Claude Code puts JSON with ids of device and account there: none of an upstream's business.
        let hashed = (user.len() > 64 || user.contains('{')).then(|| names::hash(&[user], 64));
        let user = hashed.as_deref().unwrap_or(user);
        match target.variant.user {
            UserField::SafetyIdentifier => json.key("safety_identifier").string(user),
            UserField::User => json.key("user").string(user),
            UserField::None => {}
        }
    }
    if let Some(session) =
        target.session.filter(|_| target.variant.prompt_cache_key && target.sends(Param::CacheKey))
    {
        json.key("prompt_cache_key").string(session);
    }
    if target.variant.service_tier {
        match request.service_tier.as_deref() {
            Some("auto") => json.key("service_tier").string("auto"),
            Some("standard_only") => json.key("service_tier").string("default"),
            _ => {}
        }
    }
    if let Some(marker) = request.cache_control.filter(|_| target.variant.cache_control) {
        json.key("cache_control").raw(marker);
    }
    if let Some(search) = request.tools.iter().find(|tool| tools::is_web_search(tool)) {
        match target.variant.web_search {
            WebSearch::Plugin => {
                json.key("plugins").array(|json| {
                    json.object(|json| {
                        json.key("id").string("web");
                        for (name, domains) in [
                            ("include_domains", search.allowed_domains),
                            ("exclude_domains", search.blocked_domains),
                        ] {
                            tools::said(domains).into_iter().for_each(|domains| json.key(name).raw(domains));
                        }
                    });
                });
            }
            WebSearch::Options if target.searches() => json.key("web_search_options").object(|json| {
                if let Some(place) = tools::said(search.user_location) {
                    json.key("user_location").object(|json| {
                        json.key("type").string("approximate");
                        json.key("approximate").raw(place);
                    });
                }
            }),
            WebSearch::Options | WebSearch::BuiltIn | WebSearch::None => {}
        }
    }
}

fn prefill(json: &mut Json, conversation: &Conversation<'_>, target: &Target<'_>) {
    let begun = matches!(conversation.turns.last(), Some(Turn::Assistant(turn)) if turn.calls.is_empty());
    if begun && target.variant.prefill == Prefill::Continue {
        json.key("continue_final_message").boolean(true);
        json.key("add_generation_prompt").boolean(false);
    }
}

/// Whether a system prompt's first block is Claude Code's attribution line, which Anthropic strips and nobody
/// else does.
pub(in crate::dialect) fn is_attribution(text: &Text<'_>) -> bool {
    text.begins("x-anthropic-billing-header:")
}

/// The blocks of the system prompt: (text, cache marker).
pub(in crate::dialect) fn system_texts<'r>(
    system: &'r Content<'_>,
) -> impl Iterator<Item = (&'r Text<'r>, Option<Raw<'r>>)> {
    let whole = match system {
        Content::Text(text) => Some((text, None)),
        Content::None | Content::Blocks(_) => None,
    };
    let blocks = system.blocks().iter().filter_map(|block| Some((block.text.as_ref()?, block.cache_control)));
    let all = whole.into_iter().chain(blocks).enumerate();
    all.filter(|(nth, (text, _))| !text.is_empty() && (*nth > 0 || !is_attribution(text)))
        .map(|(_, pair)| pair)
}

#[cfg(test)]
mod tests;
