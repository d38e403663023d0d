//! Whether an attempt may start at a provider, and with which key: places, buckets, breakers, embargoes, the
//! pool of keys and the queue of those who wait, joined into one value.
//!
//! A provider's actor holds it (in a cell, so that a restart forgets nothing), asks it, and keeps the reply
//! ports of those who wait by their tickets. Nothing here knows of actors or time.

mod keys;
mod queue;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{Limits, ProviderKind};
use crate::dialect::{FaultKind, Phase, Usage};

use super::Vital;
use super::breaker::{Breaker, BreakerEvent, BreakerState, Probe};
use super::bucket::Bucket;
use super::limits::{Learned, Window};
use super::treatment::{Blame, treatment};
use super::why::Seconds;

pub use keys::{KeyState, KeyView};
use keys::{Keys, Pick};
use queue::Queue;
pub use queue::Ticket;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
/// Callers that may wait where the config sets no bound.
const USUAL_WAITING: u32 = 256;
/// Models whose breakers are remembered at once. Their names come from callers.
const MOST_MODELS: usize = 256;

/// Whether an attempt may start at one provider.
#[derive(Clone, Debug)]
pub struct Admission {
    limits: Limits,
    buckets: Buckets,
    keys: Keys,
    models: HashMap<Arc<str>, Model>,
    leases: HashMap<u64, Lease>,
    queue: Queue,
    next: u64,
    draining: bool,
}

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
    /// Until when it would wait; a moment that is past means not at all.
    pub deadline: Instant,
}

/// The answer to an [`Ask`].
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Go.
    Granted(Grant),
    /// Wait: [`Admission::wake`] will name the ticket.
    Wait {
        /// Names the one who waits.
        ticket: Ticket,
        /// When it may be its turn, where that can be told.
        ready_at: Option<Instant>,
    },
    /// Not here, not now.
    Refused(Refusal),
}

/// The right to one attempt. Given back by [`Admission::settle`], once; a second time does nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Names it.
    pub lease: u64,
    /// The place of its key in the pool; 0 where there is no pool.
    pub key: usize,
    /// The name of its key; empty where there is no pool.
    pub key_name: Arc<str>,
    /// The attempt is the probe of a half-open breaker.
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

#[derive(Clone, Debug)]
struct Buckets {
    requests_minute: Bucket,
    tokens_minute: Bucket,
    requests_day: Bucket,
    tokens_day: Bucket,
}

/// What is remembered of a model.
#[derive(Clone, Debug, Default)]
struct Model {
    breaker: Breaker,
    embargo: Option<Instant>,
}

/// An attempt in progress.
#[derive(Clone, Debug)]
struct Lease {
    model: Arc<str>,
    key: Arc<str>,
    tokens: u64,
    /// What was taken of each bucket of tokens, the size being a bound.
    reserved: [u64; 2],
    probe: Option<Probe>,
}

/// What stands in the way of an ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Obstacle {
    why: RefusalKind,
    ready_at: Option<Instant>,
    /// It stands in everybody's way, not only in the way of this model or key.
    shared: bool,
}

// === impl Admission ===

impl Admission {
    /// A provider with these limits and the keys of these names; no keys means that none is needed.
    pub fn new(limits: Limits, keys: &[Arc<str>], now: Instant) -> Admission {
        Admission {
            limits,
            buckets: Buckets::new(&limits, now),
            keys: Keys::new(keys, now),
            models: HashMap::new(),
            leases: HashMap::new(),
            queue: Queue::default(),
            next: 0,
            draining: false,
        }
    }

    /// Takes up changed limits and keys. Levels, breakers, open leases and what is known of keys that stay
    /// are kept.
    pub fn reconfigure(&mut self, limits: Limits, keys: &[Arc<str>], now: Instant) {
        self.limits = limits;
        self.buckets.resize(&limits, now);
        self.keys.replace(keys, now);
    }

