//! From a server's address to a connection: name, TCP, TLS, and which HTTP is spoken.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http::uri::{Authority, Scheme};
use http_body_util::Full;
use hyper::rt::{Read, Write};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio_rustls::TlsConnector;
use tower::Service;

use super::http1::Http1;
use super::http2::Http2;
use super::{in_full, no_address, not_connected};
use crate::dialect::{Fault, FaultKind, Phase};

/// A request's body on its way out: all of it is at hand.
pub(super) type Outgoing = Full<Bytes>;

/// What bytes go over: TCP, with or without TLS.
pub(super) trait Transport: Read + Write + Send + Unpin {}
impl<T: Read + Write + Send + Unpin> Transport for T {}

/// Opens connections to one server.
pub(super) struct Connector {
    scheme: Scheme,
    authority: Authority,
    tcp: HttpConnector,
    trust: Trust,
    limit: Duration,
}

/// Whose certificates are believed.
pub(super) enum Trust {
    /// The system's, and those named by `SSL_CERT_FILE` and `SSL_CERT_DIR`.
    System,
    /// As this says.
    #[cfg(test)]
    Given(Arc<ClientConfig>),
}

/// A new connection.
#[allow(clippy::large_enum_variant)] // lives for a moment, on the stack
pub(super) enum Connection {
    Http1(Http1),
    Http2(Http2),
}

// === impl Connector ===

impl Connector {
    /// Opens connections to the server of this address within `limit` each.
    pub(super) fn new(uri: &Uri, limit: Duration, trust: Trust) -> Result<Connector, Fault> {
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
            return Err(no_address(&uri.to_string(), &"it must begin with https:// or http://, and a host"));
        };
        if *scheme != Scheme::HTTPS && *scheme != Scheme::HTTP {
            return Err(no_address(&uri.to_string(), &"it must begin with https:// or http://"));
        }
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(Duration::from_secs(15)));
        tcp.set_keepalive_interval(Some(Duration::from_secs(15)));
        tcp.set_keepalive_retries(Some(3));
        #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
        tcp.set_tcp_user_timeout(Some(Duration::from_secs(30)));
        Ok(Connector { scheme: scheme.clone(), authority: authority.clone(), tcp, trust, limit })
    }

    /// Whether this is the server that the address names.
    pub(super) fn reaches(&self, uri: &Uri) -> bool {
        uri.scheme() == Some(&self.scheme) && uri.authority() == Some(&self.authority)
    }

    /// The server, as the `Host` header names it.
    pub(super) fn authority(&self) -> &str {
        self.authority.as_str()
    }

    /// Opens a connection.
    pub(super) async fn connect(&self) -> Result<Connection, Fault> {
        match tokio::time::timeout(self.limit, self.open()).await {
            Ok(connected) => connected,
            Err(_) => {
                let limit = humantime::format_duration(self.limit);
                let message = format!("could not connect to {} within {limit}", self.authority);
                Err(Fault::new(FaultKind::Timeout(Phase::Connect), message))
            }
        }
    }

    async fn open(&self) -> Result<Connection, Fault> {
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(self.scheme.clone());
        uri.authority = Some(self.authority.clone());
        uri.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
        let uri = Uri::from_parts(uri).map_err(|error| not_connected(&error))?;
        let tcp = self.tcp.clone().call(uri).await.map_err(|error| not_connected(&in_full(&error)))?;
        if self.scheme == Scheme::HTTP {
            return http1(Box::new(tcp)).await;
        }
        let host = self.authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(|error| not_connected(&error))?;
        let tls = TlsConnector::from(self.tls().await?);
        let tls =
            tls.connect(name, tcp.into_inner()).await.map_err(|error| not_connected(&in_full(&error)))?;
        let speaks_http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        let transport: Box<dyn Transport> = Box::new(TokioIo::new(tls));
        if speaks_http2 { http2(transport).await } else { http1(transport).await }
    }

    async fn tls(&self) -> Result<Arc<ClientConfig>, Fault> {
        match &self.trust {
            Trust::System => system().await,
            #[cfg(test)]
            Trust::Given(config) => Ok(config.clone()),
        }
    }
}

/// What all providers share: the system's certificates, read when they are first needed, since that takes
/// milliseconds and memory.
async fn system() -> Result<Arc<ClientConfig>, Fault> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(config.clone());
    }
    let made = tokio::task::spawn_blocking(|| {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_platform_verifier()?
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok::<_, rustls::Error>(Arc::new(config))
    });
    match made.await {
        Ok(Ok(config)) => Ok(CONFIG.get_or_init(|| config).clone()),
        Ok(Err(error)) => Err(not_connected(&format!("no certificates to trust: {error}"))),
        Err(error) => Err(not_connected(&error)),
    }
}

async fn http1(transport: Box<dyn Transport>) -> Result<Connection, Fault> {
    let made = hyper::client::conn::http1::Builder::new().handshake(transport).await;
    let (sender, connection) = made.map_err(|error| not_connected(&in_full(&error)))?;
    Ok(Connection::Http1(Http1::new(sender, connection)))
}

async fn http2(transport: Box<dyn Transport>) -> Result<Connection, Fault> {
    let made = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .adaptive_window(true)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
        .handshake(transport)
        .await;
    let (sender, connection) = made.map_err(|error| not_connected(&in_full(&error)))?;
    Ok(Connection::Http2(Http2::spawn(sender, connection)))
}
