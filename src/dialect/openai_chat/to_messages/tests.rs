#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::{Value, json};

use super::*;

fn read(model: &str, more: Value) -> Result<Value, Invalid> {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    let to = Destination::new(model, true);
    to_messages(body.to_string().as_bytes(), &to).map(|bytes| serde_json::from_slice(&bytes).unwrap())
}

#[test]
fn settings_have_their_places() {
    let body = read(
        "claude-sonnet-4-5",
        json!({"temperature": 1.7, "top_p": 0.5, "stop": ["a", " "], "max_tokens": 50, "user": "u", "seed": 3, "stream": true,
            "parallel_tool_calls": false, "tools": [{"type": "function", "function": {"name": "f"}}]}),
    )
    .unwrap();
    assert_eq!((&body["temperature"], body.get("top_p")), (&json!(1), None));
    assert_eq!((&body["stop_sequences"], &body["max_tokens"]), (&json!(["a"]), &json!(50)));
    assert_eq!((&body["metadata"]["user_id"], &body["stream"]), (&json!("u"), &json!(true)));
    assert_eq!(body["tool_choice"], json!({"type": "auto", "disable_parallel_tool_use": true}));
    assert_eq!(body["tools"][0]["input_schema"], json!({"type": "object", "properties": {}}));
    let newest = read("claude-opus-4-8", json!({"temperature": 0.3})).unwrap();
    assert!(newest.get("temperature").is_none() && newest["max_tokens"].as_u64() > Some(1000));
}

#[test]
fn reasoning_is_wished_in_the_models_own_words() {
    let adaptive = read("claude-opus-4-8", json!({"reasoning_effort": "minimal"})).unwrap();
    assert_eq!(
        (&adaptive["thinking"]["type"], &adaptive["output_config"]["effort"]),
        (&json!("adaptive"), &json!("low"))
    );
    let older = read(
        "claude-sonnet-4-5",
        json!({"reasoning_effort": "high", "max_completion_tokens": 100,
        "tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "required"}),
    )
    .unwrap();
    assert_eq!(older["thinking"], json!({"type": "enabled", "budget_tokens": 16384}));
    assert!(older["max_tokens"].as_u64() > Some(16384));
    assert_eq!(older["tool_choice"]["type"], "auto", "who reasons can't be forced to call");
    let off = read("claude-opus-4-8", json!({"reasoning_effort": "none"})).unwrap();
    assert_eq!(off["thinking"]["type"], "disabled");
}

#[test]
fn choices_name_tools_of_the_list_or_cut_it() {
    let tools =
        json!([{"type": "function", "function": {"name": "f"}}, {"type": "custom", "custom": {"name": "g"}}]);
    let with = |choice: Value| read("claude-opus-4-8", json!({"tools": tools, "tool_choice": choice}));
    let named = with(json!({"type": "function", "function": {"name": "f"}})).unwrap();
    assert_eq!(named["tool_choice"], json!({"type": "tool", "name": "f"}));
    let allowed = json!({"type": "allowed_tools", "allowed_tools": {"mode": "required",
        "tools": [{"type": "custom", "custom": {"name": "g"}}]}});
    let allowed = with(allowed).unwrap();
    assert_eq!(
        (allowed["tools"].as_array().unwrap().len(), &allowed["tool_choice"]["type"]),
        (1, &json!("any"))
    );
    assert_eq!(
        with(json!({"type": "function", "function": {"name": "x"}})).unwrap_err().param,
        "tool_choice"
    );
    assert!(
        read("m", json!({"tool_choice": "auto"})).unwrap().get("tool_choice").is_none(),
        "none without tools"
    );
}

#[test]
fn what_cannot_be_is_refused_by_its_name() {
    let refused = |more: Value| read("claude-opus-4-8", more).unwrap_err().param;
    let user = |part: Value| json!({"messages": [{"role": "user", "content": [part]}]});
    assert_eq!(refused(json!({"n": 2})), "n");
    assert_eq!(refused(json!({"messages": []})), "messages");
    assert_eq!(refused(json!({"messages": [{"role": "user", "content": 7}]})), "messages.0.content");
    assert_eq!(refused(json!({"messages": [{"role": "wizard", "content": "a"}]})), "messages.0.role");
    assert_eq!(refused(user(json!({"type": "input_audio", "input_audio": {}}))), "messages.0.content.0.type");
    let bmp = json!({"type": "image_url", "image_url": {"url": "data:image/bmp;base64,AAAA"}});
    assert_eq!(refused(user(bmp)), "messages.0.content.0");
    assert_eq!(refused(user(json!({"type": "file", "file": {"file_id": "f1"}}))), "messages.0.content.0");
}

#[test]
fn images_and_files_become_blocks() {
    let body = read(
        "claude-opus-4-8",
        json!({"messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "data:image/jpg;base64,AAAA", "detail": "low"}},
            {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}},
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,BBBB"}},
            {"type": "file", "file": {"file_data": "data:text/plain;base64,aGVsbG8="}},
            {"type": "text", "text": "see", "cache_control": {"type": "ephemeral"}}]}]}),
    )
    .unwrap();
    let blocks = &body["messages"][0]["content"];
    assert_eq!(blocks[0]["source"], json!({"type": "base64", "media_type": "image/jpeg", "data": "AAAA"}));
    assert_eq!(blocks[1]["source"], json!({"type": "url", "url": "https://x.example/a.png"}));
    assert_eq!((&blocks[2]["type"], &blocks[2]["title"]), (&json!("document"), &json!("a.pdf")));
    assert_eq!(blocks[3]["source"]["data"], "hello");
    assert_eq!(blocks[4]["cache_control"], json!({"type": "ephemeral"}));
}

