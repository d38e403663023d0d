//! The answer of generateContent, borrowed from its bytes.
//!
//! Source: Gemini API reference, "Generating content", object `GenerateContentResponse`.

use std::borrow::Cow;

use serde::Deserialize;

use crate::dialect::Usage;
use crate::dialect::anthropic::types::{flag, nullable, text};
use crate::dialect::json::Raw;
use crate::dialect::openai_chat::types::Number;

/// A chunk of a stream, or a whole answer.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Chunk<'a> {
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub(super) candidates: Vec<Candidate<'a>>,
    #[serde(borrow, default)]
    pub(super) prompt_feedback: Option<Feedback<'a>>,
    #[serde(default)]
    pub(super) usage_metadata: Option<Figures>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub(super) model_version: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub(super) response_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) error: Option<Raw<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Candidate<'a> {
    #[serde(borrow, default)]
    pub(super) content: Option<Content<'a>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub(super) finish_reason: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub(super) finish_message: Option<Cow<'a, str>>,
    #[serde(default)]
    pub(super) index: Number,
    #[serde(borrow, default)]
    pub(super) grounding_metadata: Option<Grounding<'a>>,
    #[serde(borrow, default)]
    pub(super) citation_metadata: Option<CitationMetadata<'a>>,
}

/// What a search found; each chunk is a page (or something that has no address).
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Grounding<'a> {
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub(super) grounding_chunks: Vec<GroundingChunk<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GroundingChunk<'a> {
    #[serde(borrow, default)]
    pub(super) web: Option<WebPage<'a>>,
    #[serde(borrow, default)]
    pub(super) retrieved_context: Option<WebPage<'a>>,
}

/// Works that the text repeats.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CitationMetadata<'a> {
    #[serde(borrow, default, alias = "citations", deserialize_with = "nullable")]
    pub(super) citation_sources: Vec<WebPage<'a>>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct WebPage<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    pub(super) uri: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub(super) title: Option<Cow<'a, str>>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Content<'a> {
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub(super) parts: Vec<PartJson<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PartJson<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    pub(super) text: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "flag")]
    pub(super) thought: bool,
    #[serde(borrow, default, deserialize_with = "text")]
    pub(super) thought_signature: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) function_call: Option<FunctionCall<'a>>,
    #[serde(borrow, default)]
    pub(super) executable_code: Option<Code<'a>>,
    #[serde(borrow, default)]
    pub(super) code_execution_result: Option<CodeResult<'a>>,
}

/// Code that the server runs.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Code<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    pub(super) code: Option<Cow<'a, str>>,
}

/// What came of it.
#[derive(Debug, Default, Deserialize)]
pub(super) struct CodeResult<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    pub(super) outcome: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub(super) output: Option<Cow<'a, str>>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct FunctionCall<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    pub(super) id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub(super) name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) args: Option<Raw<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Feedback<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    pub(super) block_reason: Option<Cow<'a, str>>,
}

/// What the answer cost so far.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Figures {
    prompt_token_count: Number,
    cached_content_token_count: Number,
    candidates_token_count: Number,
    thoughts_token_count: Number,
    tool_use_prompt_token_count: Number,
}

// === impl Figures ===

impl Figures {
    /// The figures in Anthropic's buckets; `None` if there are none.
    pub(super) fn usage(&self) -> Option<Usage> {
        let count = |number: Number| number.0.unwrap_or(0);
        if count(self.prompt_token_count) == 0 && count(self.candidates_token_count) == 0 {
            return None;
        }
        let cached = count(self.cached_content_token_count);
        Some(Usage {
            input: count(self.prompt_token_count)
                .saturating_sub(cached)
                .saturating_add(count(self.tool_use_prompt_token_count)),
            cache_read: cached,
            cache_creation: 0,
            output: count(self.candidates_token_count).saturating_add(count(self.thoughts_token_count)),
            thinking: self.thoughts_token_count.0,
            estimated: false,
        })
    }
}
