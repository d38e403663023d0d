//! The HTTP front's actor.
//!
//! Owns: the accept loop, and the limit on connections. The socket itself stays in its cell, so that connections
//! wait in the kernel while the actor is away; connections that are open run in tasks of their own, which its
//! death does not touch.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::Directory;
use crate::runtime::{Me, Worker};

/// Serves one connection until it ends. Handed in from the front.
pub type Serve = Arc<dyn Fn(TcpStream) -> BoxFuture<'static, ()> + Send + Sync>;

/// What the HTTP front is told.
#[derive(Debug)]
pub enum HttpFrontMessage {
    /// Stop accepting: the daemon is stopping.
    Close,
    /// From its own loop: the socket failed.
    Failed(String),
}

/// What every incarnation is made from.
#[derive(Clone)]
pub struct Seat {
    /// The directory; the socket is in it.
    pub directory: Arc<Directory>,
    /// Serves a connection.
    pub serve: Serve,
    /// Places for connections; shared by all incarnations, since connections outlive them.
    pub places: Arc<Semaphore>,
}

/// One incarnation.
pub struct HttpFront {
    accepting: Option<tokio::sync::oneshot::Sender<()>>,
}

impl Worker for HttpFront {
    type Message = HttpFrontMessage;
    type Seat = Seat;

    fn start(seat: &Seat, me: &mut Me<HttpFrontMessage>) -> Result<HttpFront, String> {
        let Some(listener) = seat.directory.listener.get() else {
            return Ok(HttpFront { accepting: None }); // an MCP server of its own over stdio listens nowhere
        };
        if seat.directory.listener.stop().is_cancelled() {
            return Ok(HttpFront { accepting: None }); // it died while the daemon stops, and with it the word of it
        }
        let (accepting, closed) = tokio::sync::oneshot::channel::<()>();
        let (seat, address) = (seat.clone(), me.address().clone());
        me.spawn(async move {
            let accept = async {
                loop {
                    // Without a free place the connection waits in the kernel's backlog.
                    let Ok(place) = seat.places.clone().acquire_owned().await else { break };
                    match listener.accept().await {
                        Ok((stream, _)) => {
                            let serving = (seat.serve)(stream);
                            tokio::spawn(seat.directory.listener.connections().track_future(async move {
                                serving.await;
                                drop(place);
                            }));
                        }
                        Err(error) => {
                            tracing::warn!(%error, "could not accept a connection");
                            // Out of descriptors, most likely: connections that end will free some.
                            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                        }
                    }
                }
            };
            tokio::select! {
                biased;
                _ = closed => {}
                () = accept => { let _ = address.cast(HttpFrontMessage::Failed("the accept loop ended".into())); }
            }
        });
        Ok(HttpFront { accepting: Some(accepting) })
    }

    fn handle(&mut self, message: HttpFrontMessage, me: &mut Me<HttpFrontMessage>) {
        match message {
            HttpFrontMessage::Close => self.accepting = None,
            HttpFrontMessage::Failed(reason) => me.fail(reason),
        }
    }

    fn name(message: &HttpFrontMessage) -> &'static str {
        match message {
            HttpFrontMessage::Close => "Close",
            HttpFrontMessage::Failed(_) => "Failed",
        }
    }
}
