//! The Anthropic Messages dialect.

pub mod types;
