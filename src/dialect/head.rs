//! One scan of a Messages body for the few facts that routing needs, and the splice that changes its model.
//!
//! The scan validates that the body is one JSON object, finds the byte span of the model's name, and keeps
//! nothing else of the body; the bytes stay as they came. Of a key that comes twice in one object the last
//! counts, as in nearly every JSON parser; that is also the one that the splice replaces.
//!
//! Sources: RFC 8259 (JSON); Anthropic API reference, "Messages" (fields and content blocks).

mod scanner;

use std::ops::Range;

use bytes::Bytes;

use super::Dialect;
use super::json::lexer::{self, Malformed};
use super::tokens::{self, Family, Weight};

/// The facts of a request that routing needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Head {
    /// The dialect of the body; `None` counts as Messages.
    pub dialect: Option<Dialect>,
    /// The model that the caller named, unescaped.
    pub model: String,
    /// Where the model's JSON string stands in the body, quotes included.
    pub model_span: Range<usize>,
    /// Whether the caller wants a stream.
    pub stream: bool,
    /// The limit on output.
    pub max_tokens: Option<u64>,
    /// How many tools the caller offers.
    pub tools: u32,
    /// Whether a message holds an image.
    pub images: bool,
    /// Whether a message holds a document.
    pub documents: bool,
    /// Whether the caller asks for reasoning.
    pub thinking: bool,
    /// Whether one of the tools is a web search of the server's.
    pub web_search: bool,
    /// Input tokens, estimated from the bytes: as a model of Claude's counts.
    pub estimated_tokens: u64,
    /// What that follows from, for models that count otherwise.
    pub weight: Weight,
    /// The session, from `metadata.user_id` where it holds one.
    pub session: Option<String>,
}

/// Why a body is no request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The body is not JSON.
    #[error("the request body is not valid JSON: {0}")]
    NotJson(String),
    /// The body is JSON, but no object.
    #[error("the request body must be a JSON object")]
    NotAnObject,
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("the request body is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// A field is missing.
    #[error("{0}: Field required")]
    Missing(&'static str),
    /// A field has the wrong type.
    #[error("{field}: Input should be {expected}")]
    WrongType {
        /// The field.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
    },
}

/// Nesting beyond this is refused: no real request comes near it.
pub const MAX_DEPTH: usize = lexer::MAX_DEPTH;

/// A field of the body, while the scan goes on.
#[derive(Clone, Debug, Default, PartialEq)]
enum Field<T> {
    /// Not there, or `null` where that means the same.
    #[default]
    Absent,
    /// There, but not what it should be.
    Wrong,
    /// There.
    Is(T),
}

/// Reads the head of a Messages body (`model` and `messages` are required).
pub fn scan(body: &[u8]) -> Result<Head, BodyError> {
    scan_as(body, Dialect::Anthropic)
}

/// Reads the head of a body in its caller's dialect: of Messages and Chat Completions `model` and `messages` are
/// required, of Responses `model` and `input`. Source: OpenAI API reference, "Chat" and "Responses".
pub fn scan_as(body: &[u8], dialect: Dialect) -> Result<Head, BodyError> {
    let found = scanner::scan(body, dialect)?;
    let weight = found.weight();
    let (model_span, model) = found.model.required("model", "a valid string")?;
    let conversation = if dialect == Dialect::OpenAiResponses { "input" } else { "messages" };
    found.messages.required(conversation, "a valid list")?;
    let tools = found.tools.optional("tools", "a valid list")?.unwrap_or_default();
    Ok(Head {
        dialect: Some(dialect),
        model,
        model_span,
        stream: found.stream.optional("stream", "a valid boolean")?.unwrap_or(false),
        max_tokens: found.max_tokens.optional("max_tokens", "a valid integer")?,
        tools: tools.count,
        images: found.content.images,
        documents: found.content.documents,
        thinking: found.thinking,
        web_search: tools.web_search || found.searches,
        estimated_tokens: weight.tokens(Family::Claude),
        weight,
        session: found
            .cache_key
            .filter(|key| !key.is_empty() && key.len() <= 200)
            .or_else(|| found.user_id.as_deref().and_then(session)),
    })
}

/// The estimate of [`scan`] alone, for any body: never 0, never an error.
pub(super) fn count(body: &[u8]) -> u64 {
    let weight = scanner::scan(body, Dialect::Anthropic).map(|found| found.weight());
    weight.map_or_else(|_| tokens::of_bytes(body), |weight| weight.tokens(Family::Claude))
}

/// The same body with another model: all other bytes stay as they are.
pub fn splice_model(body: &Bytes, span: &Range<usize>, model: &str) -> Bytes {
    let quoted = serde_json::Value::from(model).to_string();
    let before = body.get(..span.start).unwrap_or_default();
    let after = body.get(span.end..).unwrap_or_default();
    let mut out = Vec::with_capacity(before.len() + quoted.len() + after.len());
    out.extend_from_slice(before);
    out.extend_from_slice(quoted.as_bytes());
    out.extend_from_slice(after);
    Bytes::from(out)
}

/// The session in `metadata.user_id`: Claude Code writes a JSON object with a `session_id` there, in older
/// versions `user_<hash>_account_<id>_session_<uuid>`.
pub fn session(user_id: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct UserId {
        session_id: String,
    }
    let session = if user_id.trim_start().starts_with('{') {
        serde_json::from_str::<UserId>(user_id).ok()?.session_id
    } else {
        user_id.rsplit_once("_session_")?.1.to_owned()
    };
    (!session.is_empty() && session.len() <= 200).then_some(session)
}

// === impl Head ===

impl Head {
    /// Input tokens as this model counts them, estimated.
    pub fn tokens_for(&self, model: &str) -> u64 {
        match self.weight == Weight::default() {
            true => self.estimated_tokens,
            false => self.weight.tokens(Family::of(model)),
        }
    }
}

// === impl BodyError ===

impl From<Malformed> for BodyError {
    fn from(malformed: Malformed) -> BodyError {
        match malformed {
            Malformed::NotJson { .. } => BodyError::NotJson(malformed.to_string()),
            Malformed::TooDeep => BodyError::TooDeep,
        }
    }
}

// === impl Field ===

impl<T> Field<T> {
    fn required(self, field: &'static str, expected: &'static str) -> Result<T, BodyError> {
        match self {
            Field::Is(value) => Ok(value),
            Field::Absent => Err(BodyError::Missing(field)),
            Field::Wrong => Err(BodyError::WrongType { field, expected }),
        }
    }

    fn optional(self, field: &'static str, expected: &'static str) -> Result<Option<T>, BodyError> {
        match self {
            Field::Is(value) => Ok(Some(value)),
            Field::Absent => Ok(None),
            Field::Wrong => Err(BodyError::WrongType { field, expected }),
        }
    }
}

#[cfg(test)]
mod tests;
