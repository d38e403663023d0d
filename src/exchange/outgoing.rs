//! What goes to an upstream: the caller's request in the upstream's dialect, with the provider's own credential;
//! and how its answer will be read.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::caller::{self, Whole};
use super::pipe::{PassThrough, Pipe, Report, Translate};
use super::request::Request;
use super::so_far::{SoFar, Traced, Written};
use crate::cells::upstream::About;
use crate::cells::{Lease, Setup};
use crate::config::secret::Key;
use crate::config::{Auth, ProviderKind};
use crate::dialect::openai_chat::{self, Context, Rectify, Translated, Translation};
use crate::dialect::table::Variant;
use crate::dialect::{
    Dialect, Fault, FaultKind, Part, Sink, Source, anthropic, gemini, head, openai_responses,
};
use crate::routing::{Candidate, Plan};

/// The beta of the window of a million tokens: a caller's suffix `[1m]` names the window, not the model.
/// Source: Anthropic docs, "Context windows".
const WIDE_WINDOW: &str = "context-1m-2025-08-07";

/// What becomes of a request for a candidate.
#[allow(clippy::large_enum_variant)] // lives for a moment, on the stack
pub enum Outgoing {
    /// It goes to the upstream; what comes back is read so.
    Send(http::Request<Bytes>, Reading),
    /// No upstream is needed: this is the answer.
    Answer(Vec<Part<'static>>),
}

/// How an upstream's answer is read.
pub enum Reading {
    /// The caller's dialect: as it is. With the upstream's row.
    Same(&'static Variant),
    /// Anthropic Messages, for a caller of another dialect.
    Messages,
    /// Chat Completions; the request as it was written says how.
    Chat(Box<Translated>, Box<Context>),
    /// Responses; likewise.
    Responses(Box<Translated>, Box<Context>),
    /// Gemini; likewise.
    Gemini(Box<Translated>, Box<Context>),
}

/// Makes the request for a candidate.
pub fn outgoing(
    request: &Request,
    candidate: &Candidate,
    plan: &Plan,
    lease: &Lease,
    learned: &[Rectify],
) -> Result<Outgoing, Fault> {
    let setup = lease.setup();
    let target = || translation_target(request, candidate, plan, setup, learned);
    let (path, body, reading) = match candidate.dialect {
        same if same == request.dialect => {
            let body = pass_through(request, candidate);
            #[cfg(feature = "mutants")]
            let body = crate::mutants::passed_through(body);
            (path(same), body, Reading::Same(setup.variant))
        }
        Dialect::Anthropic => {
            let body = caller::messages(request, candidate, setup, learned)?.into_owned();
            (path(Dialect::Anthropic), body, Reading::Messages)
        }
        Dialect::OpenAiChat => {
            let target = target();
            match openai_chat::from_known(&caller::messages(request, candidate, setup, learned)?, &target)? {
                Translation::Answer(parts) => return Ok(Outgoing::Answer(parts)),
                Translation::Send(translated) => {
                    let context = Box::new(translated.context(&target));
                    (path(Dialect::OpenAiChat), translated.body.clone(), Reading::Chat(translated, context))
                }
            }
        }
        Dialect::OpenAiResponses => {
            let target = target();
            match openai_responses::from_messages(
                &caller::messages(request, candidate, setup, learned)?,
                &target,
            )? {
                Translation::Answer(parts) => return Ok(Outgoing::Answer(parts)),
                Translation::Send(translated) => {
                    let context = Box::new(translated.context(&target));
                    (
                        path(Dialect::OpenAiResponses),
                        translated.body.clone(),
                        Reading::Responses(translated, context),
                    )
                }
            }
        }
        Dialect::Gemini => {
            let target = target();
            match gemini::from_messages(&caller::messages(request, candidate, setup, learned)?, &target)? {
                Translation::Answer(parts) => return Ok(Outgoing::Answer(parts)),
                Translation::Send(translated) => {
                    let context = Box::new(translated.context(&target));
                    let path = gemini::request::path(&candidate.target.model, request.facts.head.stream);
                    (path.into(), translated.body.clone(), Reading::Gemini(translated, context))
                }
            }
        }
    };
    let uri = format!("{}{path}", setup.base_url);
    let mut message = http::Request::new(body);
    *message.method_mut() = Method::POST;
    *message.uri_mut() = uri.parse().map_err(|error| {
        Fault::new(FaultKind::Caller, format!("{}: no valid address \"{uri}\": {error}", setup.id))
    })?;
    *message.headers_mut() = headers(request, plan, setup, lease.key(), candidate.dialect)?;
    if lease.upstream().is_curious() {
        let model = candidate.target.model.clone();
        message.extensions_mut().insert(About { model, session: request.facts.session.clone() });
    }
    Ok(Outgoing::Send(message, reading))
}

/// Where requests of a dialect go, after the provider's address.
fn path(dialect: Dialect) -> Cow<'static, str> {
    Cow::Borrowed(match dialect {
        Dialect::Anthropic => "/v1/messages",
        Dialect::OpenAiChat => "/chat/completions",
        Dialect::OpenAiResponses => "/responses",
        Dialect::Gemini => "/v1beta/models", // and the model: each request has a path of its own
    })
}

/// The request that has a candidate count the input tokens of `request`; `None` where it can't. Sources: Anthropic
/// API reference, "Count tokens in a Message"; OpenAI API reference, "Get input token counts".
pub fn counting(
    request: &Request,
    candidate: &Candidate,
    plan: &Plan,
    setup: &Setup,
    key: Option<&Key>,
) -> Option<http::Request<Bytes>> {
    let (path, body) = match candidate.dialect {
        Dialect::Anthropic if request.dialect == Dialect::Anthropic => {
            ("/v1/messages/count_tokens", pass_through(request, candidate))
        }
        // Others than OpenAI speak Responses without this.
        Dialect::OpenAiResponses if setup.config.kind == ProviderKind::Openai => {
            let target = translation_target(request, candidate, plan, setup, &[]);
            let messages = caller::messages(request, candidate, setup, &[]).ok()?;
            let Ok(Translation::Send(translated)) = openai_responses::from_messages(&messages, &target)
            else {
                return None;
            };
            ("/responses/input_tokens", counted_fields(&translated.body)?)
        }
        _ => return None,
    };
    let mut message = http::Request::new(body);
    *message.method_mut() = Method::POST;
    *message.uri_mut() = format!("{}{path}", setup.base_url).parse().ok()?;
    *message.headers_mut() = headers(request, plan, setup, key, candidate.dialect).ok()?;
    Some(message)
}

/// The fields of a Responses request that count as input; the endpoint takes no others.
fn counted_fields(body: &[u8]) -> Option<Bytes> {
    const COUNTED: [&str; 8] = [
        "model",
        "input",
        "instructions",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "reasoning",
        "text",
    ];
    let mut fields: std::collections::BTreeMap<String, &serde_json::value::RawValue> =
        serde_json::from_slice(body).ok()?;
    fields.retain(|name, _| COUNTED.contains(&&**name));
    serde_json::to_vec(&fields).ok().map(Bytes::from)
}

/// The caller's body for an upstream of its own dialect: the same bytes, but for the model's name.
fn pass_through(request: &Request, candidate: &Candidate) -> Bytes {
    let (head, model) = (&request.facts.head, &*candidate.target.model);
    if request.dialect == Dialect::Anthropic
        && let Some(cleaned) = anthropic::own::without_ours(&request.body)
        && let Ok(scanned) = head::scan(&cleaned)
    {
        return head::splice_model(&cleaned, &scanned.model_span, model);
    }
    if *model == *head.model {
        request.body.clone()
    } else {
        head::splice_model(&request.body, &head.model_span, model)
    }
}

/// What a translation must know of its target.
fn translation_target<'a>(
    request: &'a Request,
    candidate: &'a Candidate,
    plan: &'a Plan,
    setup: &'a Setup,
    learned: &'a [Rectify],
) -> openai_chat::Target<'a> {
    let can = &setup.config.capabilities;
    openai_chat::Target {
        session: request.facts.session.as_deref(),
        effort: plan.effort.as_deref(),
        max_output_tokens: can.max_output_tokens,
        images: can.images,
        documents: can.documents,
        rectified: learned,
        extra: Some(&setup.config.extra),
        input_estimate: request.facts.head.tokens_for(&candidate.target.model),
        ..openai_chat::Target::new(&candidate.target.model, setup.variant)
    }
}

