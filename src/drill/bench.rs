//! A whole daemon in this process with a simulator in the place of each provider, and a caller of both fronts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use tower::ServiceExt;

use super::memory::InMemory;
use crate::actors::Directory;
use crate::actors::providers::Connect;
use crate::cells::upstream::Upstream;
use crate::cli::Running;
use crate::config::secret::Key;
use crate::config::{Keys, Loaded, ProviderId, ProviderKind};
use crate::faults::invariants::{self, End};
use crate::front::http::Routes;
use crate::front::mcp;
use crate::runtime::{Place, State, clock};
use crate::simulator::{self, Handle, Script, Simulator};

/// How the bench is wired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// Without sockets: time may be paused.
    Memory,
    /// With sockets on loopback, on both sides.
    Sockets,
}

/// Through which front a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    /// `POST /v1/messages`, whole.
    Whole,
    /// `POST /v1/messages`, streamed.
    Streamed,
    /// The MCP tool `proxy_completion`.
    Mcp,
}

/// A daemon over simulators.
pub struct Bench {
    running: Running,
    simulators: BTreeMap<ProviderId, Handle>,
    _servers: Vec<simulator::Running>,
    caller: Caller,
    ids: AtomicU64,
    /// MCP sessions that are open and not in use.
    sessions: Mutex<Vec<String>>,
}

/// How the bench's own caller reaches the daemon.
enum Caller {
    Memory(Routes),
    Sockets(reqwest::Client, String),
}

/// A request as the bench's caller sees it end.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// How it ended; an error if that is no end that a caller may see.
    pub end: Result<End, String>,
    /// The body, as it came.
    pub body: Bytes,
    /// From the start to the first piece of the body.
    pub first: Duration,
    /// From the start to the end.
    pub total: Duration,
}

/// An answer whose body is still to come.
pub struct Begun {
    front: Front,
    status: u16,
    headers: HeaderMap,
    body: Incoming,
    bytes: BytesMut,
    began: Instant,
    first: Option<Duration>,
    session: Option<String>,
}

enum Incoming {
    Memory(Body),
    Lines(Lines),
    Sockets(reqwest::Response),
}

/// A client of the MCP front over a pipe, as over stdio. (Over HTTP its server reads the real clock, which simulated
/// time leaves behind.)
struct Lines {
    reader: BufReader<DuplexStream>,
    _writer: DuplexStream,
    _server: AbortOnDropHandle<()>,
    answered: bool,
}

// === impl Bench ===

