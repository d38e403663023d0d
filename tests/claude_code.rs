//! The real Claude Code client, headless, over the built daemon: plain answers, sessions with tools that change
//! files, the MCP front over both transports (`claude_code/mcp.rs`), `cproxy run claude`. The upstreams are
//! simulators, so nothing leaves the machine.
//!
//! `CPROXY_CLAUDE` names the client's binary; without it each test says that it was skipped. See tests/README.md.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/daemon.rs"]
mod daemon;

/// The client, or a word on why the test is skipped.
macro_rules! client_or_skip {
    ($test:literal) => {
        match named("CPROXY_CLAUDE", $test) {
            Some(binary) => Claude::new(binary),
            None => return,
        }
    };
}

#[path = "support/claude.rs"]
mod claude;
#[path = "claude_code/mcp.rs"]
mod mcp;

use claude::{Claude, Session};
use daemon::{Daemon, KINDS, Upstream, named};
use serde_json::json;

/// What every session that went well has in common, seen from the daemon.
fn assert_served_without_a_fault(daemon: &Daemon, session: &Session) {
    let status = daemon.until("all requests ended", |status| status["open_requests"] == 0);
    let provider = &status["providers"][0];
    assert!(provider["attempts"].as_u64() >= Some(1), "no attempt: {status:#}");
    assert_eq!(provider["failures"], 0, "{status:#}\n{}", daemon.said());
    assert_eq!((&status["errors"], &status["failovers"]), (&json!(0), &json!(0)), "{status:#}");
    assert_eq!(provider["open"], 0, "a lease leaked: {status:#}");
    for actor in status["actors"].as_array().unwrap() {
        assert_eq!(actor["restarts"], 0, "{actor:#}\n{}", daemon.said());
    }
    assert!(!session.said().contains(daemon::UPSTREAM_KEY), "the provider's key reached the client");
    assert!(!daemon.said().contains(daemon::UPSTREAM_KEY), "the provider's key reached the log");
    assert!(!daemon.said().contains(daemon::CLIENT_KEY), "the caller's key reached the log");
}

#[test]
fn a_plain_answer_comes_through_over_every_kind_of_upstream() {
    let claude = client_or_skip!("a_plain_answer_comes_through_over_every_kind_of_upstream");
    for kind in KINDS {
        let upstream = Upstream::for_kind(kind, "");
        let daemon = Daemon::over(&upstream, kind);
        let session = claude.ask(&daemon, &format!("say the {kind} upstream answers\n"), &[]);
        session.ended_well();
        assert_eq!(session.result(), format!("the {kind} upstream answers"), "{}", session.said());
        assert_served_without_a_fault(&daemon, &session);
    }
}

#[test]
fn a_session_with_tools_creates_and_edits_a_file_over_every_kind_of_upstream() {
    let claude = client_or_skip!("a_session_with_tools_creates_and_edits_a_file_over_every_kind_of_upstream");
    for kind in KINDS {
        let upstream = Upstream::for_kind(kind, "");
        let daemon = Daemon::over(&upstream, kind);
        let claude = claude.in_new_folder();
        let file = claude.folder().join("notes/poem.txt");
        let path = file.display().to_string();
        let prompt = program(&[
            &call(
                "Write",
                json!({"file_path": path, "content": "roses are red\nviolets are grün — \"so\"\n"}),
            ),
            &call("Edit", json!({"file_path": path, "old_string": "red", "new_string": "blue\\n"})),
            &call("Read", json!({"file_path": path})),
            "say the poem stands",
        ]);
        let session = claude.ask(&daemon, &prompt, &["--allowedTools", "Read"]);
        session.ended_well();
        assert_eq!(session.result(), "the poem stands", "{kind}: {}", session.said());

        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text, "roses are blue\\n\nviolets are grün — \"so\"\n", "{kind}");
        let names: Vec<_> = session.calls().iter().map(|call| call.name.clone()).collect();
        assert_eq!(names, ["Write", "Edit", "Read"], "{kind}");
        session.every_call_has_its_result();
        assert!(session.calls()[2].result.contains("roses are blue"), "{kind}: {}", session.said());
        assert_served_without_a_fault(&daemon, &session);
    }
}

