//! What an upstream sends that is not its dialect: a fault each time, never an end, never a panic, in bounded memory.

use bytes::Bytes;
use cproxy::dialect::openai_chat::{self, Context};
use cproxy::dialect::part::{Flow, Source};
use cproxy::dialect::{Fault, FaultKind, Part, anthropic, gemini, openai_responses, sse, table};

use crate::support::relay::relay;

fn context(row: &str) -> Context {
    Context::new(table::by_name(row).unwrap(), "asked")
}

/// A reader for each dialect.
fn readers() -> Vec<(&'static str, Box<dyn Source>)> {
    vec![
        ("anthropic", Box::new(anthropic::Reader::new())),
        ("chat", Box::new(openai_chat::Reader::new(context("openai")))),
        ("openrouter", Box::new(openai_chat::Reader::new(context("openrouter")))),
        ("responses", Box::new(openai_responses::Reader::new(context("openai")))),
        ("gemini", Box::new(gemini::Reader::new(context("gemini")))),
    ]
}

/// A body as a whole answer of each dialect.
fn whole(body: &[u8]) -> Vec<(&'static str, Result<(), Fault>)> {
    let body = Bytes::copy_from_slice(body);
    let mut none: Vec<Part<'static>> = Vec::new();
    vec![
        ("anthropic", anthropic::response::read(&body, &mut none)),
        ("chat", openai_chat::response::read_any(&body, context("openai"), &mut none)),
        ("responses", openai_responses::response::read_any(&body, context("openai"), &mut none)),
        ("gemini", gemini::response::read(&body, context("gemini"), &mut none)),
    ]
}

fn nested(depth: usize) -> String {
    format!("{{\"choices\":{}{},\"output\":1,\"content\":2}}", "[".repeat(depth), "]".repeat(depth))
}

#[test]
fn a_body_that_is_no_answer_is_a_fault_in_every_dialect() {
    let bomb = nested(100_000);
    let cut_bomb = "{\"content\":[{\"type\":".repeat(50_000);
    let bodies: [&[u8]; 16] = [
        b"",
        b"  \r\n ",
        b"<!DOCTYPE html><html><title>502 Bad Gateway</title></html>",
        b"upstream connect error or disconnect/reset before headers",
        b"null",
        b"7",
        b"\"text\"",
        b"[]",
        b"{}",
        b"{\"choices\":{\"0\":1},\"content\":\"x\",\"output\":\"y\",\"candidates\":3}",
        b"{\"choices\":[{\"message\":{\"content\":\"hal",
        b"{\"content\":[{\"type\":\"text\",\"text\":\"hal",
        b"{\"id\":1,\"type\":2,\"role\":3,\"content\":[null],\"choices\":[null],\"output\":[null],\"candidates\":[null]}",
        b"\xff\xfe{\x00}\x00",
        bomb.as_bytes(),
        cut_bomb.as_bytes(),
    ];
    for body in bodies {
        for (dialect, result) in whole(body) {
            let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
            assert!(result.is_err(), "{dialect}: {shown}");
        }
    }
}

#[test]
fn a_stream_that_is_no_stream_is_a_fault_in_every_dialect() {
    let bomb = format!("data: {}\n\n", nested(100_000));
    let pages: [&[u8]; 6] = [
        b"<html><body>busy</body></html>",
        b"{\"ok\": true}",
        b"data: <html>\n\ndata: </html>\n\n",
        b": a comment\n\n: another\n\n",
        b"event: message_start\ndata: \n\n",
        bomb.as_bytes(),
    ];
    for page in pages {
        for (dialect, mut reader) in readers() {
            let outcome = relay(&mut *reader, [Bytes::copy_from_slice(page)]);
            let fault = outcome.result.expect_err(dialect);
            let kinds = [FaultKind::Protocol, FaultKind::ServerError];
            assert!(kinds.contains(&fault.kind), "{dialect}: {fault:?}");
        }
    }
}

/// Feeds a reader the same chunk until it faults; how many bytes that took.
fn feed(mut source: Box<dyn Source>, first: &str, chunk: &Bytes, most: usize) -> (usize, Option<Fault>) {
    let mut events = sse::Reader::new();
    let mut parts: Vec<Part<'static>> = Vec::new();
    events.push(&Bytes::copy_from_slice(first.as_bytes()));
    let mut fed = 0;
    let mut step = || -> Result<(), Fault> {
        while fed < most {
            events.push(chunk);
            fed += chunk.len();
            while let Some(event) = events.next()? {
                if source.event(event, &mut parts)? == Flow::Done {
                    return Ok(());
                }
                parts.clear();
            }
        }
        Ok(())
    };
    let result = step();
    (fed, result.err())
}

#[test]
fn an_event_of_50_mb_is_a_fault_before_it_is_whole() {
    let chunk = Bytes::from(vec![b'x'; 1 << 20]);
    for (dialect, reader) in readers() {
        let (fed, fault) = feed(reader, "data: {\"delta\":\"", &chunk, 50 << 20);
        let fault = fault.unwrap_or_else(|| panic!("{dialect} takes 50 MB"));
        assert_eq!(fault.kind, FaultKind::Protocol);
        assert!(fed <= sse::MAX_EVENT + (2 << 20), "{dialect} held {fed} bytes");
    }
}

#[test]
fn endless_blanks_and_empty_events_hold_no_memory_and_are_no_answer() {
    for piece in
        ["\n", "   \n", ": ping\n\n", "data:\n\n", "data: \n\n", "event: ping\ndata: {\"type\":\"ping\"}\n\n"]
    {
        let chunk = Bytes::from(piece.repeat((32 << 10) / piece.len()));
        for (dialect, reader) in readers() {
            // Whether it faults or waits (the relay's own deadlines end that): it never ends well.
            let mut events = sse::Reader::new();
            let (mut reader, mut parts) = (reader, Vec::<Part<'static>>::new());
            let mut is_broken = false;
            'stream: for _ in 0..4 {
                events.push(&chunk);
                loop {
                    match events.next() {
                        Ok(Some(event)) => match reader.event(event, &mut parts) {
                            Ok(flow) => assert_eq!(flow, Flow::More, "{dialect} with {piece:?}"),
                            Err(_) => {
                                is_broken = true;
                                break 'stream;
                            }
                        },
                        Ok(None) => break,
                        Err(_) => {
                            is_broken = true;
                            break 'stream;
                        }
                    }
                }
            }
            assert!(is_broken || reader.end(&mut parts).is_err(), "{dialect} with {piece:?}");
            assert!(parts.is_empty(), "{dialect} with {piece:?}: {parts:?}");
        }
    }
}

#[test]
fn a_call_of_anthropics_without_a_name_is_a_fault_and_one_without_an_id_gets_one() {
    let stream = |block: &str| {
        let start = r#"{"type":"message_start","message":{"id":"msg_1","model":"m","usage":{"input_tokens":1,"output_tokens":1}}}"#;
        let block = format!(r#"{{"type":"content_block_start","index":0,"content_block":{block}}}"#);
        let end =
            r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":2}}"#;
        let events = [start, &block, end, r#"{"type":"message_stop"}"#];
        Bytes::from(events.map(|data| format!("data: {data}\n\n")).concat())
    };
    let read = |block: &str| relay(&mut anthropic::Reader::new(), [stream(block)]);
    assert!(read(r#"{"type":"tool_use","id":"t","input":{}}"#).result.is_err());
    let outcome = read(r#"{"type":"tool_use","name":"look","input":{}}"#);
    outcome.result.unwrap();
    assert!(outcome.summary.calls[0].id.starts_with("toolu_"));
}
