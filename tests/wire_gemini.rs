//! Gemini as an upstream: recorded streams, read by the crate and by a plain reader that shares nothing with it;
//! cut anywhere, ended anywhere; its errors; and conversations that come back to it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

#[allow(dead_code, reason = "each test target uses a part of it")]
mod support;

use bytes::Bytes;
use cproxy::dialect::anthropic::StreamWriter;
use cproxy::dialect::openai_chat::{Context, Target, Translation};
use cproxy::dialect::part::{Flow, Sink, Source};
use cproxy::dialect::{Fault, FaultKind, Part, Stop, gemini, sse, table};
use proptest::prelude::*;
use serde_json::{Value, json};
use support::grammar;
use support::recordings::recordings;
use support::recut;

const MODEL: &str = "gemini-3-flash-preview";

fn variant() -> &'static table::Variant {
    table::by_name("gemini").unwrap()
}

fn read(pieces: &[&[u8]], sink: &mut dyn Sink) -> Result<(), Fault> {
    let mut events = sse::Reader::new();
    let mut reader = gemini::Reader::new(Context::new(variant(), MODEL));
    for piece in pieces {
        events.push(&Bytes::copy_from_slice(piece));
        while let Some(event) = events.next()? {
            if reader.event(event, sink)? == Flow::Done {
                return Ok(());
            }
        }
    }
    if let Some(event) = events.finish()? {
        reader.event(event, sink)?;
    }
    reader.end(sink)
}

fn parts(stream: &[u8]) -> Result<Vec<Part<'static>>, Fault> {
    let mut parts: Vec<Part<'static>> = Vec::new();
    read(&[stream], &mut parts).map(|()| parts)
}

fn streams() -> Vec<(String, Vec<u8>)> {
    let mut streams = recordings("gemini", ".response.sse");
    streams.push(("of our own".to_owned(), own().into_bytes()));
    streams
}

/// A stream with what matters: thoughts, text, parallel calls without ids, CRLF.
fn own() -> String {
    let chunk = |parts: Value, finish: Option<&str>| {
        let mut candidate = json!({"content": {"parts": parts, "role": "model"}, "index": 0});
        if let Some(finish) = finish {
            candidate["finishReason"] = finish.into();
        }
        let usage = json!({"promptTokenCount": 20, "cachedContentTokenCount": 5, "candidatesTokenCount": 7,
            "thoughtsTokenCount": 3, "toolUsePromptTokenCount": 2, "totalTokenCount": 37});
        let body = json!({"candidates": [candidate], "usageMetadata": usage, "responseId": "r/1", "modelVersion": MODEL});
        format!("data: {body}\r\n\r\n")
    };
    [
        chunk(json!([{"text": "höm ", "thought": true}]), None),
        chunk(json!([{"text": "漢😀", "thought": true}]), None),
        chunk(json!([{"text": "Let me "}]), None),
        chunk(json!([{"text": "look."}]), None),
        chunk(
            json!([
                {"functionCall": {"name": "look", "args": {"at": [1, 2]}}, "thoughtSignature": "c2ln"},
                {"functionCall": {"name": "look"}},
            ]),
            None,
        ),
        chunk(json!([{"text": ""}]), Some("STOP")),
    ]
    .concat()
}

/// What a recording says, by a reader of the test's own: text, thoughts, calls, finish, input, output.
fn plain(stream: &str) -> (String, String, Vec<(String, Value)>, String, u64, u64) {
    let mut said = (String::new(), String::new(), Vec::new(), String::new(), 0, 0);
    for line in stream.lines() {
        let Some(data) = line.strip_prefix("data: ") else { continue };
        let Ok(data) = serde_json::from_str::<Value>(data) else { continue };
        let candidate = &data["candidates"][0];
        for part in candidate["content"]["parts"].as_array().into_iter().flatten() {
            let text = part["text"].as_str().unwrap_or_default();
            if part["thought"] == true {
                said.1.push_str(text)
            } else {
                said.0.push_str(text)
            }
            if let Some(call) = part.get("functionCall") {
                let args = call.get("args").cloned().unwrap_or(json!({}));
                said.2.push((call["name"].as_str().unwrap().to_owned(), args));
            }
        }
        if let Some(finish) = candidate["finishReason"].as_str() {
            said.3 = finish.to_owned();
        }
        let usage = &data["usageMetadata"];
        if usage["promptTokenCount"].is_null() {
            continue;
        }
        let count = |key: &str| usage[key].as_u64().unwrap_or(0);
        said.4 = count("promptTokenCount") + count("toolUsePromptTokenCount");
        said.5 = count("candidatesTokenCount") + count("thoughtsTokenCount");
    }
    said
}

