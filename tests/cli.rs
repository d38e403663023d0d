//! The command line as a person uses it: the built binary, a home of its own, and what it says and leaves.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods, reason = "real processes, real time")]

#[path = "support/daemon.rs"]
mod daemon;

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use daemon::{CPROXY, Daemon, Process, Upstream};
use serde_json::Value;

/// A user: a home, and what its commands see.
struct User {
    home: tempfile::TempDir,
}

impl User {
    fn new() -> User {
        User { home: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(CPROXY);
        command.args(arguments).env_clear().env("HOME", self.home.path()).current_dir(self.home.path());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that must work, and gives what it prints.
    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must fail with 1, and gives what it says of it.
    fn fails(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", said(&output));
        String::from_utf8(output.stderr).unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ok(arguments)).unwrap()
    }

    /// All files of the home.
    fn files(&self) -> Vec<String> {
        fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { walk(&path, found) } else { found.push(path) }
            }
        }
        let mut found = Vec::new();
        walk(self.home.path(), &mut found);
        let mut names: Vec<String> = found
            .iter()
            .map(|path| path.strip_prefix(self.home.path()).unwrap().display().to_string())
            .collect();
        names.sort();
        names
    }
}

impl Drop for User {
    fn drop(&mut self) {
        // What a failed test left running. Where none was started, `stop` would find the daemon of whoever runs the
        // tests, at the usual port.
        let running = std::fs::read_dir(self.path(".local/state/cproxy/run"));
        if running.is_ok_and(|mut files| files.next().is_some()) {
            let _ = self.run(&["stop", "--now"]);
        }
    }
}

