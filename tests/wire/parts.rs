//! Writers for Anthropic callers under every order of parts, also orders that no source should give.

use bytes::Bytes;
use cproxy::dialect::anthropic::write::{error_event, ping};
use cproxy::dialect::anthropic::{MessageBuilder, StreamWriter, response};
use cproxy::dialect::citation::Citation;
use cproxy::dialect::part::Sink;
use cproxy::dialect::{Fault, FaultKind, Part, Stop, Usage};
use proptest::prelude::*;
use serde_json::Value;

use crate::support::grammar;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just(" \n".to_owned()),
        Just("\u{2028}\"\\\u{0}\r\n\ndata: x\n\n".to_owned()),
        any::<String>(),
    ]
}

fn json_text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("{}".to_owned()),
        Just(String::new()),
        Just("null".to_owned()),
        Just("{\"a\":".to_owned()),
        Just("{\n  \"type\": \"web_search_tool_result\",\r\n  \"content\": []\n}".to_owned()),
        Just("{\"type\":\"server_tool_use\",\"id\":\"s\",\"name\":\"n\",\"input\":{\"q\":1}}".to_owned()),
        "[a-z漢😀\"]{0,3000}"
            .prop_map(|text| serde_json::json!({ "type": "other", "long": text }).to_string()),
        Just(serde_json::json!({"long": "漢".repeat(5000)}).to_string()),
    ]
}

fn stop() -> impl Strategy<Value = Stop> {
    prop_oneof![
        Just(Stop::EndTurn),
        Just(Stop::ToolUse),
        Just(Stop::MaxTokens),
        Just(Stop::PauseTurn),
        Just(Stop::ContextWindow),
        proptest::option::of(any::<String>()).prop_map(Stop::StopSequence),
        proptest::option::of(any::<String>()).prop_map(Stop::Refusal),
        any::<String>().prop_map(Stop::Other),
    ]
}

fn usage() -> impl Strategy<Value = Option<Usage>> {
    proptest::option::of((0u64..9, 0u64..9, any::<u64>(), proptest::option::of(any::<u64>())).prop_map(
        |(input, cache_read, output, thinking)| Usage {
            input,
            cache_read,
            output,
            thinking,
            ..Usage::default()
        },
    ))
}

/// Any part but the end.
fn part() -> impl Strategy<Value = Part<'static>> {
    prop_oneof![
        1 => (any::<String>(), usage())
            .prop_map(|(id, usage)| Part::Start { id: id.into(), model: "upstream".into(), usage }),
        4 => text().prop_map(|text| Part::Text(text.into())),
        1 => proptest::collection::vec("[a-z\n\"]{0,9}", 0..3).prop_map(|urls| {
            Part::Citations(urls.iter().map(|url| Citation::page(url, None, url, None)).collect())
        }),
        2 => text().prop_map(|text| Part::Thinking(text.into())),
        1 => text().prop_map(|text| Part::Signature(text.into())),
        1 => text().prop_map(|text| Part::RedactedThinking(text.into())),
        2 => ("[a-z]{1,5}", "[a-z]{1,5}", json_text()).prop_map(|(id, name, arguments)| Part::Call {
            id: id.into(),
            name: name.into(),
            arguments: arguments.into()
        }),
        1 => json_text().prop_map(|json| Part::Block(json.into())),
    ]
}

