//! Requests that have ended, on their way to a collector of traces; and how the export goes. Outlives the actor that
//! sends them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ledger::Priced;

/// Most requests that wait; beyond, the oldest are lost, and counted.
const MAX_WAITING: usize = 4096;

/// What waits to be sent. Takes nothing unless it is switched on.
#[derive(Debug, Default)]
pub struct Outbox {
    wanted: AtomicBool,
    waiting: Mutex<VecDeque<Arc<Priced>>>,
    lost: AtomicU64,
    /// Why the last export failed.
    trouble: Mutex<Option<String>>,
}

// === impl Outbox ===

impl Outbox {
    /// From now on requests are wanted, or no more: then those that wait are forgotten.
    pub fn want(&self, wanted: bool) {
        self.wanted.store(wanted, Ordering::Release);
        if !wanted {
            lock(&self.waiting).clear();
            *lock(&self.trouble) = None;
        }
    }

    /// Takes a request that has ended.
    pub fn put(&self, priced: &Arc<Priced>) {
        if !self.wanted.load(Ordering::Acquire) {
            return;
        }
        let mut waiting = lock(&self.waiting);
        if waiting.len() >= MAX_WAITING {
            waiting.pop_front();
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        waiting.push_back(priced.clone());
    }

    /// The oldest of those that wait, which go on waiting.
    pub fn oldest(&self, most: usize) -> Vec<Arc<Priced>> {
        lock(&self.waiting).iter().take(most).cloned().collect()
    }

    /// These need not wait any more; others may have been pushed out meanwhile.
    pub fn done(&self, up_to: &Arc<Priced>) {
        let mut waiting = lock(&self.waiting);
        if let Some(at) = waiting.iter().position(|one| Arc::ptr_eq(one, up_to)) {
            waiting.drain(..=at);
        }
    }

    /// How the last export went. What is new of it goes to the log.
    pub fn report(&self, result: Result<(), String>) {
        let mut trouble = lock(&self.trouble);
        match result {
            Ok(()) => {
                if trouble.take().is_some() {
                    tracing::info!("metrics and traces are exported again");
                }
            }
            Err(reason) => {
                if trouble.as_ref() != Some(&reason) {
                    tracing::warn!(reason, "metrics and traces can't be exported; requests go on");
                }
                *trouble = Some(reason);
            }
        }
    }

    /// Whatever deserves a person's attention.
    pub fn warnings(&self) -> Vec<String> {
        let trouble = lock(&self.trouble).as_ref().map(|reason| format!("otlp: {reason}"));
        let lost = self.lost.load(Ordering::Relaxed);
        let lost = (lost > 0)
            .then(|| format!("otlp: the traces of {lost} requests are lost, since they could not be sent"));
        trouble.into_iter().chain(lost).collect()
    }
}

/// A holder that panicked left a whole value.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