impl Bench {
    /// Starts the daemon of this config with a simulator for each provider, scripted by `script`. Every provider
    /// that is not disabled can be used: the simulators ask for no key.
    ///
    /// # Errors
    /// When the daemon does not start.
    pub async fn start(
        mut loaded: Loaded,
        wiring: Where,
        script: impl Fn(&ProviderId) -> Script,
    ) -> Result<Bench, String> {
        let mut simulators = BTreeMap::new();
        let mut servers = Vec::new();
        for (id, provider) in &mut loaded.config.providers {
            let handle = match wiring {
                Where::Memory => Simulator::in_memory(script(id)),
                Where::Sockets => {
                    let started = Simulator::start(script(id)).await;
                    let server = started.map_err(|error| format!("a simulator did not start: {error}"))?;
                    let handle = server.handle().clone();
                    servers.push(server);
                    handle
                }
            };
            let host = match wiring {
                Where::Memory => format!("http://{id}.simulated"),
                Where::Sockets => handle.url(),
            };
            provider.base_url = Some(match provider.kind {
                ProviderKind::Anthropic | ProviderKind::Gemini => host,
                ProviderKind::Openrouter => format!("{host}/api/v1"),
                ProviderKind::Openai | ProviderKind::Local => format!("{host}/v1"),
            });
            provider.auth = crate::config::Auth::Key;
            let keys = match loaded.keys.get(id) {
                Some(keys) if !keys.pool().is_empty() => {
                    keys.pool().iter().map(|key| Key::new(key.name().clone(), key_of(id))).collect()
                }
                _ if provider.kind.needs_key() => vec![Key::new("simulated", key_of(id))],
                _ => Vec::new(),
            };
            loaded.keys.insert(id.clone(), Keys::Pool(keys));
            simulators.insert(id.clone(), handle);
        }
        loaded.files_to_watch.clear();
        loaded.config.server.token_file = None;
        let connect: Connect = match wiring {
            Where::Sockets => crate::actors::providers::connect(),
            Where::Memory => {
                let simulators = simulators.clone();
                Arc::new(move |id, _| match simulators.get(id) {
                    Some(handle) => Ok(Arc::new(InMemory(handle.clone())) as Arc<dyn Upstream>),
                    None => Err(format!("no simulator stands in for {id}")),
                })
            }
        };
        let listener = match wiring {
            Where::Memory => None,
            Where::Sockets => {
                let bound = TcpListener::bind(("127.0.0.1", 0)).await;
                Some(bound.map_err(|error| format!("no port to listen on: {error}"))?)
            }
        };
        let _ = rustls::crypto::ring::default_provider().install_default();
        let again = loaded.clone();
        let running =
            Running::start_over(loaded, Arc::new(move || Ok(again.clone())), listener, connect).await?;
        let caller = match wiring {
            Where::Memory => Caller::Memory(running.routes().clone()),
            Where::Sockets => {
                let client =
                    reqwest::Client::builder().no_proxy().pool_idle_timeout(Duration::from_secs(2)).build();
                let client = client.map_err(|error| format!("no HTTP client: {error}"))?;
                Caller::Sockets(client, running.daemon().status().address)
            }
        };
        let (ids, sessions) = (AtomicU64::new(0), Mutex::default());
        Ok(Bench { running, simulators, _servers: servers, caller, ids, sessions })
    }

    /// The daemon's directory.
    pub fn directory(&self) -> &Arc<Directory> {
        self.running.daemon().directory()
    }

    /// The daemon.
    pub fn running(&self) -> &Running {
        &self.running
    }

    /// The simulator in the place of a provider.
    pub fn simulator(&self, provider: &str) -> Option<&Handle> {
        self.simulators.get(provider)
    }

    /// All simulators.
    pub fn simulators(&self) -> impl Iterator<Item = (&ProviderId, &Handle)> {
        self.simulators.iter()
    }

    /// The place of an actor, by its path from the root.
    pub fn place(&self, path: &str) -> Option<Arc<dyn Place>> {
        self.directory().places().into_iter().find(|place| &**place.vitals().path() == path)
    }

