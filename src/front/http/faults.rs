//! `/faults`: what `cproxy fault` talks to. There only while fault injection is enabled.

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde_json::json;

use super::{Shared, respond};
use crate::actors::faults;
use crate::exchange::RequestId;
use crate::faults::RuleText;

/// `GET /faults`: the rules that are armed.
pub async fn list(State(daemon): State<Shared>) -> Response {
    answer(&daemon, faults::list(daemon.directory()).map(|rules| json!({ "rules": rules })))
}

/// `POST /faults`: arms the rule in the body.
pub async fn arm(State(daemon): State<Shared>, headers: http::HeaderMap, body: Body) -> Response {
    let rule = super::body::read(&headers, body).await.map_err(|error| error.to_string());
    let rule = rule.and_then(|body: Bytes| {
        serde_json::from_slice::<RuleText>(&body).map_err(|error| format!("no fault rule: {error}"))
    });
    let armed = match rule {
        Ok(rule) => faults::arm(daemon.directory(), vec![rule]).await,
        Err(reason) => Err(reason),
    };
    answer(&daemon, armed.map(|rules| json!({ "rules": rules })))
}

/// `DELETE /faults`: disarms all.
pub async fn clear(State(daemon): State<Shared>) -> Response {
    answer(&daemon, faults::clear(daemon.directory()).await.map(|count| json!({ "cleared": count })))
}

fn answer(daemon: &Shared, result: Result<serde_json::Value, String>) -> Response {
    let (status, kind) = match daemon.directory().injector {
        Some(_) => (StatusCode::BAD_REQUEST, "invalid_request_error"),
        None => (StatusCode::NOT_FOUND, "not_found_error"),
    };
    match result {
        Ok(value) => respond::json(&value),
        Err(reason) => respond::failure(&RequestId::new(), status, kind, &reason),
    }
}
