//! The protocol itself, line by line: versions, ids, messages that can't be served, clients that answer nothing.

use std::time::Duration;

use rmcp::model::*;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use crate::fake::Fake;
use crate::structured;
use crate::user::{self, call};

#[tokio::test]
async fn messages_that_cannot_be_served_are_answered_and_the_next_is_served() {
    let (input, output) = user::raw(Fake::new());
    let (mut input, mut output) = (input, BufReader::new(output).lines());
    user::handshake(&mut input, &mut output).await;

    let huge = async {
        let head = b"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/call\",\"params\":{\"name\":\"";
        input.write_all(head).await.unwrap();
        let megabyte = vec![b'a'; 1 << 20];
        for _ in 0..100 {
            input.write_all(&megabyte).await.unwrap();
        }
        input.write_all(b"\"}}\n").await.unwrap();
    };
    huge.await;
    let answer: Value = serde_json::from_str(&user::line(&mut output).await).unwrap();
    assert_eq!(answer["id"], 7);
    assert!(answer["error"]["message"].as_str().unwrap().contains("bytes, more than"), "{answer}");

    let deep =
        format!("{{\"jsonrpc\":\"2.0\",\"id\":8,\"method\":\"tools/call\",\"params\":{}\n", "[".repeat(5000));
    for (line, id, code) in [
        (deep, 8, -32600),
        ("{\"jsonrpc\":\"2.0\",\"id\":9,\"method\":\"no/such\"}\n".into(), 9, -32601),
        (
            "{\"jsonrpc\":\"2.0\",\"id\":10,\"method\":\"tools/call\",\"params\":{\"name\":5}}\n".into(),
            10,
            -32602,
        ),
        ("{\"jsonrpc\":\"2.0\",\"id\":12,\"method\":\"tools/call\"}\n".into(), 12, -32602),
    ] {
        input.write_all(line.as_bytes()).await.unwrap();
        let answer: Value = serde_json::from_str(&user::line(&mut output).await).unwrap();
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(id), &json!(code)), "{answer}");
    }
    input.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":11,\"method\":\"ping\"}\n").await.unwrap();
    let answer: Value = serde_json::from_str(&user::line(&mut output).await).unwrap();
    assert_eq!((answer["id"].as_u64(), answer["result"].is_object()), (Some(11), true));
}

#[tokio::test]
async fn a_request_id_that_is_in_use_is_refused_and_the_call_that_has_it_goes_on() {
    let fake = Fake::new();
    let (mut input, output) = user::raw(fake.clone());
    let mut output = BufReader::new(output).lines();
    user::handshake(&mut input, &mut output).await;
    let call = |arguments: Value| {
        let call = json!({ "jsonrpc": "2.0", "id": 5, "method": "tools/call",
            "params": { "name": "proxy_completion", "arguments": arguments } });
        format!("{call}\n")
    };
    let first = call(json!({ "messages": "x", "model": "stalled", "timeout": 1 }));
    let second = call(json!({ "messages": "second", "model": "echo" }));
    input.write_all(first.as_bytes()).await.unwrap();
    fake.wait_open(1).await;
    input.write_all(second.as_bytes()).await.unwrap();
    let answer = user::answer(&mut output, 5).await;
    assert!(answer["error"]["message"].as_str().unwrap().contains("in use"), "{answer}");
    // The first call still has its answer, here that it was too slow; then the id is free again.
    let answer = user::answer(&mut output, 5).await;
    assert_eq!(answer["result"]["structuredContent"]["error"]["type"], "timeout", "{answer}");
    input.write_all(second.as_bytes()).await.unwrap();
    let answer = user::answer(&mut output, 5).await;
    assert_eq!(answer["result"]["structuredContent"]["text"], "second", "{answer}");
}

