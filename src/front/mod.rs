//! The fronts.

pub mod http;
pub mod mcp;
