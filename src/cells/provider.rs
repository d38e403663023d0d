//! What survives of a provider: its setup, its admission state, its open leases, its averages, its health.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use super::lease::{Lease, Outcome, Refusal, Told, What};
use super::probe::Health;
use super::upstream::Upstream;
use crate::config::secret::Key;
use crate::config::{Auth, Provider, ProviderId};
use crate::dialect::table::Variant;
use crate::routing::admission::{
    self, Admission, Ask, Ended, Grant, KeyState, Ticket, Verdict, counted_tokens,
};
use crate::routing::invariants;
use crate::routing::table::Usable;
use crate::routing::{ErrorAverage, Latest, PeakEwma, Vital};

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
    averages: Mutex<Averages>,
    told: Mutex<Vec<Told>>,
    open: AtomicU32,
    waiting: AtomicU32,
    pub(super) attempts: AtomicU64,
    pub(super) failures: AtomicU64,
    switched_off: AtomicBool,
    bell: Notify,
    pub(super) health: ArcSwap<Health>,
}

/// How it has done lately.
#[derive(Debug, Default)]
pub(super) struct Averages {
    pub(super) latency: PeakEwma,
    pub(super) errors: ErrorAverage,
    pub(super) latest: Latest,
}

/// One whose waiting is over, and what came of it.
pub type Woken = (Ticket, Result<Lease, Refusal>);

/// The answer to a caller that wants a lease.
#[allow(clippy::large_enum_variant)] // lives for a moment, on the stack
pub enum Admitted {
    /// Here it is.
    Now(Lease),
    /// It waits under this ticket.
    Waits(Ticket),
    /// Not here, not now.
    Not(Refusal),
}

// === impl ProviderCell ===

