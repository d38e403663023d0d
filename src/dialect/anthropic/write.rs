//! Writes an answer in the Anthropic dialect: as a stream of events, or as one message.
//!
//! Both writers share one state machine, which owns the grammar: one start, blocks strictly one after another
//! with indexes of their own, one end. Nothing but [`Part::End`] ends an answer well.
//!
//! Source: Anthropic documentation, "Streaming messages"; API reference, "Messages".

mod message;
mod stream;

pub use message::MessageBuilder;
pub use stream::{StreamWriter, error_event, ping};

use std::borrow::Cow;

use bytes::BytesMut;

use super::events::{Kind, arguments};
use crate::dialect::citation::Citation;
use crate::dialect::json::{write_str, write_u64};
use crate::dialect::{Part, Stop, Usage};

/// What both writers know of the answer.
#[derive(Debug)]
struct Shared<W> {
    out: W,
    /// The model as the caller named it; other names make clients drop the reasoning as foreign.
    model: String,
    /// Our id, for upstreams that give none.
    id: String,
    /// Input tokens as we estimate them.
    estimate: u64,
    state: State,
    open: Open,
    /// White space with which a text began: kept back, since a block of white space alone is refused when it
    /// comes back in a history.
    blank: String,
    next_index: u64,
    /// Bytes of output, to estimate its tokens where the upstream gives none.
    written: u64,
    /// What the upstream did on its own.
    served: Served,
}

/// How often the upstream used tools of its own.
#[derive(Clone, Copy, Debug, Default)]
struct Served {
    searches: u64,
    fetches: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Fresh,
    Started,
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Nothing,
    Text,
    Thinking,
}

/// How a writer puts what the state machine decides. `index` is the block's.
trait Put {
    fn start(&mut self, id: &str, model: &str, usage: &Usage);
    fn open_text(&mut self, index: u64);
    fn text(&mut self, index: u64, text: &str);
    fn close_text(&mut self, index: u64, citations: &[Citation]);
    fn open_thinking(&mut self, index: u64);
    fn thinking(&mut self, index: u64, text: &str);
    fn close_thinking(&mut self, index: u64, signature: &str);
    fn redacted(&mut self, index: u64, data: &str);
    fn call(&mut self, index: u64, id: &str, name: &str, arguments: &str);
    fn block(&mut self, index: u64, json: &str);
    fn end(&mut self, stop: &Stop, usage: &Usage, served: Served);
}

/// Most white space that is kept back.
const MOST_BLANK: usize = 4096;

// === impl Shared ===

impl<W: Put> Shared<W> {
    fn new(out: W, model: &str, id: &str, estimate: u64) -> Shared<W> {
        Shared {
            out,
            model: model.to_owned(),
            id: id.to_owned(),
            estimate: estimate.max(1),
            state: State::Fresh,
            open: Open::Nothing,
            blank: String::new(),
            next_index: 0,
            written: 0,
            served: Served::default(),
        }
    }

    fn part(&mut self, part: Part<'_>) {
        if self.state == State::Ended {
            return;
        }
        match part {
            Part::Start { id, usage, .. } => self.start(&id, usage),
            Part::Text(text) => self.text(&text),
            Part::Citations(citations) => {
                // Blanks that wait stay: they belong to the text that follows.
                if self.open == Open::Text {
                    self.open = Open::Nothing;
                    self.out.close_text(self.index(), &citations);
                }
            }
            Part::Thinking(text) => {
                if text.is_empty() {
                    return;
                }
                if self.open != Open::Thinking {
                    let index = self.next_block();
                    self.out.open_thinking(index);
                    self.open = Open::Thinking;
                }
                self.written += text.len() as u64;
                self.out.thinking(self.index(), &text);
            }
            Part::Signature(signature) => {
                if self.open != Open::Thinking {
                    if signature.is_empty() {
                        return;
                    }
                    let index = self.next_block();
                    self.out.open_thinking(index);
                }
                self.open = Open::Nothing;
                self.out.close_thinking(self.index(), &signature);
            }
            Part::RedactedThinking(data) => {
                let index = self.next_block();
                self.out.redacted(index, &data);
            }
            Part::Call { id, name, arguments: given } => {
                let index = self.next_block();
                let given = arguments(&given);
                self.written += (name.len() + given.len()) as u64;
                self.out.call(index, &id, &name, &given);
            }
            Part::Block(json) => {
                let Ok(Kind { kind: Some(kind), name }) = serde_json::from_str::<Kind<'_>>(&json) else {
                    return;
                };
                match (&*kind, name.as_deref()) {
                    ("server_tool_use", Some("web_search")) => self.served.searches += 1,
                    ("server_tool_use", Some("web_fetch")) => self.served.fetches += 1,
                    _ => {}
                }
                let index = self.next_block();
                self.out.block(index, &one_line(&json));
            }
            Part::End { stop, usage } => {
                self.start("", None);
                self.close();
                let usage = self.usage(usage);
                self.state = State::Ended;
                self.out.end(&stop, &usage, self.served);
            }
        }
    }

    fn start(&mut self, upstream_id: &str, usage: Option<Usage>) {
        if self.state != State::Fresh {
            return;
        }
        self.state = State::Started;
        let id = message_id(upstream_id, &self.id);
        let usage = match usage {
            Some(usage) if usage.total_input() > 0 => Usage { output: usage.output.max(1), ..usage },
            _ => Usage { input: self.estimate, output: 1, ..Usage::default() },
        };
        self.out.start(&id, &self.model, &usage);
    }

    fn text(&mut self, text: &str) {
        if self.open != Open::Text {
            if text.trim().is_empty() && self.blank.len() + text.len() <= MOST_BLANK {
                self.blank.push_str(text);
                return;
            }
            let blank = std::mem::take(&mut self.blank);
            let index = self.next_block();
            self.out.open_text(index);
            self.open = Open::Text;
            if !blank.is_empty() {
                self.out.text(index, &blank);
            }
        }
        if !text.is_empty() {
            self.written += text.len() as u64;
            self.out.text(self.index(), text);
        }
    }

    /// The index of the block in progress.
    fn index(&self) -> u64 {
        self.next_index.saturating_sub(1)
    }

    /// Ends the block in progress and gives the index of the next.
    fn next_block(&mut self) -> u64 {
        self.start("", None);
        self.close();
        self.next_index += 1;
        self.index()
    }

    fn close(&mut self) {
        self.blank.clear();
        match std::mem::replace(&mut self.open, Open::Nothing) {
            Open::Nothing => {}
            Open::Text => self.out.close_text(self.index(), &[]),
            Open::Thinking => self.out.close_thinking(self.index(), ""),
        }
    }

    /// The upstream's figures; ours where it gave none, since a caller takes zeros for the truth.
    fn usage(&self, usage: Option<Usage>) -> Usage {
        let mut usage = usage.unwrap_or_default();
        if usage.total_input() == 0 {
            usage.input = self.estimate;
            usage.estimated = true;
        }
        if usage.output == 0 && self.written > 0 {
            usage.output = (self.written * 5).div_ceil(18); // 3.6 bytes to a token
            usage.estimated = true;
        }
        usage
    }
}

