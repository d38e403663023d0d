//! `cproxy mcp` as a client sees it: the built binary, its stdin and stdout, with simulators as upstreams.
//!
//! Times that matter to users are printed (`--nocapture` shows them); what is asserted is the order of things.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]
#![allow(clippy::disallowed_methods, reason = "real processes, real time")]

#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/stdio.rs"]
mod stdio;

use std::time::{Duration, Instant};

use cproxy::simulator::{self, Ended, Script, Simulator};
use daemon::{Daemon, KEY_VARIABLE, UPSTREAM_KEY};
use serde_json::{Value, json};
use stdio::Session;

/// An answer of `claude-slow` never ends, and there is no `no-such-model`; all others answer at once.
const SCRIPT: &str = r#"
[[rule]]
when = { model = "claude-slow" }
answer = { fault = { stall = { after_events = 2 } } }

[[rule]]
when = { model = "no-such-model" }
answer = { fail = { status = 404 } }
"#;

async fn upstream() -> simulator::Running {
    Simulator::start(Script::parse(SCRIPT).unwrap()).await.unwrap()
}

/// A config with the simulator as its one provider.
fn config(upstream: &simulator::Running, more: &str) -> String {
    format!(
        "[providers.simulated]\nkind = \"anthropic\"\nbase_url = \"{}\"\napi_key_env = \"{KEY_VARIABLE}\"\n\
         models = [\"claude-quick\", \"claude-slow\"]\n{more}\n[ledger]\nenabled = false\n",
        upstream.url()
    )
}

/// The arguments of a question that is answered with `word`.
fn question(word: &str) -> Value {
    json!({ "messages": format!("say {word}"), "model": "claude-quick" })
}

fn stalled() -> Value {
    json!({ "messages": "say never", "model": "claude-slow" })
}

fn text(answer: &Value) -> &str {
    let text = answer["result"]["structuredContent"]["text"].as_str();
    text.unwrap_or_else(|| panic!("no text: {answer:#}"))
}

fn error(answer: &Value) -> &str {
    answer["result"]["structuredContent"]["error"]["type"].as_str().unwrap_or_default()
}

fn arguments(config: &std::path::Path, more: &[&str]) -> Vec<String> {
    let config = config.display().to_string();
    ["mcp", "--config", &config].iter().chain(more).map(|text| (*text).to_owned()).collect()
}

/// A session of a `cproxy mcp` with this config.
async fn session(folder: &tempfile::TempDir, config: &str, more: &[&str]) -> Session {
    let path = folder.path().join("mcp.toml");
    std::fs::write(&path, config).unwrap();
    let home = folder.path().display().to_string();
    let mut session =
        Session::start(&arguments(&path, more), &[("HOME", &home), (KEY_VARIABLE, UPSTREAM_KEY)]);
    session.handshake().await;
    session
}

/// The process of the daemon that serves a session.
async fn serving(session: &mut Session) -> u64 {
    let read = session.request("resources/read", json!({ "uri": "cproxy://status" })).await;
    let status: Value =
        serde_json::from_str(read["result"]["contents"][0]["text"].as_str().unwrap()).unwrap();
    status["pid"].as_u64().unwrap()
}

