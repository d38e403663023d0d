//! Relays one client's stdio to the running daemon's `/mcp`, message by message, so that all windows share one
//! daemon. When the daemon goes away the bridge finds the next, repeats the handshake and the subscriptions,
//! and answers what was lost with an error; the client keeps its session.
//!
//! Source: Model Context Protocol specification, "Transports" and "Lifecycle".

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
#[allow(deprecated, reason = "the clients of today set a level this way")]
use rmcp::model::*;
use rmcp::service::{RoleClient, RoleServer};
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::transport::common::client_side_sse::FixedInterval;
use rmcp::transport::streamable_http_client::{
    StreamableHttpClientTransport, StreamableHttpClientTransportConfig, StreamableHttpError,
};
use rmcp::transport::{Transport, stdio_pipes};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::lines;
use super::manage::refused;
use super::outcome::Trouble;

/// How often the daemon is asked for a sign of life, which also keeps its session open.
const PING: Duration = Duration::from_secs(5);
/// How long a handshake with the daemon may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How often, and how long apart, a daemon that is not there is looked for before a call fails.
const TRIES: u32 = 20;
const BETWEEN: Duration = Duration::from_millis(250);
/// In answers that the transport makes up itself when a stream has ended without one.
const STREAM_LOST: &str = "io.modelcontextprotocol/transportClosed";

/// Where a daemon is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Its address, such as `http://127.0.0.1:3000/mcp`.
    pub url: String,
    /// The token that it asks for, if any.
    pub token: Option<String>,
}

/// Why the bridge could not begin.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// No daemon was found.
    #[error("no daemon to connect to: {0}")]
    NoDaemon(String),
}

type Http = StreamableHttpClientTransport<reqwest::Client>;
type HttpError = StreamableHttpError<reqwest::Error>;

/// What a new daemon must be told of this session.
#[derive(Default)]
struct Session {
    hello: Option<JsonRpcRequest<ClientRequest>>,
    greeted: bool,
    subscribed: BTreeSet<String>,
    #[allow(deprecated, reason = "the clients of today set a level this way")]
    level: Option<SetLevelRequest>,
    /// Counts messages of the bridge's own.
    own: u64,
}

/// A request of the client that has no answer yet.
struct Waiting {
    tool: bool,
    /// The connection that took it, once one has.
    taken: Option<u64>,
}

/// A message that went to the daemon, or did not.
struct Sent {
    message: ClientJsonRpcMessage,
    again: bool,
    connection: u64,
    result: Result<(), HttpError>,
}

/// The bridge between two transports.
struct Bridge<D, L> {
    down: D,
    locate: L,
    up: Option<Http>,
    /// Counts connections.
    connection: u64,
    session: Session,
    waiting: HashMap<RequestId, Waiting>,
    sends: FuturesUnordered<BoxFuture<'static, Sent>>,
}

/// Relays this process's stdin and stdout to the daemon, until the client leaves.
pub async fn bridge_stdio(upstream: Upstream) -> Result<(), BridgeError> {
    let (input, output) = stdio_pipes();
    let locate = move || -> BoxFuture<'static, Result<Upstream, String>> {
        Box::pin(std::future::ready(Ok(upstream.clone())))
    };
    bridge(input, output, locate, CancellationToken::new()).await
}

/// Relays a client to the daemon that `locate` finds or starts; it is asked again whenever the daemon has gone.
/// Returns when the client leaves, or `cancel` says so.
pub async fn bridge<L>(
    input: impl AsyncRead + Send + Unpin + 'static,
    output: impl AsyncWrite + Send + Unpin + 'static,
    mut locate: L,
    cancel: CancellationToken,
) -> Result<(), BridgeError>
where
    L: FnMut() -> BoxFuture<'static, Result<Upstream, String>> + Send,
{
    let first = locate().await.map_err(BridgeError::NoDaemon)?;
    let up = transport(&first).map_err(BridgeError::NoDaemon)?;
    let down = AsyncRwTransport::<RoleServer, _, _>::new(lines::checked(input), output)
        .with_max_line_length(2 * lines::MOST);
    let bridge = Bridge {
        down,
        locate,
        up: Some(up),
        connection: 0,
        session: Session::default(),
        waiting: HashMap::new(),
        sends: FuturesUnordered::new(),
    };
    bridge.run(cancel).await;
    Ok(())
}

