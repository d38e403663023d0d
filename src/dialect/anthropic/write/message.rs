//! The answer as one message.

use bytes::{Bytes, BytesMut};

use super::{Put, Served, Shared, State, write_stop, write_usage};
use crate::dialect::citation::Citation;
use crate::dialect::json::{write_escaped, write_str};
use crate::dialect::part::Sink;
use crate::dialect::{Part, Stop, Usage};

/// Builds the JSON of a whole message from parts.
#[derive(Debug)]
pub struct MessageBuilder {
    shared: Shared<Json>,
}

/// The message so far: all of it once it has ended.
#[derive(Debug, Default)]
struct Json {
    buffer: BytesMut,
}

// === impl MessageBuilder ===

impl MessageBuilder {
    /// An answer for a caller who asked for `model`. `id` (`msg_…`) stands in for the upstream's where it gives
    /// none, `estimate` for its count of input tokens.
    pub fn new(model: &str, id: &str, estimate: u64) -> MessageBuilder {
        MessageBuilder { shared: Shared::new(Json::default(), model, id, estimate) }
    }

    /// The message; `None` if it never ended.
    pub fn finish(self) -> Option<Bytes> {
        (self.shared.state == State::Ended).then(|| self.shared.out.buffer.freeze())
    }
}

impl Sink for MessageBuilder {
    fn part(&mut self, part: Part<'_>) {
        self.shared.part(part);
    }
}

// === impl Json ===

impl Json {
    fn put(&mut self, text: &str) {
        self.buffer.extend_from_slice(text.as_bytes());
    }

    fn string(&mut self, text: &str) {
        write_str(&mut self.buffer, text);
    }

    /// Begins a block.
    fn open(&mut self, index: u64, text: &str) {
        if index > 0 {
            self.put(",");
        }
        self.put(text);
    }
}

impl Put for Json {
    fn start(&mut self, id: &str, model: &str, _usage: &Usage) {
        self.put("{\"id\":");
        self.string(id);
        self.put(",\"type\":\"message\",\"role\":\"assistant\",\"model\":");
        self.string(model);
        self.put(",\"content\":[");
    }

    fn open_text(&mut self, index: u64) {
        self.open(index, "{\"type\":\"text\",\"text\":\"");
    }

    fn text(&mut self, _index: u64, text: &str) {
        write_escaped(&mut self.buffer, text);
    }

    fn close_text(&mut self, _index: u64, citations: &[Citation]) {
        self.put("\"");
        for (nth, citation) in citations.iter().enumerate() {
            self.put(if nth == 0 { ",\"citations\":[" } else { "," });
            self.put(&citation.json);
        }
        self.put(if citations.is_empty() { "}" } else { "]}" });
    }

    fn open_thinking(&mut self, index: u64) {
        self.open(index, "{\"type\":\"thinking\",\"thinking\":\"");
    }

    fn thinking(&mut self, _index: u64, text: &str) {
        write_escaped(&mut self.buffer, text);
    }

    fn close_thinking(&mut self, _index: u64, signature: &str) {
        self.put("\",\"signature\":");
        self.string(signature);
        self.put("}");
    }

    fn redacted(&mut self, index: u64, data: &str) {
        self.open(index, "{\"type\":\"redacted_thinking\",\"data\":");
        self.string(data);
        self.put("}");
    }

    fn call(&mut self, index: u64, id: &str, name: &str, arguments: &str) {
        self.open(index, "{\"type\":\"tool_use\",\"id\":");
        self.string(id);
        self.put(",\"name\":");
        self.string(name);
        self.put(",\"input\":");
        self.put(arguments);
        self.put("}");
    }

    fn block(&mut self, index: u64, json: &str) {
        self.open(index, json);
    }

    fn end(&mut self, stop: &Stop, usage: &Usage, served: Served) {
        self.put("],");
        write_stop(&mut self.buffer, stop);
        self.put(",\"usage\":");
        write_usage(&mut self.buffer, usage, served);
        self.put("}");
    }
}
