//! `[routing]` and its rules.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ProviderId;

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

// === defaults ===

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
