//! The dialects over the running daemon: what an upstream gets wrong and what it refuses; counts, prompt caches, turns
//! that pause, and what goes together or not at all.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/inside.rs"]
mod inside;

#[path = "wire_end/caches.rs"]
mod caches;

#[path = "wire_end/counting.rs"]
mod counting;

#[path = "wire_end/pairs.rs"]
mod pairs;

#[path = "wire_end/paused.rs"]
mod paused;

#[path = "wire_end/surface.rs"]
mod surface;

use inside::{Daemon, Reply, message, provider, says, streamed, upstream, upstreams};
use serde_json::{Value, json};

/// The dialects in which an upstream is asked.
const KINDS: [&str; 4] = [
    "",
    "kind = \"openai\"\napi = \"chat\"\nmodels = [\"claude-x\"]",
    "kind = \"openai\"\napi = \"responses\"\nmodels = [\"claude-x\"]",
    "kind = \"gemini\"\nmodels = [\"claude-x\"]",
];

/// A script that answers with status 200 and this body.
fn body(body: &str) -> String {
    format!("strict = false\n[[rule]]\nanswer = {{ fail = {{ status = 200, body = '''{body}''' }} }}\n")
}

#[tokio::test]
async fn what_is_not_the_upstreams_dialect_goes_to_the_next_candidate_or_is_told() {
    let bomb = format!("{{\"content\": {}", "[".repeat(20_000));
    let bad = [
        "<html><title>Busy</title></html>",
        "{\"content\":[{\"type\":\"te",
        "{\"choices\": 7, \"content\": 7}",
        "",
        &bomb,
    ];
    for kind in KINDS {
        for bad in bad {
            let ups = upstreams(&[&body(bad), &says("whole")]).await;
            let config = format!(
                "[routing]\nretry_delay = \"10ms\"\n{}{}",
                provider("a", &ups[0], &format!("{kind}\npriority = 1")),
                provider("b", &ups[1], "priority = 2"),
            );
            let daemon = Daemon::start(&config).await;
            for ask in [message("hello"), streamed("hello")] {
                let reply = daemon.ask(&ask).await;
                assert!(reply.ended_well(), "{kind} {bad:.30}: {reply:?}");
                assert_eq!(reply.text(), "whole", "{kind} {bad:.30}");
            }
        }
        let up = upstream(&body(bad[0])).await;
        let daemon = Daemon::start(&provider("a", &up, kind)).await;
        for ask in [message("hello"), streamed("hello")] {
            let reply = daemon.ask(&ask).await;
            assert_eq!((reply.status, reply.error().as_str()), (502, "api_error"), "{kind}: {reply:?}");
        }
    }
}

#[tokio::test]
async fn a_chat_callers_strict_tools_are_sent_to_anthropic_again_without_strict() {
    let refuses = r#"strict = false
[[rule]]
times = 1
answer = { fail = { status = 400, body = '''{"type":"error","error":{"type":"invalid_request_error","message":"tools.0.custom: Schema is too complex for strict mode"}}''' } }
"#;
    let up = upstream(&format!("{refuses}{}", says("yes"))).await;
    let daemon = Daemon::start(&provider("a", &up, "")).await;
    let schema = json!({"type": "object", "properties": {}, "required": [], "additionalProperties": false});
    let function = json!({"name": "f", "parameters": schema, "strict": true});
    let ask = json!({"model": "claude-x", "messages": [{"role": "user", "content": "hello"}],
        "tools": [{"type": "function", "function": function}]});
    let request = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = request.post(format!("{}/v1/chat/completions", daemon.url)).bearer_auth("k");
    let reply = Reply::read(request.body(ask.to_string())).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.json()["choices"][0]["message"]["content"], "yes");
    let sent: Vec<Value> = up.handle().requests().iter().map(cproxy::simulator::Recorded::json).collect();
    let strict: Vec<bool> = sent.iter().map(|body| body["tools"][0]["strict"] == true).collect();
    assert_eq!(strict, [true, false]);
}

#[tokio::test]
async fn an_upstream_that_leaves_its_connection_open_has_ended_its_answer() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = [0; 64 << 10];
        let _ = socket.read(&mut request).await.unwrap();
        let chunks = r#"HTTP/1.1 200 OK
content-type: text/event-stream

data: {"id":"c","choices":[{"index":0,"delta":{"content":"all"},"finish_reason":null}]}

data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}

"#;
        socket.write_all(chunks.replacen('\n', "\r\n", 3).as_bytes()).await.unwrap();
        std::future::pending::<()>().await;
    });
    let config = format!(
        "[providers.a]\nkind = \"openai\"\napi = \"chat\"\nbase_url = \"{url}\"\napi_key_env = \"KEY_A\"\n\
         models = [\"claude-x\"]\nhealth = {{ interval = \"0s\" }}\n"
    );
    let daemon = Daemon::start(&config).await;
    let reply = daemon.ask(&streamed("hello")).await;
    assert!(reply.ended_well(), "{reply:?}");
    assert_eq!(reply.text(), "all");
    server.abort();
}
