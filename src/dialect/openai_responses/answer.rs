//! Answers in the Responses dialect: as a stream of events, or as one object.
//!
//! One state machine writes both: the object is what the last event of the stream holds. Reasoning goes in items
//! of its own, with what proves it as their `encrypted_content`, so that callers can send it back.
//!
//! Source: OpenAI API reference, "Responses", object `response` and "Streaming events".

mod heading;
mod pieces;

pub use heading::Heading;

use bytes::{Bytes, BytesMut};
use pieces::{annotation, content_part, output_text, refusal, summary_part, write_usage};

use crate::dialect::citation::Citation;
use crate::dialect::openai_chat::answer::{Ruler, error};
use crate::dialect::openai_chat::write::Json;
use crate::dialect::part::Sink;
use crate::dialect::{Fault, Part, Stop, Usage, anthropic, carrier};

/// Before a signature of Anthropic's, in `encrypted_content`.
pub(super) const ANTHROPIC: &str = "anthropic.";
/// Before reasoning that Anthropic encrypted as a whole.
pub(super) const REDACTED: &str = "anthropic-redacted.";

/// Writes an answer. Feed it parts, and take the bytes whenever there are some.
#[derive(Debug)]
pub struct Writer {
    heading: Heading,
    buffer: BytesMut,
    sequence: u64,
    state: State,
    open: Open,
    /// The items that are whole, as JSON.
    items: Vec<String>,
    written: u64,
    /// The whole answer, once it has ended well.
    whole: Option<Bytes>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Fresh,
    Started,
    Ended,
}

/// The item in progress: its text so far.
#[derive(Debug)]
enum Open {
    Nothing,
    Reasoning(String),
    Message(Message),
}

/// A message in progress.
#[derive(Debug, Default)]
struct Message {
    text: String,
    /// What backs the text, as JSON.
    annotations: Vec<String>,
    ruler: Ruler,
}

/// The most of a call's arguments that goes into one event, in bytes.
const PIECE: usize = 4096;

// === impl Writer ===

impl Writer {
    /// An answer under this heading.
    pub fn new(heading: Heading) -> Writer {
        Writer {
            heading,
            buffer: BytesMut::new(),
            sequence: 0,
            state: State::Fresh,
            open: Open::Nothing,
            items: Vec::new(),
            written: 0,
            whole: None,
        }
    }

    /// The bytes written since the last time: whole events.
    pub fn take(&mut self) -> Bytes {
        self.buffer.split().freeze()
    }

    /// The answer as one object; `None` if it has not ended well.
    pub fn finish(self) -> Option<Bytes> {
        self.whole
    }

    /// A sign of life. Clients watch for events, not for comments.
    pub fn ping(&mut self) -> Bytes {
        if self.state == State::Started {
            self.about_response("response.in_progress", "in_progress", None, None);
            self.take()
        } else {
            crate::dialect::openai_chat::answer::keep_alive()
        }
    }

    /// Ends the answer with a failure. After [`Part::End`] this gives nothing.
    pub fn fail(&mut self, fault: &Fault) -> Bytes {
        if self.state != State::Ended {
            self.start();
            self.state = State::Ended;
            self.about_response("response.failed", "failed", None, Some(fault));
        }
        self.take()
    }

    /// Writes an event whose data begins with type and number.
    fn event(&mut self, kind: &str, members: impl FnOnce(&mut Json)) {
        let mut json = Json::with_capacity(160);
        json.object(|json| {
            json.key("type").string(kind);
            json.key("sequence_number").number(self.sequence);
            members(json);
        });
        self.sequence += 1;
        for piece in ["event: ", kind, "\ndata: "] {
            self.buffer.extend_from_slice(piece.as_bytes());
        }
        self.buffer.extend_from_slice(&json.finish());
        self.buffer.extend_from_slice(b"\n\n");
    }

    fn about_response(
        &mut self,
        kind: &str,
        status: &str,
        end: Option<(&Stop, &Usage)>,
        fault: Option<&Fault>,
    ) {
        let response = self.response(status, end, fault);
        self.event(kind, |json| json.key("response").json(&response));
        if end.is_some() {
            self.whole = Some(Bytes::from(response));
        }
    }