#[test]
fn reasoning_goes_back_to_those_who_signed_it_and_to_nobody_else() {
    let ours = crate::dialect::carrier::Carrier::default().write();
    let messages = json!({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a",
        "reasoning_content": "shown", "reasoning_details": [
            {"type": "reasoning.text", "text": "t", "index": 0}, {"type": "reasoning.text", "text": "w", "index": 0},
            {"type": "reasoning.text", "text": "o", "signature": "c2ln", "format": ANTHROPIC_FORMAT, "index": 0},
            {"type": "reasoning.text", "signature": "c2ln2", "format": ANTHROPIC_FORMAT},
            {"type": "reasoning.text", "text": "of ours", "signature": ours},
            {"type": "reasoning.encrypted", "data": "enc", "format": ANTHROPIC_FORMAT},
            {"type": "reasoning.encrypted", "data": "openai's", "format": "openai-responses-v1"}]},
        {"role": "user", "content": "on"}]});
    let anthropic = read("claude-opus-4-8", messages.clone()).unwrap();
    assert_eq!(
        anthropic["messages"][1]["content"],
        json!([{"type": "thinking", "thinking": "two", "signature": "c2ln"},
            {"type": "thinking", "thinking": "shown", "signature": "c2ln2"},
            {"type": "redacted_thinking", "data": "enc"}, {"type": "text", "text": "a"}])
    );
    let mut body = messages;
    body["model"] = "m".into();
    let to = Destination::new("m", false);
    let other: Value =
        serde_json::from_slice(&to_messages(body.to_string().as_bytes(), &to).unwrap()).unwrap();
    let blocks = other["messages"][1]["content"].as_array().unwrap();
    assert_eq!((blocks.len(), &blocks[0]["signature"]), (2, &json!(ours)));
}

#[test]
fn a_schema_whose_root_is_a_union_becomes_one_object() {
    let schema = json!({"anyOf": [
        {"type": "object", "properties": {"a": {"type": "string"}, "k": {}}, "required": ["a", "k"]},
        {"type": "object", "properties": {"b": {"type": "number"}, "k": {}}, "required": ["b", "k"]}]});
    let tools = json!([{"type": "function", "function": {"name": "f", "parameters": schema}}]);
    let body = read("claude-opus-4-8", json!({"tools": tools})).unwrap();
    let cleaned = &body["tools"][0]["input_schema"];
    assert_eq!((&cleaned["type"], &cleaned["required"]), (&json!("object"), &json!(["k"])));
    assert_eq!(cleaned["properties"].as_object().unwrap().len(), 3);
    assert!(cleaned.get("anyOf").is_none());
}

#[test]
fn the_wish_for_json_is_passed_on() {
    let schema = json!({"type": "object", "properties": {}});
    let format =
        json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": true}});
    let body = read("claude-opus-4-8", json!({"response_format": format})).unwrap();
    assert_eq!(body["output_config"]["format"], json!({"type": "json_schema", "schema": schema}));
    let body = read("claude-opus-4-8", json!({"response_format": {"type": "json_object"}})).unwrap();
    assert!(body["system"][0]["text"].as_str().unwrap().contains("JSON"));
}
