//! What goes together or not at all: fields and the beta headers that they need; a model and the suffix of its name.

use serde_json::{Value, json};

use crate::inside::{Daemon, Reply, provider, says, upstream};

/// Values of `anthropic-beta`, each with the field of the body that needs it.
const BETAS: &str = "context-management-2025-06-27,effort-2025-11-24,advanced-tool-use-2025-11-20,\
    structured-outputs-2025-11-13,mcp-client-2025-11-20,fast-mode-2026-02-01";

/// A request that uses what those betas give.
fn beta_request() -> Value {
    json!({"model": "claude-x", "max_tokens": 100, "messages": [{"role": "user", "content": "hello"}],
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "output_config": {"effort": "high", "task_budget": {"type": "tokens", "total": 9000}},
        "mcp_servers": [], "speed": "fast",
        "tools": [
            {"name": "Read", "input_schema": {"type": "object", "properties": {"a": {"type": "string"}}}, "strict": true, "input_examples": [{"a": "b"}]},
            {"name": "Deploy", "input_schema": {"type": "object"}, "defer_loading": true, "allowed_callers": ["direct"]}]})
}

#[tokio::test]
async fn a_field_and_its_beta_go_together_or_not_at_all() {
    let body = beta_request();
    let up = upstream(&format!("strict = false\n{}", says("yes"))).await;
    let daemon = Daemon::start(&provider("a", &up, "")).await;
    let ask = |daemon: &Daemon| Reply::read(daemon.request(body.to_string()).header("anthropic-beta", BETAS));
    assert!(ask(&daemon).await.ended_well());
    let seen = &up.handle().requests()[0];
    assert_eq!((seen.json(), seen.header("anthropic-beta")), (body.clone(), Some(BETAS)), "both halves");

    for kind in &crate::KINDS[1..] {
        let up = upstream(&format!("strict = false\n{}", says("yes"))).await;
        let daemon = Daemon::start(&provider("a", &up, kind)).await;
        let reply = ask(&daemon).await;
        assert!(reply.ended_well(), "{kind}: {reply:?}");
        let seen = &up.handle().requests()[0];
        let headers: Vec<&str> = seen.headers.keys().map(http::HeaderName::as_str).collect();
        assert!(!headers.iter().any(|name| name.starts_with("anthropic-")), "{kind}: {headers:?}");
        let sent = seen.json().to_string();
        for field in [
            "context_management",
            "output_config",
            "task_budget",
            "mcp_servers",
            "speed",
            "defer_loading",
            "input_examples",
            "allowed_callers",
            "Deploy",
        ] {
            assert!(!sent.contains(field), "{kind}: {field} in {sent}");
        }
        let dropped = reply.header("x-cproxy-dropped");
        for field in ["context_management", "mcp_servers", "speed", "deferred tools"] {
            assert!(dropped.contains(field), "{kind}: {field} is not in \"{dropped}\"");
        }
    }
}

#[tokio::test]
async fn what_an_openai_caller_asks_of_anthropic_needs_no_beta() {
    let up = upstream(&says("yes")).await;
    let daemon = Daemon::start(&provider("a", &up, "")).await;
    let body = json!({"model": "claude-x", "reasoning_effort": "high", "messages": [{"role": "user", "content": "hello"}]});
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.post(format!("{}/v1/chat/completions", daemon.url)).bearer_auth("k");
    let reply = Reply::read(request.header("anthropic-beta", BETAS).body(body.to_string())).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let seen = &up.handle().requests()[0];
    assert_eq!(seen.header("anthropic-beta"), None, "a header of another dialect goes nowhere");
    let sent = seen.json();
    for field in ["context_management", "mcp_servers", "container", "betas"] {
        assert!(sent.get(field).is_none(), "{field} in {sent}");
    }
}

#[tokio::test]
async fn the_suffix_of_the_wide_window_becomes_its_beta_and_goes_to_no_upstream() {
    const WIDE: &str = "context-1m-2025-08-07";
    let mut body = json!({"max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]});
    body["model"] = json!("claude-x[1m]");
    for given in [None, Some("one-2025-01-01"), Some("one-2025-01-01,context-1m-2025-08-07")] {
        let up = upstream(&says("yes")).await;
        let daemon = Daemon::start(&provider("a", &up, "")).await;
        let request = daemon.request(body.to_string());
        let request = match given {
            Some(given) => request.header("anthropic-beta", given),
            None => request,
        };
        let reply = Reply::read(request).await;
        assert!(reply.ended_well(), "{reply:?}");
        let seen = &up.handle().requests()[0];
        assert_eq!(seen.json()["model"], "claude-x");
        let betas: Vec<String> = seen
            .headers
            .get_all("anthropic-beta")
            .iter()
            .map(|value| value.to_str().unwrap().to_owned())
            .collect();
        let betas = betas.join(",");
        assert_eq!(betas.matches(WIDE).count(), 1, "{betas}");
        assert_eq!(betas.contains("one-2025-01-01"), given.is_some(), "{betas}");
    }
    for kind in &crate::KINDS[1..] {
        let up = upstream(&says("yes")).await;
        let daemon = Daemon::start(&provider("a", &up, kind)).await;
        let reply = Reply::read(daemon.request(body.to_string())).await;
        assert!(reply.ended_well(), "{kind}: {reply:?}");
        let seen = &up.handle().requests()[0];
        let everything = format!("{} {} {:?}", seen.path, String::from_utf8_lossy(&seen.body), seen.headers);
        assert!(!everything.contains("[1m]") && !everything.contains(WIDE), "{kind}: {everything}");
    }
}