    /// The response object as it stands.
    fn response(&self, status: &str, end: Option<(&Stop, &Usage)>, fault: Option<&Fault>) -> String {
        let mut json = Json::with_capacity(512);
        json.object(|json| {
            json.key("id").pieces(&["resp_", &self.heading.id]);
            json.key("object").string("response");
            json.key("created_at").number(self.heading.created);
            json.key("status").string(status);
            json.key("background").boolean(false);
            match fault {
                Some(fault) => json.key("error").object(|json| {
                    json.key("code").string(code(fault));
                    json.key("message").string(&anthropic::error::message(fault));
                }),
                None => json.key("error").null(),
            }
            match end.filter(|_| status == "incomplete") {
                Some(_) => json
                    .key("incomplete_details")
                    .object(|json| json.key("reason").string("max_output_tokens")),
                None => json.key("incomplete_details").null(),
            }
            json.key("instructions").null();
            json.key("max_output_tokens").null();
            json.key("metadata").object(|_| {});
            json.key("model").string(&self.heading.model);
            json.key("output").array(|json| self.items.iter().for_each(|item| json.json(item)));
            json.key("parallel_tool_calls").boolean(true);
            json.key("previous_response_id").null();
            json.key("store").boolean(false);
            json.key("temperature").null();
            json.key("tool_choice").string("auto");
            json.key("tools").array(|_| {});
            json.key("top_p").null();
            match end {
                Some((_, usage)) => json.key("usage").object(|json| write_usage(json, usage)),
                None => json.key("usage").null(),
            }
        });
        json.finish_string()
    }

    fn start(&mut self) {
        if self.state != State::Fresh {
            return;
        }
        self.state = State::Started;
        self.about_response("response.created", "in_progress", None, None);
        self.about_response("response.in_progress", "in_progress", None, None);
    }

    /// The id of the item in progress, or of the next.
    fn item_id(&self, prefix: &str) -> String {
        format!("{prefix}_{}_{}", self.heading.id, self.items.len())
    }

    /// Writes an event about the item in progress.
    fn about_item(&mut self, kind: &str, prefix: &str, members: impl FnOnce(&mut Json)) {
        let (id, index) = (self.item_id(prefix), self.items.len() as u64);
        self.event(kind, |json| {
            json.key("item_id").string(&id);
            json.key("output_index").number(index);
            members(json);
        });
    }

    fn added(&mut self, item: &str) {
        let index = self.items.len() as u64;
        self.event("response.output_item.added", |json| {
            json.key("output_index").number(index);
            json.key("item").json(item);
        });
    }

    fn done(&mut self, item: String) {
        let index = self.items.len() as u64;
        self.event("response.output_item.done", |json| {
            json.key("output_index").number(index);
            json.key("item").json(&item);
        });
        self.items.push(item);
    }

    fn thinking(&mut self, text: &str) {
        if !matches!(self.open, Open::Reasoning(_)) {
            self.close("");
            self.open = Open::Reasoning(String::new());
            let item = self.reasoning_item("", None);
            self.added(&item);
            self.about_item("response.reasoning_summary_part.added", "rs", |json| summary_part(json, ""));
        }
        if let Open::Reasoning(so_far) = &mut self.open {
            so_far.push_str(text);
        }
        self.about_item("response.reasoning_summary_text.delta", "rs", |json| {
            json.key("summary_index").number(0);
            json.key("delta").string(text);
        });
    }

    fn reasoning_item(&self, text: &str, proof: Option<&str>) -> String {
        let id = self.item_id("rs");
        let mut json = Json::default();
        json.object(|json| {
            json.key("id").string(&id);
            json.key("type").string("reasoning");
            json.key("summary").array(|json| {
                if !text.is_empty() {
                    json.object(|json| {
                        json.key("type").string("summary_text");
                        json.key("text").string(text);
                    });
                }
            });
            if let Some(proof) = proof {
                json.key("encrypted_content").string(proof);
            }
        });
        json.finish_string()
    }

