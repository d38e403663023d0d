//! Gemini generateContent. Source: Gemini API reference, "Generating content".

use serde_json::{Value, json};

use super::{Event, Kind, parsed, pieces, unnamed};
use crate::dialect::Usage;
use crate::simulator::reply::{Reply, Said, sign};

pub(super) fn whole(reply: &Reply) -> Value {
    let parts: Vec<Value> = reply.said.iter().map(part).collect();
    chunk(reply, &parts, Some(finish(reply)))
}

pub(super) fn events(reply: &Reply, tokens: usize) -> Vec<Event> {
    let mut events = Vec::new();
    for said in &reply.said {
        match said {
            Said::Text(text) => {
                for piece in pieces(text, tokens) {
                    events.push(unnamed(Kind::Output, &chunk(reply, &[json!({"text": piece})], None)));
                }
            }
            Said::Thinking { text, .. } => {
                for piece in pieces(text, tokens) {
                    let part = json!({"text": piece, "thought": true});
                    events.push(unnamed(Kind::Output, &chunk(reply, &[part], None)));
                }
            }
            _ => events.push(unnamed(Kind::Output, &chunk(reply, &[part(said)], None))),
        }
    }
    // There is no word after the last chunk, which says why the answer ends.
    events.push(unnamed(Kind::Terminator, &chunk(reply, &[json!({"text": ""})], Some(finish(reply)))));
    for event in &mut events {
        event.text = event.text.replace('\n', "\r\n");
    }
    events
}

fn part(said: &Said) -> Value {
    match said {
        Said::Text(text) | Said::Refusal(text) => json!({"text": text}),
        Said::Thinking { text, signature } => {
            json!({"text": text, "thought": true, "thoughtSignature": signature})
        }
        Said::Redacted(data) => json!({"text": "", "thought": true, "thoughtSignature": data}),
        Said::Call { id, name, arguments } => json!({
            "functionCall": {"id": id, "name": name, "args": parsed(arguments)},
            "thoughtSignature": sign(id),
        }),
    }
}

fn chunk(reply: &Reply, parts: &[Value], finish: Option<&str>) -> Value {
    let mut candidate = json!({"content": {"parts": parts, "role": "model"}, "index": 0});
    if let Some(finish) = finish {
        candidate["finishReason"] = json!(finish);
    }
    let mut body = json!({
        "candidates": [candidate],
        "modelVersion": reply.model,
        "responseId": reply.id,
    });
    if let Some(usage) = reply.usage {
        body["usageMetadata"] = usage_json(usage);
    }
    body
}

fn finish(reply: &Reply) -> &str {
    match reply.stop.as_str() {
        "end_turn" | "stop_sequence" | "tool_use" | "pause_turn" => "STOP",
        "max_tokens" | "model_context_window_exceeded" => "MAX_TOKENS",
        "refusal" => "SAFETY",
        other => other,
    }
}

fn usage_json(usage: Usage) -> Value {
    let thoughts = usage.thinking.unwrap_or(0);
    json!({
        "promptTokenCount": usage.total_input(),
        "cachedContentTokenCount": usage.cache_read,
        "candidatesTokenCount": usage.output.saturating_sub(thoughts),
        "thoughtsTokenCount": thoughts,
        "totalTokenCount": usage.total(),
    })
}