#[test]
fn a_recorded_stream_says_the_same_in_messages() {
    for (name, bytes) in streams() {
        let recorded = String::from_utf8(bytes.clone()).unwrap();
        let (text, thoughts, calls, finish, input, output) = plain(&recorded);
        let mut writer = StreamWriter::new("asked", "msg_ours", 7);
        read(&[&bytes], &mut writer).unwrap_or_else(|fault| panic!("{name}: {fault:?}"));
        let summary = grammar::check(&writer.take()).unwrap_or_else(|what| panic!("{name}: {what}"));
        assert!(summary.ended_well, "{name}");
        assert_eq!(summary.texts.concat(), text, "{name}");
        assert_eq!(
            summary.thinking.iter().map(|block| block.0.as_str()).collect::<String>(),
            thoughts,
            "{name}"
        );
        let written: Vec<_> =
            summary.calls.iter().map(|call| (call.name.clone(), call.input.clone())).collect();
        assert_eq!(written, calls, "{name}");
        let mut ids: Vec<_> = summary.calls.iter().map(|call| call.id.clone()).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), calls.len(), "{name}: every call has an id of its own");
        let usage = &summary.usage;
        let total =
            usage["input_tokens"].as_u64().unwrap() + usage["cache_read_input_tokens"].as_u64().unwrap();
        assert_eq!((total, usage["output_tokens"].as_u64().unwrap()), (input, output), "{name}");
        let wanted = match finish.as_str() {
            "MAX_TOKENS" => "max_tokens",
            "STOP" | "OTHER" if calls.is_empty() => "end_turn",
            "STOP" | "OTHER" => "tool_use",
            _ => "refusal",
        };
        assert_eq!(summary.stop.unwrap().0, wanted, "{name}");
    }
}

#[test]
fn however_a_stream_is_cut_the_parts_are_the_same() {
    let mut random = recut::random();
    for (name, bytes) in streams() {
        let whole = parts(&bytes).unwrap();
        for pieces in recut::ways(&bytes, &mut random) {
            let mut parts: Vec<Part<'static>> = Vec::new();
            read(&pieces, &mut parts).unwrap();
            assert_eq!(parts, whole, "{name}");
        }
    }
}

#[test]
fn an_end_at_any_byte_before_the_finish_reason_is_never_a_good_one() {
    for (name, bytes) in streams() {
        let places = if bytes.len() < 4000 { (0..bytes.len()).collect() } else { recut::ends(&bytes) };
        for at in places.into_iter().filter(|at| *at < bytes.len()) {
            let mut parts: Vec<Part<'static>> = Vec::new();
            let result = read(&[&bytes[..at]], &mut parts);
            let finished = String::from_utf8_lossy(&bytes[..at]);
            // The last event may lack its line ends, and no byte of its JSON.
            let is_whole = !plain(&finished).3.is_empty();
            assert_eq!(result.is_ok(), is_whole, "{name} at {at}");
            assert_eq!(parts.iter().any(|part| matches!(part, Part::End { .. })), is_whole, "{name} at {at}");
        }
    }
}

