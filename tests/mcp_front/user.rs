//! The user's side: clients that remember what they are told, over a pipe and over HTTP, and plain lines.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cproxy::front::mcp::{Sessions, http_service, serve_on};
use rmcp::model::*;
use rmcp::service::ClientLifecycleMode;
use rmcp::service::{NotificationContext, RequestContext, RunningService};
use rmcp::transport::streamable_http_client::{
    StreamableHttpClientTransport, StreamableHttpClientTransportConfig,
};
use rmcp::{ClientHandler, ClientServiceExt, ErrorData, RoleClient, ServiceExt};
use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio_util::sync::CancellationToken;

use crate::fake::Fake;

/// A client with its session.
pub type Client = RunningService<RoleClient, Windows>;

/// What a server writes, line by line.
pub type Lines = tokio::io::Lines<tokio::io::BufReader<DuplexStream>>;

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
    connect_http_as(port, window, ClientLifecycleMode::Initialize).await
}

/// A client over HTTP that knows no handshake.
pub async fn connect_http_stateless(port: u16) -> Client {
    let mode = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    connect_http_as(port, Windows::default(), mode).await
}

async fn connect_http_as(port: u16, window: Windows, mode: ClientLifecycleMode) -> Client {
    let config = StreamableHttpClientTransportConfig::with_uri(format!("http://127.0.0.1:{port}/mcp"))
        .reinit_on_expired_session(false);
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
