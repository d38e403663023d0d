//! A daemon that answers from a script by the model's name, and a client that remembers what it is told.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cproxy::actors::status::{ActorStatus, ProviderStatus, Status};
use cproxy::exchange::{Answer, AnswerBody, Request, RequestId, Served};
use cproxy::front::mcp::{Command, Daemon, ModelInfo, Sessions, Settings, http_service, serve_on};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, Stream, StreamExt};
use http::{HeaderMap, StatusCode};
use rmcp::model::*;
use rmcp::service::ClientLifecycleMode;
use rmcp::service::{NotificationContext, RequestContext, RunningService};
use rmcp::transport::streamable_http_client::{
    StreamableHttpClientTransport, StreamableHttpClientTransportConfig,
};
use rmcp::{ClientHandler, ClientServiceExt, ErrorData, RoleClient, ServiceExt};
use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Sentences of the model `steps`; each comes in four tokens.
pub const STEPS: usize = 12;
const STEP: [&str; 4] = ["This is a sentence", " with several", " tokens in", " it. "];

pub type Client = RunningService<RoleClient, Windows>;

/// What a server writes, line by line.
pub type Lines = tokio::io::Lines<tokio::io::BufReader<DuplexStream>>;

pub struct Fake {
    bodies: Mutex<Vec<Bytes>>,
    status: Mutex<Status>,
    changes: watch::Sender<u64>,
    settings: Mutex<Settings>,
    ids: AtomicU64,
    pub commands: Mutex<Vec<Command>>,
    /// Answers that are open, and answers that were dropped before their end.
    pub open: Arc<AtomicUsize>,
    pub closed: Arc<AtomicUsize>,
}

/// Counts an answer as long as it lives.
struct Open(Arc<AtomicUsize>, Arc<AtomicUsize>);

impl Open {
    fn new(fake: &Fake) -> Open {
        fake.open.fetch_add(1, Ordering::SeqCst);
        Open(fake.open.clone(), fake.closed.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Fake {
    pub fn new() -> Arc<Fake> {
        let status = Status {
            version: "2.0.0".into(),
            state: "serving".into(),
            actors: vec![ActorStatus {
                path: "root".into(),
                state: "running".into(),
                ..ActorStatus::default()
            }],
            providers: vec![ProviderStatus {
                name: "fake".into(),
                kind: "local".into(),
                state: "ready".into(),
                health: "ok".into(),
                ..ProviderStatus::default()
            }],
            ..Status::default()
        };
        Arc::new(Fake {
            bodies: Mutex::default(),
            status: Mutex::new(status),
            changes: watch::channel(0).0,
            settings: Mutex::default(),
            ids: AtomicU64::new(0),
            commands: Mutex::default(),
            open: Arc::default(),
            closed: Arc::default(),
        })
    }

    pub fn last_body(&self) -> Value {
        serde_json::from_slice(self.bodies.lock().unwrap().last().expect("a request")).unwrap()
    }

    pub fn allow(&self, set: impl FnOnce(&mut Settings)) {
        set(&mut self.settings.lock().unwrap());
    }

    pub fn change(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.status.lock().unwrap());
        self.changes.send_modify(|count| *count += 1);
    }

    pub async fn wait_open(&self, count: usize) {
        until(|| self.open.load(Ordering::SeqCst) == count).await;
    }
}

/// Waits until something is so, for at most 5 s.
pub async fn until(so: impl Fn() -> bool) {
    tokio::time::timeout(Duration::from_secs(5), async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .expect("in time");
}

pub fn long() -> String {
    "A sentence of a long answer. ".repeat(10_000)
}

fn event(data: Value) -> Bytes {
    Bytes::from(format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap()))
}

fn start(model: &str) -> Bytes {
    let usage = json!({ "input_tokens": 3, "output_tokens": 1, "cache_read_input_tokens": 2 });
    event(
        json!({ "type": "message_start", "message": { "id": "msg_1", "model": model, "content": [], "usage": usage } }),
    )
}

fn text_start() -> Bytes {
    event(
        json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } }),
    )
}

