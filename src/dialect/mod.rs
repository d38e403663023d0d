//! The languages that callers and upstreams speak, and the way from each to each. Pure: bytes in, bytes out;
//! no I/O, no clock, no lock.
//!
//! The pivot is Anthropic Messages, since that is what the main caller speaks. Requests are translated from
//! Messages to the upstream's dialect (and, for other callers, to Messages first). Answers are read into a
//! few [`Part`]s by a [`Source`] for each upstream dialect, whole or as a stream, and written in the
//! caller's dialect by a [`Sink`] for each: as many pieces as there are dialects, not as there are pairs.
//! Where both sides speak the same dialect none of this runs: the bytes go through as they are.
//!
//! Each dialect's folder has the same files: `types`, `request`, `response`, `stream`, `error`.

pub mod anthropic;
pub mod carrier;
pub mod citation;
pub mod fault;
pub mod gemini;
pub mod head;
pub mod json;
pub mod names;
pub mod openai_chat;
pub mod openai_responses;
pub mod overflow;
pub mod part;
pub mod prefix;
pub mod retry_after;
pub mod schema;
mod served;
pub mod sse;
mod stops;
pub mod table;
pub mod tokens;
pub mod usage;

pub use fault::{Fault, FaultKind, Phase};
pub use head::Head;
pub use part::{Part, Sink, Source, Stop};
pub use usage::Usage;

/// A wire protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Anthropic Messages.
    Anthropic,
    /// OpenAI Chat Completions, and all that resembles it.
    OpenAiChat,
    /// OpenAI Responses.
    OpenAiResponses,
    /// Google generateContent.
    Gemini,
}

impl Dialect {
    /// The name used in logs, headers and explanations.
    pub fn as_str(self) -> &'static str {
        match self {
            Dialect::Anthropic => "anthropic",
            Dialect::OpenAiChat => "openai-chat",
            Dialect::OpenAiResponses => "openai-responses",
            Dialect::Gemini => "gemini",
        }
    }
}
