//! OpenAI Responses. Source: OpenAI API reference, "Responses" and "Streaming events".

use serde_json::{Value, json};

use super::{Event, Kind, named, pieces};
use crate::dialect::Usage;
use crate::simulator::reply::{Reply, Said};

const CREATED: u64 = 1_767_225_600;

pub(super) fn whole(reply: &Reply) -> Value {
    let items: Vec<Value> =
        reply.said.iter().enumerate().map(|(at, said)| item(reply, at, said, "completed")).collect();
    response(reply, end_status(reply), &items)
}

pub(super) fn events(reply: &Reply, tokens: usize) -> Vec<Event> {
    let mut stream = Stream::default();
    let opening = response(reply, "in_progress", &[]);
    stream.push("response.created", Kind::Frame, json!({"response": opening}));
    stream.push("response.in_progress", Kind::Frame, json!({"response": opening}));
    for (at, said) in reply.said.iter().enumerate() {
        let mut started = item(reply, at, said, "in_progress");
        for emptied in ["content", "summary"] {
            if started.get(emptied).is_some() {
                started[emptied] = json!([]);
            }
        }
        if started.get("arguments").is_some() {
            started["arguments"] = json!("");
        }
        stream.push("response.output_item.added", Kind::Frame, json!({"output_index": at, "item": started}));
        stream.item(reply, at, said, tokens);
        let done = item(reply, at, said, "completed");
        stream.push("response.output_item.done", Kind::Frame, json!({"output_index": at, "item": done}));
    }
    let name = match end_status(reply) {
        "incomplete" => "response.incomplete",
        _ => "response.completed",
    };
    stream.push(name, Kind::Terminator, json!({"response": whole(reply)}));
    stream.events
}

/// The events so far; each gets the next sequence number.
#[derive(Default)]
struct Stream {
    events: Vec<Event>,
}

// === impl Stream ===

impl Stream {
    fn push(&mut self, name: &str, kind: Kind, mut data: Value) {
        data["type"] = json!(name);
        data["sequence_number"] = json!(self.events.len());
        self.events.push(named(name, kind, &data));
    }

    fn item(&mut self, reply: &Reply, at: usize, said: &Said, tokens: usize) {
        let id = item_id(reply, at, said);
        match said {
            Said::Text(text) | Said::Refusal(text) => {
                let (delta, done, field) = match said {
                    Said::Refusal(_) => ("response.refusal.delta", "response.refusal.done", "refusal"),
                    _ => ("response.output_text.delta", "response.output_text.done", "text"),
                };
                let place = json!({"item_id": id, "output_index": at, "content_index": 0});
                let mut empty = part(said);
                empty[field] = json!("");
                self.push("response.content_part.added", Kind::Frame, with(&place, "part", empty));
                for piece in pieces(text, tokens) {
                    self.push(delta, Kind::Output, with(&place, "delta", json!(piece)));
                }
                self.push(done, Kind::Frame, with(&place, field, json!(text)));
                self.push("response.content_part.done", Kind::Frame, with(&place, "part", part(said)));
            }
            Said::Thinking { text, .. } if !text.is_empty() => {
                let place = json!({"item_id": id, "output_index": at, "summary_index": 0});
                let empty = json!({"type": "summary_text", "text": ""});
                self.push("response.reasoning_summary_part.added", Kind::Frame, with(&place, "part", empty));
                for piece in pieces(text, tokens) {
                    let data = with(&place, "delta", json!(piece));
                    self.push("response.reasoning_summary_text.delta", Kind::Output, data);
                }
                let data = with(&place, "text", json!(text));
                self.push("response.reasoning_summary_text.done", Kind::Frame, data);
                let full = json!({"type": "summary_text", "text": text});
                self.push("response.reasoning_summary_part.done", Kind::Frame, with(&place, "part", full));
            }
            Said::Thinking { .. } | Said::Redacted(_) => {}
            Said::Call { arguments, .. } => {
                let place = json!({"item_id": id, "output_index": at});
                for piece in pieces(arguments, tokens) {
                    let data = with(&place, "delta", json!(piece));
                    self.push("response.function_call_arguments.delta", Kind::Output, data);
                }
                let data = with(&place, "arguments", json!(arguments));
                self.push("response.function_call_arguments.done", Kind::Frame, data);
            }
        }
    }
}

fn with(place: &Value, name: &str, value: Value) -> Value {
    let mut data = place.clone();
    data[name] = value;
    data
}

fn item(reply: &Reply, at: usize, said: &Said, status: &str) -> Value {
    let id = item_id(reply, at, said);
    match said {
        Said::Text(_) | Said::Refusal(_) => json!({
            "type": "message", "id": id, "status": status, "role": "assistant", "content": [part(said)],
        }),
        Said::Thinking { text, signature } => {
            let summary =
                if text.is_empty() { json!([]) } else { json!([{"type": "summary_text", "text": text}]) };
            json!({"type": "reasoning", "id": id, "summary": summary, "encrypted_content": signature})
        }
        Said::Redacted(data) => {
            json!({"type": "reasoning", "id": id, "summary": [], "encrypted_content": data})
        }
        Said::Call { id: call_id, name, arguments } => json!({
            "type": "function_call", "id": id, "status": status,
            "call_id": call_id, "name": name, "arguments": arguments,
        }),
    }
}

fn part(said: &Said) -> Value {
    match said {
        Said::Refusal(text) => json!({"type": "refusal", "refusal": text}),
        Said::Text(text) => json!({"type": "output_text", "text": text, "annotations": []}),
        _ => Value::Null,
    }
}

fn item_id(reply: &Reply, at: usize, said: &Said) -> String {
    let prefix = match said {
        Said::Text(_) | Said::Refusal(_) => "msg",
        Said::Thinking { .. } | Said::Redacted(_) => "rs",
        Said::Call { .. } => "fc",
    };
    format!("{prefix}_sim{:016x}{at}", reply.fingerprint)
}

fn end_status(reply: &Reply) -> &'static str {
    match reply.stop.as_str() {
        "max_tokens" | "model_context_window_exceeded" => "incomplete",
        _ => "completed",
    }
}

fn response(reply: &Reply, status: &str, items: &[Value]) -> Value {
    let incomplete = (status == "incomplete").then(|| json!({"reason": "max_output_tokens"}));
    let usage = if status == "in_progress" { None } else { reply.usage.map(usage_json) };
    json!({
        "id": reply.id,
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "error": null,
        "incomplete_details": incomplete,
        "instructions": null,
        "model": reply.model,
        "output": items,
        "parallel_tool_calls": true,
        "previous_response_id": null,
        "store": false,
        "usage": usage,
        "metadata": {},
    })
}

fn usage_json(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.total_input(),
        "input_tokens_details": {"cached_tokens": usage.cache_read},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.thinking.unwrap_or(0)},
        "total_tokens": usage.total(),
    })
}
