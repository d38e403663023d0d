//! Anthropic Messages. Source: Anthropic API reference, "Messages" and "Streaming messages".

use serde::Serialize;
use serde_json::{Value, json};

use super::{Event, Kind, named, parsed, pieces};
use crate::dialect::Usage;
use crate::simulator::reply::{Reply, Said};

pub(super) fn whole(reply: &Reply) -> Value {
    let content: Vec<Value> = reply.said.iter().map(block).collect();
    json!({
        "id": reply.id,
        "type": "message",
        "role": "assistant",
        "model": reply.model,
        "content": content,
        "stop_reason": reply.stop,
        "stop_sequence": reply.stop_sequence,
        "stop_details": stop_details(reply),
        "usage": reply.usage.map(|usage| usage_json(usage, usage.output)),
    })
}

pub(super) fn events(reply: &Reply, tokens: usize) -> Vec<Event> {
    let start_usage = reply.usage.map(|usage| usage_json(usage, 1));
    let mut events = vec![named(
        "message_start",
        Kind::Frame,
        &json!({"type": "message_start", "message": {
            "id": reply.id,
            "type": "message",
            "role": "assistant",
            "model": reply.model,
            "content": [],
            "stop_reason": null,
            "stop_sequence": null,
            "stop_details": null,
            "usage": start_usage,
        }}),
    )];
    for (index, said) in reply.said.iter().enumerate() {
        open_block(&mut events, index, said);
        if index == 0 {
            events.push(super::alive(crate::dialect::Dialect::Anthropic, false));
        }
        deltas(&mut events, index, said, tokens);
        events.push(named(
            "content_block_stop",
            Kind::Frame,
            &json!({"type": "content_block_stop", "index": index}),
        ));
    }
    let mut delta = json!({"type": "message_delta", "delta": {
        "stop_reason": reply.stop,
        "stop_sequence": reply.stop_sequence,
        "stop_details": stop_details(reply),
    }});
    if let Some(usage) = reply.usage {
        delta["usage"] = usage_json(usage, usage.output);
    }
    events.push(named("message_delta", Kind::End, &delta));
    events.push(named("message_stop", Kind::Terminator, &json!({"type": "message_stop"})));
    events
}

fn open_block(events: &mut Vec<Event>, index: usize, said: &Said) {
    let (block, kind) = match said {
        Said::Text(_) | Said::Refusal(_) => (json!({"type": "text", "text": ""}), Kind::Frame),
        Said::Thinking { .. } => (json!({"type": "thinking", "thinking": "", "signature": ""}), Kind::Frame),
        // Comes whole in its opening event.
        Said::Redacted(_) => (block(said), Kind::Output),
        Said::Call { id, name, .. } => {
            (json!({"type": "tool_use", "id": id, "name": name, "input": {}}), Kind::Frame)
        }
    };
    let data = json!({"type": "content_block_start", "index": index, "content_block": block});
    events.push(named("content_block_start", kind, &data));
}

/// A piece of a block, its members in the order of their names, as everywhere.
#[derive(Serialize)]
struct BlockDelta {
    delta: Value,
    index: usize,
    #[serde(rename = "type")]
    kind: &'static str,
}

fn deltas(events: &mut Vec<Event>, index: usize, said: &Said, tokens: usize) {
    let mut push = |delta: Value| {
        let data = BlockDelta { delta, index, kind: "content_block_delta" };
        events.push(named("content_block_delta", Kind::Output, &data));
    };
    match said {
        Said::Text(text) | Said::Refusal(text) => {
            for piece in pieces(text, tokens) {
                push(json!({"type": "text_delta", "text": piece}));
            }
        }
        Said::Thinking { text, signature } => {
            for piece in pieces(text, tokens).into_iter().filter(|piece| !piece.is_empty()) {
                push(json!({"type": "thinking_delta", "thinking": piece}));
            }
            push(json!({"type": "signature_delta", "signature": signature}));
        }
        Said::Redacted(_) => {}
        Said::Call { arguments, .. } => {
            // The real API opens with an empty piece, and sends nothing else for empty arguments.
            push(json!({"type": "input_json_delta", "partial_json": ""}));
            if arguments != "{}" {
                for piece in pieces(arguments, tokens) {
                    push(json!({"type": "input_json_delta", "partial_json": piece}));
                }
            }
        }
    }
}

fn block(said: &Said) -> Value {
    match said {
        Said::Text(text) | Said::Refusal(text) => json!({"type": "text", "text": text}),
        Said::Thinking { text, signature } => {
            json!({"type": "thinking", "thinking": text, "signature": signature})
        }
        Said::Redacted(data) => json!({"type": "redacted_thinking", "data": data}),
        Said::Call { id, name, arguments } => {
            json!({"type": "tool_use", "id": id, "name": name, "input": parsed(arguments)})
        }
    }
}

fn stop_details(reply: &Reply) -> Value {
    if reply.stop != "refusal" {
        return Value::Null;
    }
    let explanation = reply.said.iter().find_map(|said| match said {
        Said::Refusal(text) => Some(text),
        _ => None,
    });
    json!({"type": "refusal", "category": null, "explanation": explanation})
}

fn usage_json(usage: Usage, output: u64) -> Value {
    let mut json = json!({
        "input_tokens": usage.input,
        "cache_creation_input_tokens": usage.cache_creation,
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_creation,
            "ephemeral_1h_input_tokens": 0,
        },
        "output_tokens": output,
        "service_tier": "standard",
    });
    if let Some(thinking) = usage.thinking {
        json["output_tokens_details"] = json!({"thinking_tokens": thinking});
    }
    json
}
