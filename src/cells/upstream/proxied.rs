//! The way through a proxy that the environment names: rare, so by reqwest, which knows all their kinds.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;

use super::Body;
use crate::config::Timeouts;
use crate::dialect::{Fault, FaultKind, Phase};

/// A client that goes through the environment's proxy.
#[derive(Clone)]
pub(super) struct Proxied {
    client: reqwest::Client,
}

// === impl Proxied ===

impl Proxied {
    pub(super) fn new(timeouts: &Timeouts) -> Result<Proxied, Fault> {
        let built = reqwest::Client::builder()
            .connect_timeout(timeouts.connect)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .tcp_nodelay(true)
            .pool_idle_timeout(Duration::from_secs(60))
            .pool_max_idle_per_host(64)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .http2_keep_alive_timeout(Duration::from_secs(10))
            .http2_adaptive_window(true)
            .build();
        match built {
            Ok(client) => Ok(Proxied { client }),
            Err(error) => Err(Fault::new(FaultKind::Network, format!("no HTTP client: {error}"))),
        }
    }

    pub(super) async fn send(self, request: http::Request<Bytes>) -> Result<http::Response<Body>, Fault> {
        let request = reqwest::Request::try_from(request)
            .map_err(|error| Fault::new(FaultKind::Caller, format!("no valid request: {error}")))?;
        let response = self.client.execute(request).await.map_err(|error| fault_of(&error))?;
        let response: http::Response<reqwest::Body> = response.into();
        Ok(response.map(|body| body.map_err(|error| fault_of(&error)).boxed_unsync()))
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
    let causes = std::error::Error::source(error).map(super::in_full).unwrap_or_default();
    let what = if error.is_connect() { "could not connect" } else { "the connection broke" };
    let mut fault = Fault::new(kind, format!("{what}: {causes}"));
    fault.ambiguous = !error.is_connect();
    fault
}
