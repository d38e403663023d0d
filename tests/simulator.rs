//! The simulator over its socket: shapes, scripts, strictness, faults, programs.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::time::Duration;

use cproxy::simulator::{Answer, Ended, Running, Script, Simulator};
use reqwest::{Client, Response};
use serde_json::{Value, json};

const MESSAGES: &str = "/v1/messages";
const CHAT: &str = "/v1/chat/completions";
const SECOND: Duration = Duration::from_secs(1);

// === helpers ===

fn client() -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy().build().unwrap()
}

async fn polite() -> Running {
    Simulator::start(Script::default()).await.unwrap()
}

async fn scripted(script: &str) -> Running {
    Simulator::start(Script::parse(script).unwrap()).await.unwrap()
}

async fn post(upstream: &Running, path: &str, body: &Value) -> Response {
    let request = client().post(format!("{}{path}", upstream.url()));
    request.header("anthropic-version", "2023-06-01").body(body.to_string()).send().await.unwrap()
}

async fn json_of(response: Response) -> Value {
    serde_json::from_str(&response.text().await.unwrap()).unwrap()
}

async fn answer(upstream: &Running, path: &str, body: &Value) -> Value {
    let response = post(upstream, path, body).await;
    let status = response.status();
    let body = json_of(response).await;
    assert_eq!(status, 200, "{body}");
    body
}

async fn refusal(upstream: &Running, path: &str, body: &Value) -> String {
    let response = post(upstream, path, body).await;
    assert_eq!(response.status(), 400, "{body}");
    json_of(response).await["error"]["message"].as_str().unwrap().to_owned()
}

/// The events of a stream: names and data.
async fn events(upstream: &Running, path: &str, body: &Value) -> Vec<(String, Value)> {
    let response = post(upstream, path, body).await;
    assert_eq!(response.status(), 200);
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/event-stream"));
    parse_events(&response.text().await.unwrap())
}

fn parse_events(text: &str) -> Vec<(String, Value)> {
    assert!(text.ends_with("\n\n") || text.ends_with("\r\n\r\n"), "{text}");
    let text = text.replace("\r\n", "\n");
    let field = |event: &str, name: &str| {
        event
            .lines()
            .find_map(|line| line.strip_prefix(name).map(|v| v.trim().to_owned()))
            .unwrap_or_default()
    };
    let events = text.split("\n\n").filter(|event| event.contains("data:"));
    let read = |data: String| serde_json::from_str(&data).unwrap_or(Value::String(data));
    events.map(|event| (field(event, "event:"), read(field(event, "data:")))).collect()
}

fn messages(content: Value) -> Value {
    json!({"model": "claude-x", "max_tokens": 4096, "messages": [{"role": "user", "content": content}]})
}

fn chat(content: Value) -> Value {
    json!({"model": "gpt-x", "messages": [{"role": "user", "content": content}]})
}

fn streaming(mut body: Value) -> Value {
    body["stream"] = json!(true);
    body
}

fn anthropic_tools(names: &[&str]) -> Value {
    names.iter().map(|name| json!({"name": name, "input_schema": {"type": "object"}})).collect()
}

fn chat_tools(names: &[&str]) -> Value {
    let tool = |name: &&str| json!({"type": "function", "function": {"name": name, "parameters": {"type": "object"}}});
    names.iter().map(tool).collect()
}

/// Puts a streamed Messages answer together again, checking the order of its events.
fn assemble(events: &[(String, Value)]) -> Vec<Value> {
    let mut blocks: Vec<Value> = Vec::new();
    let mut arguments = String::new();
    let mut open = false;
    assert_eq!(events.first().unwrap().0, "message_start");
    assert_eq!(events[events.len() - 2].0, "message_delta");
    assert_eq!(events.last().unwrap().0, "message_stop");
    for (name, data) in events {
        assert_eq!(data["type"], *name);
        match name.as_str() {
            "content_block_start" => {
                assert!(!open);
                assert_eq!(data["index"], blocks.len());
                blocks.push(data["content_block"].clone());
                arguments.clear();
                open = true;
            }
            "content_block_delta" => {
                assert!(open);
                let block = blocks.last_mut().unwrap();
                let delta = &data["delta"];
                for (kind, member) in
                    [("text_delta", "text"), ("thinking_delta", "thinking"), ("signature_delta", "signature")]
                {
                    if delta["type"] == kind {
                        let text =
                            format!("{}{}", block[member].as_str().unwrap(), delta[member].as_str().unwrap());
                        block[member] = json!(text);
                    }
                }
                arguments.push_str(delta["partial_json"].as_str().unwrap_or_default());
            }
            "content_block_stop" => {
                let block = blocks.last_mut().unwrap();
                if block["type"] == "tool_use" && !arguments.is_empty() {
                    block["input"] = serde_json::from_str(&arguments).unwrap();
                }
                open = false;
            }
            _ => {}
        }
    }
    blocks
}

// === shapes ===

