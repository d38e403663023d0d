//! The bridge's connection to a daemon.

use std::sync::Arc;

use rmcp::model::*;
use rmcp::service::RoleClient;
use rmcp::transport::Transport;
use rmcp::transport::common::client_side_sse::FixedInterval;
use rmcp::transport::streamable_http_client::{
    StreamableHttpClientTransport, StreamableHttpClientTransportConfig, StreamableHttpError,
};

use super::{BETWEEN, HANDSHAKE, Upstream};
use crate::front::mcp::lines;

pub(super) type Http = StreamableHttpClientTransport<reqwest::Client>;
pub(super) type HttpError = StreamableHttpError<reqwest::Error>;

/// A connection that has not been used yet.
pub(super) fn connect(upstream: &Upstream) -> Result<Http, String> {
    // Fails when another was installed before, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .pool_max_idle_per_host(0)
        .connect_timeout(HANDSHAKE)
        .build()
        .map_err(|error| format!("the HTTP client could not be made: {error}"))?;
    let mut retry = FixedInterval::default();
    (retry.max_times, retry.duration) = (Some(2), BETWEEN);
    let mut config = StreamableHttpClientTransportConfig::with_uri(upstream.url.as_str())
        .max_concurrent_requests(256)
        .max_sse_event_size(lines::MOST)
        .max_json_response_size(lines::MOST)
        // The bridge does this itself, since it must repeat subscriptions as well.
        .reinit_on_expired_session(false);
    config.allow_stateless = true;
    config.retry_config = Arc::new(retry);
    if let Some(token) = &upstream.token {
        config = config.auth_header(token);
    }
    Ok(StreamableHttpClientTransport::with_client(client, config))
}

/// The next message of the daemon; waits for ever while there is none.
pub(super) async fn receive(up: &mut Option<Http>) -> Option<ServerJsonRpcMessage> {
    match up {
        Some(up) => Transport::<RoleClient>::receive(up).await,
        None => std::future::pending().await,
    }
}

/// Whether the connection is of no more use.
pub(super) fn lost(error: &HttpError) -> bool {
    match error {
        StreamableHttpError::SessionExpired
        | StreamableHttpError::TransportChannelClosed
        | StreamableHttpError::TokioJoinError(_)
        | StreamableHttpError::UnexpectedEndOfStream => true,
        StreamableHttpError::Client(error) => error.is_connect() || error.is_request() || error.is_body(),
        _ => false,
    }
}

/// Whether the daemon has certainly not read the message.
pub(super) fn unread(error: &HttpError) -> bool {
    match error {
        StreamableHttpError::SessionExpired => true,
        StreamableHttpError::Client(error) => error.is_connect(),
        _ => false,
    }
}
