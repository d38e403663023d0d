//! The MCP front under the real client: every tool, every resource, every transport; and what the client sees of
//! it when the front's actor or the whole daemon is killed in the middle of a session.

#![allow(clippy::disallowed_methods, reason = "real processes, real time")]

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::claude::{Claude, Session};
use crate::daemon::{self, CPROXY, Daemon, Upstream, named};
use crate::{call, program};

/// The resources, and the member that each must have to be worth reading.
const RESOURCES: [(&str, &str); 8] = [
    ("cproxy://status", "providers"),
    ("cproxy://health", "ok"),
    ("cproxy://providers", "providers"),
    ("cproxy://providers/simulated", "name"),
    ("cproxy://models", "models"),
    ("cproxy://usage", "total"),
    ("cproxy://requests/recent", "requests"),
    ("cproxy://config", "providers"),
];

const ALLOWED: &str = "mcp__cproxy__proxy_completion,mcp__cproxy__proxy_compare,mcp__cproxy__proxy_config,\
                       mcp__cproxy__explain_route,mcp__cproxy__inject_fault,ReadMcpResourceTool,ListMcpResourcesTool";

/// An answer of `claude-slow` never ends.
const SLOW: &str =
    "[[rule]]\nwhen = { model = \"claude-slow\" }\nanswer = { fault = { stall = { after_events = 2 } } }\n";

/// There is no `claude-broken`.
const BROKEN: &str = "[[rule]]\nwhen = { model = \"claude-broken\" }\nanswer = { fail = { status = 404 } }\n";

/// A daemon in which all may be done.
fn open_daemon(upstream: &Upstream) -> Daemon {
    let more = "[mcp]\nallow_changes = true\n[faults]\nenabled = true\n[ledger]\nfile = \"ledger.sqlite3\"\n";
    Daemon::start(&format!("{}{more}", upstream.provider("anthropic")))
}

fn ask(word: &str) -> Value {
    json!({ "messages": format!("say {word}"), "model": "claude-other", "max_tokens": 200 })
}

fn read(uri: &str) -> Value {
    json!({ "server": "cproxy", "uri": uri })
}

/// The options by which the client has this MCP server, and may use it.
fn with_server(claude: &Claude, server: Value) -> [String; 5] {
    let config = claude.folder().join("mcp.json");
    std::fs::write(&config, json!({ "mcpServers": { "cproxy": server } }).to_string()).unwrap();
    let config = config.display().to_string();
    ["--mcp-config", &config, "--strict-mcp-config", "--allowedTools", ALLOWED].map(str::to_owned)
}

fn strs(options: &[String]) -> Vec<&str> {
    options.iter().map(String::as_str).collect()
}

/// What the model is shown of a tool's result.
fn shown(session: &Session, at: usize) -> Value {
    let result = &session.calls()[at].result;
    serde_json::from_str(result).unwrap_or_else(|error| panic!("{error}: {result}\n{}", session.said()))
}

