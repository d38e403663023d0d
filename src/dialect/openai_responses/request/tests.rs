#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::{Value, json};

use super::*;
use crate::dialect::table::by_name;

fn target() -> Target<'static> {
    Target::new("gpt-5.4", by_name("openai").unwrap())
}

fn sent(body: &Value) -> Value {
    let Translation::Send(translated) = from_messages(body.to_string().as_bytes(), &target()).unwrap() else {
        panic!()
    };
    serde_json::from_slice(&translated.body).unwrap()
}

fn input(messages: &Value) -> Value {
    sent(&json!({"model": "m", "max_tokens": 100, "messages": messages}))["input"].clone()
}

fn call(id: &str) -> Value {
    json!({"type": "tool_use", "id": id, "name": "Read", "input": {"path": "a"}})
}

fn carried(model: &str) -> Value {
    let item = serde_json::value::RawValue::from_string(
        r#"{"type":"reasoning","id":"rs","summary":[],"encrypted_content":"E"}"#.to_owned(),
    );
    let carrier = Carrier {
        dialect: "openai".to_owned(),
        model: model.to_owned(),
        item: item.ok(),
        ..Carrier::default()
    };
    json!({"type": "thinking", "thinking": "", "signature": carrier.write()})
}

#[test]
fn a_claude_code_request_becomes_a_responses_request() {
    let body = include_bytes!("../../../../tests/fixtures/chat/claude_code.request.json");
    let target = Target { session: Some("session-1"), ..target() };
    let Translation::Send(translated) = from_messages(body, &target).unwrap() else { panic!() };
    let value: Value = serde_json::from_slice(&translated.body).unwrap();
    insta::assert_json_snapshot!("claude_code", value);
}

#[test]
fn reasoning_goes_back_right_before_what_it_led_to_or_not_at_all() {
    let history = json!([{"role": "user", "content": "x"}, {"role": "assistant", "content": [carried("gpt-5.4"), call("a")]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "r"}]}]);
    let out = input(&history);
    assert_eq!(out[1]["encrypted_content"], "E");
    assert_eq!(
        out[2],
        json!({"type": "function_call", "call_id": "a", "name": "Read", "arguments": "{\"path\":\"a\"}"})
    );
    assert_eq!(out[3], json!({"type": "function_call_output", "call_id": "a", "output": "r"}));
    for lone in [json!([carried("gpt-5.4")]), json!([carried("other"), {"type": "text", "text": "t"}])] {
        let out = input(&json!([{"role": "assistant", "content": lone}, {"role": "user", "content": "y"}]));
        assert!(!out.to_string().contains("encrypted_content"), "{out}");
    }
}

#[test]
fn every_call_gets_exactly_one_output_and_none_is_lost() {
    let result =
        |id: &str, content: Value| json!({"type": "tool_result", "tool_use_id": id, "content": content});
    let image =
        json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QQ=="}});
    let out = input(&json!([{"role": "user", "content": [result("ghost", json!("boo"))]},
        {"role": "assistant", "content": [call("a"), call("b")]}, {"role": "user", "content": [result("a", json!([image])), result("a", json!("again"))]}]));
    let outputs: Vec<&Value> =
        out.as_array().unwrap().iter().filter(|item| item["type"] == "function_call_output").collect();
    assert_eq!(outputs.len(), 2);
    assert_eq!(outputs[0]["output"], "[tool call was interrupted; no result]");
    assert_eq!(outputs[1]["output"][0]["image_url"], "data:image/png;base64,QQ==");
    let text = out.to_string();
    assert!(text.contains("[result of tool ghost] boo") && text.contains("[result of tool a] again"));
}

#[test]
fn the_limit_is_never_below_what_the_server_takes() {
    let out = sent(
        &json!({"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}], "stop_sequences": ["a"]}),
    );
    assert_eq!(out["max_output_tokens"], 16);
    assert!(out.get("stop").is_none() && out["store"] == false);
}

#[test]
fn what_was_said_on_the_way_to_a_call_is_told_from_an_answer() {
    let history = json!([{"role": "user", "content": "x"},
        {"role": "assistant", "content": [{"type": "text", "text": "I look"}, call("a")]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "r"}]},
        {"role": "assistant", "content": "It is so"}, {"role": "user", "content": "y"}]);
    let phases = |model: &str| -> Vec<Value> {
        let body = json!({"model": "m", "max_tokens": 9, "messages": history});
        let target = Target::new(model, by_name("openai").unwrap());
        let Translation::Send(sent) = from_messages(body.to_string().as_bytes(), &target).unwrap() else {
            panic!()
        };
        let sent: Value = serde_json::from_slice(&sent.body).unwrap();
        let items = sent["input"].as_array().unwrap().iter();
        items.filter(|item| item["role"] == "assistant").map(|item| item["phase"].clone()).collect()
    };
    assert_eq!(phases("gpt-5.4"), ["commentary", "final_answer"]);
    assert_eq!(phases("gpt-5.2"), [Value::Null, Value::Null], "older models know nothing of it");
}

#[test]
fn a_search_keeps_its_filters_and_its_place() {
    let out = sent(&json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "q"}],
        "tools": [{"name": "f", "input_schema": {"type": "object"}},
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 3, "allowed_domains": ["a.example"],
             "blocked_domains": null, "user_location": {"type": "approximate", "city": "Bern"}}]}));
    assert_eq!(out["include"], json!(["reasoning.encrypted_content", "web_search_call.action.sources"]));
    assert_eq!(
        out["tools"][1],
        json!({"type": "web_search", "filters": {"allowed_domains": ["a.example"]},
            "user_location": {"type": "approximate", "city": "Bern"}})
    );
}
