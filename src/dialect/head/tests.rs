#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::*;

const LEAST: &str = r#"{"model":"m","messages":[]}"#;

fn head(body: &str) -> Head {
    scan(body.as_bytes()).unwrap()
}

fn with(field: &str) -> Result<Head, BodyError> {
    scan(format!(r#"{{"model":"m","messages":[],{field}}}"#).as_bytes())
}

fn with_content(content: &str) -> Head {
    head(&format!(r#"{{"model":"m","messages":[{{"role":"user","content":{content}}}]}}"#))
}

#[test]
fn the_facts_of_a_request_are_found() {
    let body = r#" {"model" : "claude-x", "messages":[{"role":"user","content":"hi"}], "system":[{"type":"text","text":"be kind"}],
        "tools":[{"name":"a","input_schema":{}},{"type":"web_search_20250305","name":"web_search"}],
        "metadata":{"user_id":"{\"device_id\":\"d\",\"session_id\":\"s-1\"}"},
        "max_tokens":64000,"thinking":{"type":"adaptive"},"stream":true} "#;
    let head = head(body);
    assert_eq!(head.model, "claude-x");
    assert_eq!(&body[head.model_span.clone()], "\"claude-x\"");
    assert!(head.stream && head.thinking && head.web_search);
    assert_eq!((head.max_tokens, head.tools), (Some(64_000), 2));
    assert_eq!(head.session.as_deref(), Some("s-1"));
    assert!(!head.images && !head.documents);
    assert!(head.estimated_tokens > 0);
}

#[test]
fn a_missing_or_wrong_field_is_named() {
    let error = |body: &str| scan(body.as_bytes()).unwrap_err().to_string();
    assert_eq!(error(r#"{"messages":[]}"#), "model: Field required");
    assert_eq!(error(r#"{"model":"m"}"#), "messages: Field required");
    assert_eq!(error(r#"{"model":7,"messages":[]}"#), "model: Input should be a valid string");
    assert_eq!(error(r#"{"model":"m","messages":{}}"#), "messages: Input should be a valid list");
    assert_eq!(with(r#""stream":"yes""#).unwrap_err().to_string(), "stream: Input should be a valid boolean");
    assert!(with(r#""max_tokens":-1"#).is_err() && with(r#""max_tokens":1.5"#).is_err());
    assert_eq!(with(r#""max_tokens":1024.0"#).unwrap().max_tokens, Some(1024));
    assert_eq!(with(r#""max_tokens":null,"stream":null,"tools":null"#).unwrap().max_tokens, None);
    assert_eq!(scan(b"[]").unwrap_err(), BodyError::NotAnObject);
    assert!(error("").contains("ends at byte 0"));
    assert!(matches!(scan(b"{\"model\":\"\xFF\"}").unwrap_err(), BodyError::NotJson(_)));
}

#[test]
fn broken_json_is_refused_even_after_the_facts_are_known() {
    for end in
        ["", "}]", "} x", ",}", ",\"a\"}", ",\"a\":}", ",\"a\":01}", ",\"a\":\"\t\"}", ",\"a\":\"\\x\"}"]
    {
        let body = format!("{}{end}", &LEAST[..LEAST.len() - 1]);
        assert!(matches!(scan(body.as_bytes()), Err(BodyError::NotJson(_))), "{body}");
    }
}

#[test]
fn of_a_key_that_comes_twice_the_last_counts() {
    let body =
        r#"{"model":"first","messages":[{"content":[{"type":"image"}]}],"model":"last","messages":[]}"#;
    let head = head(body);
    assert_eq!(head.model, "last");
    assert_eq!(head.model_span.start, body.rfind("\"last\"").unwrap());
    assert!(!head.images);
}

#[test]
fn escapes_in_keys_and_in_the_model_are_read() {
    let body = r#"{"mod\u0065l":"cl\u0061ude\n","messages":[]}"#;
    assert_eq!(head(body).model, "claude\n");
    assert!(scan(br#"{"model":"\ud800","messages":[]}"#).is_err(), "half a surrogate pair is no text");
}

#[test]
fn images_and_documents_are_found_wherever_blocks_may_stand() {
    let image = r#"{"source":{"type":"base64","media_type":"image/png","data":"AAAA"},"type":"image"}"#;
    assert!(with_content(&format!("[{image}]")).images);
    assert!(
        with_content(&format!(r#"[{{"content":[{image}],"type":"tool_result","tool_use_id":"t"}}]"#)).images
    );
    let document = with_content(&format!(
        r#"[{{"type":"document","source":{{"type":"content","content":[{image}]}}}}]"#
    ));
    assert!(document.images && document.documents);
}

#[test]
fn text_and_arguments_that_speak_of_images_are_no_images() {
    let text = r#"[{"type":"text","text":"{\"type\":\"image\"} , {\"type\": \"document\"}"}]"#;
    let input =
        r#"[{"type":"tool_use","id":"t","name":"n","input":{"type":"image","content":[{"type":"image"}]}}]"#;
    let schema = r#"{"model":"m","messages":[],"tools":[{"name":"n","input_schema":{"type":"image"}}]}"#;
    for head in [with_content(text), with_content(input), head(schema)] {
        assert!(!head.images && !head.documents);
    }
}

#[test]
fn nesting_is_refused_beyond_the_limit_in_any_place() {
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    assert!(with(&format!(r#""x":{}"#, nested(MAX_DEPTH - 1))).is_ok());
    assert_eq!(with(&format!(r#""x":{}"#, nested(MAX_DEPTH))).unwrap_err(), BodyError::TooDeep);

    let places = [
        r#"{"x":"#.to_owned(),
        r#"{"messages":"#.to_owned(),
        r#"{"messages":[{"content":"#.to_owned(),
        r#"{"tools":"#.to_owned(),
        String::new(),
    ];
    for place in &places {
        for bomb in ["[".repeat(100_000), r#"{"a":"#.repeat(100_000), r#"[{"content":"#.repeat(100_000)] {
            let body = format!("{place}{bomb}");
            assert_eq!(scan(body.as_bytes()).unwrap_err(), BodyError::TooDeep, "{place}");
        }
    }
    let blocks =
        format!(r#"{{"messages":[{{"content":{}"#, r#"[{"type":"tool_result","content":"#.repeat(100_000));
    assert_eq!(scan(blocks.as_bytes()).unwrap_err(), BodyError::TooDeep);
}

#[test]
fn the_session_is_read_in_both_forms() {
    assert_eq!(session(r#"{"session_id":"abc"}"#).as_deref(), Some("abc"));
    assert_eq!(session("user_1f_account__session_0a-b").as_deref(), Some("0a-b"));
    assert_eq!(session("somebody"), None);
    assert_eq!(session("{broken"), None);
}

#[test]
fn image_data_does_not_count_as_text() {
    let image = |data: &str| {
        with_content(&format!(r#"[{{"type":"image","source":{{"type":"base64","data":"{data}"}}}}]"#))
            .estimated_tokens
    };
    assert_eq!(image("AAAA"), image(&"A".repeat(1_000_000)));
    // A PNG of 300 x 250 points: 100 tokens.
    let png = "iVBORw0KGgoAAAANSUhEUgAAASwAAAD6CAYAAAA=";
    assert!((100..120).contains(&image(png)), "{}", image(png));
}

#[test]
fn a_text_document_counts_as_its_text() {
    let text = "word ".repeat(4000);
    let plain = with_content(&format!("\"{text}\"")).estimated_tokens;
    let document = with_content(&format!(
        r#"[{{"source":{{"data":"{text}","media_type":"text/plain","type":"text"}},"type":"document"}}]"#
    ));
    assert!(document.documents);
    assert_eq!(document.estimated_tokens, plain);
}

#[test]
fn the_estimate_for_any_body_is_that_of_the_scan_and_never_zero() {
    for body in [LEAST, r#"{"messages":[{"content":"hello"}]}"#, "", "x", "null"] {
        assert!(crate::dialect::tokens::estimate(body.as_bytes()) > 0, "{body}");
    }
    assert_eq!(crate::dialect::tokens::estimate(LEAST.as_bytes()), head(LEAST).estimated_tokens);
}

fn json_values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(json!("text")),
        Just(json!("image")),
    ];
    let key = prop_oneof![
        Just("model".to_owned()),
        Just("messages".to_owned()),
        Just("content".to_owned()),
        Just("source".to_owned()),
        Just("type".to_owned()),
        Just("tools".to_owned()),
        any::<String>(),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Whether serde_json takes the text as one JSON value.
fn is_json(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

proptest! {
    #[test]
    fn the_scan_accepts_what_serde_json_accepts(value in json_values(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        let verdict = scan(text.as_bytes());
        prop_assert!(!matches!(verdict, Err(BodyError::NotJson(_))), "{text}: {verdict:?}");
        prop_assert_eq!(matches!(verdict, Err(BodyError::NotAnObject)), !value.is_object());
    }

    #[test]
    fn a_damaged_body_is_refused_exactly_when_serde_json_refuses_it(
        value in json_values(), at in any::<usize>(), with in any::<u8>(), cut in any::<bool>(),
    ) {
        let mut text = json!({"model": "m", "messages": [{"content": value}], "x": -1.5e3}).to_string().into_bytes();
        let at = at % text.len();
        if cut { text.truncate(at) } else { text[at] = with }
        let refused = matches!(scan(&text), Err(BodyError::NotJson(_)));
        prop_assert_eq!(refused, !is_json(&text), "{}", String::from_utf8_lossy(&text));
    }

    #[test]
    fn the_splice_changes_the_model_and_no_other_byte(
        before in "[ \n\t]{0,3}", gap in "[ \n]{0,2}", old in any::<String>(), new in any::<String>(),
        number in "[1-9][0-9]{0,40}(\\.[0-9]{1,30})?", other in json_values(), doubled in any::<bool>(),
    ) {
        let old = serde_json::to_string(&old).unwrap();
        let twice = if doubled { r#""model":"earlier","x":1,"x":2,"# } else { "" };
        let prefix = format!(r#"{before}{{"z":{number},{twice}"mod\u0065l"{gap}:{gap}"#);
        let suffix = format!(r#"{gap},"messages":[],"\/unknown":{other},"a":1.0e+2}}{before}"#);
        let body = Bytes::from(format!("{prefix}{old}{suffix}"));
        let span = scan(&body).unwrap().model_span;
        let spliced = splice_model(&body, &span, &new);
        let model = &spliced[prefix.len()..spliced.len() - suffix.len()];
        prop_assert_eq!(&spliced[..prefix.len()], prefix.as_bytes());
        prop_assert_eq!(&spliced[spliced.len() - suffix.len()..], suffix.as_bytes());
        prop_assert_eq!(serde_json::from_slice::<String>(model).unwrap(), new.clone());
        prop_assert_eq!(scan(&spliced).unwrap().model, new);
    }
}
