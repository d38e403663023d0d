//! The answer as a stream of events, written straight into one buffer.

use bytes::{Bytes, BytesMut};

use super::{Open, Put, Served, Shared, State, one_line, write_stop, write_usage};
use crate::dialect::anthropic::error;
use crate::dialect::citation::Citation;
use crate::dialect::json::{write_escaped, write_str, write_u64};
use crate::dialect::part::Sink;
use crate::dialect::{Fault, Part, Stop, Usage};

/// Writes an answer as events. Feed it parts, and take the bytes whenever there are some.
#[derive(Debug)]
pub struct StreamWriter {
    shared: Shared<Events>,
}

/// The events written so far and not taken.
#[derive(Debug, Default)]
struct Events {
    buffer: BytesMut,
}

/// The most of a call's arguments that goes into one event, in bytes.
const PIECE: usize = 4096;

/// A ping: keeps a quiet connection alive.
pub fn ping() -> Bytes {
    Bytes::from_static(b"event: ping\ndata: {\"type\": \"ping\"}\n\n")
}

/// An error inside a stream: its end, and no good one. `kind` is one of Anthropic's error types.
pub fn error_event(kind: &str, message: &str, request_id: &str) -> Bytes {
    let mut events = Events::default();
    events.error(kind, message, request_id);
    events.buffer.freeze()
}

// === impl StreamWriter ===

impl StreamWriter {
    /// An answer for a caller who asked for `model`. `id` (`msg_…`) stands in for the upstream's where it gives
    /// none, `estimate` for its count of input tokens.
    pub fn new(model: &str, id: &str, estimate: u64) -> StreamWriter {
        StreamWriter { shared: Shared::new(Events::default(), model, id, estimate) }
    }

    /// A writer for the rest of an answer of which others have written the start and so many blocks, the last of
    /// them, if it is a text, perhaps still open.
    pub fn resumed(model: &str, estimate: u64, blocks: u64, text_is_open: bool) -> StreamWriter {
        let mut shared = Shared::new(Events::default(), model, "", estimate);
        shared.state = State::Started;
        shared.next_index = blocks;
        shared.open = if text_is_open { Open::Text } else { Open::Nothing };
        StreamWriter { shared }
    }

    /// The bytes written since the last time: whole events.
    pub fn take(&mut self) -> Bytes {
        self.shared.out.buffer.split().freeze()
    }

    /// Whether there are bytes to take.
    pub fn is_empty(&self) -> bool {
        self.shared.out.buffer.is_empty()
    }

    /// Writes `message_start` if it isn't written yet, so that a waiting caller sees something. Not output.
    pub fn start(&mut self) {
        self.shared.start("", None);
    }

    /// Ends the answer with an error event. The block in progress stays open: a closed one would look complete,
    /// and callers keep complete blocks. After `Part::End` this does nothing.
    pub fn fail(&mut self, fault: &Fault, request_id: &str) {
        if self.shared.state == State::Ended {
            return;
        }
        self.shared.state = State::Ended;
        let (_, kind) = error::class(fault);
        self.shared.out.error(kind, &error::message(fault), request_id);
    }
}

impl Sink for StreamWriter {
    fn part(&mut self, part: Part<'_>) {
        self.shared.part(part);
    }
}

// === impl Events ===

impl Events {
    fn put(&mut self, text: &str) {
        self.buffer.extend_from_slice(text.as_bytes());
    }

    fn string(&mut self, text: &str) {
        write_str(&mut self.buffer, text);
    }

