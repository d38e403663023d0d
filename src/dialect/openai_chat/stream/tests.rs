#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::dialect::openai_chat::response;
use crate::dialect::table::by_name;
use crate::dialect::{FaultKind, Stop};

type Answer = Result<Vec<Part<'static>>, (Vec<Part<'static>>, Fault)>;

fn context(variant: &str) -> Context {
    Context { input_estimate: 11, ..Context::new(by_name(variant).unwrap(), "asked") }
}

fn read_with(context: Context, events: &[String]) -> Answer {
    let mut reader = Reader::new(context);
    let mut parts = Vec::new();
    for data in events {
        match reader.event(sse::Event { name: "", data }, &mut parts) {
            Ok(Flow::More) => {}
            Ok(Flow::Done) => return Ok(parts),
            Err(fault) => return Err((parts, fault)),
        }
    }
    match reader.end(&mut parts) {
        Ok(()) => Ok(parts),
        Err(fault) => Err((parts, fault)),
    }
}

fn read(variant: &str, events: &[Value]) -> Answer {
    let events: Vec<String> =
        events.iter().map(|event| event.as_str().map_or_else(|| event.to_string(), str::to_owned)).collect();
    read_with(context(variant), &events)
}

fn delta(delta: &Value) -> Value {
    json!({"id": "r1", "model": "ran", "choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
}

fn finish(reason: &str) -> Value {
    json!({"id": "r1", "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
}

fn usage() -> Value {
    json!({"id": "r1", "choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105,
        "prompt_tokens_details": {"cached_tokens": 60}}})
}

fn text(parts: &[Part<'_>]) -> String {
    parts
        .iter()
        .filter_map(|part| if let Part::Text(text) = part { Some(text.as_ref()) } else { None })
        .collect()
}

fn thinking(parts: &[Part<'_>]) -> String {
    parts
        .iter()
        .filter_map(|part| if let Part::Thinking(text) = part { Some(text.as_ref()) } else { None })
        .collect()
}

fn calls(parts: &[Part<'_>]) -> Vec<(String, String, String)> {
    let of = |part: &Part<'_>| match part {
        Part::Call { id, name, arguments } => Some((id.to_string(), name.to_string(), arguments.to_string())),
        _ => None,
    };
    parts.iter().filter_map(of).collect()
}

fn ending(parts: &[Part<'_>]) -> (Stop, Usage) {
    match parts.last() {
        Some(Part::End { stop, usage }) => (stop.clone(), usage.unwrap()),
        other => panic!("no end: {other:?}"),
    }
}

fn call_piece(index: Option<u64>, id: Option<&str>, name: Option<&str>, arguments: &Value) -> Value {
    let mut piece = json!({"function": {"arguments": arguments}});
    if let Some(index) = index {
        piece["index"] = json!(index);
    }
    if let Some(id) = id {
        piece["id"] = json!(id);
    }
    if let Some(name) = name {
        piece["function"]["name"] = json!(name);
    }
    delta(&json!({"tool_calls": [piece]}))
}

// === how an answer ends ===

#[test]
fn text_then_finish_then_usage_is_a_whole_answer() {
    let events = [
        delta(&json!({"role": "assistant", "content": ""})),
        delta(&json!({"content": "Hel"})),
        delta(&json!({"content": "lo"})),
        finish("stop"),
        usage(),
        json!("[DONE]"),
    ];
    let parts = read("openai", &events).unwrap();
    assert_eq!(text(&parts), "Hello");
    let wanted = Usage { input: 40, cache_read: 60, output: 5, ..Usage::default() };
    assert_eq!(ending(&parts), (Stop::EndTurn, wanted));
    assert!(
        matches!(&parts[0], Part::Start { id, model, usage: Some(usage) } if id == "r1" && model == "ran" && usage.input == 11)
    );
    let ends = parts.iter().filter(|part| matches!(part, Part::End { .. })).count();
    assert_eq!(ends, 1);
}

#[test]
fn a_cut_stream_never_ends_well() {
    let events = [
        delta(&json!({"content": "a"})),
        call_piece(Some(0), Some("c"), Some("T"), &json!("{}")),
        delta(&json!({"content": "b"})),
    ];
    for cut in 0..=events.len() {
        let (_, fault) = read("openai", &events[..cut]).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Protocol);
        assert!(fault.ambiguous);
    }
    let whole = [delta(&json!({"content": "a"})), finish("stop")];
    assert!(read("openai", &whole).is_ok(), "a finish reason is an end, even without [DONE]");
    let done = [delta(&json!({"content": "a"})), json!("[DONE]")];
    assert_eq!(ending(&read("openai", &done).unwrap()).0, Stop::EndTurn);
}

#[test]
fn an_empty_answer_is_a_fault_unless_the_limit_explains_it() {
    for reason in ["stop", "tool_calls", "whatever"] {
        let (parts, fault) = read("openai", &[delta(&json!({"content": ""})), finish(reason)]).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Protocol);
        assert!(parts.iter().all(|part| !part.is_output()), "it can still fail over");
    }
    assert_eq!(ending(&read("openai", &[finish("length")]).unwrap()).0, Stop::MaxTokens);
    assert!(read("openai", &[json!("[DONE]")]).is_err());
}

#[test]
fn the_first_telling_finish_reason_counts() {
    let twice = [delta(&json!({"content": "a"})), finish("length"), finish("stop"), usage()];
    assert_eq!(ending(&read("openrouter", &twice).unwrap()).0, Stop::MaxTokens);
    let later = [delta(&json!({"content": "a"})), finish("stop"), finish("content_filter")];
    assert_eq!(ending(&read("openrouter", &later).unwrap()).0, Stop::Refusal(None));
}

#[test]
fn stops_are_told_apart() {
    let stop = |reason: &str| {
        read("openai", &[delta(&json!({"content": "a"})), finish(reason)]).map(|parts| ending(&parts).0)
    };
    assert_eq!(stop("model_length").unwrap(), Stop::MaxTokens);
    assert_eq!(stop("sensitive").unwrap(), Stop::Refusal(None));
    assert_eq!(stop("tool_calls").unwrap(), Stop::EndTurn);
    assert_eq!(stop("insufficient_system_resource").unwrap_err().1.kind, FaultKind::Overloaded);
    assert_eq!(stop("abort").unwrap_err().1.kind, FaultKind::ServerError);
    let met = json!({"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop", "stop_reason": "END"}]});
    assert_eq!(ending(&read("vllm", &[met]).unwrap()).0, Stop::StopSequence(Some("END".to_owned())));
    let refusal = [delta(&json!({"refusal": "I "})), delta(&json!({"refusal": "won't"})), finish("stop")];
    let parts = read("openai", &refusal).unwrap();
    assert_eq!(
        (text(&parts).as_str(), ending(&parts).0),
        ("I won't", Stop::Refusal(Some("I won't".to_owned())))
    );
}

#[test]
fn missing_figures_are_estimated_and_hidden_reasoning_is_counted() {
    let (_, usage) =
        ending(&read("openai", &[delta(&json!({"content": "x".repeat(36)})), finish("stop")]).unwrap());
    assert_eq!(usage, Usage { input: 11, output: 11, estimated: true, ..Usage::default() });
    let hidden = json!({"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 35, "completion_tokens": 12, "total_tokens": 109}});
    assert_eq!(ending(&read("gemini", &[hidden]).unwrap()).1.output, 74);
}

// === errors within ===

#[test]
fn an_error_within_is_a_fault_before_the_finish_and_nothing_after() {
    let error = json!({"error": {"code": 429, "message": "slow down"}, "choices": []});
    let (parts, fault) = read("openrouter", std::slice::from_ref(&error)).unwrap_err();
    assert_eq!((fault.kind, fault.status, parts.len()), (FaultKind::RateLimited, Some(429), 0));
    let (parts, _) = read("openrouter", &[delta(&json!({"content": "a"})), error.clone()]).unwrap_err();
    assert!(!parts.iter().any(|part| matches!(part, Part::End { .. })));
    let late = [delta(&json!({"content": "a"})), finish("stop"), error, usage(), json!("[DONE]")];
    assert_eq!(ending(&read("openrouter", &late).unwrap()).1.output, 5);
    for shape in [
        json!({"object": "error", "message": "m"}),
        json!({"error": "m"}),
        json!([{"error": {"message": "m"}}]),
    ] {
        assert_eq!(read("vllm", &[shape]).unwrap_err().1.message, "m");
    }
    assert!(
        read(
            "openai",
            &[json!({"error": null, "choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]})]
        )
        .is_ok()
    );
}

#[test]
fn what_is_no_json_is_skipped_and_broken_json_is_a_fault() {
    assert!(read("openai", &[json!("keep-alive"), delta(&json!({"content": "a"})), finish("stop")]).is_ok());
    assert_eq!(read("openai", &[json!("{\"choices\": [{")]).unwrap_err().1.kind, FaultKind::Protocol);
}

#[test]
fn a_call_that_groq_refused_goes_to_the_client() {
    let error = json!({"error": {"code": "tool_use_failed", "message": "m", "failed_generation": "{\"name\":\"T\",\"arguments\":{\"a\":1}}"}});
    let parts = read("groq", &[delta(&json!({"reasoning": "hm"})), error]).unwrap();
    assert_eq!(calls(&parts)[0].1, "T");
    assert_eq!(ending(&parts).0, Stop::ToolUse);
}

// === tool calls ===

#[test]
fn interleaved_fragments_become_whole_calls_in_their_order() {
    let events = [
        call_piece(Some(0), Some("a"), Some("A"), &json!("")),
        call_piece(Some(1), Some("b"), Some("B"), &json!("{\"x\"")),
        call_piece(Some(0), None, None, &json!("{\"y\":")),
        call_piece(Some(1), None, None, &json!(":1}")),
        call_piece(Some(0), None, None, &json!("2}")),
        finish("tool_calls"),
    ];
    let parts = read("openai", &events).unwrap();
    let wanted =
        vec![("a".into(), "A".into(), "{\"y\":2}".into()), ("b".into(), "B".into(), "{\"x\":1}".into())];
    assert_eq!(calls(&parts), wanted);
    assert_eq!(ending(&parts).0, Stop::ToolUse);
}

#[test]
fn odd_indexes_ids_and_names_make_no_call_vanish() {
    let names = |events: Vec<Value>| -> Vec<String> {
        let mut events = events;
        events.push(finish("stop"));
        let parts = read("ollama", &events).unwrap();
        let calls = calls(&parts);
        let mut ids: Vec<_> = calls.iter().map(|call| call.0.clone()).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), calls.len(), "ids are distinct");
        assert_eq!(ending(&parts).0, Stop::ToolUse, "whatever the finish reason says");
        calls.into_iter().map(|(_, name, arguments)| format!("{name}{arguments}")).collect()
    };
    let object = |n: u64| json!(format!("{{\"n\":{n}}}"));
    // All with index 0, other ids.
    assert_eq!(
        names(vec![
            call_piece(Some(0), Some("a"), Some("T"), &object(1)),
            call_piece(Some(0), Some("b"), Some("T"), &object(2))
        ]),
        ["T{\"n\":1}", "T{\"n\":2}"]
    );
    // All with index 0, no ids.
    assert_eq!(
        names(vec![
            call_piece(Some(0), None, Some("T"), &object(1)),
            call_piece(Some(0), None, Some("T"), &object(2))
        ]),
        ["T{\"n\":1}", "T{\"n\":2}"]
    );
    // No index, empty ids, the same id for all.
    assert_eq!(
        names(vec![
            call_piece(None, Some(""), Some("T"), &object(1)),
            call_piece(None, Some(""), Some("U"), &object(2))
        ]),
        ["T{\"n\":1}", "U{\"n\":2}"]
    );
    assert_eq!(
        names(vec![
            call_piece(None, Some("x"), Some("T"), &object(1)),
            call_piece(None, Some("x"), Some("U"), &object(2))
        ]),
        ["T{\"n\":1}", "U{\"n\":2}"]
    );
    // Id and name with every fragment; then once more at the end.
    assert_eq!(
        names(vec![
            call_piece(Some(0), Some("a"), Some("T"), &json!("{\"n\"")),
            call_piece(Some(0), Some("a"), Some("T"), &json!(":1}")),
            call_piece(Some(0), Some("a"), Some("T"), &json!(""))
        ]),
        ["T{\"n\":1}"]
    );
    // The id and the name come late.
    assert_eq!(
        names(
            vec![
                call_piece(Some(0), None, None, &json!("{\"n\"")),
                call_piece(Some(0), Some("a"), None, &json!(":1}"))
            ]
            .into_iter()
            .chain([call_piece(Some(1), Some("b"), Some("U"), &json!("{}"))])
            .collect::<Vec<_>>()
            .split_off(2)
        ),
        ["U{}"]
    );
    // No arguments, all with index 0.
    let none = |name: &str| call_piece(Some(0), None, Some(name), &json!("null"));
    assert_eq!(names(vec![none("T"), none("U")]), ["T{}", "U{}"]);
    // Arguments as an object, and as null.
    assert_eq!(
        names(vec![
            call_piece(Some(0), Some("a"), Some("T"), &json!({"n": 1})),
            call_piece(Some(1), Some("b"), Some("U"), &Value::Null)
        ]),
        ["T{\"n\":1}", "U{}"]
    );
}

#[test]
fn a_call_cut_by_the_limit_is_left_out() {
    let events = [
        call_piece(Some(0), Some("a"), Some("A"), &json!("{}")),
        call_piece(Some(1), Some("b"), Some("B"), &json!("{\"x\":\"cut")),
        finish("length"),
    ];
    let parts = read("openai", &events).unwrap();
    assert_eq!(calls(&parts).len(), 1);
    assert_eq!(ending(&parts).0, Stop::MaxTokens);
}

#[test]
fn names_and_ids_find_their_way_back() {
    let long = "mcp__".to_owned() + &"y".repeat(90);
    let sent = crate::dialect::names::wire_name(&long).into_owned();
    let used: Arc<[u64]> = [super::super::calls::id_hash("call_0")].into_iter().collect();
    let context =
        Context { names: NameMap::new([long.as_str()].into_iter()), used_ids: used, ..context("openai") };
    let events = [
        call_piece(Some(0), Some("call_0"), Some(&sent), &json!("{}")).to_string(),
        finish("tool_calls").to_string(),
    ];
    let parts = read_with(context.clone(), &events).unwrap();
    let (id, name, _) = calls(&parts)[0].clone();
    assert_eq!(name, long);
    assert!(id.starts_with("toolu_"), "an id that the conversation has used is replaced: {id}");
    assert_eq!(calls(&read_with(context, &events).unwrap())[0].0, id, "always by the same");
}

#[test]
fn one_call_at_most_where_the_caller_says_so() {
    let context = Context { one_call: true, ..context("ollama") };
    let events = [
        call_piece(Some(0), Some("a"), Some("A"), &json!("{}")),
        call_piece(Some(1), Some("b"), Some("B"), &json!("{}")),
        finish("stop"),
    ];
    let events: Vec<String> = events.iter().map(Value::to_string).collect();
    assert_eq!(calls(&read_with(context, &events).unwrap()).len(), 1);
}

#[test]
fn endless_white_space_ends_the_answer_or_fails_it() {
    let stuck = json!(" ".repeat(600));
    let whole =
        [call_piece(Some(0), Some("a"), Some("A"), &json!("{}")), call_piece(Some(0), None, None, &stuck)];
    assert_eq!(ending(&read("openai", &whole).unwrap()).0, Stop::ToolUse);
    let cut = [
        call_piece(Some(0), Some("a"), Some("A"), &json!("{\"a\":1,")),
        call_piece(Some(0), None, None, &stuck),
    ];
    assert_eq!(read("openai", &cut).unwrap_err().1.kind, FaultKind::Protocol);
}

// === reasoning ===

#[test]
fn reasoning_said_twice_is_taken_once_and_signed() {
    let both = json!({"reasoning": "hm", "reasoning_content": "hm", "reasoning_details": [{"type": "reasoning.text", "text": "hm", "index": 0}]});
    let signature = json!({"content": "", "reasoning_details": [{"type": "reasoning.text", "signature": "S", "index": 0}]});
    let parts = read(
        "openrouter",
        &[delta(&both), delta(&signature), delta(&json!({"content": "x"})), finish("stop")],
    )
    .unwrap();
    assert_eq!(thinking(&parts), "hm");
    let Part::Signature(signature) = &parts[2] else { panic!("{parts:?}") };
    let carrier = Carrier::read(signature).unwrap().unwrap();
    assert_eq!(carrier.details.unwrap().get(), r#"[{"type":"reasoning.text","signature":"S","index":0}]"#);
    assert_eq!((carrier.dialect.as_str(), carrier.model.as_str()), ("openrouter", "asked"));
}

#[test]
fn encrypted_reasoning_is_carried_without_text() {
    let encrypted =
        json!({"reasoning_details": [{"type": "reasoning.encrypted", "data": "D", "id": "rs", "index": 0}]});
    let parts = read(
        "openrouter",
        &[delta(&encrypted), call_piece(Some(0), Some("a"), Some("A"), &json!("{}")), finish("tool_calls")],
    )
    .unwrap();
    assert!(
        matches!(&parts[1], Part::Signature(signature) if Carrier::read(signature).unwrap().unwrap().details.is_some())
    );
    assert!(matches!(&parts[2], Part::Call { .. }));
}

#[test]
fn late_reasoning_makes_one_block_after_the_text() {
    let words = [
        json!({"reasoning": "a"}),
        json!({"content": "x"}),
        json!({"reasoning": "b"}),
        json!({"content": "y"}),
        json!({"reasoning": "c"}),
    ];
    let mut events: Vec<Value> = words.iter().map(delta).collect();
    events.push(finish("stop"));
    let parts = read("openrouter", &events).unwrap();
    let kinds: String = parts
        .iter()
        .map(|part| match part {
            Part::Start { .. } => 's',
            Part::Thinking(_) => 't',
            Part::Signature(_) => '!',
            Part::Text(_) => 'x',
            Part::End { .. } => 'e',
            _ => '?',
        })
        .collect();
    assert_eq!(kinds, "st!xxt!e");
    assert_eq!(thinking(&parts), "abc");
}

#[test]
fn think_tags_and_lists_of_parts_are_reasoning_too() {
    let tagged = [
        delta(&json!({"content": "<thi"})),
        delta(&json!({"content": "nk>why</think>\n\nbecause"})),
        finish("stop"),
    ];
    let parts = read("vllm", &tagged).unwrap();
    assert_eq!((thinking(&parts), text(&parts)), ("why".to_owned(), "because".to_owned()));
    let untouched = read("openai", &tagged).unwrap();
    assert_eq!(text(&untouched), "<think>why</think>\n\nbecause");
    let list = json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "so"}]});
    let parts = read("mistral", &[delta(&list), finish("stop")]).unwrap();
    assert_eq!((thinking(&parts), text(&parts)), ("hm".to_owned(), "so".to_owned()));
}

#[test]
fn thought_signatures_are_carried_by_the_id_of_the_call() {
    let piece = json!({"tool_calls": [{"index": 0, "id": "", "function": {"name": "T", "arguments": "{}"}, "extra_content": {"google": {"thought_signature": "G"}}}]});
    let parts = read("gemini", &[delta(&piece), finish("stop")]).unwrap();
    let Part::Signature(signature) = &parts[1] else { panic!("{parts:?}") };
    let carrier = Carrier::read(signature).unwrap().unwrap();
    assert_eq!(carrier.signatures, [(calls(&parts)[0].0.clone(), "G".to_owned())]);
}

#[test]
fn blanks_before_a_call_open_no_text() {
    let events = [
        delta(&json!({"content": "\n\n"})),
        call_piece(Some(0), Some("a"), Some("A"), &json!("{}")),
        finish("tool_calls"),
    ];
    assert_eq!(text(&read("vllm", &events).unwrap()), "");
    let events = [delta(&json!({"content": "\n"})), delta(&json!({"content": "x"})), finish("stop")];
    assert_eq!(text(&read("openai", &events).unwrap()), "\nx");
}

// === whole answers ===

#[test]
fn a_whole_answer_says_the_same_as_its_stream() {
    let message = json!({"role": "assistant", "content": "so", "reasoning_content": "hm",
        "tool_calls": [{"id": "a", "type": "function", "function": {"name": "T", "arguments": "{}"}}]});
    let whole = json!({"id": "r1", "model": "ran", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4}});
    let mut parts: Vec<Part<'static>> = Vec::new();
    response::read(whole.to_string().as_bytes(), context("deepseek"), &mut parts).unwrap();
    let mut streamed = whole.clone();
    streamed["choices"][0]["delta"] = streamed["choices"][0]["message"].take();
    assert_eq!(parts, read("deepseek", &[streamed]).unwrap());
    let mut again: Vec<Part<'static>> = Vec::new();
    response::read_any(&whole.to_string().into(), context("deepseek"), &mut again).unwrap();
    assert_eq!(parts, again);
}

#[test]
fn a_body_without_an_answer_is_a_fault() {
    let fault = |body: &str| {
        let mut parts: Vec<Part<'static>> = Vec::new();
        response::read_any(&body.to_owned().into(), context("openai"), &mut parts).unwrap_err()
    };
    assert_eq!(fault(r#"{"error":{"message":"no credit","code":402}}"#).kind, FaultKind::Billing);
    for body in [
        "",
        "{}",
        "[]",
        "<html>",
        r#"{"choices":[]}"#,
        r#"{"choices":[{"message":{"content":null},"finish_reason":"stop"}]}"#,
        "data: [DONE]\n\n",
    ] {
        assert_eq!(
            fault(body).kind,
            if body == "[]" { FaultKind::ServerError } else { FaultKind::Protocol },
            "{body}"
        );
    }
    let mut parts: Vec<Part<'static>> = Vec::new();
    let stream = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\r\n\r\n";
    response::read_any(&stream.to_owned().into(), context("openai"), &mut parts).unwrap();
    assert_eq!(text(&parts), "a");
}

// === anything at all ===

/// JSON of the shapes that chunks have, with values of any type in every place.
fn chunk() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop_oneof![
            "",
            "stop",
            "length",
            "tool_calls",
            "<think>",
            "</think>",
            "\\{\"a\":1\\}",
            "null",
            "[ -~]{0,12}"
        ]
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        let key = prop::sample::select(vec![
            "choices",
            "delta",
            "message",
            "content",
            "reasoning",
            "reasoning_details",
            "tool_calls",
            "function",
            "name",
            "arguments",
            "id",
            "index",
            "finish_reason",
            "usage",
            "error",
            "type",
            "text",
            "thinking",
            "refusal",
            "prompt_tokens",
            "total_tokens",
            "extra_content",
            "google",
            "thought_signature",
            "signature",
            "object",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(key, inner, 0..6)
                .prop_map(|map| map.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<Value>()),
        ]
    })
}

fn likely_chunk() -> impl Strategy<Value = Value> {
    let piece = (
        prop::option::of(0u64..3),
        prop::option::of("[ab]?"),
        prop::option::of("[TU]?"),
        prop_oneof!["", "\\{", "\"a\":1", "\\}", "null", " "],
    )
        .prop_map(|(index, id, name, arguments)| {
            call_piece(index, id.as_deref(), name.as_deref(), &json!(arguments))
        });
    prop_oneof![
        piece,
        "[a <>/think]{0,8}".prop_map(|text| delta(&json!({"content": text}))),
        "[a ]{0,3}".prop_map(|text| delta(&json!({"reasoning": text}))),
        prop::sample::select(vec!["stop", "length", "tool_calls", "error"]).prop_map(finish),
        Just(usage()),
        Just(json!({"error": {"message": "m"}})),
    ]
}

fn is_start(part: &Part<'_>) -> bool {
    matches!(part, Part::Start { .. })
}

fn is_end(part: &Part<'_>) -> bool {
    matches!(part, Part::End { .. })
}

proptest! {
    #[test]
    fn no_event_makes_the_reader_panic_or_end_twice(events in prop::collection::vec(prop_oneof![likely_chunk(), chunk()], 0..12), variant in prop::sample::select(crate::dialect::table::NAMES)) {
        let parts = match read(variant, &events) {
            Ok(parts) => {
                let (starts, ends) = (parts.first().is_some_and(is_start), parts.last().is_some_and(is_end));
                prop_assert!(starts && ends);
                parts
            }
            Err((parts, _)) => parts,
        };
        let count = |wanted: fn(&Part<'_>) -> bool| parts.iter().filter(|part| wanted(part)).count();
        prop_assert!(count(is_start) <= 1);
        prop_assert!(count(is_end) <= 1);
        for (_, name, arguments) in calls(&parts) {
            prop_assert!(!name.is_empty());
            prop_assert!(serde_json::from_str::<Value>(&arguments).unwrap().is_object());
        }
    }
}

#[test]
fn a_stop_string_that_the_upstream_does_not_know_ends_the_answer() {
    let stops = || Context { stops: ["END".to_owned()].into(), ..context("openai") };
    let text = |text: &str| delta(&json!({"content": text})).to_string();
    let call = delta(
        &json!({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "T", "arguments": "{}"}}]}),
    );
    let parts = read_with(stops(), &[text("one E"), text("ND two"), call.to_string()]).unwrap();
    let said: String = parts
        .iter()
        .filter_map(|part| if let Part::Text(text) = part { Some(text.as_ref()) } else { None })
        .collect();
    assert_eq!(said, "one ");
    assert!(
        matches!(parts.last(), Some(Part::End { stop: Stop::StopSequence(Some(met)), .. }) if met == "END")
    );
    let parts = read_with(stops(), &[text("one EN"), finish("stop").to_string()]).unwrap();
    assert!(parts.contains(&Part::Text("EN".into())), "what only looked like one is given: {parts:?}");
    let parts = read_with(stops(), &[text("END")]).unwrap();
    assert!(matches!(parts.as_slice(), [Part::Start { .. }, Part::End { stop: Stop::StopSequence(_), .. }]));
}

#[test]
fn a_call_with_free_text_becomes_one_with_an_object() {
    let piece = |custom: Value| {
        delta(&json!({"tool_calls": [{"index": 0, "id": "c1", "type": "custom", "custom": custom}]}))
    };
    let parts = read(
        "openai",
        &[
            piece(json!({"name": "apply", "input": ""})),
            piece(json!({"input": "*** {\"a\"}"})),
            piece(json!({"input": "\n*** End"})),
            finish("tool_calls"),
            usage(),
        ],
    )
    .unwrap();
    let Some(Part::Call { name, arguments, .. }) = parts.get(1) else { panic!("{parts:?}") };
    assert_eq!(name, "apply");
    let arguments: Value = serde_json::from_str(arguments).unwrap();
    assert_eq!(arguments, json!({"input": "*** {\"a\"}\n*** End"}));
}
