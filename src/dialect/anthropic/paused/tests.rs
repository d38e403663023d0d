#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::dialect::part::{Flow, Source as _};
use crate::dialect::{Part, Stop, Usage, anthropic, sse};

fn event(data: Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap())
}

/// A stream of these blocks, each given by its start and its deltas.
fn stream(blocks: &[(Value, &[Value])], stop: &str, input: u64, output: u64) -> String {
    let usage = json!({"input_tokens": input, "cache_read_input_tokens": 10, "output_tokens": 1});
    let mut all =
        event(json!({"type": "message_start", "message": {"id": "m", "model": "x", "usage": usage}}));
    for (index, (block, deltas)) in blocks.iter().enumerate() {
        all += &event(json!({"type": "content_block_start", "index": index, "content_block": block}));
        for delta in *deltas {
            all += &event(json!({"type": "content_block_delta", "index": index, "delta": delta}));
        }
        all += &event(json!({"type": "content_block_stop", "index": index}));
    }
    let used = json!({"output_tokens": output, "server_tool_use": {"web_search_requests": 2}});
    all += &event(json!({"type": "message_delta", "delta": {"stop_reason": stop}, "usage": used}));
    all + &event(json!({"type": "message_stop"}))
}

fn text(text: &str) -> (Value, Vec<Value>) {
    (json!({"type": "text", "text": ""}), vec![json!({"type": "text_delta", "text": text})])
}

/// The first answer: reasoning, a search and its result, a text with a source, and an empty text.
fn first() -> String {
    let place =
        json!({"type": "web_search_result_location", "url": "https://a.example", "encrypted_index": "e"});
    let blocks: [(Value, &[Value]); 5] = [
        (
            json!({"type": "thinking", "thinking": "", "signature": ""}),
            &[
                json!({"type": "thinking_delta", "thinking": "hm"}),
                json!({"type": "signature_delta", "signature": "sig"}),
            ],
        ),
        (
            json!({"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}),
            &[
                json!({"type": "input_json_delta", "partial_json": "{\"query\":"}),
                json!({"type": "input_json_delta", "partial_json": "\"é\"}"}),
            ],
        ),
        (json!({"type": "web_search_tool_result", "tool_use_id": "s1", "content": []}), &[]),
        (
            json!({"type": "text", "text": ""}),
            &[
                json!({"type": "text_delta", "text": "Half "}),
                json!({"type": "citations_delta", "citation": place}),
            ],
        ),
        (json!({"type": "text", "text": ""}), &[]),
    ];
    stream(&blocks, "pause_turn", 100, 20)
}

fn second(stop: &str) -> String {
    let (block, deltas) = text("done.");
    stream(&[(block, &deltas)], stop, 130, 5)
}

/// Joins these streams, in pieces of this size; what came out, and how often the turn was sent again.
fn joined(streams: &[&str], size: usize) -> (String, Vec<Vec<Value>>) {
    let mut joined = Joined::new();
    let (mut out, mut sent) = (Vec::new(), Vec::new());
    'streams: for (nth, one) in streams.iter().enumerate() {
        if nth > 0 {
            joined.go_on();
        }
        for piece in one.as_bytes().chunks(size) {
            if joined.push(&Bytes::copy_from_slice(piece), &mut out).unwrap() {
                sent.push(joined.content().to_vec());
                continue 'streams;
            }
        }
        assert!(!joined.end(&mut out).unwrap());
        break;
    }
    (String::from_utf8(out).unwrap(), sent)
}

fn parts(stream: &str) -> Vec<Part<'static>> {
    let (mut events, mut reader, mut parts) = (sse::Reader::new(), anthropic::Reader::new(), Vec::new());
    events.push(&Bytes::copy_from_slice(stream.as_bytes()));
    while let Some(event) = events.next().unwrap() {
        if reader.event(event, &mut parts).unwrap() == Flow::Done {
            return parts;
        }
    }
    panic!("no end: {stream}")
}

