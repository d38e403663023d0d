//! Simulators that are reached without sockets: real HTTP over pipes in memory. With paused time, hours pass in
//! seconds, and the same seed gives the same outcome.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio_util::task::AbortOnDropHandle;

use crate::cells::upstream::{Body, Upstream};
use crate::dialect::{Fault, FaultKind};
use crate::simulator::Handle;

/// Bytes on their way in one direction.
const PIPE: usize = 64 << 10;

/// The way to a simulator in memory. As on sockets, connections are kept for the next request where an answer was read
/// to its end.
pub struct InMemory {
    simulator: Handle,
    free: Arc<Mutex<Vec<Connection>>>,
}

/// A connection with what drives it on both sides.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    _driver: AbortOnDropHandle<()>,
    _simulator: AbortOnDropHandle<()>,
}

/// The body of an answer, and its connection, up to the end.
struct Driven {
    body: Incoming,
    connection: Option<Connection>,
    free: Arc<Mutex<Vec<Connection>>>,
}

// === impl InMemory ===

impl InMemory {
    /// The way to this simulator, without a connection yet.
    pub fn new(simulator: Handle) -> InMemory {
        InMemory { simulator, free: Arc::default() }
    }
}

impl Upstream for InMemory {
    fn send(&self, request: Request<Bytes>) -> BoxFuture<'static, Result<Response<Body>, Fault>> {
        let (simulator, free) = (self.simulator.clone(), self.free.clone());
        Box::pin(async move {
            let mut connection = connection(simulator, &free).await.map_err(|error| broke(&error))?;
            let sent = connection.sender.send_request(in_origin_form(request)).await;
            let response = sent.map_err(|error| broke(&error))?;
            Ok(response.map(|body| {
                let driven = Driven { body, connection: Some(connection), free };
                driven.map_err(|error| broke(&error)).boxed_unsync()
            }))
        })
    }
}

/// One that is free, or a new one.
async fn connection(simulator: Handle, free: &Mutex<Vec<Connection>>) -> hyper::Result<Connection> {
    while let Some(mut kept) = take(free) {
        if kept.sender.ready().await.is_ok() {
            return Ok(kept);
        }
    }
    let (ours, theirs) = tokio::io::duplex(PIPE);
    let simulator = AbortOnDropHandle::new(tokio::spawn(async move { simulator.serve(theirs).await }));
    let (sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(ours)).await?;
    let driver = AbortOnDropHandle::new(tokio::spawn(async move {
        let _ = driver.await; // what is wrong with it is seen at the request, or at its body
    }));
    Ok(Connection { sender, _driver: driver, _simulator: simulator })
}

/// Takes out a free one. On its own, for the lock is let go before anything is waited for.
fn take(free: &Mutex<Vec<Connection>>) -> Option<Connection> {
    lock(free).pop()
}

/// A list, whole at any moment.
fn lock(free: &Mutex<Vec<Connection>>) -> MutexGuard<'_, Vec<Connection>> {
    free.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Driven ===

impl http_body::Body for Driven {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let ended = matches!(polled, Poll::Ready(None)) || self.body.is_end_stream();
        if ended && let Some(connection) = self.connection.take() {
            lock(&self.free).push(connection);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The request as a server wants it: a path, and the host in a header.
fn in_origin_form(request: Request<Bytes>) -> Request<Full<Bytes>> {
    let (mut parts, body) = request.into_parts();
    if let Some(host) = parts.uri.authority().and_then(|host| HeaderValue::try_from(host.as_str()).ok()) {
        parts.headers.insert(header::HOST, host);
    }
    let path = parts.uri.path_and_query().and_then(|path| path.as_str().parse::<Uri>().ok());
    parts.uri = path.unwrap_or_default();
    Request::from_parts(parts, Full::new(body))
}

fn broke(error: &hyper::Error) -> Fault {
    let message = format!("the connection broke: {error}");
    Fault { ambiguous: true, ..Fault::new(FaultKind::Network, message) }
}