fn delta(text: &str) -> Bytes {
    event(
        json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": text } }),
    )
}

fn end(reason: &str) -> Vec<Bytes> {
    vec![
        event(json!({ "type": "content_block_stop", "index": 0 })),
        event(
            json!({ "type": "message_delta", "delta": { "stop_reason": reason }, "usage": { "output_tokens": 5 } }),
        ),
        event(json!({ "type": "message_stop" })),
    ]
}

fn streamed(model: &str, events: impl Stream<Item = Bytes> + Send + 'static) -> Answer {
    let mut headers = HeaderMap::new();
    headers.insert("x-cproxy-route", format!("fake/{model}").parse().unwrap());
    Answer {
        status: StatusCode::OK,
        headers,
        body: AnswerBody::Stream(Box::pin(events)),
        served: Some(Served { provider: "fake".into(), model: model.into(), attempts: 1 }),
    }
}

impl Daemon for Fake {
    fn run(&self, request: Request) -> BoxFuture<'static, Answer> {
        self.bodies.lock().unwrap().push(request.body.clone());
        let model = request.facts.head.model.clone();
        let said = serde_json::from_slice::<Value>(&request.body).unwrap();
        let last = &said["messages"].as_array().unwrap().last().unwrap()["content"];
        let said = last.as_str().unwrap_or("blocks").to_owned();
        if let Some(progress) = &request.progress {
            let _ = progress.try_send("trying fake".into());
        }
        let open = ["stalled", "never-answers"].contains(&model.as_str()).then(|| Open::new(self));
        Box::pin(async move {
            let mut events = vec![start(&format!("{model}-1")), text_start()];
            match model.as_str() {
                "panic" => panic!("scripted"),
                "never-answers" => {
                    let _open = open;
                    std::future::pending::<()>().await;
                }
                "stalled" => {
                    let silence = stream::once(async move {
                        let _open = open;
                        std::future::pending::<Bytes>().await
                    });
                    return streamed(&model, stream::iter(events).chain(silence));
                }
                "limited" => {
                    let mut headers = HeaderMap::new();
                    headers.insert("retry-after", "7".parse().unwrap());
                    let error = json!({ "type": "error", "error": { "type": "rate_limit_error", "message": "slow down" } });
                    let body = AnswerBody::Whole(error.to_string().into());
                    return Answer { status: StatusCode::TOO_MANY_REQUESTS, headers, body, served: None };
                }
                "cut" => events.push(delta("half an ans")),
                "long" => {
                    events.push(delta(&long()));
                    events.extend(end("end_turn"));
                }
                "calls" => {
                    events.pop();
                    events.push(event(json!({ "type": "content_block_start", "index": 0,
                        "content_block": { "type": "tool_use", "id": "t1", "name": "f", "input": {} } })));
                    events.push(event(json!({ "type": "content_block_delta", "index": 0,
                        "delta": { "type": "input_json_delta", "partial_json": "{\"a\":1}" } })));
                    events.extend(end("tool_use"));
                }
                "steps" => {
                    for token in std::iter::repeat_n(STEP, STEPS).flatten() {
                        events.push(delta(token));
                    }
                    events.extend(end("end_turn"));
                    let slowly = stream::iter(events).then(|event| async {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        event
                    });
                    return streamed(&model, slowly);
                }
                _ => {
                    events.push(delta(&said));
                    events.extend(end("end_turn"));
                }
            }
            streamed(&model, stream::iter(events))
        })
    }

    fn status(&self) -> Status {
        self.status.lock().unwrap().clone()
    }

    fn status_changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn models(&self) -> Vec<ModelInfo> {
        ["echo", "stalled", "steps"]
            .map(|id| ModelInfo { id: id.into(), provider: "fake".into(), via: "listed".into() })
            .into()
    }

    fn explain(&self, request: &Request) -> Value {
        assert!(request.facts.head.model != "panic", "scripted");
        json!({ "candidates": [] })
    }

    fn next_request_id(&self) -> RequestId {
        RequestId(format!("req_{:024}", self.ids.fetch_add(1, Ordering::Relaxed)).into())
    }

    fn settings(&self) -> Settings {
        self.settings.lock().unwrap().clone()
    }

    fn config_redacted(&self) -> Value {
        json!({ "server": { "port": 3000 } })
    }

    fn command(&self, command: Command) -> BoxFuture<'static, Result<Value, String>> {
        self.commands.lock().unwrap().push(command);
        Box::pin(async { Ok(json!("done")) })
    }

    fn usage(&self) -> BoxFuture<'static, Value> {
        Box::pin(async { panic!("scripted") })
    }
}