    /// A new incarnation of the actor took over: those who waited are gone with the old one, which held their
    /// reply ports. Everything else stands.
    pub fn restarted(&mut self) {
        self.queue = Queue::default();
    }

    /// From now on, or no longer, every ask is refused; open attempts finish.
    pub fn drain(&mut self, draining: bool) {
        self.draining = draining;
    }

    /// Decides. `draw` is a random number.
    pub fn admit(&mut self, ask: Ask, now: Instant, draw: u64) -> Verdict {
        if self.draining {
            return Verdict::Refused(Refusal { why: RefusalKind::Draining, ready_at: None });
        }
        // Who comes now stands behind those who wait for the same, also if there is room at this moment: it
        // is theirs.
        let behind = self.queue.iter().any(|waiting| {
            self.obstacle(&waiting.ask, now).is_none_or(|obstacle| obstacle.shared)
                && now < waiting.ask.deadline
        });
        let obstacle = self.obstacle(&ask, now);
        let (why, ready_at) = match obstacle {
            None if !behind => match self.grant(&ask, now, draw) {
                Some(grant) => return Verdict::Granted(grant),
                None => (RefusalKind::Full, None),
            },
            None => (RefusalKind::Full, None),
            Some(obstacle) => (obstacle.why, obstacle.ready_at),
        };
        let worth_it = match (why, ready_at) {
            (RefusalKind::NoKeyLeft, _) => false,
            (_, Some(at)) => at < ask.deadline,
            // A place or a probe may come free at any moment; a limit of nothing never does.
            (RefusalKind::Full | RefusalKind::BreakerOpen, None) => now < ask.deadline,
            (_, None) => false,
        };
        let most = self.limits.max_waiting.unwrap_or(USUAL_WAITING) as usize;
        if !worth_it || self.queue.len() >= most {
            return Verdict::Refused(Refusal { why, ready_at });
        }
        self.next += 1;
        let ticket = Ticket(self.next);
        self.queue.push(ticket, ask);
        Verdict::Wait { ticket, ready_at }
    }

    /// Lets go on who can, in the order of arrival, and turns away whose time is over. To be called after each
    /// [`settle`](Self::settle), and at [`wake_at`](Self::wake_at).
    pub fn wake(&mut self, now: Instant, draw: u64) -> Vec<Woken> {
        let mut woken = Vec::new();
        let mut held = false;
        let waiting = std::mem::take(&mut self.queue);
        for one in waiting {
            let obstacle = self.obstacle(&one.ask, now);
            let refusal = |why| Err(Refusal { why, ready_at: obstacle.and_then(|o| o.ready_at) });
            if self.draining {
                woken.push(Woken { ticket: one.ticket, verdict: refusal(RefusalKind::Draining) });
                continue;
            }
            let verdict = match obstacle {
                // One in front waits for what all share: nobody overtakes it.
                None if !held => self.grant(&one.ask, now, draw).map(Ok),
                Some(Obstacle { why: RefusalKind::NoKeyLeft, .. }) => Some(refusal(RefusalKind::NoKeyLeft)),
                _ => None,
            };
            match verdict {
                Some(verdict) => woken.push(Woken { ticket: one.ticket, verdict }),
                None if one.ask.deadline <= now => {
                    let why = match obstacle {
                        Some(obstacle) if obstacle.why != RefusalKind::Full => obstacle.why,
                        _ => RefusalKind::WaitedTooLong,
                    };
                    woken.push(Woken { ticket: one.ticket, verdict: refusal(why) });
                }
                None => {
                    held |= obstacle.is_some_and(|obstacle| obstacle.shared);
                    self.queue.push(one.ticket, one.ask);
                }
            }
        }
        woken
    }

