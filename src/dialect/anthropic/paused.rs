//! Turns that Anthropic pauses: a long search by the server ends with `pause_turn`, and goes on once the conversation is
//! sent again with what was said so far. Callers of other dialects know nothing of it: for them the answers are joined
//! into one, as if there had been no pause.
//!
//! Source: Anthropic documentation, "Handling stop reasons" (`pause_turn`).

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::{Value, json};

use super::events::event_type;
use crate::dialect::Fault;
use crate::dialect::sse::{Event, Reader};

/// How often a turn is sent again at most.
pub const MOST: u32 = 5;
/// Most bytes of an answer that are kept to be sent back.
const MOST_BYTES: usize = 8 << 20;
const PAUSED: &str = "pause_turn";

/// Joins streams: the events of one answer after another go in, the events of one answer come out.
#[derive(Debug)]
pub struct Joined {
    events: Reader,
    /// Whether what comes is a stream of events; known from its first byte on.
    is_stream: Option<bool>,
    /// The blocks so far, as they are sent back.
    content: Vec<Value>,
    open: Vec<Open>,
    /// Bytes of all that came.
    bytes: usize,
    /// Whether `content` holds all that was said.
    is_whole: bool,
    /// The index of the first block of this answer, and of the next block.
    base: u64,
    next: u64,
    /// What this answer costs, and what those before it cost.
    usage: Value,
    earlier: Value,
    /// How many answers there were before this one.
    answers: u32,
}

/// A block in progress.
#[derive(Debug)]
struct Open {
    index: u64,
    block: Value,
    input: String,
}

// === impl Joined ===

impl Joined {
    /// At the start of the first answer.
    pub fn new() -> Joined {
        Joined {
            events: Reader::new(),
            is_stream: None,
            content: Vec::new(),
            open: Vec::new(),
            bytes: 0,
            is_whole: true,
            base: 0,
            next: 0,
            usage: Value::Null,
            earlier: Value::Null,
            answers: 0,
        }
    }

    /// Takes a chunk, cut anywhere; adds what the caller is to read to `out`. True if the turn paused here: it goes on
    /// with another answer, to be announced by [`Joined::go_on`].
    pub fn push(&mut self, chunk: &Bytes, out: &mut Vec<u8>) -> Result<bool, Fault> {
        let first = chunk.iter().find(|byte| !byte.is_ascii_whitespace());
        let is_stream = self.is_stream.or_else(|| first.map(|byte| !matches!(byte, b'{' | b'[' | b'<')));
        self.is_stream = is_stream;
        if is_stream != Some(true) {
            out.extend_from_slice(chunk);
            return Ok(false);
        }
        self.bytes = self.bytes.saturating_add(chunk.len());
        if self.bytes > MOST_BYTES {
            self.is_whole = false;
            self.content.clear();
            self.open.clear();
        }
        self.events.push(chunk);
        let mut events = std::mem::take(&mut self.events);
        while let Some(event) = events.next()? {
            if self.event(event, out) {
                return Ok(true);
            }
        }
        self.events = events;
        Ok(false)
    }

    /// The stream of an answer has ended. True as for [`Joined::push`].
    pub fn end(&mut self, out: &mut Vec<u8>) -> Result<bool, Fault> {
        let mut events = std::mem::take(&mut self.events);
        let last = events.finish()?;
        Ok(last.is_some_and(|event| self.event(event, out)))
    }

    /// What the assistant has said, to be sent back.
    pub fn content(&self) -> &[Value] {
        &self.content
    }

    /// Another answer begins, that goes on where the one before paused.
    pub fn go_on(&mut self) {
        let usage = self.usage.take();
        add(&mut self.earlier, &usage);
        self.events = Reader::new();
        self.is_stream = None;
        self.open.clear();
        self.base = self.next;
        self.answers += 1;
    }

