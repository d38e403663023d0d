#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::{Value, json};

use super::*;

fn read(more: Value, is_anthropic: bool) -> Result<Value, Invalid> {
    let mut body = json!({"model": "m"});
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    let to = Destination::new("claude-opus-4-8", is_anthropic);
    to_messages(body.to_string().as_bytes(), &to).map(|bytes| serde_json::from_slice(&bytes).unwrap())
}

#[test]
fn a_conversation_of_items_is_read_in_its_order() {
    let ours = crate::dialect::carrier::Carrier::default().write();
    let items = json!([
        {"role": "developer", "content": "be brief"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "look"},
            {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "anthropic.c2ln"},
        {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": ours},
        {"type": "reasoning", "id": "rs_3", "summary": [], "encrypted_content": "gAAAA-of-openai"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "well"}]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{\"a\":1}"},
        {"type": "custom_tool_call", "call_id": "c2", "name": "g", "input": "raw"},
        {"type": "function_call", "call_id": "c3", "namespace": "mcp__s", "name": "h", "arguments": ""},
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "one"}]},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": "two"},
        {"type": "function_call_output", "call_id": "c3", "output": "three"},
    ]);
    let body = read(json!({"instructions": "be kind", "input": items}), true).unwrap();
    let system: Vec<&str> =
        body["system"].as_array().unwrap().iter().map(|b| b["text"].as_str().unwrap()).collect();
    assert_eq!(system, ["be kind", "be brief"]);
    let said = &body["messages"][1]["content"];
    assert_eq!(said[0], json!({"type": "thinking", "thinking": "hm", "signature": "c2ln"}));
    assert_eq!(said[1], json!({"type": "text", "text": "well"}));
    let names: Vec<&str> =
        said.as_array().unwrap()[2..].iter().map(|b| b["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["f", "g", "mcp__s__h"]);
    assert_eq!(said[3]["input"], json!({"input": "raw"}));
    let results: Vec<&str> = body["messages"][2]["content"]
        .as_array()
        .unwrap()
        .iter()
        .map(|b| b["content"].as_str().unwrap())
        .collect();
    assert_eq!(results, ["one", "two", "three"]);
    let other = read(json!({"input": items}), false).unwrap();
    assert_eq!(other["messages"][1]["content"][0]["signature"], ours);
}

#[test]
fn settings_have_their_places() {
    let body = read(
        json!({"input": "hi", "max_output_tokens": 77, "reasoning": {"effort": "low", "summary": "auto"},
            "text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}}},
            "tools": [{"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}},
                {"type": "custom", "name": "g"}, {"type": "web_search"}, {"type": "file_search"},
                {"type": "namespace", "name": "ns", "tools": [{"type": "function", "name": "h"}]}],
            "tool_choice": "auto", "parallel_tool_calls": false, "store": true}),
        true,
    )
    .unwrap();
    assert_eq!((&body["max_tokens"], &body["output_config"]["effort"]), (&json!(77), &json!("low")));
    let names: Vec<&str> =
        body["tools"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["f", "g", "ns__h", "web_search"]);
    assert_eq!(body["tool_choice"], json!({"type": "auto", "disable_parallel_tool_use": true}));
    assert_eq!(body["messages"], json!([{"role": "user", "content": [{"type": "text", "text": "hi"}]}]));
}

#[test]
fn what_would_have_to_be_stored_is_refused_by_its_name() {
    let refused = |more: Value| read(more, true).unwrap_err().param;
    assert_eq!(refused(json!({"input": "a", "previous_response_id": "resp_1"})), "previous_response_id");
    assert_eq!(refused(json!({"input": "a", "background": true})), "background");
    assert_eq!(refused(json!({"input": [{"type": "item_reference", "id": "x"}]})), "input.0");
    assert_eq!(refused(json!({"input": []})), "input");
    assert_eq!(refused(json!({"input": [{"type": "function_call", "name": "f"}]})), "input.0.call_id");
    assert!(refused(json!({"input": [{"role": "user", "content": 5}]})).starts_with("input.0"));
    assert!(read(json!({"input": "a", "previous_response_id": null}), true).is_ok());
}
