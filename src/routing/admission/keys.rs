//! The pool of keys of one provider: which one goes next, and which are out of use, for whom and until when.
//!
//! A rate limit cools a key down for one model; a refusal by the account (401, 402) takes it out for all, and
//! one that concerns what it may do (403) for the model. What an upstream says of its limits belongs to the key
//! by which it was asked.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::dialect::FaultKind;
use crate::routing::bucket::Bucket;
use crate::routing::limits::{Learned, Window};

use super::buckets::{DAY, MINUTE};

/// The longest that an upstream can keep us away by asking.
pub(super) const LONGEST_EMBARGO: Duration = Duration::from_secs(3600);
/// After a 429 that names no time: this long, doubled with each further one.
const FIRST_COOLING: Duration = Duration::from_secs(2);
const LONGEST_COOLING: Duration = Duration::from_secs(60);
/// A key that was refused is tried again after this long: accounts get mended while the daemon runs.
const AUTH_OUT: Duration = Duration::from_secs(30 * 60);
const BILLING_OUT: Duration = Duration::from_secs(5 * 60);
const PERMISSION_OUT: Duration = Duration::from_secs(5 * 60);
/// Models that a key remembers at once. Their names come from callers.
const MOST_MODELS: usize = 256;

/// The keys.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    pool: Vec<Key>,
    /// Without a pool nothing can be taken out: the one entry has no key.
    keyless: bool,
    turn: usize,
}

#[derive(Clone, Debug)]
struct Key {
    name: Arc<str>,
    out: Option<(FaultKind, Instant)>,
    cooling: HashMap<Arc<str>, Cooling>,
    learned: LearnedBuckets,
}

#[derive(Clone, Copy, Debug)]
struct Cooling {
    until: Instant,
    times: u32,
}

/// Limits that the upstream named; endless until it does.
#[derive(Clone, Debug)]
struct LearnedBuckets {
    requests_minute: Bucket,
    requests_day: Bucket,
    tokens_minute: Bucket,
    tokens_day: Bucket,
}

/// Which key goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pick {
    /// This one.
    Key(usize),
    /// None now; from then on one will.
    Later(Instant),
    /// None: all are refused, or were tried.
    None,
}

/// A key, for those who look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyView {
    /// Its name.
    pub name: Arc<str>,
    /// How it stands.
    pub state: KeyState,
}

/// How a key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// Of use.
    Ready,
    /// Cooling down for at least one model, the longest until then.
    Cooling(Instant),
    /// The provider refused it for this reason; it is tried again then.
    Refused(FaultKind, Instant),
}

// === impl Keys ===

impl Keys {
    pub(super) fn new(names: &[Arc<str>], now: Instant) -> Keys {
        let pool = match names {
            [] => vec![Key::new(Arc::from(""), now)],
            names => names.iter().map(|name| Key::new(Arc::clone(name), now)).collect(),
        };
        Keys { pool, keyless: names.is_empty(), turn: 0 }
    }

    /// Other keys. Of those that stay it is remembered what is known, but a refused one gets a new chance:
    /// whoever writes the config may have put another secret under the same name.
    pub(super) fn replace(&mut self, names: &[Arc<str>], now: Instant) {
        let mut old = std::mem::replace(self, Keys::new(names, now));
        for key in &mut self.pool {
            if let Some(at) = old.pool.iter().position(|known| known.name == key.name) {
                *key = old.pool.swap_remove(at);
                key.out = None;
            }
        }
        self.turn = old.turn;
    }

    /// Which key goes for this model: the one that served the session, else the one that its name leads to,
    /// else each in turn.
    pub(super) fn pick(
        &self,
        model: &str,
        session: Option<&str>,
        home: Option<&str>,
        tried: &[Arc<str>],
        now: Instant,
    ) -> Pick {
        let count = self.pool.len();
        let first = match (home.and_then(|home| self.position(home)), session) {
            (Some(at), _) => at,
            (None, Some(session)) if count > 1 => self.rendezvous(session),
            _ => self.turn,
        };
        let mut soonest: Option<Instant> = None;
        for step in 0..count {
            let at = first.wrapping_add(step) % count;
            let Some(key) = self.pool.get(at) else { continue };
            if tried.contains(&key.name) && !self.keyless {
                continue;
            }
            match key.ready_at(model, now) {
                Some(ready) if ready <= now => return Pick::Key(at),
                Some(ready) => soonest = Some(soonest.map_or(ready, |soonest| soonest.min(ready))),
                None => {}
            }
        }
        soonest.map_or(Pick::None, Pick::Later)
    }

