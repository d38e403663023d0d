#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::{Value, json};

use super::*;
use crate::dialect::FaultKind;
use crate::dialect::anthropic::watch::{Seen, Watch};

/// Feeds events (each named by its type); the parts, and how it ended.
fn read(events: &[Value]) -> (Vec<Part<'static>>, Result<(), Fault>) {
    let mut reader = Reader::new();
    let mut parts = Vec::new();
    for event in events {
        let data = event.to_string();
        let name = event["type"].as_str().unwrap_or_default();
        match reader.event(Event { name, data: &data }, &mut parts) {
            Ok(Flow::More) => {}
            Ok(Flow::Done) => break,
            Err(fault) => return (parts, Err(fault)),
        }
    }
    let end = reader.end(&mut parts);
    (parts, end)
}

fn message(events: &[Value], stop: &str) -> Vec<Value> {
    let mut all = vec![
        json!({"type": "message_start", "message": {"id": "msg_1", "model": "m", "usage": {"input_tokens": 5, "output_tokens": 1}}}),
    ];
    all.extend(events.iter().cloned());
    all.push(json!({"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": 9}}));
    all.push(json!({"type": "message_stop"}));
    all
}

fn start(index: u64, block: Value) -> Value {
    json!({"type": "content_block_start", "index": index, "content_block": block})
}

fn delta(index: u64, delta: Value) -> Value {
    json!({"type": "content_block_delta", "index": index, "delta": delta})
}

fn stop(index: u64) -> Value {
    json!({"type": "content_block_stop", "index": index})
}

fn call_start(index: u64, id: &str) -> Value {
    start(index, json!({"type": "tool_use", "id": id, "name": "go", "input": {}}))
}

fn input(index: u64, piece: &str) -> Value {
    delta(index, json!({"type": "input_json_delta", "partial_json": piece}))
}

fn calls(parts: &[Part<'static>]) -> Vec<(String, String)> {
    let call = |part: &Part<'static>| match part {
        Part::Call { id, arguments, .. } => Some((id.to_string(), arguments.to_string())),
        _ => None,
    };
    parts.iter().filter_map(call).collect()
}

fn pair(id: &str, arguments: &str) -> (String, String) {
    (id.to_owned(), arguments.to_owned())
}

#[test]
fn a_call_cut_by_the_limit_is_dropped_and_not_made_up() {
    for cut in ["{\"path\": \"/et", ""] {
        let events = [
            call_start(0, "whole"),
            input(0, "{\"a\":1}"),
            stop(0),
            call_start(1, "cut"),
            input(1, cut),
            stop(1),
        ];
        let (parts, end) = read(&message(&events, "max_tokens"));
        assert!(end.is_ok());
        assert_eq!(calls(&parts), [pair("whole", "{\"a\":1}")], "{cut:?}");
        assert!(matches!(parts.last(), Some(Part::End { stop: Stop::MaxTokens, .. })));
    }
}

#[test]
fn arguments_that_are_no_object_are_handed_on_as_such() {
    let events = [
        call_start(0, "empty"),
        stop(0),
        call_start(1, "broken"),
        input(1, "{oops"),
        stop(1),
        call_start(2, "list"),
        input(2, "[1]"),
        stop(2),
    ];
    let (parts, _) = read(&message(&events, "tool_use"));
    let expected = [
        pair("empty", "{}"),
        pair("broken", r#"{"_unparsed_arguments":"{oops"}"#),
        pair("list", r#"{"_unparsed_arguments":"[1]"}"#),
    ];
    assert_eq!(calls(&parts), expected);
}

#[test]
fn blocks_that_are_open_at_the_same_time_are_told_apart() {
    let events = [
        call_start(0, "a"),
        call_start(1, "b"),
        input(1, "{\"b\":"),
        input(0, "{\"a\":"),
        input(1, "2}"),
        input(0, "1}"),
        stop(1),
        stop(0),
    ];
    let (parts, _) = read(&message(&events, "tool_use"));
    assert_eq!(calls(&parts), [pair("b", "{\"b\":2}"), pair("a", "{\"a\":1}")]);
}

#[test]
fn input_that_comes_whole_at_the_start_of_a_call_is_taken() {
    let block = json!({"type": "tool_use", "id": "x", "name": "go", "input": {"a": 1}});
    let (parts, _) = read(&message(&[start(0, block), stop(0)], "tool_use"));
    assert_eq!(calls(&parts), [pair("x", "{\"a\":1}")]);
}

#[test]
fn a_thinking_block_ends_with_its_signature_even_without_text() {
    let thinking = json!({"type": "thinking", "thinking": "", "signature": ""});
    let events = [
        start(0, thinking.clone()),
        delta(0, json!({"type": "signature_delta", "signature": "first"})),
        delta(0, json!({"type": "signature_delta", "signature": "second"})),
        stop(0),
        start(1, thinking),
        stop(1),
    ];
    let (parts, _) = read(&message(&events, "end_turn"));
    assert_eq!(parts[1..parts.len() - 1], [Part::Signature("second".into())]);
}

#[test]
fn a_server_tools_call_gets_its_input_from_the_deltas() {
    let block = json!({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}});
    let (parts, _) = read(&message(&[start(0, block), input(0, "{\"query\":\"q\"}"), stop(0)], "end_turn"));
    let Part::Block(json) = &parts[1] else { panic!("{parts:?}") };
    let block: Value = serde_json::from_str(json).unwrap();
    assert_eq!(block["input"], json!({"query": "q"}));
}

#[test]
fn usage_is_set_and_never_added_and_null_changes_nothing() {
    let mut events = message(&[], "end_turn");
    events.insert(
        1,
        json!({"type": "message_delta", "delta": {}, "usage": {"input_tokens": null, "output_tokens": 4, "cache_read_input_tokens": 100.0}}),
    );
    let (parts, _) = read(&events);
    let usage = Usage { input: 5, cache_read: 100, output: 9, ..Usage::default() };
    assert_eq!(parts.last(), Some(&Part::End { stop: Stop::EndTurn, usage: Some(usage) }));
}

#[test]
fn the_start_comes_once_however_often_the_upstream_sends_it() {
    let mut events = message(&[], "end_turn");
    events.insert(0, events[0].clone());
    let (parts, _) = read(&events);
    assert_eq!(parts.iter().filter(|part| matches!(part, Part::Start { .. })).count(), 1);
}

#[test]
fn a_stream_without_its_end_is_a_fault_that_may_have_been_billed() {
    let whole = message(&[start(0, json!({"type": "text", "text": "hi"})), stop(0)], "end_turn");
    for length in 0..whole.len() {
        let (parts, end) = read(&whole[..length]);
        let fault = end.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Protocol);
        assert!(fault.ambiguous);
        assert!(!parts.iter().any(|part| matches!(part, Part::End { .. })));
    }
    let lone = [json!({"type": "message_stop"})];
    assert_eq!(read(&lone).1.unwrap_err().kind, FaultKind::Protocol);
}

