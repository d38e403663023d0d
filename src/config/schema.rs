//! The configuration as typed values, one doc comment per key: the reference is generated from them.
//!
//! Reading, layering and checking are in the sibling modules; defaults are here, beside the keys.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The name of a provider: the part after `providers.` in the config.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ProviderId(pub Arc<str>);

/// Everything that a user may write.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the daemon listens, and how much it takes in.
    pub server: Server,
    /// The providers, by name.
    pub providers: BTreeMap<ProviderId, Provider>,
    /// Aliases: a model name or glob that callers use, and the targets to try for it, in order.
    #[serde(deserialize_with = "aliases", serialize_with = "write_aliases")]
    #[schemars(with = "BTreeMap<String, Targets>")]
    pub models: Vec<Alias>,
    /// How candidates are chosen, retried and replaced.
    pub routing: Routing,
    /// The cache of whole answers.
    pub cache: Cache,
    /// Logs.
    pub logging: Logging,
    /// The MCP front.
    pub mcp: Mcp,
    /// Fault injection.
    pub faults: Faults,
    /// The ledger: usage and cost.
    pub ledger: Ledger,
    /// What may be spent.
    pub budgets: Budgets,
    /// What models cost: by `model`, or by `provider/model` for that provider alone. Goes before the built-in list.
    pub prices: BTreeMap<String, Price>,
    /// Export of metrics and traces.
    pub otlp: Otlp,
}

/// `[server]`: where the daemon listens, and how much it takes in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// The address to listen on. Anything but loopback needs `token_file`.
    pub host: IpAddr,
    /// The port; 0 takes a free one, and the line printed at start says which.
    pub port: u16,
    /// A file that holds the token which callers must send. Made with mode 0600 if it is not there.
    pub token_file: Option<PathBuf>,
    /// Requests in progress at once; more are refused with `overloaded_error` and `retry-after`.
    pub max_requests: usize,
    /// Connections at once; more wait in the kernel's backlog.
    pub max_connections: usize,
    /// How long open requests may take to finish when the daemon stops.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub drain: Duration,
}

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

/// One entry of `[models]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// The name or glob that callers use.
    pub pattern: String,
    /// The targets to try, in order.
    pub targets: Vec<Target>,
}

/// The targets of an alias as written: one, or several in order.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum Targets {
    One(String),
    Many(Vec<String>),
}

/// `provider/model`. The model may hold further slashes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The provider.
    pub provider: ProviderId,
    /// The model, as the provider names it.
    pub model: Arc<str>,
}

/// `[routing]`: how candidates are chosen, retried and replaced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Routing {
    /// Where a model goes that nobody lists.
    pub default_provider: Option<ProviderId>,
    /// Where a request goes when all others failed.
    pub fallback_provider: Option<ProviderId>,
    /// How candidates of one tier are ordered.
    pub strategy: Strategy,
    /// Retries on the same candidate for faults that pass.
    pub retry_attempts: u32,
    /// The first wait before a retry; doubles, with jitter.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub retry_delay: Duration,
    /// Most candidates that one request may be sent to.
    pub max_hops: u32,
    /// By when a request must have its first output, all attempts together. For a caller who does not stream, the
    /// time that writing the answer takes comes on top: 50 ms for each token of `max_tokens`.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub deadline: Duration,
    /// How long a request may wait for a place at a provider before it moves on.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub max_wait: Duration,
    /// Whether an attempt that was sent and lost without an answer is tried elsewhere (it may be billed twice).
    pub retry_ambiguous: bool,
    /// Rules, first match wins.
    pub rules: Vec<Rule>,
    /// What happens to an answer that breaks after its first output.
    pub after_output: AfterOutput,
    /// A second attempt beside one that is slow.
    pub hedge: Hedge,
    /// The shares of the `score` strategy.
    pub score: ScoreWeights,
}

/// What happens to an answer that breaks after its first output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AfterOutput {
    /// It ends with an error.
    #[default]
    Error,
    /// Another candidate writes the rest, where there is only text so far. The caller's own client can't tell; the
    /// log, the stream (a comment) and the ledger do.
    Continue,
    /// It can't: the caller gets nothing but signs of life until the answer is whole, so that until then the next
    /// candidate can take over.
    Buffer,
}