    /// The key goes; the turn passes to the next.
    pub(super) fn take(&mut self, at: usize, tokens: u64, now: Instant) -> Arc<str> {
        self.turn = at.wrapping_add(1) % self.pool.len().max(1);
        match self.pool.get_mut(at) {
            Some(key) => {
                key.learned.reserve(tokens, now);
                Arc::clone(&key.name)
            }
            None => Arc::from(""),
        }
    }

    /// An attempt went well.
    pub(super) fn well(&mut self, name: &str, model: &str) {
        if let Some(key) = self.find(name) {
            key.out = None;
            key.cooling.remove(model);
        }
    }

    /// The key's rate limit for the model is used up.
    pub(super) fn rate_limited(
        &mut self,
        name: &str,
        model: &Arc<str>,
        retry_after: Option<Duration>,
        now: Instant,
    ) {
        let Some(key) = self.find(name) else { return };
        let times = key.cooling.get(model).map_or(0, |cooling| cooling.times);
        let own = FIRST_COOLING.saturating_mul(1 << times.min(8)).min(LONGEST_COOLING);
        let wait = retry_after.map_or(own, |asked| asked.min(LONGEST_EMBARGO));
        key.cool(model, now + wait, times.saturating_add(1), now);
    }

    /// The provider refused the key; says until when it is out of use.
    pub(super) fn refused(
        &mut self,
        name: &str,
        model: &Arc<str>,
        kind: FaultKind,
        now: Instant,
    ) -> Option<Instant> {
        if self.keyless {
            return None;
        }
        let key = self.find(name)?;
        let until = match kind {
            FaultKind::Permission => {
                let until = now + PERMISSION_OUT;
                key.cool(model, until, 0, now);
                return Some(until);
            }
            FaultKind::Billing => now + BILLING_OUT,
            _ => now + AUTH_OUT,
        };
        let until = key.out.map_or(until, |(_, before)| before.max(until));
        key.out = Some((kind, until));
        Some(until)
    }

    /// What an attempt really used.
    pub(super) fn used(&mut self, name: &str, reserved: u64, used: u64, now: Instant) {
        if let Some(key) = self.find(name) {
            key.learned.tokens_minute.settle(now, reserved, used);
            key.learned.tokens_day.settle(now, reserved, used);
        }
    }

    /// The upstream named its limits.
    pub(super) fn learn(&mut self, name: &str, learned: &Learned, now: Instant) {
        if let Some(key) = self.find(name) {
            key.learned.learn(learned, now);
        }
    }

    pub(super) fn view(&self, now: Instant) -> Vec<KeyView> {
        let keys = self.pool.iter().filter(|_| !self.keyless);
        keys.map(|key| KeyView { name: Arc::clone(&key.name), state: key.state(now) }).collect()
    }

    pub(super) fn learned(&self, now: Instant) -> Vec<(Arc<str>, &'static str, f64, f64)> {
        let all = self.pool.iter().flat_map(|key| {
            key.learned
                .named()
                .map(|(name, bucket)| (Arc::clone(&key.name), name, bucket.level(now), bucket.size(now)))
        });
        all.filter(|(.., size)| size.is_finite()).collect()
    }

    /// Whether the provider refused every key, so that none is merely cooling down.
    pub(super) fn all_refused(&self, now: Instant) -> bool {
        self.pool.iter().all(|key| key.out.is_some_and(|(_, until)| now < until))
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.pool.iter().position(|key| &*key.name == name)
    }

    fn find(&mut self, name: &str) -> Option<&mut Key> {
        self.pool.iter_mut().find(|key| &*key.name == name)
    }