fn transport(upstream: &Upstream) -> Result<Http, String> {
    // Fails when another was installed before, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .pool_max_idle_per_host(0)
        .connect_timeout(HANDSHAKE)
        .build()
        .map_err(|error| format!("the HTTP client could not be made: {error}"))?;
    let mut retry = FixedInterval::default();
    (retry.max_times, retry.duration) = (Some(2), BETWEEN);
    let mut config = StreamableHttpClientTransportConfig::with_uri(upstream.url.as_str())
        .max_concurrent_requests(256)
        .max_sse_event_size(lines::MOST)
        .max_json_response_size(lines::MOST)
        // The bridge does this itself, since it must repeat subscriptions as well.
        .reinit_on_expired_session(false);
    config.allow_stateless = true;
    config.retry_config = Arc::new(retry);
    if let Some(token) = &upstream.token {
        config = config.auth_header(token);
    }
    Ok(StreamableHttpClientTransport::with_client(client, config))
}

// === impl Bridge ===

impl<D, L> Bridge<D, L>
where
    D: Transport<RoleServer>,
    L: FnMut() -> BoxFuture<'static, Result<Upstream, String>> + Send,
{
    async fn run(mut self, cancel: CancellationToken) {
        let mut ping = tokio::time::interval_at(tokio::time::Instant::now() + PING, PING);
        ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                Some(sent) = self.sends.next() => self.sent(sent).await,
                answer = receive(&mut self.up) => match answer {
                    Some(message) => self.relay_down(message).await,
                    None => {
                        self.reconnect().await;
                    }
                },
                message = self.down.receive() => match message {
                    Some(message) => self.relay_up(message).await,
                    None => break,
                },
                _ = ping.tick(), if self.session.greeted => self.ping().await,
            }
        }
        if let Some(mut up) = self.up {
            let _ = tokio::time::timeout(HANDSHAKE, up.close()).await;
        }
    }

    async fn relay_up(&mut self, message: ClientJsonRpcMessage) {
        match &message {
            JsonRpcMessage::Request(request) => {
                self.session.heed(request);
                let tool = matches!(request.request, ClientRequest::CallToolRequest(_));
                self.waiting.insert(request.id.clone(), Waiting { tool, taken: None });
            }
            JsonRpcMessage::Notification(notification) => match &notification.notification {
                ClientNotification::InitializedNotification(_) => self.session.greeted = true,
                ClientNotification::CancelledNotification(cancelled) => {
                    if let Some(id) = &cancelled.params.request_id {
                        self.waiting.remove(id);
                    }
                }
                _ => {}
            },
            _ => {}
        }
        self.send(message, false).await;
    }

    /// Sends a message on; `again` if it has failed before.
    async fn send(&mut self, message: ClientJsonRpcMessage, again: bool) {
        if self.up.is_none() && !self.reconnect().await {
            self.fail(&message, "no daemon was found").await;
            return;
        }
        let Some(up) = &mut self.up else { return };
        let (sending, connection) = (up.send(message.clone()), self.connection);
        self.sends.push(Box::pin(async move { Sent { message, again, connection, result: sending.await } }));
    }

    async fn sent(&mut self, sent: Sent) {
        let Sent { message, again, connection, result } = sent;
        let Err(error) = result else {
            if let JsonRpcMessage::Request(request) = &message
                && let Some(waiting) = self.waiting.get_mut(&request.id)
            {
                waiting.taken = Some(connection);
            }
            return;
        };
        tracing::info!(%error, "a message did not reach the daemon");
        let unread = match &error {
            StreamableHttpError::SessionExpired => true,
            StreamableHttpError::Client(error) => error.is_connect(),
            _ => false,
        };
        let tool = matches!(&message, JsonRpcMessage::Request(request)
            if matches!(request.request, ClientRequest::CallToolRequest(_)));
        let present = connection != self.connection || !lost(&error) || self.reconnect().await;
        let hello = matches!(&message, JsonRpcMessage::Request(request)
            if matches!(request.request, ClientRequest::InitializeRequest(_)));
        // A tool call that may have been run is not run twice.
        if present
            && !again
            && lost(&error)
            && (unread || !tool)
            && !is_own(&message)
            && !(hello && self.session.greeted)
        {
            Box::pin(self.send(message, true)).await;
        } else {
            self.fail(&message, &error.to_string()).await;
        }
    }

    async fn relay_down(&mut self, mut message: ServerJsonRpcMessage) {
        let id = match &message {
            JsonRpcMessage::Response(response) => Some(&response.id),
            JsonRpcMessage::Error(error) => error.id.as_ref(),
            _ => None,
        };
        if let Some(id) = id.cloned() {
            // Answers to messages of the bridge's own, and to what was answered before, end here.
            let Some(waiting) = self.waiting.remove(&id) else { return };
            if let JsonRpcMessage::Error(JsonRpcError { error, .. }) = &message
                && error.data.as_ref().is_some_and(|data| data.get(STREAM_LOST).is_some())
            {
                message = loss(id, waiting.tool, "it went away while it worked on this call");
            }
        }
        let _ = self.down.send(message).await;
    }

    /// Answers a request that will get no other answer.
    async fn fail(&mut self, message: &ClientJsonRpcMessage, why: &str) {
        if let JsonRpcMessage::Request(request) = message
            && let Some(waiting) = self.waiting.remove(&request.id)
        {
            let _ = self.down.send(loss(request.id.clone(), waiting.tool, why)).await;
        }
    }

    async fn ping(&mut self) {
        let id = self.session.own_id();
        let ping = PingRequest { method: Default::default(), extensions: Extensions::default() };
        self.send(JsonRpcMessage::request(ClientRequest::PingRequest(ping), id), false).await;
    }

    /// Finds the next daemon and tells it of this session. What the last one had taken is lost.
    async fn reconnect(&mut self) -> bool {
        self.up = None;
        let taken: Vec<RequestId> = self
            .waiting
            .iter()
            .filter(|(_, waiting)| waiting.taken.is_some())
            .map(|(id, _)| id.clone())
            .collect();
        for id in taken {
            if let Some(waiting) = self.waiting.remove(&id) {
                let _ =
                    self.down.send(loss(id, waiting.tool, "it went away while it worked on this call")).await;
            }
        }
        for _ in 0..TRIES {
            let connected = match (self.locate)().await {
                Ok(upstream) => match transport(&upstream) {
                    Ok(up) => self.session.greet(up).await,
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            };
            match connected {
                Ok(up) => {
                    tracing::info!("connected to the daemon again");
                    self.up = Some(up);
                    self.connection += 1;
                    return true;
                }
                Err(error) => tracing::debug!(error, "the daemon is not there yet"),
            }
            tokio::time::sleep(BETWEEN).await;
        }
        tracing::warn!("no daemon was found");
        false
    }
}

