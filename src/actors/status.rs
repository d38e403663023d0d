//! The status: what the daemon shows of itself. One value, read by `cproxy://status`, `GET /status`, the
//! status page and `cproxy status`. The sum of what each actor and cell shows, not a second book-keeping.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::{Directory, Entry};
use crate::cells::prompt_caches::Totals;
use crate::config::ProviderId;
use crate::runtime::{Place, State, clock};
use crate::telemetry::logs;

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
    /// What the upstreams' prompt caches did for the sessions that were served last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prompt_caches: Vec<PromptCacheStatus>,
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
    /// The fault rules that are armed, and the last of those that are over, with how often each was hit and has fired.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fault_rules: Vec<crate::faults::Shown>,
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
    /// While it is away: how long that is from its last failure on, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub away_ms: Option<u64>,
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
    /// Limits that the upstream named in its answers, by key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub learned: Vec<LearnedStatus>,
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
    /// The share of the input since the start that was read from the upstream's prompt cache.
    #[serde(default)]
    pub cache_hit_rate: Option<f64>,
    /// Tokens that were billed again though that cache had held them.
    #[serde(default)]
    pub cache_rebilled_tokens: u64,
}

/// A conversation of a session with one model, and its prompt cache.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PromptCacheStatus {
    /// The provider and its model.
    pub target: String,
    /// The session.
    pub session: String,
    /// The agent of the session, if it is one.
    pub agent: Option<String>,
    /// Answers.
    pub turns: u64,
    /// The share of the input that was read from the cache.
    pub hit_rate: f64,
    /// Tokens that were billed again though they had been cached.
    pub rebilled_tokens: u64,
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

/// A limit that the upstream named, and what is left of it as far as we know.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LearnedStatus {
    /// The key that it holds for; empty where none is needed.
    pub key: String,
    /// `requests/min`, `tokens/min`, `requests/day`, `tokens/day`.
    pub name: String,
    /// What is left now.
    pub level: f64,
    /// The limit.
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

// === impl Status ===

impl Status {
    /// Gathers it from the directory.
    pub fn of(directory: &Directory) -> Status {
        let now = clock::now();
        let entries = directory.entries.load();
        let caches = directory.prompt_caches.providers();
        let cell = &directory.config_cell;
        let requests = &directory.requests;
        let mut warnings = cell.get().warnings.clone();
        if *cell.last_reload() != "ok" {
            warnings.push(
                "the config on disk is refused; the one in force is older (see config.last_reload)".into(),
            );
        }
        warnings.extend(directory.ledger_cell.warnings());
        warnings.extend(directory.ledger_cell.outbox().warnings());
        warnings.extend(logs::warnings());
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            address: directory
                .listener
                .address()
                .map(|address| format!("http://{address}"))
                .unwrap_or_default(),
            uptime_s: now.saturating_duration_since(directory.started).as_secs(),
            state: if directory.listener.stop().is_cancelled() { "draining" } else { "serving" }.to_owned(),
            config: ConfigStatus {
                source: cell.get().source.clone(),
                generation: cell.generation(),
                last_reload: cell.last_reload().as_ref().clone(),
            },
            actors: directory.places().iter().map(|place| ActorStatus::of(&**place)).collect(),
            providers: entries.values().map(|entry| ProviderStatus::of(entry, &caches, now)).collect(),
            prompt_caches: prompt_caches(directory),
            open_requests: requests.open(),
            requests: requests.total.load(Ordering::Relaxed),
            errors: requests.errors.load(Ordering::Relaxed),
            failovers: requests.failovers.load(Ordering::Relaxed),
            faults: directory.injector.as_ref().map(|injector| injector.fired()),
            fault_rules: directory.injector.as_ref().map(|injector| injector.list()).unwrap_or_default(),
            warnings,
        }
    }
}

/// The conversations that were served last.
fn prompt_caches(directory: &Directory) -> Vec<PromptCacheStatus> {
    const MOST: usize = 20;
    let latest = directory.prompt_caches.show().into_iter().take(MOST);
    latest
        .map(|shown| PromptCacheStatus {
            target: shown.key.target.to_string(),
            session: shown.key.session.to_string(),
            agent: shown.key.agent.map(|agent| agent.to_string()),
            turns: shown.turns,
            hit_rate: thousandths(shown.totals.hit_rate()),
            rebilled_tokens: shown.totals.rebilled,
        })
        .collect()
}

fn thousandths(share: f64) -> f64 {
    (share * 1000.0).round() / 1000.0
}

// === impl ActorStatus ===

impl ActorStatus {
    fn of(place: &dyn Place) -> ActorStatus {
        let vitals = place.vitals();
        ActorStatus {
            path: vitals.path().to_string(),
            state: vitals.state().as_str().to_owned(),
            incarnation: vitals.incarnation(),
            restarts: vitals.incarnation().saturating_sub(1),
            last_failure: vitals.last_failure().map(|reason| reason.to_string()),
            away_ms: matches!(vitals.state(), State::Restarting | State::Quarantined)
                .then(|| u64::try_from(vitals.away().as_millis()).unwrap_or(u64::MAX)),
            mailbox: vitals.mailbox(),
        }
    }
}

// === impl ProviderStatus ===

impl ProviderStatus {
    fn of(entry: &Entry, caches: &BTreeMap<ProviderId, Totals>, now: Instant) -> ProviderStatus {
        let (cell, setup) = (&entry.cell, entry.cell.setup());
        let view = cell.view(now);
        let quarantined = entry.slot.vitals().state() == State::Quarantined;
        let bucket = |(name, level, size): (&str, f64, f64)| BucketStatus {
            name: name.to_owned(),
            level: level.round(),
            size,
        };
        let learned = |(key, name, level, size): (String, &str, f64, f64)| LearnedStatus {
            key,
            name: name.to_owned(),
            level: level.round(),
            size,
        };
        ProviderStatus {
            name: setup.id.to_string(),
            kind: setup.config.kind.as_str().to_owned(),
            state: if quarantined { "quarantined" } else { view.state }.to_owned(),
            health: view.health,
            breakers: view.breakers,
            buckets: view.buckets.into_iter().map(bucket).collect(),
            keys: view.keys.into_iter().map(|(name, state)| KeyStatus { name, state }).collect(),
            learned: view.learned.into_iter().map(learned).collect(),
            open: cell.open(),
            max_concurrent: setup.config.limits.max_concurrent,
            waiting: cell.waiting(),
            latency_ms: view.latency.map(|latency| u64::try_from(latency.as_millis()).unwrap_or(u64::MAX)),
            error_rate: thousandths(view.error_rate),
            embargo_s: view.embargo.map(|left| left.as_secs()),
            attempts: view.attempts,
            failures: view.failures,
            cache_rebilled_tokens: caches.get(&setup.id).map_or(0, |totals| totals.rebilled),
            cache_hit_rate: caches.get(&setup.id).map(|totals| thousandths(totals.hit_rate())),
        }
    }
}
