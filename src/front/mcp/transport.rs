//! How clients reach the server: streamable HTTP below the daemon's `/mcp`, and stdio.
//!
//! Source: Model Context Protocol specification, "Transports" (Host and Origin must be checked).

use std::sync::Arc;

use rmcp::service::ServerInitializeError;
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService, stdio_pipes};
use rmcp::{ServerHandler, ServiceExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::ids::{HttpSessions, UniqueIds};
use super::sessions::SSE_RETRY;
use super::{Daemon, Server, Sessions, lines};

/// A service to be nested at `/mcp`.
pub type HttpService<S = Server> = StreamableHttpService<S, HttpSessions>;

/// Names by which this machine calls itself; a name without a port matches any port.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Why serving ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The client did not get through the handshake.
    #[error("the MCP handshake failed: {0}")]
    Handshake(#[source] Box<ServerInitializeError>),
    /// The task that served broke.
    #[error("the MCP session broke: {0}")]
    Broken(#[from] tokio::task::JoinError),
}

/// The daemon's service: [`mount`] with a [`Server`] for each session.
pub fn http_service(
    daemon: Arc<dyn Daemon>,
    sessions: Arc<Sessions>,
    port: u16,
    hosts: &[String],
    cancel: CancellationToken,
) -> HttpService {
    let lent = sessions.clone();
    mount(move || Server::admit(daemon.clone(), lent.clone()), &sessions, port, hosts, cancel)
}

/// The service to be nested at `/mcp`; `server` makes the server of a session. Sessions live in `sessions`, not in the
/// service, so that a new one takes them over; `cancel` ends the streams that are open. `port` is the listener's.
/// `hosts` are names other than loopback's by which the daemon may be called, as `host` or `host:port`.
///
/// Requests under a foreign `Host` are refused, and requests of web pages (those with an `Origin`) that the
/// daemon has not served itself.
pub fn mount<S: ServerHandler + Send + 'static>(
    server: impl Fn() -> std::io::Result<S> + Send + Sync + 'static,
    sessions: &Sessions,
    port: u16,
    hosts: &[String],
    cancel: CancellationToken,
) -> HttpService<S> {
    let hosts = LOOPBACK.iter().map(|name| (*name).to_owned()).chain(hosts.iter().cloned());
    let origins = ["localhost", "127.0.0.1", "[::1]"].map(|name| format!("http://{name}:{port}"));
    let mut config = StreamableHttpServerConfig::default()
        .with_allowed_hosts(hosts)
        .with_allowed_origins(origins)
        .enforce_origin_validation()
        .with_sse_retry(Some(SSE_RETRY))
        .with_max_request_body_bytes(lines::MOST)
        .with_cancellation_token(cancel);
    config.session_store = Some(sessions.handshakes.clone());
    StreamableHttpService::new(server, sessions.http.clone(), config)
}

/// Serves one client over this process's stdin and stdout until it leaves. Nothing else may write to stdout.
pub async fn serve_stdio(
    daemon: Arc<dyn Daemon>,
    sessions: Arc<Sessions>,
    cancel: CancellationToken,
) -> Result<(), ServeError> {
    let (input, output) = stdio_pipes();
    serve_on(daemon, sessions, input, output, cancel).await
}

/// Serves one client over a pair of streams, one line a message, until it leaves or `cancel` says so.
pub async fn serve_on(
    daemon: Arc<dyn Daemon>,
    sessions: Arc<Sessions>,
    input: impl AsyncRead + Send + Unpin + 'static,
    output: impl AsyncWrite + Send + Unpin + 'static,
    cancel: CancellationToken,
) -> Result<(), ServeError> {
    let transport =
        AsyncRwTransport::new_server(lines::checked(input), output).with_max_line_length(2 * lines::MOST);
    let server = Server::new(daemon, sessions);
    match server.serve_with_ct(UniqueIds::new(transport), cancel).await {
        Ok(running) => running.waiting().await.map(drop).map_err(ServeError::from),
        // A client that leaves before the handshake is no failure.
        Err(ServerInitializeError::ConnectionClosed(_) | ServerInitializeError::Cancelled) => Ok(()),
        Err(error) => Err(ServeError::Handshake(Box::new(error))),
    }
}
