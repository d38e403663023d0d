//! Relays one client's stdio to a daemon's `/mcp`, message by message, so that all windows share one daemon. When
//! the daemon goes away the bridge finds the next, repeats the handshake and the subscriptions, tells the client
//! that all may have changed, and answers what was lost with an error; the client keeps its session.
//!
//! Source: Model Context Protocol specification, "Transports" and "Lifecycle".

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use rmcp::model::*;
use rmcp::service::RoleServer;
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::transport::{Transport, stdio_pipes};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::ids::UniqueIds;
use super::lines;
use super::manage::refused;
use super::outcome::Trouble;

mod link;
mod session;

use link::{Http, HttpError};
use session::{Session, is_own};

/// How often the daemon is asked for a sign of life, which also keeps its session open.
const PING: Duration = Duration::from_secs(5);
/// After so many signs of life that did not come, a daemon that is still there counts as gone.
const DEAF: u32 = 6;
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
    /// It only stands in for one that is not there: whenever no call is open, another is looked for.
    pub interim: bool,
}

/// Why the bridge could not begin.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// No daemon was found.
    #[error("no daemon to connect to: {0}")]
    NoDaemon(String),
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
    /// The daemon that was located last.
    at: Upstream,
    up: Option<Http>,
    /// Counts connections.
    connection: u64,
    session: Session,
    /// Pings since the daemon last sent anything.
    unanswered: u32,
    waiting: HashMap<RequestId, Waiting>,
    sends: FuturesUnordered<BoxFuture<'static, Sent>>,
}

/// [`bridge`] over this process's stdin and stdout.
pub async fn bridge_stdio<L>(locate: L) -> Result<(), BridgeError>
where
    L: FnMut() -> BoxFuture<'static, Result<Upstream, String>> + Send,
{
    let (input, output) = stdio_pipes();
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
    let at = locate().await.map_err(BridgeError::NoDaemon)?;
    let up = link::connect(&at).map_err(BridgeError::NoDaemon)?;
    let down = AsyncRwTransport::<RoleServer, _, _>::new(lines::checked(input), output)
        .with_max_line_length(2 * lines::MOST);
    let bridge = Bridge {
        down: UniqueIds::new(down),
        locate,
        at,
        up: Some(up),
        connection: 0,
        session: Session::default(),
        unanswered: 0,
        waiting: HashMap::new(),
        sends: FuturesUnordered::new(),
    };
    bridge.run(cancel).await;
    Ok(())
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
                answer = link::receive(&mut self.up) => match answer {
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
        let (lost, unread) = (link::lost(&error), link::unread(&error));
        let tool = matches!(&message, JsonRpcMessage::Request(request)
            if matches!(request.request, ClientRequest::CallToolRequest(_)));
        let present = connection != self.connection || !lost || self.reconnect().await;
        let hello = matches!(&message, JsonRpcMessage::Request(request)
            if matches!(request.request, ClientRequest::InitializeRequest(_)));
        // A tool call that may have been run is not run twice.
        if present
            && !again
            && lost
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
        self.unanswered = 0;
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

    /// Asks the daemon for a sign of life; moves to another if there is a better one, or if it gives none.
    async fn ping(&mut self) {
        let deaf = self.unanswered >= DEAF;
        if deaf {
            tracing::warn!("the daemon has not answered for {} s", PING.as_secs() * u64::from(DEAF));
        }
        if deaf || self.is_bettered().await {
            self.reconnect().await;
            return;
        }
        self.unanswered += 1;
        let id = self.session.own_id();
        let ping = PingRequest { method: Default::default(), extensions: Extensions::default() };
        self.send(JsonRpcMessage::request(ClientRequest::PingRequest(ping), id), false).await;
    }

    /// Whether the daemon only stands in, nothing waits for it, and another is there.
    async fn is_bettered(&mut self) -> bool {
        if !self.at.interim || !self.waiting.is_empty() {
            return false;
        }
        matches!((self.locate)().await, Ok(found) if found != self.at)
    }

    /// Finds the next daemon and tells it of this session. What the last one had taken is lost.
    async fn reconnect(&mut self) -> bool {
        self.up = None;
        self.unanswered = 0;
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
                Ok(upstream) => match link::connect(&upstream) {
                    Ok(up) => self.session.greet(up).await.map(|up| (upstream, up)),
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            };
            match connected {
                Ok((at, up)) => {
                    tracing::info!(url = at.url, "connected to a daemon again");
                    (self.at, self.up) = (at, Some(up));
                    self.connection += 1;
                    for notification in self.session.all_may_have_changed() {
                        let _ = self.down.send(JsonRpcMessage::notification(notification)).await;
                    }
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