    /// Sends a request with a question of a user, and gives back the answer at its headers.
    ///
    /// # Errors
    /// When the daemon breaks the connection.
    pub async fn begin(&self, front: Front, model: &str, question: &str) -> Result<Begun, String> {
        let began = clock::now();
        let (path, body) = match front {
            Front::Whole | Front::Streamed => {
                ("/v1/messages", message(model, question, front == Front::Streamed))
            }
            Front::Mcp => {
                let id = self.ids.fetch_add(1, Ordering::Relaxed) + 1;
                let arguments = json!({ "messages": question, "model": model, "stream": false });
                (
                    "/mcp",
                    json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params":
                        { "name": "proxy_completion", "arguments": arguments } }),
                )
            }
        };
        if front == Front::Mcp && matches!(self.caller, Caller::Memory(_)) {
            return self.call_tool(began, body).await;
        }
        let session = match front {
            Front::Mcp => Some(self.mcp_session().await?),
            _ => None,
        };
        self.post(front, began, path, body, session).await
    }

    /// Sends a request and waits for its end.
    pub async fn ask(&self, front: Front, model: &str, question: &str) -> Answered {
        let began = clock::now();
        match self.begin(front, model, question).await {
            Ok(mut begun) => {
                let session = begun.session.take();
                let answered = begun.finish().await;
                lock(&self.sessions).extend(session.filter(|_| answered.end.is_ok()));
                answered
            }
            Err(reason) => Answered {
                status: 0,
                headers: HeaderMap::new(),
                body: Bytes::new(),
                end: Err(format!("not answered: {reason}")),
                first: clock::now() - began,
                total: clock::now() - began,
            },
        }
    }

    /// Calls a tool over a pipe.
    async fn call_tool(&self, began: Instant, call: Value) -> Result<Begun, String> {
        let (mut writer, input) = tokio::io::duplex(64 << 10);
        let (output, reader) = tokio::io::duplex(64 << 10);
        let daemon = Arc::new(self.running.daemon().clone());
        let (sessions, stop) =
            (self.running.sessions().clone(), self.directory().listener.stop().child_token());
        let server = tokio::spawn(async move {
            let _ = mcp::serve_on(daemon, sessions, input, output, stop).await; // seen by its caller as the end
        });
        let told = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        let lines = format!("{}\n{told}\n{call}\n", hello());
        writer
            .write_all(lines.as_bytes())
            .await
            .map_err(|error| format!("the MCP front is gone: {error}"))?;
        let lines = Lines {
            reader: BufReader::new(reader),
            _writer: writer,
            _server: AbortOnDropHandle::new(server),
            answered: false,
        };
        let (headers, bytes) = (HeaderMap::new(), BytesMut::new());
        Ok(Begun {
            front: Front::Mcp,
            status: 200,
            headers,
            body: Incoming::Lines(lines),
            bytes,
            began,
            first: None,
            session: None,
        })
    }

    /// Closes the MCP sessions that are open. Idle connections close by themselves, after two seconds.
    pub async fn hang_up(&self) {
        let sessions = std::mem::take(&mut *lock(&self.sessions));
        let Caller::Sockets(client, url) = &self.caller else { return };
        for session in sessions {
            let closed = client.delete(format!("{url}/mcp")).header("mcp-session-id", session).send();
            let _ = closed.await; // seen in what is left open
        }
    }

    /// An open session at the MCP front, or a new one.
    async fn mcp_session(&self) -> Result<String, String> {
        let open = lock(&self.sessions).pop();
        if let Some(session) = open {
            return Ok(session);
        }
        let mut answer = self.post(Front::Mcp, clock::now(), "/mcp", hello(), None).await?;
        let session = answer.header("mcp-session-id").ok_or("the MCP front gave no session")?;
        while answer.next().await?.is_some() {}
        let told = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        let mut answer = self.post(Front::Mcp, clock::now(), "/mcp", told, Some(session.clone())).await?;
        while answer.next().await?.is_some() {}
        Ok(session)
    }

    async fn post(
        &self,
        front: Front,
        began: Instant,
        path: &str,
        body: Value,
        session: Option<String>,
    ) -> Result<Begun, String> {
        let kept = session.clone();
        let mut headers = HeaderMap::new();
        let mut put = |name: &'static str, value: &str| {
            if let Ok(value) = value.parse() {
                headers.insert(name, value);
            }
        };
        put("content-type", "application/json");
        if front == Front::Mcp {
            put("accept", "application/json, text/event-stream");
            put("mcp-protocol-version", "2025-11-25");
        } else {
            for (name, value) in OWN_HEADERS {
                put(name, value);
            }
        }
        if let Some(session) = session {
            put("mcp-session-id", &session);
        }
        let (status, headers, body) = match &self.caller {
            Caller::Memory(routes) => {
                let mut request = Request::new(Body::from(serde_json::to_vec(&body).unwrap_or_default()));
                *request.method_mut() = Method::POST;
                *request.uri_mut() = path.parse().map_err(|_| "no path")?;
                *request.headers_mut() = headers;
                request.headers_mut().insert(header::HOST, header::HeaderValue::from_static("localhost"));
                let Ok(response): Result<Response<Body>, std::convert::Infallible> =
                    routes.clone().oneshot(request).await;
                let (parts, body) = response.into_parts();
                (parts.status, parts.headers, Incoming::Memory(body))
            }
            Caller::Sockets(client, url) => {
                let request = client.post(format!("{url}{path}")).headers(headers).body(body.to_string());
                let response = request.send().await.map_err(|error| format!("{error:?}"))?;
                (response.status(), response.headers().clone(), Incoming::Sockets(response))
            }
        };
        let (bytes, status) = (BytesMut::new(), status.as_u16());
        Ok(Begun { front, status, headers, body, bytes, began, first: None, session: kept })
    }

    /// Waits until nothing is in progress; what is still wrong after `limit`, in words.
    pub async fn rest(&self, limit: Duration) -> Vec<String> {
        let until = clock::now() + limit;
        loop {
            let wrong = invariants::at_rest(self.directory());
            if wrong.is_empty() || clock::now() >= until {
                return wrong;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until every actor lives; what is still wrong after `limit`, in words.
    pub async fn recover(&self, limit: Duration) -> Vec<String> {
        let began = clock::now();
        loop {
            let wrong = invariants::alive(self.directory());
            let waited = clock::now() - began;
            if wrong.is_empty() || waited >= limit {
                return wrong;
            }
            // What is back soon is seen soon; a quarantine of minutes is not looked at each millisecond.
            tokio::time::sleep((waited / 16).max(Duration::from_millis(1))).await;
        }
    }

    /// Kills an actor and waits until its supervisor knows; false if nobody lived there.
    pub async fn kill(&self, path: &str) -> bool {
        let Some(place) = self.place(path) else { return false };
        let before = (place.vitals().failures(), place.vitals().incarnation());
        if !place.kill() {
            return false;
        }
        let until = clock::now() + Duration::from_secs(2);
        while (place.vitals().failures(), place.vitals().incarnation()) == before
            && place.vitals().state() == State::Running
            && clock::now() < until
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        true
    }

    /// Stops the daemon.
    pub async fn stop(self) {
        self.running.stop(Duration::from_secs(5)).await;
    }
}

// === impl Begun ===

impl Begun {
    /// The status.
    pub fn status(&self) -> u16 {
        self.status
    }

    fn header(&self, name: &str) -> Option<String> {
        self.headers.get(name)?.to_str().ok().map(str::to_owned)
    }

    /// The next piece of the body.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn next(&mut self) -> Result<Option<Bytes>, String> {
        let piece = loop {
            match &mut self.body {
                Incoming::Memory(body) => match body.frame().await {
                    None => break None,
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => break Some(data),
                        Err(_) => continue,
                    },
                    Some(Err(error)) => return Err(format!("the connection broke: {error}")),
                },
                Incoming::Lines(lines) => break lines.next().await?,
                Incoming::Sockets(response) => {
                    break response
                        .chunk()
                        .await
                        .map_err(|error| format!("the connection broke: {error:?}"))?;
                }
            }
        };
        if let Some(piece) = &piece {
            self.first.get_or_insert_with(|| clock::now() - self.began);
            self.bytes.extend_from_slice(piece);
        }
        Ok(piece)
    }

    /// Reads on until the body so far holds this text; false if it ends before.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn until(&mut self, text: &str) -> Result<bool, String> {
        while memchr::memmem::find(&self.bytes, text.as_bytes()).is_none() {
            if self.next().await?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads to the end.
    pub async fn finish(mut self) -> Answered {
        let end = loop {
            match self.next().await {
                Ok(Some(_)) => {}
                Ok(None) => {
                    break match self.front {
                        Front::Whole => invariants::whole(self.status, &self.bytes),
                        Front::Streamed => invariants::streamed(self.status, &self.bytes),
                        Front::Mcp => tool_result(self.status, &self.bytes),
                    };
                }
                Err(reason) => break Err(reason),
            }
        };
        let total = clock::now() - self.began;
        let Begun { status, headers, bytes, first, .. } = self;
        Answered { status, headers, body: bytes.freeze(), end, first: first.unwrap_or(total), total }
    }
}

// === impl Lines ===

impl Lines {
    /// The next line, up to the result of the call.
    async fn next(&mut self) -> Result<Option<Bytes>, String> {
        while !self.answered {
            let mut line = String::new();
            let read = self.reader.read_line(&mut line).await;
            if read.map_err(|error| format!("the MCP front broke: {error}"))? == 0 {
                return Err("the MCP front ended before its result".to_owned());
            }
            let message: Value = serde_json::from_str(&line).unwrap_or_default();
            match message["id"].as_u64() {
                Some(0) if message["method"].is_null() => continue, // the handshake
                Some(_) if message["method"].is_null() => self.answered = true,
                _ => {}
            }
            return Ok(Some(line.into()));
        }
        Ok(None)
    }
}

/// What is held is a list of names, whole at any moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The key that the provider has on a bench: each another, so that one can be told from the other.
pub fn key_of(provider: &ProviderId) -> String {
    format!("simulated-key-of-{provider}")
}

/// The headers of the caller's dialect that go with each request to the Messages front.
pub const OWN_HEADERS: [(&str, &str); 2] =
    [("anthropic-version", "2023-06-01"), ("anthropic-beta", "context-management-2025-06-27")];

/// The body of a request to the Messages front.
pub fn message(model: &str, question: &str, stream: bool) -> Value {
    json!({ "model": model, "max_tokens": 1024, "stream": stream,
        "messages": [{ "role": "user", "content": question }] })
}

/// The handshake of an MCP client.
fn hello() -> Value {
    json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {},
        "clientInfo": { "name": "cproxy drill", "version": env!("CARGO_PKG_VERSION") } } })
}

