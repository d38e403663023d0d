#![allow(clippy::unwrap_used)]

use super::*;

fn question(arguments: Value) -> Result<Question, BadArgs> {
    Question::take(&mut Args::new("tool", arguments.as_object().cloned()))
}

fn sent(arguments: Value) -> Value {
    let request = request(RequestId("req_1".into()), &question(arguments).unwrap(), "a\"b", Some("p"), None);
    let span = request.facts.head.model_span.clone();
    assert_eq!(&request.body[span], b"\"a\\\"b\"");
    serde_json::from_slice(&request.body).unwrap()
}

#[test]
fn plain_text_becomes_one_user_message_of_a_streaming_request() {
    let body = sent(json!({ "messages": "hi" }));
    assert_eq!(
        body,
        json!({
            "model": "a\"b", "stream": true, "max_tokens": MAX_TOKENS,
            "messages": [{ "role": "user", "content": "hi" }]
        })
    );
}

#[test]
fn the_other_dialects_messages_and_tools_are_understood() {
    let body = sent(json!({
        "messages": [
            { "role": "system", "content": "be short" },
            { "role": "user", "content": [{ "type": "image_url", "image_url": { "url": "data:image/png;base64,AA==" } }] },
            { "role": "assistant", "content": null,
              "tool_calls": [{ "id": "c1", "type": "function", "function": { "name": "f", "arguments": "{\"a\":1}" } }] },
            { "role": "tool", "tool_call_id": "c1", "content": "42" }
        ],
        "tools": [
            { "type": "function", "function": { "name": "f", "parameters": { "type": "object", "properties": {} } } },
            { "name": "g", "input_schema": { "type": "object" } }
        ],
        "tool_choice": "required"
    }));
    assert_eq!(body["system"], "be short");
    assert_eq!(body["messages"][0]["content"][0]["source"]["media_type"], "image/png");
    assert_eq!(
        body["messages"][1]["content"],
        json!([{ "type": "tool_use", "id": "c1", "name": "f", "input": { "a": 1 } }])
    );
    assert_eq!(
        body["messages"][2]["content"],
        json!([{ "type": "tool_result", "tool_use_id": "c1", "content": "42" }])
    );
    assert_eq!(
        body["tools"][0],
        json!({ "name": "f", "input_schema": { "type": "object", "properties": {} } })
    );
    assert_eq!(body["tools"][1], json!({ "name": "g", "input_schema": { "type": "object" } }));
    assert_eq!(body["tool_choice"], json!({ "type": "any" }));
}

#[test]
fn effort_and_format_become_output_config() {
    let body = sent(json!({
        "messages": "hi", "reasoning_effort": "high",
        "response_format": { "type": "json_schema", "json_schema": { "name": "x", "schema": { "type": "object" } } }
    }));
    assert_eq!(body["thinking"], json!({ "type": "adaptive" }));
    assert_eq!(
        body["output_config"],
        json!({ "effort": "high", "format": { "type": "json_schema", "schema": { "type": "object" } } })
    );
    assert_eq!(body["max_tokens"], MAX_TOKENS_REASONING);
    assert_eq!(sent(json!({ "messages": "x", "reasoning_effort": "none" }))["thinking"]["type"], "disabled");
}

#[test]
fn attachments_stand_before_the_words_and_after_results_of_tools() {
    let mut asked = question(json!({ "messages": [{ "role": "user", "content": [
        { "type": "tool_result", "tool_use_id": "t", "content": "r" }, { "type": "text", "text": "q" }
    ] }] }))
    .unwrap();
    asked.attach(vec![json!({ "type": "image" })]);
    let kinds: Vec<_> =
        asked.messages[0]["content"].as_array().unwrap().iter().map(|b| b["type"].clone()).collect();
    assert_eq!(kinds, ["tool_result", "image", "text"]);
}

#[test]
fn wrong_shapes_are_refused_with_what_they_should_be() {
    for (arguments, says) in [
        (json!({ "messages": 5 }), "`messages` must be text"),
        (json!({ "messages": [{ "role": "wizard", "content": "x" }] }), "`role` must be"),
        (json!({ "messages": [{ "role": "tool", "content": "x" }] }), "tool_call_id"),
        (json!({ "messages": "x", "reasoning_effort": "enormous" }), "`reasoning_effort` must be"),
        (json!({ "messages": "x", "max_tokens": 0 }), "at least 1"),
        (json!({ "messages": "x", "tools": [{ "x": 1 }] }), "`tools` must be"),
        (json!({ "messages": "x", "response_format": 5 }), "`response_format` must be"),
    ] {
        let error = question(arguments).unwrap_err();
        assert!(error.0.contains(says), "{error}");
    }
}
