//! Reads an answer in the Messages dialect to its end: text, calls, usage, and whether it ended well.
//!
//! Source: Anthropic API reference, "Streaming messages" (event types and their order) and "Errors".

use futures_util::StreamExt;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use crate::dialect::Usage;
use crate::exchange::{Answer, AnswerBody};

/// Most bytes of one answer.
const MOST: usize = 64 << 20;

/// An answer, read to its end.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Collected {
    /// The upstream's id of the answer.
    pub id: String,
    /// The model that answered, as the answer says.
    pub model: String,
    /// The content blocks, as a client would send them back.
    pub blocks: Vec<Value>,
    /// Why it ended, in the Messages dialect's words.
    pub stop_reason: Option<String>,
    /// What it cost.
    pub usage: Option<Usage>,
    /// What went wrong, if it did not end well.
    pub failure: Option<Failure>,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failure {
    /// The kind, in the Messages dialect's words: `rate_limit_error` and the like.
    pub kind: String,
    /// What happened, for people.
    pub message: String,
    /// The status, if there was one.
    pub status: Option<u16>,
    /// The seconds that the answer asks to wait.
    pub retry_after_s: Option<u64>,
}

/// The state of reading a stream.
#[derive(Default)]
struct Reader {
    pending: Vec<u8>,
    answer: Collected,
    /// Arguments of the call that is being read.
    arguments: String,
    total: usize,
    done: bool,
}

// === reading ===

/// Reads an answer; its text goes to `pieces` as it comes, waiting while they are full. Dropping the future
/// drops the stream.
pub(crate) async fn collect(answer: Answer, pieces: Option<&mpsc::Sender<String>>) -> Collected {
    let Answer { status, headers, body, served: _ } = answer;
    let mut collected = match body {
        AnswerBody::Whole(bytes) => whole(&bytes, status.is_success()),
        AnswerBody::Stream(mut stream) => {
            let mut reader = Reader::default();
            let mut fresh = String::new();
            while !reader.done {
                let Some(chunk) = stream.next().await else { break };
                reader.feed(&chunk, &mut fresh);
                if !fresh.is_empty()
                    && let Some(pieces) = pieces
                {
                    // Nobody listens any more: the answer is of interest all the same.
                    let _ = pieces.send(std::mem::take(&mut fresh)).await;
                }
                fresh.clear();
            }
            reader.finish()
        }
    };
    if let Some(failure) = &mut collected.failure {
        failure.status = (!status.is_success()).then_some(status.as_u16());
        failure.retry_after_s =
            headers.get("retry-after").and_then(|value| value.to_str().ok()?.trim().parse().ok());
    }
    collected
}

fn whole(bytes: &[u8], well: bool) -> Collected {
    let mut answer = Collected::default();
    let Ok(Value::Object(mut message)) = serde_json::from_slice::<Value>(bytes) else {
        answer.failure = Some(failure("api_error", "the answer is not a JSON object"));
        return answer;
    };
    if !well || message.get("type").and_then(Value::as_str) == Some("error") {
        answer.failure = Some(read_error(&message));
        return answer;
    }
    answer.id = text(&message, "id");
    answer.model = text(&message, "model");
    answer.usage = message.get("usage").map(|usage| merged(Usage::default(), usage));
    answer.stop_reason = message.get("stop_reason").and_then(Value::as_str).map(str::to_owned);
    match message.remove("content") {
        Some(Value::Array(blocks)) => answer.blocks = blocks,
        _ => answer.failure = Some(failure("api_error", "the answer has no content")),
    }
    answer
}

impl Reader {
    fn feed(&mut self, chunk: &[u8], fresh: &mut String) {
        self.total = self.total.saturating_add(chunk.len());
        if self.total > MOST {
            self.fail("api_error", &format!("the answer is longer than {MOST} bytes and was given up"));
            return;
        }
        // Lines end with CR, LF or both; an event ends at an empty line.
        let searched = self.pending.len().saturating_sub(3);
        self.pending.extend_from_slice(chunk);
        let mut from = searched;
        while !self.done {
            let Some((end, next)) = blank_line(&self.pending, from) else { break };
            let rest = self.pending.split_off(next);
            let event = std::mem::replace(&mut self.pending, rest);
            self.event(event.get(..end).unwrap_or_default(), fresh);
            from = 0;
        }
    }

    fn event(&mut self, raw: &[u8], fresh: &mut String) {
        let Ok(raw) = std::str::from_utf8(raw) else {
            self.fail("api_error", "the answer's stream is not UTF-8");
            return;
        };
        let mut data = String::new();
        for line in raw.split(['\n', '\r']) {
            if let Some(value) = line.strip_prefix("data:") {
                if !data.is_empty() {
                    data.push('\n');
                }
                data.push_str(value.strip_prefix(' ').unwrap_or(value));
            }
        }
        if data.is_empty() {
            return;
        }
        let Ok(Value::Object(event)) = serde_json::from_str::<Value>(&data) else {
            self.fail("api_error", "an event of the answer's stream is not a JSON object");
            return;
        };
        match event.get("type").and_then(Value::as_str).unwrap_or_default() {
            "message_start" => {
                if let Some(Value::Object(message)) = event.get("message") {
                    self.answer.id = text(message, "id");
                    self.answer.model = text(message, "model");
                    self.usage(message.get("usage"));
                }
            }
            "content_block_start" => {
                self.arguments.clear();
                if let Some(block @ Value::Object(fields)) = event.get("content_block") {
                    if let Some(text) = fields.get("text").and_then(Value::as_str) {
                        fresh.push_str(text);
                    }
                    self.answer.blocks.push(block.clone());
                }
            }
            "content_block_delta" => {
                if let Some(Value::Object(delta)) = event.get("delta") {
                    self.delta(delta, fresh);
                }
            }
            "content_block_stop" => self.close_block(),
            "message_delta" => {
                let reason = event.get("delta").and_then(|delta| delta.get("stop_reason"));
                if let Some(reason) = reason.and_then(Value::as_str) {
                    self.answer.stop_reason = Some(reason.to_owned());
                }
                self.usage(event.get("usage"));
            }
            "message_stop" => self.done = true,
            "error" => {
                self.answer.failure = Some(read_error(&event));
                self.done = true;
            }
            // Pings, and events that came after this was written.
            _ => {}
        }
    }

