//! `GET /metrics`, in Prometheus's text format.

use axum::extract::State;
use axum::response::Response;
use http::{HeaderValue, header};

use super::Shared;
use crate::actors::measures;

/// The page.
pub async fn page(State(daemon): State<Shared>) -> Response {
    let mut response = Response::new(measures::page(daemon.directory()).into_text().into());
    let version = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, version);
    response
}
