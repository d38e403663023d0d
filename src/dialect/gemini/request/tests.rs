#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::{Value, json};

use super::*;
use crate::dialect::table;

fn written(model: &str, more: Value) -> Value {
    let mut body = json!({"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]});
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    let target = Target::new(model, table::by_name("gemini").unwrap());
    match from_messages(body.to_string().as_bytes(), &target).unwrap() {
        Translation::Send(translated) => serde_json::from_slice(&translated.body).unwrap(),
        Translation::Answer(parts) => panic!("{parts:?}"),
    }
}

#[test]
fn the_model_stands_in_the_path_and_nothing_else_gets_in() {
    assert_eq!(path("gemini-2.5-pro", false), "/v1beta/models/gemini-2.5-pro:generateContent");
    assert_eq!(path("models/x", true), "/v1beta/models/x:streamGenerateContent?alt=sse");
    assert_eq!(path("a?key=b#c d", false), "/v1beta/models/a%3Fkey%3Db%23c%20d:generateContent");
}

#[test]
fn settings_have_their_places() {
    let body = written(
        "gemini-2.5-flash",
        json!({
            "system": [{"type": "text", "text": "x-anthropic-billing-header: a"}, {"type": "text", "text": "Be brief."}],
            "temperature": 0.5, "top_p": 0.9, "top_k": 40, "stop_sequences": ["a", "b", "c", "d", "e", "f"],
            "output_config": {"format": {"type": "json_schema", "schema": {"type": "object", "properties": {}}}},
            "tools": [{"name": "t", "description": "d", "input_schema": {"type": "object", "properties": {"a": {"const": 1}}}}],
            "tool_choice": {"type": "tool", "name": "t"},
        }),
    );
    assert_eq!(body["systemInstruction"]["parts"], json!([{"text": "Be brief."}]));
    let config = &body["generationConfig"];
    assert_eq!(config["maxOutputTokens"], 100);
    assert_eq!(config["stopSequences"].as_array().unwrap().len(), 5);
    assert_eq!((&config["topP"], &config["topK"]), (&json!(0.9), &json!(40)));
    assert_eq!(config["responseMimeType"], "application/json");
    assert!(config.get("thinkingConfig").is_none(), "nobody asked");
    let function = &body["tools"][0]["functionDeclarations"][0];
    assert_eq!(function["parametersJsonSchema"]["properties"]["a"]["const"], 1);
    let mode = &body["toolConfig"]["functionCallingConfig"];
    assert_eq!(mode, &json!({"mode": "ANY", "allowedFunctionNames": ["t"]}));
}

#[test]
fn the_wish_for_reasoning_is_said_in_the_models_own_words() {
    let thinking =
        |model: &str, more: Value| written(model, more)["generationConfig"]["thinkingConfig"].clone();
    let adaptive =
        |effort: &str| json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": effort}});
    assert_eq!(
        thinking("gemini-3-flash", adaptive("medium")),
        json!({"includeThoughts": true, "thinkingLevel": "medium"})
    );
    assert_eq!(thinking("gemini-3-pro-preview", adaptive("medium"))["thinkingLevel"], "high");
    assert_eq!(thinking("gemini-2.5-pro", adaptive("low"))["thinkingBudget"], 2048);
    let budget = json!({"thinking": {"type": "enabled", "budget_tokens": 99999}});
    assert_eq!(thinking("gemini-2.5-flash", budget)["thinkingBudget"], 24576);
    let off = json!({"thinking": {"type": "disabled"}});
    assert_eq!(
        thinking("gemini-2.5-flash", off.clone()),
        json!({"includeThoughts": false, "thinkingBudget": 0})
    );
    assert_eq!(thinking("gemini-2.5-pro", off)["thinkingBudget"], 128, "it can't be turned off there");
    assert_eq!(thinking("gemini-2.0-flash", adaptive("high")), Value::Null);
}

#[test]
fn images_and_files_are_parts_and_those_of_results_follow_them() {
    let image =
        json!({"type": "image", "source": {"type": "base64", "media_type": "image/webp", "data": "AAAA"}});
    let body = written(
        "gemini-2.5-pro",
        json!({"messages": [
            {"role": "user", "content": [image, {"type": "image", "source": {"type": "url", "url": "https://x.example/a.jpg?b"}}]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "shot", "input": {"a": 1}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "here"}, image]},
                {"type": "text", "text": "see?"}]},
        ]}),
    );
    let first = &body["contents"][0]["parts"];
    assert_eq!(first[0], json!({"inlineData": {"mimeType": "image/webp", "data": "AAAA"}}));
    assert_eq!(
        first[1]["fileData"],
        json!({"mimeType": "image/jpeg", "fileUri": "https://x.example/a.jpg?b"})
    );
    let last = body["contents"][2]["parts"].as_array().unwrap();
    let kinds: Vec<&str> =
        last.iter().map(|part| part.as_object().unwrap().keys().next().unwrap().as_str()).collect();
    assert_eq!(kinds, ["functionResponse", "text", "inlineData", "text"]);
}

#[test]
fn a_failed_tool_is_said_to_have_failed() {
    let body = written(
        "gemini-2.5-pro",
        json!({"messages": [
            {"role": "user", "content": "go"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "boom", "is_error": true}]},
        ]}),
    );
    let answer = &body["contents"][2]["parts"][0]["functionResponse"];
    assert_eq!(answer["response"], json!({"error": "Error: boom"}));
    assert!(body["contents"][1]["parts"][0].get("thoughtSignature").is_none(), "2.5 needs none");
}
