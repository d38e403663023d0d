//! The listening socket, which outlives the actor that accepts from it: while that is away, connections wait in
//! the kernel's backlog.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The socket, and the connections that were accepted from it.
#[derive(Clone, Debug, Default)]
pub struct ListenerCell {
    listener: Option<Arc<TcpListener>>,
    connections: TaskTracker,
    stop: CancellationToken,
}

// === impl ListenerCell ===

impl ListenerCell {
    /// A bound socket.
    pub fn new(listener: TcpListener) -> ListenerCell {
        ListenerCell { listener: Some(Arc::new(listener)), ..ListenerCell::default() }
    }

    /// The socket; `None` in a process that does not listen.
    pub fn get(&self) -> Option<Arc<TcpListener>> {
        self.listener.clone()
    }

    /// Where it listens.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.as_ref()?.local_addr().ok()
    }

    /// The open connections.
    pub fn connections(&self) -> &TaskTracker {
        &self.connections
    }

    /// Cancelled when connections shall finish what they have and close.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }
}
