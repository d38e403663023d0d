//! The dialects on recorded traffic and on small streams of our own. Each answer is read twice, by the crate and by
//! a plain reader that shares nothing with it; both must say the same. Every stream is cut anew at random places and
//! broken off at every event, and all that is written for a caller goes through a validator of the grammar.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

mod support;

#[path = "wire/anthropic.rs"]
mod anthropic;

#[path = "wire/chat.rs"]
mod chat;

#[path = "wire/bad.rs"]
mod bad;

#[path = "wire/citations.rs"]
mod citations;

#[path = "wire/counts.rs"]
mod counts;

#[path = "wire/parts.rs"]
mod parts;

#[path = "wire/prefix.rs"]
mod prefix;

#[path = "wire/responses.rs"]
mod responses;

#[path = "wire/streams.rs"]
mod streams;

#[path = "wire/table.rs"]
mod table;
