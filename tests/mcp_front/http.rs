//! The MCP front over streamable HTTP, and the bridge from stdio to it, with a daemon played by the test.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::fake::{self, Fake};
use crate::user::{self, Client, Windows, call, connect_http, http, serve_http};
use cproxy::front::mcp::{Sessions, Upstream, bridge};
use futures_util::future::BoxFuture;
use rmcp::ServiceExt;
use rmcp::model::*;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

fn sessions() -> Arc<Sessions> {
    Arc::new(Sessions::new())
}

fn hello() -> Value {
    json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "raw", "version": "0" } } })
}

async fn post(port: u16, headers: &[(&'static str, &str)], body: String) -> reqwest::Response {
    let mut request = http()
        .post(format!("http://127.0.0.1:{port}/mcp"))
        .header("accept", "application/json, text/event-stream")
        .header("content-type", "application/json")
        .body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap()
}

#[tokio::test]
async fn a_session_over_http_lists_calls_reads_and_streams() {
    let served = serve_http(Fake::new(), sessions(), 0).await;
    let window = Windows::default();
    let client = connect_http(served.port, window.clone()).await;
    assert_eq!(client.list_all_tools().await.unwrap().len(), 4);
    let result = call(&client, "proxy_completion", json!({ "messages": "x", "model": "steps" })).await;
    assert_eq!(result.is_error, Some(false));
    assert!(window.progress.lock().unwrap().len() > 2);
    assert_eq!(user::read(&client, "cproxy://status").await["state"], "serving");
}

#[tokio::test]
async fn foreign_hosts_and_web_pages_are_refused() {
    let served = serve_http(Fake::new(), sessions(), 0).await;
    let port = served.port;
    let own = format!("http://localhost:{port}");
    for (headers, status) in [
        (vec![("origin", own.as_str())], 200),
        (vec![("origin", "https://evil.example")], 403),
        (vec![("origin", "http://localhost:1234")], 403),
        (vec![("host", "evil.example")], 403),
        (vec![("host", "localhost:9")], 200),
        (vec![], 200),
    ] {
        let response = post(port, &headers, hello().to_string()).await;
        assert_eq!(response.status().as_u16(), status, "{headers:?}");
    }
}

#[tokio::test]
async fn sessions_that_are_not_ours_and_bodies_too_large_are_refused() {
    let served = serve_http(Fake::new(), sessions(), 0).await;
    let list = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" }).to_string();
    let response = post(served.port, &[("mcp-session-id", "not-ours")], list).await;
    assert_eq!(response.status().as_u16(), 404);
    let huge = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": { "x": "a".repeat(100 << 20) } });
    assert_eq!(post(served.port, &[], huge.to_string()).await.status().as_u16(), 413);
    assert_eq!(post(served.port, &[], hello().to_string()).await.status().as_u16(), 200);
}

#[tokio::test]
async fn a_session_outlives_the_front_and_even_its_own_task() {
    let (fake, sessions) = (Fake::new(), sessions());
    let first = serve_http(fake.clone(), sessions.clone(), 0).await;
    let client = connect_http(first.port, Windows::default()).await;
    call(&client, "proxy_completion", json!({ "messages": "x" })).await;
    let port = first.port;
    first.stop().await;

    let _second = serve_http(fake, sessions, port).await;
    let result = call(&client, "proxy_completion", json!({ "messages": "y" })).await;
    assert_eq!(result.structured_content.unwrap()["text"], "y");
}

/// One event of a stream: its id, and its message if it has one.
#[derive(Debug)]
struct Event {
    id: String,
    message: Option<Value>,
}

/// The events of a response, as they come.
struct Events {
    response: reqwest::Response,
    pending: String,
}

impl Events {
    fn of(response: reqwest::Response) -> Events {
        assert_eq!(response.status().as_u16(), 200);
        Events { response, pending: String::new() }
    }

    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((event, rest)) = self.pending.split_once("\n\n") {
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
                let id = field("id:").map(str::trim).unwrap_or_default().to_owned();
                let data = field("data:").map(str::trim).filter(|data| !data.is_empty());
                let event = Event { id, message: data.map(|data| serde_json::from_str(data).unwrap()) };
                self.pending = rest.to_owned();
                return Some(event);
            }
            let chunk = tokio::time::timeout(Duration::from_secs(20), self.response.chunk()).await;
            let chunk = chunk.expect("in time").ok()??;
            self.pending.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The answer to a request, and the ids of the events before it.
    async fn answer(&mut self, id: u64) -> Value {
        loop {
            let event = self.next().await.expect("an answer before the end");
            if let Some(message) = event.message.filter(|message| message["id"] == id) {
                return message;
            }
        }
    }
}

/// A session by hand; gives its id.
async fn begin(port: u16) -> String {
    let response = post(port, &[], hello().to_string()).await;
    let id = response.headers()["mcp-session-id"].to_str().unwrap().to_owned();
    Events::of(response).answer(0).await;
    let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }).to_string();
    assert_eq!(post(port, &[("mcp-session-id", &id)], initialized).await.status().as_u16(), 202);
    id
}

