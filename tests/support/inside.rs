//! A daemon inside the test's own process: config text in, a running daemon on a free port out. Its upstreams are
//! simulators, whose journals say who was asked for what.
//!
//! In the same process a test sees the places that are open at a provider, and can move tokio's clock.

#![allow(dead_code, reason = "each test target uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cproxy::cli::Running;
use cproxy::config::{self, Environment, Overrides, Source};
use cproxy::simulator::{self, Script, Simulator};
use serde_json::{Value, json};

/// The credential that callers present. No provider with a key of its own may ever see it.
pub const CALLER_KEY: &str = "sk-ant-the-callers-own-credential";

/// A daemon.
pub struct Daemon {
    running: Running,
    /// Its address.
    pub url: String,
    client: reqwest::Client,
    config: Arc<Mutex<String>>,
}

/// An answer of the daemon, read to its end.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: String,
    /// Whether the connection broke before the body ended.
    pub broken: bool,
}

/// A simulator with this script (TOML).
pub async fn upstream(script: &str) -> simulator::Running {
    Simulator::start(Script::parse(script).unwrap()).await.unwrap()
}

/// Several.
pub async fn upstreams(scripts: &[&str]) -> Vec<simulator::Running> {
    let mut running = Vec::new();
    for script in scripts {
        running.push(upstream(script).await);
    }
    running
}

/// A script that always answers with this text, in several pieces.
pub fn says(text: &str) -> String {
    format!("[[rule]]\nanswer = {{ parts = [{{ text = \"{text}\" }}] }}\n")
}

/// The part of a config that makes a simulator the provider `name`: kind anthropic, one key (`sk-NAME`), the model
/// `claude-x`, no health checks, unless `lines` say otherwise.
pub fn provider(name: &str, upstream: &simulator::Running, lines: &str) -> String {
    let mut config = format!("[providers.{name}]\n");
    let kind = lines
        .lines()
        .find_map(|line| line.strip_prefix("kind = "))
        .map_or("anthropic".to_owned(), |kind| kind.trim_matches('"').to_owned());
    if !lines.contains("kind = ") {
        config.push_str("kind = \"anthropic\"\n");
    }
    let path = match kind.as_str() {
        "anthropic" => "",
        "openrouter" => "/api/v1",
        _ => "/v1",
    };
    config.push_str(&format!("base_url = \"{}{path}\"\n", upstream.url()));
    if !lines.contains("api_key") && !lines.contains("auth = ") {
        config.push_str(&format!("api_key_env = \"KEY_{}\"\n", name.to_uppercase()));
    }
    if !lines.contains("models = ") {
        config.push_str("models = [\"claude-x\"]\n");
    }
    if !lines.contains("health = ") {
        config.push_str("health = { interval = \"0s\" }\n");
    }
    config.push_str(lines);
    config.push('\n');
    config
}

/// Providers `a`, `b`, … over these simulators, each behind the one before it, and what follows.
pub fn in_order(upstreams: &[simulator::Running], rest: &str) -> String {
    let mut config = format!("{rest}\n");
    if !rest.contains("[routing]") {
        config.push_str("[routing]\nretry_delay = \"10ms\"\n");
    }
    for (n, upstream) in upstreams.iter().enumerate() {
        config.push_str(&provider(&name(n), upstream, &format!("priority = {}", n + 1)));
    }
    config
}

/// The same in one tier.
pub fn side_by_side(upstreams: &[simulator::Running], rest: &str) -> String {
    let mut config = format!("{rest}\n");
    for (n, upstream) in upstreams.iter().enumerate() {
        config.push_str(&provider(&name(n), upstream, ""));
    }
    config
}

/// `a`, `b`, …
pub fn name(n: usize) -> String {
    char::from(b'a' + u8::try_from(n).unwrap()).to_string()
}

/// Requests for an answer that a simulator has seen.
pub fn asked(upstream: &simulator::Running) -> usize {
    upstream.handle().requests().iter().filter(|request| request.method == http::Method::POST).count()
}

/// A request with this prompt.
pub fn message(prompt: &str) -> Value {
    json!({ "model": "claude-x", "max_tokens": 1024, "messages": [{ "role": "user", "content": prompt }] })
}

/// The same, to be streamed.
pub fn streamed(prompt: &str) -> Value {
    let mut body = message(prompt);
    body["stream"] = json!(true);
    body
}

/// Lets `time` pass at once. Needs a runtime of one thread.
pub async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
    tokio::time::sleep(Duration::from_millis(5)).await;
}

// === impl Daemon ===