#[test]
fn what_breaks_the_dialect_is_a_protocol_fault_and_never_a_panic() {
    let open = start(0, json!({"type": "text", "text": ""}));
    for bad in [
        json!({"type": "content_block_start", "index": "x", "content_block": {"type": "text"}}),
        json!({"type": "content_block_start", "index": 0}),
        json!({"type": "content_block_start", "index": 0, "content_block": {}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": 7}}),
        json!({"type": "content_block_delta"}),
        json!({"type": "message_start", "message": "hello"}),
        json!({"type": "message_delta", "delta": 7}),
        input(9, "{}"),
    ] {
        let (_, end) = read(&[message(&[], "x")[0].clone(), open.clone(), bad.clone()]);
        assert_eq!(end.unwrap_err().kind, FaultKind::Protocol, "{bad}");
    }
}

#[test]
fn unknown_events_and_a_closing_done_are_ignored() {
    let mut reader = Reader::new();
    let mut watch = Watch::new();
    let mut parts = Vec::new();
    for (name, data) in [
        ("data", "[DONE]"),
        ("", "[DONE]"),
        ("from_the_future", "{}"),
        ("", "{\"type\":\"from_the_future\"}"),
        ("", "{\"type\":\"ping\"}"),
        ("ping", ""),
    ] {
        let event = Event { name, data };
        assert_eq!(reader.event(event, &mut parts).unwrap(), Flow::More, "{name} {data}");
        assert_eq!(watch.event(event).unwrap(), Seen::Nothing);
    }
    assert!(parts.is_empty() && !watch.has_output());
}

#[test]
fn an_event_without_a_name_is_known_by_its_type() {
    let mut reader = Reader::new();
    let mut watch = Watch::new();
    let mut parts = Vec::new();
    for event in message(&[start(0, json!({"type": "text", "text": "hi"})), stop(0)], "end_turn") {
        let data = event.to_string();
        reader.event(Event { name: "", data: &data }, &mut parts).unwrap();
        watch.event(Event { name: "message", data: &data }).unwrap();
    }
    assert!(matches!(parts.last(), Some(Part::End { .. })));
    assert!(watch.ended_well() && watch.has_output());
}

#[test]
fn a_watch_sees_output_only_where_there_is_some() {
    let mut watch = Watch::new();
    let mut see = |event: Value| {
        let data = event.to_string();
        watch.event(Event { name: event["type"].as_str().unwrap(), data: &data })
    };
    assert_eq!(see(json!({"type": "message_start", "message": {}})).unwrap(), Seen::Nothing);
    assert_eq!(see(json!({"type": "ping"})).unwrap(), Seen::Nothing);
    assert_eq!(see(start(0, json!({"type": "text"}))).unwrap(), Seen::Nothing, "a frame that is empty yet");
    let delta =
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x"}});
    assert_eq!(see(delta).unwrap(), Seen::Output);
    let error = json!({"type": "error", "error": {"type": "rate_limit_error", "message": "slow"}});
    assert_eq!(see(error).unwrap_err().kind, FaultKind::RateLimited);
    assert!(watch.block_open() && !watch.ended_well() && watch.end().is_err());
}

#[test]
fn a_cut_message_stop_does_not_end_a_watched_stream() {
    let mut watch = Watch::new();
    watch.event(Event { name: "message_start", data: "{\"message\":{}}" }).unwrap();
    assert!(watch.event(Event { name: "message_stop", data: "{\"type\":\"messa" }).is_err());
    assert!(!watch.ended_well());
}

#[test]
fn a_watched_event_that_is_no_json_is_a_fault() {
    for name in ["content_block_start", "content_block_delta", "content_block_stop", "message_delta"] {
        assert!(Watch::new().event(Event { name, data: "{\"index\":0,," }).is_err(), "{name}");
    }
    let mut watch = Watch::new();
    let whole = "{\"content_block\":{\"type\":\"redacted_thinking\",\"data\":\"x\"}}";
    assert_eq!(watch.event(Event { name: "content_block_start", data: whole }).unwrap(), Seen::Output);
}

#[test]
fn an_endless_call_is_refused() {
    let mut reader = Reader::new();
    let mut parts = Vec::new();
    let mut feed = |event: Value| {
        let data = event.to_string();
        reader.event(Event { name: event["type"].as_str().unwrap(), data: &data }, &mut parts)
    };
    feed(call_start(0, "x")).unwrap();
    let piece = input(0, &"x".repeat(4 << 20));
    assert!((0..10).any(|_| feed(piece.clone()).is_err()));
}
