//! A validator of Anthropic streams, which shares no code with the crate: its own splitting of events, JSON by
//! serde_json. Every stream that a test makes for an Anthropic caller goes through it.
//!
//! Source: Anthropic documentation, "Streaming messages", and what the vendor's own clients reject.

use serde_json::{Map, Value};

/// What a stream says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Id and model of `message_start`.
    pub id: String,
    pub model: String,
    /// The text of each text block.
    pub texts: Vec<String>,
    /// What backs each text block.
    pub citations: Vec<Vec<Value>>,
    /// Text and signature of each thinking block.
    pub thinking: Vec<(String, String)>,
    /// The data of each `redacted_thinking` block.
    pub redacted: Vec<String>,
    /// Each `tool_use` block.
    pub calls: Vec<Call>,
    /// All other blocks, their deltas merged in.
    pub blocks: Vec<Value>,
    /// `stop_reason`, `stop_sequence` and `stop_details`, if a `message_delta` came.
    pub stop: Option<(String, Value, Value)>,
    /// The usage of `message_start` and of `message_delta`.
    pub start_usage: Value,
    pub usage: Value,
    /// Whether `message_stop` came.
    pub ended_well: bool,
    /// The error object, if the stream ended with one.
    pub error: Option<Value>,
    /// How many pings there were.
    pub pings: usize,
    /// Whether a block was left open (only before an error, or where the stream was cut).
    pub block_open: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub id: String,
    pub name: String,
    pub input: Value,
}

/// A block in progress.
struct Open {
    kind: String,
    block: Map<String, Value>,
    input: Option<String>,
    signed: bool,
}

/// Checks a stream as far as it goes. A stream that stops anywhere is in order so far, but has not ended well; a
/// partial last event is not.
pub fn check(bytes: &[u8]) -> Result<Summary, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| format!("no UTF-8: {error}"))?;
    if !text.is_empty() && !text.ends_with("\n\n") {
        return Err("the last event lacks its blank line".to_owned());
    }
    let mut checker = Checker::default();
    for (number, event) in text.split("\n\n").filter(|event| !event.is_empty()).enumerate() {
        checker.event(event).map_err(|what| format!("event {number}: {what}: {event}"))?;
    }
    checker.summary.block_open = checker.open.is_some();
    Ok(checker.summary)
}

#[derive(Default)]
struct Checker {
    summary: Summary,
    started: bool,
    open: Option<Open>,
    next_index: u64,
    over: bool,
}

macro_rules! ensure {
    ($condition:expr, $($what:tt)*) => {
        if !$condition {
            return Err(format!($($what)*));
        }
    };
}

impl Checker {
    fn event(&mut self, event: &str) -> Result<(), String> {
        let mut name = None;
        let mut data = None;
        for line in event.split('\n') {
            if let Some(value) = line.strip_prefix("event: ") {
                ensure!(name.replace(value).is_none(), "two names");
            } else if let Some(value) = line.strip_prefix("data: ") {
                ensure!(data.replace(value).is_none(), "two data lines");
            } else if !line.starts_with(':') {
                return Err(format!("a line that is neither name nor data: {line:?}"));
            }
        }
        let (Some(name), Some(data)) = (name, data) else {
            ensure!(name.is_none() && data.is_none(), "a name or data alone");
            return Ok(()); // comments only
        };
        let data: Value = serde_json::from_str(data).map_err(|error| format!("data is no JSON: {error}"))?;
        ensure!(data["type"] == name, "the name is not the type");
        ensure!(!self.over, "something after the end");
        if name == "ping" {
            self.summary.pings += 1;
            return Ok(());
        }
        if name == "error" {
            let error = &data["error"];
            ensure!(
                error["type"].is_string() && error["message"].is_string(),
                "an error without type or message"
            );
            self.summary.error = Some(error.clone());
            self.over = true;
            return Ok(());
        }
        ensure!(self.started == (name != "message_start"), "message_start must be the first and only one");
        match name {
            "message_start" => self.message_start(&data["message"]),
            "content_block_start" => self.block_start(&data),
            "content_block_delta" => self.block_delta(&data),
            "content_block_stop" => self.block_stop(&data),
            "message_delta" => self.message_delta(&data),
            "message_stop" => {
                ensure!(self.summary.stop.is_some(), "message_stop without message_delta");
                self.summary.ended_well = true;
                self.over = true;
                Ok(())
            }
            _ => Err("an unknown event".to_owned()),
        }
    }

    fn message_start(&mut self, message: &Value) -> Result<(), String> {
        self.started = true;
        ensure!(message["type"] == "message" && message["role"] == "assistant", "no message");
        ensure!(message["content"] == Value::Array(Vec::new()), "the content must start empty");
        ensure!(message["stop_reason"].is_null(), "a stop reason at the start");
        self.summary.id = message["id"].as_str().ok_or("no id")?.to_owned();
        self.summary.model = message["model"].as_str().ok_or("no model")?.to_owned();
        ensure!(self.summary.id.starts_with("msg_"), "an id without msg_");
        self.summary.start_usage = message["usage"].clone();
        let usage = &message["usage"];
        let input: u64 = ["input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"]
            .iter()
            .filter_map(|field| usage[*field].as_u64())
            .sum();
        ensure!(input > 0, "the usage at the start must not be zero");
        ensure!(usage["output_tokens"].is_u64(), "no output_tokens at the start");
        Ok(())
    }

