//! One HTTP/1.1 connection, driven by the request's own task.
//!
//! Usually a client's connection is a task, and each piece of a body costs a change of tasks on its way. Here
//! whoever waits for the answer polls the connection too: all that one read of the socket brought comes out as one
//! piece, and dropping the body closes the connection, which is how an HTTP/1.1 server learns that nobody waits.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Weak;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};

use super::broken;
use super::connect::{Outgoing, Transport};
use super::pool::Pool;
use crate::dialect::Fault;

/// Most bytes that are joined to one piece.
const MOST_JOINED: usize = 64 << 10;

/// A connection without a request on it.
pub(super) struct Http1 {
    sender: http1::SendRequest<Outgoing>,
    wire: Wire,
}

/// The side of a connection that does the work whenever it is polled.
struct Wire {
    /// `None` once it has ended.
    connection: Option<http1::Connection<Box<dyn Transport>, Outgoing>>,
}

/// The body of an answer, and the connection from which it is read.
pub(super) struct Http1Body {
    incoming: Incoming,
    /// `None` once the body has ended.
    connection: Option<Http1>,
    /// Where the connection goes when the body has ended.
    pool: Weak<Pool>,
    /// What comes after the piece that was given last.
    fault: Option<Fault>,
}

// === impl Http1 ===

impl Http1 {
    pub(super) fn new(
        sender: http1::SendRequest<Outgoing>,
        connection: http1::Connection<Box<dyn Transport>, Outgoing>,
    ) -> Http1 {
        Http1 { sender, wire: Wire { connection: Some(connection) } }
    }

    /// Whether another request can be sent. Notices a server that has closed the connection meanwhile.
    pub(super) fn is_usable(&mut self) -> bool {
        self.wire.poll(&mut Context::from_waker(Waker::noop()));
        self.wire.connection.is_some() && self.sender.is_ready()
    }

    /// Sends a request; resolves when the headers of the answer are there.
    pub(super) async fn send(
        mut self,
        request: Request<Outgoing>,
        pool: Weak<Pool>,
    ) -> Result<Response<Http1Body>, TrySendError<Request<Outgoing>>> {
        let response = {
            let mut answer = pin!(self.sender.try_send_request(request));
            let wire = &mut self.wire;
            std::future::poll_fn(|cx| wire.advance(cx, |cx| answer.as_mut().poll(cx))).await?
        };
        Ok(response.map(|incoming| Http1Body { incoming, connection: Some(self), pool, fault: None }))
    }
}

// === impl Wire ===

impl Wire {
    fn poll(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = &mut self.connection
            && Pin::new(connection).poll(cx).is_ready()
        {
            // How it ended is told by the request or the body that waited for it.
            self.connection = None;
        }
    }

    /// Lets the connection work until `outcome` is there.
    ///
    /// The two talk through channels that wake the other side. Both run in this task, so such a wake would only
    /// run it once more for nothing: what is at hand is taken with a waker that wakes nobody. Only before it
    /// waits does the connection learn whom to wake.
    fn advance<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut outcome: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let mut quiet = Context::from_waker(Waker::noop());
        self.poll(&mut quiet);
        if let Poll::Ready(outcome) = outcome(&mut quiet) {
            return Poll::Ready(outcome);
        }
        self.poll(cx);
        outcome(cx)
    }
}

// === impl Http1Body ===

impl Http1Body {
    /// The next bytes, as the connection gives them.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Fault>>> {
        let Some(Http1 { wire, .. }) = &mut self.connection else { return Poll::Ready(None) };
        let incoming = &mut self.incoming;
        loop {
            // The body's own waker is never needed: nothing comes but from the connection.
            let frame = wire.advance(cx, |_| {
                Pin::new(&mut *incoming).poll_frame(&mut Context::from_waker(Waker::noop()))
            });
            return Poll::Ready(match ready!(frame) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => Some(Ok(data)),
                    Err(_trailers) => continue, // no dialect has any
                },
                Some(Err(error)) => {
                    self.connection = None;
                    Some(Err(broken(&error)))
                }
                None => {
                    if let (Some(connection), Some(pool)) = (self.connection.take(), self.pool.upgrade()) {
                        pool.put(connection);
                    }
                    None
                }
            });
        }
    }
}

impl Body for Http1Body {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if let Some(fault) = self.fault.take() {
            return Poll::Ready(Some(Err(fault)));
        }
        let first = match ready!(self.poll_piece(cx)) {
            Some(Ok(first)) => first,
            other => return Poll::Ready(other.map(|piece| piece.map(Frame::data))),
        };
        let mut joined = BytesMut::new();
        loop {
            match self.poll_piece(cx) {
                Poll::Ready(Some(Ok(next))) => {
                    if joined.is_empty() {
                        joined.extend_from_slice(&first);
                    }
                    joined.extend_from_slice(&next);
                    if joined.len() >= MOST_JOINED {
                        break;
                    }
                }
                Poll::Ready(Some(Err(fault))) => {
                    self.fault = Some(fault);
                    break;
                }
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        Poll::Ready(Some(Ok(Frame::data(if joined.is_empty() { first } else { joined.freeze() }))))
    }

    fn is_end_stream(&self) -> bool {
        self.connection.is_none() && self.fault.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
