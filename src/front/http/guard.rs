//! Who may talk to the daemon: a local daemon is reachable from every web page that its user opens, so Host and
//! Origin are checked on every route, and a token where one is set.
//!
//! Source: OWASP, "DNS rebinding"; Model Context Protocol specification, "Transports", security warning.

use std::borrow::Cow;
use std::sync::Arc;

use axum::response::Response;
use base64::Engine;
use http::{HeaderMap, Request, StatusCode, header};
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

    /// The answer to a request that is refused; `None` if it may pass.
    pub fn answer<B>(&self, request: &Request<B>) -> Option<Response> {
        let headers = request.headers();
        let authority = request.uri().authority().map(|authority| authority.as_str());
        let (status, message) = self.refuses(headers, authority)?;
        let mut response = respond::refused(status, message);
        let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
        if status == StatusCode::UNAUTHORIZED && accept.is_some_and(|accept| accept.contains("text/html")) {
            // A browser then asks its user for the token, as password.
            let ask = http::HeaderValue::from_static("Basic realm=\"cproxy: the token as password\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, ask);
        }
        Some(response)
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
        // Pages embed images and scripts without an Origin; browsers say from where in this header. Following a
        // link to the status page is no attack.
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        if text("sec-fetch-site") == Some("cross-site") && text("sec-fetch-dest") != Some("document") {
            return Some((StatusCode::FORBIDDEN, "requests from web pages of other origins are refused"));
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

/// The tokens that a request presents: in a header of its own, as an API key, as a bearer token, or as the password
/// that a browser asked for (RFC 7617).
fn presented(headers: &HeaderMap) -> impl Iterator<Item = Cow<'_, str>> {
    let own = headers.get_all("x-cproxy-token").iter().chain(headers.get_all("x-api-key").iter());
    let own = own.filter_map(|value| value.to_str().ok().map(Cow::Borrowed));
    let authorization = headers.get_all(header::AUTHORIZATION).iter().filter_map(|value| {
        let (scheme, rest) = value.to_str().ok()?.split_once(' ')?;
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(Cow::Borrowed(rest.trim()));
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let decoded = base64::engine::general_purpose::STANDARD.decode(rest.trim()).ok()?;
        let (_, password) = String::from_utf8(decoded).ok().and_then(|pair| {
            pair.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned()))
        })?;
        Some(Cow::Owned(password))
    });
    own.chain(authorization)
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
    fn what_a_page_of_another_site_embeds_is_refused_but_a_link_may_be_followed() {
        let embedded = [("host", "localhost"), ("sec-fetch-site", "cross-site"), ("sec-fetch-dest", "image")];
        assert!(refused(None, &embedded));
        assert!(refused(None, &embedded[..2]));
        let followed =
            [("host", "localhost"), ("sec-fetch-site", "cross-site"), ("sec-fetch-dest", "document")];
        assert!(!refused(None, &followed));
    }

    #[test]
    fn a_token_that_is_set_must_be_presented() {
        assert!(refused(Some("t0ken"), &[("host", "localhost")]));
        assert!(refused(Some("t0ken"), &[("host", "localhost"), ("x-api-key", "t0ke")]));
        assert!(!refused(Some("t0ken"), &[("host", "localhost"), ("x-api-key", "t0ken")]));
        assert!(!refused(Some("t0ken"), &[("host", "box.lan"), ("authorization", "Bearer t0ken")]));
        assert!(refused(Some("t0ken"), &[("host", "box.lan"), ("authorization", "Basic t0ken")]));
        // A browser's form: "any:t0ken", and "any:other".
        assert!(!refused(Some("t0ken"), &[("host", "box.lan"), ("authorization", "Basic YW55OnQwa2Vu")]));
        assert!(refused(Some("t0ken"), &[("host", "box.lan"), ("authorization", "Basic YW55Om90aGVy")]));
    }
}
