//! Counts of tokens, and lists of models.

use serde_json::{Value, json};

use crate::inside::{Daemon, Reply, asked, provider, says, upstream};

#[tokio::test]
async fn an_estimate_is_of_the_model_that_would_be_asked() {
    let tools = json!([{"name": "f", "description": "d", "input_schema": {"type": "object"}}]);
    let mut counts = Vec::new();
    for target in ["claude-opus-4-8", "gpt-4.1"] {
        let up = upstream("").await;
        let lines = format!("kind = \"local\"\nmodels = [\"{target}\"]\nauth = \"key\"");
        let daemon = Daemon::start(&provider("a", &up, &lines)).await;
        let body =
            json!({"model": target, "messages": [{"role": "user", "content": "hello"}], "tools": tools});
        let request = reqwest::Client::builder().no_proxy().build().unwrap();
        let request =
            request.post(format!("{}/v1/messages/count_tokens", daemon.url)).header("x-api-key", "k");
        let reply = Reply::read(request.body(body.to_string())).await;
        assert_eq!(reply.header("x-cproxy-count"), "estimate", "{reply:?}");
        counts.push(reply.json()["input_tokens"].as_u64().unwrap());
    }
    assert!(counts[0] > counts[1] + 400, "Anthropic's own prompt about tools: {counts:?}");
}

/// A request for a count of this body.
async fn counted(daemon: &Daemon, body: &Value) -> Reply {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.post(format!("{}/v1/messages/count_tokens", daemon.url)).header("x-api-key", "k");
    Reply::read(request.header("anthropic-beta", "context-management-2025-06-27").body(body.to_string()))
        .await
}