    /// The key that a session's name leads to, so that it stays the same when others come and go (rendezvous
    /// hashing).
    fn rendezvous(&self, session: &str) -> usize {
        let weigh = |key: &Key| {
            let bytes = key.name.bytes().chain([0]).chain(session.bytes());
            let hash = bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
            // FNV alone leaves the order of two keys much the same for all sessions; this spreads it.
            let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
            let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
            hash ^ (hash >> 33)
        };
        self.pool.iter().enumerate().max_by_key(|(_, key)| weigh(key)).map_or(0, |(at, _)| at)
    }
}

// === impl Key ===

impl Key {
    fn new(name: Arc<str>, now: Instant) -> Key {
        let endless = |per| Bucket::new(None, per, now);
        let learned = LearnedBuckets {
            requests_minute: endless(MINUTE),
            requests_day: endless(DAY),
            tokens_minute: endless(MINUTE),
            tokens_day: endless(DAY),
        };
        Key { name, out: None, cooling: HashMap::new(), learned }
    }

    /// From when on it is of use for the model.
    fn ready_at(&self, model: &str, now: Instant) -> Option<Instant> {
        let out = self.out.map(|(_, until)| until);
        let cooling = self.cooling.get(model).map(|cooling| cooling.until);
        [out, cooling]
            .into_iter()
            .flatten()
            .fold(self.learned.ready_at(now), |ready, until| ready.map(|ready| ready.max(until)))
    }

    fn cool(&mut self, model: &Arc<str>, until: Instant, times: u32, now: Instant) {
        if self.cooling.len() >= MOST_MODELS && !self.cooling.contains_key(model) {
            self.cooling.retain(|_, cooling| now < cooling.until);
            if self.cooling.len() >= MOST_MODELS {
                self.cooling.clear();
            }
        }
        let cooling = self.cooling.entry(Arc::clone(model)).or_insert(Cooling { until, times });
        // Never shortened.
        cooling.until = cooling.until.max(until);
        cooling.times = times;
    }

    fn state(&self, now: Instant) -> KeyState {
        if let Some((kind, until)) = self.out.filter(|(_, until)| now < *until) {
            return KeyState::Refused(kind, until);
        }
        let longest = self.cooling.values().map(|cooling| cooling.until).max().filter(|until| now < *until);
        longest.map_or(KeyState::Ready, KeyState::Cooling)
    }
}

// === impl LearnedBuckets ===

impl LearnedBuckets {
    /// From when on one request may go. Tokens are not compared with what one needs, only with nothing: what
    /// the upstream counts and what we estimate differ.
    fn ready_at(&self, now: Instant) -> Option<Instant> {
        self.named()
            .into_iter()
            .try_fold(now, |latest, (_, bucket)| bucket.ready_at(now, 1).map(|ready| latest.max(ready)))
    }

    fn named(&self) -> [(&'static str, &Bucket); 4] {
        [
            ("requests/min", &self.requests_minute),
            ("tokens/min", &self.tokens_minute),
            ("requests/day", &self.requests_day),
            ("tokens/day", &self.tokens_day),
        ]
    }

    fn reserve(&mut self, tokens: u64, now: Instant) {
        self.requests_minute.reserve(now, 1);
        self.requests_day.reserve(now, 1);
        // Debts are fine here; the end of the attempt says what it really used.
        self.tokens_minute.settle(now, 0, tokens);
        self.tokens_day.settle(now, 0, tokens);
    }

    fn learn(&mut self, learned: &Learned, now: Instant) {
        let teach = |bucket: &mut Bucket, window: &Window| {
            bucket.learn(now, window.limit, window.remaining, now + window.holds_for());
        };
        match &learned.requests {
            Some(window) if window.daily => teach(&mut self.requests_day, window),
            Some(window) => teach(&mut self.requests_minute, window),
            None => {}
        }
        match &learned.tokens {
            Some(window) if window.daily => teach(&mut self.tokens_day, window),
            Some(window) => teach(&mut self.tokens_minute, window),
            None => {}
        }
    }
}
