//! Chat Completions on recorded traffic. Each recording is read twice, by the crate and by a plain reader that
//! shares nothing with it; both must say the same. Every stream is cut anew at random places and at every event.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

mod support;

#[path = "wire/chat.rs"]
mod chat;

#[path = "wire/responses.rs"]
mod responses;
