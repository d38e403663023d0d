//! What the real APIs refuse, and in which words: as much of it as clients and proxies get wrong.
//!
//! An end-to-end test against an upstream that takes everything proves little; this one takes what its
//! provider takes.

mod anthropic;
mod chat;
mod gemini;
mod responses;

use http::HeaderMap;
use serde_json::Value;

use super::errors::Refusal;
use crate::dialect::Dialect;

/// Refuses what the real API would refuse.
pub(super) fn check(
    dialect: Dialect,
    openrouter: bool,
    headers: &HeaderMap,
    body: &Value,
    counting: bool,
) -> Result<(), Refusal> {
    match dialect {
        Dialect::Anthropic => anthropic::check(headers, body, counting),
        Dialect::OpenAiChat => chat::check(body, openrouter),
        Dialect::OpenAiResponses => responses::check(body, counting),
        Dialect::Gemini => gemini::check(body),
    }
}

/// Whether a name has only letters, digits, `_` and `-`, and at most so many.
fn is_name(name: &str, most: usize) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    !name.is_empty() && name.len() <= most && name.bytes().all(legal)
}