    /// Takes an event. True if the turn paused with it.
    fn event(&mut self, event: Event<'_>, out: &mut Vec<u8>) -> bool {
        let kind = event_type(event).unwrap_or(Cow::Borrowed(""));
        let is_ours = matches!(
            &*kind,
            "message_start"
                | "content_block_start"
                | "content_block_delta"
                | "content_block_stop"
                | "message_delta"
        );
        let parsed = if is_ours { serde_json::from_str::<Value>(event.data).ok() } else { None };
        let Some(mut data) = parsed else {
            self.is_whole &= !is_ours;
            write(out, event.name, event.data);
            return false;
        };
        let index = data.get("index").and_then(Value::as_u64).unwrap_or(0);
        match &*kind {
            "message_start" => {
                self.usage = data.pointer("/message/usage").cloned().unwrap_or_default();
                if self.answers > 0 {
                    return false; // the answer has begun long ago
                }
            }
            "content_block_start" => {
                self.next = self.next.max(self.base + index + 1);
                if self.is_whole {
                    let block = data.get("content_block").cloned().unwrap_or_default();
                    self.open.push(Open { index, block, input: String::new() });
                }
            }
            "content_block_delta" => {
                let open = self.open.iter_mut().find(|open| open.index == index);
                if let (Some(open), Some(delta)) = (open, data.get("delta")) {
                    open.delta(delta);
                }
            }
            "content_block_stop" => {
                if let Some(at) = self.open.iter().position(|open| open.index == index) {
                    self.content.extend(self.open.remove(at).close());
                }
            }
            _ => {
                if let Some(Value::Object(said)) = data.get("usage") {
                    for (name, count) in said.iter().filter(|(_, count)| !count.is_null()) {
                        set(&mut self.usage, name, count.clone());
                    }
                }
                let paused = data.pointer("/delta/stop_reason").is_some_and(|reason| reason == PAUSED);
                let can = self.is_whole && self.open.is_empty() && !self.content.is_empty();
                if paused && can && self.answers < MOST {
                    return true;
                }
            }
        }
        if self.answers == 0 {
            write(out, event.name, event.data);
            return false;
        }
        if let Some(index) = data.get_mut("index") {
            *index = (self.base + index.as_u64().unwrap_or(0)).into();
        }
        if kind == "message_delta" {
            let mut usage = self.earlier.clone();
            add(&mut usage, &self.usage);
            set(&mut data, "usage", usage);
        }
        write(out, &kind, &data.to_string());
        false
    }
}

impl Default for Joined {
    fn default() -> Joined {
        Joined::new()
    }
}

// === impl Open ===

impl Open {
    fn delta(&mut self, delta: &Value) {
        let text = |name: &str| delta.get(name).and_then(Value::as_str).unwrap_or_default();
        let kind = text("type");
        match kind {
            "text_delta" => append(&mut self.block, "text", text("text")),
            "thinking_delta" => append(&mut self.block, "thinking", text("thinking")),
            "signature_delta" => set(&mut self.block, "signature", text("signature").into()),
            "input_json_delta" => self.input.push_str(text("partial_json")),
            "citations_delta" => {
                let Some(one) = delta.get("citation") else { return };
                match self.block.get_mut("citations") {
                    Some(Value::Array(all)) => all.push(one.clone()),
                    _ => set(&mut self.block, "citations", json!([one])),
                }
            }
            _ => {}
        }
    }

    /// The block as it is sent back; `None` for an empty text, which is refused.
    fn close(mut self) -> Option<Value> {
        if let Ok(input) = serde_json::from_str(&self.input) {
            set(&mut self.block, "input", input);
        }
        (!is_empty_text(&self.block)).then_some(self.block)
    }
}

/// Whether a whole message is a turn that paused, and can be sent back.
pub fn is_paused(message: &Value) -> bool {
    message.get("stop_reason").is_some_and(|reason| reason == PAUSED) && !said(message).is_empty()
}

/// What a whole message says, to be sent back.
pub fn said(message: &Value) -> Vec<Value> {
    let blocks = message.get("content").and_then(Value::as_array).into_iter().flatten();
    blocks.filter(|block| !is_empty_text(block)).cloned().collect()
}

/// Adds to a whole message the one with which its turn went on.
pub fn join(message: &mut Value, next: Value) {
    let mut content = said(message);
    content.extend(said(&next));
    let mut usage = message.get("usage").cloned().unwrap_or_default();
    add(&mut usage, next.get("usage").unwrap_or(&Value::Null));
    if let Value::Object(next) = next {
        for (name, value) in next.into_iter().filter(|(name, _)| !matches!(name.as_str(), "id" | "model")) {
            set(message, &name, value);
        }
    }
    set(message, "content", content.into());
    set(message, "usage", usage);
}

fn is_empty_text(block: &Value) -> bool {
    let field = |name: &str| block.get(name).and_then(Value::as_str);
    field("type") == Some("text") && field("text").unwrap_or_default().is_empty()
}

/// Adds up all counts that stand at the same place; of all else the newer is right.
fn add(into: &mut Value, more: &Value) {
    match (into, more) {
        (_, Value::Null) => {}
        (Value::Object(into), Value::Object(more)) => {
            for (name, value) in more {
                add(into.entry(name.as_str()).or_insert(Value::Null), value);
            }
        }
        (into, more) => match (into.as_u64(), more.as_u64()) {
            (Some(one), Some(other)) => *into = one.saturating_add(other).into(),
            _ => *into = more.clone(),
        },
    }
}

fn set(into: &mut Value, name: &str, value: Value) {
    if !into.is_object() {
        *into = json!({});
    }
    if let Value::Object(fields) = into {
        fields.insert(name.to_owned(), value);
    }
}

fn append(into: &mut Value, name: &str, piece: &str) {
    match into.get_mut(name) {
        Some(Value::String(text)) => text.push_str(piece),
        _ => set(into, name, piece.into()),
    }
}

fn write(out: &mut Vec<u8>, name: &str, data: &str) {
    if !name.is_empty() {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(name.as_bytes());
        out.push(b'\n');
    }
    for line in data.split('\n') {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line.as_bytes());
        out.push(b'\n');
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests;
