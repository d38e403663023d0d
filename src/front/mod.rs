//! The fronts: requests in, answers out, in the caller's dialect. Both share one [`Daemon`].

pub mod daemon;
pub mod http;
pub mod mcp;

pub use daemon::Daemon;
