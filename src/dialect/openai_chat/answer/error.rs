//! Errors as callers of OpenAI's dialects read them.
//!
//! Source: OpenAI API reference, "Error codes" (statuses, types and codes); its clients retry 408, 409, 429 and
//! all from 500 on.

use bytes::{Bytes, BytesMut};
use http::StatusCode;

use crate::dialect::anthropic::{self, ErrorAnswer};
use crate::dialect::json::write_str;
use crate::dialect::retry_after::whole_seconds;
use crate::dialect::{Fault, FaultKind};

/// Status, type and code of a fault towards a caller of OpenAI's dialects. Exhaustive on purpose.
pub fn class(fault: &Fault) -> (StatusCode, &'static str, Option<&'static str>) {
    match (fault.kind, fault.status) {
        (FaultKind::RateLimited, _) => {
            (StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", Some("rate_limit_exceeded"))
        }
        (FaultKind::Billing, _) => {
            (StatusCode::TOO_MANY_REQUESTS, "insufficient_quota", Some("insufficient_quota"))
        }
        (FaultKind::Overloaded, _) => (StatusCode::SERVICE_UNAVAILABLE, "server_error", Some("overloaded")),
        (FaultKind::ServerError, Some(408 | 504)) | (FaultKind::Timeout(_), _) => {
            (StatusCode::GATEWAY_TIMEOUT, "server_error", Some("timeout"))
        }
        (FaultKind::ServerError, Some(500)) => (StatusCode::INTERNAL_SERVER_ERROR, "server_error", None),
        (FaultKind::ServerError | FaultKind::Network | FaultKind::Protocol, _) => {
            (StatusCode::BAD_GATEWAY, "server_error", None)
        }
        (FaultKind::Auth, _) => (StatusCode::UNAUTHORIZED, "invalid_request_error", Some("invalid_api_key")),
        (FaultKind::Permission, _) => (StatusCode::FORBIDDEN, "permission_error", None),
        (FaultKind::ModelNotFound, _) => {
            (StatusCode::NOT_FOUND, "invalid_request_error", Some("model_not_found"))
        }
        (FaultKind::ContextLength, _) => {
            (StatusCode::BAD_REQUEST, "invalid_request_error", Some("context_length_exceeded"))
        }
        (FaultKind::ContentPolicy, _) => {
            (StatusCode::BAD_REQUEST, "invalid_request_error", Some("content_policy_violation"))
        }
        (FaultKind::Caller, Some(413)) => (StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", None),
        (FaultKind::Caller, Some(409)) => (StatusCode::CONFLICT, "invalid_request_error", None),
        (FaultKind::Caller, _) => (StatusCode::BAD_REQUEST, "invalid_request_error", None),
    }
}

/// A fault as the caller's error. The body of an upstream that speaks the same dialect goes as it came, with
/// the status it came with.
pub fn write(fault: &Fault) -> ErrorAnswer {
    let (status, ..) = class(fault);
    let retry_after = fault.retry_after.map(whole_seconds);
    // Money doesn't come back by trying again, and these clients retry every 429.
    let should_retry = (fault.kind == FaultKind::Billing).then_some(false);
    if let Some(body) = theirs(fault) {
        let came = fault.status.and_then(|status| StatusCode::from_u16(status).ok());
        let status = came.filter(|s| s.is_client_error() || s.is_server_error()).unwrap_or(status);
        return ErrorAnswer { status, retry_after, should_retry, body };
    }
    let mut body = BytesMut::new();
    write_body(&mut body, fault);
    ErrorAnswer { status, retry_after, should_retry, body: body.freeze() }
}

/// An error of our own.
pub fn caller(
    status: StatusCode,
    kind: &str,
    code: Option<&str>,
    message: &str,
    param: Option<&str>,
) -> ErrorAnswer {
    let mut body = BytesMut::new();
    write_object(&mut body, message, kind, code, param);
    ErrorAnswer { status, retry_after: None, should_retry: None, body: body.freeze() }
}

/// Writes a fault's error object, `{"error":{…}}`.
pub(crate) fn write_body(out: &mut BytesMut, fault: &Fault) {
    let (_, kind, code) = class(fault);
    write_object(out, &anthropic::error::message(fault), kind, code, None);
}

fn write_object(out: &mut BytesMut, message: &str, kind: &str, code: Option<&str>, param: Option<&str>) {
    let or_null = |out: &mut BytesMut, text: Option<&str>| match text {
        Some(text) => write_str(out, text),
        None => out.extend_from_slice(b"null"),
    };
    out.extend_from_slice(b"{\"error\":{\"message\":");
    write_str(out, message);
    out.extend_from_slice(b",\"type\":");
    write_str(out, kind);
    out.extend_from_slice(b",\"param\":");
    or_null(out, param);
    out.extend_from_slice(b",\"code\":");
    or_null(out, code);
    out.extend_from_slice(b"}}");
}

/// The upstream's own error body, if it is an object of this dialect: `error` with a message, and nothing that
/// marks it as another's.
fn theirs(fault: &Fault) -> Option<Bytes> {
    #[derive(serde::Deserialize)]
    struct Outer<'a> {
        #[serde(borrow, rename = "type", default)]
        kind: Option<&'a serde_json::value::RawValue>,
        error: Inner,
    }
    #[derive(serde::Deserialize)]
    struct Inner {
        #[allow(dead_code)] // it must be there
        message: String,
        #[serde(default)]
        status: Option<serde::de::IgnoredAny>,
    }
    let body = fault.body.as_ref()?;
    let outer: Outer<'_> = serde_json::from_slice(body).ok()?;
    // Anthropic's have a type outside, Google's a status inside.
    (outer.kind.is_none() && outer.error.status.is_none() && fault.status.is_some()).then(|| body.clone())
}