/// The headers: the caller's protocol headers towards its own dialect only, and one credential.
fn headers(
    request: &Request,
    plan: &Plan,
    setup: &Setup,
    key: Option<&Key>,
    dialect: Dialect,
) -> Result<HeaderMap, Fault> {
    let mut headers = if dialect == request.dialect { request.headers.clone() } else { HeaderMap::new() };
    #[cfg(feature = "mutants")]
    {
        headers = crate::mutants::own_headers(headers);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let accept = if request.facts.head.stream { "text/event-stream" } else { "application/json" };
    headers.insert(ACCEPT, HeaderValue::from_static(accept));
    if !headers.contains_key(USER_AGENT) {
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("cproxy/", env!("CARGO_PKG_VERSION"))));
    }
    if dialect == Dialect::Anthropic && !headers.contains_key("anthropic-version") {
        headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
    }
    let names_window = |value: &HeaderValue| value.to_str().is_ok_and(|value| value.contains(WIDE_WINDOW));
    if dialect == Dialect::Anthropic
        && plan.wide_window
        && !headers.get_all("anthropic-beta").iter().any(names_window)
    {
        headers.append("anthropic-beta", HeaderValue::from_static(WIDE_WINDOW));
    }
    if setup.config.kind == ProviderKind::Openrouter {
        headers.insert("x-title", HeaderValue::from_static("cproxy"));
    }
    match setup.config.auth {
        Auth::Caller => {
            if let Some(key) = &request.credential.api_key {
                headers.insert("x-api-key", sensitive(key, "")?);
            }
            if let Some(authorization) = &request.credential.authorization {
                headers.insert(AUTHORIZATION, sensitive(authorization, "")?);
            }
        }
        Auth::Key => {
            if let Some(key) = key {
                match dialect {
                    Dialect::Anthropic => headers.insert("x-api-key", sensitive(key, "")?),
                    Dialect::Gemini => headers.insert("x-goog-api-key", sensitive(key, "")?),
                    Dialect::OpenAiChat | Dialect::OpenAiResponses => {
                        headers.insert(AUTHORIZATION, sensitive(key, "Bearer ")?)
                    }
                };
            }
        }
    }
    for (name, value) in &setup.config.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
    Ok(headers)
}