async fn get(port: u16, headers: &[(&'static str, &str)]) -> reqwest::Response {
    let mut request =
        http().get(format!("http://127.0.0.1:{port}/mcp")).header("accept", "text/event-stream");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap()
}

fn tool_call(id: u64, arguments: Value) -> String {
    json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call",
        "params": { "name": "proxy_completion", "arguments": arguments } })
    .to_string()
}

#[tokio::test]
async fn a_stream_that_broke_is_resumed_where_it_was_and_the_answer_is_not_lost() {
    let fake = Fake::new();
    let served = serve_http(fake.clone(), sessions(), 0).await;
    let session = begin(served.port).await;
    let arguments = json!({ "messages": "x", "model": "stalled", "timeout": 1 });
    let response = post(served.port, &[("mcp-session-id", &session)], tool_call(7, arguments)).await;
    let mut events = Events::of(response);
    let seen = events.next().await.unwrap().id;
    assert!(!seen.is_empty(), "the first event has an id");
    fake.wait_open(1).await;
    drop(events);

    let headers = [("mcp-session-id", session.as_str()), ("last-event-id", seen.as_str())];
    let answer = Events::of(get(served.port, &headers).await).answer(7).await;
    assert_eq!(answer["result"]["structuredContent"]["error"]["type"], "timeout", "{answer}");
}

#[tokio::test]
async fn a_standing_stream_brings_notifications_until_the_session_is_deleted() {
    let fake = Fake::new();
    let served = serve_http(fake.clone(), sessions(), 0).await;
    let session = begin(served.port).await;
    let headers = [("mcp-session-id", session.as_str())];
    let mut standing = Events::of(get(served.port, &headers).await);
    // The watch begins right after the handshake.
    tokio::time::sleep(Duration::from_millis(100)).await;
    fake.change(|status| status.config.generation += 1);
    loop {
        let event = standing.next().await.expect("a notification");
        if event.message.is_some_and(|message| message["method"] == "notifications/tools/list_changed") {
            break;
        }
    }
    let delete =
        http().delete(format!("http://127.0.0.1:{}/mcp", served.port)).header("mcp-session-id", &session);
    assert!(delete.send().await.unwrap().status().is_success());
    while standing.next().await.is_some() {}
    let call = tool_call(1, json!({ "messages": "x" }));
    assert_eq!(post(served.port, &headers, call).await.status().as_u16(), 404);
}

#[tokio::test]
async fn over_http_a_request_id_in_use_is_refused_and_the_call_that_has_it_goes_on() {
    let fake = Fake::new();
    let served = serve_http(fake.clone(), sessions(), 0).await;
    let session = begin(served.port).await;
    let headers = [("mcp-session-id", session.as_str())];
    let stalled = json!({ "messages": "x", "model": "stalled", "timeout": 1 });
    let first = post(served.port, &headers, tool_call(5, stalled)).await;
    fake.wait_open(1).await;
    let again = || post(served.port, &headers, tool_call(5, json!({ "messages": "second" })));
    let refused = Events::of(again().await).answer(5).await;
    assert!(refused["error"]["message"].as_str().unwrap().contains("in use"), "{refused}");
    let answer = Events::of(first).answer(5).await;
    assert_eq!(answer["result"]["structuredContent"]["error"]["type"], "timeout", "{answer}");
    let answer = Events::of(again().await).answer(5).await;
    assert_eq!(answer["result"]["structuredContent"]["text"], "second", "{answer}");
}

#[tokio::test]
async fn over_http_every_protocol_version_is_spoken() {
    let served = serve_http(Fake::new(), sessions(), 0).await;
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let mut hello = hello();
        hello["params"]["protocolVersion"] = json!(version);
        let response = post(served.port, &[], hello.to_string()).await;
        let session = response.headers()["mcp-session-id"].to_str().unwrap().to_owned();
        let answer = Events::of(response).answer(0).await;
        assert_eq!(answer["result"]["protocolVersion"], version);
        let headers = [("mcp-session-id", session.as_str()), ("mcp-protocol-version", version)];
        let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }).to_string();
        post(served.port, &headers, initialized).await;
        let response = post(served.port, &headers, tool_call(1, json!({ "messages": "hello" }))).await;
        let answer = Events::of(response).answer(1).await;
        assert_eq!(answer["result"]["content"][0]["text"], "hello", "{version}");
    }
    let headers = [("mcp-protocol-version", "2099-01-01")];
    let list = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" }).to_string();
    assert_eq!(post(served.port, &headers, list).await.status().as_u16(), 400);
}

#[tokio::test]
async fn over_http_a_client_of_the_stateless_revision_lists_calls_and_reads() {
    let served = serve_http(Fake::new(), sessions(), 0).await;
    let client = user::connect_http_stateless(served.port).await;
    assert_eq!(client.list_all_tools().await.unwrap().len(), 4);
    let result = call(&client, "proxy_completion", json!({ "messages": "hello" })).await;
    assert_eq!(result.structured_content.unwrap()["text"], "hello");
    assert_eq!(user::read(&client, "cproxy://status").await["state"], "serving");
}