/// 64 calls at once, of which the first stalls: the others are answered while it is open; cancelled, it is closed
/// upstream.
async fn of_64_calls_one_stalls(mode: &str, session: &mut Session, upstream: &simulator::Running) {
    let seen = upstream.handle();
    let limit = Duration::from_secs(60);
    let slow = session.send_call("proxy_completion", stalled()).await;
    let reached =
        |handle: &simulator::Handle| handle.requests().iter().any(|seen| seen.model == "claude-slow");
    assert!(seen.wait_until(limit, reached).await, "the call reached its upstream");

    let begun = Instant::now();
    let mut others = Vec::new();
    for n in 0..63 {
        others.push((n, session.send_call("proxy_completion", question(&format!("word {n}"))).await));
    }
    for (n, other) in others {
        assert_eq!(text(&session.answer(&other).await), format!("word {n}"));
    }
    println!("{mode}: 63 calls beside a stalled one took {:?}", begun.elapsed());
    assert!(!session.has_answer(&slow), "the stalled call is still open");

    let cancelled = Instant::now();
    session.notify("notifications/cancelled", json!({ "requestId": slow, "reason": "enough" })).await;
    let left = |handle: &simulator::Handle| {
        handle.requests().iter().all(|seen| seen.model != "claude-slow" || seen.ended == Ended::Left)
    };
    assert!(seen.wait_until(limit, left).await, "the upstream's connection is closed");
    println!("{mode}: cancelling closed the upstream's connection after {:?}", cancelled.elapsed());
    assert_eq!(text(&session.call("proxy_completion", question("after")).await), "after");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_64_calls_on_one_session_a_stalled_one_delays_none_and_is_cancelled_upstream() {
    let (upstream, folder) = (upstream().await, tempfile::tempdir().unwrap());
    let mut alone = session(&folder, &config(&upstream, ""), &["--standalone"]).await;
    of_64_calls_one_stalls("standalone", &mut alone, &upstream).await;
    alone.leave().await;

    upstream.handle().forget();
    let daemon = Daemon::start(&config(&upstream, ""));
    let folder = tempfile::tempdir().unwrap();
    let mut joined = session(&folder, "", &["--connect", &daemon.url]).await;
    of_64_calls_one_stalls("joined", &mut joined, &upstream).await;
    joined.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_its_daemon_is_killed_one_in_its_process_stands_in_until_the_next_is_there() {
    let (upstream, folder) = (upstream().await, tempfile::tempdir().unwrap());
    let first = Daemon::start(&config(&upstream, ""));
    let port: u16 = first.url.rsplit_once(':').unwrap().1.parse().unwrap();
    let mut window = session(&folder, &config(&upstream, &format!("[server]\nport = {port}\n")), &[]).await;
    let joined = serving(&mut window).await;
    assert_ne!(joined, window.pid(), "it joins the daemon that runs");
    assert_eq!(text(&window.call("proxy_completion", question("one")).await), "one");

    // Killed with a call open: that one fails, in words; the next is served by whoever is there.
    let doomed = window.send_call("proxy_completion", stalled()).await;
    let reached =
        |handle: &simulator::Handle| handle.requests().iter().any(|seen| seen.model == "claude-slow");
    assert!(upstream.handle().wait_until(Duration::from_secs(60), reached).await);
    drop(first); // as `kill -9` does, and it is waited for
    let lost = window.answer(&doomed).await;
    assert_eq!((&lost["result"]["isError"], error(&lost)), (&json!(true), "daemon_gone"), "{lost:#}");
    assert_eq!(text(&window.call("proxy_completion", question("two")).await), "two");
    assert_eq!(serving(&mut window).await, window.pid(), "one in its own process stands in");

    // The next daemon takes over by itself.
    let _next = Daemon::start_on(&config(&upstream, ""), port);
    let deadline = Instant::now() + Duration::from_secs(60);
    while serving(&mut window).await == window.pid() {
        assert!(Instant::now() < deadline, "the window goes over to the daemon");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(text(&window.call("proxy_completion", question("three")).await), "three");
    window.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_daemon_it_serves_and_connect_fails_in_words() {
    let (upstream, folder) = (upstream().await, tempfile::tempdir().unwrap());
    // Nobody listens on the port of a daemon that has stopped.
    let gone = Daemon::start(&config(&upstream, ""));
    let url = gone.url.clone();
    gone.stop();
    let port = url.rsplit_once(':').unwrap().1;
    let mut window = session(&folder, &config(&upstream, &format!("[server]\nport = {port}\n")), &[]).await;
    assert_eq!(serving(&mut window).await, window.pid());
    assert_eq!(text(&window.call("proxy_completion", question("alone")).await), "alone");
    window.leave().await;

    let path = folder.path().join("mcp.toml");
    let refused = Session::start(&arguments(&path, &["--connect", &url]), &[(KEY_VARIABLE, UPSTREAM_KEY)]);
    let (status, said) = refused.ended().await;
    assert!(!status.success());
    assert!(said.contains(&url) && said.contains("cproxy serve"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_goes_on_when_the_fronts_actor_is_killed() {
    let (upstream, folder) = (upstream().await, tempfile::tempdir().unwrap());
    let config = config(&upstream, "[faults]\nenabled = true\n");
    let mut window = session(&folder, &config, &["--standalone"]).await;
    let first = window.call("proxy_completion", question("one")).await;
    let id = first["result"]["structuredContent"]["conversation_id"].clone();
    let killed = window.call("inject_fault", json!({ "fault": "kill", "target": "root/mcp" })).await;
    assert_eq!(killed["result"]["structuredContent"]["result"]["fired_at_once"], 1, "{killed:#}");
    let mut second = question("two");
    second["conversation_id"] = id.clone();
    let second = window.call("proxy_completion", second).await;
    assert_eq!((text(&second), &second["result"]["structuredContent"]["conversation_id"]), ("two", &id));
    let asked = upstream.handle().requests();
    let said = asked.last().unwrap().json()["messages"].as_array().unwrap().len();
    assert_eq!(said, 3, "what was said before goes along");
    window.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_comes_stdout_carries_the_protocol_only_and_the_next_call_is_answered() {
    let upstream = upstream().await;
    let daemon = Daemon::start(&config(&upstream, ""));
    for more in [vec!["--standalone"], vec!["--connect", &daemon.url]] {
        let folder = tempfile::tempdir().unwrap();
        let config = config(&upstream, "[logging]\nlevel = \"trace\"\n");
        let mut window = session(&folder, &config, &more).await;
        let slow = window.send_call("proxy_completion", stalled()).await;

        // A frame of 100 MB.
        window
            .write(b"{\"jsonrpc\":\"2.0\",\"id\":\"huge\",\"method\":\"tools/call\",\"params\":{\"name\":\"")
            .await;
        let megabyte = vec![b'a'; 1 << 20];
        for _ in 0..100 {
            window.write(&megabyte).await;
        }
        window.write(b"\"}}\n").await;
        let refused = window.answer(&json!("huge")).await;
        assert!(refused["error"]["message"].as_str().unwrap().contains("bytes, more than"), "{refused:#}");

        // No JSON, no message, nothing.
        for line in ["garbage\n", "[]\n", "\n", "{\"jsonrpc\":\"2.0\"}\n", "\u{0}\u{1}\n", "{\"a\":\n"] {
            window.write(line.as_bytes()).await;
        }
        // An id that is in use, one that is free again, and the cancellation of what never was.
        let again = json!({ "jsonrpc": "2.0", "id": slow, "method": "tools/call",
            "params": { "name": "proxy_completion", "arguments": question("x") } });
        window.write(format!("{again}\n").as_bytes()).await;
        let refused = window.answer(&slow).await;
        assert!(refused["error"]["message"].as_str().unwrap().contains("in use"), "{refused:#}");
        window.notify("notifications/cancelled", json!({ "requestId": 987_654 })).await;
        window.notify("notifications/cancelled", json!({ "requestId": slow })).await;

        // Calls that can't be served.
        let unknown = window.call("proxy_dance", json!({})).await;
        assert_eq!(unknown["error"]["code"], -32602, "{unknown:#}");
        let wrong = window.call("proxy_completion", json!({ "messages": 7 })).await;
        assert_eq!(error(&wrong), "invalid_arguments", "{wrong:#}");
        let nobody = json!({ "messages": "x", "model": "no-such-model" });
        let nobody = window.call("proxy_completion", nobody).await;
        assert_eq!(error(&nobody), "not_found_error", "{nobody:#}");
        let mut nobody = question("x");
        nobody["provider"] = json!("nobody");
        let nobody = window.call("proxy_completion", nobody).await;
        assert_eq!(nobody["result"]["isError"], true, "{nobody:#}");
        assert!(nobody["result"]["content"][0]["text"].as_str().unwrap().contains("nobody"), "{nobody:#}");

        assert_eq!(text(&window.call("proxy_completion", question("well")).await), "well");
        assert_eq!(window.impure(), Vec::<String>::new(), "stdout carries only the protocol");
        window.leave().await;
    }
}
