//! Streams of Anthropic upstreams, read into parts and written again for an Anthropic caller.

use bytes::Bytes;
use cproxy::dialect::anthropic::{MessageBuilder, Reader, StreamWriter, Watch};
use cproxy::dialect::part::{Flow, Source};
use cproxy::dialect::{Fault, Part, head, sse};
use serde_json::{Value, json};

use crate::support::grammar::{self, Summary};
use crate::support::recordings::recordings;
use crate::support::recut;

/// Feeds pieces through reader and writer; the bytes written, and how it ended.
fn relay(pieces: &[&[u8]]) -> (Vec<u8>, Result<(), Fault>) {
    let mut events = sse::Reader::new();
    let mut reader = Reader::new();
    let mut writer = StreamWriter::new("claude-asked-for", "msg_ours", 7);
    let result = (|| {
        for piece in pieces {
            events.push(&Bytes::copy_from_slice(piece));
            while let Some(event) = events.next()? {
                if reader.event(event, &mut writer)? == Flow::Done {
                    return Ok(());
                }
            }
        }
        if let Some(event) = events.finish()? {
            reader.event(event, &mut writer)?;
        }
        reader.end(&mut writer)
    })();
    if let Err(fault) = &result {
        writer.fail(fault, "req_1");
    }
    (writer.take().to_vec(), result)
}

/// How a pass-through sees the same bytes: the frames passed on, and how it ended.
fn watch(pieces: &[&[u8]]) -> (Vec<u8>, Watch, Result<(), Fault>) {
    let mut frames = sse::Frames::new();
    let mut events = sse::Reader::new();
    let mut watch = Watch::new();
    let mut out = Vec::new();
    let result = (|| {
        for piece in pieces {
            let piece = Bytes::copy_from_slice(piece);
            events.push(&piece);
            while let Some(event) = events.next()? {
                watch.event(event)?;
            }
            out.extend_from_slice(&frames.push(piece, events.held()));
        }
        watch.end()
    })();
    (out, watch, result)
}

/// What a recording says, by a reader of the test's own: splits at blank lines, folds the JSON. A second
/// `message_start` voids the block in progress.
#[derive(Debug, Default, PartialEq)]
struct Plain {
    text: String,
    /// Each text that something backs, without the blanks before it, and what does.
    cited: Vec<(String, Vec<Value>)>,
    thinking: Vec<(String, String)>,
    redacted: Vec<String>,
    calls: Vec<(String, String, Value)>,
    others: Vec<Value>,
    stop: Value,
    sequence: Value,
    explanation: Value,
    input: u64,
    cached: u64,
    created: u64,
    output: u64,
}

fn plain(recording: &str) -> Plain {
    let mut plain = Plain::default();
    let mut open: Option<(Value, String)> = None;
    for event in recording.replace("\r\n", "\n").split("\n\n") {
        let data: String = event.lines().filter_map(|line| line.strip_prefix("data:")).collect();
        let Ok(data) = serde_json::from_str::<Value>(data.trim()) else { continue };
        let usage = if data["type"] == "message_start" { &data["message"]["usage"] } else { &data["usage"] };
        for (field, into) in [
            ("input_tokens", &mut plain.input),
            ("cache_read_input_tokens", &mut plain.cached),
            ("cache_creation_input_tokens", &mut plain.created),
            ("output_tokens", &mut plain.output),
        ] {
            if let Some(count) = usage[field].as_u64() {
                *into = count;
            }
        }
        let delta = &data["delta"];
        match data["type"].as_str().unwrap_or_default() {
            "message_start" => open = None,
            "content_block_start" => open = Some((data["content_block"].clone(), String::new())),
            "content_block_delta" => {
                let (block, input) = open.as_mut().unwrap();
                let mut append = |field: &str, piece: &Value| {
                    let old = block[field].as_str().unwrap_or_default().to_owned();
                    block[field] = Value::from(old + piece.as_str().unwrap());
                };
                match delta["type"].as_str().unwrap() {
                    "text_delta" => append("text", &delta["text"]),
                    "thinking_delta" => append("thinking", &delta["thinking"]),
                    "signature_delta" => append("signature", &delta["signature"]),
                    "compaction_delta" => append("content", &delta["content"]),
                    "input_json_delta" => input.push_str(delta["partial_json"].as_str().unwrap()),
                    "citations_delta" => {
                        let mut list = block["citations"].as_array().cloned().unwrap_or_default();
                        list.push(delta["citation"].clone());
                        block["citations"] = list.into();
                    }
                    _ => {} // of the future
                }
            }
            "content_block_stop" => {
                let (mut block, input) = open.take().unwrap();
                if !input.is_empty() {
                    match serde_json::from_str(&input) {
                        Ok(input) => block["input"] = input,
                        Err(_) => continue, // the limit cut it
                    }
                }
                let text = |field: &str| block[field].as_str().unwrap_or_default().to_owned();
                match block["type"].as_str().unwrap() {
                    "text" => {
                        plain.text.push_str(&text("text"));
                        let citations = block["citations"].as_array().filter(|list| !list.is_empty());
                        if let Some(citations) = citations {
                            plain.cited.push((text("text").trim_start().to_owned(), citations.clone()));
                        }
                    }
                    "thinking" => plain.thinking.push((text("thinking"), text("signature"))),
                    "redacted_thinking" => plain.redacted.push(text("data")),
                    "tool_use" => plain.calls.push((text("id"), text("name"), block["input"].clone())),
                    _ => plain.others.push(block),
                }
            }
            "message_delta" => {
                plain.stop = delta["stop_reason"].clone();
                plain.sequence = delta["stop_sequence"].clone();
                plain.explanation = delta["stop_details"]["explanation"].clone();
            }
            _ => {}
        }
    }
    plain
}

