//! Starts what tests talk to, as a user would: the built binary, with a config file, on a free port.
//!
//! Every process gets an environment of its own, has its output collected, and is killed with whatever it
//! started when its value is dropped.

#![allow(dead_code, reason = "each test target uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods, reason = "real processes, real time")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

/// The built binary.
pub const CPROXY: &str = env!("CARGO_BIN_EXE_cproxy");

/// The key that a simulated upstream accepts. Only the daemon has it; clients come with another.
pub const UPSTREAM_KEY: &str = "sk-upstream-for-tests";

/// The variable of the daemon that holds it.
pub const KEY_VARIABLE: &str = "TEST_UPSTREAM_KEY";

/// The credential that clients present to the daemon. No upstream may ever see it.
pub const CLIENT_KEY: &str = "sk-client-invented";

/// How long a process may take to start. Generous: CI has two cores, and debug builds.
const START: Duration = Duration::from_secs(30);

/// The kinds of upstream that every client is tried with; `responses` is `openai` by its other API.
pub const KINDS: [&str; 6] = ["anthropic", "openai", "responses", "openrouter", "gemini", "local"];

/// A process in a group of its own, killed with the group on drop.
pub struct Process {
    name: String,
    child: Child,
    stdout: Pipe,
    stderr: Pipe,
}

/// What a process has written so far, and the thread that reads on.
struct Pipe {
    text: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

/// How a process ended.
pub struct Ended {
    /// Its status.
    pub status: ExitStatus,
    /// All that it wrote to stdout.
    pub stdout: String,
    /// All that it wrote to stderr.
    pub stderr: String,
}

/// A simulated upstream: `cproxy simulate`.
pub struct Upstream {
    process: Process,
    /// Its address, such as `http://127.0.0.1:40123`.
    pub url: String,
    _folder: tempfile::TempDir,
}

/// A daemon: `cproxy serve`.
pub struct Daemon {
    process: Process,
    /// Its address, such as `http://127.0.0.1:40124`.
    pub url: String,
    /// Its config file.
    pub config: PathBuf,
    folder: tempfile::TempDir,
}

/// One answer of the daemon to a plain GET.
pub struct Got {
    /// The status.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: String,
}

// === impl Process ===

impl Process {
    /// Starts `command` with only these variables, beside `PATH`.
    pub fn start(mut command: Command, env: &[(&str, &str)]) -> Process {
        let name = command.get_program().to_string_lossy().into_owned();
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(env.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("can't start {name}: {error}"));
        let stdout = Pipe::read(child.stdout.take().unwrap());
        let stderr = Pipe::read(child.stderr.take().unwrap());
        Process { name, child, stdout, stderr }
    }

