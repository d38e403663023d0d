//! Answers in the Responses dialect: as a stream of events, or as one object.
//!
//! One state machine writes both: the object is what the last event of the stream holds. Reasoning goes in items
//! of its own, with what proves it as their `encrypted_content`, so that callers can send it back.
//!
//! Source: OpenAI API reference, "Responses", object `response` and "Streaming events".

mod heading;
mod items;
mod pieces;

pub use heading::Heading;

use bytes::{Bytes, BytesMut};
use pieces::write_usage;

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
