//! OpenAI's official SDK as client of the built daemon, over each kind of upstream, played by the simulator. The
//! checks themselves are in tests/clients/openai.mjs.
//!
//! `CPROXY_NODE_MODULES` names the folder with the SDK; without it the test says that it was skipped.

#![allow(clippy::disallowed_methods, reason = "real processes, real time")]

#[path = "../support/daemon.rs"]
mod daemon;

use std::process::Command;
use std::time::Duration;

use daemon::{CLIENT_KEY, Daemon, KEY_VARIABLE, Process, Upstream, named};

/// How the upstream misbehaves, by what it is asked.
const RULES: &str = r#"
[[rule]]
when = { text = "fail with 429" }
answer = { fail = { status = 429, retry_after = 1 } }

[[rule]]
when = { text = "fail as too long" }
answer = { fail = { kind = "context_length" } }

[[rule]]
when = { text = "fail as unknown" }
answer = { fail = { kind = "model_not_found" } }

[[rule]]
when = { text = "cut this answer short" }
answer = { parts = [{ text = "this is only the first half of what there is" }], fault = { cut = { after_outputs = 3 } } }

[[rule]]
when = { text = "go slowly" }
answer = { parts = [{ text = "slowly, slowly, slowly, slowly, slowly, slowly, slowly" }], pace = { between = "1s" } }
"#;

#[test]
fn the_openai_sdk_gets_what_it_expects_over_every_kind_of_upstream() {
    let test = "the_openai_sdk_gets_what_it_expects_over_every_kind_of_upstream";
    let Some(modules) = named("CPROXY_NODE_MODULES", test) else { return };
    if !modules.join("openai").is_dir() {
        println!("SKIPPED {test}: no package openai in {}", modules.display());
        return;
    }
    let modules = modules.display().to_string();
    let upstreams = [
        ("anthropic", "", "claude-simulator", ""),
        ("openai", "/v1", "gpt-simulator", ""),
        ("openai", "/v1", "gpt-simulator", "api = \"responses\"\n"),
        ("openrouter", "/api/v1", "openai/gpt-simulator", ""),
        ("gemini", "", "gemini-3-simulator", ""),
        ("local", "/v1", "simulator", ""),
    ];
    for (kind, path, model, more) in upstreams {
        let upstream = Upstream::with_key(RULES);
        let config = format!(
            "[providers.simulated]\nkind = \"{kind}\"\nbase_url = \"{}{path}\"\napi_key_env = \"{KEY_VARIABLE}\"\n\
             models = [\"{model}\"]\n{more}[models]\n\"test-model\" = [\"simulated/{model}\"]\n\
             [routing]\nretry_attempts = 0\nmax_wait = \"5s\"\n",
            upstream.url
        );
        let daemon = Daemon::start(&config);
        let mut client = Command::new("node");
        client.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/openai.mjs"));
        client.args([daemon.url.as_str(), if more.is_empty() { kind } else { "responses" }]);
        let home = tempfile::tempdir().unwrap();
        let home = home.path().display().to_string();
        let env = [("HOME", &*home), ("CLIENT_KEY", CLIENT_KEY), ("CPROXY_NODE_MODULES", &modules)];
        let ended = Process::start(client, &env).finish(Duration::from_secs(120));
        let well = ended.status.success() && ended.stdout.ends_with("all well\n");
        assert!(well, "{kind} {more}: {}\n{}\n{}", ended.stdout, ended.stderr, daemon.said());
        daemon.until("the caller that left is noticed", |status| {
            status["open_requests"] == 0 && status["providers"][0]["open"] == 0
        });
        for key in [daemon::UPSTREAM_KEY, CLIENT_KEY] {
            assert!(!daemon.said().contains(key) && !ended.stdout.contains(key), "{kind}: a key was shown");
        }
    }
}
