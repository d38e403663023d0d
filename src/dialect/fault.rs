//! The one taxonomy of what can go wrong with an attempt at an upstream. Closed: whoever handles faults
//! matches on all of it.
//!
//! What each kind leads to (retry, other key, next candidate, stop) is decided in `routing::treatment`; how it
//! reads to a caller, in each dialect's `error` module.

use std::time::Duration;

use bytes::Bytes;

/// One failed attempt: what happened, and what the upstream said of it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// What happened.
    pub kind: FaultKind,
    /// The upstream's status, if it gave one.
    pub status: Option<u16>,
    /// What happened, for people. Holds no key and no prompt.
    pub message: String,
    /// How long the upstream asks us to wait.
    pub retry_after: Option<Duration>,
    /// Whether the request may have been run (and billed) although no answer came.
    pub ambiguous: bool,
    /// The upstream's error body as it came, for callers who speak its dialect.
    pub body: Option<Bytes>,
    /// The headers of the upstream's refusal: what it says of its limits.
    pub headers: Option<Box<http::HeaderMap>>,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// The upstream refused because of a rate limit (429).
    RateLimited,
    /// The upstream is overloaded (503, 529).
    Overloaded,
    /// The upstream failed (other 5xx).
    ServerError,
    /// A deadline of ours passed.
    Timeout(Phase),
    /// No connection, or it broke.
    Network,
    /// The key was refused (401).
    Auth,
    /// The key may not do this (403).
    Permission,
    /// No credit (402, `insufficient_quota`).
    Billing,
    /// The upstream does not know the model (404).
    ModelNotFound,
    /// The input is too long for the model.
    ContextLength,
    /// The upstream's policy refused the content.
    ContentPolicy,
    /// The request is wrong, whoever answers it (400, 413, 422).
    Caller,
    /// The upstream did not keep to its dialect: broken JSON, a cut stream, an empty answer.
    Protocol,
}

/// Where a deadline passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// While connecting.
    Connect,
    /// Before the status and headers.
    Headers,
    /// Before the first output of the model.
    FirstOutput,
    /// Between two pieces of output.
    Idle,
    /// The attempt as a whole.
    Total,
}

impl Fault {
    /// A fault without a status.
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Fault {
        Fault {
            kind,
            status: None,
            message: message.into(),
            retry_after: None,
            ambiguous: false,
            body: None,
            headers: None,
        }
    }

    /// The upstream broke its own dialect.
    pub fn protocol(message: impl Into<String>) -> Fault {
        Fault::new(FaultKind::Protocol, message)
    }
}

impl FaultKind {
    /// A closed vocabulary for logs, metrics and explanations.
    pub fn as_str(self) -> &'static str {
        match self {
            FaultKind::RateLimited => "rate_limited",
            FaultKind::Overloaded => "overloaded",
            FaultKind::ServerError => "server_error",
            FaultKind::Timeout(Phase::Connect) => "timeout_connect",
            FaultKind::Timeout(Phase::Headers) => "timeout_headers",
            FaultKind::Timeout(Phase::FirstOutput) => "timeout_first_output",
            FaultKind::Timeout(Phase::Idle) => "timeout_idle",
            FaultKind::Timeout(Phase::Total) => "timeout_total",
            FaultKind::Network => "network",
            FaultKind::Auth => "auth",
            FaultKind::Permission => "permission",
            FaultKind::Billing => "billing",
            FaultKind::ModelNotFound => "model_not_found",
            FaultKind::ContextLength => "context_length",
            FaultKind::ContentPolicy => "content_policy",
            FaultKind::Caller => "caller",
            FaultKind::Protocol => "protocol",
        }
    }
}