/// What Claude Code asks for a count of: neither a limit nor a stream.
fn asks(model: &str) -> Value {
    json!({"model": model, "system": "Be brief.", "messages": [{"role": "user", "content": "hello there"}],
        "tools": [{"name": "Read", "description": "Reads a file.", "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}}}]})
}

#[tokio::test]
async fn what_anthropic_counts_is_given_as_it_came_and_uses_up_no_limit() {
    let answer = r#"{"input_tokens": 4711,"context_management":{"original_input_tokens":9000}}"#;
    let up = upstream(&format!(
        "[[rule]]\nwhen = {{ path = \"/v1/messages/count_tokens\" }}\nanswer = {{ fail = {{ status = 200, body = '{answer}' }} }}\n"
    ))
    .await;
    let daemon = Daemon::start(&provider("a", &up, "limits = { requests_per_minute = 1 }")).await;
    let body = asks("claude-x");
    for _ in 0..3 {
        let reply = counted(&daemon, &body).await;
        assert_eq!((reply.status, reply.body.as_str()), (200, answer), "{reply:?}");
        assert_eq!(reply.header("x-cproxy-count"), "upstream");
    }
    let seen = &up.handle().requests()[0];
    assert_eq!(seen.json(), body);
    assert_eq!(seen.header("anthropic-beta"), Some("context-management-2025-06-27"));
}

#[tokio::test]
async fn openai_counts_what_it_would_be_asked_and_gets_no_other_field() {
    let up = upstream("").await;
    let kind = "kind = \"openai\"\napi = \"responses\"\nmodels = [\"gpt-5.6\"]";
    let daemon = Daemon::start(&provider("a", &up, kind)).await;
    let reply = counted(&daemon, &asks("gpt-5.6")).await;
    assert_eq!((reply.status, reply.header("x-cproxy-count")), (200, "upstream"), "{reply:?}");
    assert!(reply.json()["input_tokens"].as_u64().is_some_and(|count| count > 0), "{reply:?}");
    let seen = up.handle().requests();
    assert_eq!(seen[0].path, "/v1/responses/input_tokens");
    let sent = seen[0].json();
    let fields: Vec<&str> = sent.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, ["input", "instructions", "model", "tools"], "{sent}");
}

#[tokio::test]
async fn the_count_and_the_start_of_an_answer_say_the_same() {
    for (kind, model) in [("local", "qwen3"), ("openai", "glm-5"), ("gemini", "gemini-3-pro")] {
        let up = upstream(&says("yes")).await;
        let api = if kind == "openai" { "api = \"chat\"\n" } else { "" };
        let lines = format!("kind = \"{kind}\"\n{api}models = [\"{model}\"]");
        let daemon = Daemon::start(&provider("a", &up, &lines)).await;
        let mut body = asks(model);
        let count = counted(&daemon, &body).await.json()["input_tokens"].as_u64().unwrap();
        body["stream"] = json!(true);
        body["max_tokens"] = json!(100);
        let reply = daemon.ask(&body).await;
        let start = reply.events().into_iter().find(|event| event["type"] == "message_start").unwrap();
        assert_eq!(start["message"]["usage"]["input_tokens"], count, "{kind}: {start}");
        assert!(count > 20, "{kind}: {count}");
    }
}

#[tokio::test]
async fn models_are_listed_in_the_callers_dialect_and_by_pages() {
    let up = upstream(&says("yes")).await;
    let kind =
        "kind = \"openai\"\napi = \"chat\"\nmodels = [\"claude-a\", \"gpt-b\", \"claude-c\", \"gpt-*\"]";
    let daemon = Daemon::start(&provider("a", &up, kind)).await;
    let get = async |path: &str, header: &'static str| {
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        let request = client.get(format!("{}/v1/models{path}", daemon.url)).header(header, "2023-06-01");
        Reply::read(request).await
    };
    let whole = get("?limit=1000", "anthropic-version").await;
    assert_eq!(whole.status, 200, "{whole:?}");
    let list = whole.json();
    let ids: Vec<&str> =
        list["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(
        ids,
        ["claude-a", "claude-via-gpt-b", "claude-c"],
        "Claude Code shows only names of Claude's: {list}"
    );
    assert_eq!(
        (&list["has_more"], &list["first_id"], &list["last_id"]),
        (&json!(false), &json!("claude-a"), &json!("claude-c"))
    );
    for one in list["data"].as_array().unwrap() {
        assert_eq!(one["type"], "model");
        for text in ["display_name", "description", "created_at"] {
            assert!(one[text].as_str().is_some_and(|text| !text.is_empty()), "{one}");
        }
    }
    let page = get("?limit=1&after_id=claude-a", "x-api-key").await.json();
    assert_eq!(
        (&page["data"][0]["id"], &page["has_more"], page["data"].as_array().unwrap().len()),
        (&json!("claude-via-gpt-b"), &json!(true), 1)
    );
    let before = get("?before_id=claude-c", "x-api-key").await.json();
    assert_eq!((&before["last_id"], &before["has_more"]), (&json!("claude-via-gpt-b"), &json!(false)));

    for name in ["gpt-b", "claude-via-gpt-b"] {
        assert_eq!(
            get(&format!("/{name}"), "x-api-key").await.json()["id"],
            "claude-via-gpt-b",
            "by either name"
        );
        let mut ask = asks(name);
        ask["max_tokens"] = json!(9);
        assert!(daemon.ask(&ask).await.ended_well(), "{name}");
    }
    let asked_for: Vec<Value> =
        up.handle().requests().iter().map(|one| one.json()["model"].clone()).collect();
    assert_eq!(asked_for, ["gpt-b", "gpt-b"]);
    assert_eq!(asked(&up), 2);
    let unknown = get("/nobody", "x-api-key").await;
    assert_eq!((unknown.status, unknown.error().as_str()), (404, "not_found_error"), "{unknown:?}");

    let openai = get("", "authorization").await.json();
    assert_eq!(openai["object"], "list");
    let first = &openai["data"][0];
    assert_eq!((&first["id"], &first["object"]), (&json!("claude-a"), &json!("model")));
    assert!(first["created"].is_u64() && first["owned_by"].is_string(), "{first}");
    assert_eq!(openai["data"][1]["id"], "gpt-b", "under its own name");
    let unknown = get("/nobody", "authorization").await;
    assert_eq!((unknown.status, unknown.json()["error"]["message"].is_string()), (404, true), "{unknown:?}");
}
