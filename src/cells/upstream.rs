//! The seam to the network: one request out, one response back. Real over reqwest; simulated in tests; faulty
//! through a decorator.
//!
//! The real client owns the connection pool of one provider: keep-alive, HTTP/2 where offered, TCP_NODELAY, no
//! redirects (a key must not follow one), no retries of its own (every attempt must be seen), the body's bytes
//! as they come.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;

use crate::config::Timeouts;
use crate::dialect::{Fault, FaultKind, Phase};

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
#[derive(Clone, Debug)]
pub struct HttpUpstream {
    client: reqwest::Client,
}

// === impl HttpUpstream ===

impl HttpUpstream {
    /// A client with a pool of its own. `loopback` upstreams are never reached through a proxy.
    pub fn new(timeouts: &Timeouts, loopback: bool) -> Result<HttpUpstream, Fault> {
        let mut builder = reqwest::Client::builder()
            .connect_timeout(timeouts.connect)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .tcp_nodelay(true)
            .pool_idle_timeout(Duration::from_secs(60))
            .pool_max_idle_per_host(64)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .http2_keep_alive_timeout(Duration::from_secs(10))
            .http2_adaptive_window(true);
        if loopback {
            builder = builder.no_proxy();
        }
        match builder.build() {
            Ok(client) => Ok(HttpUpstream { client }),
            Err(error) => Err(Fault::new(FaultKind::Network, format!("no HTTP client: {error}"))),
        }
    }
}

impl Upstream for HttpUpstream {
    fn send(&self, request: http::Request<Bytes>) -> BoxFuture<'static, Result<http::Response<Body>, Fault>> {
        let client = self.client.clone();
        Box::pin(async move {
            let request = reqwest::Request::try_from(request)
                .map_err(|error| Fault::new(FaultKind::Caller, format!("no valid request: {error}")))?;
            let response = client.execute(request).await.map_err(|error| fault_of(&error))?;
            let response: http::Response<reqwest::Body> = response.into();
            Ok(response.map(|body| body.map_err(|error| fault_of(&error)).boxed_unsync()))
        })
    }
}

/// What a failed exchange means. The URL is left out: it may hold what is nobody's business.
fn fault_of(error: &reqwest::Error) -> Fault {
    let kind = if error.is_connect() && error.is_timeout() {
        FaultKind::Timeout(Phase::Connect)
    } else if error.is_timeout() {
        FaultKind::Timeout(Phase::Headers)
    } else {
        FaultKind::Network
    };
    let mut causes = String::new();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        causes.push_str(if causes.is_empty() { "" } else { ": " });
        causes.push_str(&error.to_string());
        cause = error.source();
    }
    let what = if error.is_connect() { "could not connect" } else { "the connection broke" };
    let mut fault = Fault::new(kind, format!("{what}: {causes}"));
    fault.ambiguous = !error.is_connect();
    fault
}
