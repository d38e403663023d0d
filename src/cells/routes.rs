//! What the router keeps beside its table: who served which session, whose turn it is, what was set by command.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::config::{Strategy, Target};
use crate::routing::Balance;
use crate::routing::affinity::Affinity;

/// Affinity, turns and overrides.
#[derive(Default)]
pub struct RoutesCell {
    affinity: Mutex<Affinity>,
    balance: Mutex<Balance>,
    strategy: Mutex<Option<Strategy>>,
}

// === impl RoutesCell ===

impl RoutesCell {
    /// Who served this session last.
    pub fn affinity(&self, session: &str, now: Instant) -> Option<Target> {
        lock(&self.affinity).get(session, now).cloned()
    }

    /// This target has served the session.
    pub fn served(&self, session: &str, target: &Target, now: Instant) {
        lock(&self.affinity).remember(session, target, now);
    }

    /// This target has failed the session.
    pub fn failed(&self, session: &str, target: &Target) {
        lock(&self.affinity).forget(session, target);
    }

    /// Takes a turn.
    pub fn balance<T>(&self, turn: impl FnOnce(&mut Balance) -> T) -> T {
        turn(&mut lock(&self.balance))
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

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
