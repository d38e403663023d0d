//! What the simulator is told to do: a list of rules, of which the first that matches answers.
//!
//! A script is TOML or JSON:
//!
//! ```toml
//! require_key = "sk-test"
//!
//! [[rule]]
//! times = 2                                  # fail twice, then let the next rule answer
//! when = { model = "claude-*" }
//! answer = { fail = { status = 529 } }
//!
//! [[rule]]
//! when = { text = "weather", tools = true, tool_result = false }
//! answer = { parts = [{ call = { name = "get_weather", arguments = { city = "Oslo" } } }] }
//!
//! [[rule]]
//! answer = { parts = [{ text = "Hello." }], fault = { cut = { after_outputs = 1 } } }
//! ```
//!
//! Without a rule that matches, the simulator answers as a small polite model.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::dialect::Dialect;

/// All that the simulator is told.
#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    /// Whether requests that the real API would refuse are refused, in its words.
    pub strict: bool,
    /// The one key that is accepted, in `x-api-key` or as a bearer token. Without it, any or none.
    pub require_key: Option<String>,
    /// The models that `GET /v1/models` lists. Others are served all the same.
    pub models: Vec<String>,
    /// The rules; the first that matches answers.
    #[serde(rename = "rule", alias = "rules")]
    pub rules: Vec<Rule>,
}

/// One rule: which requests it takes, and what they get.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// Its name in the journal.
    pub name: Option<String>,
    /// It holds for its first so many matches only.
    pub times: Option<u64>,
    /// Which requests it takes; all of the model endpoints, if it says nothing.
    pub when: When,
    /// What they get.
    pub answer: Answer,
}

/// Conditions on a request; all that are set must hold.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct When {
    /// The model, with `*` and `?`.
    pub model: Option<String>,
    /// What the last thing that a person said contains.
    pub text: Option<String>,
    /// What the system prompt contains.
    pub system: Option<String>,
    /// Whether tools are offered.
    pub tools: Option<bool>,
    /// Whether the request brings results of tools.
    pub tool_result: Option<bool>,
    /// Whether a stream is wanted.
    pub stream: Option<bool>,
    /// Whether reasoning is wanted.
    pub thinking: Option<bool>,
    /// Whether the conversation ends with words of the model, to be continued.
    pub prefill: Option<bool>,
    /// Only the n-th request that meets all else, counted from 1.
    pub nth: Option<u64>,
    /// The dialect: `anthropic`, `openai-chat`, `openai-responses`, `gemini`.
    #[serde(deserialize_with = "dialect_name")]
    pub dialect: Option<Dialect>,
    /// The path, with `*` and `?`. A rule without it sees only requests for an answer of a model, not
    /// those for lists of models or token counts.
    pub path: Option<String>,
    /// Headers, by name in lower case, each with `*` and `?`.
    pub headers: BTreeMap<String, String>,
}

/// What a request gets.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Answer {
    /// What is said, in order. Without it, what the polite model says.
    pub parts: Option<Vec<Say>>,
    /// Why the answer ends, in Anthropic's words (`end_turn`, `tool_use`, `max_tokens` …), which are
    /// translated for other dialects; any other word is sent as it is. Follows from the parts if not given.
    pub stop: Option<String>,
    /// Usage; what is not given is worked out.
    pub usage: Figures,
    /// The id of the answer; follows from the request if not given.
    pub id: Option<String>,
    /// The model that the answer names; that of the request if not given.
    pub model: Option<String>,
    /// Further headers.
    pub headers: BTreeMap<String, String>,
    /// The content type, where it is to be a wrong one.
    pub content_type: Option<String>,
    /// When it comes.
    pub pace: Pace,
    /// In which pieces it comes.
    pub chunks: Chunks,
    /// An error instead of an answer.
    pub fail: Option<Fail>,
    /// What goes wrong on the way.
    pub fault: Option<Trouble>,
}

/// One thing that is said.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Say {
    /// Text.
    Text(String),
    /// Reasoning; its signature follows from the text.
    Thinking(String),
    /// Reasoning that is encrypted as a whole; the text is not seen on the wire.
    Redacted(String),
    /// A tool call; several in a row are parallel.
    Call(SayCall),
    /// A refusal, with its explanation.
    Refusal(String),
}

/// A tool call of a script.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SayCall {
    /// The tool.
    pub name: String,
    /// The arguments.
    pub arguments: serde_json::Value,
    /// The arguments as text, sent as it is: for those that are no JSON.
    pub raw: Option<String>,
    /// The id; follows from the request if not given.
    pub id: Option<String>,
}

/// Usage as scripted; each figure that is not given is worked out.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Figures {
    /// Input that is neither read from nor written to a cache.
    pub input: Option<u64>,
    /// Input read from the cache.
    pub cache_read: Option<u64>,
    /// Input written to the cache.
    pub cache_creation: Option<u64>,
    /// Output.
    pub output: Option<u64>,
    /// The part of the output that was reasoning.
    pub thinking: Option<u64>,
    /// Send no usage at all.
    pub none: bool,
}

/// When an answer comes. Durations as people write them: `"250ms"`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pace {
    /// Before status and headers.
    #[serde(with = "humantime_serde")]
    pub headers: Duration,
    /// Before the first output of the model (after the event that opens the answer).
    #[serde(with = "humantime_serde")]
    pub first: Duration,
    /// Before every event of output but the first.
    #[serde(with = "humantime_serde")]
    pub between: Duration,
    /// While it waits, a sign of life (ping or comment) as often as this.
    #[serde(with = "humantime_serde")]
    pub ping: Option<Duration>,
}

