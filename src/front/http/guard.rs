//! Who may talk to the daemon: a local daemon is reachable from every web page that its user opens, so Host and
//! Origin are checked on every route, and a token where one is set.
//!
//! Source: OWASP, "DNS rebinding"; Model Context Protocol specification, "Transports", security warning.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, StatusCode, header};
use subtle::ConstantTimeEq;

use super::respond;
use crate::config::secret::Key;

/// What is checked on every request.
#[derive(Clone, Debug)]
pub struct Guard {
    token: Option<Arc<Key>>,
}

// === impl Guard ===

impl Guard {
    /// Checks Host and Origin, and the token if there is one.
    pub fn new(token: Option<Key>) -> Guard {
        Guard { token: token.map(Arc::new) }
    }

    /// Why a request with these headers is refused; `None` if it may pass.
    fn refuses(&self, headers: &HeaderMap, authority: Option<&str>) -> Option<(StatusCode, &'static str)> {
        let host = authority.or_else(|| headers.get(header::HOST).and_then(|host| host.to_str().ok()));
        if self.token.is_none() && !host.is_some_and(|host| is_loopback(host_name(host))) {
            return Some((
                StatusCode::FORBIDDEN,
                "the Host header must name this machine (localhost or 127.0.0.1)",
            ));
        }
        let mut origins = headers.get_all(header::ORIGIN).iter();
        if let Some(origin) = origins.next() {
            let local = origin.to_str().ok().and_then(|origin| origin.split_once("://")).is_some_and(
                |(scheme, rest)| matches!(scheme, "http" | "https") && is_loopback(host_name(rest)),
            );
            if !local || origins.next().is_some() {
                return Some((StatusCode::FORBIDDEN, "requests from web pages of other origins are refused"));
            }
        }
        if let Some(token) = &self.token
            && !presented(headers).any(|sent| bool::from(sent.as_bytes().ct_eq(token.expose().as_bytes())))
        {
            let message = "this daemon asks for its token, as x-api-key or as Authorization: Bearer (see server.token_file)";
            return Some((StatusCode::UNAUTHORIZED, message));
        }
        None
    }
}

/// The layer: answers what is refused, passes on the rest.
pub async fn check(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    match guard.refuses(request.headers(), request.uri().authority().map(|authority| authority.as_str())) {
        Some((status, message)) => respond::refused(status, message),
        None => next.run(request).await,
    }
}

/// The tokens that a request presents.
fn presented(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let own = headers.get_all("x-cproxy-token").iter().chain(headers.get_all("x-api-key").iter());
    let own = own.filter_map(|value| value.to_str().ok());
    let bearer = headers.get_all(header::AUTHORIZATION).iter().filter_map(|value| {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    own.chain(bearer)
}

/// The host of `host:port`.
fn host_name(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split_once(']').map_or("", |(host, _)| host);
    }
    authority.split_once(':').map_or(authority, |(host, _)| host)
}

/// Whether a host name means this machine.
fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refused(token: Option<&str>, headers: &[(&'static str, &'static str)]) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        Guard::new(token.map(|token| Key::new("test", token))).refuses(&map, None).is_some()
    }

    #[test]
    fn a_host_that_is_not_this_machine_is_refused() {
        for host in ["evil.example", "127.0.0.1.evil.example", "0.0.0.0:3000", "", "10.0.0.1"] {
            assert!(refused(None, &[("host", host)]), "{host}");
        }
        for host in ["localhost:3000", "127.0.0.1:3000", "[::1]:3000", "LOCALHOST"] {
            assert!(!refused(None, &[("host", host)]), "{host}");
        }
        assert!(refused(None, &[]));
    }

    #[test]
    fn an_origin_that_is_not_this_machine_is_refused() {
        for origin in ["https://evil.example", "null", "http://localhost.evil.example", "file://"] {
            assert!(refused(None, &[("host", "localhost"), ("origin", origin)]), "{origin}");
        }
        assert!(!refused(None, &[("host", "localhost"), ("origin", "http://localhost:3000")]));
        let twice =
            [("host", "localhost"), ("origin", "http://localhost"), ("origin", "http://evil.example")];
        assert!(refused(None, &twice));
    }

    #[test]
    fn a_token_that_is_set_must_be_presented() {
        assert!(refused(Some("t0ken"), &[("host", "localhost")]));
        assert!(refused(Some("t0ken"), &[("host", "localhost"), ("x-api-key", "t0ke")]));
        assert!(!refused(Some("t0ken"), &[("host", "localhost"), ("x-api-key", "t0ken")]));
        assert!(!refused(Some("t0ken"), &[("host", "box.lan"), ("authorization", "Bearer t0ken")]));
        assert!(refused(Some("t0ken"), &[("host", "box.lan"), ("authorization", "Basic t0ken")]));
    }
}