/// A client behind a bridge that goes wherever a daemon listens.
async fn bridged(port: u16, window: Windows) -> Client {
    let (input, bridge_input) = tokio::io::duplex(1 << 16);
    let (bridge_output, output) = tokio::io::duplex(1 << 16);
    let locate = move || -> BoxFuture<'static, Result<Upstream, String>> {
        Box::pin(async move {
            Ok(Upstream { url: format!("http://127.0.0.1:{port}/mcp"), token: None, interim: false })
        })
    };
    tokio::spawn(bridge(bridge_input, bridge_output, locate, CancellationToken::new()));
    window.serve((output, input)).await.expect("a handshake")
}

#[tokio::test]
async fn through_the_bridge_all_is_as_it_is_without_it() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.txt"), "from the file").unwrap();
    let fake = Fake::new();
    let served = serve_http(fake.clone(), sessions(), 0).await;
    let window = Windows { root: Some(format!("file://{}", dir.path().display())), ..Windows::default() };
    let client = bridged(served.port, window.clone()).await;
    let result =
        call(&client, "proxy_completion", json!({ "messages": "x", "files": ["a.txt"], "model": "steps" }))
            .await;
    assert_eq!(result.is_error, Some(false), "{result:?}");
    assert!(fake.last_body().to_string().contains("from the file"));
    assert!(window.progress.lock().unwrap().len() > 2);
    assert!(client.call_tool(CallToolRequestParams::new("proxy_dance")).await.is_err());

    let stalled = CallToolRequestParams::new("proxy_completion")
        .with_arguments(user::object(json!({ "messages": "x", "model": "stalled" })));
    let handle = client
        .send_cancellable_request(
            ClientRequest::CallToolRequest(CallToolRequest::new(stalled)),
            rmcp::service::PeerRequestOptions::no_options(),
        )
        .await
        .unwrap();
    fake.wait_open(1).await;
    handle.cancel(None).await.unwrap();
    tokio::time::timeout(Duration::from_millis(200), fake.wait_open(0)).await.expect("cancelled upstream");
}

#[tokio::test]
async fn when_the_daemon_is_replaced_the_client_keeps_its_session_and_its_subscriptions() {
    let first = serve_http(Fake::new(), sessions(), 0).await;
    let port = first.port;
    let window = Windows::default();
    let client = bridged(port, window.clone()).await;
    client.subscribe(SubscribeRequestParams::new("cproxy://status")).await.unwrap();
    call(&client, "proxy_completion", json!({ "messages": "one" })).await;
    first.kill().await;

    let fake = Fake::new();
    let _second = serve_http(fake.clone(), sessions(), port).await;
    let result = call(&client, "proxy_completion", json!({ "messages": "two" })).await;
    assert_eq!(result.structured_content.unwrap()["text"], "two", "no call fails");
    // All may read differently there: the client is told.
    fake::until(|| window.updated.lock().unwrap().len() == 1).await;
    fake::until(|| window.lists_changed.load(Ordering::SeqCst) == 2).await;
    // The new session is watched as soon as its handshake is through.
    tokio::time::sleep(Duration::from_millis(200)).await;
    fake.change(|status| status.requests += 1);
    fake::until(|| window.updated.lock().unwrap().len() == 2).await;
}

#[tokio::test]
async fn a_call_that_dies_with_its_daemon_is_answered_and_the_next_is_served() {
    for gently in [true, false] {
        let fake = Fake::new();
        let first = serve_http(fake.clone(), sessions(), 0).await;
        let port = first.port;
        let client = Arc::new(bridged(port, Windows::default()).await);
        let doomed = {
            let client = client.clone();
            let arguments = json!({ "messages": "x", "model": "stalled" });
            tokio::spawn(async move { call(&client, "proxy_completion", arguments).await })
        };
        fake.wait_open(1).await;
        if gently {
            first.stop().await;
        } else {
            first.kill().await;
        }
        let _second = serve_http(Fake::new(), sessions(), port).await;
        let result = tokio::time::timeout(Duration::from_secs(10), doomed).await.expect("an answer").unwrap();
        let error = result.structured_content.unwrap()["error"]["type"].clone();
        assert!(error == "daemon_gone" || gently && error == "cancelled", "{error}");
        let result = call(&client, "proxy_completion", json!({ "messages": "next" })).await;
        assert_eq!(result.structured_content.unwrap()["text"], "next");
    }
}

/// Not a test: a server for tools from outside (the conformance suite, the inspector), for as long as the
/// variable `CPROXY_TEST_SERVE` says, in seconds.
#[tokio::test]
#[ignore = "serves on port 39117 for tools from outside"]
async fn serve_for_tools_from_outside() {
    let seconds = std::env::var("CPROXY_TEST_SERVE").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let _served = serve_http(Fake::new(), sessions(), 39117).await;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}
