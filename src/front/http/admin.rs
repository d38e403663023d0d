//! `/health`, `/status`, and the probes that Claude Code makes before its first request.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{Method, StatusCode};

use super::{Shared, respond};

/// `GET /health`: 200 as soon as requests are served.
pub async fn health(State(daemon): State<Shared>) -> Response {
    let ready = !daemon.directory().published.load().entries.is_empty();
    let mut response = respond::json(&serde_json::json!({ "status": if ready { "ok" } else { "starting" } }));
    if !ready {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

/// `GET /status`: what `cproxy://status` says.
pub async fn status(State(daemon): State<Shared>) -> Response {
    respond::json(&daemon.status())
}

/// `HEAD /api/hello`: Claude Code warms its connection with it.
pub async fn hello() -> Response {
    Response::new(Body::empty())
}

/// `HEAD /`: the same. For people, a word on what this is.
pub async fn root(method: Method) -> Response {
    match method {
        Method::GET => Response::new(Body::from(concat!(
            "cproxy ",
            env!("CARGO_PKG_VERSION"),
            "\nSet ANTHROPIC_BASE_URL to this address to run Claude Code over it; see /status and /health.\n"
        ))),
        Method::HEAD => Response::new(Body::empty()),
        _ => respond::method_not_allowed().await,
    }
}
