//! What any client of Anthropic's may ask of the daemon, and the headers of what it gets.

use serde_json::json;

use crate::inside::{Daemon, Reply, asked, message, provider, says, streamed, upstream};

#[tokio::test]
async fn probes_are_answered_and_unknown_paths_and_methods_are_errors_in_anthropics_shape() {
    let up = upstream(&says("yes")).await;
    let daemon = Daemon::start(&provider("a", &up, "")).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let at = |path: &str| format!("{}{path}", daemon.url);
    for path in ["/", "/api/hello"] {
        let reply = Reply::read(client.head(at(path))).await;
        assert_eq!((reply.status, reply.body.as_str()), (200, ""), "{path}");
    }
    assert_eq!(Reply::read(client.get(at("/api/hello"))).await.status, 200);
    for (request, status, kind) in [
        (client.get(at("/v1/nothing")), 404, "not_found_error"),
        (client.post(at("/v1/complete")).body("{}"), 404, "not_found_error"),
        (client.get(at("/v1/messages")), 405, "invalid_request_error"),
    ] {
        let reply = Reply::read(request).await;
        assert_eq!((reply.status, reply.error().as_str()), (status, kind), "{reply:?}");
        let id = reply.header("request-id");
        assert!(id.starts_with("req_"), "{reply:?}");
        assert_eq!(reply.json()["request_id"], id, "the same in the body");
    }
    let beta = Reply::read(
        client.post(at("/v1/messages?beta=true")).header("x-api-key", "k").body(message("hello").to_string()),
    );
    assert!(beta.await.ended_well(), "the path alone counts, and a version is not needed");
    assert_eq!(asked(&up), 1);
}

#[tokio::test]
async fn every_answer_has_an_id_and_a_stream_says_that_nobody_may_hold_it_back() {
    let up = upstream(&says("yes")).await;
    let daemon = Daemon::start(&provider("a", &up, "")).await;
    let whole = daemon.ask(&message("hello")).await;
    assert!(
        whole.header("request-id").starts_with("req_") && whole.header("content-type") == "application/json"
    );
    let stream = daemon.ask(&streamed("hello")).await;
    assert!(stream.header("content-type").starts_with("text/event-stream"), "{stream:?}");
    assert_eq!((stream.header("cache-control"), stream.header("x-accel-buffering")), ("no-cache", "no"));
    assert_ne!(stream.header("request-id"), whole.header("request-id"));
    assert_eq!(stream.header("content-encoding"), "");
}

#[tokio::test]
async fn what_is_too_large_compressed_or_no_json_is_refused_with_its_reason_and_a_long_session_is_not() {
    let up = upstream(&says("yes")).await;
    let daemon = Daemon::start(&provider("a", &up, "")).await;
    let huge = json!({"model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": "x".repeat(33 << 20)}]});
    let reply = daemon.ask(&huge).await;
    assert_eq!((reply.status, reply.error().as_str()), (413, "request_too_large"), "{:.300}", reply.body);
    let encoded =
        Reply::read(daemon.request(message("hello").to_string()).header("content-encoding", "gzip")).await;
    assert_eq!((encoded.status, encoded.error().as_str()), (415, "invalid_request_error"), "{encoded:?}");
    let broken = Reply::read(daemon.request("{\"model\": \"claude-x\", ")).await;
    assert_eq!((broken.status, broken.error().as_str()), (400, "invalid_request_error"), "{broken:?}");
    assert_eq!(asked(&up), 0);
    let long = json!({"model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": "long word ".repeat(600_000)}]});
    assert!(daemon.ask(&long).await.ended_well(), "six megabytes are an ordinary session");
}