/// The next message of the daemon; waits for ever while there is none.
async fn receive(up: &mut Option<Http>) -> Option<ServerJsonRpcMessage> {
    match up {
        Some(up) => Transport::<RoleClient>::receive(up).await,
        None => std::future::pending().await,
    }
}

/// Whether the connection is of no more use.
fn lost(error: &HttpError) -> bool {
    match error {
        StreamableHttpError::SessionExpired
        | StreamableHttpError::TransportChannelClosed
        | StreamableHttpError::TokioJoinError(_)
        | StreamableHttpError::UnexpectedEndOfStream => true,
        StreamableHttpError::Client(error) => error.is_connect() || error.is_request() || error.is_body(),
        _ => false,
    }
}

/// The answer to a request that was lost: for a tool a result that a model can act on.
fn loss(id: RequestId, tool: bool, why: &str) -> ServerJsonRpcMessage {
    let message = format!("the proxy's daemon gave no answer: {why}");
    if tool {
        let advice = "Call again; the next daemon answers.";
        let result = refused(Trouble::new("daemon_gone", message, advice));
        return JsonRpcMessage::response(ServerResult::CallToolResult(result), id);
    }
    JsonRpcMessage::error(ErrorData::internal_error(message, Some(json!({ "retry": true }))), Some(id))
}