    /// When to call [`wake`](Self::wake) next, if nothing is settled before; `None` while nobody waits.
    pub fn wake_at(&self, now: Instant) -> Option<Instant> {
        let mut held = false;
        let mut earliest: Option<Instant> = None;
        for waiting in self.queue.iter() {
            let deadline = waiting.ask.deadline;
            let obstacle = self.obstacle(&waiting.ask, now);
            let at = match obstacle {
                None if !held => now,
                None => deadline,
                Some(obstacle) => obstacle.ready_at.map_or(deadline, |ready| ready.min(deadline)),
            };
            held |= obstacle.is_some_and(|obstacle| obstacle.shared);
            earliest = Some(earliest.map_or(at, |earliest| earliest.min(at)));
        }
        earliest.map(|at| at.max(now))
    }

    /// One who waited left.
    pub fn leave(&mut self, ticket: Ticket) {
        self.queue.remove(ticket);
    }

    /// An attempt ended: its place is free, its tokens are settled, and breaker and key learn of it. `None`
    /// if the lease is not known (any more).
    pub fn settle(&mut self, lease: u64, outcome: Outcome, now: Instant, draw: u64) -> Option<Settled> {
        let lease = self.leases.remove(&lease)?;
        let mut settled = Settled::default();
        self.buckets.settle(&lease, &outcome, now);
        if let Some(used) = used_tokens(lease.tokens, &outcome) {
            self.keys.used(&lease.key, lease.tokens, used, now);
        }
        if let Some(learned) = outcome.learned {
            self.keys.learn(&lease.key, &learned, now);
        }
        let probe = lease.probe;
        let event = match outcome.ended {
            Ended::Well => {
                self.keys.well(&lease.key, &lease.model);
                BreakerEvent::Success { probe }
            }
            Ended::Unsent | Ended::Abandoned => BreakerEvent::Neutral { probe },
            Ended::Failed { kind, retry_after } => match treatment(kind).blame {
                Blame::Failure => {
                    if let Some(wait) = retry_after.filter(|_| kind == FaultKind::Overloaded) {
                        let until = now + wait.min(keys::LONGEST_EMBARGO);
                        let model = self.model(&lease.model, now);
                        model.embargo = model.embargo.max(Some(until));
                    }
                    BreakerEvent::Failure { probe, retry_after }
                }
                Blame::Embargo => {
                    self.keys.rate_limited(&lease.key, &lease.model, retry_after, now);
                    BreakerEvent::Neutral { probe }
                }
                Blame::Key => {
                    let until = self.keys.refused(&lease.key, &lease.model, kind, now);
                    settled.key_out = until.map(|until| (Arc::clone(&lease.key), until));
                    BreakerEvent::Neutral { probe }
                }
                Blame::None => BreakerEvent::Neutral { probe },
            },
        };
        let effects = self.model(&lease.model, now).breaker.on(event, now, draw);
        settled.opened = effects.opened;
        settled.closed = effects.closed;
        Some(settled)
    }

    /// What the router's table of vital signs says of a model here; what the actor knows besides (life,
    /// health, averages) is left at "well".
    pub fn vital(&self, model: &str, now: Instant) -> Vital {
        let known = self.models.get(model);
        let breaker = known.map_or(BreakerState::Closed, |known| known.breaker.state(now));
        let keys = self.keys.pick(model, None, None, &[], now);
        let key_ready = match keys {
            Pick::Key(_) => None,
            Pick::Later(at) => Some(at),
            // Every key is refused: for as long as can be told, it is of no use to ask.
            Pick::None => Some(now + MINUTE),
        };
        Vital {
            open_until: match breaker {
                BreakerState::Closed | BreakerState::HalfOpen { probing: false } => None,
                BreakerState::Open { until } => Some(until),
                // The probe is on its way: others had better go elsewhere for the moment.
                BreakerState::HalfOpen { probing: true } => Some(now + Duration::from_secs(1)),
            },
            embargo_until: known.and_then(|known| known.embargo).max(key_ready),
            alive: true,
            healthy: true,
            open: self.open(),
            headroom: self.buckets.obstacle(1, now).is_none() && self.queue.is_empty(),
            latency: None,
            error_rate: 0.0,
        }
    }

