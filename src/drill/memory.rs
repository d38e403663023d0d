//! Simulators that are reached without sockets: real HTTP over pipes in memory. With paused time, hours pass in
//! seconds, and the same seed gives the same outcome.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio_util::task::AbortOnDropHandle;

use crate::cells::upstream::{Body, Upstream};
use crate::dialect::{Fault, FaultKind};
use crate::simulator::Handle;

/// Bytes on their way in one direction.
const PIPE: usize = 64 << 10;

/// The way to a simulator in memory: a connection for each request.
pub struct InMemory(pub Handle);

/// The body of an answer, and what drives its connection.
struct Driven {
    body: Incoming,
    _connection: AbortOnDropHandle<()>,
    _simulator: AbortOnDropHandle<()>,
}

impl Upstream for InMemory {
    fn send(&self, request: Request<Bytes>) -> BoxFuture<'static, Result<Response<Body>, Fault>> {
        let handle = self.0.clone();
        Box::pin(async move {
            let (ours, theirs) = tokio::io::duplex(PIPE);
            let simulator = tokio::spawn(async move { handle.serve(theirs).await });
            let simulator = AbortOnDropHandle::new(simulator);
            let made = hyper::client::conn::http1::handshake(TokioIo::new(ours)).await;
            let (mut sender, connection) = made.map_err(|error| broke(&error))?;
            let connection = AbortOnDropHandle::new(tokio::spawn(async move {
                let _ = connection.await; // what is wrong with it is seen at the request, or at its body
            }));
            let response =
                sender.send_request(in_origin_form(request)).await.map_err(|error| broke(&error))?;
            Ok(response.map(|body| {
                let driven = Driven { body, _connection: connection, _simulator: simulator };
                driven.map_err(|error| broke(&error)).boxed_unsync()
            }))
        })
    }
}

impl http_body::Body for Driven {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
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