/// `[routing.hedge]`: when a streaming request has no output after the time in which its provider usually has
/// (the 95th percentile), the next candidate is asked as well. The first with output wins, the other is cancelled.
/// May be billed twice.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Hedge {
    /// Off by default.
    pub enabled: bool,
    /// No second attempt before this, however quick the provider usually is.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub min_delay: Duration,
    /// A second attempt after this, however slow the provider usually is, or if that is not known yet.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub max_delay: Duration,
    /// Second attempts, as a share of the requests: 0.05 is one in twenty.
    pub budget: f64,
}

/// How candidates of one tier are ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Each in turn.
    RoundRobin,
    /// By `weight`, evenly spread.
    #[default]
    Weighted,
    /// The one with the fewest open requests.
    LeastConnections,
    /// The quicker of two, by its average time to first output.
    Latency,
    /// The cheapest; an unknown price comes last.
    Cost,
    /// Priority, load, response time and cost together, by `[routing.score]`.
    Score,
}

/// `[routing.score]`: what counts how much for the `score` strategy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ScoreWeights {
    /// The tier.
    pub priority: f64,
    /// Open requests against the limit.
    pub load: f64,
    /// Average time to first output.
    pub latency: f64,
    /// Price.
    pub cost: f64,
}

/// `[[routing.rules]]`: what it matches, and what it then sets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// Shown in explanations.
    pub name: Option<String>,
    /// Matches: a glob on the model that the caller named.
    pub model: Option<String>,
    /// Matches: the role of the request, as Claude Code's requests show it.
    pub role: Option<Role>,
    /// Matches: more estimated input tokens than this.
    pub above_tokens: Option<u64>,
    /// Matches: a header, by name, with a glob on its value.
    pub header: BTreeMap<String, String>,
    /// Matches: a glob on the session id.
    pub session: Option<String>,
    /// Matches: a glob on the agent id.
    pub agent: Option<String>,
    /// Matches: a glob on the caller's program, as its `user-agent` names it; `mcp` for calls of MCP tools.
    pub client: Option<String>,
    /// Matches: whether the mark `warn` of a budget is passed that counts for the request.
    pub over_budget: Option<bool>,
    /// Sets: the targets to try, in order (`provider/model`, or a provider alone).
    pub targets: Vec<String>,
    /// Sets: the reasoning effort.
    pub effort: Option<String>,
    /// Sets: what happens to an answer that breaks after its first output.
    pub after_output: Option<AfterOutput>,
    /// Sets: refuse, with this message.
    pub refuse: Option<String>,
}

/// The role of a request, as Claude Code's requests show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Small housekeeping calls (titles, summaries), made to the small model.
    Background,
    /// The caller asks for reasoning.
    Thinking,
    /// The request has a web search tool.
    WebSearch,
    /// The request holds images.
    Images,
    /// The request comes from a subagent.
    Subagent,
}

/// `[cache]`: the cache of whole answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Cache {
    /// Off by default.
    pub enabled: bool,
    /// How long an answer may be given again.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub ttl: Duration,
    /// Most bytes of answers kept.
    #[schemars(with = "String")]
    pub max_size: ByteSize,
    /// Also answers to requests that offer tools: what a tool did is not done again.
    pub tools: bool,
}

/// `[logging]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Logging {
    /// A level, or a filter such as `info,cproxy::exchange=debug`.
    pub level: String,
    /// Lines for people, or JSON.
    pub format: LogFormat,
    /// One line for each request.
    pub requests: bool,
    /// Bodies of answers too; redacted and bounded, and for an hour after they were asked for.
    pub responses: bool,
    /// Bodies of requests too; likewise.
    pub request_bodies: bool,
    /// Timings in the line of a request.
    pub performance: bool,
    /// Where the log goes beside the terminal.
    pub file: Option<PathBuf>,
    /// The size at which the file is set aside as `FILE.1`, and a new one begun.
    #[schemars(with = "String")]
    pub max_size: ByteSize,
    /// How many files are kept in all.
    pub max_files: u32,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Pretty,
    /// For machines.
    Json,
}

