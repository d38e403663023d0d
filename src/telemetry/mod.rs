//! Logs, redaction, metrics: what is seen of the daemon from outside, apart from its status.

pub mod logs;
pub mod metrics;
pub mod redact;
pub mod requests;
