//! What a fault leads to: one exhaustive match.

use crate::dialect::FaultKind;

/// What to do next, and what it says of the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Treatment {
    /// What the request does next.
    pub next: Next,
    /// What the breaker learns of it.
    pub blame: Blame,
}

/// What the request does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Wait a little and try the same candidate again, while its retries last; then the next.
    RetryHere,
    /// Try the same provider with another key; without one, the next candidate.
    RotateKey,
    /// Go to the next candidate.
    NextCandidate,
    /// Go to the next candidate whose context window is larger.
    LargerWindow,
    /// Answer with the error: nobody would do better.
    Stop,
}

/// What the breaker learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// Nothing.
    None,
    /// A failure.
    Failure,
    /// The key is of no use.
    Key,
    /// Not a failure, but ask no more until the moment that the upstream named.
    Embargo,
}

/// The treatment of a fault of this kind.
pub fn treatment(kind: FaultKind) -> Treatment {
    use FaultKind::*;
    let (next, blame) = match kind {
        RateLimited => (Next::NextCandidate, Blame::Embargo),
        Overloaded => (Next::RetryHere, Blame::Failure),
        ServerError => (Next::RetryHere, Blame::Failure),
        Timeout(_) => (Next::NextCandidate, Blame::Failure),
        Network => (Next::RetryHere, Blame::Failure),
        Auth | Permission | Billing => (Next::RotateKey, Blame::Key),
        ModelNotFound => (Next::NextCandidate, Blame::None),
        ContextLength => (Next::LargerWindow, Blame::None),
        ContentPolicy | Caller => (Next::Stop, Blame::None),
        Protocol => (Next::NextCandidate, Blame::Failure),
    };
    Treatment { next, blame }
}
