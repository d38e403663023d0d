//! The fronts for callers of OpenAI's dialects, on recorded traffic: what Anthropic's streams say, the Chat and
//! Responses answers written from them say too, by plain readers that share nothing with the crate; and streams
//! that are passed on as they are end well only where the upstream ended them well. Then the official SDK, over
//! the built daemon.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

#[allow(dead_code, reason = "each test target uses a part of it")]
mod support;

#[path = "wire_openai/plain.rs"]
mod plain;

#[path = "wire_openai/sdk.rs"]
mod sdk;

use bytes::Bytes;
use cproxy::dialect::openai_chat::answer::{self as chat, error};
use cproxy::dialect::openai_responses::answer as responses;
use cproxy::dialect::part::{Flow, Sink, Source};
use cproxy::dialect::{
    Dialect, Fault, FaultKind, Part, anthropic, head, openai_chat, openai_responses, sse, table,
};
use plain::{of_anthropic, of_chat_stream, of_chat_whole, of_response, of_response_stream};
use proptest::prelude::*;
use serde_json::{Value, json};
use support::recordings::recordings;
use support::recut;

/// A writer under test.
trait Out: Sink {
    fn bytes(&mut self) -> Bytes;
}

impl Out for chat::StreamWriter {
    fn bytes(&mut self) -> Bytes {
        self.take()
    }
}

impl Out for responses::Writer {
    fn bytes(&mut self) -> Bytes {
        self.take()
    }
}

fn chat_writer() -> chat::StreamWriter {
    chat::StreamWriter::new(chat_heading())
}

fn chat_heading() -> chat::Heading {
    chat::Heading {
        model: "asked".to_owned(),
        id: "ours".to_owned(),
        created: 7,
        estimate: 5,
        include_usage: true,
        custom: Vec::new(),
    }
}

fn response_writer() -> responses::Writer {
    let mut heading = responses::Heading::read(b"{}");
    heading.model = "asked".to_owned();
    heading.id = "ours".to_owned();
    responses::Writer::new(heading)
}

/// Feeds pieces of an Anthropic stream into a writer; how it ended.
fn relay(pieces: &[&[u8]], out: &mut dyn Sink) -> Result<(), Fault> {
    let mut events = sse::Reader::new();
    let mut reader = anthropic::Reader::new();
    for piece in pieces {
        events.push(&Bytes::copy_from_slice(piece));
        while let Some(event) = events.next()? {
            if reader.event(event, out)? == Flow::Done {
                return Ok(());
            }
        }
    }
    if let Some(event) = events.finish()?
        && reader.event(event, out)? == Flow::Done
    {
        return Ok(());
    }
    reader.end(out)
}

fn streams() -> Vec<(String, Vec<u8>)> {
    let mut streams = recordings("anthropic", ".response.sse");
    streams.retain(|(_, body)| ends_well(&text(body)));
    streams.push(("of our own".to_owned(), OWN.as_bytes().to_vec()));
    streams
}

/// Whether a recorded stream is a whole answer, and no error.
fn ends_well(stream: &str) -> bool {
    let squeezed: String = stream.split_whitespace().collect();
    squeezed.contains("\"type\":\"message_stop\"") && !squeezed.contains("\"type\":\"error\"")
}

const OWN: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_up\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"m\",\"content\":[],\"usage\":{\"input_tokens\":9,\"cache_read_input_tokens\":4,\"output_tokens\":1}}}\n\n\
event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}}\n\n\
event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"höm 漢 😀\"}}\n\n\
event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"signature_delta\",\"signature\":\"c2ln\"}}\n\n\
event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n\
event: content_block_start\r\ndata: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\r\n\r\n\
event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hello\\n\\\"w\\u00f6rld\\\"\"}}\n\n\
event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":1}\n\n\
event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":2,\"content_block\":{\"type\":\"tool_use\",\"id\":\"toolu_1\",\"name\":\"look\",\"input\":{}}}\n\n\
event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":2,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"a\\\": [1, 2\"}}\n\n\
event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":2,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"]}\"}}\n\n\
event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":2}\n\n\
event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":3,\"content_block\":{\"type\":\"tool_use\",\"id\":\"toolu_2\",\"name\":\"none\",\"input\":{}}}\n\n\
event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":3}\n\n\
event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":31}}\n\n\
event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_recorded_message_says_the_same_in_chat_as_a_stream_and_as_a_whole() {
    for (name, bytes) in streams() {
        let said = of_anthropic(&text(&bytes));
        let mut writer = chat_writer();
        relay(&[&bytes], &mut writer).unwrap_or_else(|fault| panic!("{name}: {fault:?}"));
        let stream = text(&writer.take());
        assert!(stream.ends_with("data: [DONE]\n\n"), "{name}");
        assert_eq!(of_chat_stream(&stream), said, "{name}");

        let mut builder = chat::CompletionBuilder::new(chat_heading());
        relay(&[&bytes], &mut builder).unwrap();
        let whole: Value = serde_json::from_slice(&builder.finish().unwrap()).unwrap();
        assert_eq!(of_chat_whole(&whole), said, "{name}");
        assert_eq!(whole["model"], "asked");
    }
}