    fn text(&mut self, text: &str) {
        if !matches!(self.open, Open::Message(_)) {
            self.close("");
            self.open = Open::Message(Message::default());
            let item = self.message_item("in_progress", None);
            self.added(&item);
            self.about_item("response.content_part.added", "msg", |json| {
                content_part(json, &output_text("", &[]))
            });
        }
        if let Open::Message(message) = &mut self.open {
            message.text.push_str(text);
            message.ruler.text(text);
        }
        self.about_item("response.output_text.delta", "msg", |json| {
            json.key("content_index").number(0);
            json.key("delta").string(text);
            json.key("logprobs").array(|_| {});
        });
    }

    /// Says what backs the text since the last time. The item goes on: what follows is more of its text.
    fn cite(&mut self, citations: &[Citation]) {
        let Open::Message(message) = &mut self.open else { return };
        for (page, from, to) in message.ruler.cited(citations) {
            let annotation = annotation(&page, from, to);
            let Open::Message(message) = &mut self.open else { return };
            let nth = message.annotations.len() as u64;
            message.annotations.push(annotation.clone());
            self.about_item("response.output_text.annotation.added", "msg", |json| {
                json.key("content_index").number(0);
                json.key("annotation_index").number(nth);
                json.key("annotation").json(&annotation);
            });
        }
    }

    fn message_item(&self, status: &str, part: Option<&str>) -> String {
        let id = self.item_id("msg");
        let mut json = Json::default();
        json.object(|json| {
            json.key("id").string(&id);
            json.key("type").string("message");
            json.key("status").string(status);
            json.key("role").string("assistant");
            json.key("content").array(|json| part.into_iter().for_each(|part| json.json(part)));
        });
        json.finish_string()
    }

    /// Ends the item in progress; a reasoning with what proves it.
    fn close(&mut self, proof: &str) {
        match std::mem::replace(&mut self.open, Open::Nothing) {
            Open::Nothing => {
                if !proof.is_empty() {
                    self.encrypted(proof);
                }
            }
            Open::Reasoning(text) => {
                self.about_item("response.reasoning_summary_text.done", "rs", |json| {
                    json.key("summary_index").number(0);
                    json.key("text").string(&text);
                });
                self.about_item("response.reasoning_summary_part.done", "rs", |json| {
                    summary_part(json, &text)
                });
                let item = self.reasoning_item(&text, (!proof.is_empty()).then_some(proof));
                self.done(item);
            }
            Open::Message(Message { text, annotations, .. }) => {
                self.about_item("response.output_text.done", "msg", |json| {
                    json.key("content_index").number(0);
                    json.key("text").string(&text);
                    json.key("logprobs").array(|_| {});
                });
                let part = output_text(&text, &annotations);
                self.about_item("response.content_part.done", "msg", |json| content_part(json, &part));
                let item = self.message_item("completed", Some(&part));
                self.done(item);
                if !proof.is_empty() {
                    self.encrypted(proof);
                }
            }
        }
    }

    /// Reasoning without a text to read.
    fn encrypted(&mut self, proof: &str) {
        let item = self.reasoning_item("", None);
        self.added(&item);
        let item = self.reasoning_item("", Some(proof));
        self.done(item);
    }

