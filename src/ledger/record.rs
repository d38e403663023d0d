//! What a request leaves behind. Made by its own task when it has ended, in a few hundred bytes; the log line,
//! the ledger's rows and the metrics are all made from it later, by others.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::config::{ProviderId, ProviderKind};
use crate::dialect::{FaultKind, Phase, Usage};
use crate::routing::price::{Price, Prices};

/// A request that has ended.
#[derive(Clone, Debug)]
pub struct Record {
    /// The id of the request.
    pub id: Arc<str>,
    /// When it began, by the wall clock.
    pub began: SystemTime,
    /// The front through which it came: `messages`, `mcp`, `openai`.
    pub front: &'static str,
    /// The session, if the caller named one.
    pub session: Option<Arc<str>>,
    /// The agent, if the caller named one.
    pub agent: Option<Arc<str>>,
    /// The model as the caller named it.
    pub model: Arc<str>,
    /// How it ended.
    pub outcome: Outcome,
    /// What the caller was told of, if it did not end well.
    pub fault: Option<FaultKind>,
    /// Whether the answer came out of the cache.
    pub cached: bool,
    /// All that was tried, in order; those that were not even admitted are among them.
    pub attempts: Vec<Attempt>,
    /// The same as a story, for people: `openrouter/x: rate_limited, anthropic/y: ok`.
    pub route: String,
    /// What was mended in the request on the way.
    pub healed: Vec<&'static str>,
    /// How long it waited for places at providers.
    pub queue: Duration,
    /// How long the upstream that served it took to be connected to, if no connection was kept.
    pub connect: Option<Duration>,
    /// From its begin to the headers of the upstream that served it.
    pub first_byte: Option<Duration>,
    /// From its begin to the first output.
    pub first_output: Option<Duration>,
    /// From its begin to its end.
    pub total: Duration,
    /// What of this cproxy itself took, if it was measured.
    pub overhead: Option<Duration>,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// With a whole answer.
    Ok,
    /// With an error, and no output before it.
    Failed,
    /// With an error after output had begun.
    Broken,
    /// The caller left.
    Left,
}

/// One attempt at a provider.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The provider, by its name in the config.
    pub provider: ProviderId,
    /// What the provider is.
    pub kind: ProviderKind,
    /// The model as the provider names it.
    pub model: Arc<str>,
    /// How it ended.
    pub ended: Ended,
    /// Tokens, if the upstream said, or if we could estimate.
    pub usage: Option<Usage>,
    /// From the request's begin to its admission, or to when that was refused.
    pub at: Duration,
    /// From admission to its end.
    pub took: Duration,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ended {
    /// Well.
    Ok,
    /// With a fault.
    Fault(FaultKind),
    /// The caller left while it ran.
    Left,
    /// It was not made: the provider did not admit it. The text is one of a closed vocabulary.
    NotAdmitted(&'static str),
}

/// A record with what its attempts cost.
#[derive(Clone, Debug)]
pub struct Priced {
    /// The record.
    pub record: Record,
    /// For each attempt what it cost in millionths of a US dollar; `None` is unknown.
    pub costs: Vec<Option<i64>>,
}

// === impl Record ===

impl Record {
    /// The last attempt that was made.
    pub fn served(&self) -> Option<&Attempt> {
        self.made().last()
    }

    /// The attempts that were made.
    pub fn made(&self) -> impl DoubleEndedIterator<Item = &Attempt> {
        self.attempts.iter().filter(|attempt| !matches!(attempt.ended, Ended::NotAdmitted(_)))
    }

    /// Tokens of all attempts together; `None` if nothing is known of any.
    pub fn usage(&self) -> Option<Usage> {
        self.attempts.iter().filter_map(|attempt| attempt.usage).reduce(Usage::plus)
    }

    /// For each attempt what it cost by these prices, in millionths of a US dollar; `None` is unknown.
    pub fn costs(&self, prices: &Prices) -> Vec<Option<i64>> {
        let cost = |attempt: &Attempt| {
            let billed = Usage::default();
            let usage = match (&attempt.usage, attempt.ended) {
                (Some(usage), _) => usage,
                (None, ended) if ended.is_free() => return Some(0),
                (None, _) => &billed,
            };
            let price = prices.of(attempt.provider.as_str(), attempt.kind, &attempt.model)?;
            // Without figures only what is free by its price has a known cost.
            let known = attempt.usage.is_some() || price == Price::default();
            known.then(|| micros(price.cost(usage)))
        };
        self.attempts.iter().map(cost).collect()
    }

    /// The record with its costs by these prices.
    pub fn price(self, prices: &Prices) -> Priced {
        let costs = self.costs(prices);
        Priced { record: self, costs }
    }
}

// === impl Priced ===

impl Priced {
    /// What the request cost in millionths of a US dollar; `None` if the cost of any attempt is unknown.
    pub fn cost(&self) -> Option<i64> {
        sum(&self.costs)
    }
}

// === impl Outcome ===

impl Outcome {
    /// A closed vocabulary for logs, metrics and the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Failed => "failed",
            Outcome::Broken => "broken",
            Outcome::Left => "left",
        }
    }
}

// === impl Ended ===

impl Ended {
    /// A closed vocabulary for logs, metrics and the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            Ended::Ok => "ok",
            Ended::Fault(kind) => kind.as_str(),
            Ended::Left => "left",
            Ended::NotAdmitted(why) => why,
        }
    }

    /// Whether it surely cost nothing: not made, or refused by the upstream before the model ran. An attempt that
    /// was lost on the way may have been billed.
    fn is_free(self) -> bool {
        match self {
            Ended::NotAdmitted(_) => true,
            Ended::Ok | Ended::Left => false,
            Ended::Fault(kind) => match kind {
                FaultKind::RateLimited
                | FaultKind::Overloaded
                | FaultKind::ServerError
                | FaultKind::Auth
                | FaultKind::Permission
                | FaultKind::Billing
                | FaultKind::ModelNotFound
                | FaultKind::ContextLength
                | FaultKind::Caller
                | FaultKind::Timeout(Phase::Connect) => true,
                FaultKind::Timeout(_)
                | FaultKind::Network
                | FaultKind::ContentPolicy
                | FaultKind::Protocol => false,
            },
        }
    }
}

/// Costs together; `None` if any of them is unknown.
pub fn sum(costs: &[Option<i64>]) -> Option<i64> {
    costs.iter().try_fold(0i64, |sum, cost| Some(sum.saturating_add((*cost)?)))
}

/// US dollars as millionths, rounded.
pub fn micros(dollars: f64) -> i64 {
    (dollars * 1e6).round() as i64 // saturates; NaN is 0
}
