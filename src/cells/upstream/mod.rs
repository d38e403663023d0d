//! The seam to the network: one request out, one response back. Real over hyper; simulated in tests; faulty
//! through a decorator.
//!
//! The real client belongs to one provider and reaches nobody else: a pool of connections to its one address,
//! HTTP/2 where offered, TCP_NODELAY, no redirects (a key must not follow one), no retries of its own but on a
//! kept connection that the server had closed meanwhile (every attempt must be seen), the body's bytes as they
//! come.
//!
//! - `connect`: from an address to a connection, TLS included.
//! - `http1`: one connection, driven by the request's own task.
//! - `http2`: one connection that many requests share.
//! - `pool`: connections that wait for their next request.
//! - `proxied`: the way through a proxy, by reqwest.

mod connect;
mod direct;
mod http1;
mod http2;
mod pool;
mod proxied;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::Uri;
use http_body::Body as _;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper_util::client::proxy::matcher::Matcher;

use crate::config::Timeouts;
use crate::dialect::{Fault, FaultKind};

/// The body of an upstream's response.
pub type Body = UnsyncBoxBody<Bytes, Fault>;

/// Sends requests to one provider.
pub trait Upstream: Send + Sync + 'static {
    /// Sends a request; resolves when the headers are there. Dropping it, or the body, ends the connection's
    /// use: the upstream sees that nobody waits any more.
    fn send(&self, request: http::Request<Bytes>) -> BoxFuture<'static, Result<http::Response<Body>, Fault>>;

    /// Whether requests shall bring an [`About`] in their extensions.
    fn is_curious(&self) -> bool {
        false
    }
}

/// What a request is about, for an upstream that is curious.
#[derive(Clone, Debug)]
pub struct About {
    /// The model that the upstream is asked for.
    pub model: Arc<str>,
    /// The caller's session.
    pub session: Option<Arc<str>>,
}

/// The real client.
#[derive(Clone)]
pub struct HttpUpstream(Way);

#[derive(Clone)]
enum Way {
    Direct(Arc<direct::Direct>),
    Proxied(proxied::Proxied),
}

/// In the extensions of a response for which a connection was made: how long that took.
#[derive(Clone, Copy, Debug)]
pub struct Connected(pub Duration);

/// Pieces after the end of an answer that are read at once; an upstream that never stops is not listened to.
const MOST_LEFTOVERS: usize = 16;

/// How long an answer that is complete is given to end its body, so that its connection can be kept.
const TAIL_LIMIT: Duration = Duration::from_secs(1);

// === impl HttpUpstream ===

impl HttpUpstream {
    /// A client for the server at `base_url`, with connections of its own. The proxy variables of the environment
    /// hold, but not for servers on this machine.
    pub fn new(base_url: &str, timeouts: &Timeouts) -> Result<HttpUpstream, Fault> {
        let uri: Uri = base_url.parse().map_err(|error| no_address(base_url, &error))?;
        if !is_loopback(&uri) && Matcher::from_system().intercept(&uri).is_some() {
            return Ok(HttpUpstream(Way::Proxied(proxied::Proxied::new(timeouts)?)));
        }
        let connector = connect::Connector::new(&uri, timeouts.connect, connect::Trust::System)?;
        Ok(HttpUpstream(Way::Direct(Arc::new(direct::Direct::new(connector)))))
    }
}

impl Upstream for HttpUpstream {
    fn send(&self, request: http::Request<Bytes>) -> BoxFuture<'static, Result<http::Response<Body>, Fault>> {
        match &self.0 {
            Way::Direct(direct) => Box::pin(direct.clone().send(request)),
            Way::Proxied(proxied) => Box::pin(proxied.clone().send(request)),
        }
    }
}

impl std::fmt::Debug for HttpUpstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpUpstream").finish_non_exhaustive()
    }
}

/// Lets go of a body of which nothing more is wanted, since the answer in it is complete: its connection can be kept
/// if the body ends now or soon.
pub fn read_out(mut body: Body) {
    let mut quiet = Context::from_waker(Waker::noop());
    for _ in 0..MOST_LEFTOVERS {
        match Pin::new(&mut body).poll_frame(&mut quiet) {
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(_) => return,
            Poll::Pending => break,
        }
    }
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(tokio::time::timeout(TAIL_LIMIT, async move {
            while let Some(Ok(_)) = body.frame().await {}
        }));
    }
}

/// Whether an address is on this machine.
fn is_loopback(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn no_address(base_url: &str, why: &dyn std::fmt::Display) -> Fault {
    Fault::new(FaultKind::Caller, format!("\"{base_url}\" is no address of a server: {why}"))
}

/// An error and what caused it, in one line.
fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let what = error.to_string();
        if !text.contains(&what) {
            text.push_str(": ");
            text.push_str(&what);
        }
        cause = error.source();
    }
    text
}

/// No connection came about: nothing was sent.
fn not_connected(why: &dyn std::fmt::Display) -> Fault {
    Fault::new(FaultKind::Network, format!("could not connect: {why}"))
}

/// The connection broke after the request had been sent, at least in part.
fn broken(error: &dyn std::error::Error) -> Fault {
    let mut fault = Fault::new(FaultKind::Network, format!("the connection broke: {}", in_full(error)));
    fault.ambiguous = true;
    fault
}

#[cfg(test)]
mod tests;