#[test]
fn refusals_and_limits_are_told_apart_and_an_end_without_an_answer_is_a_fault() {
    let end = |parts: Value, reason: &str| {
        let body = json!({"candidates": [{"content": {"parts": parts}, "finishReason": reason}]});
        let mut got: Vec<Part<'static>> = Vec::new();
        let context = Context::new(variant(), MODEL);
        gemini::response::read(body.to_string().as_bytes(), context, &mut got).map(|()| match got.pop() {
            Some(Part::End { stop, .. }) => stop,
            other => panic!("{other:?}"),
        })
    };
    let text = json!([{"text": "so far"}]);
    assert_eq!(end(text.clone(), "MAX_TOKENS").unwrap(), Stop::MaxTokens);
    assert_eq!(end(text.clone(), "SAFETY").unwrap(), Stop::Refusal(None));
    assert_eq!(end(json!([]), "PROHIBITED_CONTENT").unwrap(), Stop::Refusal(None));
    assert_eq!(end(text.clone(), "OTHER").unwrap(), Stop::EndTurn);
    assert_eq!(end(text, "STOP").unwrap(), Stop::EndTurn);
    assert_eq!(end(json!([]), "MALFORMED_FUNCTION_CALL").unwrap_err().kind, FaultKind::ServerError);
    assert_eq!(end(json!([]), "STOP").unwrap_err().kind, FaultKind::Protocol);

    let blocked = br#"{"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{"promptTokenCount":4}}"#;
    let mut got: Vec<Part<'static>> = Vec::new();
    gemini::response::read(blocked, Context::new(variant(), MODEL), &mut got).unwrap();
    assert!(matches!(got.last(), Some(Part::End { stop: Stop::Refusal(Some(_)), .. })));

    for (name, body) in recordings("gemini", "safety_block.response.json") {
        let mut got: Vec<Part<'static>> = Vec::new();
        gemini::response::read(&body, Context::new(variant(), MODEL), &mut got).unwrap();
        assert!(matches!(got.last(), Some(Part::End { stop: Stop::Refusal(_), .. })), "{name}");
    }
}

#[test]
fn an_error_inside_a_stream_and_what_is_no_answer_are_faults() {
    let error =
        br#"data: {"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}"#;
    assert_eq!(parts(error).unwrap_err().kind, FaultKind::Overloaded);
    assert!(parts(b"data: {\"candidates\": 7}\n\n").is_err());
    assert!(parts(b"data: {\"candidates\": [{\"content\n\n").is_err());
    for body in [&b""[..], b"<html>", b"{}", b"[]", b"null"] {
        let mut got: Vec<Part<'static>> = Vec::new();
        assert!(gemini::response::read(body, Context::new(variant(), MODEL), &mut got).is_err());
        assert!(got.is_empty());
    }
}

#[test]
fn errors_have_their_kinds() {
    let read =
        |status: u16, body: &[u8]| gemini::error::read(status, &http::HeaderMap::new(), body, variant());
    let said = |code: u16, status: &str, message: &str| {
        json!({"error": {"code": code, "message": message, "status": status}}).to_string().into_bytes()
    };
    let invalid = "INVALID_ARGUMENT";
    let key = said(400, invalid, "API key not valid. Please pass a valid API key.");
    assert_eq!(read(400, &key).kind, FaultKind::Auth);
    let long = said(
        400,
        invalid,
        "The input token count (1048600) exceeds the maximum number of tokens allowed (1048576).",
    );
    assert_eq!(read(400, &long).kind, FaultKind::ContextLength);
    assert_eq!(read(403, &said(403, "PERMISSION_DENIED", "denied")).kind, FaultKind::Permission);
    assert_eq!(read(503, &said(503, "UNAVAILABLE", "The model is overloaded.")).kind, FaultKind::Overloaded);
    assert_eq!(read(500, &said(500, "INTERNAL", "An internal error")).kind, FaultKind::ServerError);
    for (name, body) in recordings("gemini", "error_404.response.json") {
        assert_eq!(read(404, &body).kind, FaultKind::ModelNotFound, "{name}");
    }
    for (name, body) in recordings("gemini", "error_429.response.json") {
        let fault = read(429, &body);
        assert_eq!(fault.kind, FaultKind::RateLimited, "{name}");
        assert!(
            fault.retry_after.is_some_and(|wait| wait.as_secs() >= 34),
            "{name}: {:?}",
            fault.retry_after
        );
    }
}

fn request(body: &Value) -> Value {
    let target = Target::new(MODEL, variant());
    match gemini::from_messages(body.to_string().as_bytes(), &target).unwrap() {
        Translation::Send(translated) => serde_json::from_slice(&translated.body).unwrap(),
        Translation::Answer(parts) => panic!("{parts:?}"),
    }
}