#[test]
fn a_recorded_message_says_the_same_in_responses_as_a_stream_and_as_a_whole() {
    for (name, bytes) in streams() {
        let said = of_anthropic(&text(&bytes));
        let mut writer = response_writer();
        relay(&[&bytes], &mut writer).unwrap_or_else(|fault| panic!("{name}: {fault:?}"));
        assert_eq!(of_response_stream(&text(&writer.take())), said, "{name}");
        let whole: Value = serde_json::from_slice(&writer.finish().unwrap()).unwrap();
        assert_eq!(of_response(&whole), said, "{name}");
    }
}

#[test]
fn what_is_written_for_a_caller_is_read_from_an_upstream_as_the_same() {
    let variant = table::by_name("openrouter").unwrap();
    for (name, bytes) in streams() {
        let said = of_anthropic(&text(&bytes));
        // An empty answer is none to a reader, and why a model refused is text to it.
        if (said.text.is_empty() && said.calls.is_empty()) || said.stop == "refusal" {
            continue;
        }
        let mut writer = chat_writer();
        relay(&[&bytes], &mut writer).unwrap();
        let mut parts: Vec<Part<'static>> = Vec::new();
        let mut events = sse::Reader::new();
        events.push(&writer.take());
        let mut reader = openai_chat::Reader::new(openai_chat::Context::new(variant, "m"));
        while let Some(event) = events.next().unwrap() {
            reader.event(event, &mut parts).unwrap();
        }
        assert_eq!(plain::of_parts(&parts).talk(), said.talk(), "{name}: chat");

        let mut writer = response_writer();
        relay(&[&bytes], &mut writer).unwrap();
        let mut parts: Vec<Part<'static>> = Vec::new();
        let mut events = sse::Reader::new();
        events.push(&writer.take());
        let mut reader = openai_responses::Reader::new(openai_chat::Context::new(variant, "m"));
        while let Some(event) = events.next().unwrap() {
            reader.event(event, &mut parts).unwrap();
        }
        assert_eq!(plain::of_parts(&parts).talk(), said.talk(), "{name}: responses");
    }
}

#[test]
fn however_a_stream_is_cut_the_answer_is_the_same() {
    let mut random = recut::random();
    for (name, bytes) in streams() {
        let writers: [fn() -> Box<dyn Out>; 2] = [|| Box::new(chat_writer()), || Box::new(response_writer())];
        for fresh in writers {
            let mut whole = fresh();
            relay(&[&bytes], &mut *whole as &mut dyn Sink).unwrap();
            let whole = whole.bytes();
            for pieces in recut::ways(&bytes, &mut random) {
                let mut writer = fresh();
                relay(&pieces, &mut *writer as &mut dyn Sink).unwrap();
                assert!(writer.bytes() == whole, "{name}");
            }
        }
    }
}

#[test]
fn an_answer_that_breaks_off_never_looks_whole() {
    for (name, bytes) in streams() {
        for at in recut::ends(&bytes) {
            let mut writer = chat_writer();
            let Err(fault) = relay(&[&bytes[..at]], &mut writer) else {
                assert!(text(&bytes[..at]).contains("message_stop"), "{name} at {at}");
                continue;
            };
            let mut out = writer.take().to_vec();
            out.extend_from_slice(&chat::error_event(&fault));
            let out = text(&out);
            assert!(!out.contains("[DONE]") && of_chat_stream(&out).stop.is_empty(), "{name} at {at}");
            assert!(out.lines().rfind(|line| line.starts_with("data: ")).unwrap().contains("\"error\":{"));

            let mut writer = response_writer();
            relay(&[&bytes[..at]], &mut writer).unwrap_err();
            let mut out = writer.take().to_vec();
            out.extend_from_slice(&writer.fail(&fault));
            let out = text(&out);
            assert!(
                !out.contains("response.completed") && !out.contains("response.incomplete"),
                "{name} at {at}"
            );
            assert!(out.contains("event: response.failed\n"), "{name} at {at}");
            assert_eq!(writer.finish(), None);
        }
    }
}

/// Looks at a stream that is passed on; how it ended.
fn watch_chat(bytes: &[u8]) -> (openai_chat::watch::Watch, Result<(), Fault>) {
    let mut watch = openai_chat::watch::Watch::new(table::by_name("openai").unwrap(), 3);
    let mut events = sse::Reader::new();
    events.push(&Bytes::copy_from_slice(bytes));
    let result = (|| {
        while let Some(event) = events.next()? {
            watch.event(event)?;
        }
        watch.end()
    })();
    (watch, result)
}

