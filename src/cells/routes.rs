//! What the router keeps beside its table: who served which session, whose turn it is, the retry budget, what was
//! set by command.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dashmap::DashMap;

use crate::config::{Strategy, Target};
use crate::dialect::openai_chat::Rectify;
use crate::routing::{Affinity, Balance, Home, RetryBudget};

/// Sessions that are remembered, and for how long: upstream prompt caches live an hour at most.
const SESSIONS: usize = 10_000;
const TARGETS: usize = 1000;
const REMEMBERED: Duration = Duration::from_secs(3600);

/// Affinity, turns, the retry budget and overrides.
pub struct RoutesCell {
    affinity: Mutex<Affinity>,
    balance: Mutex<Balance>,
    budget: Mutex<RetryBudget>,
    hedges: Mutex<RetryBudget>,
    strategy: Mutex<Option<Strategy>>,
    learned: DashMap<Target, Arc<[Rectify]>>,
}

// === impl RoutesCell ===

impl RoutesCell {
    /// Nothing remembered yet.
    pub fn new(now: Instant) -> RoutesCell {
        RoutesCell {
            affinity: Mutex::new(Affinity::new(SESSIONS, REMEMBERED)),
            balance: Mutex::default(),
            budget: Mutex::new(RetryBudget::usual(now)),
            hedges: Mutex::new(RetryBudget::new(0.0, 0.0, now)),
            strategy: Mutex::default(),
            learned: DashMap::new(),
        }
    }

    /// Where this session was last served with this model.
    pub fn home(&self, session: &str, model: &str, now: Instant) -> Option<Home> {
        lock(&self.affinity).recall(session, model, now).cloned()
    }

    /// The session was served there.
    pub fn served(&self, session: &str, model: &str, home: Home, now: Instant) {
        lock(&self.affinity).remember(session, model, home, now);
    }

    /// The session's home failed it.
    pub fn failed(&self, session: &str, model: &str, target: &Target) {
        lock(&self.affinity).forget_on_failure(session, model, target);
    }

    /// Takes a turn.
    pub fn balance<T>(&self, turn: impl FnOnce(&mut Balance) -> T) -> T {
        turn(&mut lock(&self.balance))
    }

    /// A request came: it earns a share of a retry.
    pub fn earn_retry(&self, now: Instant) {
        lock(&self.budget).request(now);
    }

    /// Takes an attempt beyond a request's first; false if the daemon's budget is used up.
    pub fn spend_retry(&self, now: Instant) -> bool {
        lock(&self.budget).spend(now)
    }

    /// A request came: it earns this share of a second attempt beside a slow one.
    pub fn earn_hedge(&self, share: f64, now: Instant) {
        lock(&self.hedges).earn(share, now);
    }

    /// Takes a second attempt; false if there were as many as there may be.
    pub fn spend_hedge(&self, now: Instant) -> bool {
        lock(&self.hedges).spend(now)
    }

    /// The changes to requests that refusals of this provider and model have taught.
    pub fn learned(&self, target: &Target) -> Arc<[Rectify]> {
        if self.learned.is_empty() {
            return Arc::default();
        }
        self.learned.get(target).map_or_else(Arc::default, |known| known.clone())
    }

    /// A refusal has taught another one.
    pub fn learn(&self, target: &Target, rectify: Rectify) {
        if self.learned.len() >= TARGETS && !self.learned.contains_key(target) {
            self.learned.clear(); // it is learned again at the price of one refusal
        }
        let mut known = self.learned.entry(target.clone()).or_default();
        *known = known.iter().copied().chain([rectify]).collect();
    }

    /// The strategy set by command, if any.
    pub fn strategy(&self) -> Option<Strategy> {
        *lock(&self.strategy)
    }

    /// Sets the strategy until the next start.
    pub fn set_strategy(&self, strategy: Strategy) {
        *lock(&self.strategy) = Some(strategy);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