fn is_own(message: &ClientJsonRpcMessage) -> bool {
    matches!(message, JsonRpcMessage::Request(JsonRpcRequest { id: NumberOrString::String(id), .. })
        if id.starts_with(OWN))
}

/// How ids of the bridge's own messages begin.
const OWN: &str = "cproxy-bridge-";

// === impl Session ===

#[allow(deprecated, reason = "the clients of today subscribe and set levels this way")]
impl Session {
    /// Remembers what a new daemon must be told.
    fn heed(&mut self, request: &JsonRpcRequest<ClientRequest>) {
        match &request.request {
            ClientRequest::InitializeRequest(_) => {
                *self = Session { hello: Some(request.clone()), own: self.own, ..Session::default() };
            }
            ClientRequest::SubscribeRequest(subscribe) => {
                self.subscribed.insert(subscribe.params.uri.clone());
            }
            ClientRequest::UnsubscribeRequest(unsubscribe) => {
                self.subscribed.remove(&unsubscribe.params.uri);
            }
            ClientRequest::SetLevelRequest(level) => self.level = Some(level.clone()),
            _ => {}
        }
    }

    fn own_id(&mut self) -> RequestId {
        self.own += 1;
        NumberOrString::String(format!("{OWN}{}", self.own).into())
    }

    /// Repeats the handshake with a new daemon, if the client has been through it, and then the subscriptions.
    async fn greet(&mut self, mut up: Http) -> Result<Http, String> {
        let (Some(hello), true) = (self.hello.clone(), self.greeted) else { return Ok(up) };
        let greeting = async {
            let send = |error: HttpError| error.to_string();
            let id = hello.id.clone();
            up.send(JsonRpcMessage::Request(hello)).await.map_err(send)?;
            loop {
                match Transport::<RoleClient>::receive(&mut up).await {
                    Some(JsonRpcMessage::Response(response)) if response.id == id => break,
                    Some(JsonRpcMessage::Error(error)) => return Err(error.error.message.into_owned()),
                    Some(_) => {}
                    None => return Err("the connection ended in the handshake".to_owned()),
                }
            }
            let initialized =
                InitializedNotification { method: Default::default(), extensions: Extensions::default() };
            up.send(JsonRpcMessage::notification(ClientNotification::InitializedNotification(initialized)))
                .await
                .map_err(send)?;
            let subscriptions = self.subscribed.clone().into_iter().map(|uri| {
                ClientRequest::SubscribeRequest(SubscribeRequest::new(SubscribeRequestParams::new(uri)))
            });
            let level = self.level.clone().map(ClientRequest::SetLevelRequest);
            for request in subscriptions.chain(level) {
                let id = self.own_id();
                up.send(JsonRpcMessage::request(request, id)).await.map_err(send)?;
            }
            Ok(())
        };
        match tokio::time::timeout(HANDSHAKE, greeting).await {
            Ok(Ok(())) => Ok(up),
            Ok(Err(error)) => Err(error),
            Err(_) => Err("the daemon did not answer the handshake".to_owned()),
        }
    }
}
