//! What a fault leads to: one exhaustive match for its kind, and the next step of a request in its situation.

use std::time::Duration;

use crate::dialect::{Fault, FaultKind};

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

/// How a request stands when an attempt has failed before the commit point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Situation {
    /// Whether another candidate stands free.
    pub others: bool,
    /// Whether there is another candidate, if only one with something against it at this moment.
    pub last_resorts: bool,
    /// Whether the provider has a key that this request has not tried.
    pub other_keys: bool,
    /// Retries left on this candidate.
    pub retries_left: u32,
    /// Whether an attempt that may have run (and been billed) is made again.
    pub retry_ambiguous: bool,
    /// The wait before a retry that nobody asked for (see [`backoff`](super::backoff)).
    pub backoff: Duration,
    /// The longest that the request may wait: what is left of its deadline, or of `max_wait`.
    pub patience: Duration,
}

/// The next step of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The same candidate again, after this wait.
    Again(Duration),
    /// The same provider with another key, at once.
    OtherKey,
    /// The next candidate, at once.
    NextCandidate,
    /// The next candidate that may hold a longer input.
    LargerWindow,
    /// Answer with the error.
    Stop,
}

/// The treatment of a fault of this kind.
///
/// A caller's fault and a refusal of the content are answered as they are: another provider would say the same,
/// or should not be made to say something else. A 404 may be a matter of names only, so it is no failure.
pub fn treatment(kind: FaultKind) -> Treatment {
    use FaultKind::*;
    let (next, blame) = match kind {
        RateLimited => (Next::RotateKey, Blame::Embargo),
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

/// The next step after a fault before the commit point.
///
/// A wait that the upstream asks for is kept when the request comes back to it, and taken only when it is short,
/// or when there is nobody else and the request has the patience.
pub fn step(fault: &Fault, situation: &Situation) -> Step {
    if fault.ambiguous && !situation.retry_ambiguous {
        return Step::Stop;
    }
    let anybody = situation.others || situation.last_resorts;
    let elsewhere = if anybody { Step::NextCandidate } else { Step::Stop };
    let again = {
        let wait = fault.retry_after.unwrap_or(Duration::ZERO).max(situation.backoff);
        // With others at hand it is not worth waiting longer than for a retry of our own.
        let most = if situation.others { situation.backoff.max(SHORT_WAIT) } else { situation.patience };
        (situation.retries_left > 0 && wait <= most.min(situation.patience)).then_some(Step::Again(wait))
    };
    match treatment(fault.kind).next {
        Next::RetryHere => again.unwrap_or(elsewhere),
        Next::RotateKey if situation.other_keys => Step::OtherKey,
        Next::RotateKey if fault.kind == FaultKind::RateLimited && !situation.others => {
            again.unwrap_or(elsewhere)
        }
        // Cut, empty or garbled: rather another provider, but where none stands free it may have been chance.
        Next::NextCandidate if fault.kind == FaultKind::Protocol && !situation.others => {
            again.unwrap_or(elsewhere)
        }
        Next::RotateKey | Next::NextCandidate => elsewhere,
        Next::LargerWindow if anybody => Step::LargerWindow,
        Next::LargerWindow | Next::Stop => Step::Stop,
    }
}

/// A wait that is taken even where another candidate stands by.
const SHORT_WAIT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::dialect::Phase;

    const SITUATION: Situation = Situation {
        others: true,
        last_resorts: true,
        other_keys: false,
        retries_left: 2,
        retry_ambiguous: true,
        backoff: Duration::from_millis(100),
        patience: Duration::from_secs(30),
    };

    fn fault(kind: FaultKind) -> Fault {
        Fault::new(kind, "")
    }

    fn after(kind: FaultKind, retry_after: u64) -> Fault {
        Fault { retry_after: Some(Duration::from_secs(retry_after)), ..fault(kind) }
    }

    #[test]
    fn a_callers_fault_and_a_policy_are_answered_and_blamed_on_nobody() {
        for kind in [FaultKind::Caller, FaultKind::ContentPolicy] {
            assert_eq!(treatment(kind).blame, Blame::None);
            assert_eq!(step(&fault(kind), &Situation { other_keys: true, ..SITUATION }), Step::Stop);
        }
        for kind in [FaultKind::ModelNotFound, FaultKind::ContextLength] {
            assert_eq!(treatment(kind).blame, Blame::None);
        }
    }

    #[test]
    fn a_too_long_input_goes_only_to_a_larger_window() {
        assert_eq!(step(&fault(FaultKind::ContextLength), &SITUATION), Step::LargerWindow);
        let alone = Situation { others: false, last_resorts: false, ..SITUATION };
        assert_eq!(step(&fault(FaultKind::ContextLength), &alone), Step::Stop);
    }

    #[test]
    fn a_refused_key_is_changed_before_the_provider_is() {
        for kind in [FaultKind::Auth, FaultKind::Permission, FaultKind::Billing, FaultKind::RateLimited] {
            assert_eq!(step(&fault(kind), &Situation { other_keys: true, ..SITUATION }), Step::OtherKey);
            assert_eq!(step(&fault(kind), &SITUATION), Step::NextCandidate);
        }
        let alone = Situation { others: false, last_resorts: false, ..SITUATION };
        assert_eq!(step(&fault(FaultKind::Auth), &alone), Step::Stop);
    }

    #[test]
    fn a_rate_limit_is_waited_for_only_where_nobody_else_is_there() {
        let alone = Situation { others: false, last_resorts: false, ..SITUATION };
        assert_eq!(step(&after(FaultKind::RateLimited, 5), &SITUATION), Step::NextCandidate);
        let five = Step::Again(Duration::from_secs(5));
        assert_eq!(step(&after(FaultKind::RateLimited, 5), &alone), five);
        assert_eq!(step(&after(FaultKind::RateLimited, 60), &alone), Step::Stop);
    }

    #[test]
    fn what_passes_is_retried_here_if_the_wait_is_short() {
        let short = Step::Again(Duration::from_millis(100));
        for kind in [FaultKind::ServerError, FaultKind::Network, FaultKind::Overloaded] {
            assert_eq!(step(&fault(kind), &SITUATION), short);
            assert_eq!(step(&after(kind, 20), &SITUATION), Step::NextCandidate);
            let tired = Situation { retries_left: 0, ..SITUATION };
            assert_eq!(step(&fault(kind), &tired), Step::NextCandidate);
        }
        assert_eq!(step(&fault(FaultKind::Timeout(Phase::FirstOutput)), &SITUATION), Step::NextCandidate);
    }

    #[test]
    fn an_answer_that_is_cut_goes_to_another_and_is_retried_here_where_nobody_else_is_free() {
        let cut = Fault { ambiguous: true, ..fault(FaultKind::Protocol) };
        assert_eq!(step(&cut, &SITUATION), Step::NextCandidate);
        let alone = Situation { others: false, last_resorts: false, ..SITUATION };
        assert_eq!(step(&cut, &alone), Step::Again(Duration::from_millis(100)));
        assert_eq!(step(&cut, &Situation { retries_left: 0, ..alone }), Step::Stop);
        assert_eq!(step(&cut, &Situation { retry_ambiguous: false, ..alone }), Step::Stop);
        let resorts = Situation { last_resorts: true, retries_left: 0, ..alone };
        assert_eq!(step(&cut, &resorts), Step::NextCandidate);
    }

    #[test]
    fn what_may_have_run_is_made_again_only_if_allowed() {
        let lost = Fault { ambiguous: true, ..fault(FaultKind::Network) };
        assert_eq!(step(&lost, &Situation { retry_ambiguous: false, ..SITUATION }), Step::Stop);
        assert!(matches!(step(&lost, &SITUATION), Step::Again(_)));
    }

    proptest! {
        #[test]
        fn no_wait_exceeds_the_patience(
            kind in prop_oneof![
                Just(FaultKind::RateLimited), Just(FaultKind::Overloaded), Just(FaultKind::Network),
                Just(FaultKind::Auth), Just(FaultKind::Protocol),
            ],
            asked in proptest::option::of(any::<u32>()),
            flags in any::<[bool; 3]>(),
            retries_left in 0..3u32,
            millis in any::<[u16; 2]>(),
        ) {
            let situation = Situation {
                others: flags[0],
                other_keys: flags[1],
                last_resorts: flags[2],
                retries_left,
                backoff: Duration::from_millis(millis[0].into()),
                patience: Duration::from_millis(millis[1].into()),
                ..SITUATION
            };
            let fault = Fault { retry_after: asked.map(|ms| Duration::from_millis(ms.into())), ..fault(kind) };
            match step(&fault, &situation) {
                Step::Again(wait) => {
                    prop_assert!(wait <= situation.patience && retries_left > 0);
                    prop_assert!(fault.retry_after.is_none_or(|asked| wait >= asked));
                }
                Step::NextCandidate | Step::LargerWindow => {
                    prop_assert!(situation.others || situation.last_resorts);
                }
                Step::OtherKey => prop_assert!(situation.other_keys),
                Step::Stop => {}
            }
        }
    }
}