#[tokio::test]
async fn a_messages_answer_says_it_is_the_simulator_and_repeats_the_question() {
    let upstream = polite().await;
    let body = answer(&upstream, "/v1/messages?beta=true", &messages(json!("What is rust?"))).await;
    assert_eq!(body["type"], "message");
    assert_eq!(body["model"], "claude-x");
    assert_eq!(body["stop_reason"], "end_turn");
    let text = body["content"][0]["text"].as_str().unwrap();
    assert!(
        text.contains("simulator") && text.contains("What is rust?") && text.contains("ANTHROPIC_API_KEY")
    );
    assert!(body["usage"]["input_tokens"].as_u64().unwrap() > 0);
    assert!(body["usage"]["output_tokens"].as_u64().unwrap() > 10);
}

#[tokio::test]
async fn a_streamed_messages_answer_is_the_same_answer() {
    let upstream = polite().await;
    let mut ask = messages(json!("call Add {\"a\": 1, \"text\": \"é→🦀\"} + Nil {}"));
    ask["tools"] = anthropic_tools(&["Add", "Nil"]);
    ask["thinking"] = json!({"type": "adaptive"});
    let whole = answer(&upstream, MESSAGES, &ask).await;
    let streamed = events(&upstream, MESSAGES, &streaming(ask)).await;
    let blocks = assemble(&streamed);
    let kinds: Vec<_> = blocks.iter().map(|block| block["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["thinking", "tool_use", "tool_use"]);
    assert_eq!(blocks[0], whole["content"][0]);
    assert_eq!(blocks[1]["input"], json!({"a": 1, "text": "é→🦀"}));
    assert_eq!(blocks[2]["input"], json!({}));
    assert_ne!(blocks[1]["id"], blocks[2]["id"]);
    let delta = &streamed[streamed.len() - 2].1;
    assert_eq!(delta["delta"]["stop_reason"], "tool_use");
    assert!(delta["usage"]["output_tokens_details"]["thinking_tokens"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn a_streamed_chat_answer_gives_usage_in_a_chunk_of_its_own_only_if_asked() {
    let upstream = polite().await;
    let mut ask = streaming(chat(json!("hello")));
    let without = events(&upstream, CHAT, &ask).await;
    assert!(without.iter().all(|(_, data)| data["usage"].is_null()));
    assert_eq!(without.last().unwrap().1, "[DONE]");
    ask["stream_options"] = json!({"include_usage": true});
    let with = events(&upstream, CHAT, &ask).await;
    let usage = &with[with.len() - 2].1;
    assert_eq!(usage["choices"], json!([]));
    let total = usage["usage"]["prompt_tokens"].as_u64().unwrap()
        + usage["usage"]["completion_tokens"].as_u64().unwrap();
    assert_eq!(usage["usage"]["total_tokens"], total);
    assert_eq!(with[with.len() - 3].1["choices"][0]["finish_reason"], "stop");
    assert_eq!(with[0].1["choices"][0]["delta"]["role"], "assistant");
}

#[tokio::test]
async fn an_openrouter_stream_opens_with_comments_and_finishes_twice() {
    let upstream = polite().await;
    let mut ask = streaming(chat(json!("hello")));
    ask["reasoning"] = json!({"effort": "low"});
    let response = post(&upstream, "/api/v1/chat/completions", &ask).await;
    let text = response.text().await.unwrap();
    assert!(text.starts_with(": OPENROUTER PROCESSING\n\n"));
    let events = parse_events(&text);
    let finishes: Vec<_> =
        events.iter().filter(|(_, data)| data["choices"][0]["finish_reason"].is_string()).collect();
    assert_eq!(finishes.len(), 2);
    assert!(finishes[0].1["usage"].is_null() && finishes[1].1["usage"].is_object());
    let first = &events[0].1["choices"][0]["delta"];
    assert_eq!(first["reasoning"], first["reasoning_details"][0]["text"]);
    let signed = |data: &Value| data["choices"][0]["delta"]["reasoning_details"][0]["signature"].is_string();
    assert!(events.iter().any(|(_, data)| signed(data)));
}

#[tokio::test]
async fn chat_reasoning_is_reasoning_content_elsewhere() {
    let upstream = polite().await;
    let mut ask = chat(json!("hello"));
    assert!(answer(&upstream, CHAT, &ask).await["choices"][0]["message"]["reasoning_content"].is_null());
    ask["reasoning_effort"] = json!("high");
    let message = &answer(&upstream, "/chat/completions", &ask).await["choices"][0]["message"];
    assert!(message["reasoning_content"].is_string() && message["reasoning"].is_null());
}

#[tokio::test]
async fn a_responses_stream_ends_with_the_whole_answer() {
    let upstream = polite().await;
    let ask = json!({"model": "gpt-x", "stream": true, "input": "call Add {\"a\":1}",
        "reasoning": {"effort": "low", "summary": "auto"},
        "tools": [{"type": "function", "name": "Add", "parameters": {"type": "object"}}]});
    let events = events(&upstream, "/v1/responses", &ask).await;
    for (number, (name, data)) in events.iter().enumerate() {
        assert_eq!(data["type"], *name);
        assert_eq!(data["sequence_number"], number);
    }
    let (name, last) = events.last().unwrap();
    assert_eq!(name, "response.completed");
    let output = &last["response"]["output"];
    assert_eq!(output[0]["type"], "reasoning");
    assert_eq!(output[1]["type"], "function_call");
    assert_eq!(output[1]["arguments"], "{\"a\":1}");
    let deltas: String = events
        .iter()
        .filter(|(name, _)| name == "response.function_call_arguments.delta")
        .map(|(_, data)| data["delta"].as_str().unwrap())
        .collect();
    assert_eq!(output[1]["arguments"], deltas);
    assert!(last["response"]["usage"]["output_tokens"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn a_gemini_stream_has_crlf_and_a_finish_reason_in_its_last_chunk() {
    let upstream = polite().await;
    let ask = json!({"contents": [{"role": "user", "parts": [{"text": "call Add {\"a\":1}"}]}],
        "tools": [{"functionDeclarations": [{"name": "Add"}]}]});
    let path = "/v1beta/models/gemini-x:streamGenerateContent?alt=sse";
    let text = post(&upstream, path, &ask).await.text().await.unwrap();
    assert!(text.ends_with("\r\n\r\n"));
    let events = parse_events(&text);
    let call = &events[0].1["candidates"][0]["content"]["parts"][0];
    assert_eq!(call["functionCall"]["args"], json!({"a": 1}));
    assert!(call["thoughtSignature"].is_string());
    assert_eq!(events.last().unwrap().1["candidates"][0]["finishReason"], "STOP");
    assert_eq!(events[0].1["modelVersion"], "gemini-x");
    let whole = answer(&upstream, "/v1beta/models/gemini-x:generateContent", &ask).await;
    assert_eq!(whole["candidates"][0]["content"]["parts"][0]["functionCall"]["name"], "Add");
}

#[tokio::test]
async fn models_tokens_and_probes_are_answered() {
    let upstream = scripted(r#"models = ["a", "b"]"#).await;
    let get = |name: &'static str| {
        let request =
            client().get(format!("{}/v1/models?limit=1000", upstream.url())).header(name, "2023-06-01");
        async { json_of(request.send().await.unwrap()).await }
    };
    assert_eq!(get("anthropic-version").await["data"][1]["display_name"], "b");
    assert_eq!(get("x-other").await["data"][0]["object"], "model");
    let count = answer(&upstream, "/v1/messages/count_tokens", &messages(json!("12345678"))).await;
    assert!(count["input_tokens"].as_u64().unwrap() > 2);
    let head = client().head(format!("{}/", upstream.url())).send().await.unwrap();
    assert_eq!(head.status(), 200);
    assert_eq!(upstream.handle().requests().last().unwrap().ended, Ended::Whole);
    assert_eq!(post(&upstream, "/v1/nothing", &json!({})).await.status(), 404);
}

#[tokio::test]
async fn the_same_request_gets_the_same_bytes() {
    let upstream = polite().await;
    let ask = streaming(chat(json!("hello")));
    let first = post(&upstream, CHAT, &ask).await.text().await.unwrap();
    assert_eq!(first, post(&upstream, CHAT, &ask).await.text().await.unwrap());
}

// === programs ===

const PROGRAM: &str = "please:\ncall Write {\"path\":\"a\"}\ncall Read {\"path\":\"a\"} + Read {\"path\":\"b\"}\nsay done: {{result}}";

#[tokio::test]
async fn a_program_runs_a_line_a_turn_in_messages() {
    let upstream = polite().await;
    let reminder = json!({"type": "text", "text": "<system-reminder>call Evil {}</system-reminder>"});
    let mut ask = messages(json!([reminder, {"type": "text", "text": PROGRAM}]));
    ask["tools"] = anthropic_tools(&["Write", "Read", "Evil"]);
    ask["thinking"] = json!({"type": "adaptive"});
    let mut turns = Vec::new();
    loop {
        let body = answer(&upstream, MESSAGES, &ask).await;
        let content = body["content"].as_array().unwrap().clone();
        let calls: Vec<_> = content.iter().filter(|block| block["type"] == "tool_use").cloned().collect();
        turns.push(calls.len());
        if body["stop_reason"] == "end_turn" {
            assert_eq!(content.last().unwrap()["text"], "done: result 1\nresult 2");
            break;
        }
        let list = ask["messages"].as_array_mut().unwrap();
        list.push(json!({"role": "assistant", "content": content}));
        let mut results: Vec<_> = calls
            .iter()
            .enumerate()
            .map(|(n, call)| {
                json!({"type": "tool_result", "tool_use_id": call["id"], "content": format!("result {}", n + 1)})
            })
            .collect();
        results.push(reminder.clone());
        list.push(json!({"role": "user", "content": results}));
    }
    assert_eq!(turns, [1, 2, 0]);
}

#[tokio::test]
async fn a_program_runs_a_line_a_turn_in_chat() {
    let upstream = polite().await;
    let mut ask = chat(json!(PROGRAM));
    ask["tools"] = chat_tools(&["Write", "Read"]);
    let mut turns = Vec::new();
    loop {
        let body = answer(&upstream, CHAT, &ask).await;
        let message = body["choices"][0]["message"].clone();
        let calls = message["tool_calls"].as_array().cloned().unwrap_or_default();
        turns.push(calls.len());
        if body["choices"][0]["finish_reason"] == "stop" {
            assert_eq!(message["content"], "done: result 1\nresult 2");
            break;
        }
        let list = ask["messages"].as_array_mut().unwrap();
        list.push(json!({"role": "assistant", "content": null, "tool_calls": calls}));
        for (n, call) in calls.iter().enumerate() {
            let content = format!("result {}", n + 1);
            list.push(json!({"role": "tool", "tool_call_id": call["id"], "content": content}));
        }
        // What a translation leaves of reminders beside results.
        list.push(json!({"role": "user", "content": "<system-reminder>go on</system-reminder>"}));
    }
    assert_eq!(turns, [1, 2, 0]);
}

#[tokio::test]
async fn a_new_prompt_starts_anew_and_without_a_program_is_greeted() {
    let upstream = polite().await;
    let mut ask = messages(json!("call A {}"));
    ask["tools"] = anthropic_tools(&["A"]);
    let list = ask["messages"].as_array_mut().unwrap();
    list.push(
        json!({"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "A", "input": {}}]}),
    );
    list.push(
        json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "42"}]}),
    );
    let summary = answer(&upstream, MESSAGES, &ask).await;
    assert!(summary["content"][0]["text"].as_str().unwrap().contains("42"));
    let list = ask["messages"].as_array_mut().unwrap();
    list.push(json!({"role": "assistant", "content": "It is 42."}));
    list.push(json!({"role": "user", "content": "thanks"}));
    let greeting = answer(&upstream, MESSAGES, &ask).await;
    assert!(greeting["content"][0]["text"].as_str().unwrap().contains("thanks"));
}

#[tokio::test]
async fn a_tool_that_is_not_offered_is_not_called() {
    let upstream = polite().await;
    let body = answer(&upstream, MESSAGES, &messages(json!("call Missing {}"))).await;
    assert_eq!(body["stop_reason"], "end_turn");
    assert!(body["content"][0]["text"].as_str().unwrap().contains("Missing"));
}

#[tokio::test]
async fn an_answer_with_a_schema_matches_it_and_limits_are_kept() {
    let upstream = polite().await;
    let mut ask = messages(json!("title?"));
    ask["output_config"] = json!({"format": {"type": "json_schema", "schema": {"type": "object",
        "properties": {"title": {"type": "string"}, "new": {"type": "boolean"}}}}});
    let body = answer(&upstream, MESSAGES, &ask).await;
    let title: Value = serde_json::from_str(body["content"][0]["text"].as_str().unwrap()).unwrap();
    assert!(title["title"].is_string() && title["new"].is_boolean());

    let mut short = messages(json!("hello"));
    short["max_tokens"] = json!(2);
    let body = answer(&upstream, MESSAGES, &short).await;
    assert_eq!(body["stop_reason"], "max_tokens");
    assert_eq!(body["content"][0]["text"].as_str().unwrap().len(), 8);

    let mut stopped = messages(json!("hello"));
    stopped["stop_sequences"] = json!(["simulator"]);
    let body = answer(&upstream, MESSAGES, &stopped).await;
    assert_eq!(
        (&body["stop_reason"], &body["stop_sequence"]),
        (&json!("stop_sequence"), &json!("simulator"))
    );
}

// === usage ===

#[tokio::test]
async fn a_repeated_prefix_is_read_from_the_cache() {
    let upstream = polite().await;
    let long = "words ".repeat(500);
    let mut ask = messages(json!([{"type": "text", "text": long, "cache_control": {"type": "ephemeral"}}]));
    let first = answer(&upstream, MESSAGES, &ask).await["usage"].clone();
    assert_eq!(first["cache_read_input_tokens"], 0);
    assert!(first["cache_creation_input_tokens"].as_u64().unwrap() > 700);
    let list = ask["messages"].as_array_mut().unwrap();
    list[0]["content"][0].as_object_mut().unwrap().remove("cache_control");
    list.push(json!({"role": "assistant", "content": "ok"}));
    list.push(json!({"role": "user", "content": [
        {"type": "text", "text": "and?", "cache_control": {"type": "ephemeral"}}]}));
    let second = answer(&upstream, MESSAGES, &ask).await["usage"].clone();
    assert_eq!(second["cache_read_input_tokens"], first["cache_creation_input_tokens"]);

    answer(&upstream, CHAT, &chat(json!(long))).await;
    let again = answer(&upstream, CHAT, &chat(json!(long))).await;
    assert!(again["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap() > 700);
}

// === strictness ===

#[tokio::test]
async fn messages_refuses_what_anthropic_refuses_in_its_words() {
    let upstream = polite().await;
    let call =
        json!({"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "A", "input": {}}]});
    let user = |content: Value| json!({"role": "user", "content": content});
    let result = |id: &str| json!({"type": "tool_result", "tool_use_id": id, "content": "x"});
    let with = |messages: Value| json!({"model": "m", "max_tokens": 5000, "messages": messages});
    let thinking = |signature: &str| {
        let block = json!({"type": "thinking", "thinking": "hm", "signature": signature});
        json!({"role": "assistant", "content": [block]})
    };
    let set = |name: &str, value: Value| {
        let mut body = messages(json!("hi"));
        body[name] = value;
        body
    };
    for (body, words) in [
        (json!({"max_tokens": 1, "messages": []}), "model: Field required"),
        (json!({"model": "m", "messages": []}), "max_tokens: Field required"),
        (json!({"model": "m", "max_tokens": 1}), "messages: Field required"),
        (with(json!([])), "messages: at least one message is required"),
        (with(json!([user(json!([{"type": "text", "text": ""}]))])), "text content blocks must be non-empty"),
        (with(json!([user(json!(""))])), "messages.0: all messages must have non-empty content"),
        (
            with(json!([user(json!("a")), call, user(json!("b"))])),
            "messages.1: `tool_use` ids were found without",
        ),
        (with(json!([user(json!("a")), call])), "`tool_use` ids were found without"),
        (with(json!([user(json!([result("t9")]))])), "messages.0.content.0: unexpected `tool_use_id`"),
        (with(json!([user(json!("a")), call, user(json!([result("t1"), result("t1")]))])), "single result"),
        (
            with(json!([user(json!("a")), thinking("px1.foreign"), user(json!("b"))])),
            "Invalid `signature` in `thinking` block",
        ),
        (with(json!([{"role": "tool", "content": "x"}])), "first message must use"),
        (
            with(json!([user(json!([{"type": "image_url", "image_url": {"url": "u"}}]))])),
            "Input tag 'image_url'",
        ),
        (set("stream_options", json!({})), "stream_options: Extra inputs are not permitted"),
        (set("context_management", json!({})), "context_management: Extra inputs are not permitted"),
        (set("tool_choice", json!({"type": "auto"})), "tool_choice"),
        (set("tools", json!([{"name": "a b", "input_schema": {"type": "object"}}])), "tools.0.custom.name"),
        (set("temperature", json!(1.5)), "temperature: range: 0..1"),
        (set("thinking", json!({"type": "enabled", "budget_tokens": 10})), "greater than or equal to 1024"),
    ] {
        let message = refusal(&upstream, MESSAGES, &body).await;
        assert!(message.contains(words), "{message} should say {words}");
    }
    let own = messages(json!("hi"));
    let mut own = {
        let mut own = own;
        own["thinking"] = json!({"type": "adaptive"});
        own
    };
    let said = answer(&upstream, MESSAGES, &own).await["content"].clone();
    let list = own["messages"].as_array_mut().unwrap();
    list.push(json!({"role": "assistant", "content": said}));
    list.push(user(json!("more")));
    answer(&upstream, MESSAGES, &own).await;
    own["messages"][1]["content"][0]["thinking"] = json!("changed");
    assert!(refusal(&upstream, MESSAGES, &own).await.contains("signature"));
}

#[tokio::test]
async fn chat_refuses_what_openai_refuses_but_openrouter_takes_its_own() {
    let upstream = polite().await;
    let call = json!({"role": "assistant", "content": null, "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "A", "arguments": "{}"}}]});
    let with = |messages: Value| json!({"model": "m", "messages": messages});
    let set = |name: &str, value: Value| {
        let mut body = chat(json!("hi"));
        body[name] = value;
        body
    };
    let many: Vec<String> = (0..129).map(|n| format!("t{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let both = {
        let mut both = set("max_tokens", json!(1));
        both["max_completion_tokens"] = json!(1);
        both
    };
    let cached = chat(json!([{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]));
    for (body, words) in [
        (
            with(json!([{"role": "user", "content": "a"}, call, {"role": "user", "content": "b"}])),
            "did not have response messages: c1",
        ),
        (with(json!([{"role": "user", "content": "a"}, call])), "did not have response messages: c1"),
        (
            with(json!([{"role": "tool", "tool_call_id": "c1", "content": "x"}])),
            "must be a response to a preceeding message",
        ),
        (with(json!([{"role": "human", "content": "x"}])), "Invalid value: 'human'"),
        (set("tool_choice", json!("auto")), "only allowed when 'tools' are specified"),
        (set("tools", json!([])), "empty array"),
        (set("tools", chat_tools(&many)), "maximum length 128"),
        (set("tools", chat_tools(&["a.b"])), "does not match pattern"),
        (set("tools", chat_tools(&[&"x".repeat(65)])), "maximum length 64"),
        (set("stream_options", json!({"include_usage": true})), "only allowed when 'stream' is enabled"),
        (set("system", json!("x")), "Unknown parameter: 'system'"),
        (both, "at the same time"),
        (cached.clone(), "Unknown parameter: 'messages[0].content[0].cache_control'"),
    ] {
        let message = refusal(&upstream, CHAT, &body).await;
        assert!(message.contains(words), "{message} should say {words}");
    }
    answer(&upstream, "/api/v1/chat/completions", &cached).await;
}

#[tokio::test]
async fn responses_and_gemini_refuse_broken_histories() {
    let upstream = polite().await;
    let call = json!({"type": "function_call", "call_id": "c1", "name": "A", "arguments": "{}"});
    let output = json!({"type": "function_call_output", "call_id": "c1", "output": "x"});
    let reasoning =
        |sealed: &str| json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": sealed});
    for (input, words) in [
        (json!([output]), "No tool call found for function call output with call_id c1"),
        (json!([call]), "No tool output found for function call c1"),
        (json!([reasoning("simsig1-0")]), "without its required following item"),
        (json!([reasoning("foreign"), call, output]), "could not be verified"),
    ] {
        let message = refusal(&upstream, "/v1/responses", &json!({"model": "m", "input": input})).await;
        assert!(message.contains(words), "{message} should say {words}");
    }
    let moved = refusal(&upstream, "/v1/responses", &json!({"model": "m", "messages": []})).await;
    assert!(moved.contains("moved to 'input'"));
    answer(
        &upstream,
        "/v1/responses",
        &json!({"model": "m", "input": [reasoning("simsig1-0"), call, output]}),
    )
    .await;

    let path = "/v1beta/models/g:generateContent";
    let user = json!({"role": "user", "parts": [{"text": "hi"}]});
    let call = |signature: Value| json!({"role": "model", "parts": [{"functionCall": {"name": "A", "args": {}}, "thoughtSignature": signature}]});
    let result =
        json!({"role": "user", "parts": [{"functionResponse": {"name": "A", "response": {"result": "x"}}}]});
    for (contents, words) in [
        (json!([]), "contents is not specified"),
        (json!([user, call(Value::Null), result]), "missing a thought_signature"),
        (json!([user, call(json!("foreign")), result]), "Corrupted thought signature"),
        (json!([user, call(json!("simsig1-0")), user]), "number of function response parts"),
        (json!([{"role": "assistant", "parts": [{"text": "x"}]}]), "valid role"),
    ] {
        let message = refusal(&upstream, path, &json!({"contents": contents})).await;
        assert!(message.contains(words), "{message} should say {words}");
    }
    answer(&upstream, path, &json!({"contents": [user, call(json!("simsig1-0")), result]})).await;
}

#[tokio::test]
async fn one_simulator_plays_several_providers_told_apart_by_their_paths() {
    let upstream =
        scripted("[[rule]]\nwhen = { path = \"/a/*\" }\nanswer = { fail = { status = 503 } }").await;
    assert_eq!(post(&upstream, "/a/v1/chat/completions", &chat(json!("hi"))).await.status(), 503);
    assert_eq!(post(&upstream, "/b/v1/chat/completions", &chat(json!("hi"))).await.status(), 200);
}

#[tokio::test]
async fn a_session_is_summed_up_rather_than_run_on() {
    let upstream = polite().await;
    let mut ask = messages(json!("call A {}\ncall A {}"));
    ask["tools"] = anthropic_tools(&["A"]);
    let list = ask["messages"].as_array_mut().unwrap();
    list.push(
        json!({"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "A", "input": {}}]}),
    );
    list.push(json!({"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": "t1", "content": "42"},
        {"type": "text", "text": "Create a detailed summary of the conversation so far."}]}));
    assert_eq!(answer(&upstream, MESSAGES, &ask).await["stop_reason"], "end_turn");
}

#[tokio::test]
async fn a_lenient_script_takes_all_that() {
    let upstream = scripted("strict = false").await;
    answer(&upstream, CHAT, &json!({"messages": [{"role": "human", "content": "x"}], "system": "x"})).await;
    answer(&upstream, MESSAGES, &json!({"model": "m", "messages": []})).await;
}

#[tokio::test]
async fn a_wrong_key_is_refused_in_each_dialect_and_never_shown() {
    let upstream = scripted(r#"require_key = "sk-right""#).await;
    assert_eq!(post(&upstream, MESSAGES, &messages(json!("hi"))).await.status(), 401);
    let send = |path: &str, header: &str, value: &str| {
        let request = client().post(format!("{}{path}", upstream.url())).header("anthropic-version", "x");
        request.header(header, value).body(messages(json!("hi")).to_string()).send()
    };
    let wrong = send(MESSAGES, "x-api-key", "sk-wrong").await.unwrap();
    assert_eq!(wrong.status(), 401);
    assert_eq!(json_of(wrong).await["error"]["type"], "authentication_error");
    let wrong = send(CHAT, "authorization", "Bearer sk-wrong").await.unwrap();
    assert_eq!(json_of(wrong).await["error"]["code"], "invalid_api_key");
    assert_eq!(send(MESSAGES, "x-api-key", "sk-right").await.unwrap().status(), 200);
    assert_eq!(send(CHAT, "authorization", "Bearer sk-right").await.unwrap().status(), 200);
    let requests = upstream.handle().requests();
    assert!(requests.last().unwrap().has_key("sk-right") && !requests[1].has_key("sk-right"));
    assert!(!format!("{requests:?} {:?}", upstream.handle()).contains("sk-"));
}

// === scripts ===

#[tokio::test]
async fn a_rule_with_times_fails_first_and_then_lets_the_next_answer() {
    let upstream = scripted(
        r#"
        [[rule]]
        name = "busy"
        times = 2
        answer = { fail = { status = 529 } }
        "#,
    )
    .await;
    for _ in 0..2 {
        let response = post(&upstream, MESSAGES, &messages(json!("hi"))).await;
        assert_eq!(response.status(), 529);
        let id = response.headers()["request-id"].to_str().unwrap().to_owned();
        let body = json_of(response).await;
        assert_eq!(body["error"], json!({"type": "overloaded_error", "message": "Overloaded"}));
        assert_eq!(body["request_id"], id);
    }
    answer(&upstream, MESSAGES, &messages(json!("hi"))).await;
    let rules: Vec<_> = upstream.handle().requests().iter().map(|request| request.rule.clone()).collect();
    assert_eq!(rules, [Some("busy".to_owned()), Some("busy".to_owned()), None]);
}

#[tokio::test]
async fn rules_choose_by_what_the_request_holds() {
    let upstream = scripted(
        r#"
        [[rule]]
        when = { model = "claude-*", text = "weather", tool_result = false, tools = true }
        answer = { parts = [{ text = "Looking." }, { call = { name = "weather", arguments = { city = "Oslo" } } }] }
        [[rule]]
        when = { nth = 2, dialect = "openai-chat" }
        answer = { parts = [{ text = "second" }] }
        [[rule]]
        when = { headers = { "x-test" = "a*" } }
        answer = { fail = { kind = "context_length" } }
        [[rule]]
        when = { path = "/v1/models" }
        answer = { fail = { status = 404 } }
        [[rule]]
        answer = { parts = [{ text = "rest" }], usage = { input = 7, output = 3 }, id = "fixed", model = "other" }
        "#,
    )
    .await;
    let mut ask = messages(json!("the weather?"));
    ask["tools"] = anthropic_tools(&["weather"]);
    let body = answer(&upstream, MESSAGES, &ask).await;
    assert_eq!(body["content"][1]["input"]["city"], "Oslo");
    let rest = answer(&upstream, CHAT, &chat(json!("hi"))).await;
    assert_eq!((&rest["id"], &rest["model"]), (&json!("fixed"), &json!("other")));
    assert_eq!(
        (&rest["usage"]["prompt_tokens"], &rest["usage"]["completion_tokens"]),
        (&json!(7), &json!(3))
    );
    let second = answer(&upstream, CHAT, &chat(json!("hi"))).await;
    assert_eq!(second["choices"][0]["message"]["content"], "second");
    let request = client().post(format!("{}{CHAT}", upstream.url())).header("x-test", "abc");
    let overflow = request.body(chat(json!("hi")).to_string()).send().await.unwrap();
    assert_eq!(overflow.status(), 400);
    assert_eq!(json_of(overflow).await["error"]["code"], "context_length_exceeded");
    let models = client().get(format!("{}/v1/models", upstream.url())).send().await.unwrap();
    assert_eq!(models.status(), 404);
}

#[tokio::test]
async fn errors_have_the_shape_of_their_dialect() {
    let upstream = Simulator::start(Script::always(Answer::status(429))).await.unwrap();
    let response = post(&upstream, MESSAGES, &messages(json!("hi"))).await;
    assert_eq!(response.headers()["retry-after"], "1");
    assert_eq!(json_of(response).await["error"]["type"], "rate_limit_error");
    let chat_error = json_of(post(&upstream, CHAT, &chat(json!("hi"))).await).await;
    assert_eq!(chat_error["error"]["code"], "rate_limit_exceeded");
    let openrouter = json_of(post(&upstream, "/api/v1/chat/completions", &chat(json!("hi"))).await).await;
    assert_eq!(openrouter["error"]["code"], 429);
    let gemini = post(&upstream, "/v1beta/models/g:generateContent", &json!({"contents": []})).await;
    assert_eq!(json_of(gemini).await["error"]["status"], "RESOURCE_EXHAUSTED");
    upstream.handle().set_script(
        Script::parse(r#"{"rules": [{"answer": {"fail": {"status": 402, "body": "<html>"}}}]}"#).unwrap(),
    );
    let response = post(&upstream, CHAT, &chat(json!("hi"))).await;
    assert_eq!(response.status(), 402);
    assert_eq!(response.text().await.unwrap(), "<html>");
}

#[test]
fn a_script_that_names_what_no_script_has_is_refused() {
    for text in
        ["[[rule]]\nanswr = {}", "[[rule]]\nwhen = { dialect = \"latin\" }", "{\"rules\": 3}", "strict = 1"]
    {
        assert!(Script::parse(text).is_err(), "{text}");
    }
}

// === faults ===

fn fault(fault: &str) -> Script {
    Script::parse(&format!(
        "[[rule]]\nanswer = {{ parts = [{{ text = \"one two three four five six\" }}], fault = {fault} }}"
    ))
    .unwrap()
}

/// All that comes of a body, and whether it ended well as HTTP goes.
async fn drain(mut response: Response) -> (String, bool) {
    let mut all = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => all.extend_from_slice(&chunk),
            Ok(None) => return (String::from_utf8(all).unwrap(), true),
            Err(_) => return (String::from_utf8(all).unwrap(), false),
        }
    }
}

#[tokio::test]
async fn a_stream_breaks_off_where_the_script_says() {
    let upstream = polite().await;
    let ask = streaming(messages(json!("hi")));
    for (script, well, has, has_not) in [
        ("{ cut = { after_events = 1 } }", true, "message_start", "content_block_start"),
        ("{ cut = { after_outputs = 1 } }", true, "one two", "message_delta"),
        ("{ cut = { before_end = true } }", true, "five six", "message_delta"),
        ("{ hang_up = { after_outputs = 1 } }", false, "one two", "message_delta"),
        ("{ reset = { after_outputs = 1 } }", false, "one two", "message_delta"),
        ("\"no_terminator\"", true, "message_delta", "message_stop"),
        (
            "{ error = { at = { after_outputs = 1 }, fail = { status = 529 } } }",
            true,
            "overloaded_error",
            "message_stop",
        ),
    ] {
        upstream.handle().set_script(fault(script));
        let (text, ended_well) = drain(post(&upstream, MESSAGES, &ask).await).await;
        assert_eq!(ended_well, well, "{script}");
        assert!(text.contains(has) && !text.contains(has_not), "{script}: {text}");
    }
}

#[tokio::test]
async fn a_spoiled_event_is_no_json_and_the_rest_is_well() {
    let upstream = Simulator::start(fault("{ corrupt = { after_outputs = 1 } }")).await.unwrap();
    let (text, _) = drain(post(&upstream, CHAT, &streaming(chat(json!("hi")))).await).await;
    let broken: Vec<_> = parse_events(&text).into_iter().filter(|(_, data)| data.is_string()).collect();
    assert_eq!(broken.len(), 2, "the spoiled one and [DONE]: {broken:?}");
}

#[tokio::test]
async fn a_refused_request_gets_no_answer_and_the_next_connection_is_well() {
    let upstream = scripted("[[rule]]\ntimes = 1\nanswer = { fault = \"refuse\" }").await;
    let request = client().post(format!("{}{CHAT}", upstream.url())).body(chat(json!("hi")).to_string());
    assert!(request.send().await.is_err());
    answer(&upstream, CHAT, &chat(json!("hi"))).await;
    let requests = upstream.handle().requests();
    assert_eq!((requests[0].ended, requests[0].status), (Ended::Broken, None));
    assert_eq!((requests[1].ended, requests[1].status), (Ended::Whole, Some(200)));
}

#[tokio::test]
async fn whole_answers_break_off_too() {
    let upstream = Simulator::start(fault("{ cut = { after_events = 1 } }")).await.unwrap();
    let (text, well) = drain(post(&upstream, CHAT, &chat(json!("hi"))).await).await;
    assert!(well && text.starts_with('{') && serde_json::from_str::<Value>(&text).is_err());
    upstream.handle().set_script(fault("{ reset = { after_events = 1 } }"));
    assert!(!drain(post(&upstream, CHAT, &chat(json!("hi"))).await).await.1);
    upstream.handle().set_script(fault("{ error_body = { status = 429 } }"));
    let response = post(&upstream, CHAT, &streaming(chat(json!("hi")))).await;
    assert_eq!(response.status(), 200);
    assert!(json_of(response).await["error"].is_object());
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_before_and_in_an_answer() {
    let upstream = Simulator::start(fault("{ stall = { after_outputs = 1 } }")).await.unwrap();
    let handle = upstream.handle().clone();
    let mut response = post(&upstream, MESSAGES, &streaming(messages(json!("hi")))).await;
    response.chunk().await.unwrap();
    assert!(handle.wait_until(SECOND, |h| h.requests()[0].outputs == 1).await);
    assert_eq!(handle.open().answers, 1);
    drop(response);
    assert!(handle.wait_until(5 * SECOND, |h| h.requests()[0].ended == Ended::Left).await);

    handle.set_script(fault("\"silence\""));
    let url = format!("{}{CHAT}", upstream.url());
    let waiting = tokio::spawn(client().post(url).body(chat(json!("hi")).to_string()).send());
    assert!(handle.wait_until(SECOND, |h| h.requests().len() == 2).await);
    waiting.abort();
    assert!(handle.wait_until(5 * SECOND, |h| h.requests()[1].ended == Ended::Left).await);
    assert!(handle.wait_until(5 * SECOND, |h| h.open().connections == 0 && h.open().answers == 0).await);
}

#[tokio::test]
async fn bytes_may_come_one_by_one_and_make_the_same_stream() {
    let upstream = scripted("[[rule]]\nanswer = { parts = [{ text = \"é→🦀\" }] }").await;
    let ask = streaming(chat(json!("hi")));
    let (whole, _) = drain(post(&upstream, CHAT, &ask).await).await;
    for chunks in ["{ bytes = 1 }", "{ at_once = true }", "{ bytes = 7, at_once = true }"] {
        let script = format!("[[rule]]\nanswer = {{ parts = [{{ text = \"é→🦀\" }}], chunks = {chunks} }}");
        upstream.handle().set_script(Script::parse(&script).unwrap());
        assert_eq!(drain(post(&upstream, CHAT, &ask).await).await, (whole.clone(), true), "{chunks}");
    }
}

#[tokio::test]
async fn an_answer_keeps_its_pace() {
    let upstream = scripted(
        "[[rule]]\nanswer = { pace = { headers = \"60ms\", first = \"100ms\", ping = \"20ms\" }, parts = [{ text = \"x\" }] }",
    )
    .await;
    let start = tokio::time::Instant::now();
    let response = post(&upstream, MESSAGES, &streaming(messages(json!("hi")))).await;
    assert!(start.elapsed() >= Duration::from_millis(60));
    let (text, _) = drain(response).await;
    assert!(start.elapsed() >= Duration::from_millis(160));
    assert!(text.matches("event: ping").count() >= 4, "{text}");
}

#[tokio::test]
async fn an_upstream_that_stops_drops_its_streams() {
    let upstream = Simulator::start(fault("{ stall = { after_outputs = 1 } }")).await.unwrap();
    let mut response = post(&upstream, MESSAGES, &streaming(messages(json!("hi")))).await;
    response.chunk().await.unwrap();
    upstream.stop().await;
    assert!(!drain(response).await.1);
}