/// A key as a header value that no debug output shows.
fn sensitive(key: &Key, prefix: &str) -> Result<HeaderValue, Fault> {
    let mut value = HeaderValue::try_from(format!("{prefix}{}", key.expose())).map_err(|_| {
        Fault::new(
            FaultKind::Auth,
            format!("the key {} holds characters that no header may hold", key.name()),
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}

// === impl Reading ===

impl Reading {
    /// The fault behind an error status.
    pub fn refusal(&self, request: &Request, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Fault {
        match self {
            Reading::Same(variant) if request.dialect != Dialect::Anthropic => {
                openai_chat::error::read(status.as_u16(), headers, body, variant)
            }
            Reading::Same(_) | Reading::Messages => anthropic::error::read(status, headers, body),
            Reading::Chat(_, context) | Reading::Responses(_, context) => {
                openai_chat::error::read(status.as_u16(), headers, body, context.variant)
            }
            Reading::Gemini(_, context) => {
                gemini::error::read(status.as_u16(), headers, body, context.variant)
            }
        }
    }

    /// The pipe for a stream; one that others can continue, if `noting`.
    pub fn pipe(&self, request: &Request, noting: bool) -> Box<dyn Pipe> {
        let source: Box<dyn Source> = match self {
            Reading::Same(_) if request.dialect == Dialect::Anthropic => match noting {
                true => return Box::new(Traced::new(request)),
                false => return Box::new(PassThrough::new(anthropic::Watch::new())),
            },
            // What is passed on as it is names its answer in each event, which nobody else could go on with.
            Reading::Same(variant) if noting => {
                let context = Context::new(variant, &request.facts.head.model);
                match request.dialect {
                    Dialect::OpenAiResponses => Box::new(openai_responses::Reader::new(context)),
                    _ => Box::new(openai_chat::Reader::new(context)),
                }
            }
            Reading::Same(variant) if request.dialect == Dialect::OpenAiResponses => {
                return Box::new(PassThrough::new(openai_responses::watch::Watch::new(variant)));
            }
            Reading::Same(variant) => {
                let estimate = request.facts.head.estimated_tokens;
                return Box::new(PassThrough::new(openai_chat::watch::Watch::new(variant, estimate)));
            }
            other => other.source(),
        };
        let pipe = Translate::new(source, caller::writer(request));
        Box::new(if noting { pipe.noting(Written::default()) } else { pipe })
    }

    /// The pipe for the rest of an answer, asked for in the Messages dialect.
    pub fn pipe_onward(&self, so_far: &SoFar) -> Box<dyn Pipe> {
        Box::new(Translate::new(self.source(), so_far.onward()).noting(Written::after(so_far)))
    }

    /// What reads the answer to a request in the Messages dialect.
    fn source(&self) -> Box<dyn Source> {
        match self {
            Reading::Same(_) | Reading::Messages => Box::new(anthropic::Reader::new()),
            Reading::Chat(_, context) => Box::new(openai_chat::Reader::new((**context).clone())),
            Reading::Responses(_, context) => Box::new(openai_responses::Reader::new((**context).clone())),
            Reading::Gemini(_, context) => Box::new(gemini::Reader::new((**context).clone())),
        }
    }

    /// The change to the request that a refusal asks for.
    pub fn mend(&self, fault: &Fault, known: &[Rectify]) -> Option<Rectify> {
        match self {
            Reading::Same(_) => None,
            Reading::Messages => openai_chat::rectify_composed(fault, known),
            Reading::Chat(translated, _)
            | Reading::Responses(translated, _)
            | Reading::Gemini(translated, _) => openai_chat::rectify(fault, translated, known),
        }
    }

    /// What was left out of the request, and what was mended in it.
    pub fn notes(&self) -> (&[&'static str], &[&'static str]) {
        match self {
            Reading::Same(_) | Reading::Messages => (&[], &[]),
            Reading::Chat(translated, _)
            | Reading::Responses(translated, _)
            | Reading::Gemini(translated, _) => (&translated.dropped, &translated.healed),
        }
    }

    /// A whole answer, in the caller's dialect; as a stream's bytes, if the caller asked for a stream.
    pub fn whole(&self, request: &Request, body: &Bytes) -> Result<(Bytes, Report), Fault> {
        let is_stream = request.facts.head.stream;
        match self {
            Reading::Same(variant) if request.dialect == Dialect::OpenAiChat => {
                if !is_stream {
                    let estimate = request.facts.head.estimated_tokens;
                    let (usage, stop) = openai_chat::watch::usage_of(body, variant, estimate)?;
                    return Ok((body.clone(), Report { usage, stop }));
                }
                let mut sink = Whole::new(request);
                let context = Context::new(variant, &request.facts.head.model);
                openai_chat::response::read_any(body, context, &mut sink)?;
                sink.finish()
            }
            Reading::Same(variant) if request.dialect == Dialect::OpenAiResponses => {
                if !is_stream {
                    let (usage, stop) = openai_responses::watch::usage_of(body, variant)?;
                    return Ok((body.clone(), Report { usage, stop }));
                }
                let mut sink = Whole::new(request);
                let context = Context::new(variant, &request.facts.head.model);
                openai_responses::response::read(body, context, &mut sink)?;
                sink.finish()
            }
            Reading::Same(_) if !is_stream => {
                let summary = anthropic::response::usage_of(body)?;
                Ok((body.clone(), Report { usage: summary.usage, stop: summary.stop }))
            }
            Reading::Same(_) | Reading::Messages => {
                let mut sink = Whole::new(request);
                anthropic::response::read(body, &mut sink)?;
                sink.finish()
            }
            Reading::Gemini(_, context) => {
                let mut sink = Whole::new(request);
                gemini::response::read(body, (**context).clone(), &mut sink)?;
                sink.finish()
            }
            Reading::Responses(_, context) => {
                let mut sink = Whole::new(request);
                openai_responses::response::read_any(body, (**context).clone(), &mut sink)?;
                sink.finish()
            }
            Reading::Chat(_, context) => {
                let mut sink = Whole::new(request);
                openai_chat::response::read_any(body, (**context).clone(), &mut sink)?;
                sink.finish()
            }
        }
    }
}

/// Parts that are already at hand, as a whole answer or as a stream's bytes.
pub fn write(request: &Request, parts: Vec<Part<'static>>) -> Result<(Bytes, Report), Fault> {
    let mut whole = Whole::new(request);
    parts.into_iter().for_each(|part| whole.part(part));
    whole.finish()
}
