//! What is asked of an [`Admission`](super::Admission), and what it answers.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::ProviderKind;
use crate::dialect::{FaultKind, Usage};
use crate::routing::limits::Learned;
use crate::routing::why::Seconds;

use super::queue::Ticket;

/// Somebody wants to start an attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// The model.
    pub model: Arc<str>,
    /// Tokens that it will use, estimated: input and output together.
    pub tokens: u64,
    /// The session, for a key that stays the same.
    pub session: Option<Arc<str>>,
    /// The key by which the session was served before.
    pub key: Option<Arc<str>>,
    /// Keys that this request has tried in vain.
    pub tried: Vec<Arc<str>>,
    /// There is nobody else to ask: an open breaker lets it pass.
    pub last_resort: bool,
    /// Until when it would wait; a moment that is past means not at all.
    pub deadline: Instant,
}

/// The answer to an [`Ask`].
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Go.
    Granted(Grant),
    /// Wait: [`Admission::wake`](super::Admission::wake) will name the ticket.
    Wait {
        /// Names the one who waits.
        ticket: Ticket,
        /// When it may be its turn, where that can be told.
        ready_at: Option<Instant>,
    },
    /// Not here, not now.
    Refused(Refusal),
}

/// The right to one attempt. Given back by [`Admission::settle`](super::Admission::settle), once; a second time does nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Names it.
    pub lease: u64,
    /// The place of its key in the pool; 0 where there is no pool.
    pub key: usize,
    /// The name of its key; empty where there is no pool.
    pub key_name: Arc<str>,
    /// The attempt is the probe of a half-open breaker, or a trial of an open one.
    pub probing: bool,
}

/// Why an attempt may not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub why: RefusalKind,
    /// From when on it might, where that can be told.
    pub ready_at: Option<Instant>,
}

/// Why an attempt may not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// The breaker of the model is open.
    BreakerOpen,
    /// The upstream asked not to be asked, or its rate limit for the keys is used up.
    Embargo,
    /// A limit of the config is used up.
    RateLimited,
    /// All places are taken, and no more may wait.
    Full,
    /// No place came free in time.
    WaitedTooLong,
    /// The provider refused every key, or each was tried.
    NoKeyLeft,
    /// The provider is being taken out.
    Draining,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// How.
    pub ended: Ended,
    /// Tokens as they count towards limits (see [`counted_tokens`]), if they are known.
    pub tokens: Option<u64>,
    /// What the upstream said of its limits.
    pub learned: Option<Learned>,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Ended {
    /// The request was never sent.
    #[default]
    Unsent,
    /// Well.
    Well,
    /// The caller left, or another attempt won.
    Abandoned,
    /// With a fault.
    Failed {
        /// Which.
        kind: FaultKind,
        /// How long the upstream wants to be left alone.
        retry_after: Option<Duration>,
    },
}

/// What an end led to, for the log and for events.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settled {
    /// The breaker of the model opened, until then.
    pub opened: Option<Instant>,
    /// The breaker of the model closed.
    pub closed: bool,
    /// The key was taken out of use, until then.
    pub key_out: Option<(Arc<str>, Instant)>,
}

/// Somebody whose waiting is over.
#[derive(Clone, Debug, PartialEq)]
pub struct Woken {
    /// Who.
    pub ticket: Ticket,
    /// What came of it.
    pub verdict: Result<Grant, Refusal>,
}

/// Tokens as they count towards a provider's limits: Anthropic leaves out what was read from the prompt cache
/// (Anthropic API reference, "Rate limits: cache-aware ITPM"); others count all.
pub fn counted_tokens(kind: ProviderKind, usage: &Usage) -> u64 {
    match kind {
        ProviderKind::Anthropic => usage.total().saturating_sub(usage.cache_read),
        _ => usage.total(),
    }
}

// === Display ===

impl fmt::Display for RefusalKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RefusalKind::BreakerOpen => "its breaker is open after repeated failures",
            RefusalKind::Embargo => "it asked to be left alone (rate limit)",
            RefusalKind::RateLimited => "its configured rate limit is used up",
            RefusalKind::Full => "all its places are taken",
            RefusalKind::WaitedTooLong => "no place came free in time",
            RefusalKind::NoKeyLeft => "none of its keys can be used",
            RefusalKind::Draining => "it is being taken out",
        })
    }
}

impl Refusal {
    /// The refusal in words, with the wait as seen from `now`.
    pub fn in_words(&self, now: Instant) -> String {
        match self.ready_at.map(|at| at.saturating_duration_since(now)).filter(|left| !left.is_zero()) {
            Some(left) => format!("{}; ready in {}", self.why, Seconds(left)),
            None => self.why.to_string(),
        }
    }
}