impl Daemon {
    /// A daemon with this config. The keys of providers are in `KEY_A`, `KEY_B`, …: `sk-a`, `sk-b`, …
    pub async fn start(text: &str) -> Daemon {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let quiet = if text.contains("[ledger]") { "" } else { "\n[ledger]\nenabled = false\n" };
        let config = Arc::new(Mutex::new(format!("{text}{quiet}")));
        let now = config.clone();
        let load: cproxy::actors::config::Load = Arc::new(move || {
            let source = Source::Text(now.lock().unwrap().clone(), PathBuf::from("/nowhere"));
            let variables = ('a'..='h').flat_map(|name| {
                let (upper, key) = (name.to_ascii_uppercase(), format!("sk-{name}"));
                [(format!("KEY_{upper}"), key.clone()), (format!("KEY_{upper}2"), format!("{key}2"))]
            });
            let variables: BTreeMap<String, String> = variables.collect();
            let environment =
                Environment { variables, read: &|_| Err(std::io::Error::from(std::io::ErrorKind::NotFound)) };
            config::load(&source, &environment, &Overrides::default()).map_err(|error| error.to_string())
        });
        let loaded = load().unwrap_or_else(|error| panic!("{error}\n{text}"));
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let running = Running::start(loaded, load, Some(listener)).await.unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Daemon { running, url, client, config }
    }

    /// A request to be sent: as a caller with a credential of its own.
    pub fn request(&self, body: impl Into<reqwest::Body>) -> reqwest::RequestBuilder {
        let request = self.client.post(format!("{}/v1/messages", self.url));
        request.header("x-api-key", CALLER_KEY).header("anthropic-version", "2023-06-01").body(body)
    }

    /// Sends it, and reads the whole answer.
    pub async fn ask(&self, body: &Value) -> Reply {
        Reply::read(self.request(body.to_string())).await
    }

    /// The same in a session.
    pub async fn ask_in(&self, session: &str, body: &Value) -> Reply {
        Reply::read(self.request(body.to_string()).header("x-claude-code-session-id", session)).await
    }

    /// Places that are open at a provider, when its leases have settled.
    pub fn open_at(&self, provider: &str) -> u32 {
        let entries = self.running.daemon().directory().entries.load_full();
        entries.get(provider).unwrap().cell.open()
    }

    /// Where everybody lives.
    pub fn directory(&self) -> &Arc<cproxy::actors::Directory> {
        self.running.daemon().directory()
    }

    /// What both fronts share.
    pub fn front(&self) -> &Arc<cproxy::front::Daemon> {
        self.running.daemon()
    }

    /// Waits until no request and no place is open; false if that takes longer than `limit`.
    pub async fn comes_to_rest(&self, limit: Duration) -> bool {
        let rest = async {
            let directory = self.directory();
            let open = || directory.entries.load().values().any(|entry| entry.cell.open() > 0);
            while directory.requests.open() > 0 || open() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(limit, rest).await.is_ok()
    }
}

// === impl Reply ===

impl Reply {
    /// Sends a request and reads the whole answer.
    pub async fn read(request: reqwest::RequestBuilder) -> Reply {
        let mut response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let (mut body, mut broken) = (Vec::new(), false);
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(_) => {
                    broken = true;
                    break;
                }
            }
        }
        Reply { status, headers, body: String::from_utf8(body).unwrap(), broken }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The data of a stream's events.
    pub fn events(&self) -> Vec<Value> {
        let data = self.body.lines().filter_map(|line| line.strip_prefix("data:"));
        data.map(|data| serde_json::from_str(data).unwrap()).collect()
    }

    /// The types of a stream's events, pings left out.
    pub fn kinds(&self) -> Vec<String> {
        let kinds = self.events().into_iter().map(|event| event["type"].as_str().unwrap().to_owned());
        kinds.filter(|kind| kind != "ping").collect()
    }

    /// The text of the answer, whole or streamed.
    pub fn text(&self) -> String {
        if self.body.trim_start().starts_with('{') {
            let body = self.json();
            let blocks = body["content"].as_array().cloned().unwrap_or_default();
            return blocks.iter().filter_map(|block| block["text"].as_str()).collect();
        }
        let events = self.events();
        events.iter().filter_map(|event| event["delta"]["text"].as_str()).collect()
    }

    /// Whether it is a whole answer that ended well.
    pub fn ended_well(&self) -> bool {
        let streamed = || self.kinds().last().is_some_and(|kind| kind == "message_stop");
        self.status == 200
            && !self.broken
            && if self.body.starts_with('{') { self.json()["type"] == "message" } else { streamed() }
    }

    /// The type of the error, in a document or as the last event.
    pub fn error(&self) -> String {
        let of = |value: &Value| value["error"]["type"].as_str().unwrap_or_default().to_owned();
        if self.body.trim_start().starts_with('{') {
            of(&self.json())
        } else {
            self.events().last().map(of).unwrap_or_default()
        }
    }
}
