//! Request ids in use. A client may use each id once; rmcp lets a second request under an id that is in use take
//! the place of the first, which then gets no answer. So the second is refused before rmcp sees it, and the first
//! goes on as if nothing had been.
//!
//! Source: Model Context Protocol specification, "Base protocol", Requests.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use futures_util::stream::{self, Stream, StreamExt};
use rmcp::RoleServer;
use rmcp::model::*;
use rmcp::transport::Transport;
use rmcp::transport::WorkerTransport;
use rmcp::transport::streamable_http_server::session::local::{
    LocalSessionManager, LocalSessionManagerError, LocalSessionWorker,
};
use rmcp::transport::streamable_http_server::session::{
    EventStore, RestoreOutcome, ServerSseMessage, SessionId, SessionManager,
};

use super::watch_status::locked;

/// The ids of one session's requests that have no answer yet.
#[derive(Clone, Debug, Default)]
struct InUse(Arc<Mutex<HashSet<RequestId>>>);

/// A session's transport that keeps its [`InUse`].
pub struct UniqueIds<T> {
    inner: T,
    in_use: InUse,
    /// Whether requests are looked at as they come; over HTTP that is done before they get here.
    refuses: bool,
}

/// rmcp's sessions over HTTP, each with the ids that are in use.
#[derive(Debug)]
pub struct HttpSessions {
    inner: LocalSessionManager,
    in_use: Mutex<HashMap<SessionId, InUse>>,
}

// === impl InUse ===

impl InUse {
    /// Takes note of a request, or gives the answer to one whose id is in use.
    fn claim(&self, message: &ClientJsonRpcMessage) -> Option<ServerJsonRpcMessage> {
        let JsonRpcMessage::Request(request) = message else { return None };
        if locked(&self.0).insert(request.id.clone()) {
            return None;
        }
        let why = format!(
            "the request id {} is in use by a call that is still running; each needs its own",
            request.id
        );
        Some(JsonRpcMessage::error(ErrorData::invalid_request(why, None), Some(request.id.clone())))
    }

    /// A request that its client has cancelled gets no answer.
    fn cancelled(&self, message: &ClientJsonRpcMessage) {
        if let JsonRpcMessage::Notification(notification) = message
            && let ClientNotification::CancelledNotification(cancelled) = &notification.notification
            && let Some(id) = &cancelled.params.request_id
        {
            locked(&self.0).remove(id);
        }
    }

    fn answered(&self, message: &ServerJsonRpcMessage) {
        let id = match message {
            JsonRpcMessage::Response(response) => &response.id,
            JsonRpcMessage::Error(JsonRpcError { id: Some(id), .. }) => id,
            _ => return,
        };
        locked(&self.0).remove(id);
    }
}

// === impl UniqueIds ===

impl<T> UniqueIds<T> {
    /// Refuses requests under ids that are in use.
    pub fn new(inner: T) -> UniqueIds<T> {
        UniqueIds { inner, in_use: InUse::default(), refuses: true }
    }
}

impl<T: Transport<RoleServer>> Transport<RoleServer> for UniqueIds<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        message: ServerJsonRpcMessage,
    ) -> impl Future<Output = Result<(), T::Error>> + Send + 'static {
        self.in_use.answered(&message);
        self.inner.send(message)
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        loop {
            let message = self.inner.receive().await?;
            self.in_use.cancelled(&message);
            let refusal = if self.refuses { self.in_use.claim(&message) } else { None };
            let Some(refusal) = refusal else { return Some(message) };
            // In a task of its own, since whoever receives may stop waiting at any time.
            let sending = self.inner.send(refusal);
            tokio::spawn(async move {
                let _ = sending.await;
            });
        }
    }

    async fn close(&mut self) -> Result<(), T::Error> {
        self.inner.close().await
    }
}

// === impl HttpSessions ===

impl HttpSessions {
    /// Over rmcp's own.
    pub fn new(inner: LocalSessionManager) -> HttpSessions {
        HttpSessions { inner, in_use: Mutex::default() }
    }

    /// The transport of a session that begins.
    fn noting<T>(&self, id: &SessionId, inner: T) -> UniqueIds<T> {
        let in_use = InUse::default();
        locked(&self.in_use).insert(id.clone(), in_use.clone());
        UniqueIds { inner, in_use, refuses: false }
    }
}

impl SessionManager for HttpSessions {
    type Error = LocalSessionManagerError;
    type Transport = UniqueIds<WorkerTransport<LocalSessionWorker>>;

    async fn create_session(&self) -> Result<(SessionId, Self::Transport), Self::Error> {
        let (id, transport) = self.inner.create_session().await?;
        let transport = self.noting(&id, transport);
        Ok((id, transport))
    }

    async fn initialize_session(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<ServerJsonRpcMessage, Self::Error> {
        self.inner.initialize_session(id, message).await
    }

    async fn has_session(&self, id: &SessionId) -> Result<bool, Self::Error> {
        self.inner.has_session(id).await
    }

    async fn close_session(&self, id: &SessionId) -> Result<(), Self::Error> {
        locked(&self.in_use).remove(id);
        self.inner.close_session(id).await
    }

    async fn create_stream(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        let in_use = locked(&self.in_use).get(id).cloned();
        if let Some(refusal) = in_use.and_then(|in_use| in_use.claim(&message)) {
            let refusal = ServerSseMessage::from_message(refusal);
            return Ok(stream::once(std::future::ready(refusal)).left_stream());
        }
        // Fails only with the whole session, and its ids with it.
        Ok(self.inner.create_stream(id, message).await?.right_stream())
    }

    async fn accept_message(&self, id: &SessionId, message: ClientJsonRpcMessage) -> Result<(), Self::Error> {
        self.inner.accept_message(id, message).await
    }

    async fn create_standalone_stream(
        &self,
        id: &SessionId,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        self.inner.create_standalone_stream(id).await
    }

    async fn resume(
        &self,
        id: &SessionId,
        last_event_id: String,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        self.inner.resume(id, last_event_id).await
    }

    async fn restore_session(&self, id: SessionId) -> Result<RestoreOutcome<Self::Transport>, Self::Error> {
        Ok(match self.inner.restore_session(id.clone()).await? {
            RestoreOutcome::Restored(transport) => RestoreOutcome::Restored(self.noting(&id, transport)),
            RestoreOutcome::AlreadyPresent => RestoreOutcome::AlreadyPresent,
            _ => RestoreOutcome::NotSupported,
        })
    }

    fn event_store(&self) -> Option<Arc<dyn EventStore>> {
        self.inner.event_store()
    }
}