    fn delta(&mut self, delta: &Map<String, Value>, fresh: &mut String) {
        let Some(Value::Object(block)) = self.answer.blocks.last_mut() else { return };
        let (field, from) = match delta.get("type").and_then(Value::as_str).unwrap_or_default() {
            "text_delta" => ("text", "text"),
            "thinking_delta" => ("thinking", "thinking"),
            "signature_delta" => ("signature", "signature"),
            "input_json_delta" => {
                self.arguments.push_str(&text(delta, "partial_json"));
                return;
            }
            "citations_delta" => {
                if let Some(citation) = delta.get("citation")
                    && let Value::Array(all) = block.entry("citations").or_insert_with(|| json!([]))
                {
                    all.push(citation.clone());
                }
                return;
            }
            _ => return,
        };
        let Some(more) = delta.get(from).and_then(Value::as_str) else { return };
        if field == "text" {
            fresh.push_str(more);
        }
        match block.get_mut(field) {
            Some(Value::String(so_far)) => so_far.push_str(more),
            _ => {
                block.insert(field.to_owned(), Value::from(more));
            }
        }
    }

    fn close_block(&mut self) {
        if self.arguments.is_empty() {
            return;
        }
        let arguments = std::mem::take(&mut self.arguments);
        match (serde_json::from_str::<Value>(&arguments), self.answer.blocks.last_mut()) {
            (Ok(input), Some(Value::Object(block))) => {
                block.insert("input".to_owned(), input);
            }
            _ => self.fail("api_error", "the arguments of a tool call are not valid JSON"),
        }
    }

    fn usage(&mut self, usage: Option<&Value>) {
        if let Some(usage) = usage {
            self.answer.usage = Some(merged(self.answer.usage.unwrap_or_default(), usage));
        }
    }

    fn fail(&mut self, kind: &str, message: &str) {
        self.answer.failure = Some(failure(kind, message));
        self.done = true;
    }

    fn finish(mut self) -> Collected {
        if !self.done {
            self.fail(
                "api_error",
                "the answer's stream ended before the answer did; what came is incomplete",
            );
        }
        self.answer
    }
}

// === impl Collected ===

impl Collected {
    /// The text for people: all text blocks.
    pub fn text(&self) -> String {
        let mut all = String::new();
        for block in &self.blocks {
            if block.get("type").and_then(Value::as_str) == Some("text") {
                all.push_str(block.get("text").and_then(Value::as_str).unwrap_or_default());
            }
        }
        all
    }

    /// The tool calls: id, name, arguments.
    pub fn tool_calls(&self) -> Vec<Value> {
        self.blocks
            .iter()
            .filter(|block| block.get("type").and_then(Value::as_str) == Some("tool_use"))
            .map(|block| json!({ "id": block["id"], "name": block["name"], "arguments": block["input"] }))
            .collect()
    }
}

/// Where the first empty line begins and ends, searching from `from`.
fn blank_line(bytes: &[u8], from: usize) -> Option<(usize, usize)> {
    let mut at = from;
    while let Some(found) = memchr::memchr2(b'\n', b'\r', bytes.get(at..)?) {
        let first = at + found;
        let after = line_end(bytes, first);
        if matches!(bytes.get(after), Some(b'\n' | b'\r')) {
            return Some((first, line_end(bytes, after)));
        }
        at = after;
    }
    None
}

/// The index after the line end that begins at `at`.
fn line_end(bytes: &[u8], at: usize) -> usize {
    match (bytes.get(at), bytes.get(at + 1)) {
        (Some(b'\r'), Some(b'\n')) => at + 2,
        _ => at + 1,
    }
}

fn text(fields: &Map<String, Value>, name: &str) -> String {
    fields.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn failure(kind: &str, message: &str) -> Failure {
    Failure { kind: kind.to_owned(), message: message.to_owned(), status: None, retry_after_s: None }
}

fn read_error(envelope: &Map<String, Value>) -> Failure {
    let error = envelope.get("error");
    let field = |name: &str| error.and_then(|error| error.get(name)).and_then(Value::as_str);
    failure(
        field("type").unwrap_or("api_error"),
        field("message").unwrap_or("the error came without a message"),
    )
}

/// Later figures replace earlier ones; those that are not named stay.
fn merged(mut usage: Usage, more: &Value) -> Usage {
    let take = |name: &str, into: &mut u64| {
        if let Some(count) = more.get(name).and_then(Value::as_u64) {
            *into = count;
        }
    };
    take("input_tokens", &mut usage.input);
    take("output_tokens", &mut usage.output);
    take("cache_read_input_tokens", &mut usage.cache_read);
    take("cache_creation_input_tokens", &mut usage.cache_creation);
    if let Some(thinking) = more.pointer("/output_tokens_details/thinking_tokens").and_then(Value::as_u64) {
        usage.thinking = Some(thinking);
    }
    usage
}

#[cfg(test)]
mod tests;