#[tokio::test]
async fn a_call_whose_id_was_repeated_can_still_be_cancelled() {
    let fake = Fake::new();
    let (mut input, output) = user::raw(fake.clone());
    let mut output = BufReader::new(output).lines();
    user::handshake(&mut input, &mut output).await;
    let stalled = json!({ "jsonrpc": "2.0", "id": 5, "method": "tools/call",
        "params": { "name": "proxy_completion", "arguments": { "messages": "x", "model": "stalled" } } });
    for _ in 0..2 {
        input.write_all(format!("{stalled}\n").as_bytes()).await.unwrap();
        fake.wait_open(1).await;
        input.write_all(format!("{stalled}\n").as_bytes()).await.unwrap();
        let answer = user::answer(&mut output, 5).await;
        assert!(answer["error"].is_object(), "{answer}");
        let cancel =
            json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 5 } });
        input.write_all(format!("{cancel}\n").as_bytes()).await.unwrap();
        fake.wait_open(0).await;
    }
}

#[tokio::test]
async fn every_protocol_version_is_spoken_and_an_unknown_one_gets_the_newest_with_a_handshake() {
    for (asked, spoken) in [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("2099-01-01", "2025-11-25"),
        ("nonsense", "2025-11-25"),
    ] {
        let (mut input, output) = user::raw(Fake::new());
        let mut output = BufReader::new(output).lines();
        assert_eq!(user::handshake_in(&mut input, &mut output, asked).await, spoken, "{asked}");
        let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": { "name": "proxy_completion", "arguments": { "messages": "hello" } } });
        input.write_all(format!("{call}\n").as_bytes()).await.unwrap();
        let answer: Value = serde_json::from_str(&user::line(&mut output).await).unwrap();
        assert_eq!(answer["result"]["content"][0]["text"], "hello", "{asked}: {answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_answers_nothing_costs_its_own_call_and_no_other() {
    let fake = Fake::new();
    let (mut input, output) = user::raw(fake.clone());
    let mut output = BufReader::new(output).lines();
    let hello = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": { "roots": {} },
        "clientInfo": { "name": "mute", "version": "0" } } });
    input.write_all(format!("{hello}\n").as_bytes()).await.unwrap();
    user::line(&mut output).await;
    input.write_all(b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n").await.unwrap();
    for (id, arguments) in
        [(1, json!({ "messages": "x", "files": ["a.txt"] })), (2, json!({ "messages": "beside" }))]
    {
        let call = json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call",
            "params": { "name": "proxy_completion", "arguments": arguments } });
        input.write_all(format!("{call}\n").as_bytes()).await.unwrap();
    }
    let mut answers = std::collections::BTreeMap::new();
    while answers.len() < 2 {
        let message: Value = serde_json::from_str(&user::line(&mut output).await).unwrap();
        if message.get("method").is_none() {
            answers.insert(message["id"].as_u64(), message["result"]["structuredContent"].clone());
        }
    }
    assert_eq!(answers[&Some(2)]["text"], "beside");
    let error = answers[&Some(1)]["error"]["message"].as_str().unwrap();
    assert!(error.contains("did not name its roots"), "{error}");
}

#[tokio::test]
async fn a_client_of_the_stateless_revision_calls_and_listens() {
    let fake = Fake::new();
    let client = user::connect_stateless(fake.clone()).await;
    let result = call(&client, "proxy_completion", json!({ "messages": "hello" })).await;
    assert_eq!(structured(&result)["text"], "hello");
    let filter = SubscriptionFilter::builder().resource_subscription("cproxy://status").build();
    let mut subscription = client.listen(filter).await.unwrap();
    // The watch begins after the acknowledgement.
    tokio::time::sleep(Duration::from_millis(100)).await;
    fake.change(|status| status.requests += 1);
    let told =
        tokio::time::timeout(Duration::from_secs(5), subscription.next()).await.expect("in time").unwrap();
    assert!(matches!(told, Some(ServerNotification::ResourceUpdatedNotification(_))), "{told:?}");
}
