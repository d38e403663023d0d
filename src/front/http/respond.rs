//! Answers that the front gives by itself: errors in Anthropic's shape, with a request id.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};

use crate::dialect::anthropic::error;
use crate::exchange::{Answer, AnswerBody, RequestId};
use futures_util::StreamExt;

/// An answer of the exchange as an HTTP response.
pub fn answer(answer: Answer) -> Response {
    let body = match answer.body {
        AnswerBody::Whole(bytes) => Body::from(bytes),
        AnswerBody::Stream(stream) => Body::from_stream(stream.map(Ok::<Bytes, std::convert::Infallible>)),
    };
    let mut response = Response::new(body);
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response
}

/// Every answer says whose it is, so that `cproxy run` and `cproxy mcp` know a running daemon; also one that asks for
/// its token.
pub fn signed(mut response: Response) -> Response {
    response.headers_mut().insert("x-cproxy-version", HeaderValue::from_static(env!("CARGO_PKG_VERSION")));
    response
}

/// An error of the front's own.
pub fn failure(id: &RequestId, status: StatusCode, kind: &'static str, message: &str) -> Response {
    let mut response = Response::new(Body::from(error::caller(status, kind, message, &id.0).body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(value) = HeaderValue::from_str(&id.0) {
        response.headers_mut().insert("request-id", value);
    }
    response
}

/// 405.
pub async fn method_not_allowed() -> Response {
    let message = "this path does not take that method";
    failure(&RequestId::new(), StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", message)
}

/// 404.
pub async fn no_such_path() -> Response {
    let message = "no such path; cproxy serves /v1/messages, /v1/messages/count_tokens, /v1/chat/completions, /v1/responses, /v1/models, /mcp, /health and /status";
    failure(&RequestId::new(), StatusCode::NOT_FOUND, "not_found_error", message)
}

/// Refused by the guard.
pub fn refused(status: StatusCode, message: &str) -> Response {
    let kind = if status == StatusCode::UNAUTHORIZED { "authentication_error" } else { "permission_error" };
    failure(&RequestId::new(), status, kind, message)
}

/// A JSON document.
pub fn json(value: &impl serde::Serialize) -> Response {
    let (status, body) = match serde_json::to_vec(value) {
        Ok(body) => (StatusCode::OK, body),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string().into_bytes()),
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