    fn call(&mut self, id: &str, name: &str, arguments: &str) {
        self.close("");
        let is_custom = self.heading.custom.iter().any(|custom| custom == name);
        let text = if is_custom { free_text(arguments) } else { arguments.to_owned() };
        let (prefix, field, about) = match is_custom {
            true => ("ctc", "input", "response.custom_tool_call_input"),
            false => ("fc", "arguments", "response.function_call_arguments"),
        };
        let item = self.call_item(prefix, field, id, name, "", "in_progress");
        self.added(&item);
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.floor_char_boundary(PIECE.min(rest.len())));
            rest = after;
            self.about_item(&format!("{about}.delta"), prefix, |json| json.key("delta").string(piece));
        }
        self.about_item(&format!("{about}.done"), prefix, |json| {
            if !is_custom {
                json.key("name").string(name);
            }
            json.key(field).string(&text);
        });
        let item = self.call_item(prefix, field, id, name, &text, "completed");
        self.done(item);
    }

    fn call_item(&self, prefix: &str, field: &str, id: &str, name: &str, text: &str, status: &str) -> String {
        let item_id = self.item_id(prefix);
        let spaced = self.heading.spaced.iter().find(|(sent, ..)| sent == name);
        let mut json = Json::default();
        json.object(|json| {
            json.key("id").string(&item_id);
            json.key("type").string(if prefix == "ctc" { "custom_tool_call" } else { "function_call" });
            json.key("status").string(status);
            json.key("call_id").string(id);
            match spaced {
                Some((_, space, name)) => {
                    json.key("namespace").string(space);
                    json.key("name").string(name);
                }
                None => json.key("name").string(name),
            }
            json.key(field).string(text);
        });
        json.finish_string()
    }

    fn refuse(&mut self, why: &str) {
        self.close("");
        let item = self.message_item("in_progress", None);
        self.added(&item);
        self.about_item("response.content_part.added", "msg", |json| content_part(json, &refusal("")));
        self.about_item("response.refusal.delta", "msg", |json| {
            json.key("content_index").number(0);
            json.key("delta").string(why);
        });
        self.about_item("response.refusal.done", "msg", |json| {
            json.key("content_index").number(0);
            json.key("refusal").string(why);
        });
        let part = refusal(why);
        self.about_item("response.content_part.done", "msg", |json| content_part(json, &part));
        let item = self.message_item("completed", Some(&part));
        self.done(item);
    }

    fn end(&mut self, stop: &Stop, usage: Option<Usage>) {
        match stop {
            Stop::Refusal(why) => self.refuse(why.as_deref().unwrap_or("The model refused to answer.")),
            _ => self.close(""),
        }
        let mut usage = usage.unwrap_or_default();
        if usage.total_input() == 0 {
            usage.input = self.heading.estimate.max(1);
        }
        if usage.output == 0 && self.written > 0 {
            usage.output = (self.written * 5).div_ceil(18); // 3.6 bytes to a token
        }
        let is_cut = matches!(stop, Stop::MaxTokens | Stop::ContextWindow);
        let (kind, status) = match is_cut {
            true => ("response.incomplete", "incomplete"),
            false => ("response.completed", "completed"),
        };
        self.about_response(kind, status, Some((stop, &usage)), None);
        self.state = State::Ended;
    }
}

impl Sink for Writer {
    fn part(&mut self, part: Part<'_>) {
        if self.state == State::Ended {
            return;
        }
        self.start();
        match part {
            Part::Start { .. } | Part::Block(_) => {}
            Part::Text(text) => {
                if !text.is_empty() {
                    self.written += text.len() as u64;
                    self.text(&text);
                }
            }
            Part::Citations(citations) => self.cite(&citations),
            Part::Thinking(text) => {
                if !text.is_empty() {
                    self.written += text.len() as u64;
                    self.thinking(&text);
                }
            }
            Part::Signature(signature) => {
                if carrier::is_ours(&signature) || signature.is_empty() {
                    self.close(&signature);
                } else {
                    self.close(&format!("{ANTHROPIC}{signature}"));
                }
            }
            Part::RedactedThinking(data) => {
                self.close("");
                self.encrypted(&format!("{REDACTED}{data}"));
            }
            Part::Call { id, name, arguments } => {
                self.written += (name.len() + arguments.len()) as u64;
                self.call(&id, &name, &arguments);
            }
            Part::End { stop, usage } => self.end(&stop, usage),
        }
    }
}

/// An error that ends a stream that has not begun. Source: OpenAI API reference, event `error`.
pub fn error_event(fault: &Fault) -> Bytes {
    let mut json = Json::default();
    json.object(|json| {
        json.key("type").string("error");
        json.key("code").string(code(fault));
        json.key("message").string(&anthropic::error::message(fault));
        json.key("param").null();
        json.key("sequence_number").number(0);
    });
    [&b"event: error\ndata: "[..], &json.finish(), b"\n\n"].concat().into()
}

/// A fault's code in a response.
fn code(fault: &Fault) -> &'static str {
    let (_, kind, code) = error::class(fault);
    code.unwrap_or(kind)
}

fn free_text(arguments: &str) -> String {
    crate::dialect::openai_chat::answer::free_text(arguments)
}
