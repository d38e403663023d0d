//! Turns that Anthropic pauses.

use std::time::Duration;

use serde_json::{Value, json};

use crate::inside::{Daemon, Reply, asked, message, provider, upstream};

/// A script whose first `times` answers pause, and then ends.
fn pauses(times: u32, then: &str) -> String {
    let figures = "usage = { input = 100, output = 7 }";
    format!(
        "strict = false\n[[rule]]\ntimes = {times}\nanswer = {{ parts = [{{ thinking = \"hm\" }}, {{ text = \"half. \" }}], \
         stop = \"pause_turn\", {figures} }}\n{then}"
    )
}

/// A Chat request that may search.
fn searches(stream: bool) -> Value {
    json!({"model": "claude-x", "stream": stream, "stream_options": {"include_usage": stream},
        "web_search_options": {}, "messages": [{"role": "user", "content": "hello"}]})
}

async fn chat(daemon: &Daemon, body: &Value) -> Reply {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.post(format!("{}/v1/chat/completions", daemon.url)).bearer_auth("k");
    Reply::read(request.header("x-claude-code-session-id", "s1").body(body.to_string())).await
}

/// The text, the reason and the usage of a Chat answer, whole or streamed.
fn said(reply: &Reply) -> (String, String, Value) {
    if reply.body.starts_with('{') {
        let body = reply.json();
        let choice = &body["choices"][0];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        return (text(&choice["message"]["content"]), text(&choice["finish_reason"]), body["usage"].clone());
    }
    let data =
        reply.body.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    let (mut text, mut finish, mut usage) = (String::new(), String::new(), Value::Null);
    for chunk in data.map(|data| serde_json::from_str::<Value>(data).unwrap()) {
        let choice = &chunk["choices"][0];
        text.push_str(choice["delta"]["content"].as_str().unwrap_or_default());
        finish.push_str(choice["finish_reason"].as_str().unwrap_or_default());
        usage = chunk["usage"].clone();
    }
    (text, finish, usage)
}

#[tokio::test]
async fn a_turn_that_anthropic_pauses_goes_on_for_a_caller_who_cannot_send_it_back() {
    let ends = "[[rule]]\nanswer = { parts = [{ text = \"whole\" }], usage = { input = 120, output = 3 } }";
    for stream in [false, true] {
        let up = upstream(&pauses(2, ends)).await;
        let daemon = Daemon::start(&provider("a", &up, "")).await;
        let reply = chat(&daemon, &searches(stream)).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let (text, finish, usage) = said(&reply);
        assert_eq!((text.as_str(), finish.as_str()), ("half. half. whole", "stop"), "{reply:?}");
        assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&json!(320), &json!(17)));
        let sent: Vec<Value> = up.handle().requests().iter().map(cproxy::simulator::Recorded::json).collect();
        assert_eq!(sent.len(), 3);
        for (nth, body) in sent.iter().enumerate() {
            let messages = body["messages"].as_array().unwrap();
            assert_eq!(messages[0], sent[0]["messages"][0], "the prompt cache is kept");
            let said = messages.get(1).map(|turn| turn["content"].as_array().unwrap().len());
            assert_eq!(said, [None, Some(2), Some(4)][nth], "{body}");
            if let Some(turn) = messages.get(1) {
                assert_eq!(turn["role"], "assistant");
                assert!(
                    turn["content"][0]["signature"].as_str().is_some_and(|signature| !signature.is_empty())
                );
            }
        }
        assert!(daemon.comes_to_rest(Duration::from_secs(2)).await, "its place was returned");
    }
}

#[tokio::test]
async fn a_turn_that_pauses_for_ever_ends_and_one_that_is_refused_on_its_way_is_an_error() {
    for stream in [false, true] {
        let up = upstream(&pauses(100, "")).await;
        let daemon = Daemon::start(&provider("a", &up, "")).await;
        let reply = chat(&daemon, &searches(stream)).await;
        assert_eq!(asked(&up), 6, "five times again");
        let (text, finish, _) = said(&reply);
        assert_eq!((text, finish.as_str()), ("half. ".repeat(6), "stop"));

        let refuses = "[[rule]]\nanswer = { fail = { kind = \"overloaded\" } }";
        let up = upstream(&pauses(1, refuses)).await;
        let config = format!("[routing]\nretry_attempts = 0\n{}", provider("a", &up, ""));
        let daemon = Daemon::start(&config).await;
        let reply = chat(&daemon, &searches(stream)).await;
        assert!(reply.body.contains("\"error\"") && !reply.body.contains("[DONE]"), "{reply:?}");
        assert_eq!(reply.status, if stream { 200 } else { 503 }, "{reply:?}");
    }
}

#[tokio::test]
async fn a_caller_who_can_send_a_paused_turn_back_gets_it_as_it_is() {
    let up = upstream(&pauses(1, "")).await;
    let daemon = Daemon::start(&provider("a", &up, "")).await;
    let mut ask = message("hello");
    ask["tools"] = json!([{"type": "web_search_20250305", "name": "web_search"}]);
    let reply = daemon.ask(&ask).await;
    assert_eq!((reply.json()["stop_reason"].as_str(), asked(&up)), (Some("pause_turn"), 1), "{reply:?}");
}
