//! What is peculiar to each server that speaks Chat Completions, as data: one row a variant.
//!
//! Sources: the API references of the vendors named, and their error messages. Where a vendor says nothing, the
//! row says what hurts least.

use super::names::IdRule;
use super::schema;
use crate::config::ProviderKind;

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
    /// `continue_final_message`.
    Continue,
    /// The last message is sent as it is.
    AsIs,
}

/// What a server of which nothing is known is taken for.
const GENERIC: Variant = Variant {
    name: "generic",
    max_field: MaxField::MaxTokens,
    mid_system: MidSystem::UserText,
    images: true,
    image_urls: true,
    tool_images: false,
    documents: false,
    top_k: false,
    named_choice: NamedChoice::Yes,
    parallel_tool_calls: false,
    reasoning: Reasoning::None,
    replay: Replay::Nothing,
    ids: IdRule::Any,
    schema: schema::Target::Plain,
    cache_control: false,
    prompt_cache_key: false,
    user: UserField::None,
    stream_options: true,
    service_tier: false,
    response_format: true,
    null_content: true,
    empty_tool_content: true,
    think_tags: true,
    web_search: WebSearch::None,
    prefill: Prefill::AsIs,
    max_stops: 4,
    max_tools: usize::MAX,
};

const OPENAI: Variant = Variant {
    name: "openai",
    max_field: MaxField::MaxCompletionTokens,
    mid_system: MidSystem::InPlace,
    documents: true,
    parallel_tool_calls: true,
    reasoning: Reasoning::OpenAi,
    prompt_cache_key: true,
    user: UserField::SafetyIdentifier,
    service_tier: true,
    think_tags: false,
    web_search: WebSearch::Options,
    max_tools: 128,
    ..GENERIC
};

const AZURE: Variant = Variant {
    name: "azure",
    web_search: WebSearch::None,
    ids: IdRule::AtMost(40),
    prompt_cache_key: false,
    service_tier: false,
    user: UserField::User,
    ..OPENAI
};

const OPENROUTER: Variant = Variant {
    name: "openrouter",
    mid_system: MidSystem::InPlaceForOpenAi,
    documents: true,
    top_k: true,
    parallel_tool_calls: true,
    reasoning: Reasoning::OpenRouter,
    replay: Replay::Details,
    cache_control: true,
    user: UserField::User,
    think_tags: false,
    web_search: WebSearch::Plugin,
    ..GENERIC
};

const DEEPSEEK: Variant = Variant {
    name: "deepseek",
    images: false,
    named_choice: NamedChoice::NotThinking,
    reasoning: Reasoning::Thinking,
    replay: Replay::ContentAlways,
    null_content: false,
    response_format: false,
    think_tags: false,
    max_stops: 16,
    max_tools: 128,
    ..GENERIC
};

const GROQ: Variant = Variant {
    name: "groq",
    parallel_tool_calls: true,
    reasoning: Reasoning::Effort,
    user: UserField::User,
    think_tags: false,
    max_tools: 128,
    ..GENERIC
};

const MISTRAL: Variant = Variant {
    name: "mistral",
    parallel_tool_calls: true,
    ids: IdRule::NineAlphanumeric,
    stream_options: false,
    think_tags: false,
    null_content: false,
    prefill: Prefill::Prefix,
    ..GENERIC
};

const GEMINI: Variant = Variant {
    name: "gemini",
    reasoning: Reasoning::Effort,
    replay: Replay::ThoughtSignature,
    schema: schema::Target::Gemini,
    think_tags: false,
    ..GENERIC
};

const LLAMACPP: Variant = Variant {
    name: "llamacpp",
    image_urls: false,
    tool_images: true,
    top_k: true,
    named_choice: NamedChoice::OnlyTool,
    parallel_tool_calls: true,
    reasoning: Reasoning::TemplateKwargs,
    replay: Replay::ContentOfOurs,
    schema: schema::Target::Grammar,
    ..GENERIC
};

const OLLAMA: Variant = Variant {
    name: "ollama",
    image_urls: false,
    named_choice: NamedChoice::OnlyTool,
    reasoning: Reasoning::EffortOrNone,
    ..GENERIC
};