    fn block_start(&mut self, data: &Value) -> Result<(), String> {
        ensure!(self.open.is_none(), "a block begins inside a block");
        ensure!(self.summary.stop.is_none(), "a block after message_delta");
        ensure!(data["index"] == self.next_index, "the index must be {}", self.next_index);
        let block = data["content_block"].as_object().ok_or("no content_block")?.clone();
        let kind = block.get("type").and_then(Value::as_str).ok_or("a block without a type")?.to_owned();
        let empty = |field: &str| block.get(field).and_then(Value::as_str) == Some("");
        match kind.as_str() {
            "text" => ensure!(empty("text"), "a text block must start empty"),
            "thinking" => ensure!(empty("thinking"), "a thinking block must start empty"),
            "tool_use" => {
                let legal =
                    |name: &str| block.get(name).and_then(Value::as_str).is_some_and(|s| !s.is_empty());
                ensure!(legal("id") && legal("name"), "a call without id or name");
                ensure!(
                    block.get("input") == Some(&Value::Object(Map::new())),
                    "a call must start with input {{}}"
                );
            }
            "redacted_thinking" => ensure!(block.get("data").is_some_and(Value::is_string), "no data"),
            _ => {}
        }
        self.open = Some(Open { kind, block, input: None, signed: false });
        Ok(())
    }

    fn block_delta(&mut self, data: &Value) -> Result<(), String> {
        let open = self.open.as_mut().ok_or("a delta outside a block")?;
        ensure!(data["index"] == self.next_index, "a delta for another block");
        let delta = &data["delta"];
        let kind = delta["type"].as_str().ok_or("a delta without a type")?;
        let text = |field: &str| delta[field].as_str().ok_or(format!("a {kind} without {field}"));
        let append = |block: &mut Map<String, Value>, field: &str, piece: &str| {
            let old = block.get(field).and_then(Value::as_str).unwrap_or_default();
            block.insert(field.to_owned(), Value::from(format!("{old}{piece}")));
        };
        match (open.kind.as_str(), kind) {
            ("text", "text_delta") => append(&mut open.block, "text", text("text")?),
            ("text", "citations_delta") => {
                ensure!(delta["citation"]["type"].is_string(), "a citation without a type");
                let list = open.block.entry("citations").or_insert_with(|| Value::Array(Vec::new()));
                let list = list.as_array_mut().ok_or("citations that are no list")?;
                list.push(delta["citation"].clone());
            }
            ("thinking", "thinking_delta") => {
                ensure!(!open.signed, "thinking after its signature");
                append(&mut open.block, "thinking", text("thinking")?);
            }
            ("thinking", "signature_delta") => {
                ensure!(!std::mem::replace(&mut open.signed, true), "two signatures");
                open.block.insert("signature".to_owned(), text("signature")?.into());
            }
            ("tool_use" | "server_tool_use" | "mcp_tool_use", "input_json_delta") => {
                let piece = text("partial_json")?;
                ensure!(piece.len() <= 4096, "a piece of {} bytes", piece.len());
                open.input.get_or_insert_default().push_str(piece);
            }
            ("compaction", "compaction_delta") => append(&mut open.block, "content", text("content")?),
            (block, delta) => return Err(format!("a {delta} in a {block} block")),
        }
        Ok(())
    }

    fn block_stop(&mut self, data: &Value) -> Result<(), String> {
        let mut open = self.open.take().ok_or("a block ends that never began")?;
        ensure!(data["index"] == self.next_index, "the end of another block");
        self.next_index += 1;
        if let Some(input) = open.input {
            let input = if input.is_empty() { "{}" } else { &input };
            let input: Value =
                serde_json::from_str(input).map_err(|error| format!("input is no JSON: {error}"))?;
            ensure!(input.is_object(), "input is no object");
            open.block.insert("input".to_owned(), input);
        }
        let text = |field: &str| open.block.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        match open.kind.as_str() {
            "text" => {
                ensure!(!text("text").is_empty(), "an empty text block");
                self.summary.texts.push(text("text"));
                let citations = open.block.get("citations").and_then(Value::as_array).cloned();
                self.summary.citations.push(citations.unwrap_or_default());
            }
            "thinking" => {
                ensure!(open.signed, "a thinking block without a signature");
                self.summary.thinking.push((text("thinking"), text("signature")));
            }
            "redacted_thinking" => self.summary.redacted.push(text("data")),
            "tool_use" => self.summary.calls.push(Call {
                id: text("id"),
                name: text("name"),
                input: open.block.get("input").cloned().unwrap_or_default(),
            }),
            _ => self.summary.blocks.push(Value::Object(open.block)),
        }
        Ok(())
    }

    fn message_delta(&mut self, data: &Value) -> Result<(), String> {
        ensure!(self.open.is_none(), "message_delta inside a block");
        ensure!(self.summary.stop.is_none(), "two message_delta");
        let delta = &data["delta"];
        let reason = delta["stop_reason"].as_str().ok_or("no stop_reason")?.to_owned();
        self.summary.stop = Some((reason, delta["stop_sequence"].clone(), delta["stop_details"].clone()));
        for field in
            ["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens"]
        {
            ensure!(data["usage"][field].is_u64(), "usage without {field}");
        }
        self.summary.usage = data["usage"].clone();
        Ok(())
    }
}
