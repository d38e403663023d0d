//! What is peculiar to each server that speaks Chat Completions, as data: one row a variant.
//!
//! Sources: the API references of the vendors named, and their error messages. Where a vendor says nothing, the
//! row says what hurts least.

mod rows;

use super::names::IdRule;
use super::schema;
use crate::config::ProviderKind;

pub use rows::NAMES;
use rows::{ADDRESSES, FALLBACK, ROWS};

/// The peculiarities of one variant of a dialect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// The name, as `variant` in the config.
    pub name: &'static str,
    /// What the limit on output is called.
    pub max_field: MaxField,
    /// What becomes of system messages within the conversation.
    pub mid_system: MidSystem,
    /// Whether images are taken at all.
    pub images: bool,
    /// Whether the server fetches images that are given by their address.
    pub image_urls: bool,
    /// Whether images may stand in a tool's message.
    pub tool_images: bool,
    /// Whether PDFs are taken, as `file` parts.
    pub documents: bool,
    /// Whether `top_k` is known.
    pub top_k: bool,
    /// Whether one tool can be demanded by its name.
    pub named_choice: NamedChoice,
    /// Whether `parallel_tool_calls` is known.
    pub parallel_tool_calls: bool,
    /// How reasoning is asked for.
    pub reasoning: Reasoning,
    /// What of its reasoning the server wants back.
    pub replay: Replay,
    /// What is a legal id of a tool call.
    pub ids: IdRule,
    /// What tools' schemas must do without.
    pub schema: schema::Target,
    /// Whether cache markers are known.
    pub cache_control: bool,
    /// Whether `prompt_cache_key` is known.
    pub prompt_cache_key: bool,
    /// What the end user's field is called.
    pub user: UserField,
    /// Whether `stream_options` is known.
    pub stream_options: bool,
    /// Whether `service_tier` is known.
    pub service_tier: bool,
    /// How answers in a schema are asked for.
    pub response_format: bool,
    /// Whether an assistant message may have a null content; else it gets an empty string.
    pub null_content: bool,
    /// Whether a tool's message may be empty.
    pub empty_tool_content: bool,
    /// Whether reasoning may come as `<think>` tags at the start of the text.
    pub think_tags: bool,
    /// Whether and how the server searches the web.
    pub web_search: WebSearch,
    /// How an answer is begun for the model.
    pub prefill: Prefill,
    /// Most stop sequences.
    pub max_stops: usize,
    /// Most tools.
    pub max_tools: usize,
}

/// What the limit on output is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MaxField {
    /// `max_tokens`.
    MaxTokens,
    /// `max_completion_tokens`.
    MaxCompletionTokens,
}

/// What becomes of system messages within the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MidSystem {
    /// They stay where they are.
    InPlace,
    /// They stay for OpenAI's models, and become user text for others.
    InPlaceForOpenAi,
    /// They become text of the user: many chat templates demand that the one system message comes first.
    UserText,
}

/// Whether one tool can be demanded by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedChoice {
    /// Yes.
    Yes,
    /// The server ignores it: send that tool alone, and demand a call.
    OnlyTool,
    /// Not while the model reasons.
    NotThinking,
    /// No tool can be demanded, and no call forbidden.
    Never,
}

/// How reasoning is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reasoning {
    /// `reasoning_effort`, with OpenAI's levels.
    OpenAi,
    /// `reasoning_effort` with the levels up to `high`.
    Effort,
    /// The same, and `none`.
    EffortOrNone,
    /// OpenRouter's `reasoning` object.
    OpenRouter,
    /// `reasoning_effort` with the levels up to `high`, and `reasoning: {enabled}` where no level is wished.
    Switch,
    /// `thinking: {type}`.
    Thinking,
    /// `chat_template_kwargs: {enable_thinking}`.
    TemplateKwargs,
    /// Not at all.
    None,
}

/// What of its reasoning the server wants back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// Nothing.
    Nothing,
    /// OpenRouter's `reasoning_details`.
    Details,
    /// The text, as `reasoning_content`, on each message with calls, even if it is lost.
    ContentAlways,
    /// The text, as `reasoning_content`, where it is our own.
    ContentOfOurs,
    /// Google's thought signature on each step's first call.
    ThoughtSignature,
}

/// What the end user's field is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserField {
    /// `safety_identifier`.
    SafetyIdentifier,
    /// `user`.
    User,
    /// There is none.
    None,
}

/// Whether and how the server searches the web.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebSearch {
    /// `plugins: [{id: "web"}]`.
    Plugin,
    /// `web_search_options`, for the models made for it.
    Options,
    /// By itself, always.
    BuiltIn,
    /// Not at all.
    None,
}

/// How an answer is begun for the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefill {
    /// `prefix: true` on the last message.
    Prefix,
    /// `partial: true` on the last message.
    Partial,
    /// `continue_final_message`.
    Continue,
    /// The last message is sent as it is.
    AsIs,
}

/// The row of a name, if there is one.
pub fn by_name(name: &str) -> Option<&'static Variant> {
    ROWS.iter().find(|row| row.name == name)
}

/// The row for a provider: by its `variant`, else by what its address shows, else by its kind.
pub fn variant(kind: ProviderKind, name: Option<&str>, base_url: &str) -> &'static Variant {
    if let Some(row) = name.and_then(by_name) {
        return row;
    }
    let authority = base_url.split_once("://").map_or(base_url, |(_, rest)| rest);
    let authority = authority.split(['/', '?', '#']).next().unwrap_or_default().to_ascii_lowercase();
    let host = authority.rsplit_once(':').map_or(authority.as_str(), |(host, _)| host);
    let shown = ADDRESSES.iter().find(|(end, _)| match end.as_bytes().first() {
        Some(b':') => kind == ProviderKind::Local && authority.ends_with(end),
        Some(b'.') => host.ends_with(end),
        _ => host == *end,
    });
    let name = match (shown, kind) {
        (Some((_, name)), _) => name,
        (None, ProviderKind::Openrouter) => "openrouter",
        (None, ProviderKind::Gemini) => "gemini",
        (None, ProviderKind::Openai) if host.is_empty() => "openai",
        (None, ProviderKind::Openai | ProviderKind::Local | ProviderKind::Anthropic) => FALLBACK.name,
    };
    by_name(name).unwrap_or(&FALLBACK)
}

#[cfg(test)]
mod tests;
