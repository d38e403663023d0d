//! What the caller's dialect decides: in which words an answer, an error and a sign of life are written, and how
//! its request becomes one that other dialects are written from.

use std::borrow::Cow;

use bytes::Bytes;

use super::pipe::Report;
use super::request::Request;
use crate::cells::Setup;
use crate::dialect::anthropic::compose::Destination;
use crate::dialect::anthropic::{self, ErrorAnswer, MessageBuilder, StreamWriter};
use crate::dialect::openai_chat::Rectify;
use crate::dialect::{Dialect, Fault, Part, Sink, openai_chat, openai_responses};
use crate::routing::Candidate;
use crate::runtime::clock;

/// Writes parts as the bytes of a caller's stream.
pub trait Writer: Sink + Send {
    /// The bytes written since the last time: whole events.
    fn take(&mut self) -> Bytes;

    /// A sign of life that depends on what was written; `None`: [`ping`] will do.
    fn ping(&mut self) -> Option<Bytes> {
        None
    }

    /// An error that depends on what was written; `None`: [`error_event`] will do.
    fn fail(&mut self, _fault: &Fault) -> Option<Bytes> {
        None
    }
}

/// Writes parts as a whole answer, or as all of a stream's bytes, and notes how it ended.
pub struct Whole {
    form: Form,
    report: Report,
}

/// As the caller wants it.
enum Form {
    Message(MessageBuilder),
    Completion(Box<openai_chat::answer::CompletionBuilder>),
    Response(Box<openai_responses::answer::Writer>),
    Stream(Box<dyn Writer>),
}

/// The request in the Messages dialect: as it came, or read from the caller's.
pub fn messages<'r>(
    request: &'r Request,
    candidate: &Candidate,
    setup: &Setup,
    learned: &[Rectify],
) -> Result<Cow<'r, Bytes>, Fault> {
    let to = Destination {
        model: &candidate.target.model,
        is_anthropic: candidate.dialect == Dialect::Anthropic,
        max_output_tokens: setup.config.capabilities.max_output_tokens,
        is_strict_refused: learned.contains(&Rectify::NotStrict),
    };
    match request.dialect {
        Dialect::Anthropic | Dialect::Gemini => Ok(Cow::Borrowed(&request.body)),
        Dialect::OpenAiChat => Ok(Cow::Owned(openai_chat::to_messages::to_messages(&request.body, &to)?)),
        Dialect::OpenAiResponses => {
            Ok(Cow::Owned(openai_responses::to_messages::to_messages(&request.body, &to)?))
        }
    }
}

/// The writer of a stream.
pub fn writer(request: &Request) -> Box<dyn Writer> {
    let head = &request.facts.head;
    match request.dialect {
        Dialect::Anthropic | Dialect::Gemini => {
            Box::new(StreamWriter::new(&head.model, &message_id(request), head.estimated_tokens))
        }
        Dialect::OpenAiChat => Box::new(openai_chat::answer::StreamWriter::new(chat_heading(request))),
        Dialect::OpenAiResponses => Box::new(response_writer(request)),
    }
}

/// A sign of life for a caller of this dialect.
pub fn ping(dialect: Dialect) -> Bytes {
    match dialect {
        Dialect::Anthropic | Dialect::Gemini => anthropic::write::ping(),
        Dialect::OpenAiChat | Dialect::OpenAiResponses => openai_chat::answer::keep_alive(),
    }
}

/// An error that ends a stream of a caller of this dialect.
pub fn error_event(dialect: Dialect, fault: &Fault, request_id: &str) -> Bytes {
    match dialect {
        Dialect::Anthropic | Dialect::Gemini => {
            // An Anthropic upstream's own error goes on as it came; the caller reads its wording.
            let body = anthropic::error::write(fault, request_id).body;
            let body = if body.contains(&b'\n') {
                Bytes::from(body.iter().copied().filter(|byte| *byte != b'\n').collect::<Vec<_>>())
            } else {
                body
            };
            [&b"event: error\ndata: "[..], &body, b"\n\n"].concat().into()
        }
        Dialect::OpenAiChat => openai_chat::answer::error_event(fault),
        Dialect::OpenAiResponses => openai_responses::answer::error_event(fault),
    }
}

