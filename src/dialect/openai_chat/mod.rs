//! The Chat Completions dialect.

pub(crate) mod write;
