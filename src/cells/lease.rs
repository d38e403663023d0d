//! A lease: the right to make one attempt at a provider. It returns by its drop, whoever died.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ProviderCell;
use super::provider::Setup;
use super::upstream::Upstream;
use crate::config::secret::Key;
use crate::config::{Target, Timeouts};
use crate::dialect::{Fault, FaultKind, Usage};
use crate::routing::admission::{Admission, Ask, Denial, Grant, Report};
use crate::routing::limits::Learned;

/// What an attempt asks for.
#[derive(Clone, Debug)]
pub struct AdmitSpec {
    /// The model.
    pub model: Arc<str>,
    /// Tokens to reserve, by estimate.
    pub tokens: u64,
    /// The session, which keeps to its key.
    pub session: Option<Arc<str>>,
    /// How long the asker waits for a place.
    pub until: Instant,
}

/// Why an attempt is not admitted.
#[derive(Clone, Debug)]
pub enum Refusal {
    /// Limits, breaker or embargo stand against it; with the moment from which it would be admitted, if known.
    Denied(Denial),
    /// Too many wait already.
    QueueFull,
    /// The provider has no key.
    NoKey(String),
    /// The actor did not answer in time.
    Busy,
    /// The provider is gone, or its actor is down.
    Gone,
}

/// The right to make one attempt: the client, the key, the deadlines.
pub struct Lease {
    cell: Arc<ProviderCell>,
    setup: Arc<Setup>,
    grant: Option<Grant>,
    admitted_at: Instant,
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The answer ended well.
    Well {
        /// Tokens, if the upstream said.
        usage: Option<Usage>,
        /// From admission to the first output.
        first_output: Duration,
        /// What the upstream said of its limits.
        learned: Option<Learned>,
    },
    /// It failed.
    Failed {
        /// What happened.
        kind: FaultKind,
        /// How long the upstream asked us to wait.
        retry_after: Option<Duration>,
    },
    /// The caller left; says nothing of the provider.
    Left {
        /// Tokens, as far as the upstream had said.
        usage: Option<Usage>,
    },
}

/// A lease on its way back to the admission state.
pub struct Return {
    grant: Grant,
    outcome: Outcome,
}

// === impl AdmitSpec ===

impl AdmitSpec {
    pub(super) fn ask(&self) -> Ask<'_> {
        Ask { model: &self.model, tokens: self.tokens, session: self.session.as_deref() }
    }
}

// === impl Lease ===

impl Lease {
    pub(super) fn new(cell: Arc<ProviderCell>, setup: Arc<Setup>, grant: Grant, now: Instant) -> Lease {
        Lease { cell, setup, grant: Some(grant), admitted_at: now }
    }

    /// The provider's setup at the moment of admission.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// The way to the network.
    pub fn upstream(&self) -> &Arc<dyn Upstream> {
        &self.setup.upstream
    }

    /// The key to use, if the provider has keys.
    pub fn key(&self) -> Option<&Key> {
        self.setup.keys.get(self.grant.as_ref()?.key?)
    }

    /// The deadlines.
    pub fn timeouts(&self) -> &Timeouts {
        &self.setup.config.timeouts
    }

    /// When it was granted.
    pub fn admitted_at(&self) -> Instant {
        self.admitted_at
    }

    /// Returns the lease, and says how the attempt ended.
    pub fn settle(mut self, outcome: Outcome) {
        self.give_back(outcome);
    }

    fn give_back(&mut self, outcome: Outcome) {
        if let Some(grant) = self.grant.take() {
            self.cell.take_back(Return { grant, outcome });
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.give_back(Outcome::Left { usage: None });
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").field("provider", &self.setup.id).finish_non_exhaustive()
    }
}

// === impl Outcome ===

impl Outcome {
    /// The attempt failed with this fault.
    pub fn failed(fault: &Fault) -> Outcome {
        Outcome::Failed { kind: fault.kind, retry_after: fault.retry_after }
    }
}

// === impl Return ===

impl Return {
    pub(super) fn is_failure(&self) -> bool {
        matches!(self.outcome, Outcome::Failed { .. })
    }

    pub(super) fn settle(self, admission: &mut Admission, now: Instant, draw: u64) {
        let report = match self.outcome {
            Outcome::Well { usage, first_output, learned } => Report::Well { tokens: usage.map(|usage| usage.total()), first_output, learned },
            Outcome::Failed { kind, retry_after } => Report::Failed { kind, retry_after },
            Outcome::Left { usage } => Report::Left { tokens: usage.map(|usage| usage.total()) },
        };
        admission.settle(self.grant, report, now, draw);
    }
}

// === impl Refusal ===

impl Refusal {
    /// The moment from which the attempt would be admitted, if it is known.
    pub fn ready_at(&self) -> Option<Instant> {
        match self {
            Refusal::Denied(denial) => denial.ready_at,
            _ => None,
        }
    }

    /// Whether waiting until `until` may help.
    pub fn passes_before(&self, until: Instant) -> bool {
        match self {
            Refusal::Denied(denial) => denial.worth_waiting(until),
            _ => false,
        }
    }

    /// As a fault, if no candidate is left.
    pub fn into_fault(self, target: &Target, now: Instant) -> Fault {
        let (kind, message) = match &self {
            Refusal::Denied(denial) => (FaultKind::RateLimited, format!("{target}: {denial}")),
            Refusal::QueueFull => (FaultKind::Overloaded, format!("{target}: too many requests wait for a place already")),
            Refusal::NoKey(looked_for) => (FaultKind::Auth, format!("{target}: no key ({looked_for})")),
            Refusal::Busy => (FaultKind::Overloaded, format!("{target}: its actor is busy")),
            Refusal::Gone => (FaultKind::Overloaded, format!("{target}: its actor is being restarted")),
        };
        let mut fault = Fault::new(kind, message);
        fault.retry_after = self.ready_at().map(|at| at.saturating_duration_since(now));
        fault
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::Denied(denial) => denial.fmt(f),
            Refusal::QueueFull => f.write_str("queue full"),
            Refusal::NoKey(_) => f.write_str("no key"),
            Refusal::Busy => f.write_str("busy"),
            Refusal::Gone => f.write_str("restarting"),
        }
    }
}