/// What a client was told.
#[derive(Clone, Default)]
pub struct Windows {
    pub root: Option<String>,
    pub progress: Arc<Mutex<Vec<(f64, String)>>>,
    pub updated: Arc<Mutex<Vec<String>>>,
    pub lists_changed: Arc<AtomicUsize>,
    pub logs: Arc<AtomicUsize>,
}

impl ClientHandler for Windows {
    fn get_info(&self) -> ClientInfo {
        let capabilities = match self.root {
            Some(_) => ClientCapabilities::builder().enable_roots().build(),
            None => ClientCapabilities::default(),
        };
        ClientInfo::new(capabilities, Implementation::new("test", "0"))
    }

    async fn on_progress(&self, told: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        let mut progress = self.progress.lock().unwrap();
        progress.push((told.progress, told.message.unwrap_or_default()));
        // The client runs its handlers side by side.
        progress.sort_by(|a, b| a.0.total_cmp(&b.0));
    }

    async fn on_resource_updated(
        &self,
        told: ResourceUpdatedNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        self.updated.lock().unwrap().push(told.uri);
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.lists_changed.fetch_add(1, Ordering::SeqCst);
    }

    async fn on_resource_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.lists_changed.fetch_add(1, Ordering::SeqCst);
    }

    async fn on_logging_message(
        &self,
        _: LoggingMessageNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        self.logs.fetch_add(1, Ordering::SeqCst);
    }

    async fn list_roots(&self, _: RequestContext<RoleClient>) -> Result<ListRootsResult, ErrorData> {
        Ok(ListRootsResult::new(self.root.iter().map(Root::new).collect()))
    }
}

pub fn raw(fake: Arc<Fake>) -> (DuplexStream, DuplexStream) {
    raw_to(fake, Arc::new(Sessions::new()))
}

fn raw_to(fake: Arc<Fake>, sessions: Arc<Sessions>) -> (DuplexStream, DuplexStream) {
    let (input, server_input) = tokio::io::duplex(1 << 16);
    let (server_output, output) = tokio::io::duplex(1 << 16);
    tokio::spawn(serve_on(fake, sessions, server_input, server_output, CancellationToken::new()));
    (input, output)
}

pub async fn connect(fake: Arc<Fake>) -> Client {
    connect_with(fake, Windows::default()).await
}

pub async fn connect_with(fake: Arc<Fake>, window: Windows) -> Client {
    connect_to(fake, Arc::new(Sessions::new()), window).await
}

pub async fn connect_to(fake: Arc<Fake>, sessions: Arc<Sessions>, window: Windows) -> Client {
    let (input, output) = raw_to(fake, sessions);
    window.serve((output, input)).await.expect("a handshake")
}

/// Introduces itself in the present version.
pub async fn handshake(input: &mut DuplexStream, output: &mut Lines) {
    assert_eq!(handshake_in(input, output, "2025-11-25").await, "2025-11-25");
}

