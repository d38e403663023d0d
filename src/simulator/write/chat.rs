//! Chat Completions, in OpenAI's way or in OpenRouter's. Sources: OpenAI API reference, "Chat" and "Chat
//! streaming"; OpenRouter docs, "Reasoning tokens" and "Streaming".

use serde::Serialize;
use serde_json::{Value, json};

use super::{Event, Kind, pieces, unnamed};
use crate::dialect::{Dialect, Usage};
use crate::simulator::ask::Ask;
use crate::simulator::reply::{Reply, Said};

/// `created` of every answer: a fixed moment, since answers follow from requests alone.
const CREATED: u64 = 1_767_225_600;

/// Who OpenRouter says has answered.
const PROVIDER: &str = "Simulator";

pub(super) fn whole(ask: &Ask, reply: &Reply) -> Value {
    let mut content = None;
    let mut thinking = String::new();
    let mut details = Vec::new();
    let mut refusal = None;
    let mut calls = Vec::new();
    for said in &reply.said {
        match said {
            Said::Text(text) => content.get_or_insert_with(String::new).push_str(text),
            Said::Thinking { text, signature } => {
                thinking.push_str(text);
                let mut detail = detail_text(text);
                detail["signature"] = json!(signature);
                details.push(detail);
            }
            Said::Redacted(data) => details.push(detail_encrypted(data)),
            Said::Call { id, name, arguments } => calls.push(json!({
                "id": id, "type": "function", "function": {"name": name, "arguments": arguments},
            })),
            Said::Refusal(text) => refusal = Some(text),
        }
    }
    let mut message = json!({"role": "assistant", "content": content, "refusal": refusal});
    if !calls.is_empty() {
        message["tool_calls"] = json!(calls);
    }
    if ask.openrouter {
        message["reasoning"] = if thinking.is_empty() { Value::Null } else { json!(thinking) };
        if !details.is_empty() {
            message["reasoning_details"] = json!(details);
        }
    } else if !thinking.is_empty() {
        message["reasoning_content"] = json!(thinking);
    }
    let mut choice =
        json!({"index": 0, "message": message, "logprobs": null, "finish_reason": finish(reply)});
    if ask.openrouter {
        choice["native_finish_reason"] = json!(reply.stop);
    }
    let mut body = json!({
        "id": reply.id,
        "object": "chat.completion",
        "created": CREATED,
        "model": reply.model,
        "system_fingerprint": fingerprint(reply),
        "choices": [choice],
    });
    if ask.openrouter {
        body["provider"] = json!(PROVIDER);
    }
    if let Some(usage) = reply.usage {
        body["usage"] = usage_json(ask, usage);
    }
    body
}

pub(super) fn events(ask: &Ask, reply: &Reply, tokens: usize) -> Vec<Event> {
    let mut events = Vec::new();
    if ask.openrouter {
        events.push(super::alive(Dialect::OpenAiChat, true));
        events.push(super::alive(Dialect::OpenAiChat, true));
    } else {
        // The chunk that names the role; OpenRouter names it in every chunk.
        let opening = json!({"role": "assistant", "content": "", "refusal": null});
        events.push(chunk(ask, reply, Kind::Frame, opening, None));
    }
    let mut calls = 0;
    for said in &reply.said {
        deltas(&mut events, ask, reply, said, &mut calls, tokens);
    }
    events.push(chunk(ask, reply, Kind::End, json!({}), Some(finish(reply))));
    if let Some(usage) = reply.usage {
        if ask.openrouter {
            let choices = [choice(ask, reply, json!({}), Some(finish(reply)))];
            let usage = Some(usage_json(ask, usage));
            events.push(unnamed(Kind::End, &chunk_of(ask, reply, &choices, usage)));
        } else if ask.include_usage {
            let usage = Some(usage_json(ask, usage));
            events.push(unnamed(Kind::End, &chunk_of(ask, reply, &[], usage)));
        }
    }
    events.push(Event { text: "data: [DONE]\n\n".to_owned(), kind: Kind::Terminator });
    events
}

