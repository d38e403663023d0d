//! What is measured: work of the size and shape that Claude Code sends.
#![allow(dead_code, missing_docs, clippy::unwrap_used)]

pub mod daemon;

use std::fmt::Write as _;

use bytes::Bytes;
use cproxy::dialect::anthropic::{StreamWriter, Watch};
use cproxy::dialect::openai_chat::request::{Target, Translation, from_known};
use cproxy::dialect::openai_chat::stream::{Context, Reader as ChatReader};
use cproxy::dialect::sse::{Frames, Reader};
use cproxy::dialect::{Source, gemini, head, openai_responses, table};
use serde_json::json;

/// A request of about 75 kB: a system prompt, 24 tools with schemas of some depth, a turn of history.
pub fn request() -> Bytes {
    let manual = "Looks for \"needle\" in the files below a folder.\n\n- Give `path` to look elsewhere: \"/home/me/src\".\n- Patterns are regular expressions; write \\. for a dot.\n\tOne hit a line, at most 200.\n";
    let tools: Vec<_> = (0..24)
        .map(|n| {
            let fields: serde_json::Map<_, _> = (0..7)
                .map(|field| {
                    let about = format!("Field {field} of tool {n}. {}", &manual[..100]);
                    let schema = match field % 3 {
                        0 => json!({"type": "string", "description": about}),
                        1 => json!({"type": "array", "description": about, "items": {"type": "object",
                            "properties": {"old": {"type": "string"}, "line": {"type": "integer", "minimum": 1}},
                            "required": ["old"], "additionalProperties": false}}),
                        _ => json!({"description": about, "enum": ["content", "files", "count"], "default": "files"}),
                    };
                    (format!("field_{field}"), schema)
                })
                .collect();
            json!({"name": format!("Tool{n}"), "description": manual.repeat(5),
                "input_schema": {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
                    "properties": fields, "required": ["field_0"], "additionalProperties": false}})
        })
        .collect();
    let mark = json!({"type": "ephemeral"});
    let body = json!({
        "model": "claude-sonnet-4-5",
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": manual.repeat(25)},
                {"type": "text", "text": "Where is it?", "cache_control": mark}]},
            {"role": "assistant", "content": [{"type": "text", "text": "I will look."},
                {"type": "tool_use", "id": "toolu_01", "name": "Tool3", "input": {"field_0": "needle"}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_01",
                "content": manual.repeat(8)}]},
        ],
        "system": [{"type": "text", "text": manual.repeat(25), "cache_control": mark}],
        "tools": tools,
        "metadata": {"user_id": "{\"device_id\":\"d\",\"session_id\":\"6f0c\"}"},
        "max_tokens": 32000, "stream": true,
    });
    Bytes::from(serde_json::to_vec(&body).unwrap())
}

/// A streamed answer of so many tokens in Anthropic's dialect.
pub fn anthropic_stream(tokens: usize) -> Bytes {
    let mut text = String::new();
    let mut event = |data: serde_json::Value| {
        writeln!(text, "event: {}\ndata: {data}\n", data["type"].as_str().unwrap()).unwrap();
    };
    event(json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant",
        "model": "claude-sonnet-4-5", "content": [], "usage": {"input_tokens": 18000, "output_tokens": 1}}}));
    event(json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}));
    for token in 0..tokens {
        event(json!({"type": "content_block_delta", "index": 0,
            "delta": {"type": "text_delta", "text": format!(" word{token}\n\"x\"")}}));
    }
    event(json!({"type": "content_block_stop", "index": 0}));
    event(json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null},
        "usage": {"output_tokens": tokens}}));
    event(json!({"type": "message_stop"}));
    Bytes::from(text)
}

/// The same in Chat Completions' dialect.
pub fn chat_stream(tokens: usize) -> Bytes {
    let mut text = String::new();
    let mut chunk = |delta: serde_json::Value, finish: Option<&str>| {
        let data = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]});
        writeln!(text, "data: {data}\n").unwrap();
    };
    chunk(json!({"role": "assistant", "content": ""}), None);
    for token in 0..tokens {
        chunk(json!({"content": format!(" word{token}\n\"x\"")}), None);
    }
    chunk(json!({}), Some("stop"));
    text.push_str("data: [DONE]\n\n");
    Bytes::from(text)
}

/// A request's pure work where the upstream speaks the caller's dialect, its answer in `chunks`.
pub fn pass_through(request: &Bytes, chunks: &[Bytes]) -> usize {
    let head = head::scan(request).unwrap();
    let mut sent = head::splice_model(request, &head.model_span, "claude-opus-4-5").len();
    let (mut frames, mut reader, mut watch) = (Frames::new(), Reader::new(), Watch::new());
    for chunk in chunks {
        reader.push(chunk);
        while let Some(event) = reader.next().unwrap() {
            watch.event(event).unwrap();
        }
        sent += frames.push(chunk.clone(), reader.held()).len();
    }
    sent
}

/// A request's pure work where the upstream speaks Chat Completions.
pub fn translated(request: &Bytes, chunks: &[Bytes]) -> usize {
    let head = head::scan(request).unwrap();
    let mut sent = translate(request).len();
    let mut reader = Reader::new();
    let mut source = ChatReader::new(Context::new(table::by_name("openai").unwrap(), "m"));
    let mut writer = StreamWriter::new(&head.model, "msg_1", head.estimated_tokens);
    for chunk in chunks {
        reader.push(chunk);
        while let Some(event) = reader.next().unwrap() {
            source.event(event, &mut writer).unwrap();
        }
        sent += writer.take().len();
    }
    sent
}

/// A request in Chat Completions' dialect.
pub fn translate(request: &Bytes) -> Bytes {
    sent(from_known(request, &target("openai")).unwrap())
}

/// A request in Responses' dialect.
pub fn to_responses(request: &Bytes) -> Bytes {
    sent(openai_responses::from_messages(request, &target("openai")).unwrap())
}

/// A request in Gemini's dialect.
pub fn to_gemini(request: &Bytes) -> Bytes {
    sent(gemini::from_messages(request, &target("gemini")).unwrap())
}

fn target(variant: &str) -> Target<'static> {
    Target::new("gpt-5.2", table::by_name(variant).unwrap())
}

fn sent(translation: Translation) -> Bytes {
    match translation {
        Translation::Send(translated) => translated.body,
        Translation::Answer(_) => unreachable!("this request needs an upstream"),
    }
}

/// A stream as it comes: an event or two at a time.
pub fn in_chunks(stream: &Bytes, size: usize) -> Vec<Bytes> {
    (0..stream.len()).step_by(size).map(|at| stream.slice(at..stream.len().min(at + size))).collect()
}
