//! The rows of the table.

use super::{MaxField, MidSystem, NamedChoice, Prefill, Reasoning, Replay, UserField, Variant, WebSearch};
use crate::dialect::names::IdRule;
use crate::dialect::schema;

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

/// Source: xAI documentation, "Models" (roles come in any order; `stop` is refused by models that reason) and "Prompt
/// caching". Which models take an effort is told by their refusals.
const XAI: Variant = Variant {
    name: "xai",
    max_field: MaxField::MaxCompletionTokens,
    mid_system: MidSystem::InPlace,
    parallel_tool_calls: true,
    reasoning: Reasoning::EffortOrNone,
    prompt_cache_key: true,
    user: UserField::User,
    think_tags: false,
    max_stops: 0,
    max_tools: 128,
    ..GENERIC
};

/// Source: Kimi API documentation, "Create Chat Completion" (images as data or by a file's id, `partial`), and its
/// refusals: a demanded tool and lost reasoning while the model thinks.
const MOONSHOT: Variant = Variant {
    name: "moonshot",
    max_field: MaxField::MaxCompletionTokens,
    image_urls: false,
    named_choice: NamedChoice::NotThinking,
    reasoning: Reasoning::Thinking,
    replay: Replay::ContentAlways,
    prompt_cache_key: true,
    user: UserField::SafetyIdentifier,
    null_content: false,
    think_tags: false,
    prefill: Prefill::Partial,
    max_stops: 5,
    max_tools: 128,
    ..GENERIC
};

/// Source: Z.AI API reference, "Chat Completion": one stop word, `tool_choice` only `auto`, `json_object` only, figures
/// in the last chunk unasked; and its guide to thinking that is preserved.
const ZAI: Variant = Variant {
    name: "zai",
    images: false,
    named_choice: NamedChoice::Never,
    reasoning: Reasoning::Thinking,
    replay: Replay::ContentOfOurs,
    stream_options: false,
    response_format: false,
    think_tags: false,
    max_stops: 1,
    max_tools: 128,
    ..GENERIC
};

/// Source: Together AI documentation, "Reasoning" and "Chat completions".
const TOGETHER: Variant = Variant { name: "together", top_k: true, reasoning: Reasoning::Switch, ..GENERIC };

/// Source: Fireworks AI documentation, "Reasoning" and "OpenAI compatibility": figures come unasked, and a field that
/// is not known is refused.
const FIREWORKS: Variant = Variant {
    name: "fireworks",
    top_k: true,
    reasoning: Reasoning::EffortOrNone,
    replay: Replay::ContentOfOurs,
    user: UserField::User,
    stream_options: false,
    ..GENERIC
};

/// Source: Cerebras Inference documentation, "Chat Completions" and "Reasoning": a field that is not known is refused,
/// `reasoning_content` and `parallel_tool_calls: false` among them.
const CEREBRAS: Variant = Variant {
    name: "cerebras",
    max_field: MaxField::MaxCompletionTokens,
    images: false,
    reasoning: Reasoning::EffortOrNone,
    user: UserField::User,
    ..GENERIC
};

/// Every row. A `static`, since rows are handed out by reference.
pub(super) static ROWS: [Variant; 19] = [
    OPENAI, AZURE, OPENROUTER, DEEPSEEK, GROQ, MISTRAL, GEMINI, LLAMACPP, OLLAMA, VLLM, LMSTUDIO, PERPLEXITY,
    XAI, MOONSHOT, ZAI, TOGETHER, FIREWORKS, CEREBRAS, GENERIC,
];
/// The row of a server that shows nothing of itself.
pub(super) static FALLBACK: Variant = GENERIC;

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
    XAI.name,
    MOONSHOT.name,
    ZAI.name,
    TOGETHER.name,
    FIREWORKS.name,
    CEREBRAS.name,
    GENERIC.name,
];

/// What an address shows of the server behind it: a host's end, or a port that is the server's default.
pub(super) const ADDRESSES: &[(&str, &str)] = &[
    ("api.openai.com", "openai"),
    (".openai.azure.com", "azure"),
    (".services.ai.azure.com", "azure"),
    ("openrouter.ai", "openrouter"),
    ("api.deepseek.com", "deepseek"),
    ("api.groq.com", "groq"),
    ("api.mistral.ai", "mistral"),
    ("generativelanguage.googleapis.com", "gemini"),
    ("api.perplexity.ai", "perplexity"),
    ("api.x.ai", "xai"),
    ("api.moonshot.ai", "moonshot"),
    ("api.moonshot.cn", "moonshot"),
    ("api.kimi.com", "moonshot"),
    ("api.z.ai", "zai"),
    ("open.bigmodel.cn", "zai"),
    ("api.together.xyz", "together"),
    ("api.together.ai", "together"),
    ("api.fireworks.ai", "fireworks"),
    ("api.cerebras.ai", "cerebras"),
    (":11434", "ollama"),
    (":1234", "lmstudio"),
    (":8080", "llamacpp"),
    (":8000", "vllm"),
];
