//! One scan of a Messages body for the few facts that routing needs, and the splice that changes its model.
//!
//! The scan validates that the body is one JSON object, finds the byte span of the model's name, and keeps
//! nothing else of the body; the bytes stay as they came.

use std::ops::Range;

use bytes::Bytes;

/// The facts of a request that routing needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Head {
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
    /// Input tokens, estimated from the bytes.
    pub estimated_tokens: u64,
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
pub const MAX_DEPTH: usize = 128;

/// Reads the head of a Messages body (`model` and `messages` are required).
pub fn scan(_body: &[u8]) -> Result<Head, BodyError> {
    todo!("room: dialect")
}

/// The same body with another model: all other bytes stay as they are.
pub fn splice_model(body: &Bytes, span: &Range<usize>, model: &str) -> Bytes {
    let quoted = serde_json::Value::from(model).to_string();
    let mut out = Vec::with_capacity(body.len() + quoted.len());
    out.extend_from_slice(&body[..span.start]);
    out.extend_from_slice(quoted.as_bytes());
    out.extend_from_slice(&body[span.end..]);
    Bytes::from(out)
}
