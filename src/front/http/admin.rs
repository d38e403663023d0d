//! `/health`, `/status`, `/requests`, `/usage`, `/explain`, and the probes that Claude Code makes before its first request.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, Method, StatusCode, header};

use super::{Shared, messages, page, respond};
use crate::dialect::Dialect;
use crate::exchange::RequestId;
use crate::front::mcp;

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
    fresh(&daemon.status())
}

/// `POST /explain`: the body of a Messages request; answered with its plan, and nothing is sent anywhere. The query
/// `tokens=N` puts another count in the place of the estimate.
pub async fn explain(State(daemon): State<Shared>, request: axum::extract::Request) -> Response {
    let id = RequestId::new();
    let (parts, body) = request.into_parts();
    let tokens = parts.uri.query().into_iter().flat_map(|query| query.split('&'));
    let tokens = tokens.filter_map(|pair| pair.strip_prefix("tokens=")).next_back().map(str::parse::<u64>);
    match (messages::read(&daemon, &id, &parts, body, Dialect::Anthropic).await, tokens.transpose()) {
        (Err(response), _) => *response,
        (Ok(_), Err(_)) => {
            let message = "tokens: Input should be a whole number";
            respond::failure(&id, StatusCode::BAD_REQUEST, "invalid_request_error", message)
        }
        (Ok(mut request), Ok(tokens)) => {
            let head = &mut request.facts.head;
            head.estimated_tokens = tokens.unwrap_or(head.estimated_tokens);
            respond::json(&daemon.exchange().explain(&request))
        }
    }
}

/// `HEAD /api/hello`: Claude Code warms its connection with it.
pub async fn hello() -> Response {
    Response::new(Body::empty())
}

/// `HEAD /`: the same. For browsers the status page; for others who look, a word on what this is.
pub async fn root(method: Method, headers: HeaderMap) -> Response {
    let html = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    match method {
        Method::GET if html.is_some_and(|accept| accept.contains("text/html")) => page::page(),
        Method::GET => Response::new(Body::from(concat!(
            "cproxy ",
            env!("CARGO_PKG_VERSION"),
            "\nSet ANTHROPIC_BASE_URL to this address to run Claude Code over it; see /status and /health.\n"
        ))),
        Method::HEAD => Response::new(Body::empty()),
        _ => respond::method_not_allowed().await,
    }
}

/// `GET /requests`: the last requests, newest first; no prompts, no answers.
pub async fn requests(State(daemon): State<Shared>) -> Response {
    fresh(&mcp::Daemon::recent_requests(&daemon))
}

/// `GET /usage`: tokens and cost of late.
pub async fn usage(State(daemon): State<Shared>) -> Response {
    fresh(&mcp::Daemon::usage(&daemon).await)
}

/// A document that is another in a moment.
fn fresh(value: &impl serde::Serialize) -> Response {
    let mut response = respond::json(value);
    response.headers_mut().insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    response
}
