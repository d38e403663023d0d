//! A provider's part of the status, read from its cell.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::ProviderCell;
use crate::routing::admission::KeyState;
use crate::routing::breaker::BreakerState;
use crate::routing::table::Usable;

/// What a provider shows of itself.
#[derive(Clone, Debug, Default)]
pub struct ProviderView {
    /// `ready`, `no key`, `disabled`, `draining`.
    pub state: &'static str,
    /// The last health check.
    pub health: String,
    /// Models whose breaker is not closed, each with its state in words.
    pub breakers: Vec<String>,
    /// Buckets: name, level, size.
    pub buckets: Vec<(&'static str, f64, f64)>,
    /// Keys: name, state in words.
    pub keys: Vec<(String, String)>,
    /// Limits that the upstream named: key, name, level, size.
    pub learned: Vec<(String, &'static str, f64, f64)>,
    /// Average time to first output.
    pub latency: Option<Duration>,
    /// Share of errors among recent attempts.
    pub error_rate: f64,
    /// How long the provider asked to be left alone, as seen from now.
    pub embargo: Option<Duration>,
    /// Attempts since the start.
    pub attempts: u64,
    /// Failed attempts since the start.
    pub failures: u64,
}

impl ProviderCell {
    /// The buckets that have a limit: name, level, size.
    pub fn buckets(&self, now: Instant) -> Vec<(&'static str, f64, f64)> {
        self.admission().buckets(now)
    }

    /// What it shows of itself.
    pub fn view(&self, now: Instant) -> ProviderView {
        let admission = self.admission();
        let in_words = |until: Instant| {
            let left = until.saturating_duration_since(now).as_secs();
            humantime::format_duration(Duration::from_secs(left)).to_string()
        };
        let breakers = admission.breakers(now).into_iter().map(|(model, state)| match state {
            BreakerState::Open { until } => format!("{model}: open for {}", in_words(until)),
            BreakerState::HalfOpen { .. } => format!("{model}: half-open"),
            BreakerState::Closed => format!("{model}: closed"),
        });
        let keys = admission.keys(now).into_iter().map(|key| {
            let state = match key.state {
                KeyState::Ready => "ready".to_owned(),
                KeyState::Cooling(until) => format!("cooling down for {}", in_words(until)),
                KeyState::Refused(kind, until) => {
                    format!("refused by the provider ({}), tried again in {}", kind.as_str(), in_words(until))
                }
            };
            (key.name.to_string(), state)
        });
        let learned = admission.learned(now).into_iter();
        let learned = learned.map(|(key, name, level, size)| (key.to_string(), name, level, size)).collect();
        let averages = self.averages();
        ProviderView {
            state: match self.usable() {
                Usable::Ready => "ready",
                Usable::NoKey(_) => "no key",
                Usable::Disabled => "disabled",
                Usable::Draining => "draining",
            },
            health: self.health.load().describe().to_owned(),
            breakers: breakers.collect(),
            buckets: admission.buckets(now),
            keys: keys.collect(),
            learned,
            latency: averages.latency.get(now),
            error_rate: averages.errors.rate(now),
            embargo: admission.embargo(now).map(|until| until.saturating_duration_since(now)),
            attempts: self.attempts.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
        }
    }
}
