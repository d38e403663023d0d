//! Errors of Anthropic upstreams, and errors as Anthropic's callers read them.
//!
//! Callers recover by the wording: an upstream's Anthropic error body goes on unmodified.
//!
//! Sources: Anthropic API reference, "Errors"; Claude Code documentation, "LLM gateway configuration".

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use crate::dialect::json::{Count, Str, write_str};
use crate::dialect::retry_after::{retry_after, whole_seconds};
use crate::dialect::{Fault, FaultKind, overflow};

/// An error for an Anthropic caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorAnswer {
    /// The status.
    pub status: StatusCode,
    /// The header `retry-after`, in whole seconds.
    pub retry_after: Option<u64>,
    /// The header `x-should-retry`, where the status alone would mislead.
    pub should_retry: Option<bool>,
    /// The body, JSON.
    pub body: Bytes,
}

/// Anthropic's error object; of the outer and inner fields any may be missing.
#[derive(Default, Deserialize)]
struct ErrorBody<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Str<'a>>,
    #[serde(borrow)]
    error: Option<Inner<'a>>,
}

#[derive(Default, Deserialize)]
struct Inner<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Str<'a>>,
    #[serde(borrow)]
    message: Option<Str<'a>>,
    /// llama.cpp's figures of an overflow.
    n_prompt_tokens: Option<Count>,
    n_ctx: Option<Count>,
}

/// The longest message that is taken from a body, in bytes.
const LONGEST_MESSAGE: usize = 4096;

/// Reads an Anthropic upstream's answer with a status of failure.
pub fn read(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Fault {
    let text = String::from_utf8_lossy(body);
    let parsed: ErrorBody<'_> = serde_json::from_str(&text).unwrap_or_default();
    let error = parsed.error.unwrap_or_default();
    let kind = error.kind.as_deref().unwrap_or_default();
    let message = match error.message {
        Some(message) if !message.is_empty() => shortened(&message),
        _ => unread(status, headers, &text),
    };
    let code = status.as_u16();
    let (fault_kind, ambiguous) = classify(Some(code), kind, &message);
    Fault {
        kind: fault_kind,
        status: Some(code),
        retry_after: retry_after(headers, &text, 0),
        ambiguous,
        body: is_anthropic(body).then(|| Bytes::copy_from_slice(body)),
        headers: None,
        message,
    }
}

/// The fault of an `error` event inside a stream, or of an error object that came with a status of success.
pub(super) fn in_stream(data: &str) -> Fault {
    let parsed: ErrorBody<'_> = serde_json::from_str(data).unwrap_or_default();
    let error = parsed.error.unwrap_or_default();
    let message = match error.message {
        Some(message) if !message.is_empty() => shortened(&message),
        _ => "the upstream sent an error without a message".to_owned(),
    };
    let (kind, _) = classify(None, error.kind.as_deref().unwrap_or_default(), &message);
    Fault {
        kind,
        status: None,
        retry_after: retry_after(&HeaderMap::new(), data, 0),
        ambiguous: matches!(kind, FaultKind::ServerError),
        body: is_anthropic(data.as_bytes()).then(|| Bytes::copy_from_slice(data.as_bytes())),
        headers: None,
        message,
    }
}

/// The kind of a failure, and whether the request may have been run. The text decides where it is clear, then the
/// type, then the status.
fn classify(status: Option<u16>, kind: &str, message: &str) -> (FaultKind, bool) {
    let lower = message.to_lowercase();
    let of_caller = matches!(status, None | Some(400 | 413 | 422))
        && matches!(kind, "" | "invalid_request_error" | "request_too_large");
    if of_caller && overflow::is_overflow(message) {
        return (FaultKind::ContextLength, false);
    }
    if lower.contains("credit balance") {
        return (FaultKind::Billing, false);
    }
    if of_caller && (lower.contains("content filtering policy") || lower.contains("usage policy")) {
        return (FaultKind::ContentPolicy, false);
    }
    let kind = match kind {
        "rate_limit_error" => FaultKind::RateLimited,
        "overloaded_error" => FaultKind::Overloaded,
        "authentication_error" => FaultKind::Auth,
        "permission_error" => FaultKind::Permission,
        "billing_error" => FaultKind::Billing,
        "not_found_error" => FaultKind::ModelNotFound,
        "timeout_error" => return (FaultKind::ServerError, true),
        "request_too_large" | "conflict_error" => FaultKind::Caller,
        "invalid_request_error" if matches!(status, None | Some(400..=499)) => {
            by_status(status.unwrap_or(400))
        }
        _ => by_status(status.unwrap_or(500)),
    };
    (kind, kind == FaultKind::ServerError)
}

fn by_status(status: u16) -> FaultKind {
    match status {
        401 => FaultKind::Auth,
        402 => FaultKind::Billing,
        403 => FaultKind::Permission,
        404 => FaultKind::ModelNotFound,
        408 | 504 => FaultKind::ServerError,
        429 => FaultKind::RateLimited,
        503 | 520..=524 | 529 => FaultKind::Overloaded,
        400..=499 => FaultKind::Caller,
        500..=599 => FaultKind::ServerError,
        _ => FaultKind::Protocol,
    }
}

/// What can be said of a body that holds no message.
fn unread(status: StatusCode, headers: &HeaderMap, text: &str) -> String {
    let content_type = headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let trimmed = text.trim_start();
    let what = match trimmed.as_bytes().first() {
        None => "an empty body".to_owned(),
        Some(b'<') => "a page of HTML".to_owned(),
        Some(b'{' | b'[') => "an error in a form of its own".to_owned(),
        Some(_) => match content_type {
            Some(content_type) if content_type.starts_with("text/plain") => {
                let line: String = trimmed.chars().take(200).filter(|c| !c.is_control()).collect();
                format!("the text \"{line}\"")
            }
            _ => "a body that is no JSON".to_owned(),
        },
    };
    format!("the upstream answered {} with {what}", status.as_u16())
}

fn shortened(message: &str) -> String {
    if message.len() <= LONGEST_MESSAGE {
        return message.to_owned();
    }
    let end = message.floor_char_boundary(LONGEST_MESSAGE);
    format!("{}…", message.get(..end).unwrap_or_default())
}

/// Whether a body is an error object of Anthropic's, which goes to a caller as it is.
fn is_anthropic(body: &[u8]) -> bool {
    // As text: of a field that nobody reads, the bytes would not be looked at.
    let Ok(text) = std::str::from_utf8(body) else { return false };
    let parsed = serde_json::from_str::<ErrorBody<'_>>(text).unwrap_or_default();
    parsed.kind.as_deref() == Some("error")
        && parsed.error.is_some_and(|error| error.kind.is_some() && error.message.is_some())
}

/// The status and error type of a fault towards an Anthropic caller. Exhaustive on purpose.
pub fn class(fault: &Fault) -> (StatusCode, &'static str) {
    match (fault.kind, fault.status) {
        (FaultKind::RateLimited, _) => (StatusCode::TOO_MANY_REQUESTS, "rate_limit_error"),
        (FaultKind::Overloaded, _) => (overloaded(), "overloaded_error"),
        (FaultKind::ServerError, Some(408 | 504)) => (StatusCode::GATEWAY_TIMEOUT, "timeout_error"),
        (FaultKind::ServerError, Some(500)) => (StatusCode::INTERNAL_SERVER_ERROR, "api_error"),
        (FaultKind::ServerError | FaultKind::Network | FaultKind::Protocol, _) => {
            (StatusCode::BAD_GATEWAY, "api_error")
        }
        (FaultKind::Timeout(_), _) => (StatusCode::GATEWAY_TIMEOUT, "timeout_error"),
        (FaultKind::Auth, _) => (StatusCode::UNAUTHORIZED, "authentication_error"),
        (FaultKind::Permission, _) => (StatusCode::FORBIDDEN, "permission_error"),
        (FaultKind::Billing, _) => (StatusCode::PAYMENT_REQUIRED, "billing_error"),
        (FaultKind::ModelNotFound, _) => (StatusCode::NOT_FOUND, "not_found_error"),
        (FaultKind::Caller, Some(413)) => (StatusCode::PAYLOAD_TOO_LARGE, "request_too_large"),
        (FaultKind::Caller, Some(409)) => (StatusCode::CONFLICT, "conflict_error"),
        (FaultKind::ContextLength | FaultKind::ContentPolicy | FaultKind::Caller, _) => {
            (StatusCode::BAD_REQUEST, "invalid_request_error")
        }
    }
}

fn overloaded() -> StatusCode {
    StatusCode::from_u16(529).unwrap_or(StatusCode::SERVICE_UNAVAILABLE)
}

/// The message of a fault towards an Anthropic caller: the fault's own, but for a context overflow, which is said
/// in the words that make Claude Code compact.
pub fn message(fault: &Fault) -> Cow<'_, str> {
    match fault.kind {
        FaultKind::ContextLength => {
            let body = fault.body.as_deref().unwrap_or_default();
            let error =
                serde_json::from_slice::<ErrorBody<'_>>(body).unwrap_or_default().error.unwrap_or_default();
            let count = |count: Option<Count>| count.map(|Count(count)| count);
            let fields =
                overflow::Fields { prompt: count(error.n_prompt_tokens), window: count(error.n_ctx) };
            Cow::Owned(overflow::wording(&fault.message, fields))
        }
        _ => Cow::Borrowed(&fault.message),
    }
}