/// The client calls each tool and reads each resource.
fn drives_the_mcp_front(claude: &Claude, daemon: &Daemon, server: Value) {
    let tools = [
        call("mcp__cproxy__proxy_completion", ask("I am the other model")),
        call(
            "mcp__cproxy__proxy_compare",
            json!({ "messages": "say alike", "models": ["claude-one", "claude-two", "claude-broken"] }),
        ),
        call("mcp__cproxy__proxy_config", json!({ "action": "get" })),
        call("mcp__cproxy__proxy_config", json!({ "action": "validate" })),
        call("mcp__cproxy__proxy_config", json!({ "action": "strategy", "strategy": "latency" })),
        call("mcp__cproxy__explain_route", json!({ "model": "claude-other" })),
        call("mcp__cproxy__inject_fault", json!({ "fault": "slow", "delay": "1ms", "times": 1 })),
        call("mcp__cproxy__inject_fault", json!({ "fault": "off" })),
        call("ListMcpResourcesTool", json!({ "server": "cproxy" })),
    ];
    let reads: Vec<String> = RESOURCES
        .iter()
        .map(|(uri, _)| call("ReadMcpResourceTool", read(uri)).replacen("call ", "", 1))
        .collect();
    let mut lines: Vec<&str> = tools.iter().map(String::as_str).collect();
    let reads = format!("call {}", reads.join(" + "));
    lines.extend([reads.as_str(), "say all came back"]);
    let options = with_server(claude, server);
    let session = claude.ask(daemon, &program(&lines), &strs(&options));
    session.ended_well();
    let servers = &session.first("init")["mcp_servers"];
    assert_eq!(servers[0]["status"], "connected", "{servers:#}\n{}", session.said());
    assert_eq!(session.result(), "all came back", "{}", session.said());
    session.every_call_has_its_result();

    // The model sees the structured content, so all must be in it.
    let answer = shown(&session, 0);
    assert_eq!(answer["text"], "I am the other model", "{answer:#}");
    assert_eq!(answer["provider"], "simulated", "{answer:#}");
    assert!(answer["model"].is_string() && answer["usage"].is_object(), "{answer:#}");
    let compared = shown(&session, 1);
    let texts: Vec<_> =
        compared["answers"].as_array().unwrap().iter().map(|one| one["text"].as_str()).collect();
    assert_eq!(texts, [Some("alike"), Some("alike"), Some("")], "{compared:#}");
    assert!(compared["answers"][2]["error"]["advice"].is_string(), "{compared:#}");
    assert!(shown(&session, 2)["config"]["providers"]["simulated"].is_object());
    assert_eq!(shown(&session, 3)["result"]["valid"], true);
    assert_eq!(shown(&session, 4)["done"], true);
    assert!(session.calls()[5].result.contains("simulated"), "{}", session.calls()[5].result);
    for (at, (uri, member)) in RESOURCES.iter().enumerate() {
        let result = &session.calls()[tools.len() + at].result;
        assert!(result.contains(uri) && result.contains(&format!("{member}\\\"")), "{uri}: {result}");
        let listed = session.calls()[8].result.contains(uri) || uri.ends_with("/simulated");
        assert!(listed, "{uri} is not listed: {}", session.calls()[8].result);
    }
    assert!(!session.said().contains(daemon::UPSTREAM_KEY), "a key is shown");
}

#[test]
fn over_stdio_each_tool_is_called_and_each_resource_read() {
    let claude = client_or_skip!("over_stdio_each_tool_is_called_and_each_resource_read");
    let upstream = Upstream::with_key(BROKEN);
    let daemon = open_daemon(&upstream);
    let server = json!({ "command": CPROXY, "args": ["mcp", "--connect", daemon.url] });
    drives_the_mcp_front(&claude, &daemon, server);
}

#[test]
fn over_stdio_alone_each_tool_is_called_and_each_resource_read() {
    let claude = client_or_skip!("over_stdio_alone_each_tool_is_called_and_each_resource_read");
    let upstream = Upstream::with_key(BROKEN);
    let daemon = open_daemon(&upstream);
    let config = daemon.folder().join("config.toml");
    let server = json!({
        "command": CPROXY, "args": ["mcp", "--standalone", "--config", config],
        "env": { daemon::KEY_VARIABLE: daemon::UPSTREAM_KEY, "HOME": daemon.folder() },
    });
    drives_the_mcp_front(&claude, &daemon, server);
}

#[test]
fn over_http_each_tool_is_called_and_each_resource_read() {
    let claude = client_or_skip!("over_http_each_tool_is_called_and_each_resource_read");
    let upstream = Upstream::with_key(BROKEN);
    let daemon = open_daemon(&upstream);
    let server = json!({ "type": "http", "url": format!("{}/mcp", daemon.url) });
    drives_the_mcp_front(&claude, &daemon, server);
}