fn said(summary: &Summary) -> Plain {
    let (stop, sequence, details) = summary.stop.clone().unwrap();
    let count = |field: &str| summary.usage[field].as_u64().unwrap();
    Plain {
        text: summary.texts.concat(),
        cited: summary
            .texts
            .iter()
            .zip(&summary.citations)
            .filter(|(_, citations)| !citations.is_empty())
            .map(|(text, citations)| (text.trim_start().to_owned(), citations.clone()))
            .collect(),
        thinking: summary.thinking.clone(),
        redacted: summary.redacted.clone(),
        calls: summary.calls.iter().map(|c| (c.id.clone(), c.name.clone(), c.input.clone())).collect(),
        others: summary.blocks.clone(),
        stop: stop.into(),
        sequence,
        explanation: details["explanation"].clone(),
        input: count("input_tokens"),
        cached: count("cache_read_input_tokens"),
        created: count("cache_creation_input_tokens"),
        output: count("output_tokens"),
    }
}

/// The streams that are whole answers, and no errors.
fn streams() -> Vec<(String, Vec<u8>)> {
    let mut streams = recordings("anthropic", ".response.sse");
    streams.retain(|(_, body)| {
        let squeezed: String = text(body).split_whitespace().collect();
        squeezed.contains("\"type\":\"message_stop\"") && !squeezed.contains("\"type\":\"error\"")
    });
    streams
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_stream_read_and_written_again_says_the_same() {
    for (name, bytes) in streams() {
        let (out, result) = relay(&[&bytes]);
        assert!(result.is_ok(), "{name}: {result:?}");
        let summary = grammar::check(&out).unwrap_or_else(|what| panic!("{name}: {what}"));
        assert!(summary.ended_well && summary.error.is_none(), "{name}");
        assert_eq!(summary.model, "claude-asked-for");
        assert_eq!(said(&summary), plain(&text(&bytes)), "{name}");
    }
}

#[test]
fn a_stream_built_into_one_message_says_the_same() {
    for (name, bytes) in streams() {
        let mut events = sse::Reader::new();
        events.push(&Bytes::from(bytes.clone()));
        let (mut reader, mut builder) =
            (Reader::new(), MessageBuilder::new("claude-asked-for", "msg_ours", 7));
        let mut parts: Vec<Part<'static>> = Vec::new();
        let mut again = Reader::new();
        while let Some(event) = events.next().unwrap() {
            reader.event(event, &mut builder).unwrap();
            again.event(event, &mut parts).unwrap();
        }
        let message = builder.finish().unwrap();
        let json: Value = serde_json::from_slice(&message).unwrap_or_else(|e| panic!("{name}: {e}"));
        let plain = plain(&text(&bytes));
        let of = |kind: &str, field: &str| -> Vec<Value> {
            let blocks = json["content"].as_array().unwrap().iter();
            blocks.filter(|block| block["type"] == kind).map(|block| block[field].clone()).collect()
        };
        let cited: Vec<Value> = of("text", "citations").into_iter().filter(|list| !list.is_null()).collect();
        assert_eq!(cited, plain.cited.iter().map(|cited| json!(cited.1)).collect::<Vec<_>>(), "{name}");
        let texts: String = of("text", "text").iter().map(|text| text.as_str().unwrap()).collect();
        assert_eq!(texts, plain.text, "{name}");
        assert_eq!(of("tool_use", "input"), plain.calls.iter().map(|c| c.2.clone()).collect::<Vec<_>>());
        assert_eq!(
            of("thinking", "signature"),
            plain.thinking.iter().map(|t| json!(t.1)).collect::<Vec<_>>()
        );
        assert_eq!(json["stop_reason"], plain.stop, "{name}");
        assert_eq!(json["usage"]["output_tokens"], plain.output, "{name}");

        // Read as a whole message it gives the same parts as the stream gave, but for joined pieces.
        let mut whole: Vec<Part<'static>> = Vec::new();
        cproxy::dialect::anthropic::response::read(&message, &mut whole).unwrap();
        assert_eq!(whole.last(), parts.last(), "{name}");
    }
}

#[test]
fn however_a_stream_is_cut_the_same_is_passed_on() {
    let mut random = recut::random();
    for (name, bytes) in streams() {
        let (passed, _, _) = watch(&[&bytes]);
        for (nth, pieces) in recut::ways(&bytes, &mut random).into_iter().enumerate() {
            assert!(watch(&pieces).0 == passed, "{name}, cut the way {nth}");
        }
    }
}

#[test]
fn a_stream_that_breaks_off_is_seen_to() {
    for (name, bytes) in streams() {
        for end in recut::ends(&bytes) {
            let whole: String = String::from_utf8_lossy(&bytes[..end]).split_whitespace().collect();
            if whole.contains("\"type\":\"message_stop\"") {
                continue;
            }
            let (passed, watch, result) = watch(&[&bytes[..end]]);
            assert!(result.is_err() && !watch.ended_well(), "{name} at {end}");
            assert!(bytes.starts_with(&passed));
        }
    }
}

#[test]
fn what_is_passed_on_is_seen_as_it_is() {
    for (name, bytes) in streams() {
        let (out, watch, result) = watch(&[&bytes]);
        assert!(result.is_ok() && watch.ended_well() && !watch.block_open(), "{name}");
        assert_eq!(out, bytes, "{name}");
        let plain = plain(&text(&bytes));
        let usage = watch.usage().unwrap();
        assert_eq!((usage.input, usage.output), (plain.input, plain.output), "{name}");
        assert_eq!((usage.cache_read, usage.cache_creation), (plain.cached, plain.created), "{name}");
        assert!(watch.has_output() || plain.text.is_empty(), "{name}");
    }
}

#[test]
fn recorded_requests_have_a_head() {
    for (name, request) in recordings("anthropic", ".request.json") {
        let head = head::scan(&request).unwrap_or_else(|error| panic!("{name}: {error}"));
        let json: Value = serde_json::from_slice(&request).unwrap();
        assert_eq!(head.model, json["model"], "{name}");
        let has = |kind: &str| {
            let text = json["messages"].to_string();
            text.contains(&format!("\"type\":\"{kind}\""))
        };
        assert_eq!((head.images, head.documents), (has("image"), has("document")), "{name}");
        assert_eq!(head.tools as usize, json["tools"].as_array().map_or(0, Vec::len), "{name}");
    }
}

#[test]
fn recorded_answers_that_are_whole_are_read() {
    for (name, body) in recordings("anthropic", ".response.json") {
        let json: Value = serde_json::from_slice(&body).unwrap();
        let summary = cproxy::dialect::anthropic::response::usage_of(&body);
        if json["type"] != "message" {
            assert!(summary.is_err(), "{name}");
            continue;
        }
        let summary = summary.unwrap();
        if let Some(output) = json["usage"]["output_tokens"].as_u64() {
            assert_eq!(output, summary.usage.unwrap().output, "{name}");
        }
        let mut builder = MessageBuilder::new(json["model"].as_str().unwrap(), "msg_ours", 7);
        cproxy::dialect::anthropic::response::read(&body, &mut builder).unwrap();
        let again: Value = serde_json::from_slice(&builder.finish().unwrap()).unwrap();
        assert_eq!(again["stop_reason"], json["stop_reason"], "{name}");
        // Blanks between two texts join the second.
        let is_blank = |block: &Value| block["text"].as_str().is_some_and(|text| text.trim().is_empty());
        let kinds = |json: &Value| -> Vec<Value> {
            let blocks = json["content"].as_array().unwrap().iter().filter(|block| !is_blank(block));
            blocks.map(|block| block["type"].clone()).collect()
        };
        assert_eq!(kinds(&again), kinds(&json), "{name}");
    }
}