/// An error in place of an answer.
pub fn error(dialect: Dialect, fault: &Fault, request_id: &str) -> ErrorAnswer {
    match dialect {
        Dialect::Anthropic | Dialect::Gemini => anthropic::error::write(fault, request_id),
        Dialect::OpenAiChat | Dialect::OpenAiResponses => openai_chat::answer::error::write(fault),
    }
}

/// What a Chat answer says beside its content.
fn chat_heading(request: &Request) -> openai_chat::answer::Heading {
    let head = &request.facts.head;
    openai_chat::answer::Heading {
        model: head.model.clone(),
        id: request.id.0.trim_start_matches("req_").to_owned(),
        created: clock::unix(),
        estimate: head.estimated_tokens,
        ..openai_chat::answer::Heading::read(&request.body)
    }
}

/// The writer of a Responses answer, for a stream and for one object alike.
fn response_writer(request: &Request) -> openai_responses::answer::Writer {
    let head = &request.facts.head;
    openai_responses::answer::Writer::new(openai_responses::answer::Heading {
        model: head.model.clone(),
        id: request.id.0.trim_start_matches("req_").to_owned(),
        created: clock::unix(),
        estimate: head.estimated_tokens,
        ..openai_responses::answer::Heading::read(&request.body)
    })
}

/// The id of a message whose upstream gives none.
fn message_id(request: &Request) -> String {
    format!("msg_{}", request.id.0.trim_start_matches("req_"))
}

impl Writer for StreamWriter {
    fn take(&mut self) -> Bytes {
        StreamWriter::take(self)
    }
}

impl Writer for openai_chat::answer::StreamWriter {
    fn take(&mut self) -> Bytes {
        openai_chat::answer::StreamWriter::take(self)
    }
}

impl Writer for openai_responses::answer::Writer {
    fn take(&mut self) -> Bytes {
        openai_responses::answer::Writer::take(self)
    }

    fn ping(&mut self) -> Option<Bytes> {
        Some(openai_responses::answer::Writer::ping(self))
    }

    fn fail(&mut self, fault: &Fault) -> Option<Bytes> {
        Some(openai_responses::answer::Writer::fail(self, fault))
    }
}

// === impl Whole ===

impl Whole {
    /// An answer to this request.
    pub fn new(request: &Request) -> Whole {
        let head = &request.facts.head;
        let form = match request.dialect {
            _ if head.stream => Form::Stream(writer(request)),
            Dialect::Anthropic | Dialect::Gemini => {
                Form::Message(MessageBuilder::new(&head.model, &message_id(request), head.estimated_tokens))
            }
            Dialect::OpenAiChat => {
                Form::Completion(Box::new(openai_chat::answer::CompletionBuilder::new(chat_heading(request))))
            }
            Dialect::OpenAiResponses => Form::Response(Box::new(response_writer(request))),
        };
        Whole { form, report: Report::default() }
    }

    /// The answer. A fault if it has no end.
    pub fn finish(self) -> Result<(Bytes, Report), Fault> {
        let body = match self.form {
            Form::Message(builder) => builder.finish(),
            Form::Completion(builder) => builder.finish(),
            Form::Response(writer) => writer.finish(),
            Form::Stream(mut writer) => Some(writer.take()),
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
        match &mut self.form {
            Form::Message(builder) => builder.part(part),
            Form::Completion(builder) => builder.part(part),
            Form::Response(writer) => {
                writer.part(part);
                writer.take(); // the events are not wanted
            }
            Form::Stream(writer) => writer.part(part),
        }
    }
}
