//! The configured limits of a provider as buckets: requests and tokens, of a minute and of a day.

use std::time::{Duration, Instant};

use crate::config::Limits;
use crate::dialect::{FaultKind, Phase};
use crate::routing::bucket::Bucket;

use super::{Ended, Lease, Obstacle, Outcome, RefusalKind};

pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const DAY: Duration = Duration::from_secs(86_400);

/// The four buckets.
#[derive(Clone, Debug)]
pub(super) struct Buckets {
    requests_minute: Bucket,
    tokens_minute: Bucket,
    requests_day: Bucket,
    tokens_day: Bucket,
}

// === impl Buckets ===

impl Buckets {
    pub(super) fn new(limits: &Limits, now: Instant) -> Buckets {
        Buckets {
            requests_minute: Bucket::new(limits.requests_per_minute.map(u64::from), MINUTE, now),
            tokens_minute: Bucket::new(limits.tokens_per_minute, MINUTE, now),
            requests_day: Bucket::new(limits.requests_per_day, DAY, now),
            tokens_day: Bucket::new(limits.tokens_per_day, DAY, now),
        }
    }

    pub(super) fn resize(&mut self, limits: &Limits, now: Instant) {
        self.requests_minute.resize(now, limits.requests_per_minute.map(u64::from));
        self.tokens_minute.resize(now, limits.tokens_per_minute);
        self.requests_day.resize(now, limits.requests_per_day);
        self.tokens_day.resize(now, limits.tokens_per_day);
    }

    pub(super) fn named(&self) -> [(&'static str, &Bucket); 4] {
        [
            ("requests/min", &self.requests_minute),
            ("tokens/min", &self.tokens_minute),
            ("requests/day", &self.requests_day),
            ("tokens/day", &self.tokens_day),
        ]
    }

    /// The bucket that is ready last, if one is not ready now.
    pub(super) fn ready_at(&self, tokens: u64, now: Instant) -> Option<Instant> {
        [
            self.requests_minute.ready_at(now, 1),
            self.requests_day.ready_at(now, 1),
            self.tokens_minute.ready_at(now, tokens),
            self.tokens_day.ready_at(now, tokens),
        ]
        .into_iter()
        .try_fold(now, |latest, ready| ready.map(|ready| latest.max(ready)))
    }

    pub(super) fn obstacle(&self, tokens: u64, now: Instant) -> Option<Obstacle> {
        let ready_at = self.ready_at(tokens, now);
        let obstacle = Obstacle { why: RefusalKind::RateLimited, ready_at, shared: true };
        (ready_at != Some(now)).then_some(obstacle)
    }

    /// Takes what [`obstacle`](Self::obstacle) found free; says what was taken of each bucket of tokens.
    pub(super) fn reserve(&mut self, tokens: u64, now: Instant) -> [u64; 2] {
        self.requests_minute.reserve(now, 1);
        self.requests_day.reserve(now, 1);
        let minute = self.tokens_minute.reserve(now, tokens).unwrap_or(0);
        let day = self.tokens_day.reserve(now, tokens).unwrap_or(0);
        [minute, day]
    }

    pub(super) fn settle(&mut self, lease: &Lease, outcome: &Outcome, now: Instant) {
        if outcome.ended == Ended::Unsent {
            self.requests_minute.settle(now, 1, 0);
            self.requests_day.settle(now, 1, 0);
        }
        let Some(used) = used_tokens(lease.tokens, outcome) else { return };
        let [minute, day] = lease.reserved;
        self.tokens_minute.settle(now, minute, used);
        self.tokens_day.settle(now, day, used);
    }
}

/// The tokens that an attempt used: what it says, nothing where the upstream cannot have run it, and else what
/// was reserved (`None`: leave it at that).
pub(super) fn used_tokens(reserved: u64, outcome: &Outcome) -> Option<u64> {
    use FaultKind::*;
    if let Some(tokens) = outcome.tokens {
        return Some(tokens);
    }
    let never_ran = match outcome.ended {
        Ended::Unsent => true,
        Ended::Well | Ended::Abandoned => false,
        Ended::Failed { kind, .. } => matches!(
            kind,
            RateLimited
                | Overloaded
                | Timeout(Phase::Connect)
                | Auth
                | Permission
                | Billing
                | ModelNotFound
                | ContextLength
                | Caller
        ),
    };
    (never_ran || reserved == 0).then_some(0)
}