#[test]
fn a_chat_stream_that_is_passed_on_ends_well_only_where_the_upstream_ended_it() {
    let mut seen = 0;
    for provider in
        ["openai_chat", "openrouter", "groq", "deepseek", "mistral", "llamacpp", "perplexity", "ollama"]
    {
        for (name, bytes) in recordings(provider, ".response.sse") {
            let recorded = text(&bytes);
            if !recorded.contains("\"choices\"") {
                continue; // another dialect of the same provider
            }
            let plain = of_chat_stream(&recorded);
            let (watch, result) = watch_chat(&bytes);
            if name.contains("error") || name.contains("failed") {
                assert!(result.is_err() || !plain.stop.is_empty(), "{provider}/{name}");
                continue;
            }
            if plain.stop.is_empty() {
                assert_eq!(result.is_ok(), recorded.contains("[DONE]"), "{provider}/{name}: {result:?}");
                continue;
            }
            assert!(result.is_ok(), "{provider}/{name}: {result:?}");
            assert!(watch.has_output(), "{provider}/{name}");
            if let Some(usage) = watch.usage().filter(|usage| !usage.estimated) {
                assert_eq!(usage.total_input(), plain.input, "{provider}/{name}");
            }
            for at in recut::ends(&bytes) {
                let (_, result) = watch_chat(&bytes[..at]);
                let before = &recorded[..recorded.floor_char_boundary(at)];
                let ended = !of_chat_stream(before).stop.is_empty() || before.contains("[DONE]");
                assert_eq!(result.is_ok(), ended, "{provider}/{name} at {at}");
            }
            seen += 1;
        }
    }
    println!("{seen} recordings");
}

#[test]
fn a_responses_stream_that_is_passed_on_ends_well_only_where_the_upstream_ended_it() {
    for (name, bytes) in recordings("openai_responses", ".response.sse") {
        let look = |bytes: &[u8]| {
            let mut watch = openai_responses::watch::Watch::new(table::by_name("openai").unwrap());
            let mut events = sse::Reader::new();
            events.push(&Bytes::copy_from_slice(bytes));
            while let Some(event) = events.next()? {
                watch.event(event)?;
            }
            watch.end().map(|()| watch)
        };
        let result = look(&bytes);
        let recorded = text(&bytes);
        let ends = ["response.completed\"", "response.incomplete\""].iter().any(|end| recorded.contains(end));
        assert_eq!(result.is_ok(), ends, "{name}: {result:?}");
        if let Ok(watch) = result {
            assert!(watch.usage().is_some(), "{name}");
            for at in recut::ends(&bytes) {
                let before = recorded.get(..recorded.floor_char_boundary(at)).unwrap();
                let whole: Vec<&str> = before.split("\n\n").collect();
                let ended = whole[..whole.len() - 1].iter().any(|event| {
                    event.contains("response.completed\"") || event.contains("response.incomplete\"")
                });
                assert_eq!(look(&bytes[..at]).is_ok(), ended, "{name} at {at}");
            }
        }
    }
}

#[test]
fn every_fault_has_its_status_and_code() {
    let cases = [
        (FaultKind::RateLimited, None, 429, "rate_limit_exceeded"),
        (FaultKind::Billing, Some(402), 429, "insufficient_quota"),
        (FaultKind::Overloaded, Some(529), 503, "overloaded"),
        (FaultKind::Auth, Some(401), 401, "invalid_api_key"),
        (FaultKind::ModelNotFound, Some(404), 404, "model_not_found"),
        (FaultKind::ContextLength, Some(400), 400, "context_length_exceeded"),
        (FaultKind::Caller, Some(413), 413, ""),
        (FaultKind::ServerError, Some(500), 500, ""),
        (FaultKind::Protocol, None, 502, ""),
    ];
    for (kind, status, expected, code) in cases {
        let answer = error::write(&Fault { status, ..Fault::new(kind, "what happened") });
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status.as_u16(), body["error"]["code"].as_str().unwrap_or("")), (expected, code));
        assert!(body["error"]["message"].is_string() && body.get("type").is_none(), "{body}");
    }
}

#[test]
fn an_upstreams_own_error_goes_on_as_it_came_if_it_is_of_this_dialect() {
    let theirs = br#"{"error":{"message":"m","type":"t","param":null,"code":"c","extra":1}}"#;
    let variant = table::by_name("openai").unwrap();
    let fault = openai_chat::error::read(418, &http::HeaderMap::new(), theirs, variant);
    let answer = error::write(&fault);
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (418, &theirs[..]));
    let foreign = br#"{"type":"error","error":{"type":"api_error","message":"m"},"request_id":"r"}"#;
    let fault = anthropic::error::read(http::StatusCode::BAD_GATEWAY, &http::HeaderMap::new(), foreign);
    let body: Value = serde_json::from_slice(&error::write(&fault).body).unwrap();
    assert_eq!(body["error"]["type"], "server_error");
}

