//! Logs, redaction, metrics: what is seen of the daemon from outside, apart from its status.

pub mod bodies;
mod lines;
pub mod logs;
pub mod metrics;
pub mod otlp;
pub mod panics;
pub mod process;
pub mod redact;
pub mod requests;
mod rotate;