#[test]
fn the_answers_of_a_paused_turn_are_one_answer_however_they_are_cut() {
    let whole = joined(&[&first(), &second("end_turn")], usize::MAX);
    for size in [1, 7, 64] {
        assert_eq!(joined(&[&first(), &second("end_turn")], size), whole);
    }
    let (out, sent) = whole;
    let kinds = |kind: &str| out.matches(&format!("event: {kind}\n")).count();
    assert_eq!((kinds("message_start"), kinds("message_delta"), kinds("message_stop")), (1, 1, 1));
    assert_eq!(kinds("content_block_start"), 6);
    for index in 0..6 {
        assert!(
            out.contains(&format!("\"index\":{index},\"type\":\"content_block_stop\"")),
            "{index}: {out}"
        );
    }
    assert!(!out.contains("pause_turn"));
    let parts = parts(&out);
    let usage = Usage { input: 230, cache_read: 20, output: 25, ..Usage::default() };
    assert_eq!(parts.last(), Some(&Part::End { stop: Stop::EndTurn, usage: Some(usage) }));
    let texts = parts.iter().filter_map(|part| match part {
        Part::Text(text) => Some(text.as_ref()),
        _ => None,
    });
    assert_eq!(texts.collect::<Vec<_>>(), ["Half ", "done."]);
    assert!(out.contains("\"web_search_requests\":4"));
    // What is sent back is what was said: signed reasoning, inputs, sources; but no empty text, which is refused.
    let [said] = &sent[..] else { panic!() };
    let kinds: Vec<&str> = said.iter().map(|block| block["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["thinking", "server_tool_use", "web_search_tool_result", "text"]);
    assert_eq!((&said[0]["thinking"], &said[0]["signature"]), (&json!("hm"), &json!("sig")));
    assert_eq!(said[1]["input"], json!({"query": "é"}));
    assert_eq!(said[3]["citations"][0]["encrypted_index"], "e");
}

#[test]
fn a_turn_that_pauses_again_is_sent_with_all_that_was_said_and_not_for_ever() {
    let (first, again) = (first(), second("pause_turn"));
    let many: Vec<&str> =
        std::iter::once(first.as_str()).chain(std::iter::repeat_n(again.as_str(), 9)).collect();
    let (out, sent) = joined(&many, 100);
    assert_eq!(sent.len(), MOST as usize);
    let lengths: Vec<usize> = sent.iter().map(Vec::len).collect();
    assert_eq!(lengths, [4, 5, 6, 7, 8]);
    let Some(Part::End { stop: Stop::PauseTurn, usage: Some(usage) }) = parts(&out).pop() else {
        panic!("{out}")
    };
    assert_eq!((usage.input, usage.output), (100 + 5 * 130, 20 + 5 * 5));
}

#[test]
fn what_did_not_pause_or_can_not_be_sent_back_goes_through() {
    let plain = second("end_turn");
    assert_eq!(joined(&[&plain], 9), (plain.clone(), vec![]));
    // Without content there is nothing to go on from; what can't be read can't be sent back.
    let empty = stream(&[], "pause_turn", 1, 1);
    assert_eq!(joined(&[&empty], 9), (empty.clone(), vec![]));
    let odd = second("pause_turn").replace("\"text\":\"done.\"", "\"text\":\"done.\",\"n\":1e999");
    assert_eq!(joined(&[&odd], 9), (odd.clone(), vec![]));
    let document = " {\"type\":\"message\",\"content\":[],\n\n\"stop_reason\":\"pause_turn\"}";
    assert_eq!(joined(&[document], 3), (document.to_owned(), vec![]));
    let cut = &first()[..400];
    assert_eq!(joined(&[cut], 50).1.len(), 0);
}

#[test]
fn an_answer_that_is_too_large_to_be_sent_back_is_not_kept() {
    let long = "x".repeat(MOST_BYTES + 1);
    let (block, deltas) = text(&long);
    let large = stream(&[(block, &deltas)], "pause_turn", 1, 1);
    let (out, sent) = joined(&[&large], 1 << 20);
    assert_eq!((out.len(), sent.len()), (large.len(), 0));
}

#[test]
fn whole_messages_are_joined_in_their_order_and_their_figures_added() {
    let mut message = json!({"id": "m1", "model": "x", "stop_reason": "pause_turn",
        "content": [{"type": "text", "text": "a"}, {"type": "text", "text": ""}],
        "usage": {"input_tokens": 3, "output_tokens": 4, "service_tier": "standard", "cache_read_input_tokens": null}});
    assert!(is_paused(&message));
    join(
        &mut message,
        json!({"id": "m2", "model": "y", "stop_reason": "end_turn", "content": [{"type": "text", "text": "b"}],
        "usage": {"input_tokens": 5, "output_tokens": 6, "service_tier": "priority", "cache_read_input_tokens": 7}}),
    );
    assert!(!is_paused(&message));
    assert_eq!(message["content"], json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]));
    assert_eq!((&message["id"], &message["stop_reason"]), (&json!("m1"), &json!("end_turn")));
    assert_eq!(
        message["usage"],
        json!({"input_tokens": 8, "output_tokens": 10, "service_tier": "priority", "cache_read_input_tokens": 7})
    );
    assert!(!is_paused(&json!({"stop_reason": "pause_turn", "content": []})), "nothing to go on from");
}