/// `[mcp]`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Mcp {
    /// Whether MCP tools may change the daemon (reload, enable or disable providers).
    pub allow_changes: bool,
    /// The model that `proxy_completion` asks when the call names none.
    pub default_model: Option<String>,
}

/// `[faults]`: fault injection, off by default.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Whether faults can be injected at all.
    pub enabled: bool,
    /// The seed of all draws.
    pub seed: u64,
    /// A file with a fault plan, armed at start.
    pub plan: Option<PathBuf>,
}

/// `[ledger]`: usage and cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ledger {
    /// Whether usage is kept on disk.
    pub enabled: bool,
    /// The database; by default `cproxy/ledger.sqlite3` in the user's folder for state (`XDG_STATE_HOME`, else
    /// `~/.local/state`).
    pub file: Option<PathBuf>,
    /// For how many days each request is kept. Of older ones the sums of their days stay, by provider and model.
    pub keep_days: u32,
}

/// `[otlp]`: metrics and traces to a collector, by the OpenTelemetry Protocol over HTTP. Off by default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Otlp {
    /// Whether anything is sent.
    pub enabled: bool,
    /// The collector's address, to which `/v1/metrics` and `/v1/traces` are added; by default what the variable
    /// `OTEL_EXPORTER_OTLP_ENDPOINT` names, else `http://127.0.0.1:4318`.
    pub endpoint: Option<String>,
    /// How often.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub interval: Duration,
    /// Metrics.
    pub metrics: bool,
    /// A trace of each request: a span for it, and one for each attempt. No prompts, no answers.
    pub traces: bool,
}

/// `[budgets]`: what may be spent, in US dollars by the prices that are known. Days and months are those of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Budgets {
    /// In a day.
    pub day: Budget,
    /// In a month.
    pub month: Budget,
    /// In a session.
    pub session: Budget,
    /// By an agent.
    pub agent: Budget,
}

/// One budget: `{ warn = 5.0, stop = 10.0 }`.
#[derive(Clone, Copy, Debug, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Budget {
    /// From here on the status warns, and of several targets the cheapest is asked first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warn: Option<f64>,
    /// Requests that could lead beyond this are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<f64>,
}

/// `[prices]`: what a model costs, in US dollars for a million tokens of each sort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Input.
    pub input: f64,
    /// Output, reasoning included.
    pub output: f64,
    /// Input read from the prompt cache; as input where not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<f64>,
    /// Input written to the prompt cache; as input where not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<f64>,
}

/// A number of bytes, written as people do: `64MiB`, `512 KiB`, `1GB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

// === impl ProviderId ===

impl ProviderId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ProviderId {
    fn from(name: &str) -> ProviderId {
        ProviderId(Arc::from(name))
    }
}

impl fmt::Display for ProviderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for ProviderId {
    fn borrow(&self) -> &str {
        &self.0
    }
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

// === impl Target ===

impl Target {
    /// Reads `provider/model`; `None` if there is no slash or a side is empty.
    pub fn parse(text: &str) -> Option<Target> {
        let (provider, model) = text.split_once('/')?;
        (!provider.is_empty() && !model.is_empty())
            .then(|| Target { provider: ProviderId::from(provider), model: Arc::from(model) })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.provider, self.model)
    }
}

// === impl Budget ===

impl Budget {
    /// Whether it limits anything.
    pub fn is_set(&self) -> bool {
        self.warn.is_some() || self.stop.is_some()
    }
}

// === impl ByteSize ===

impl std::str::FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<ByteSize, String> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let scale: u64 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kib" | "k" => 1 << 10,
            "mib" | "m" => 1 << 20,
            "gib" | "g" => 1 << 30,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            other => return Err(format!("unknown unit \"{other}\" (B, KiB, MiB, GiB, kB, MB, GB)")),
        };
        let number: u64 = number.parse().map_err(|_| format!("\"{text}\" is no size such as \"64MiB\""))?;
        number.checked_mul(scale).map(ByteSize).ok_or_else(|| format!("\"{text}\" is too large"))
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            size if size >= 1 << 30 && size % (1 << 30) == 0 => write!(f, "{}GiB", size >> 30),
            size if size >= 1 << 20 && size % (1 << 20) == 0 => write!(f, "{}MiB", size >> 20),
            size if size >= 1 << 10 && size % (1 << 10) == 0 => write!(f, "{}KiB", size >> 10),
            size => write!(f, "{size}B"),
        }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