    /// Attempts in progress.
    pub fn open(&self) -> u32 {
        u32::try_from(self.leases.len()).unwrap_or(u32::MAX)
    }

    /// Callers that wait.
    pub fn waiting(&self) -> u32 {
        u32::try_from(self.queue.len()).unwrap_or(u32::MAX)
    }

    /// The buckets that have a limit: name, what is left, size.
    pub fn buckets(&self, now: Instant) -> Vec<(&'static str, f64, f64)> {
        self.buckets
            .named()
            .into_iter()
            .map(|(name, bucket)| (name, bucket.level(now), bucket.size(now)))
            .filter(|(_, _, size)| size.is_finite())
            .collect()
    }

    /// The keys by name, each with its state.
    pub fn keys(&self, now: Instant) -> Vec<KeyView> {
        self.keys.view(now)
    }

    /// The models whose breaker is not closed.
    pub fn breakers(&self, now: Instant) -> Vec<(Arc<str>, BreakerState)> {
        let mut breakers: Vec<_> = self
            .models
            .iter()
            .map(|(name, model)| (Arc::clone(name), model.breaker.state(now)))
            .filter(|(_, state)| *state != BreakerState::Closed)
            .collect();
        breakers.sort_by(|a, b| a.0.cmp(&b.0));
        breakers
    }

    /// The first thing that stands in the way; `None` if the ask could be granted now.
    fn obstacle(&self, ask: &Ask, now: Instant) -> Option<Obstacle> {
        let own = |why, ready_at| Some(Obstacle { why, ready_at, shared: false });
        if let Some(model) = self.models.get(&ask.model) {
            if let Some(until) = model.embargo.filter(|until| now < *until) {
                return own(RefusalKind::Embargo, Some(until));
            }
            match model.breaker.state(now) {
                BreakerState::Open { until } => return own(RefusalKind::BreakerOpen, Some(until)),
                BreakerState::HalfOpen { probing: true } => return own(RefusalKind::BreakerOpen, None),
                BreakerState::Closed | BreakerState::HalfOpen { probing: false } => {}
            }
        }
        match self.pick(ask, now) {
            Pick::Key(_) => {}
            Pick::Later(at) => return own(RefusalKind::Embargo, Some(at)),
            Pick::None => return own(RefusalKind::NoKeyLeft, None),
        }
        if self.limits.max_concurrent.is_some_and(|most| self.open() >= most) {
            return Some(Obstacle { why: RefusalKind::Full, ready_at: None, shared: true });
        }
        self.buckets.obstacle(ask.tokens, now)
    }

    fn pick(&self, ask: &Ask, now: Instant) -> Pick {
        self.keys.pick(&ask.model, ask.session.as_deref(), ask.key.as_deref(), &ask.tried, now)
    }

    /// Grants what has no obstacle.
    fn grant(&mut self, ask: &Ask, now: Instant, draw: u64) -> Option<Grant> {
        let Pick::Key(key) = self.pick(ask, now) else { return None };
        let effects = self.model(&ask.model, now).breaker.on(BreakerEvent::Ask, now, draw);
        if !effects.admitted {
            return None;
        }
        let reserved = self.buckets.reserve(ask.tokens, now);
        let key_name = self.keys.take(key, ask.tokens, now);
        self.next += 1;
        let lease = Lease {
            model: Arc::clone(&ask.model),
            key: Arc::clone(&key_name),
            tokens: ask.tokens,
            reserved,
            probe: effects.probe,
        };
        self.leases.insert(self.next, lease);
        Some(Grant { lease: self.next, key, key_name, probing: effects.probe.is_some() })
    }

