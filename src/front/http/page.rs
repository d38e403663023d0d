//! The status page: three files held by the binary. They ask `/status` again and again and load nothing else, which
//! the policy in their headers enforces.
//!
//! Source of the headers: W3C, "Content Security Policy Level 3"; OWASP, "HTTP Security Response Headers".

use axum::body::Body;
use axum::extract::Path;
use axum::response::Response;
use http::{HeaderValue, header};

use super::respond;

/// What the page may do: load its own script and style, ask its own daemon, be in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page.
pub fn page() -> Response {
    asset("text/html; charset=utf-8", include_str!("page/page.html"))
}

/// `GET /page/{file}`: its script and its style.
pub async fn file(Path(file): Path<String>) -> Response {
    match file.as_str() {
        "page.js" => asset("text/javascript; charset=utf-8", include_str!("page/page.js")),
        "page.css" => asset("text/css; charset=utf-8", include_str!("page/page.css")),
        _ => respond::no_such_path().await,
    }
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
        (http::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    response.headers_mut().extend(headers.map(|(name, value)| (name, HeaderValue::from_static(value))));
    response
}