/// Introduces itself in a version; gives the version that the server speaks.
pub async fn handshake_in(input: &mut DuplexStream, output: &mut Lines, version: &str) -> String {
    let hello = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": version, "capabilities": {}, "clientInfo": { "name": "raw", "version": "0" } } });
    input.write_all(format!("{hello}\n").as_bytes()).await.unwrap();
    let answer: Value = serde_json::from_str(&line(output).await).unwrap();
    input.write_all(b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n").await.unwrap();
    answer["result"]["protocolVersion"].as_str().unwrap_or_default().to_owned()
}

pub fn object(value: Value) -> JsonObject {
    value.as_object().cloned().expect("an object")
}

pub async fn call(client: &Client, tool: &'static str, arguments: Value) -> CallToolResult {
    let request = CallToolRequestParams::new(tool).with_arguments(object(arguments));
    client.call_tool(request).await.expect("a result")
}

pub async fn read(client: &Client, uri: &str) -> Value {
    let result = client.read_resource(ReadResourceRequestParams::new(uri)).await.expect("a resource");
    match &result.contents[0] {
        ResourceContents::TextResourceContents { text, .. } => serde_json::from_str(text).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// A daemon's `/mcp` on a port of loopback.
pub struct Listening {
    pub port: u16,
    accepting: tokio::task::JoinHandle<()>,
    connections: Arc<Mutex<Vec<tokio::task::JoinHandle<()>>>>,
    cancel: CancellationToken,
}

impl Listening {
    /// Ends it with its connections, and its sessions' tasks; its port is free afterwards.
    pub async fn stop(self) {
        self.cancel.cancel();
        self.kill().await;
    }

    /// Cuts its connections as the death of a process does; its port is free afterwards.
    pub async fn kill(self) {
        self.accepting.abort();
        let _ = self.accepting.await;
        let connections: Vec<_> = self.connections.lock().unwrap().drain(..).collect();
        for connection in connections {
            connection.abort();
            let _ = connection.await;
        }
    }
}

/// Serves on a port, 0 for a free one.
pub async fn serve_http(fake: Arc<Fake>, sessions: Arc<Sessions>, port: u16) -> Listening {
    let listener = {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(([127, 0, 0, 1], port).into()).unwrap();
        socket.listen(64).unwrap()
    };
    let port = listener.local_addr().unwrap().port();
    let cancel = CancellationToken::new();
    let service = http_service(fake, sessions, port, &[], cancel.clone());
    let connections: Arc<Mutex<Vec<tokio::task::JoinHandle<()>>>> = Arc::default();
    let open = connections.clone();
    let accepting = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper_util::service::TowerToHyperService::new(service.clone());
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(hyper_util::rt::TokioIo::new(stream), service);
            open.lock().unwrap().push(tokio::spawn(async move {
                let _ = connection.await;
            }));
        }
    });
    Listening { port, accepting, connections, cancel }
}

/// An HTTP client of the test's own.
pub fn http() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// A client over HTTP.
pub async fn connect_http(port: u16, window: Windows) -> Client {
    let config = StreamableHttpClientTransportConfig::with_uri(format!("http://127.0.0.1:{port}/mcp"))
        .reinit_on_expired_session(false);
    let mode = ClientLifecycleMode::Initialize;
    let transport = StreamableHttpClientTransport::with_client(http(), config);
    window.serve_with_lifecycle(transport, mode).await.expect("a handshake")
}

/// A client that knows no handshake.
pub async fn connect_stateless(fake: Arc<Fake>) -> Client {
    let (input, output) = raw(fake);
    let mode = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    Windows::default().serve_with_lifecycle((output, input), mode).await.expect("a discovery")
}

/// The next line, which must come soon.
pub async fn line(output: &mut Lines) -> String {
    let line = tokio::time::timeout(Duration::from_secs(20), output.next_line()).await;
    line.expect("a line in time").unwrap().expect("a line")
}

/// The next answer to this request; notifications before it are skipped.
pub async fn answer(output: &mut Lines, id: u64) -> Value {
    loop {
        let message: Value = serde_json::from_str(&line(output).await).unwrap();
        if message["id"] == id {
            return message;
        }
    }
}