const VLLM: Variant = Variant {
    name: "vllm",
    top_k: true,
    parallel_tool_calls: true,
    reasoning: Reasoning::TemplateKwargs,
    prefill: Prefill::Continue,
    ..GENERIC
};

const LMSTUDIO: Variant = Variant {
    name: "lmstudio",
    image_urls: false,
    top_k: true,
    named_choice: NamedChoice::OnlyTool,
    ..GENERIC
};

const PERPLEXITY: Variant = Variant {
    name: "perplexity",
    stream_options: false,
    top_k: true,
    web_search: WebSearch::BuiltIn,
    max_tools: 0,
    ..GENERIC
};

/// Every row. A `static`, since rows are handed out by reference.
static ROWS: [Variant; 13] = [
    OPENAI, AZURE, OPENROUTER, DEEPSEEK, GROQ, MISTRAL, GEMINI, LLAMACPP, OLLAMA, VLLM, LMSTUDIO, PERPLEXITY,
    GENERIC,
];
static FALLBACK: Variant = GENERIC;

/// The names of the rows, for the config.
pub const NAMES: &[&str] = &[
    OPENAI.name,
    AZURE.name,
    OPENROUTER.name,
    DEEPSEEK.name,
    GROQ.name,
    MISTRAL.name,
    GEMINI.name,
    LLAMACPP.name,
    OLLAMA.name,
    VLLM.name,
    LMSTUDIO.name,
    PERPLEXITY.name,
    GENERIC.name,
];

/// What an address shows of the server behind it: a host's end, or a port that is the server's default.
const ADDRESSES: &[(&str, &str)] = &[
    ("api.openai.com", "openai"),
    (".openai.azure.com", "azure"),
    (".services.ai.azure.com", "azure"),
    ("openrouter.ai", "openrouter"),
    ("api.deepseek.com", "deepseek"),
    ("api.groq.com", "groq"),
    ("api.mistral.ai", "mistral"),
    ("generativelanguage.googleapis.com", "gemini"),
    ("api.perplexity.ai", "perplexity"),
    (":11434", "ollama"),
    (":1234", "lmstudio"),
    (":8080", "llamacpp"),
    (":8000", "vllm"),
];

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
        (None, ProviderKind::Openrouter) => OPENROUTER.name,
        (None, ProviderKind::Gemini) => GEMINI.name,
        (None, ProviderKind::Openai) if host.is_empty() => OPENAI.name,
        (None, ProviderKind::Openai | ProviderKind::Local | ProviderKind::Anthropic) => GENERIC.name,
    };
    by_name(name).unwrap_or(&FALLBACK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_its_row() {
        assert_eq!(NAMES.len(), ROWS.len());
        for (name, row) in NAMES.iter().zip(&ROWS) {
            assert_eq!(*name, row.name);
        }
    }

    #[test]
    fn the_config_knows_every_row_and_no_other() {
        let mut known = crate::config::VARIANTS.to_vec();
        let mut names = NAMES.to_vec();
        known.sort_unstable();
        names.sort_unstable();
        assert_eq!(known, names);
    }

    #[test]
    fn the_name_wins_over_the_address_and_the_address_over_the_kind() {
        let name = |kind, name, url| variant(kind, name, url).name;
        assert_eq!(name(ProviderKind::Openai, Some("vllm"), "https://api.openai.com/v1"), "vllm");
        assert_eq!(name(ProviderKind::Openai, None, "https://api.openai.com/v1"), "openai");
        assert_eq!(name(ProviderKind::Openai, None, "https://API.DeepSeek.com"), "deepseek");
        assert_eq!(name(ProviderKind::Openai, None, "https://x.openai.azure.com/openai/v1"), "azure");
        assert_eq!(name(ProviderKind::Openai, None, "https://evil.example/api.openai.com"), "generic");
        assert_eq!(name(ProviderKind::Openai, None, "http://gateway:8080"), "generic");
        assert_eq!(name(ProviderKind::Local, None, "http://localhost:11434/v1"), "ollama");
        assert_eq!(name(ProviderKind::Openrouter, None, ""), "openrouter");
        assert_eq!(name(ProviderKind::Openai, None, ""), "openai");
    }
}
