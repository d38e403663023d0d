#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::dialect::FaultKind;
use crate::dialect::openai_responses::response;
use crate::dialect::table::by_name;

fn context() -> Context {
    Context { input_estimate: 9, ..Context::new(by_name("openai").unwrap(), "asked") }
}

fn read(events: &[Value]) -> Result<Vec<Part<'static>>, Fault> {
    let mut reader = Reader::new(context());
    let mut parts = Vec::new();
    for event in events {
        if reader.event(sse::Event { name: "", data: &event.to_string() }, &mut parts)? == Flow::Done {
            return Ok(parts);
        }
    }
    reader.end(&mut parts)?;
    Ok(parts)
}

fn completed(response: &Value) -> Value {
    json!({"type": "response.completed", "response": response})
}

fn done(index: u64, item: &Value) -> Value {
    json!({"type": "response.output_item.done", "output_index": index, "item": item})
}

fn delta(kind: &str, index: u64, delta: &str) -> Value {
    json!({"type": format!("response.{kind}.delta"), "output_index": index, "delta": delta})
}

fn call_item() -> Value {
    json!({"type": "function_call", "call_id": "c", "name": "T", "arguments": "{\"a\":1}", "status": "completed"})
}

fn stop(parts: &[Part<'_>]) -> Stop {
    match parts.last() {
        Some(Part::End { stop, .. }) => stop.clone(),
        other => panic!("no end: {other:?}"),
    }
}

#[test]
fn a_stream_and_its_whole_answer_say_the_same() {
    let message = json!({"type": "message", "content": [{"type": "output_text", "text": "so"}]});
    let reasoning = json!({"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "E"});
    let usage = json!({"input_tokens": 10, "output_tokens": 4, "input_tokens_details": {"cached_tokens": 6}});
    let whole = json!({"id": "r", "model": "ran", "status": "completed", "error": null, "output": [reasoning, message, call_item()], "usage": usage});
    let streamed = read(&[
        json!({"type": "response.created", "response": {"id": "r", "model": "ran"}}),
        delta("reasoning_summary_text", 0, "hm"),
        done(0, &reasoning),
        delta("output_text", 1, "so"),
        done(1, &message),
        done(2, &call_item()),
        completed(&whole),
    ])
    .unwrap();
    let mut parts: Vec<Part<'static>> = Vec::new();
    response::read(whole.to_string().as_bytes(), context(), &mut parts).unwrap();
    assert_eq!(streamed, parts);
    assert_eq!(stop(&parts), Stop::ToolUse);
    let Part::Signature(signature) = &parts[2] else { panic!("{parts:?}") };
    assert!(
        Carrier::read(signature)
            .unwrap()
            .unwrap()
            .item
            .unwrap()
            .get()
            .contains("\"encrypted_content\":\"E\"")
    );
    assert!(
        matches!(parts.last(), Some(Part::End { usage: Some(usage), .. }) if usage.input == 4 && usage.cache_read == 6)
    );
    assert_eq!(read(&[completed(&whole)]).unwrap(), parts, "what the stream left out is taken from its end");
}

#[test]
fn a_cut_stream_never_ends_well() {
    let events = [delta("output_text", 0, "a"), done(0, &json!({"type": "message"})), done(1, &call_item())];
    for cut in 0..=events.len() {
        assert_eq!(read(&events[..cut]).unwrap_err().kind, FaultKind::Protocol);
    }
}

#[test]
fn failures_are_faults_in_every_shape() {
    let flat = json!({"type": "error", "code": "rate_limit_exceeded", "message": "m"});
    let nested = json!({"type": "error", "error": {"code": "insufficient_quota", "message": "m"}});
    let failed = json!({"type": "response.failed", "response": {"status": "failed", "error": {"code": "server_error", "message": "m"}}});
    for (event, kind) in
        [(flat, FaultKind::RateLimited), (nested, FaultKind::Billing), (failed, FaultKind::ServerError)]
    {
        let fault = read(&[event]).unwrap_err();
        assert_eq!((fault.kind, fault.message.as_str()), (kind, "m"));
    }
    assert_eq!(read(&[completed(&json!({"output": []}))]).unwrap_err().kind, FaultKind::Protocol);
}

#[test]
fn a_call_cut_by_the_limit_is_left_out() {
    let cut = json!({"type": "function_call", "call_id": "c", "name": "T", "arguments": "{\"a", "status": "incomplete"});
    let end = json!({"type": "response.incomplete", "response": {"incomplete_details": {"reason": "max_output_tokens"}, "output": [cut]}});
    let parts = read(&[delta("function_call_arguments", 0, "{\"a"), end]).unwrap();
    assert_eq!(stop(&parts), Stop::MaxTokens);
    assert!(!parts.iter().any(|part| matches!(part, Part::Call { .. })));
}

#[test]
fn reasoning_in_full_and_its_summary_are_taken_once() {
    let parts = read(&[delta("reasoning_summary_text", 0, "a"), delta("reasoning_text", 0, "long"),
        json!({"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 1, "delta": "b"}),
        done(0, &json!({"type": "reasoning", "summary": []})), delta("output_text", 1, "x"), completed(&json!({}))]).unwrap();
    let text: String = parts
        .iter()
        .filter_map(|part| if let Part::Thinking(text) = part { Some(text.as_ref()) } else { None })
        .collect();
    assert_eq!(text, "a\n\nb");
}

#[test]
fn a_custom_call_and_a_search_have_their_blocks() {
    let custom = json!({"type": "custom_tool_call", "call_id": "c", "name": "sql", "input": "SELECT \"x\""});
    let search = json!({"type": "web_search_call", "id": "ws", "action": {"query": "q", "sources": [{"url": "https://u"}]}});
    let parts = read(&[done(0, &search), done(1, &custom), completed(&json!({}))]).unwrap();
    assert!(matches!(&parts[1], Part::Block(json) if json.contains("server_tool_use")));
    assert!(matches!(&parts[2], Part::Block(json) if json.contains("https://u")));
    assert!(matches!(&parts[3], Part::Call { arguments, .. } if arguments == r#"{"input":"SELECT \"x\""}"#));
}

proptest! {
    #[test]
    fn no_event_makes_the_reader_panic_or_end_twice(events in prop::collection::vec(prop_oneof![
        (prop::sample::select(vec!["output_text", "refusal", "reasoning_text", "reasoning_summary_text", "function_call_arguments"]), 0u64..3, "[a{}\" ]{0,4}").prop_map(|(kind, index, text)| delta(kind, index, &text)),
        (0u64..3).prop_map(|index| done(index, &call_item())),
        (0u64..3, "[a ]{0,3}").prop_map(|(index, text)| done(index, &json!({"type": "message", "content": [{"text": text}]}))),
        Just(done(0, &json!({"type": "reasoning", "summary": [{"text": "s"}]}))),
        Just(completed(&json!({"output": [call_item()]}))),
        Just(json!({"type": 5, "output_index": "x"})),
    ], 0..10)) {
        let parts = read(&events).unwrap_or_default();
        let ends = parts.iter().filter(|part| matches!(part, Part::End { stop: _, usage: _ })).count();
        prop_assert!(ends <= 1);
        prop_assert!(parts.is_empty() || ends == 1);
    }
}

#[test]
fn stop_strings_are_met_by_the_reader_since_the_upstream_knows_none() {
    let stops = || Context { stops: ["END".to_owned()].into(), ..context() };
    let events = [delta("output_text", 0, "one E"), delta("output_text", 0, "ND two")];
    let mut reader = Reader::new(stops());
    let mut parts: Vec<Part<'static>> = Vec::new();
    let flows: Vec<Flow> = events
        .iter()
        .map(|event| reader.event(sse::Event { name: "", data: &event.to_string() }, &mut parts).unwrap())
        .collect();
    assert_eq!(flows, [Flow::More, Flow::Done]);
    assert_eq!(parts[1], Part::Text("one ".into()));
    assert!(
        matches!(parts.last(), Some(Part::End { stop: Stop::StopSequence(Some(met)), .. }) if met == "END")
    );
    // A whole answer likewise; and what only looked like one is given.
    for (text, said, is_met) in [("a END b", "a ", true), ("a EN", "a EN", false)] {
        let item = json!({"type": "message", "content": [{"type": "output_text", "text": text}]});
        let body = json!({"id": "r", "status": "completed", "output": [item]}).to_string();
        let mut parts: Vec<Part<'static>> = Vec::new();
        response::read(body.as_bytes(), stops(), &mut parts).unwrap();
        let all: String = parts
            .iter()
            .filter_map(|part| if let Part::Text(text) = part { Some(text.as_ref()) } else { None })
            .collect();
        assert_eq!(all, said);
        assert_eq!(matches!(parts.last(), Some(Part::End { stop: Stop::StopSequence(_), .. })), is_met);
    }
}

#[test]
fn a_stream_in_place_of_a_whole_answer_is_read_as_one() {
    let events =
        [delta("output_text", 0, "hi"), completed(&json!({"id": "r", "status": "completed", "output": []}))];
    let body: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    let mut parts: Vec<Part<'static>> = Vec::new();
    response::read_any(&body.into(), context(), &mut parts).unwrap();
    assert!(parts.contains(&Part::Text("hi".into())) && matches!(parts.last(), Some(Part::End { .. })));
    let mut none: Vec<Part<'static>> = Vec::new();
    assert!(response::read_any(&"<html>".into(), context(), &mut none).is_err() && none.is_empty());
}