    fn model(&mut self, name: &Arc<str>, now: Instant) -> &mut Model {
        if self.models.len() >= MOST_MODELS && !self.models.contains_key(name) {
            // Who is well is forgotten without loss; if that is not enough, who would be well soonest.
            self.models.retain(|_, model| model.is_news(now));
            while self.models.len() >= MOST_MODELS {
                let soonest = self.models.iter().min_by_key(|(_, model)| model.breaker.ready_at());
                let Some(soonest) = soonest.map(|(name, _)| Arc::clone(name)) else { break };
                self.models.remove(&soonest);
            }
        }
        self.models.entry(Arc::clone(name)).or_default()
    }
}

// === impl Model ===

impl Model {
    fn is_news(&self, now: Instant) -> bool {
        self.breaker.state(now) != BreakerState::Closed || self.embargo.is_some_and(|until| now < until)
    }
}

// === impl Buckets ===

impl Buckets {
    fn new(limits: &Limits, now: Instant) -> Buckets {
        Buckets {
            requests_minute: Bucket::new(limits.requests_per_minute.map(u64::from), MINUTE, now),
            tokens_minute: Bucket::new(limits.tokens_per_minute, MINUTE, now),
            requests_day: Bucket::new(limits.requests_per_day, DAY, now),
            tokens_day: Bucket::new(limits.tokens_per_day, DAY, now),
        }
    }

    fn resize(&mut self, limits: &Limits, now: Instant) {
        self.requests_minute.resize(now, limits.requests_per_minute.map(u64::from));
        self.tokens_minute.resize(now, limits.tokens_per_minute);
        self.requests_day.resize(now, limits.requests_per_day);
        self.tokens_day.resize(now, limits.tokens_per_day);
    }

    fn named(&self) -> [(&'static str, &Bucket); 4] {
        [
            ("requests/min", &self.requests_minute),
            ("tokens/min", &self.tokens_minute),
            ("requests/day", &self.requests_day),
            ("tokens/day", &self.tokens_day),
        ]
    }

    /// The bucket that is ready last, if one is not ready now.
    fn ready_at(&self, tokens: u64, now: Instant) -> Option<Instant> {
        [
            self.requests_minute.ready_at(now, 1),
            self.requests_day.ready_at(now, 1),
            self.tokens_minute.ready_at(now, tokens),
            self.tokens_day.ready_at(now, tokens),
        ]
        .into_iter()
        .try_fold(now, |latest, ready| ready.map(|ready| latest.max(ready)))
    }

    fn obstacle(&self, tokens: u64, now: Instant) -> Option<Obstacle> {
        let ready_at = self.ready_at(tokens, now);
        let obstacle = Obstacle { why: RefusalKind::RateLimited, ready_at, shared: true };
        (ready_at != Some(now)).then_some(obstacle)
    }

    /// Takes what [`obstacle`](Self::obstacle) found free; says what was taken of each bucket of tokens.
    fn reserve(&mut self, tokens: u64, now: Instant) -> [u64; 2] {
        self.requests_minute.reserve(now, 1);
        self.requests_day.reserve(now, 1);
        let minute = self.tokens_minute.reserve(now, tokens).unwrap_or(0);
        let day = self.tokens_day.reserve(now, tokens).unwrap_or(0);
        [minute, day]
    }

    fn settle(&mut self, lease: &Lease, outcome: &Outcome, now: Instant) {
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
fn used_tokens(reserved: u64, outcome: &Outcome) -> Option<u64> {
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

/// Tokens as they count towards a provider's limits: Anthropic leaves out what was read from the prompt cache
/// (Anthropic API reference, "Rate limits: cache-aware ITPM"); others count all.
pub fn counted_tokens(kind: ProviderKind, usage: &Usage) -> u64 {
    match kind {
        ProviderKind::Anthropic => usage.total().saturating_sub(usage.cache_read),
        _ => usage.total(),
    }
}

/// How long to heed a limit that an answer named.
fn heed_until(window: &Window, now: Instant) -> Instant {
    now + window.holds_for()
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

#[cfg(test)]
mod tests;