fn said(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

const QUIET: &str = "[ledger]\nenabled = false\n";

#[test]
fn help_teaches_and_every_command_has_its_own() {
    let user = User::new();
    let help = user.ok(&["--help"]);
    for part in ["cproxy run claude", "cproxy init", "--watch", "CPROXY_CONFIG", "simulator"] {
        assert!(help.contains(part), "{part} is not in {help}");
    }
    for command in [
        "serve",
        "start",
        "stop",
        "restart",
        "status",
        "models",
        "explain",
        "run",
        "mcp",
        "init",
        "check",
        "config",
        "import",
        "doctor",
        "service",
        "simulate",
        "completions",
        "usage",
        "logs",
    ] {
        assert!(help.contains(&format!("\n  {command} ")), "{command} is not in {help}");
        assert!(user.ok(&[command, "--help"]).contains("Usage: cproxy"), "{command}");
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(user.ok(&["completions", shell]).contains("doctor"), "{shell}");
    }
    let output = user.run(&["statsu"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("'status'"), "{}", said(&output));
}

#[test]
fn a_daemon_in_the_background_is_started_seen_restarted_and_stopped() {
    let user = User::new();
    let upstream = Upstream::start("");
    std::fs::write(
        user.path("config.toml"),
        format!("{}{QUIET}[server]\nport = 0\n", upstream.provider("local")),
    )
    .unwrap();
    let config = ["--config", "config.toml"];
    let with = |arguments: &[&'static str]| [arguments, &config].concat();

    let reason = user.fails(&with(&["status"]));
    assert!(reason.contains("no cproxy runs"), "{reason}");
    let started = user.json(&with(&["start", "--json"]));
    let (pid, port) = (started["pid"].as_u64().unwrap(), started["port"].as_u64().unwrap());
    let log = PathBuf::from(started["log"].as_str().unwrap());
    assert!(log.starts_with(user.home.path()), "{log:?}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&log).unwrap().permissions());
    assert_eq!(mode & 0o077, 0, "others can read the log");

    let text = user.ok(&with(&["status"]));
    assert!(text.contains("serving") && text.contains("simulated") && !text.contains('\u{1b}'), "{text}");
    assert_eq!(user.json(&with(&["status", "--json"]))["pid"], pid);
    let plan = user.json(&with(&["explain", "--model", "claude-opus-4-5", "--json", "--tokens", "12345"]));
    assert_eq!(plan["candidates"][0]["target"], "simulated/simulator");
    assert_eq!(plan["estimated_tokens"], 12345);
    assert!(plan["by"].as_str().unwrap().contains(&port.to_string()), "{plan}");
    let models = user.json(&with(&["models", "--json"]));
    assert_eq!(models["providers"][0]["state"], "ready");

    let again = user.json(&with(&["restart", "--json"]));
    assert_ne!(again["pid"], pid);
    let text = user.ok(&with(&["stop"]));
    assert!(text.contains("has stopped"), "{text}");
    assert!(user.fails(&with(&["stop"])).contains("no cproxy runs"));
}

#[test]
fn what_a_killed_daemon_left_behind_is_in_nobodys_way() {
    let user = User::new();
    std::fs::write(user.path("config.toml"), format!("{QUIET}[server]\nport = 0\n")).unwrap();
    let started = user.json(&["start", "--json", "--config", "config.toml"]);
    let pid = started["pid"].as_u64().unwrap().to_string();
    assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    let deadline = Instant::now() + Duration::from_secs(20);
    while user.run(&["status", "--config", "config.toml"]).status.success() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    let again = user.json(&["start", "--json", "--config", "config.toml"]);
    assert_ne!(again["pid"], started["pid"]);
    user.ok(&["stop", "--config", "config.toml"]);
}

#[test]
fn a_config_that_is_refused_does_not_take_the_running_daemon_down() {
    let user = User::new();
    std::fs::write(user.path("config.toml"), format!("{QUIET}[server]\nport = 0\n")).unwrap();
    let started = user.json(&["start", "--json", "--config", "config.toml"]);
    std::fs::write(user.path("config.toml"), "[server]\nprot = 1\n").unwrap();
    let reason = user.fails(&["restart", "--config", "config.toml"]);
    assert!(reason.contains("left alone") && reason.contains("did you mean \"port\""), "{reason}");
    // The daemon is found although its config can't be read.
    assert_eq!(user.json(&["status", "--json", "--config", "config.toml"])["pid"], started["pid"]);
    user.ok(&["stop", "--config", "config.toml"]);
}

#[test]
fn a_port_that_is_taken_is_told_with_who_has_it() {
    let user = User::new();
    let other = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = other.local_addr().unwrap().port().to_string();
    for command in ["serve", "start"] {
        let reason = user.fails(&[command, "--port", &port]);
        assert!(reason.contains("is in use") && reason.contains("--port N"), "{reason}");
        if cfg!(target_os = "linux") {
            assert!(reason.contains(&format!("process {}", std::process::id())), "{reason}");
        }
    }
    let daemon = Daemon::start("");
    let port = daemon.url.rsplit_once(':').unwrap().1.to_owned();
    let output = Command::new(CPROXY)
        .args(["--port", &port])
        .env_clear()
        .env("HOME", daemon.folder())
        .current_dir(daemon.folder())
        .output()
        .unwrap();
    assert!(said(&output).contains("cproxy runs already at"), "{}", said(&output));
}

#[test]
fn a_signal_lets_open_requests_finish_and_a_second_one_does_not() {
    let user = User::new();
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = silent.local_addr().unwrap();
    std::fs::write(
        user.path("config.toml"),
        format!(
            "{QUIET}[providers.a]\nkind = \"local\"\nbase_url = \"http://{address}/v1\"\nmodels = [\"*\"]\n"
        ),
    )
    .unwrap();
    let mut process = Process::start(
        user.command(&["--port", "0", "--config", "config.toml"]),
        &[("HOME", &user.home.path().display().to_string())],
    );
    let line = process.line("listens on");
    let url = line[line.find("http://").unwrap()..].trim().to_owned();
    let mut caller = std::net::TcpStream::connect(url.trim_start_matches("http://")).unwrap();
    let body = r#"{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"hi"}]}"#;
    write!(
        caller,
        "POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let (_upstream, _) = silent.accept().unwrap();
    process.terminate();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !process.said().contains("open requests may finish") {
        assert!(Instant::now() < deadline, "{}", process.said());
        std::thread::sleep(Duration::from_millis(20));
    }
    process.terminate();
    let ended = process.finish(Duration::from_secs(20));
    assert_eq!(ended.status.code(), Some(130), "{}{}", ended.stdout, ended.stderr);
}

#[test]
fn a_config_that_can_not_be_read_says_what_to_do() {
    let user = User::new();
    for (text, wanted) in [
        (None, "check the path"),
        (Some("[server]\nport = \"x\"\n"), "config.toml:2: server.port"),
        (Some("[server\n"), "config.toml:1"),
    ] {
        if let Some(text) = text {
            std::fs::write(user.path("config.toml"), text).unwrap();
        }
        for command in ["serve", "start", "models", "doctor", "check"] {
            let output = user.run(&[command, "--config", "config.toml"]);
            assert_eq!(output.status.code(), Some(1), "{command}: {}", said(&output));
            assert!(said(&output).contains(wanted), "{command}: {}", said(&output));
        }
    }
}

#[test]
fn init_writes_one_file_and_never_replaces_one() {
    let user = User::new();
    let output = user
        .command(&["init", "--yes", "--no-search"])
        .env("OPENROUTER_API_KEY", "sk-or-canary-0123456789")
        .output()
        .unwrap();
    let text = said(&output);
    assert!(output.status.success() && text.contains("ANTHROPIC_BASE_URL=http://127.0.0.1:3000"), "{text}");
    assert!(!text.contains("canary"), "{text}");
    assert_eq!(user.files(), [".config/cproxy/config.toml"]);
    let config = std::fs::read_to_string(user.path(".config/cproxy/config.toml")).unwrap();
    assert!(config.contains("[providers.openrouter]") && !config.contains("canary"), "{config}");
    user.ok(&["check"]);
    assert!(user.fails(&["init", "--yes", "--no-search"]).contains("left alone"));
    assert_eq!(std::fs::read_to_string(user.path(".config/cproxy/config.toml")).unwrap(), config);
    // Nobody to ask, and no --yes: nothing is written.
    let other = User::new();
    assert!(other.fails(&["init", "--no-search"]).contains("nothing was written"));
    assert_eq!(other.files(), Vec::<String>::new());
}

#[cfg(target_os = "linux")]
#[test]
fn a_service_is_shown_written_and_removed_without_a_trace() {
    let user = User::new();
    std::fs::create_dir(user.path("bin")).unwrap();
    let fake = "#!/bin/sh\necho \"$@\" >> \"$HOME/calls\"\n";
    std::fs::write(user.path("bin/systemctl"), fake).unwrap();
    std::fs::set_permissions(user.path("bin/systemctl"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let before = user.files();
    let run = |arguments: &[&str]| {
        let path = format!("{}:/usr/bin:/bin", user.path("bin").display());
        let output = user.command(arguments).env("PATH", path).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        said(&output)
    };
    assert!(run(&["service", "install", "--print"]).contains("[Service]"));
    let launchd = run(&["service", "install", "--print", "--manager", "launchd", "--config", "a&b.toml"]);
    for part in [
        "/Library/LaunchAgents/cproxy.daemon.plist",
        "launchctl bootstrap gui/",
        "<key>ProgramArguments</key>",
        "<string>serve</string>",
        "/a&amp;b.toml</string>",
        "<key>StandardErrorPath</key>",
    ] {
        assert!(launchd.contains(part), "{part} is not in:\n{launchd}");
    }
    let unasked = user.run(&["service", "install", "--yes", "--manager", "launchd"]);
    assert!(unasked.status.code() == Some(2) && said(&unasked).contains("--print"), "{}", said(&unasked));
    assert_eq!(user.files(), before);
    let text = run(&["service", "install", "--yes", "--config", "my config.toml"]);
    assert!(text.contains("\"serve\" \"--config\" ") && text.contains("my config.toml\""), "{text}");
    assert!(run(&["service", "status"]).contains("running"));
    run(&["service", "uninstall"]);
    let calls = std::fs::read_to_string(user.path("calls")).unwrap();
    assert!(calls.contains("--user enable --now cproxy.service"), "{calls}");
    assert!(calls.contains("--user disable --now cproxy.service"), "{calls}");
    std::fs::remove_file(user.path("calls")).unwrap();
    assert_eq!(user.files(), before);
}

#[test]
fn a_config_of_claude_code_router_comes_over() {
    let user = User::new();
    let theirs = r#"{ "Providers": [{ "name": "or", "api_base_url": "https://openrouter.ai/api/v1/chat/completions",
        "api_key": "sk-or-canary-0123456789", "models": ["a/b"] }], "Router": { "default": "or,a/b" } }"#;
    std::fs::write(user.path("config.json"), theirs).unwrap();
    let text = user.ok(&["import", "ccr", "config.json"]);
    assert!(text.contains("api_key_env = \"OR_API_KEY\"") && !text.contains("canary"), "{text}");
    user.ok(&["import", "ccr", "config.json", "--out", "new.toml"]);
    user.ok(&["check", "--config", "new.toml"]);
    assert!(user.fails(&["import", "ccr", "config.json", "--out", "new.toml"]).contains("left alone"));
    std::fs::write(user.path("config.json"), "no json").unwrap();
    assert!(user.fails(&["import", "ccr", "config.json"]).contains("not JSON"));
}

#[test]
fn explain_without_a_daemon_reads_a_request_by_the_config_alone() {
    let user = User::new();
    std::fs::write(user.path("request.json"), r#"{"model":"claude-haiku-4-5","messages":[]}"#).unwrap();
    std::fs::write(
        user.path("config.toml"),
        format!(
            "{QUIET}[providers.a]\nkind = \"local\"\nbase_url = \"http://127.0.0.1:9/v1\"\n\
             [models]\n\"claude-haiku-*\" = [\"a/small\"]\n[server]\nport = 1\n"
        ),
    )
    .unwrap();
    let plan = user.json(&["explain", "request.json", "--config", "config.toml", "--json", "--tools"]);
    assert_eq!(plan["candidates"][0]["target"], "a/small");
    assert!(plan["by"].as_str().unwrap().contains("no daemon was asked"));
    let nobody = user.run(&["explain", "--model", "gpt-9", "--provider", "b", "--config", "config.toml"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(said(&nobody).contains("there is no provider of this name"), "{}", said(&nobody));
}

#[test]
fn doctor_tries_a_provider_only_when_allowed_to() {
    let user = User::new();
    for kind in ["anthropic", "openai"] {
        let upstream = Upstream::start("");
        std::fs::write(user.path("config.toml"), format!("{}{QUIET}", upstream.provider(kind))).unwrap();
        let doctor = |more: &[&str]| -> Vec<Value> {
            let arguments =
                [&["doctor", "--config", "config.toml", "--json", "--provider", "simulated"], more].concat();
            let output =
                user.command(&arguments).env(daemon::KEY_VARIABLE, daemon::UPSTREAM_KEY).output().unwrap();
            assert!(!said(&output).contains(daemon::UPSTREAM_KEY));
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)))
        };
        let verdict = |findings: &[Value], check: &str| -> String {
            let found = findings.iter().find(|finding| finding["check"] == check);
            found.map(|finding| finding["verdict"].as_str().unwrap().to_owned()).unwrap_or_default()
        };
        let free = doctor(&[]);
        assert_eq!(verdict(&free, "models"), "works", "{free:#?}");
        assert_eq!(verdict(&free, "requests"), "skipped", "{free:#?}");
        let paid = doctor(&["--paid"]);
        for check in ["plain answer", "streaming", "tools", "parallel tools", "prompt cache"] {
            assert_eq!(verdict(&paid, check), "works", "{kind} {check}: {paid:#?}");
        }
        // Chat Completions of OpenAI shows no thoughts.
        let thinking = if kind == "anthropic" { "works" } else { "differs" };
        assert_eq!(verdict(&paid, "thinking"), thinking, "{paid:#?}");
        assert_eq!(verdict(&paid, "images"), "differs", "the simulator is blind: {paid:#?}");
    }
}
