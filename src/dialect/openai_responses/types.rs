//! The events and the object of Responses, borrowed from their bytes. Compatible servers send null almost
//! anywhere.
//!
//! Source: OpenAI API reference, "Responses".

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};

use crate::dialect::Usage;
use crate::dialect::anthropic::types::text;
use crate::dialect::json::Raw;
use crate::dialect::openai_chat::types::Number;

/// An event of a stream.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Event<'a> {
    #[serde(borrow, rename = "type", default, deserialize_with = "text")]
    pub kind: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub delta: Option<Cow<'a, str>>,
    /// Of `…done`: the whole text.
    #[serde(borrow, default, deserialize_with = "text")]
    pub arguments: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub input: Option<Cow<'a, str>>,
    #[serde(default)]
    pub output_index: Number,
    #[serde(default)]
    pub summary_index: Number,
    /// Of `response.output_text.annotation.added`.
    #[serde(borrow, default)]
    pub annotation: Option<Raw<'a>>,
    #[serde(borrow, default)]
    pub item: Option<Item<'a>>,
    #[serde(borrow, default)]
    pub response: Option<Response<'a>>,
}

/// The whole answer.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Response<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    pub id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub model: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub status: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub error: Option<Raw<'a>>,
    #[serde(borrow, default)]
    pub incomplete_details: Option<Incomplete<'a>>,
    #[serde(borrow, default, deserialize_with = "list")]
    pub output: Vec<Item<'a>>,
    #[serde(default)]
    pub usage: Option<Figures>,
}

/// Why an answer is incomplete.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Incomplete<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    pub reason: Option<Cow<'a, str>>,
}

/// An item of the output: the fields of all types together.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Item<'a> {
    #[serde(borrow, rename = "type", default, deserialize_with = "text")]
    pub kind: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub call_id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub name: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub status: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub arguments: Option<Cow<'a, str>>,
    /// Of `custom_tool_call`.
    #[serde(borrow, default, deserialize_with = "text")]
    pub input: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub encrypted_content: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "list")]
    pub content: Vec<ContentPart<'a>>,
    #[serde(borrow, default, deserialize_with = "list")]
    pub summary: Vec<ContentPart<'a>>,
    /// Of `web_search_call`. (Other calls have actions of their own.)
    #[serde(borrow, default, deserialize_with = "lenient")]
    pub action: Option<Action<'a>>,
    /// Of `code_interpreter_call`.
    #[serde(borrow, default, deserialize_with = "text")]
    pub code: Option<Cow<'a, str>>,
    /// Of `code_interpreter_call`: what it printed.
    #[serde(borrow, default, deserialize_with = "list")]
    pub outputs: Vec<CodeOutput<'a>>,
    /// Of `mcp_call`: the server.
    #[serde(borrow, default, deserialize_with = "text")]
    pub server_label: Option<Cow<'a, str>>,
    /// Of `mcp_call`: what it gave.
    #[serde(borrow, default, deserialize_with = "text")]
    pub output: Option<Cow<'a, str>>,
    /// Of `mcp_call`: what went wrong.
    #[serde(borrow, default)]
    pub error: Option<Raw<'a>>,
}

/// What code printed.
#[derive(Debug, Default, Deserialize)]
pub(super) struct CodeOutput<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    pub logs: Option<Cow<'a, str>>,
}

/// A part of a message or of reasoning.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ContentPart<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    pub text: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub refusal: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub annotations: Option<Raw<'a>>,
}

/// What a web search did.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Action<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    pub query: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "list")]
    pub sources: Vec<SearchSource<'a>>,
}

/// A page that a search found.
#[derive(Debug, Default, Deserialize)]
pub(super) struct SearchSource<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    pub url: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub title: Option<Cow<'a, str>>,
}

/// What the answer cost.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Figures {
    input_tokens: Number,
    output_tokens: Number,
    input_tokens_details: Option<InputDetails>,
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct InputDetails {
    cached_tokens: Number,
    cache_write_tokens: Number,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OutputDetails {
    reasoning_tokens: Number,
}

// === impl Figures ===

impl Figures {
    /// The figures in Anthropic's buckets; `None` if there are none.
    pub(super) fn usage(&self) -> Option<Usage> {
        let (input, output) = (self.input_tokens.0.unwrap_or(0), self.output_tokens.0.unwrap_or(0));
        if input == 0 && output == 0 {
            return None;
        }
        let details = self.input_tokens_details.as_ref();
        let read = details.and_then(|details| details.cached_tokens.0).unwrap_or(0);
        let written = details.and_then(|details| details.cache_write_tokens.0).unwrap_or(0);
        Some(Usage {
            input: input.saturating_sub(read).saturating_sub(written),
            cache_read: read,
            cache_creation: written,
            output,
            thinking: self.output_tokens_details.as_ref().and_then(|details| details.reasoning_tokens.0),
            estimated: false,
        })
    }
}

/// A value of the right form; anything else counts as absent.
fn lenient<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    let raw: Raw<'de> = Deserialize::deserialize(deserializer)?;
    Ok(serde_json::from_str(raw.get()).ok())
}

fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