#[test]
fn parallel_tool_calls_all_come_back_over_every_kind_of_upstream() {
    let claude = client_or_skip!("parallel_tool_calls_all_come_back_over_every_kind_of_upstream");
    for kind in KINDS {
        let upstream = Upstream::for_kind(kind, "");
        let daemon = Daemon::over(&upstream, kind);
        let claude = claude.in_new_folder();
        for name in ["one", "two", "three"] {
            std::fs::write(claude.folder().join(name), format!("content of {name}")).unwrap();
        }
        let read = |name: &str| {
            let path = claude.folder().join(name).display().to_string();
            format!("Read {}", json!({ "file_path": path }))
        };
        let prompt = program(&[
            &format!("call {} + {} + {}", read("one"), read("two"), read("three")),
            "say all three are read",
        ]);
        let session = claude.ask(&daemon, &prompt, &["--allowedTools", "Read"]);
        session.ended_well();
        assert_eq!(session.result(), "all three are read", "{kind}: {}", session.said());
        session.every_call_has_its_result();
        let calls = session.calls();
        assert_eq!(calls.len(), 3, "{kind}: {}", session.said());
        for (call, name) in calls.iter().zip(["one", "two", "three"]) {
            assert!(call.result.contains(&format!("content of {name}")), "{kind}: {call:?}");
            assert_eq!(call.turn, calls[0].turn, "{kind}: the calls came in one answer");
        }
        assert_served_without_a_fault(&daemon, &session);
    }
}

#[test]
fn an_upstream_that_fails_at_first_is_not_noticed() {
    let claude = client_or_skip!("an_upstream_that_fails_at_first_is_not_noticed");
    let bad = Upstream::with_key("[[rule]]\nanswer = { fail = { status = 529 } }\n");
    let good = Upstream::with_key("");
    let config = format!(
        "{}\n[providers.spare]\nkind = \"openai\"\nbase_url = \"{}/v1\"\napi_key_env = \"{}\"\n\
         models = [\"gpt-simulator\"]\n[routing]\nretry_attempts = 0\n\
         [[routing.rules]]\nmodel = \"claude-*\"\ntargets = [\"simulated\", \"spare/gpt-simulator\"]\n",
        bad.provider("anthropic"),
        good.url,
        daemon::KEY_VARIABLE,
    );
    let daemon = Daemon::start(&config);
    let session = claude.ask(&daemon, "say the spare one answers\n", &[]);
    session.ended_well();
    assert_eq!(session.result(), "the spare one answers", "{}", session.said());
    assert!(!session.said().contains("api_retry"), "the client had to try again: {}", session.said());
    assert!(daemon.status()["failovers"].as_u64() >= Some(1), "{:#}", daemon.status());
}

#[test]
fn run_claude_starts_the_client_over_a_daemon_of_its_own() {
    let claude = client_or_skip!("run_claude_starts_the_client_over_a_daemon_of_its_own");
    let upstream = Upstream::with_key("");
    // Port 0: no daemon can be running there already.
    let config = claude.folder().join("config.toml");
    std::fs::write(
        &config,
        format!("{}[server]\nport = 0\n[ledger]\nenabled = false\n", upstream.provider("openai")),
    )
    .unwrap();
    let config = config.display().to_string();
    let session = claude.run_by_cproxy(&["--config", &config], "say it runs by itself\n");
    session.ended_well();
    assert_eq!(session.result(), "it runs by itself", "{}", session.said());
    let home = claude.home().join(".claude/settings.json");
    assert!(!home.exists(), "no settings file is written");
}

#[test]
fn run_claude_joins_the_daemon_that_runs() {
    let claude = client_or_skip!("run_claude_joins_the_daemon_that_runs");
    let upstream = Upstream::with_key("");
    let daemon = Daemon::over(&upstream, "anthropic");
    let port = daemon.url.rsplit_once(':').unwrap().1;
    let session = claude.run_by_cproxy(&["--port", port], "say it joined\n");
    session.ended_well();
    assert_eq!(session.result(), "it joined", "{}", session.said());
    assert!(daemon.status()["requests"].as_u64() >= Some(1), "the running daemon served it");
    assert_served_without_a_fault(&daemon, &session);
}

/// A prompt whose lines the simulator carries out, one a turn.
fn program(lines: &[&str]) -> String {
    format!("Please do this:\n{}\n", lines.join("\n"))
}

/// A line that calls a tool.
fn call(tool: &str, arguments: serde_json::Value) -> String {
    format!("call {tool} {arguments}")
}