// === defaults ===

fn one() -> u32 {
    1
}

impl Default for Server {
    fn default() -> Server {
        Server {
            host: IpAddr::from([127, 0, 0, 1]),
            port: 3000,
            token_file: None,
            max_requests: 1024,
            max_connections: 8192,
            drain: Duration::from_secs(30),
        }
    }
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

impl Default for Routing {
    fn default() -> Routing {
        Routing {
            default_provider: None,
            fallback_provider: None,
            strategy: Strategy::default(),
            retry_attempts: 2,
            retry_delay: Duration::from_millis(250),
            max_hops: 3,
            deadline: Duration::from_secs(120),
            max_wait: Duration::from_secs(10),
            retry_ambiguous: true,
            rules: Vec::new(),
            after_output: AfterOutput::default(),
            hedge: Hedge::default(),
            score: ScoreWeights::default(),
        }
    }
}

impl Default for Hedge {
    fn default() -> Hedge {
        Hedge {
            enabled: false,
            min_delay: Duration::from_millis(100),
            max_delay: Duration::from_secs(10),
            budget: 0.05,
        }
    }
}

impl Default for ScoreWeights {
    fn default() -> ScoreWeights {
        ScoreWeights { priority: 0.4, load: 0.2, latency: 0.2, cost: 0.2 }
    }
}

impl Default for Cache {
    fn default() -> Cache {
        Cache { enabled: false, ttl: Duration::from_secs(300), max_size: ByteSize(64 << 20), tools: false }
    }
}

impl Default for Logging {
    fn default() -> Logging {
        Logging {
            level: "info".into(),
            format: LogFormat::Pretty,
            requests: true,
            responses: false,
            request_bodies: false,
            performance: true,
            file: None,
            max_size: ByteSize(10 << 20),
            max_files: 5,
        }
    }
}

impl Default for Ledger {
    fn default() -> Ledger {
        Ledger { enabled: true, file: None, keep_days: 90 }
    }
}

impl Default for Otlp {
    fn default() -> Otlp {
        Otlp {
            enabled: false,
            endpoint: None,
            interval: Duration::from_secs(15),
            metrics: true,
            traces: true,
        }
    }
}

/// Reads `[models]` in the order in which it is written, since the first match wins.
fn aliases<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Alias>, D::Error> {
    struct InOrder;

    impl<'de> serde::de::Visitor<'de> for InOrder {
        type Value = Vec<Alias>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table: alias = [\"provider/model\", …]")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Vec<Alias>, A::Error> {
            let mut aliases = Vec::new();
            while let Some((pattern, targets)) = map.next_entry::<String, Targets>()? {
                let targets = match targets {
                    Targets::One(target) => vec![target],
                    Targets::Many(targets) => targets,
                };
                let targets = targets
                    .iter()
                    .map(|target| {
                        Target::parse(target).ok_or_else(|| {
                            serde::de::Error::custom(format!("\"{target}\" is not \"provider/model\""))
                        })
                    })
                    .collect::<Result<Vec<_>, _>>()?;
                aliases.push(Alias { pattern, targets });
            }
            Ok(aliases)
        }
    }

    deserializer.deserialize_map(InOrder)
}

/// Writes `[models]` in its order.
fn write_aliases<S: serde::Serializer>(aliases: &[Alias], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(aliases.iter().map(|alias| {
        let targets: Vec<String> = alias.targets.iter().map(Target::to_string).collect();
        (&alias.pattern, targets)
    }))
}

/// Writes the names of headers, and nothing of their values.
fn write_masked<S: serde::Serializer>(
    headers: &BTreeMap<String, String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(headers.keys().map(|name| (name, "•••")))
}