/// Waits until something is so.
fn until(what: &str, so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !so() {
        assert!(Instant::now() < deadline, "{what}: not within 60 s");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A line that waits, within the session, until the test makes the file of this name in the session's folder.
fn wait_for(file: &str) -> String {
    let command = format!("until [ -e {file} ]; do sleep 0.1; done; echo there");
    call("Bash", json!({ "command": command, "description": "Wait for the test" }))
}

#[test]
fn the_mcp_front_killed_within_a_session_is_not_noticed() {
    let claude = client_or_skip!("the_mcp_front_killed_within_a_session_is_not_noticed");
    for http in [false, true] {
        let upstream = Upstream::with_key("");
        let daemon = open_daemon(&upstream);
        let claude = claude.in_new_folder();
        let server = if http {
            json!({ "type": "http", "url": format!("{}/mcp", daemon.url) })
        } else {
            json!({ "command": CPROXY, "args": ["mcp", "--connect", daemon.url] })
        };
        let mut options = with_server(&claude, server);
        options[4].push_str(",Bash");
        let lines = [
            call("mcp__cproxy__proxy_completion", ask("one")),
            call("mcp__cproxy__inject_fault", json!({ "fault": "kill", "target": "root/mcp" })),
            wait_for("killed"),
            call("mcp__cproxy__proxy_completion", ask("two")),
            call("ReadMcpResourceTool", read("cproxy://status")),
            "say it went on".to_owned(),
        ];
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let session = std::thread::scope(|scope| {
            let session = scope.spawn(|| claude.ask(&daemon, &program(&lines), &strs(&options)));
            let killed = |status: &Value| {
                let actors = status["actors"].as_array().unwrap();
                actors.iter().any(|actor| actor["path"] == "root/mcp" && actor["restarts"] == 1)
            };
            until("the front's actor is killed", || killed(&daemon.status()));
            std::fs::write(claude.folder().join("killed"), "").unwrap();
            session.join().unwrap()
        });
        session.ended_well();
        session.every_call_has_its_result();
        assert_eq!(session.result(), "it went on", "{}", session.said());
        assert_eq!(shown(&session, 3)["text"], "two");
    }
}

/// The daemon's port.
fn port(daemon: &Daemon) -> u16 {
    daemon.url.rsplit_once(':').unwrap().1.parse().unwrap()
}

#[test]
fn a_daemon_killed_within_a_session_over_stdio_costs_one_call_at_most() {
    let claude = client_or_skip!("a_daemon_killed_within_a_session_over_stdio_costs_one_call_at_most");
    let upstream = Upstream::with_key(SLOW);
    let daemon = Daemon::over(&upstream, "anthropic");
    let config = claude.folder().join("config.toml");
    let text = format!(
        "{}[server]\nport = {}\n[ledger]\nenabled = false\n",
        upstream.provider("anthropic"),
        port(&daemon)
    );
    std::fs::write(&config, text).unwrap();
    let server = json!({
        "command": CPROXY, "args": ["mcp", "--config", config],
        "env": { daemon::KEY_VARIABLE: daemon::UPSTREAM_KEY },
    });
    let options = with_server(&claude, server);
    let slow = json!({ "messages": "say never", "model": "claude-slow" });
    let lines = [
        call("mcp__cproxy__proxy_completion", ask("one")),
        // The daemon is killed in the middle of this.
        call("mcp__cproxy__proxy_completion", slow),
        call("mcp__cproxy__proxy_completion", ask("two")),
        call("ReadMcpResourceTool", read("cproxy://health")),
        "say it went on".to_owned(),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let session = std::thread::scope(|scope| {
        let session = scope.spawn(|| claude.ask_beside(&upstream, &program(&lines), &strs(&options)));
        until("the slow call is open", || {
            let status = daemon.status();
            status["open_requests"] == 1 && status["requests"] == 2
        });
        drop(daemon); // as `kill -9` does, and it is waited for
        session.join().unwrap()
    });
    session.ended_well();
    assert_eq!(session.result(), "it went on", "{}", session.said());
    let calls = session.calls();
    let failed: Vec<_> = calls.iter().filter(|call| call.failed).collect();
    assert_eq!(failed.len(), 1, "{calls:#?}");
    assert!(
        failed[0].result.contains("daemon_gone") && failed[0].result.contains("Call again"),
        "{failed:#?}"
    );
    assert_eq!(shown(&session, 0)["text"], "one");
    assert_eq!(shown(&session, 2)["text"], "two");
    assert!(calls[3].has_result && calls[3].result.contains("providers_ready"), "{calls:#?}");
}

#[test]
fn a_daemon_replaced_within_a_session_over_http_costs_one_call_at_most() {
    let claude = client_or_skip!("a_daemon_replaced_within_a_session_over_http_costs_one_call_at_most");
    let upstream = Upstream::with_key("");
    let daemon = Daemon::over(&upstream, "anthropic");
    let server = json!({ "type": "http", "url": format!("{}/mcp", daemon.url) });
    let mut options = with_server(&claude, server);
    options[4].push_str(",Bash");
    let lines = [
        call("mcp__cproxy__proxy_completion", ask("one")),
        wait_for("replaced"),
        call("mcp__cproxy__proxy_completion", ask("two")),
        call("mcp__cproxy__proxy_completion", ask("three")),
        "say it went on".to_owned(),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let session = std::thread::scope(|scope| {
        let session = scope.spawn(|| claude.ask_beside(&upstream, &program(&lines), &strs(&options)));
        until("the first call is answered", || {
            let status = daemon.status();
            status["open_requests"] == 0 && status["requests"] == 1
        });
        let port = port(&daemon);
        drop(daemon); // as `kill -9` does, and its port is free
        let next = Daemon::start_on(&upstream.provider("anthropic"), port);
        std::fs::write(claude.folder().join("replaced"), "").unwrap();
        (session.join().unwrap(), next)
    });
    let (session, _next) = session;
    session.ended_well();
    assert_eq!(session.result(), "it went on", "{}", session.said());
    let calls = session.calls();
    let failed: Vec<_> = calls.iter().filter(|call| call.failed).collect();
    assert!(failed.len() <= 1, "{calls:#?}");
    assert_eq!(shown(&session, 3)["text"], "three", "{calls:#?}");
}

#[test]
fn the_plugin_is_valid_and_brings_the_server_and_its_command() {
    let claude = client_or_skip!("the_plugin_is_valid_and_brings_the_server_and_its_command");
    let plugin = concat!(env!("CARGO_MANIFEST_DIR"), "/plugin");
    let manifest = format!("{plugin}/.claude-plugin/plugin.json");
    claude.does(&["plugin", "validate", plugin]);
    claude.does(&["plugin", "validate", &manifest]);
    claude.does(&["plugin", "marketplace", "add", plugin]);
    claude.does(&["plugin", "install", "cproxy@cproxy"]);

    // Nothing is configured, so the server's own simulator answers.
    let upstream = Upstream::with_key("");
    let config = claude.home().join(".config/cproxy");
    std::fs::create_dir_all(&config).unwrap();
    std::fs::write(config.join("config.toml"), "[server]\nport = 1\n").unwrap();
    let tool = "mcp__plugin_cproxy_cproxy__proxy_completion";
    let ask = json!({ "messages": "say by the plugin", "model": "claude-simulator" });
    let prompt = program(&[&call(tool, ask), "say done"]);
    let session = claude.ask_beside(&upstream, &prompt, &["--allowedTools", tool]);
    session.ended_well();
    let begun = session.first("init");
    let has = |list: &str, name: &str| begun[list].as_array().unwrap().iter().any(|one| one == name);
    assert!(has("slash_commands", "cproxy:status"), "{begun:#}");
    assert_eq!(shown(&session, 0)["text"], "by the plugin", "{}", session.said());
}