/// Reads the answer to a tool call: exactly one result.
fn tool_result(status: u16, body: &[u8]) -> Result<End, String> {
    let text = String::from_utf8_lossy(body);
    let mut results = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data:").unwrap_or(line)).ok())
        .filter(|message| message.get("id").is_some() && message.get("method").is_none());
    let Some(answer) = results.next() else { return Err(format!("no result (status {status}): {text}")) };
    if results.next().is_some() {
        return Err("two results for one call".to_owned());
    }
    let result = &answer["result"];
    let content = &result["structuredContent"];
    match (result["isError"].as_bool(), content["error"]["type"].as_str()) {
        (Some(true), Some(kind)) => {
            Ok(End::Error(kind.to_owned(), content["text"].as_str().unwrap_or_default().to_owned()))
        }
        (Some(true), None) => Err(format!("a failure without its type: {answer}")),
        _ => content["text"]
            .as_str()
            .map(|text| End::Well(text.to_owned()))
            .ok_or_else(|| format!("a result without text: {answer}")),
    }
}

// === impl Answered ===

impl Answered {
    /// The text, if it ended well.
    pub fn text(&self) -> Option<&str> {
        match &self.end {
            Ok(End::Well(text)) => Some(text),
            _ => None,
        }
    }

    /// The type of the error, if it ended with one.
    pub fn error(&self) -> Option<&str> {
        match &self.end {
            Ok(End::Error(kind, _)) => Some(kind),
            _ => None,
        }
    }

    /// Attempts that it took, where the answer says.
    pub fn attempts(&self) -> Option<u32> {
        self.headers.get("x-cproxy-attempts")?.to_str().ok()?.parse().ok()
    }

    /// Who served it, where the answer says.
    pub fn provider(&self) -> Option<&str> {
        self.headers.get("x-cproxy-provider")?.to_str().ok()
    }
}
