//! What survives of a provider: its setup, its admission state, its open leases, its health.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use super::lease::{AdmitSpec, Lease, Refusal, Return};
use super::probe::Health;
use super::upstream::Upstream;
use crate::config::secret::Key;
use crate::config::{Auth, Provider, ProviderId};
use crate::dialect::table::Variant;
use crate::routing::Vital;
use crate::routing::admission::Admission;
use crate::routing::table::Usable;

/// What the config makes of a provider. Replaced as a whole when the config changes.
pub struct Setup {
    /// Its name.
    pub id: ProviderId,
    /// Its part of the config.
    pub config: Provider,
    /// Its address, ready to be followed by a path.
    pub base_url: Arc<str>,
    /// Its keys.
    pub keys: Vec<Key>,
    /// If it needs a key and has none: what was looked for.
    pub no_key: Option<String>,
    /// The peculiarities of its dialect.
    pub variant: &'static Variant,
    /// Its HTTP client, with the connection pool.
    pub upstream: Arc<dyn Upstream>,
}

/// What outlives a provider's actor. Written by the actor's living incarnation alone, but for what leases return by
/// themselves.
pub struct ProviderCell {
    setup: ArcSwap<Setup>,
    admission: Mutex<Admission>,
    returned: Mutex<Vec<Return>>,
    open: AtomicU32,
    waiting: AtomicU32,
    attempts: AtomicU64,
    failures: AtomicU64,
    switched_off: AtomicBool,
    bell: Notify,
    pub(super) health: ArcSwap<Health>,
}

// === impl ProviderCell ===

impl ProviderCell {
    /// The cell of a new provider.
    pub fn new(setup: Setup, now: Instant) -> ProviderCell {
        let admission = Admission::new(&setup.config.limits, setup.keys.len(), now);
        ProviderCell {
            admission: Mutex::new(admission),
            setup: ArcSwap::from_pointee(setup),
            returned: Mutex::new(Vec::new()),
            open: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            attempts: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            switched_off: AtomicBool::new(false),
            bell: Notify::new(),
            health: ArcSwap::from_pointee(Health::Unknown),
        }
    }

    /// The setup in force.
    pub fn setup(&self) -> Arc<Setup> {
        self.setup.load_full()
    }

    /// Another setup is in force; levels and breakers are kept, limits follow.
    pub fn update(&self, setup: Setup, now: Instant) {
        self.admission().reconfigure(&setup.config.limits, setup.keys.len(), now);
        self.setup.store(Arc::new(setup));
    }

    /// Whether it may be chosen at all.
    pub fn usable(&self) -> Usable {
        let setup = self.setup.load();
        if setup.config.disabled || self.switched_off.load(Ordering::Relaxed) {
            return Usable::Disabled;
        }
        match &setup.no_key {
            Some(looked_for) if setup.config.auth == Auth::Key => Usable::NoKey(looked_for.clone()),
            _ => Usable::Ready,
        }
    }

    /// Switches it on or off until the next start.
    pub fn enable(&self, enabled: bool) {
        self.switched_off.store(!enabled, Ordering::Relaxed);
    }

    /// A new incarnation of the actor begins: what nobody will report any more is closed.
    pub fn restarted(&self, now: Instant) {
        self.admission().restarted(now);
    }

    /// Rung when a lease comes back while somebody waits.
    pub fn bell(&self) -> &Notify {
        &self.bell
    }

    /// Says how many wait.
    pub fn set_waiting(&self, waiting: usize) {
        self.waiting.store(u32::try_from(waiting).unwrap_or(u32::MAX), Ordering::Release);
    }

    /// Grants a lease, or says why not.
    pub fn admit(self: &Arc<Self>, spec: &AdmitSpec, now: Instant, draw: u64) -> Result<Lease, Refusal> {
        match self.usable() {
            Usable::Ready => {}
            Usable::NoKey(looked_for) => return Err(Refusal::NoKey(looked_for)),
            Usable::Disabled | Usable::Draining => return Err(Refusal::Gone),
        }
        let grant = self.admission().admit(&spec.ask(), now, draw)?;
        self.open.fetch_add(1, Ordering::AcqRel);
        self.attempts.fetch_add(1, Ordering::Relaxed);
        Ok(Lease::new(self.clone(), self.setup(), grant, now))
    }

    /// A lease came back. It is settled by the actor, at its next message or at the bell.
    pub(super) fn take_back(&self, returned: Return) {
        if returned.is_failure() {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        lock(&self.returned).push(returned);
        self.open.fetch_sub(1, Ordering::AcqRel);
        if self.waiting.load(Ordering::Acquire) > 0 {
            self.bell.notify_one();
        }
    }

    /// Settles the leases that have come back.
    pub fn settle_returned(&self, now: Instant, draw: u64) {
        let returned = std::mem::take(&mut *lock(&self.returned));
        if !returned.is_empty() {
            let mut admission = self.admission();
            for returned in returned {
                returned.settle(&mut admission, now, draw);
            }
        }
    }

    /// What routing knows of it, for one model.
    pub fn vital(&self, model: &str, alive: bool, now: Instant) -> Vital {
        let mut vital = self.admission().vital(model, now);
        vital.alive = alive;
        vital.healthy = !matches!(**self.health.load(), Health::Ill(_));
        vital.open = self.open.load(Ordering::Acquire);
        vital
    }

    /// Open leases.
    pub fn open(&self) -> u32 {
        self.open.load(Ordering::Acquire)
    }

    pub(super) fn admission(&self) -> MutexGuard<'_, Admission> {
        lock(&self.admission)
    }

    pub(super) fn counts(&self) -> (u32, u64, u64) {
        let waiting = self.waiting.load(Ordering::Acquire);
        (waiting, self.attempts.load(Ordering::Relaxed), self.failures.load(Ordering::Relaxed))
    }
}

impl std::fmt::Debug for ProviderCell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProviderCell").field("id", &self.setup.load().id).finish_non_exhaustive()
    }
}

/// A holder that panicked left a whole value: every change is one assignment or none.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
