//! Requests straight to the server, over connections of our own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Request, Response, Uri, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::TrySendError;

use super::connect::{Connection, Connector, Outgoing};
use super::pool::{Free, Pool};
use super::{Body, Connected, broken, not_connected};
use crate::dialect::{Fault, FaultKind};
use crate::runtime::clock;

/// How long a request and the end of an idle connection may cross on their way. Later, the end is an answer.
const CROSSING: Duration = Duration::from_secs(1);

/// A client of one server.
pub(super) struct Direct {
    connector: Connector,
    pool: Arc<Pool>,
}

// === impl Direct ===

impl Direct {
    pub(super) fn new(connector: Connector) -> Direct {
        Direct { connector, pool: Arc::default() }
    }

    /// Sends a request; resolves when the headers of the answer are there.
    pub(super) async fn send(self: Arc<Self>, request: Request<Bytes>) -> Result<Response<Body>, Fault> {
        if !self.connector.reaches(request.uri()) {
            let message = format!("this connection leads to {} alone", self.connector.authority());
            return Err(Fault::new(FaultKind::Caller, message));
        }
        if let Some(kept) = self.pool.take() {
            let sent_at = clock::now();
            match self.send_over(kept, request.clone()).await {
                // By the server, while nobody used it: nobody has seen the request.
                Err(error) if was_closed_before(&error) && clock::now() < sent_at + CROSSING => {}
                sent => return sent.map_err(|error| broken(error.error())),
            }
        }
        let began = clock::now();
        let free = match self.connector.connect().await? {
            Connection::Http1(connection) => Free::Http1(connection),
            Connection::Http2(connection) => {
                let stream =
                    connection.stream().ok_or_else(|| not_connected(&"the server takes no stream"))?;
                self.pool.share(connection);
                Free::Http2(stream)
            }
        };
        let connected = Connected(clock::now().saturating_duration_since(began));
        let sent = self.send_over(free, request).await.map_err(|error| match error.message() {
            Some(_) => not_connected(error.error()),
            None => broken(error.error()),
        });
        sent.map(|mut response| {
            response.extensions_mut().insert(connected);
            response
        })
    }

    async fn send_over(
        &self,
        free: Free,
        request: Request<Bytes>,
    ) -> Result<Response<Body>, TrySendError<Request<Outgoing>>> {
        match free {
            Free::Http1(connection) => {
                let request = self.for_http1(request);
                let response = connection.send(request, Arc::downgrade(&self.pool)).await?;
                Ok(response.map(BodyExt::boxed_unsync))
            }
            Free::Http2(stream) => {
                let mut request = request.map(Full::new);
                *request.version_mut() = Version::HTTP_2;
                Ok(stream.send(request).await?.map(BodyExt::boxed_unsync))
            }
        }
    }

    /// HTTP/1.1 names the server in a header, and the path alone in the first line. Source: RFC 9112, section 3.2.
    fn for_http1(&self, request: Request<Bytes>) -> Request<Outgoing> {
        let mut request = request.map(Full::new);
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path.map(Uri::from).unwrap_or_default();
        if !request.headers().contains_key(HOST)
            && let Ok(host) = HeaderValue::from_str(self.connector.authority())
        {
            request.headers_mut().insert(HOST, host);
        }
        request
    }
}

/// Whether a kept connection turned out to be closed: the request did not reach the server, or the server closed the
/// connection without a word in answer, as it does when its idle time ends in the moment in which a request comes.
fn was_closed_before(error: &TrySendError<Request<Outgoing>>) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
    let cause =
        std::error::Error::source(error.error()).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    error.message().is_some()
        || error.error().is_incomplete_message()
        || cause.is_some_and(|cause| matches!(cause.kind(), BrokenPipe | ConnectionReset))
}