    /// Waits for the process to end; past the limit it is killed, and the test fails with what it said.
    pub fn finish(mut self, limit: Duration) -> Ended {
        let deadline = Instant::now() + limit;
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
                None => panic!("{} did not end within {limit:?}\n{}", self.name, self.said()),
            }
        };
        // Grandchildren may hold the pipes open.
        self.kill();
        Ended { status, stdout: self.stdout.all(), stderr: self.stderr.all() }
    }

    /// Waits until stdout holds a line with `mark`, and gives the line.
    pub fn line(&mut self, mark: &str) -> String {
        let deadline = Instant::now() + START;
        loop {
            let text = self.stdout.so_far();
            let whole = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
            if let Some(line) = whole.lines().find(|line| line.contains(mark)) {
                return line.to_owned();
            }
            let ended = self.child.try_wait().unwrap();
            if ended.is_some() || Instant::now() > deadline {
                std::thread::sleep(Duration::from_millis(50));
                panic!("{} did not print \"{mark}\" (ended: {ended:?})\n{}", self.name, self.said());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// All that it said so far, for the message of a test that fails.
    pub fn said(&self) -> String {
        format!("--- stdout\n{}\n--- stderr\n{}", self.stdout.so_far(), self.stderr.so_far())
    }

    /// What it wrote to stdout so far.
    pub fn stdout(&self) -> String {
        self.stdout.so_far()
    }

    /// Asks it to end, as a service manager would.
    pub fn terminate(&self) {
        signal("TERM", &self.child.id().to_string());
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Tells it to read its config again.
    pub fn hang_up(&self) {
        signal("HUP", &self.child.id().to_string());
    }

    fn kill(&mut self) {
        signal("KILL", &format!("-{}", self.child.id()));
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a signal; that its receiver has gone is no error.
fn signal(name: &str, to: &str) {
    let kill = Command::new("kill").args(["-s", name, "--", to]).stderr(Stdio::null()).status();
    kill.expect("kill(1) is there");
}

// === impl Pipe ===

impl Pipe {
    fn read(from: impl Read + Send + 'static) -> Pipe {
        let text = Arc::new(Mutex::new(String::new()));
        let shared = text.clone();
        let reader = std::thread::spawn(move || {
            let mut from = BufReader::new(from);
            let mut line = Vec::new();
            while matches!(from.read_until(b'\n', &mut line), Ok(1..)) {
                shared.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        Pipe { text, reader: Some(reader) }
    }

    fn so_far(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    fn all(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        self.so_far()
    }
}

// === impl Upstream ===

impl Upstream {
    /// A simulated upstream with this script (TOML).
    pub fn start(script: &str) -> Upstream {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("script.toml");
        std::fs::write(&path, script).unwrap();
        let mut command = Command::new(CPROXY);
        command.args(["simulate", "--port", "0", "--script"]).arg(&path);
        let mut process = Process::start(command, &[("HOME", &text(folder.path()))]);
        let url = address(&process.line("http://"));
        Upstream { process, url, _folder: folder }
    }

    /// One that accepts [`UPSTREAM_KEY`] only, and is polite but for these rules.
    pub fn with_key(rules: &str) -> Upstream {
        Upstream::start(&format!("require_key = \"{UPSTREAM_KEY}\"\n{rules}"))
    }

    /// One for a provider of this kind: those of kind `local` have no key.
    pub fn for_kind(kind: &str, rules: &str) -> Upstream {
        if kind == "local" { Upstream::start(rules) } else { Upstream::with_key(rules) }
    }

    /// The lines of a config that make it a provider of this kind, named `simulated`, which serves whatever
    /// model Claude Code asks for.
    pub fn provider(&self, kind: &str) -> String {
        let (path, model) = match kind {
            "anthropic" => ("", "claude-*\", \"claude-simulator"),
            "openai" | "responses" => ("/v1", "gpt-simulator"),
            "gemini" => ("", "gemini-simulator"),
            "openrouter" => ("/api/v1", "openai/gpt-simulator"),
            _ => ("/v1", "simulator"),
        };
        let key = if kind == "local" { String::new() } else { format!("api_key_env = \"{KEY_VARIABLE}\"\n") };
        let (kind, api) = if kind == "responses" { ("openai", "api = \"responses\"\n") } else { (kind, "") };
        let mut config = format!(
            "[providers.simulated]\nkind = \"{kind}\"\n{api}base_url = \"{}{path}\"\n{key}models = [\"{model}\"]\n",
            self.url
        );
        if kind != "anthropic" {
            config.push_str(&format!("[models]\n\"claude-*\" = [\"simulated/{model}\"]\n"));
        }
        config
    }
}

// === impl Daemon ===

impl Daemon {
    /// A daemon with this config, on a free port.
    pub fn start(config: &str) -> Daemon {
        Daemon::start_by(&[], config, 0)
    }

    /// A daemon with this config, on this port.
    pub fn start_on(config: &str, port: u16) -> Daemon {
        Daemon::start_by(&[], config, port)
    }

    /// The same, started by this command, which is given the daemon's own.
    pub fn start_by(by: &[&str], config: &str, port: u16) -> Daemon {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        let quiet = if config.contains("[ledger]") { "" } else { "\n[ledger]\nenabled = false\n" };
        std::fs::write(&path, format!("{config}{quiet}")).unwrap();
        let port = port.to_string();
        let words: Vec<&str> =
            by.iter().copied().chain([CPROXY, "serve", "--port", &port, "--config"]).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(&path).current_dir(folder.path());
        let home = text(folder.path());
        let mut process = Process::start(command, &[("HOME", &home), (KEY_VARIABLE, UPSTREAM_KEY)]);
        let url = address(&process.line("listens on"));
        Daemon { process, url, config: path, folder }
    }

    /// A daemon with one provider of this kind.
    pub fn over(upstream: &Upstream, kind: &str) -> Daemon {
        Daemon::start(&upstream.provider(kind))
    }

    /// The folder of its config file, which is its home.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What it printed so far.
    pub fn said(&self) -> String {
        self.process.said()
    }

    /// Gets a path.
    pub fn get(&self, path: &str) -> Got {
        get(&self.url, path)
    }

    /// The status, as JSON.
    pub fn status(&self) -> Value {
        let got = self.get("/status");
        assert_eq!(got.status, 200, "{}", got.body);
        serde_json::from_str(&got.body).unwrap()
    }

    /// Waits until the status is as wanted.
    pub fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let status = self.status();
            if wanted(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "{what}: not within 10 s: {status:#}\n{}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Runs `cproxy` with these arguments and the daemon's config, as its user would.
    pub fn command(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(CPROXY);
        command.args(arguments).arg("--config").arg(&self.config).env_clear().env("HOME", self.folder());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).current_dir(self.folder());
        command.output().unwrap()
    }

    /// Kills it, as `kill -9` does, and does not wait for its end; dropping it does.
    pub fn kill(&self) {
        signal("KILL", &self.process.child.id().to_string());
    }

    /// Stops it, and waits for its end.
    pub fn stop(self) -> Ended {
        self.process.terminate();
        self.ended()
    }

    /// Waits for its end.
    pub fn ended(self) -> Ended {
        self.process.finish(Duration::from_secs(20))
    }
}

/// The address in a line that a server printed.
fn address(line: &str) -> String {
    let start = line.find("http://").unwrap_or_else(|| panic!("no address in \"{line}\""));
    line[start..].split_whitespace().next().unwrap_or_default().trim_end_matches(['/', '.', ',']).to_owned()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// One GET over a connection of its own.
pub fn get(url: &str, path: &str) -> Got {
    let host = url.strip_prefix("http://").expect("an http address");
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    Got { status: status.expect("a status"), headers: headers.collect(), body: body.to_owned() }
}

/// The program named by this variable; without it, says that the test is skipped, and why.
pub fn named(variable: &str, test: &str) -> Option<PathBuf> {
    match std::env::var_os(variable).filter(|value| !value.is_empty()) {
        Some(path) => Some(PathBuf::from(path)),
        None => {
            // To the terminal itself: the test runner keeps what a test prints that passes.
            let _ =
                writeln!(std::io::stderr(), "SKIPPED {test}: {variable} is not set (see tests/README.md)");
            None
        }
    }
}
