//! What goes to an upstream: the caller's request in the upstream's dialect, with the provider's own credential;
//! and how its answer will be read.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::pipe::{PassThrough, Pipe, Report, Translate};
use super::request::Request;
use crate::cells::Lease;
use crate::config::secret::Key;
use crate::config::{Auth, ProviderKind};
use crate::dialect::anthropic::write::{MessageBuilder, StreamWriter};
use crate::dialect::openai_chat::{self, request::Translated};
use crate::dialect::{Dialect, Fault, FaultKind, Part, Sink, anthropic, carrier, head};
use crate::routing::Candidate;
use crate::runtime::clock;

/// A request that is ready to be sent.
pub struct Outgoing {
    /// The message.
    pub request: http::Request<Bytes>,
    /// How to read what comes back.
    pub reading: Reading,
}

/// How an upstream's answer is read.
pub enum Reading {
    /// The caller's dialect: as it is.
    Same,
    /// Chat Completions.
    Chat(Arc<openai_chat::stream::Context>),
}

/// Makes the request for a candidate.
pub fn outgoing(request: &Request, candidate: &Candidate, lease: &Lease) -> Result<Outgoing, Fault> {
    let setup = lease.setup();
    let (path, body, reading) = match candidate.dialect {
        Dialect::Anthropic => {
            let body = carrier::without_ours(&request.body)?;
            let (body, span) = match body {
                None => (request.body.clone(), request.facts.head.model_span.clone()),
                Some(cleaned) => {
                    let span = head::scan(&cleaned).map_err(caller)?.model_span;
                    (cleaned, span)
                }
            };
            let body = if *candidate.target.model == *request.facts.head.model {
                body
            } else {
                head::splice_model(&body, &span, &candidate.target.model)
            };
            ("/v1/messages", body, Reading::Same)
        }
        Dialect::OpenAiChat => {
            let translated = openai_chat::request::from_messages(&request.body, &setup.chat_target(candidate, request))?;
            let Translated { body, context, .. } = translated;
            ("/chat/completions", body, Reading::Chat(Arc::new(context)))
        }
        other => {
            let message = format!("{} does not speak {} yet", setup.id, other.as_str());
            return Err(Fault::new(FaultKind::Caller, message));
        }
    };
    let uri = format!("{}{path}", setup.base_url);
    let mut message = http::Request::new(body);
    *message.method_mut() = Method::POST;
    *message.uri_mut() = uri.parse().map_err(|error| {
        Fault::new(FaultKind::Caller, format!("{}: no valid address \"{uri}\": {error}", setup.id))
    })?;
    *message.headers_mut() = headers(request, lease, candidate.dialect)?;
    Ok(Outgoing { request: message, reading })
}

/// The headers: the caller's protocol headers towards its own dialect only, and one credential.
fn headers(request: &Request, lease: &Lease, dialect: Dialect) -> Result<HeaderMap, Fault> {
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
        Fault::new(FaultKind::Auth, format!("the key {} holds characters that no header may hold", key.name()))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn caller(error: head::BodyError) -> Fault {
    Fault::new(FaultKind::Caller, error.to_string())
}

// === impl Reading ===

impl Reading {
    /// The fault behind an error status.
    pub fn refusal(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Fault {
        match self {
            Reading::Same => anthropic::error::read(status, headers, body, clock::unix()),
            Reading::Chat(context) => openai_chat::error::read(status, headers, body, context.variant, clock::unix()),
        }
    }

    /// The pipe for a stream.
    pub fn pipe(&self, request: &Request) -> Box<dyn Pipe> {
        match self {
            Reading::Same => Box::new(PassThrough::new()),
            Reading::Chat(context) => {
                let source = openai_chat::stream::Reader::new(context.clone());
                let writer = StreamWriter::new(&request.facts.head.model, request.facts.head.estimated_tokens);
                Box::new(Translate::new(Box::new(source), writer))
            }
        }
    }

    /// A whole answer, in the caller's dialect.
    pub fn whole(&self, request: &Request, body: Bytes) -> Result<(Bytes, Report), Fault> {
        match self {
            Reading::Same => {
                let (usage, stop) = anthropic::response::summary(&body)?;
                Ok((body, Report { usage, stop: Some(stop) }))
            }
            Reading::Chat(context) => {
                let mut sink = Whole {
                    builder: MessageBuilder::new(&request.facts.head.model, request.facts.head.estimated_tokens),
                    report: Report::default(),
                };
                openai_chat::response::read(&body, context, &mut sink)?;
                Ok((sink.builder.finish()?, sink.report))
            }
        }
    }
}

/// Builds a whole message, and notes how it ended.
struct Whole {
    builder: MessageBuilder,
    report: Report,
}

impl Sink for Whole {
    fn part(&mut self, part: Part<'_>) {
        if let Part::End { stop, usage } = &part {
            self.report = Report { usage: *usage, stop: Some(stop.clone()) };
        }
        self.builder.part(part);
    }
}
