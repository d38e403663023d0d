//! Whether an attempt may start at a provider, and with which key: places, buckets, breakers, embargoes, the
//! pool of keys and the queue of those who wait, joined into one value.
//!
//! A provider's actor holds it (in a cell, so that a restart forgets nothing), asks it, and keeps the reply
//! ports of those who wait by their tickets. Nothing here knows of actors or time.

mod buckets;
mod keys;
mod messages;
mod queue;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::Limits;

use super::Vital;
use super::breaker::{Breaker, BreakerEvent, BreakerState, Probe};
use super::treatment::{Blame, treatment};

use buckets::{Buckets, MINUTE, used_tokens};
use keys::{Keys, Pick};
use queue::Queue;

pub use keys::{KeyState, KeyView};
pub use messages::{
    Ask, Ended, Grant, Outcome, Refusal, RefusalKind, Settled, Verdict, Woken, counted_tokens,
};
pub use queue::Ticket;

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

    /// An attempt has given its first output. A probe need not be awaited to its end: a long answer would keep all
    /// others away. True if that closed a breaker.
    pub fn begun(&mut self, lease: u64, now: Instant) -> bool {
        let Some(lease) = self.leases.get_mut(&lease) else { return false };
        let Some(probe) = lease.probe.take() else { return false };
        let model = Arc::clone(&lease.model);
        self.model(&model, now).breaker.on(BreakerEvent::Success { probe: Some(probe) }, now, 0).closed
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
                    if let Some(wait) = retry_after {
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

    /// Most of them that may be.
    pub fn most(&self) -> Option<u32> {
        self.limits.max_concurrent
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

    /// Until when the upstream asked to be left alone, for the model for which that is longest.
    pub fn embargo(&self, now: Instant) -> Option<Instant> {
        self.models.values().filter_map(|model| model.embargo).filter(|until| now < *until).max()
    }

    /// The limits that the upstream named, by key: key, name, what is left, size.
    pub fn learned(&self, now: Instant) -> Vec<(Arc<str>, &'static str, f64, f64)> {
        self.keys.learned(now)
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
                _ if ask.last_resort => {}
                BreakerState::Open { until } => return own(RefusalKind::BreakerOpen, Some(until)),
                BreakerState::HalfOpen { probing: true } => return own(RefusalKind::BreakerOpen, None),
                BreakerState::Closed | BreakerState::HalfOpen { probing: false } => {}
            }
        }
        match self.pick(ask, now) {
            Pick::Key(_) => {}
            Pick::Later(at) if self.keys.all_refused(now) => return own(RefusalKind::NoKeyLeft, Some(at)),
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
        let asks = BreakerEvent::Ask { last_resort: ask.last_resort };
        let effects = self.model(&ask.model, now).breaker.on(asks, now, draw);
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

#[cfg(test)]
mod tests;
