//! What goes to an upstream: the caller's request in the upstream's dialect, with the provider's own credential;
//! and how its answer will be read.

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::pipe::{PassThrough, Pipe, Report, Translate};
use super::request::Request;
use crate::cells::{Lease, Setup};
use crate::config::secret::Key;
use crate::config::{Auth, ProviderKind};
use crate::dialect::anthropic::{MessageBuilder, StreamWriter};
use crate::dialect::openai_chat::{self, Context, Rectify, Translated, Translation};
use crate::dialect::{Dialect, Fault, FaultKind, Part, Sink, Source, anthropic, head, openai_responses};
use crate::routing::{Candidate, Plan};

/// The beta of the window of a million tokens: a caller's suffix `[1m]` names the window, not the model.
/// Source: Anthropic docs, "Context windows".
const WIDE_WINDOW: &str = "context-1m-2025-08-07";

/// What becomes of a request for a candidate.
pub enum Outgoing {
    /// It goes to the upstream; what comes back is read so.
    Send(http::Request<Bytes>, Reading),
    /// No upstream is needed: this is the answer.
    Answer(Vec<Part<'static>>),
}

/// How an upstream's answer is read.
pub enum Reading {
    /// The caller's dialect: as it is.
    Same,
    /// Chat Completions; the request as it was written says how.
    Chat(Box<Translated>, Box<Context>),
    /// Responses; likewise.
    Responses(Box<Translated>, Box<Context>),
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
    let (path, body, reading) = match candidate.dialect {
        Dialect::Anthropic => ("/v1/messages", pass_through(request, candidate), Reading::Same),
        Dialect::OpenAiChat => {
            let target = translation_target(request, candidate, plan, setup, learned);
            match openai_chat::from_messages(&request.body, &target)? {
                Translation::Answer(parts) => return Ok(Outgoing::Answer(parts)),
                Translation::Send(translated) => {
                    let context = Box::new(translated.context(&target));
                    ("/chat/completions", translated.body.clone(), Reading::Chat(translated, context))
                }
            }
        }
        Dialect::OpenAiResponses => {
            let target = translation_target(request, candidate, plan, setup, learned);
            match openai_responses::from_messages(&request.body, &target)? {
                Translation::Answer(parts) => return Ok(Outgoing::Answer(parts)),
                Translation::Send(translated) => {
                    let context = Box::new(translated.context(&target));
                    ("/responses", translated.body.clone(), Reading::Responses(translated, context))
                }
            }
        }
        other @ Dialect::Gemini => {
            let message = format!("{} does not speak {} yet", setup.id, other.as_str());
            return Err(Fault::new(FaultKind::ModelNotFound, message));
        }
    };
    let uri = format!("{}{path}", setup.base_url);
    let mut message = http::Request::new(body);
    *message.method_mut() = Method::POST;
    *message.uri_mut() = uri.parse().map_err(|error| {
        Fault::new(FaultKind::Caller, format!("{}: no valid address \"{uri}\": {error}", setup.id))
    })?;
    *message.headers_mut() = headers(request, plan, lease, candidate.dialect)?;
    Ok(Outgoing::Send(message, reading))
}

/// The caller's body for an upstream of its own dialect: the same bytes, but for the model's name.
fn pass_through(request: &Request, candidate: &Candidate) -> Bytes {
    let (head, model) = (&request.facts.head, &*candidate.target.model);
    if let Some(cleaned) = anthropic::own::without_ours(&request.body)
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
        input_estimate: request.facts.head.estimated_tokens,
        ..openai_chat::Target::new(&candidate.target.model, setup.variant)
    }
}

/// The headers: the caller's protocol headers towards its own dialect only, and one credential.
fn headers(request: &Request, plan: &Plan, lease: &Lease, dialect: Dialect) -> Result<HeaderMap, Fault> {
    let setup = lease.setup();
    let mut headers = if dialect == request.dialect { request.headers.clone() } else { HeaderMap::new() };
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
            if let Some(key) = lease.key() {
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
    pub fn refusal(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Fault {
        match self {
            Reading::Same => anthropic::error::read(status, headers, body),
            Reading::Chat(_, context) | Reading::Responses(_, context) => {
                openai_chat::error::read(status.as_u16(), headers, body, context.variant)
            }
        }
    }

    /// The pipe for a stream.
    pub fn pipe(&self, request: &Request) -> Box<dyn Pipe> {
        let source: Box<dyn Source> = match self {
            Reading::Same => return Box::new(PassThrough::new()),
            Reading::Chat(_, context) => Box::new(openai_chat::Reader::new((**context).clone())),
            Reading::Responses(_, context) => Box::new(openai_responses::Reader::new((**context).clone())),
        };
        let head = &request.facts.head;
        let writer = StreamWriter::new(&head.model, &message_id(request), head.estimated_tokens);
        Box::new(Translate::new(source, writer))
    }

    /// The change to the request that a refusal asks for.
    pub fn mend(&self, fault: &Fault, known: &[Rectify]) -> Option<Rectify> {
        match self {
            Reading::Same => None,
            Reading::Chat(translated, _) | Reading::Responses(translated, _) => {
                openai_chat::rectify(fault, translated, known)
            }
        }
    }

    /// What was left out of the request, and what was mended in it.
    pub fn notes(&self) -> (&[&'static str], &[&'static str]) {
        match self {
            Reading::Same => (&[], &[]),
            Reading::Chat(translated, _) | Reading::Responses(translated, _) => {
                (&translated.dropped, &translated.healed)
            }
        }
    }

    /// A whole answer, in the caller's dialect; as a stream's bytes, if the caller asked for a stream.
    pub fn whole(&self, request: &Request, body: &Bytes) -> Result<(Bytes, Report), Fault> {
        match self {
            Reading::Same if !request.facts.head.stream => {
                let summary = anthropic::response::usage_of(body)?;
                Ok((body.clone(), Report { usage: summary.usage, stop: summary.stop }))
            }
            Reading::Same => {
                let mut sink = Whole::new(request);
                anthropic::response::read(body, &mut sink)?;
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

/// The id of an answer whose upstream gives none.
fn message_id(request: &Request) -> String {
    format!("msg_{}", request.id.0.trim_start_matches("req_"))
}

/// Writes an answer that is at hand as a whole, and notes how it ended.
struct Whole {
    writer: Writer,
    report: Report,
}

/// As the caller wants it.
enum Writer {
    Message(MessageBuilder),
    Stream(StreamWriter),
}

impl Whole {
    fn new(request: &Request) -> Whole {
        let head = &request.facts.head;
        let (model, id, estimate) = (&head.model, message_id(request), head.estimated_tokens);
        let writer = if head.stream {
            Writer::Stream(StreamWriter::new(model, &id, estimate))
        } else {
            Writer::Message(MessageBuilder::new(model, &id, estimate))
        };
        Whole { writer, report: Report::default() }
    }

    fn finish(self) -> Result<(Bytes, Report), Fault> {
        let body = match self.writer {
            Writer::Message(builder) => builder.finish(),
            Writer::Stream(mut writer) => Some(writer.take()),
        };
        match (body, &self.report.stop) {
            (Some(body), Some(_)) => Ok((body, self.report)),
            _ => Err(Fault::protocol("the upstream's answer has no end")),
        }
    }
}

impl Sink for Whole {
    fn part(&mut self, part: Part<'_>) {
        if let Part::End { stop, usage } = &part {
            self.report = Report { usage: *usage, stop: Some(stop.clone()) };
        }
        match &mut self.writer {
            Writer::Message(builder) => builder.part(part),
            Writer::Stream(writer) => writer.part(part),
        }
    }
}
