#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::*;
use crate::dialect::{Source as _, Stop, head};

const TEXT: &str = "The quick brown fox jumps over the lazy dog, and then once more over the lazy dog.\n\n Fin — ünd Schluß. ";

fn request() -> Request {
    let body = Bytes::from_static(
        br#"{"model":"claude-x","max_tokens":100,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#,
    );
    Request {
        id: super::super::RequestId(Arc::from("req_1")),
        front: super::super::Front::Messages,
        dialect: crate::dialect::Dialect::Anthropic,
        facts: crate::routing::Facts { head: head::scan(&body).unwrap(), ..Default::default() },
        body,
        headers: http::HeaderMap::new(),
        credential: Default::default(),
        timeout: None,
        cache: Default::default(),
        unseen: false,
        progress: None,
    }
}

fn start() -> Part<'static> {
    let usage = Usage { input: 70, output: 1, ..Usage::default() };
    Part::Start { id: "msg_a".into(), model: "claude-x".into(), usage: Some(usage) }
}

fn end() -> Part<'static> {
    let usage = Usage { input: 90, output: 20, ..Usage::default() };
    Part::End { stop: Stop::EndTurn, usage: Some(usage) }
}

/// An answer that says this, as an Anthropic upstream streams it.
fn stream(thinking: bool, text: &str, pieces: usize) -> Vec<u8> {
    let mut writer = StreamWriter::new("claude-x", "msg_a", 70);
    writer.part(start());
    if thinking {
        writer.part(Part::Thinking("hm".into()));
        writer.part(Part::Signature("c2ln".into()));
    }
    let characters: Vec<char> = text.chars().collect();
    for piece in characters.chunks(characters.len().div_ceil(pieces).max(1)) {
        writer.part(Part::Text(piece.iter().collect::<String>().into()));
    }
    writer.part(end());
    writer.take().to_vec()
}

/// What a caller reads: the parts, if the grammar holds.
fn read(bytes: &[u8]) -> Vec<Part<'static>> {
    let (mut events, mut watch) = (sse::Reader::new(), anthropic::Watch::new());
    let (mut reader, mut parts) = (anthropic::Reader::new(), Vec::new());
    events.push(&Bytes::copy_from_slice(bytes));
    let mut open = None;
    let mut next = 0;
    while let Some(event) = events.next().unwrap() {
        let data: serde_json::Value = serde_json::from_str(event.data).unwrap();
        match event.name {
            "content_block_start" => {
                assert_eq!((open, data["index"].as_u64()), (None, Some(next)));
                (open, next) = (Some(next), next + 1);
            }
            "content_block_delta" => assert_eq!(data["index"].as_u64(), open),
            "content_block_stop" => assert_eq!(data["index"].as_u64(), open.take()),
            _ => {}
        }
        watch.event(event).unwrap();
        reader.event(event, &mut parts).unwrap();
    }
    watch.end().unwrap();
    parts
}

fn text_of(parts: &[Part<'_>]) -> String {
    parts.iter().filter_map(|part| if let Part::Text(text) = part { Some(&**text) } else { None }).collect()
}

fn usage_of(parts: &[Part<'_>]) -> Usage {
    match parts.last() {
        Some(Part::End { usage: Some(usage), .. }) => *usage,
        other => panic!("no end: {other:?}"),
    }
}

proptest! {
    /// Wherever the first answer is cut, however much of it the second says again: the caller reads one answer.
    #[test]
    fn wherever_it_breaks_the_caller_reads_one_answer(
        thinking: bool,
        cut in 0.0..1.0f64,
        pieces in 1..40usize,
        chunk in 1..300usize,
        again in 0..100usize,
    ) {
        let whole = stream(thinking, TEXT, pieces);
        let cut = (whole.len() as f64 * cut) as usize;
        let mut pipe = Traced::new(&request());
        let mut got = Vec::new();
        for chunk in whole[..cut].chunks(chunk) {
            pipe.push(Bytes::copy_from_slice(chunk), &mut got).unwrap();
        }
        let mut got = got.concat();
        let has_stop_reason = String::from_utf8_lossy(&got).contains("message_delta");
        let Some(so_far) = pipe.so_far() else {
            let shown = String::from_utf8_lossy(&got).contains("text_delta");
            prop_assert!(!shown || has_stop_reason, "text alone can be continued");
            return Ok(());
        };
        prop_assert!(!has_stop_reason && TEXT.starts_with(&so_far.text));
        let rest = &TEXT[so_far.text.len()..];
        // A repetition is known as one from a few words on.
        let from = so_far.text.floor_char_boundary(so_far.text.len().saturating_sub(again));
        let again = if so_far.text.len() - from < LEAST_OVERLAP { "" } else { &so_far.text[from..] };
        let mut onward = so_far.onward();
        onward.part(start());
        onward.part(Part::Thinking("where was I?".into()));
        for c in format!("{again}{rest}").chars() {
            onward.part(Part::Text(c.to_string().into()));
        }
        onward.part(end());
        got.extend_from_slice(&onward.take());
        let parts = read(&got);
        let (seen, wanted) = (text_of(&parts), TEXT);
        // White space at the seam comes once.
        let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        prop_assert_eq!(squeezed(&seen), squeezed(wanted));
        let usage = usage_of(&parts);
        prop_assert_eq!(usage.input, 160);
        prop_assert!(usage.output > 20, "{}", usage.output);
    }
}

#[test]
fn what_comes_again_is_left_out_and_chance_is_not() {
    let before = "and so the lazy dog sleeps in the sun";
    for (continuation, rest) in [
        (" all day", " all day"),
        ("sleeps in the sun all day", " all day"),
        ("sun all day", "sun all day"),
        ("and so the lazy dog sleeps in the sun", ""),
        ("", ""),
        ("n", "n"),
    ] {
        assert_eq!(&continuation[repeated(before, continuation)..], rest, "{continuation}");
    }
    assert_eq!(repeated("one\n", "\n two"), 2);
}

#[test]
fn calls_and_ends_are_not_continued_and_a_continuation_may_call() {
    let mut written = Written::default();
    written.part(&Part::Text("let me look".into()));
    assert!(Written { text: "let me look".into(), own: 0, beyond: false }.take().is_some());
    let call = Part::Call { id: "toolu_1".into(), name: "ls".into(), arguments: "{}".into() };
    written.part(&call);
    assert_eq!(written.take(), None);
    assert_eq!(Written::default().take(), None, "nothing is no beginning");

    let writer = StreamWriter::new("claude-x", "msg_a", 70);
    let so_far = SoFar::new("let me look".into(), 0, &Report::default(), Box::new(writer));
    let mut onward = so_far.onward();
    onward.part(start());
    onward.part(Part::Text(" at it".into()));
    onward.part(call.clone());
    onward.part(Part::End { stop: Stop::ToolUse, usage: None });
    let parts = read(&onward.take());
    assert!(parts.contains(&call));
    assert_eq!(text_of(&parts), " at it");
    assert!(usage_of(&parts).output > 0);
}

#[test]
fn a_stream_with_an_open_call_is_not_continued() {
    let events = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_a\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"x\",\"content\":[],\"usage\":{\"input_tokens\":1,\"output_tokens\":1}}}\n\n\
        event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n\
        event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"hello\"}}\n\n\
        event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n\
        event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"tool_use\",\"id\":\"toolu_1\",\"name\":\"ls\",\"input\":{}}}\n\n";
    let mut pipe = Traced::new(&request());
    pipe.push(Bytes::from_static(events.as_bytes()), &mut Vec::new()).unwrap();
    assert!(pipe.so_far().is_none());
}