#[test]
fn what_a_stream_said_comes_back_with_its_signature_and_the_calls_names() {
    for (name, bytes) in streams() {
        let mut writer = StreamWriter::new("asked", "msg_ours", 7);
        read(&[&bytes], &mut writer).unwrap();
        let summary = grammar::check(&writer.take()).unwrap();
        let mut blocks: Vec<Value> = summary
            .thinking
            .iter()
            .map(|(text, signature)| json!({"type": "thinking", "thinking": text, "signature": signature}))
            .collect();
        let text = summary.texts.concat();
        if !text.is_empty() {
            blocks.push(json!({"type": "text", "text": text}));
        }
        let calls = summary.calls.iter();
        blocks
            .extend(calls.map(|c| json!({"type": "tool_use", "id": c.id, "name": c.name, "input": c.input})));
        let results = summary.calls.iter().rev();
        let results =
            results.map(|call| json!({"type": "tool_result", "tool_use_id": call.id, "content": call.id}));
        let body = request(&json!({"model": "m", "max_tokens": 9, "messages": [
            {"role": "user", "content": "go"},
            {"role": "assistant", "content": blocks},
            {"role": "user", "content": results.collect::<Vec<_>>()},
        ]}));
        let said = body["contents"][1]["parts"].as_array().unwrap();
        let called: Vec<&Value> = said.iter().filter(|part| part["functionCall"].is_object()).collect();
        let recorded = String::from_utf8(bytes).unwrap();
        let signature = called[0]["thoughtSignature"].as_str().unwrap();
        assert!(recorded.contains(&format!("\"thoughtSignature\":\"{signature}\"")), "{name}: {signature}");
        assert!(called[1..].iter().all(|part| part.get("thoughtSignature").is_none()), "{name}");
        let answered = body["contents"][2]["parts"].as_array().unwrap();
        for (call, answer) in called.iter().zip(answered) {
            let answer = &answer["functionResponse"];
            assert_eq!(answer["name"], call["functionCall"]["name"], "{name}");
            assert_eq!(
                answer["response"]["result"], call["functionCall"]["id"],
                "{name}: in the order of the calls"
            );
        }
    }
}

proptest! {
    #[test]
    fn a_request_keeps_googles_rules_whatever_the_conversation(
        turns in proptest::collection::vec((any::<bool>(), "[a-z ]{0,8}", 0usize..3, any::<bool>()), 1..8),
    ) {
        let mut messages = Vec::new();
        let mut open: Vec<String> = Vec::new();
        for (nth, (is_user, text, calls, answers)) in turns.into_iter().enumerate() {
            let mut blocks = Vec::new();
            if is_user {
                if answers {
                    blocks.extend(open.drain(..).map(|id| json!({"type": "tool_result", "tool_use_id": id, "is_error": id.ends_with('1')})));
                }
                blocks.push(json!({"type": "text", "text": text}));
                messages.push(json!({"role": "user", "content": blocks}));
            } else {
                blocks.push(json!({"type": "text", "text": text}));
                for call in 0..calls {
                    let id = format!("t{nth}_{call}");
                    blocks.push(json!({"type": "tool_use", "id": id, "name": "f", "input": {}}));
                    open.push(id);
                }
                messages.push(json!({"role": "assistant", "content": blocks}));
            }
        }
        messages.push(json!({"role": "user", "content": "go on"}));
        let body = request(&json!({"model": "m", "max_tokens": 9, "messages": messages}));
        let contents = body["contents"].as_array().unwrap();
        prop_assert_eq!(&contents[0]["role"], "user");
        let mut calls = 0;
        for content in contents {
            let parts = content["parts"].as_array().unwrap();
            prop_assert!(!parts.is_empty());
            let count = |key: &str| parts.iter().filter(|part| part[key].is_object()).count();
            prop_assert_eq!(count("functionResponse"), calls);
            calls = count("functionCall");
            if calls > 0 {
                let first = parts.iter().find(|part| part["functionCall"].is_object()).unwrap();
                prop_assert!(first["thoughtSignature"].is_string());
            }
        }
    }
}
