//! One HTTP/2 connection, shared by many requests. It runs in a task of its own.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http2};
use hyper_util::rt::TokioExecutor;

use super::broken;
use super::connect::{Outgoing, Transport};
use crate::dialect::Fault;

/// Most streams at once on one connection, even if the server allows more: they share its one TCP window.
const MOST_STREAMS: usize = 100;

/// A handle to a connection.
#[derive(Clone)]
pub(super) struct Http2 {
    sender: http2::SendRequest<Outgoing>,
    streams: Arc<Streams>,
}

/// The right to one stream on a connection.
pub(super) struct Stream {
    sender: http2::SendRequest<Outgoing>,
    place: Place,
}

struct Streams {
    open: AtomicUsize,
    /// How many the server takes at once.
    limit: AtomicUsize,
}

/// The connection itself.
pub(super) type Task = http2::Connection<Box<dyn Transport>, Outgoing, TokioExecutor>;

/// A place on a connection. Its drop frees it.
struct Place(Arc<Streams>);

/// The body of an answer. Its drop resets its stream if that has not ended.
pub(super) struct Http2Body {
    incoming: Incoming,
    _place: Place,
}

// === impl Http2 ===

impl Http2 {
    /// Runs the connection in a task, which ends with the last handle.
    pub(super) fn spawn(sender: http2::SendRequest<Outgoing>, connection: Task) -> Http2 {
        let streams = Arc::new(Streams { open: 0.into(), limit: MOST_STREAMS.into() });
        let told = streams.clone();
        let mut connection = Box::pin(connection);
        tokio::spawn(std::future::poll_fn(move |cx| {
            let ended = connection.as_mut().poll(cx);
            told.limit.store(connection.current_max_send_streams().min(MOST_STREAMS), Ordering::Release);
            if let Poll::Ready(Err(error)) = &ended {
                tracing::debug!(%error, "an HTTP/2 connection broke");
            }
            ended.map(drop)
        }));
        Http2 { sender, streams }
    }

    /// Whether the connection is gone.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Whether no request is on it.
    pub(super) fn is_idle(&self) -> bool {
        self.streams.open.load(Ordering::Acquire) == 0
    }

    /// One more stream, if it may be opened now: beyond the server's limit requests would wait unseen.
    pub(super) fn stream(&self) -> Option<Stream> {
        let limit = self.streams.limit.load(Ordering::Acquire);
        let more = |open: usize| (open < limit).then_some(open + 1);
        let ready = self.sender.is_ready();
        let taken =
            ready && self.streams.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok();
        taken.then(|| Stream { sender: self.sender.clone(), place: Place(self.streams.clone()) })
    }
}

// === impl Stream ===

impl Stream {
    /// Sends a request; resolves when the headers of the answer are there.
    pub(super) async fn send(
        mut self,
        request: Request<Outgoing>,
    ) -> Result<Response<Http2Body>, TrySendError<Request<Outgoing>>> {
        let response = self.sender.try_send_request(request).await?;
        Ok(response.map(|incoming| Http2Body { incoming, _place: self.place }))
    }
}

// === impl Place ===

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

// === impl Http2Body ===

impl Body for Http2Body {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let frame = Pin::new(&mut self.incoming).poll_frame(cx);
        frame.map(|frame| frame.map(|frame| frame.map_err(|error| broken(&error))))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