/// The upstream's id in the form that callers expect, or ours.
fn message_id<'a>(upstream: &'a str, ours: &'a str) -> Cow<'a, str> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if upstream.is_empty() || upstream.len() > 200 {
        return Cow::Borrowed(ours);
    }
    if upstream.starts_with("msg_") && upstream.chars().all(legal) {
        return Cow::Borrowed(upstream);
    }
    let kept: String = upstream.chars().filter(|c| legal(*c)).collect();
    if kept.is_empty() {
        Cow::Borrowed(ours)
    } else {
        Cow::Owned(format!("msg_{}", kept.trim_start_matches("msg_")))
    }
}

/// JSON without line ends: outside strings they are white space, inside they can't stand.
fn one_line(json: &str) -> Cow<'_, str> {
    if json.contains(['\n', '\r']) {
        Cow::Owned(json.replace(['\n', '\r'], " "))
    } else {
        Cow::Borrowed(json)
    }
}

fn write_usage(out: &mut BytesMut, usage: &Usage, served: Served) {
    out.extend_from_slice(b"{\"input_tokens\":");
    write_u64(out, usage.input);
    out.extend_from_slice(b",\"cache_creation_input_tokens\":");
    write_u64(out, usage.cache_creation);
    out.extend_from_slice(b",\"cache_read_input_tokens\":");
    write_u64(out, usage.cache_read);
    out.extend_from_slice(b",\"output_tokens\":");
    write_u64(out, usage.output);
    if let Some(thinking) = usage.thinking {
        out.extend_from_slice(b",\"output_tokens_details\":{\"thinking_tokens\":");
        write_u64(out, thinking);
        out.extend_from_slice(b"}");
    }
    if served.searches + served.fetches > 0 {
        out.extend_from_slice(b",\"server_tool_use\":{\"web_search_requests\":");
        write_u64(out, served.searches);
        out.extend_from_slice(b",\"web_fetch_requests\":");
        write_u64(out, served.fetches);
        out.extend_from_slice(b"}");
    }
    out.extend_from_slice(b",\"service_tier\":\"standard\"}");
}

/// Writes `"stop_reason":…,"stop_sequence":…,"stop_details":…`.
fn write_stop(out: &mut BytesMut, stop: &Stop) {
    out.extend_from_slice(b"\"stop_reason\":");
    write_str(
        out,
        match stop {
            Stop::EndTurn => "end_turn",
            Stop::ToolUse => "tool_use",
            Stop::MaxTokens => "max_tokens",
            Stop::StopSequence(_) => "stop_sequence",
            Stop::Refusal(_) => "refusal",
            Stop::PauseTurn => "pause_turn",
            Stop::ContextWindow => "model_context_window_exceeded",
            Stop::Other(name) => name,
        },
    );
    out.extend_from_slice(b",\"stop_sequence\":");
    match stop {
        Stop::StopSequence(Some(sequence)) => write_str(out, sequence),
        _ => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"stop_details\":");
    match stop {
        Stop::Refusal(explanation) => {
            out.extend_from_slice(b"{\"type\":\"refusal\",\"category\":null,\"explanation\":");
            match explanation {
                Some(explanation) => write_str(out, explanation),
                None => out.extend_from_slice(b"null"),
            }
            out.extend_from_slice(b"}");
        }
        _ => out.extend_from_slice(b"null"),
    }
}
