//! `[providers.NAME]`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[providers.NAME]`: one upstream, with its keys, limits, health check and deadlines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// What the upstream is.
    pub kind: ProviderKind,
    /// Its address, as the vendor's own SDK takes it: OpenAI kinds with `/v1`, Anthropic without.
    #[serde(default)]
    pub base_url: Option<String>,
    /// For `openai`: which of its two APIs; by itself it is chosen by the model.
    #[serde(default)]
    pub api: Option<Api>,
    /// For OpenAI-compatible servers: whose peculiarities to heed (`llamacpp`, `ollama`, `vllm`, `deepseek` …).
    #[serde(default)]
    pub variant: Option<String>,
    /// The environment variable that holds the key.
    #[serde(default)]
    pub api_key_env: Option<String>,
    /// The file that holds the key. Files that others can read are refused.
    #[serde(default)]
    pub api_key_file: Option<PathBuf>,
    /// Several environment variables, for a pool of keys.
    #[serde(default)]
    pub api_keys_env: Vec<String>,
    /// Several files, for a pool of keys.
    #[serde(default)]
    pub api_key_files: Vec<PathBuf>,
    /// Whose credential goes to the upstream.
    #[serde(default)]
    pub auth: Auth,
    /// Models that the provider serves: exact names and globs.
    #[serde(default)]
    pub models: Vec<String>,
    /// The model to ask for when the request names none that this provider lists.
    #[serde(default)]
    pub default_model: Option<String>,
    /// Tier: lower is tried first.
    #[serde(default = "one")]
    pub priority: u32,
    /// Share within a tier, for the `weighted` strategy.
    #[serde(default = "one")]
    pub weight: u32,
    /// Off without being removed.
    #[serde(default)]
    pub disabled: bool,
    /// What it can do; what is not said is assumed by kind.
    #[serde(default)]
    pub capabilities: Capabilities,
    /// What it may be asked for.
    #[serde(default)]
    pub limits: Limits,
    /// Its active health check.
    #[serde(default)]
    pub health: Health,
    /// Its deadlines.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// Headers added to each request, for servers that ask for them. Never shown: they may hold credentials.
    #[serde(default, serialize_with = "write_masked")]
    pub headers: BTreeMap<String, String>,
    /// Fields for the top level of each body that is written for it, in place of ours of the same name: what only this
    /// server knows (OpenRouter's `provider`, say). A request that is passed on as it is gets none.
    #[serde(default)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

/// What an upstream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProviderKind {
    /// Anthropic's Messages API, or a server that speaks it.
    Anthropic,
    /// OpenAI, or a server that speaks its API with a key.
    Openai,
    /// OpenRouter.
    Openrouter,
    /// A server on this machine or network that speaks Chat Completions; needs no key.
    Local,
    /// Google's Gemini API.
    Gemini,
}

/// Which of OpenAI's two APIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Api {
    /// Chat Completions.
    Chat,
    /// Responses.
    Responses,
}

/// Whose credential goes to the upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// A key of the provider's pool.
    #[default]
    Key,
    /// The caller's own credential goes on, untouched; kind `anthropic` only.
    Caller,
}

/// What a provider can do. `None` means: assume it of the kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Capabilities {
    /// Streams answers.
    pub streaming: Option<bool>,
    /// Takes tools.
    pub tools: Option<bool>,
    /// Reasons before it answers.
    pub reasoning: Option<bool>,
    /// Takes images.
    pub images: Option<bool>,
    /// Takes PDF documents.
    pub documents: Option<bool>,
    /// Searches the web by itself.
    pub web_search: Option<bool>,
    /// Context window in tokens.
    pub context_window: Option<u64>,
    /// Most tokens of one answer.
    pub max_output_tokens: Option<u64>,
}

/// What a provider may be asked for. `None` means no limit of ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Requests per minute.
    pub requests_per_minute: Option<u32>,
    /// Tokens per minute, input and output together.
    pub tokens_per_minute: Option<u64>,
    /// Requests per day.
    pub requests_per_day: Option<u64>,
    /// Tokens per day.
    pub tokens_per_day: Option<u64>,
    /// Requests in progress at once.
    pub max_concurrent: Option<u32>,
    /// How many callers may wait for a place; more are sent on to the next candidate.
    pub max_waiting: Option<u32>,
}

/// The active health check of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Health {
    /// How often to probe; 0 means never.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub interval: Duration,
    /// How long a probe may take.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub timeout: Duration,
}

/// Deadlines of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// To connect, TLS included.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub connect: Duration,
    /// From sending the request to the first output of the model. For a caller who does not stream: to the whole
    /// answer, less the time that writing it takes; counts only while another candidate stands free.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub first_byte: Duration,
    /// Between two pieces of an answer that flows; the upstream's pings do not count.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub idle: Duration,
    /// For the whole attempt.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub total: Duration,
}

// === impl ProviderKind ===

impl ProviderKind {
    /// The address used when the config names none.
    pub fn default_base_url(self) -> Option<&'static str> {
        match self {
            ProviderKind::Anthropic => Some("https://api.anthropic.com"),
            ProviderKind::Openai => Some("https://api.openai.com/v1"),
            ProviderKind::Openrouter => Some("https://openrouter.ai/api/v1"),
            ProviderKind::Gemini => Some("https://generativelanguage.googleapis.com"),
            ProviderKind::Local => None,
        }
    }

    /// Whether a provider of this kind is of use without a key.
    pub fn needs_key(self) -> bool {
        self != ProviderKind::Local
    }

    /// The name as it stands in the config.
    pub fn as_str(self) -> &'static str {
        match self {
            ProviderKind::Anthropic => "anthropic",
            ProviderKind::Openai => "openai",
            ProviderKind::Openrouter => "openrouter",
            ProviderKind::Local => "local",
            ProviderKind::Gemini => "gemini",
        }
    }
}

// === defaults ===

fn one() -> u32 {
    1
}

impl Default for Health {
    fn default() -> Health {
        Health { interval: Duration::from_secs(60), timeout: Duration::from_secs(10) }
    }
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(60),
            idle: Duration::from_secs(120),
            total: Duration::from_secs(600),
        }
    }
}

/// Writes the names of headers, and nothing of their values.
fn write_masked<S: serde::Serializer>(
    headers: &BTreeMap<String, String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(headers.keys().map(|name| (name, "•••")))
}