/// In which pieces an answer comes.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Chunks {
    /// Tokens (of four characters) in each event of output.
    pub tokens: usize,
    /// Cuts the bytes on the wire into writes of this size, wherever that falls (in characters, too).
    pub bytes: Option<usize>,
    /// Waits this long before each of those writes.
    #[serde(with = "humantime_serde")]
    pub trickle: Duration,
    /// All events in one write.
    pub at_once: bool,
    /// Ends lines with CR LF.
    pub crlf: bool,
}

/// An error instead of an answer: a status with a body in the dialect's shape.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fail {
    /// The status; that of the kind if not given, else 500.
    pub status: Option<u16>,
    /// What it says; follows from the status if not given.
    pub kind: Option<FailKind>,
    /// The message; the provider's own words if not given.
    pub message: Option<String>,
    /// The whole body, as it is.
    pub body: Option<String>,
    /// `retry-after`, in seconds. A 429 says 1 if not given.
    pub retry_after: Option<u64>,
}

/// What an error says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailKind {
    /// Too many requests (429).
    RateLimited,
    /// Too much to do (529; 503 in other dialects than Anthropic's).
    Overloaded,
    /// Something broke (500).
    ServerError,
    /// The key is wrong (401).
    Auth,
    /// The key may not do this (403).
    Permission,
    /// No credit (402; in Chat Completions 429 with `insufficient_quota`, on OpenRouter 402).
    Billing,
    /// No such model (404).
    ModelNotFound,
    /// The input is longer than the model's window (400).
    ContextLength,
    /// The input fits, but not with so much output (400).
    OutputLength,
    /// The content is not wanted (400).
    ContentPolicy,
    /// The request is wrong (400).
    BadRequest,
    /// The body is too large (413).
    TooLarge,
    /// The upstream gave up waiting (504).
    Timeout,
}

/// What goes wrong on the way.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Trouble {
    /// The connection is reset before any answer.
    Refuse,
    /// Nothing comes, not even headers, until the client leaves.
    Silence,
    /// Nothing comes any more from here on; the connection stays.
    Stall(Place),
    /// The body ends here, well formed as far as HTTP goes.
    Cut(Place),
    /// The connection is closed here, in the middle of the body.
    HangUp(Place),
    /// The connection is reset here.
    Reset(Place),
    /// The next event from here is no JSON; the rest is well.
    Corrupt(Place),
    /// An error event stands here, and ends the stream.
    Error(ErrorEvent),
    /// All comes but the last word: no `message_stop`, no `[DONE]`.
    NoTerminator,
    /// Status 200, with the body of an error.
    ErrorBody(Fail),
}

/// A place in an answer. Without a member: right after the headers. A whole (not streamed) answer counts as
/// two events, its two halves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Place {
    /// After so many events (comments and pings not counted).
    pub after_events: Option<usize>,
    /// After so many events that carry output.
    pub after_outputs: Option<usize>,
    /// After all output, before the event that ends the answer.
    pub before_end: bool,
}

/// An error inside a stream.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ErrorEvent {
    /// Where.
    pub at: Place,
    /// Which.
    pub fail: Fail,
}

/// Why a text is no script.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ScriptError {
    /// Not TOML of the right shape.
    #[error("the script is not valid: {0}")]
    Toml(String),
    /// Not JSON of the right shape.
    #[error("the script is not valid JSON for a script: {0}")]
    Json(String),
}

// === impl Script ===

impl Script {
    /// Reads a script: JSON if it starts with a brace, else TOML.
    ///
    /// # Errors
    /// When the text is neither, or names what no script has.
    pub fn parse(text: &str) -> Result<Script, ScriptError> {
        if text.trim_start().starts_with('{') {
            serde_json::from_str(text).map_err(|e| ScriptError::Json(e.to_string()))
        } else {
            toml::from_str(text).map_err(|e| ScriptError::Toml(e.to_string()))
        }
    }

    /// The same answer to every request.
    pub fn always(answer: Answer) -> Script {
        Script { rules: vec![Rule { answer, ..Rule::default() }], ..Script::default() }
    }
}

impl Default for Script {
    fn default() -> Script {
        let models = ["claude-simulator", "gpt-simulator", "simulator"];
        Script { strict: true, require_key: None, models: models.map(String::from).into(), rules: Vec::new() }
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script")
            .field("strict", &self.strict)
            .field("require_key", &self.require_key.as_ref().map(|_| "redacted"))
            .field("models", &self.models)
            .field("rules", &self.rules)
            .finish()
    }
}

// === impl Answer ===

impl Answer {
    /// An answer that is one text.
    pub fn text(text: impl Into<String>) -> Answer {
        Answer { parts: Some(vec![Say::Text(text.into())]), ..Answer::default() }
    }

    /// An error with the dialect's own body for this status.
    pub fn status(status: u16) -> Answer {
        Answer { fail: Some(Fail { status: Some(status), ..Fail::default() }), ..Answer::default() }
    }

    /// The polite answer, with this going wrong.
    pub fn trouble(fault: Trouble) -> Answer {
        Answer { fault: Some(fault), ..Answer::default() }
    }
}

// === impl Chunks ===

impl Default for Chunks {
    fn default() -> Chunks {
        Chunks { tokens: 4, bytes: None, trickle: Duration::ZERO, at_once: false, crlf: false }
    }
}

fn dialect_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Dialect>, D::Error> {
    let name = String::deserialize(deserializer)?;
    let all = [Dialect::Anthropic, Dialect::OpenAiChat, Dialect::OpenAiResponses, Dialect::Gemini];
    let known = all.into_iter().find(|dialect| dialect.as_str() == name);
    known.map(Some).ok_or_else(|| {
        let names: Vec<_> = all.iter().map(|dialect| dialect.as_str()).collect();
        serde::de::Error::custom(format!("unknown dialect `{name}`, expected one of {}", names.join(", ")))
    })
}
