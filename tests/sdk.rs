//! Anthropic's official SDKs as clients of the built daemon, over each kind of upstream, played by the
//! simulator. The checks themselves are in tests/clients/.
//!
//! `CPROXY_NODE_MODULES` names the folder with the JavaScript SDK, `CPROXY_PYTHON` a Python that has the
//! Python SDK; without them the tests say that they were skipped. See tests/README.md.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/daemon.rs"]
mod daemon;

use std::process::Command;
use std::time::Duration;

use daemon::{CLIENT_KEY, Daemon, KINDS, Process, Upstream, named};
use serde_json::json;

/// How the upstream misbehaves, by what it is asked.
const RULES: &str = r#"
[[rule]]
when = { text = "fail with 429" }
answer = { fail = { status = 429, retry_after = 1 } }

[[rule]]
when = { text = "fail as too long" }
answer = { fail = { kind = "context_length" } }

[[rule]]
when = { text = "cut this answer short" }
answer = { parts = [{ text = "this is only the first half of what there is" }], fault = { cut = { after_outputs = 3 } } }

[[rule]]
when = { text = "go slowly" }
answer = { parts = [{ text = "slowly, slowly, slowly, slowly, slowly, slowly, slowly" }], pace = { between = "1s" } }
"#;

/// What comes back is the first answer of the upstream. After its 429 the daemon leaves it alone for the second
/// that it asked for, and the next request waits.
const ROUTING: &str = "[routing]\nretry_attempts = 0\nmax_wait = \"5s\"\n";

#[test]
fn the_javascript_sdk_gets_what_it_expects_over_every_kind_of_upstream() {
    let test = "the_javascript_sdk_gets_what_it_expects_over_every_kind_of_upstream";
    let Some(modules) = named("CPROXY_NODE_MODULES", test) else { return };
    let modules = modules.display().to_string();
    for kind in KINDS {
        let mut command = Command::new("node");
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/sdk.js"));
        passes(kind, command, &[("CPROXY_NODE_MODULES", &modules)]);
    }
}

#[test]
fn the_python_sdk_gets_what_it_expects_over_every_kind_of_upstream() {
    let test = "the_python_sdk_gets_what_it_expects_over_every_kind_of_upstream";
    let Some(python) = named("CPROXY_PYTHON", test) else { return };
    for kind in KINDS {
        let mut command = Command::new(&python);
        command.args(["-B", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/sdk.py")]);
        passes(kind, command, &[("PYTHONIOENCODING", "utf-8")]);
    }
}

/// Runs a client's checks over an upstream of this kind, and looks at what it leaves behind.
fn passes(kind: &str, mut client: Command, env: &[(&str, &str)]) {
    let upstream = Upstream::for_kind(kind, RULES);
    let daemon = Daemon::start(&format!("{}{ROUTING}", upstream.provider(kind)));
    client.args([&daemon.url, kind]);
    let home = tempfile::tempdir().unwrap();
    let home = home.path().display().to_string();
    let mut all = vec![("HOME", &*home), ("CLIENT_KEY", CLIENT_KEY)];
    all.extend_from_slice(env);
    let ended = Process::start(client, &all).finish(Duration::from_secs(120));
    let well = ended.status.success() && ended.stdout.ends_with("all well\n");
    assert!(well, "{kind}: {}\n{}\n{}", ended.stdout, ended.stderr, daemon.said());

    // The last check left in the middle of an answer: its upstream call ends, its lease returns.
    let status = daemon.until("the caller that left is noticed", |status| {
        status["open_requests"] == 0 && status["providers"][0]["open"] == 0
    });
    let restarts: Vec<_> =
        status["actors"].as_array().unwrap().iter().map(|actor| &actor["restarts"]).collect();
    assert!(restarts.iter().all(|restarts| **restarts == json!(0)), "{status:#}\n{}", daemon.said());
    for key in [daemon::UPSTREAM_KEY, CLIENT_KEY] {
        assert!(!daemon.said().contains(key) && !ended.stdout.contains(key), "{kind}: a key was shown");
    }
}