fn deltas(events: &mut Vec<Event>, ask: &Ask, reply: &Reply, said: &Said, calls: &mut usize, tokens: usize) {
    let mut push = |delta: Value| events.push(chunk(ask, reply, Kind::Output, delta, None));
    match said {
        Said::Text(text) => {
            for piece in pieces(text, tokens) {
                push(json!({"content": piece}));
            }
        }
        Said::Thinking { text, signature } => {
            for piece in pieces(text, tokens).into_iter().filter(|piece| !piece.is_empty()) {
                push(if ask.openrouter {
                    json!({"reasoning": piece, "reasoning_details": [detail_text(piece)]})
                } else {
                    json!({"reasoning_content": piece})
                });
            }
            if ask.openrouter {
                push(json!({"reasoning_details": [{
                    "type": "reasoning.text", "signature": signature,
                    "format": "anthropic-claude-v1", "index": 0,
                }]}));
            }
        }
        Said::Redacted(data) => {
            if ask.openrouter {
                push(json!({"reasoning_details": [detail_encrypted(data)]}));
            }
        }
        Said::Call { id, name, arguments } => {
            let index = *calls;
            *calls += 1;
            push(json!({"tool_calls": [{
                "index": index, "id": id, "type": "function", "function": {"name": name, "arguments": ""},
            }]}));
            for piece in pieces(arguments, tokens) {
                push(json!({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}));
            }
        }
        Said::Refusal(text) => {
            for piece in pieces(text, tokens) {
                push(json!({"refusal": piece}));
            }
        }
    }
}

/// A piece of a stream, its members in the order of their names, as everywhere.
#[derive(Serialize)]
struct Chunk<'a> {
    choices: &'a [Choice<'a>],
    created: u64,
    id: &'a str,
    model: &'a str,
    object: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<&'static str>,
    system_fingerprint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Value>,
}

#[derive(Serialize)]
struct Choice<'a> {
    delta: Value,
    finish_reason: Option<&'a str>,
    index: u8,
    logprobs: (),
    #[serde(skip_serializing_if = "Option::is_none")]
    native_finish_reason: Option<Option<&'a str>>,
}

fn chunk(ask: &Ask, reply: &Reply, kind: Kind, delta: Value, finish: Option<&str>) -> Event {
    // Who asks for usage gets it last, and nothing in its place before.
    let usage = (ask.include_usage && !ask.openrouter).then_some(Value::Null);
    unnamed(kind, &chunk_of(ask, reply, &[choice(ask, reply, delta, finish)], usage))
}

fn choice<'a>(ask: &Ask, reply: &'a Reply, mut delta: Value, finish: Option<&'a str>) -> Choice<'a> {
    if ask.openrouter
        && let Some(delta) = delta.as_object_mut()
    {
        delta.insert("role".to_owned(), json!("assistant"));
        let content = if delta.contains_key("tool_calls") { Value::Null } else { json!("") };
        delta.entry("content").or_insert(content);
    }
    let native_finish_reason = ask.openrouter.then(|| finish.map(|_| reply.stop.as_str()));
    Choice { delta, finish_reason: finish, index: 0, logprobs: (), native_finish_reason }
}

fn chunk_of<'a>(ask: &Ask, reply: &'a Reply, choices: &'a [Choice<'a>], usage: Option<Value>) -> Chunk<'a> {
    Chunk {
        choices,
        created: CREATED,
        id: &reply.id,
        model: &reply.model,
        object: "chat.completion.chunk",
        provider: ask.openrouter.then_some(PROVIDER),
        system_fingerprint: fingerprint(reply),
        usage,
    }
}

fn fingerprint(reply: &Reply) -> String {
    format!("fp_{:08x}", reply.fingerprint as u32)
}

fn detail_text(text: &str) -> Value {
    json!({"type": "reasoning.text", "text": text, "format": "anthropic-claude-v1", "index": 0})
}

fn detail_encrypted(data: &str) -> Value {
    json!({"type": "reasoning.encrypted", "data": data, "format": "anthropic-claude-v1", "index": 0})
}

fn finish(reply: &Reply) -> &str {
    match reply.stop.as_str() {
        "end_turn" | "stop_sequence" | "pause_turn" => "stop",
        "tool_use" => "tool_calls",
        "max_tokens" | "model_context_window_exceeded" => "length",
        // OpenAI itself ends a refusal with `stop` and the refusal's text.
        "refusal" if reply.said.iter().any(|said| matches!(said, Said::Refusal(_))) => "stop",
        "refusal" => "content_filter",
        other => other,
    }
}

fn usage_json(ask: &Ask, usage: Usage) -> Value {
    let prompt = usage.total_input();
    let mut json = json!({
        "prompt_tokens": prompt,
        "completion_tokens": usage.output,
        "total_tokens": prompt + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": usage.thinking.unwrap_or(0)},
    });
    if ask.openrouter {
        json["cost"] = json!(0);
        json["prompt_tokens_details"]["cache_write_tokens"] = json!(usage.cache_creation);
    }
    json
}