fn write(parts: &[Part<'static>]) -> StreamWriter {
    let mut writer = StreamWriter::new("asked", "msg_ours", 3);
    for part in parts {
        writer.part(part.clone());
    }
    writer
}

proptest! {
    #[test]
    fn any_order_of_parts_keeps_the_grammar(
        parts in proptest::collection::vec(part(), 0..14), stop in stop(), usage in usage(),
        late in proptest::collection::vec(part(), 0..3),
    ) {
        let mut open = write(&parts);
        let summary = grammar::check(&open.take()).map_err(TestCaseError::fail)?;
        prop_assert!(!summary.ended_well && summary.stop.is_none(), "only an end ends it");

        let mut all = parts.clone();
        all.push(Part::End { stop: stop.clone(), usage });
        all.extend(late);
        all.push(Part::End { stop, usage });
        let bytes = write(&all).take();
        let summary = grammar::check(&bytes).map_err(TestCaseError::fail)?;
        prop_assert!(summary.ended_well && !summary.block_open);
        prop_assert!(summary.usage["input_tokens"].as_u64() > Some(0) || usage.is_some_and(|u| u.total_input() > 0));

        let said: String = parts.iter().filter_map(|part| match part {
            Part::Text(text) if !text.trim().is_empty() => Some(text.trim().to_owned()),
            _ => None,
        }).collect();
        let written: String = summary.texts.concat();
        let squeeze = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
        prop_assert_eq!(squeeze(&written), squeeze(&said));
        let calls = parts.iter().filter(|part| matches!(part, Part::Call { .. })).count();
        prop_assert_eq!(summary.calls.len(), calls);

        // The whole message says the same as the stream.
        let mut builder = MessageBuilder::new("asked", "msg_ours", 3);
        let mut unended = MessageBuilder::new("asked", "msg_ours", 3);
        all.iter().for_each(|part| builder.part(part.clone()));
        parts.iter().for_each(|part| unended.part(part.clone()));
        prop_assert!(unended.finish().is_none());
        let message = builder.finish().unwrap();
        let json: Value = serde_json::from_slice(&message).unwrap();
        let texts = json["content"].as_array().unwrap().iter().filter(|b| b["type"] == "text");
        prop_assert_eq!(texts.map(|b| b["text"].as_str().unwrap()).collect::<String>(), written);
        prop_assert_eq!(&json["usage"], &summary.usage);
        let (reason, ..) = summary.stop.unwrap();
        prop_assert_eq!(&json["stop_reason"], &reason);
        prop_assert_eq!(response::usage_of(&message).unwrap().blocks, json["content"].as_array().unwrap().len());
    }

    #[test]
    fn a_failure_at_any_moment_is_an_error_event_and_no_end(
        parts in proptest::collection::vec(part(), 0..10), message in any::<String>(),
    ) {
        let mut writer = write(&parts);
        let before = grammar::check(&writer.take()).map_err(TestCaseError::fail)?;
        let mut writer = write(&parts);
        writer.fail(&Fault::new(FaultKind::Overloaded, message.clone()), "req_1");
        writer.part(Part::End { stop: Stop::EndTurn, usage: None });
        let summary = grammar::check(&writer.take()).map_err(TestCaseError::fail)?;
        prop_assert!(!summary.ended_well && summary.stop.is_none());
        let error = summary.error.unwrap();
        prop_assert_eq!(&error["type"], "overloaded_error");
        prop_assert_eq!(&error["message"], &message);
        prop_assert_eq!(summary.block_open, before.block_open, "what is incomplete stays incomplete");
    }

    #[test]
    fn taking_bytes_between_parts_changes_nothing(parts in proptest::collection::vec(part(), 0..10)) {
        let whole = write(&parts).take();
        let mut writer = StreamWriter::new("asked", "msg_ours", 3);
        let mut bytes = Vec::new();
        for part in parts {
            writer.part(part);
            let piece: Bytes = writer.take();
            prop_assert!(piece.is_empty() || piece.ends_with(b"\n\n"), "whole events only");
            prop_assert!(writer.is_empty());
            bytes.extend_from_slice(&piece);
        }
        prop_assert_eq!(bytes, whole);
    }
}

#[test]
fn an_early_start_and_pings_are_no_output_and_come_once() {
    let mut writer = StreamWriter::new("asked", "msg_ours", 3);
    writer.start();
    let mut bytes = writer.take().to_vec();
    bytes.extend_from_slice(&ping());
    writer.start();
    writer.part(Part::Start { id: "late".into(), model: "x".into(), usage: None });
    writer.part(Part::Text("hi".into()));
    writer.part(Part::End { stop: Stop::EndTurn, usage: None });
    bytes.extend_from_slice(&writer.take());
    let summary = grammar::check(&bytes).unwrap();
    assert_eq!((summary.pings, summary.id.as_str(), summary.model.as_str()), (1, "msg_ours", "asked"));
    assert!(summary.ended_well);
}

#[test]
fn an_error_event_stands_alone_too() {
    let summary = grammar::check(&error_event("api_error", "line\nbreak", "req_1")).unwrap();
    assert_eq!(summary.error.unwrap()["message"], "line\nbreak");
}
