//! The status: what the daemon shows of itself. One value, read by `cproxy://status`, `GET /status`, the
//! status page and `cproxy status`. The sum of what each actor and cell shows, not a second book-keeping.

use serde::{Deserialize, Serialize};

/// The daemon at this moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Status {
    /// The version of the daemon.
    pub version: String,
    /// The process.
    pub pid: u32,
    /// Where the HTTP front listens; empty when there is none (an MCP server of its own over stdio).
    pub address: String,
    /// Since the start, in seconds.
    pub uptime_s: u64,
    /// `serving`, `draining`.
    pub state: String,
    /// The config in force.
    pub config: ConfigStatus,
    /// The tree, from the root down, in order.
    pub actors: Vec<ActorStatus>,
    /// The providers, by name.
    pub providers: Vec<ProviderStatus>,
    /// Requests in progress.
    pub open_requests: u64,
    /// Requests since the start.
    pub requests: u64,
    /// Requests since the start that were answered with an error.
    pub errors: u64,
    /// Requests since the start that needed more than one attempt and were answered well.
    pub failovers: u64,
    /// Faults injected since the start; `None` while fault injection is off.
    pub faults: Option<u64>,
    /// Whatever deserves a person's attention, in words.
    pub warnings: Vec<String>,
}

/// The config in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ConfigStatus {
    /// Where it came from.
    pub source: String,
    /// Counts the configs that were taken up.
    pub generation: u64,
    /// The result of the last reload: `ok`, or why it was refused.
    pub last_reload: String,
}

/// One actor of the tree.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ActorStatus {
    /// Its path from the root, such as `root/providers/openrouter`.
    pub path: String,
    /// `running`, `restarting`, `quarantined`, `stopped`.
    pub state: String,
    /// Counts its incarnations, from 1.
    pub incarnation: u64,
    /// How often it was started again.
    pub restarts: u64,
    /// Why the last incarnation ended.
    pub last_failure: Option<String>,
    /// Messages that wait in its mailbox.
    pub mailbox: u64,
}

/// One provider.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ProviderStatus {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// `ready`, `no key`, `disabled`, `draining`, `quarantined`.
    pub state: String,
    /// What the last health check said: `unknown`, `ok`, or what was wrong.
    pub health: String,
    /// Models whose breaker is not closed: `model: open for 12s`.
    pub breakers: Vec<String>,
    /// Buckets: name, level and size.
    pub buckets: Vec<BucketStatus>,
    /// Keys of the pool by name, each with its state.
    pub keys: Vec<KeyStatus>,
    /// Requests in progress.
    pub open: u32,
    /// The limit on requests in progress.
    pub max_concurrent: Option<u32>,
    /// Requests that wait for a place.
    pub waiting: u32,
    /// Average time to first output in milliseconds.
    pub latency_ms: Option<u64>,
    /// Share of errors among recent attempts.
    pub error_rate: f64,
    /// Seconds until the upstream wants to be asked again, if it asked us to wait.
    pub embargo_s: Option<u64>,
    /// Attempts since the start.
    pub attempts: u64,
    /// Failed attempts since the start.
    pub failures: u64,
}

/// One bucket.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct BucketStatus {
    /// `requests/min`, `tokens/min`, `requests/day`, `tokens/day`.
    pub name: String,
    /// What is left now.
    pub level: f64,
    /// Its size.
    pub size: f64,
}

/// One key of a pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct KeyStatus {
    /// Its name: the variable or file that it came from.
    pub name: String,
    /// `ready`, `cooling down for 12s`, `refused by the provider`.
    pub state: String,
}