    fn block_start(&mut self, index: u64) {
        self.put("event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":");
        write_u64(&mut self.buffer, index);
        self.put(",\"content_block\":");
    }

    /// A delta with one text. `before` is its JSON up to the text.
    fn delta(&mut self, index: u64, before: &str, text: &str) {
        self.put("event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":");
        write_u64(&mut self.buffer, index);
        self.put(before);
        write_escaped(&mut self.buffer, text);
        self.put("\"}}\n\n");
    }

    fn block_stop(&mut self, index: u64) {
        self.put("event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":");
        write_u64(&mut self.buffer, index);
        self.put("}\n\n");
    }

    fn input(&mut self, index: u64, json: &str) {
        for piece in pieces(json, PIECE) {
            self.delta(index, ",\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"", piece);
        }
    }

    fn error(&mut self, kind: &str, message: &str, request_id: &str) {
        self.put("event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":");
        self.string(kind);
        self.put(",\"message\":");
        self.string(message);
        self.put("},\"request_id\":");
        self.string(request_id);
        self.put("}\n\n");
    }
}

impl Put for Events {
    fn start(&mut self, id: &str, model: &str, usage: &Usage) {
        self.put("event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":");
        self.string(id);
        self.put(",\"type\":\"message\",\"role\":\"assistant\",\"model\":");
        self.string(model);
        self.put(
            ",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"stop_details\":null,\"usage\":",
        );
        write_usage(&mut self.buffer, usage, Served::default());
        self.put("}}\n\n");
    }

    fn open_text(&mut self, index: u64) {
        self.block_start(index);
        self.put("{\"type\":\"text\",\"text\":\"\"}}\n\n");
    }

    fn text(&mut self, index: u64, text: &str) {
        self.delta(index, ",\"delta\":{\"type\":\"text_delta\",\"text\":\"", text);
    }

    fn close_text(&mut self, index: u64, citations: &[Citation]) {
        for citation in citations {
            self.put("event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":");
            write_u64(&mut self.buffer, index);
            self.put(",\"delta\":{\"type\":\"citations_delta\",\"citation\":");
            self.put(&one_line(&citation.json));
            self.put("}}\n\n");
        }
        self.block_stop(index);
    }

    fn open_thinking(&mut self, index: u64) {
        self.block_start(index);
        self.put("{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}}\n\n");
    }

    fn thinking(&mut self, index: u64, text: &str) {
        self.delta(index, ",\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"", text);
    }

    fn close_thinking(&mut self, index: u64, signature: &str) {
        self.delta(index, ",\"delta\":{\"type\":\"signature_delta\",\"signature\":\"", signature);
        self.block_stop(index);
    }

    fn redacted(&mut self, index: u64, data: &str) {
        self.block_start(index);
        self.put("{\"type\":\"redacted_thinking\",\"data\":");
        self.string(data);
        self.put("}}\n\n");
        self.block_stop(index);
    }

    fn call(&mut self, index: u64, id: &str, name: &str, arguments: &str) {
        self.block_start(index);
        self.put("{\"type\":\"tool_use\",\"id\":");
        self.string(id);
        self.put(",\"name\":");
        self.string(name);
        self.put(",\"input\":{}}}\n\n");
        self.input(index, arguments);
        self.block_stop(index);
    }

    fn block(&mut self, index: u64, json: &str) {
        // Clients take the input of a call from its deltas alone, also that of a server tool.
        let (start, input) = without_input(json);
        self.block_start(index);
        self.put(start.as_deref().unwrap_or(json));
        self.put("}\n\n");
        if let Some(input) = input {
            self.input(index, &input);
        }
        self.block_stop(index);
    }

    fn end(&mut self, stop: &Stop, usage: &Usage, served: Served) {
        self.put("event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{");
        write_stop(&mut self.buffer, stop);
        self.put("},\"usage\":");
        write_usage(&mut self.buffer, usage, served);
        self.put("}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
    }
}

/// A call of a server tool without its input, and the input.
fn without_input(json: &str) -> (Option<String>, Option<String>) {
    let Ok(serde_json::Value::Object(mut block)) = serde_json::from_str(json) else { return (None, None) };
    let is_call = matches!(
        block.get("type").and_then(serde_json::Value::as_str),
        Some("server_tool_use" | "mcp_tool_use")
    );
    match block.get_mut("input") {
        Some(input) if is_call && input.as_object().is_some_and(|input| !input.is_empty()) => {
            let input = std::mem::replace(input, serde_json::json!({}));
            (Some(serde_json::Value::Object(block).to_string()), Some(input.to_string()))
        }
        _ => (None, None),
    }
}

/// Cuts a text into pieces of at most `most` bytes, between characters.
fn pieces(text: &str, most: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (piece, after) = rest.split_at_checked(rest.floor_char_boundary(most))?;
        rest = after;
        Some(piece)
    })
}
