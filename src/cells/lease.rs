//! A lease: the right to make one attempt at a provider. It returns by its drop, whoever died.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ProviderCell;
use super::provider::Setup;
use super::upstream::Upstream;
use crate::config::secret::Key;
use crate::config::{Target, Timeouts};
use crate::dialect::{Fault, FaultKind, Usage};
use crate::routing::admission::{self, Ended, Grant, RefusalKind};
use crate::routing::limits::Learned;

/// Why an attempt is not admitted.
#[derive(Clone, Debug)]
pub enum Refusal {
    /// Limits, breaker, keys or embargo stand against it.
    Denied(admission::Refusal),
    /// The provider has no key: what was looked for.
    NoKey(String),
    /// It is switched off.
    Disabled,
    /// Its actor did not answer in time.
    Busy,
    /// Its actor is down, or it is being removed.
    Gone,
}

/// The right to make one attempt: the client, the key, the deadlines.
pub struct Lease {
    cell: Arc<ProviderCell>,
    setup: Arc<Setup>,
    grant: Grant,
    admitted_at: Instant,
    answered: Option<Answered>,
    outcome: Outcome,
}

/// When an upstream began to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// When the headers were there.
    pub at: Instant,
    /// How long it took to get a new connection, if none was kept.
    pub connect: Option<Duration>,
}

/// How an attempt ended, and what it showed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// How it ended; the default is that it was never sent.
    pub ended: Ended,
    /// Tokens, if the upstream said.
    pub usage: Option<Usage>,
    /// From admission to the first output.
    pub first_output: Option<Duration>,
    /// What the upstream said of its limits.
    pub learned: Option<Learned>,
}

/// What a lease has told, before the actor has taken it in.
pub(super) struct Told {
    pub(super) lease: u64,
    pub(super) what: What,
    /// The request's span, where it has one.
    pub(super) span: tracing::Span,
}

/// What a lease tells.
#[allow(clippy::large_enum_variant)] // most are the large one
pub(super) enum What {
    /// The attempt has given its first output.
    Begun,
    /// It came back.
    Ended(Outcome),
}

// === impl Lease ===

impl Lease {
    pub(super) fn new(cell: Arc<ProviderCell>, setup: Arc<Setup>, grant: Grant, now: Instant) -> Lease {
        Lease { cell, setup, grant, admitted_at: now, answered: None, outcome: Outcome::default() }
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
        #[cfg(feature = "mutants")]
        if let Some(key) = self.setup.keys.first().and_then(crate::mutants::key) {
            return Some(key);
        }
        self.setup.keys.iter().find(|key| *key.name() == self.grant.key_name)
    }

    /// The deadlines.
    pub fn timeouts(&self) -> &Timeouts {
        &self.setup.config.timeouts
    }

    /// When it was granted.
    pub fn admitted_at(&self) -> Instant {
        self.admitted_at
    }

    /// The request has been sent: from here on a drop means that the caller left.
    pub fn sent(&mut self) {
        self.outcome.ended = Ended::Abandoned;
    }

    /// The headers of the answer are there.
    pub fn answered(&mut self, answered: Answered) {
        self.answered = Some(answered);
    }

    /// When the headers of the answer were there, if they were.
    pub fn answer(&self) -> Option<Answered> {
        self.answered
    }

    /// Whether the attempt is to show that the provider is back.
    pub fn is_probe(&self) -> bool {
        self.grant.probing
    }

    /// The attempt has given its first output.
    pub fn begun(&self) {
        if self.grant.probing {
            let span = tracing::Span::current();
            self.cell.tell(Told { lease: self.grant.lease, what: What::Begun, span }, true);
        }
    }

    /// Returns the lease, and says how the attempt ended.
    pub fn settle(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Who plans the next request must see at once that a probe came back, or that something failed.
        let urgent = self.grant.probing || matches!(self.outcome.ended, Ended::Failed { .. });
        self.cell.take_back(self.grant.lease, self.outcome, urgent);
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
        let ended = Ended::Failed { kind: fault.kind, retry_after: fault.retry_after };
        Outcome { ended, ..Outcome::default() }
    }
}

// === impl Refusal ===

impl Refusal {
    /// Whether it is worth coming back to: places and limits of ours come free, and who has nobody else passes an
    /// open breaker.
    pub fn passes_soon(&self) -> bool {
        let why = match self {
            Refusal::Denied(refusal) => refusal.why,
            _ => return false,
        };
        matches!(why, RefusalKind::Full | RefusalKind::RateLimited | RefusalKind::BreakerOpen)
    }

    /// A closed vocabulary for metrics and the ledger; `Display` says it in words.
    pub fn as_str(&self) -> &'static str {
        match self {
            Refusal::Denied(_) => "not_admitted",
            Refusal::NoKey(_) => "no_key",
            Refusal::Disabled => "disabled",
            Refusal::Busy => "busy",
            Refusal::Gone => "restarting",
        }
    }

    /// As a fault, if no candidate is left.
    pub fn into_fault(self, target: &Target, now: Instant) -> Fault {
        let kind = match &self {
            Refusal::Denied(refusal) => match refusal.why {
                RefusalKind::Embargo
                | RefusalKind::RateLimited
                | RefusalKind::Full
                | RefusalKind::WaitedTooLong => FaultKind::RateLimited,
                RefusalKind::NoKeyLeft => FaultKind::Auth,
                _ => FaultKind::Overloaded,
            },
            Refusal::NoKey(_) | Refusal::Disabled => FaultKind::Auth,
            Refusal::Busy | Refusal::Gone => FaultKind::Overloaded,
        };
        let message = match &self {
            Refusal::Denied(refusal) => format!("{target}: {}", refusal.in_words(now)),
            Refusal::NoKey(looked_for) => format!("{target}: no key ({looked_for})"),
            other => format!("{target}: {other}"),
        };
        let mut fault = Fault::new(kind, message);
        fault.retry_after = match &self {
            Refusal::Denied(refusal) => match (refusal.ready_at, refusal.why) {
                (Some(at), _) => Some(at.saturating_duration_since(now)),
                // A place comes free with the next answer that ends.
                (None, RefusalKind::Full | RefusalKind::WaitedTooLong) => Some(Duration::from_secs(1)),
                (None, _) => None,
            },
            // An actor that is behind, or comes back, does so soon.
            Refusal::Busy | Refusal::Gone => Some(Duration::from_secs(1)),
            Refusal::NoKey(_) | Refusal::Disabled => None,
        };
        fault
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::Denied(refusal) => refusal.why.fmt(f),
            Refusal::NoKey(_) => f.write_str("no key"),
            Refusal::Disabled => f.write_str("disabled"),
            Refusal::Busy => f.write_str("its actor is busy"),
            Refusal::Gone => f.write_str("its actor is being restarted"),
        }
    }
}