impl ProviderCell {
    /// The cell of a new provider.
    pub fn new(setup: Setup, now: Instant) -> ProviderCell {
        let limits = setup.config.limits;
        #[cfg(feature = "mutants")]
        let limits = crate::mutants::limits(limits);
        let admission = Admission::new(limits, &setup.key_names(), now);
        ProviderCell {
            admission: Mutex::new(admission),
            setup: ArcSwap::from_pointee(setup),
            averages: Mutex::default(),
            told: Mutex::default(),
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

    /// Another setup is in force; levels, breakers and open leases are kept, limits follow.
    pub fn update(&self, setup: Setup, now: Instant) {
        self.admission().reconfigure(setup.config.limits, &setup.key_names(), now);
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

    /// A new incarnation of the actor begins.
    pub fn restarted(&self) {
        #[cfg(feature = "mutants")]
        if crate::mutants::is(crate::mutants::Mutant::BucketsRefilled) {
            let setup = self.setup();
            let now = crate::runtime::clock::now();
            *self.admission() = Admission::new(setup.config.limits, &setup.key_names(), now);
        } else if crate::mutants::is(crate::mutants::Mutant::LeasesByMessage) {
            lock(&self.told).clear();
        }
        self.admission().restarted();
        self.waiting.store(0, Ordering::Release);
    }

    /// Rung when a lease comes back while somebody waits, or with news.
    pub fn bell(&self) -> &Notify {
        &self.bell
    }

    /// Grants a lease, lets the asker wait, or refuses.
    pub fn admit(self: &Arc<Self>, ask: Ask, now: Instant, draw: u64) -> Admitted {
        match self.usable() {
            Usable::Ready => {}
            Usable::NoKey(looked_for) => return Admitted::Not(Refusal::NoKey(looked_for)),
            Usable::Disabled => return Admitted::Not(Refusal::Disabled),
            Usable::Draining => return Admitted::Not(Refusal::Gone),
        }
        let mut admission = self.admission();
        let verdict = admission.admit(ask, now, draw);
        self.waiting.store(admission.waiting(), Ordering::Release);
        if matches!(verdict, Verdict::Granted(_)) {
            self.assert_places(&admission);
        }
        drop(admission);
        match verdict {
            Verdict::Granted(grant) => Admitted::Now(self.lease(grant, now)),
            Verdict::Wait { ticket, .. } => Admitted::Waits(ticket),
            Verdict::Refused(refusal) => Admitted::Not(Refusal::Denied(refusal)),
        }
    }

    /// Those whose waiting is over, in order, and when to look again if nothing comes back before.
    pub fn wake(self: &Arc<Self>, now: Instant, draw: u64) -> (Vec<Woken>, Option<Instant>) {
        let mut admission = self.admission();
        let woken = admission.wake(now, draw);
        let next = admission.wake_at(now);
        self.waiting.store(admission.waiting(), Ordering::Release);
        if woken.iter().any(|one| one.verdict.is_ok()) {
            self.assert_places(&admission);
        }
        drop(admission);
        let lease_of = |verdict: Result<Grant, admission::Refusal>| match verdict {
            Ok(grant) => Ok(self.lease(grant, now)),
            Err(refusal) => Err(Refusal::Denied(refusal)),
        };
        (woken.into_iter().map(|one| (one.ticket, lease_of(one.verdict))).collect(), next)
    }

    /// Right behind a grant, under its lock: a reload may lower the limit below what is open.
    fn assert_places(&self, admission: &Admission) {
        let id = || self.setup.load().id.clone();
        invariants::assert(|| invariants::places(&id(), admission.open(), admission.most()));
    }

    /// One who waited has left.
    pub fn leave(&self, ticket: Ticket) {
        self.admission().leave(ticket);
    }

    fn lease(self: &Arc<Self>, grant: Grant, now: Instant) -> Lease {
        self.open.fetch_add(1, Ordering::AcqRel);
        self.attempts.fetch_add(1, Ordering::Relaxed);
        Lease::new(self.clone(), self.setup(), grant, now)
    }

    /// A lease came back. The actor settles it at its next message, or at the bell if that is urgent or somebody
    /// waits.
    pub(super) fn take_back(&self, lease: u64, outcome: Outcome, urgent: bool) {
        if matches!(outcome.ended, Ended::Failed { .. }) {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        self.open.fetch_sub(1, Ordering::AcqRel);
        self.tell(
            Told { lease, what: What::Ended(outcome), span: tracing::Span::current() },
            urgent || self.waiting.load(Ordering::Acquire) > 0,
        );
    }

    /// A lease has news, for the actor's next message, or for the bell.
    pub(super) fn tell(&self, told: Told, urgent: bool) {
        lock(&self.told).push(told);
        if urgent {
            self.bell.notify_one();
        }
    }

    /// Takes in what the leases have told, and settles those that have come back.
    pub fn settle_returned(&self, now: Instant, draw: u64) {
        let told = std::mem::take(&mut *lock(&self.told));
        if told.is_empty() {
            return;
        }
        let setup = self.setup();
        let mut admission = self.admission();
        let mut averages = lock(&self.averages);
        for Told { lease, what, span } in told {
            let _within = span.enter();
            let outcome = match what {
                What::Ended(outcome) => outcome,
                What::Begun => {
                    if admission.begun(lease, now) {
                        tracing::info!(provider = %setup.id, "breaker closed");
                    }
                    continue;
                }
            };
            match outcome.ended {
                Ended::Well => averages.errors.observe(false, now),
                Ended::Failed { .. } => averages.errors.observe(true, now),
                Ended::Unsent | Ended::Abandoned => {}
            }
            if let Some(first_output) = outcome.first_output {
                averages.latency.observe(first_output, now);
                averages.latest.observe(first_output);
            }
            let tokens = outcome.usage.map(|usage| counted_tokens(setup.config.kind, &usage));
            tracing::debug!(provider = %setup.id, ended = ?outcome.ended, tokens, "settled");
            let told = admission::Outcome { ended: outcome.ended, tokens, learned: outcome.learned };
            let settled = admission.settle(lease, told, now, draw);
            invariants::assert(|| invariants::settled(&setup.id, lease, settled.is_some()));
            if let Some(settled) = settled {
                if let Some(until) = settled.opened {
                    let seconds = until.saturating_duration_since(now).as_secs();
                    tracing::warn!(provider = %setup.id, seconds, "breaker opened");
                }
                if let Some((key, until)) = settled.key_out {
                    let seconds = until.saturating_duration_since(now).as_secs();
                    tracing::warn!(provider = %setup.id, %key, seconds, "the provider refused a key; it is left out");
                }
            }
        }
    }

    /// What routing knows of it, for one model.
    pub fn vital(&self, model: &str, alive: bool, now: Instant) -> Vital {
        let mut vital = self.admission().vital(model, now);
        vital.alive = alive;
        vital.healthy = !matches!(**self.health.load(), Health::Ill(_));
        vital.open = self.open();
        let averages = self.averages();
        vital.latency = averages.latency.get(now);
        vital.error_rate = averages.errors.rate(now);
        vital
    }

    /// The time to first output that 95 of 100 attempts do not exceed, if enough are known.
    pub fn usual_first_output(&self) -> Option<Duration> {
        self.averages().latest.p95()
    }

    /// A key that is of use now, for a request that needs no admission. `None` also where no key is needed.
    pub fn any_key(&self, now: Instant) -> Option<Key> {
        let ready = self.admission().keys(now).into_iter().find(|key| key.state == KeyState::Ready)?;
        self.setup().keys.iter().find(|key| *key.name() == ready.name).cloned()
    }

    /// Open leases.
    pub fn open(&self) -> u32 {
        self.open.load(Ordering::Acquire)
    }

    /// Places that admission holds taken, but for those of leases that have come back and are not settled yet. While
    /// nothing is in progress it is none.
    pub fn held(&self) -> u32 {
        let back = lock(&self.told).iter().filter(|told| matches!(told.what, What::Ended(_))).count();
        let returned = u32::try_from(back).unwrap_or(u32::MAX);
        self.admission().open().saturating_sub(returned)
    }

    /// Callers that wait for one.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Acquire)
    }

    pub(super) fn admission(&self) -> MutexGuard<'_, Admission> {
        lock(&self.admission)
    }

    pub(super) fn averages(&self) -> MutexGuard<'_, Averages> {
        lock(&self.averages)
    }
}

impl std::fmt::Debug for ProviderCell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProviderCell").field("id", &self.setup.load().id).finish_non_exhaustive()
    }
}

// === impl Setup ===

impl Setup {
    fn key_names(&self) -> Vec<Arc<str>> {
        self.keys.iter().map(|key| key.name().clone()).collect()
    }
}

/// A holder that panicked is contained by its actor; what it held is whole but for the change that it was at.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