#[test]
fn the_head_of_a_chat_body_is_found_and_only_the_model_is_spliced() {
    let body = Bytes::from_static(
        br#"{ "messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}], "model" : "a\u002fb","n":1.50,
        "stream":true,"max_completion_tokens":77,"reasoning_effort":"high","prompt_cache_key":"s1","tools":[{"type":"function","function":{"name":"f"}}],"x":{"model":"no"}}"#,
    );
    let found = head::scan_as(&body, Dialect::OpenAiChat).unwrap();
    assert_eq!((found.model.as_str(), found.stream, found.max_tokens), ("a/b", true, Some(77)));
    assert!(found.images && found.thinking && found.tools == 1);
    assert_eq!(found.session.as_deref(), Some("s1"));
    let spliced = head::splice_model(&body, &found.model_span, "c");
    assert_eq!(text(&spliced), text(&body).replace(r#""a\u002fb""#, r#""c""#));

    let body = br#"{"model":"m","input":"hello there","instructions":"be brief","max_output_tokens":9}"#;
    let found = head::scan_as(body, Dialect::OpenAiResponses).unwrap();
    assert_eq!((found.model.as_str(), found.max_tokens), ("m", Some(9)));
    assert!(found.estimated_tokens > 4);
    let missing = head::scan_as(br#"{"model":"m"}"#, Dialect::OpenAiResponses).unwrap_err();
    assert_eq!(missing.to_string(), "input: Field required");
}

fn words() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), Just("data: [DONE]\n\n\"\\\u{0}".to_owned()), Just(String::new())]
}

fn part() -> impl Strategy<Value = Part<'static>> {
    prop_oneof![
        1 => any::<String>().prop_map(|id| Part::Start { id: id.into(), model: "m".into(), usage: None }),
        4 => words().prop_map(|text| Part::Text(text.into())),
        2 => words().prop_map(|text| Part::Thinking(text.into())),
        1 => words().prop_map(|text| Part::Signature(text.into())),
        1 => words().prop_map(|text| Part::RedactedThinking(text.into())),
        2 => ("[a-z]{1,5}", "[a-z]{1,5}", words()).prop_map(|(id, name, text)| Part::Call {
            id: id.into(),
            name: name.into(),
            arguments: json!({ "text": text }).to_string().into(),
        }),
        1 => Just(Part::Block(r#"{"type":"server_tool_use"}"#.into())),
    ]
}

proptest! {
    #[test]
    fn any_order_of_parts_gives_an_answer_that_says_them_and_ends_once(
        parts in proptest::collection::vec(part(), 0..14), late in proptest::collection::vec(part(), 0..3),
    ) {
        let end = Part::End { stop: cproxy::dialect::Stop::EndTurn, usage: None };
        let all: Vec<_> = parts.iter().cloned().chain([end.clone()]).chain(late).chain([end]).collect();
        let said = plain::of_parts(&parts);

        let mut writer = chat_writer();
        all.iter().for_each(|part| writer.part(part.clone()));
        let stream = text(&writer.take());
        prop_assert_eq!(stream.matches("data: [DONE]\n").count(), 1);
        prop_assert_eq!(of_chat_stream(&stream).talk(), said.talk());

        let mut writer = response_writer();
        all.iter().for_each(|part| writer.part(part.clone()));
        prop_assert_eq!(of_response_stream(&text(&writer.take())).talk(), said.talk());
        let whole: Value = serde_json::from_slice(&writer.finish().unwrap()).unwrap();
        prop_assert_eq!(of_response(&whole).talk(), said.talk());
    }

    #[test]
    fn no_chat_body_makes_the_reader_panic_and_what_it_makes_is_a_request(
        body in "\\{\"model\":\"m\",\"messages\":\\[\\{\"role\":\"(user|assistant|tool|system)\",\"content\":(\"a\"|null|\\[\\{\"type\":\"(text|image_url)\",\"text\":\"b\"\\}\\])(,\"tool_calls\":\\[\\{\"id\":\"(x|é)\",\"function\":\\{\"name\":\"f\",\"arguments\":\"(\\{|\\{\\})\"\\}\\}\\])?\\}\\]\\}",
    ) {
        let to = anthropic::compose::Destination::new("claude-opus-4-8", true);
        if let Ok(request) = openai_chat::to_messages::to_messages(body.as_bytes(), &to) {
            let request: Value = serde_json::from_slice(&request).unwrap();
            prop_assert_eq!(&request["messages"][0]["role"], "user");
            prop_assert!(request["max_tokens"].is_u64());
        }
    }
}
