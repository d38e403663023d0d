//! Drives the Claude Code client headless, and reads what it reports of its session (`--output-format
//! stream-json`: one JSON object a line).
//!
//! Source: Claude Code documentation, "Headless mode" and "Environment variables".

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::daemon::{CLIENT_KEY, CPROXY, Daemon, Ended, Process, UPSTREAM_KEY, Upstream};

/// How long one session may take. A session of three turns takes some two seconds.
const LIMIT: Duration = Duration::from_secs(120);

/// The client, with a home and a working folder of its own.
#[derive(Clone)]
pub struct Claude {
    binary: PathBuf,
    home: Arc<tempfile::TempDir>,
    work: Arc<tempfile::TempDir>,
}

/// A session that has ended.
pub struct Session {
    events: Vec<Value>,
    ended: Ended,
}

/// A tool call, and what came back for it.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its id.
    pub id: String,
    /// The tool.
    pub name: String,
    /// The id of the model's answer that it stands in.
    pub turn: String,
    /// The result as text; empty if none came.
    pub result: String,
    /// Whether a result came.
    pub has_result: bool,
    /// Whether the result says that the call failed.
    pub failed: bool,
}

// === impl Claude ===

impl Claude {
    /// The client of this binary.
    pub fn new(binary: PathBuf) -> Claude {
        let folder = || Arc::new(tempfile::tempdir().unwrap());
        Claude { binary, home: folder(), work: folder() }
    }

    /// The same client in an empty folder.
    pub fn in_new_folder(&self) -> Claude {
        Claude { work: Arc::new(tempfile::tempdir().unwrap()), ..self.clone() }
    }

    /// Where it works.
    pub fn folder(&self) -> &Path {
        self.work.path()
    }

    /// Its home.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Runs one session over the daemon.
    pub fn ask(&self, daemon: &Daemon, prompt: &str, arguments: &[&str]) -> Session {
        self.ask_at(&daemon.url, CLIENT_KEY, prompt, arguments)
    }

    /// Runs one session whose own model is straight at the upstream, so that it does not depend on any daemon.
    pub fn ask_beside(&self, upstream: &Upstream, prompt: &str, arguments: &[&str]) -> Session {
        self.ask_at(&upstream.url, UPSTREAM_KEY, prompt, arguments)
    }

    fn ask_at(&self, url: &str, key: &str, prompt: &str, arguments: &[&str]) -> Session {
        let mut command = Command::new(&self.binary);
        command.args(headless(prompt)).args(arguments);
        self.run(command, &[("ANTHROPIC_BASE_URL", url), ("ANTHROPIC_API_KEY", key)])
    }

    /// Runs one session by `cproxy run`, with these options of cproxy's, and no credential of its own.
    pub fn run_by_cproxy(&self, options: &[&str], prompt: &str) -> Session {
        let mut command = Command::new(CPROXY);
        command.arg("run").args(options).arg(&self.binary).args(headless(prompt));
        self.run(command, &[(super::daemon::KEY_VARIABLE, UPSTREAM_KEY)])
    }

    /// Runs one of the client's own commands, which must succeed.
    pub fn does(&self, arguments: &[&str]) {
        let mut command = Command::new(&self.binary);
        command.args(arguments);
        let Ended { status, stdout, stderr } = self.start(command, &[]).finish(LIMIT);
        assert!(status.success(), "{arguments:?}: {status}\n{stdout}\n{stderr}");
    }

    /// Starts a command in the client's home and folder, with cproxy on the path.
    fn start(&self, mut command: Command, env: &[(&str, &str)]) -> Process {
        command.current_dir(self.folder());
        let home = self.home().display().to_string();
        let programs = Path::new(CPROXY).parent().unwrap().display();
        let path = format!("{programs}:{}", std::env::var("PATH").unwrap_or_default());
        let mut all =
            vec![("HOME", &*home), ("PATH", &*path), ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")];
        all.extend_from_slice(env);
        Process::start(command, &all)
    }

    fn run(&self, command: Command, env: &[(&str, &str)]) -> Session {
        let ended = self.start(command, env).finish(LIMIT);
        let events = ended.stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        Session { events, ended }
    }
}

/// A prompt without a terminal; files in the working folder may be changed without asking.
fn headless(prompt: &str) -> [&str; 7] {
    ["-p", prompt, "--output-format", "stream-json", "--verbose", "--permission-mode", "acceptEdits"]
}

// === impl Session ===

impl Session {
    /// Asserts that the client is content.
    pub fn ended_well(&self) {
        let last = self.events.last().cloned().unwrap_or_default();
        let well = last["type"] == "result" && last["subtype"] == "success" && last["is_error"] == false;
        assert!(well && self.ended.status.success(), "the session did not end well: {}", self.said());
    }

    /// The final answer.
    pub fn result(&self) -> &str {
        self.events.last().and_then(|last| last["result"].as_str()).unwrap_or_default()
    }

    /// The first event of this subtype.
    pub fn first(&self, subtype: &str) -> &Value {
        let found = self.events.iter().find(|event| event["subtype"] == subtype);
        found.unwrap_or_else(|| panic!("no event \"{subtype}\": {}", self.said()))
    }

    /// The tool calls, in order, with their results.
    pub fn calls(&self) -> Vec<Call> {
        let mut calls: Vec<Call> = Vec::new();
        for message in self.events.iter().map(|event| &event["message"]) {
            for block in message["content"].as_array().into_iter().flatten() {
                let text = |name: &str| block[name].as_str().unwrap_or_default().to_owned();
                if block["type"] == "tool_use" {
                    calls.push(Call {
                        id: text("id"),
                        name: text("name"),
                        turn: message["id"].as_str().unwrap_or_default().to_owned(),
                        result: String::new(),
                        has_result: false,
                        failed: false,
                    });
                } else if block["type"] == "tool_result" {
                    let id = text("tool_use_id");
                    let call = calls.iter_mut().find(|call| call.id == id);
                    let call = call.unwrap_or_else(|| panic!("a result without its call: {block:#}"));
                    call.result = content(&block["content"]);
                    call.has_result = true;
                    call.failed = block["is_error"] == true;
                }
            }
        }
        calls
    }

    /// Asserts that every call came back, and none failed.
    pub fn every_call_has_its_result(&self) {
        for call in self.calls() {
            assert!(call.has_result && !call.failed, "{call:?}\n{}", self.said());
        }
    }

    /// All that the client said, for the message of a test that fails.
    pub fn said(&self) -> String {
        let Ended { status, stdout, stderr } = &self.ended;
        let stdout: Vec<String> = stdout.lines().map(|line| line.chars().take(1500).collect()).collect();
        format!("{status}\n--- stdout\n{}\n--- stderr\n{stderr}", stdout.join("\n"))
    }
}

/// A result's content: text, or blocks of text.
fn content(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => blocks.iter().filter_map(|block| block["text"].as_str()).collect(),
        _ => String::new(),
    }
}