/// A fault as the caller's error. An Anthropic upstream's body goes as it came, with the status it came with.
pub fn write(fault: &Fault, request_id: &str) -> ErrorAnswer {
    let (status, kind) = class(fault);
    let retry_after = fault.retry_after.map(whole_seconds);
    // Money doesn't come back by trying again; callers retry some of the forms that this takes upstream.
    let should_retry = (fault.kind == FaultKind::Billing).then_some(false);
    // Other servers speak this dialect, too, but not in the words by which callers recover.
    let is_worded = fault.kind != FaultKind::ContextLength || overflow::is_worded(&fault.message);
    if let Some(body) = fault.body.as_ref().filter(|body| is_worded && is_anthropic(body)) {
        let theirs = fault.status.and_then(|status| StatusCode::from_u16(status).ok());
        let status = theirs.filter(|s| s.is_client_error() || s.is_server_error()).unwrap_or(status);
        return ErrorAnswer { status, retry_after, should_retry, body: body.clone() };
    }
    let body = body(kind, &message(fault), request_id);
    ErrorAnswer { status, retry_after, should_retry, body }
}

/// An error of our own: `kind` is one of Anthropic's error types.
pub fn caller(status: StatusCode, kind: &str, message: &str, request_id: &str) -> ErrorAnswer {
    ErrorAnswer { status, retry_after: None, should_retry: None, body: body(kind, message, request_id) }
}

fn body(kind: &str, message: &str, request_id: &str) -> Bytes {
    let mut out = BytesMut::new();
    out.extend_from_slice(b"{\"type\":\"error\",\"error\":{\"type\":");
    write_str(&mut out, kind);
    out.extend_from_slice(b",\"message\":");
    write_str(&mut out, message);
    out.extend_from_slice(b"},\"request_id\":");
    write_str(&mut out, request_id);
    out.extend_from_slice(b"}");
    out.freeze()
}

#[cfg(test)]
mod tests;
