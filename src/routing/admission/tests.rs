#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use proptest::prelude::*;

use super::*;
use crate::dialect::FaultKind;
use crate::routing::limits::{Learned, Window};

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn names(names: &[&str]) -> Vec<Arc<str>> {
    names.iter().map(|name| Arc::from(*name)).collect()
}

fn ask(now: Instant) -> Ask {
    Ask {
        model: Arc::from("m"),
        tokens: 100,
        session: None,
        key: None,
        tried: Vec::new(),
        last_resort: false,
        deadline: now,
    }
}

fn waiting(now: Instant, wait: u64) -> Ask {
    Ask { deadline: now + secs(wait), ..ask(now) }
}

fn granted(verdict: Verdict) -> Grant {
    match verdict {
        Verdict::Granted(grant) => grant,
        other => panic!("not granted: {other:?}"),
    }
}

fn refused(verdict: Verdict) -> Refusal {
    match verdict {
        Verdict::Refused(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

fn ticket(verdict: Verdict) -> Ticket {
    match verdict {
        Verdict::Wait { ticket, .. } => ticket,
        other => panic!("does not wait: {other:?}"),
    }
}

fn failed(kind: FaultKind, retry_after: Option<u64>) -> Outcome {
    Outcome { ended: Ended::Failed { kind, retry_after: retry_after.map(secs) }, ..Outcome::default() }
}

fn well(tokens: u64) -> Outcome {
    Outcome { ended: Ended::Well, tokens: Some(tokens), learned: None }
}

fn places(max_concurrent: u32) -> Limits {
    Limits { max_concurrent: Some(max_concurrent), ..Limits::default() }
}

#[test]
fn of_n_at_once_exactly_k_are_admitted_across_a_restart_too() {
    let now = Instant::now();
    let mut admission = Admission::new(places(5), &[], now);
    let grants: Vec<_> = (0..20)
        .filter_map(|n| {
            if n == 10 {
                admission.restarted();
            }
            match admission.admit(ask(now), now, 0) {
                Verdict::Granted(grant) => Some(grant),
                _ => None,
            }
        })
        .collect();
    assert_eq!(grants.len(), 5);
    assert_eq!(refused(admission.admit(ask(now), now, 0)).why, RefusalKind::Full);
    for grant in &grants {
        assert!(admission.settle(grant.lease, well(1), now, 0).is_some());
        assert!(admission.settle(grant.lease, well(1), now, 0).is_none(), "a second time does nothing");
    }
    assert_eq!(admission.open(), 0);
}

#[test]
fn those_who_wait_go_on_in_the_order_of_arrival_and_nobody_overtakes() {
    let now = Instant::now();
    let mut admission = Admission::new(places(1), &[], now);
    let first = granted(admission.admit(waiting(now, 10), now, 0));
    let a = ticket(admission.admit(waiting(now, 10), now, 0));
    let b = ticket(admission.admit(waiting(now, 10), now, 0));
    assert_eq!(admission.wake(now, 0), []);
    admission.settle(first.lease, well(1), now, 0);
    // The place is free, but it belongs to the one in front.
    let c = ticket(admission.admit(waiting(now, 10), now, 0));
    assert_eq!(admission.wake_at(now), Some(now));
    let woken = admission.wake(now, 0);
    assert_eq!(woken.iter().map(|woken| woken.ticket).collect::<Vec<_>>(), [a]);
    let second = woken[0].verdict.clone().unwrap();
    admission.leave(b);
    admission.settle(second.lease, well(1), now, 0);
    let woken = admission.wake(now, 0);
    assert_eq!(woken[0].ticket, c);
    assert_eq!(admission.waiting(), 0);
    assert_eq!(admission.wake_at(now), None);
}

#[test]
fn waiting_is_bounded_in_number_and_time() {
    let now = Instant::now();
    let limits = Limits { max_waiting: Some(2), ..places(1) };
    let mut admission = Admission::new(limits, &[], now);
    granted(admission.admit(ask(now), now, 0));
    let a = ticket(admission.admit(waiting(now, 3), now, 0));
    let b = ticket(admission.admit(waiting(now, 5), now, 0));
    assert_eq!(refused(admission.admit(waiting(now, 5), now, 0)).why, RefusalKind::Full);
    assert_eq!(admission.wake_at(now), Some(now + secs(3)));
    let woken = admission.wake(now + secs(3), 0);
    assert_eq!(woken.len(), 1);
    assert_eq!((woken[0].ticket, woken[0].verdict.clone().unwrap_err().why), (a, RefusalKind::WaitedTooLong));
    assert_eq!(admission.wake(now + secs(5), 0)[0].ticket, b);
}

#[test]
fn a_bucket_says_when_it_is_ready_and_who_cannot_wait_so_long_is_refused() {
    let now = Instant::now();
    let limits = Limits { requests_per_minute: Some(2), ..Limits::default() };
    let mut admission = Admission::new(limits, &[], now);
    granted(admission.admit(ask(now), now, 0));
    granted(admission.admit(ask(now), now, 0));
    let refusal = refused(admission.admit(waiting(now, 10), now, 0));
    assert_eq!(refusal.why, RefusalKind::RateLimited);
    assert_eq!(refusal.in_words(now), "its configured rate limit is used up; ready in 31 s");
    let ticket = ticket(admission.admit(waiting(now, 60), now, 0));
    let at = admission.wake_at(now).unwrap();
    assert!(at > now + secs(29) && at < now + secs(32));
    let woken = admission.wake(at, 0);
    assert_eq!(woken[0].ticket, ticket);
    assert!(woken[0].verdict.is_ok());
}

#[test]
fn tokens_are_reserved_by_estimate_and_settled_by_use() {
    let now = Instant::now();
    let limits = Limits { tokens_per_minute: Some(1000), ..Limits::default() };
    let level = |admission: &Admission| admission.buckets(now)[0].1;
    let mut admission = Admission::new(limits, &[], now);
    let go = |admission: &mut Admission| granted(admission.admit(ask(now), now, 0)).lease;
    let lease = go(&mut admission);
    assert_eq!(level(&admission), 900.0);
    admission.settle(lease, well(350), now, 0);
    assert_eq!(level(&admission), 650.0);
    let lease = go(&mut admission);
    admission.settle(lease, Outcome::default(), now, 0);
    assert_eq!(level(&admission), 650.0, "what was never sent is given back");
    let lease = go(&mut admission);
    admission.settle(lease, failed(FaultKind::Network, None), now, 0);
    assert_eq!(level(&admission), 550.0, "what may have run is not");
    let lease = go(&mut admission);
    admission.settle(lease, failed(FaultKind::RateLimited, Some(0)), now, 0);
    assert_eq!(level(&admission), 550.0);
    let huge = Ask { tokens: 1_000_000, ..ask(now) };
    let refusal = refused(admission.admit(huge.clone(), now, 0));
    let later = refusal.ready_at.unwrap();
    assert!(later < now + secs(30), "a full bucket will do for a request that is larger than it");
    granted(admission.admit(huge, later, 0));
}

#[test]
fn three_failures_open_the_breaker_of_that_model_alone() {
    let now = Instant::now();
    let mut admission = Admission::new(Limits::default(), &[], now);
    let mut opened = None;
    for _ in 0..3 {
        let grant = granted(admission.admit(ask(now), now, 0));
        let fault = failed(FaultKind::ServerError, None);
        opened = admission.settle(grant.lease, fault, now, 0).unwrap().opened;
    }
    let until = opened.unwrap();
    let refusal = refused(admission.admit(ask(now), now, 0));
    assert_eq!(refusal, Refusal { why: RefusalKind::BreakerOpen, ready_at: Some(until) });
    assert_eq!(admission.vital("m", now).open_until, Some(until));
    granted(admission.admit(Ask { model: Arc::from("other"), ..ask(now) }, now, 0));

    // One probe goes; others may wait for what it finds.
    let probe = granted(admission.admit(ask(until), until, 0));
    assert!(probe.probing);
    assert_eq!(refused(admission.admit(ask(until), until, 0)).why, RefusalKind::BreakerOpen);
    let ticket = ticket(admission.admit(waiting(until, 5), until, 0));
    assert!(admission.settle(probe.lease, well(1), until, 0).unwrap().closed);
    assert_eq!(admission.wake(until, 0)[0].ticket, ticket);
}

#[test]
fn who_has_nobody_else_passes_an_open_breaker_and_its_success_closes_it() {
    let now = Instant::now();
    let mut admission = Admission::new(places(3), &[], now);
    for _ in 0..3 {
        let grant = granted(admission.admit(ask(now), now, 0));
        admission.settle(grant.lease, failed(FaultKind::ServerError, None), now, 0);
    }
    let last = Ask { last_resort: true, ..ask(now) };
    assert_eq!(refused(admission.admit(ask(now), now, 0)).why, RefusalKind::BreakerOpen);
    let trials: Vec<_> = (0..3).map(|_| granted(admission.admit(last.clone(), now, 0))).collect();
    assert!(trials.iter().all(|trial| trial.probing));
    assert_eq!(refused(admission.admit(last.clone(), now, 0)).why, RefusalKind::Full, "its places hold");
    let until = admission.vital("m", now).open_until;
    admission.settle(trials[0].lease, failed(FaultKind::ServerError, None), now, 0);
    assert_eq!(admission.vital("m", now).open_until, until, "a trial that fails changes nothing");
    assert!(admission.begun(trials[1].lease, now), "its first output shows that the upstream is back");
    assert_eq!(admission.vital("m", now).open_until, None);
    granted(admission.admit(ask(now), now, 0));
    admission.settle(trials[1].lease, well(1), now, 0);
    admission.settle(trials[2].lease, failed(FaultKind::ServerError, None), now, 0);
    assert_eq!(admission.breakers(now), [], "one failure opens nothing");
}

#[test]
fn who_has_nobody_else_still_leaves_alone_who_asked_for_it() {
    let now = Instant::now();
    let mut admission = Admission::new(Limits::default(), &[], now);
    for _ in 0..3 {
        let grant = granted(admission.admit(ask(now), now, 0));
        admission.settle(grant.lease, failed(FaultKind::ServerError, Some(20)), now, 0);
        if admission.vital("m", now).embargo_until.is_some() {
            break;
        }
    }
    let last = Ask { last_resort: true, ..ask(now) };
    let refusal = refused(admission.admit(last.clone(), now, 0));
    assert_eq!(refusal, Refusal { why: RefusalKind::Embargo, ready_at: Some(now + secs(20)) });
    ticket(admission.admit(Ask { deadline: now + secs(30), ..last }, now, 0));
}

#[test]
fn a_dropped_probe_lets_the_next_one_go() {
    let now = Instant::now();
    let mut admission = Admission::new(Limits::default(), &[], now);
    for _ in 0..3 {
        let grant = granted(admission.admit(ask(now), now, 0));
        admission.settle(grant.lease, failed(FaultKind::Protocol, None), now, 0);
    }
    let later = now + secs(20);
    for _ in 0..3 {
        let probe = granted(admission.admit(ask(later), later, 0));
        assert!(probe.probing);
        admission.settle(probe.lease, Outcome { ended: Ended::Abandoned, ..Outcome::default() }, later, 0);
    }
}

#[test]
fn callers_faults_and_rate_limits_never_open_the_breaker() {
    let now = Instant::now();
    let mut admission = Admission::new(Limits::default(), &[], now);
    for kind in
        [FaultKind::Caller, FaultKind::ContentPolicy, FaultKind::ContextLength, FaultKind::ModelNotFound]
    {
        for _ in 0..20 {
            let grant = granted(admission.admit(ask(now), now, 0));
            let settled = admission.settle(grant.lease, failed(kind, None), now, 0).unwrap();
            assert_eq!(settled, Settled::default());
        }
    }
    let mut at = now;
    for _ in 0..20 {
        let grant = granted(admission.admit(ask(at), at, 0));
        admission.settle(grant.lease, failed(FaultKind::RateLimited, None), at, 0);
        let refusal = refused(admission.admit(ask(at), at, 0));
        assert_eq!(refusal.why, RefusalKind::Embargo);
        assert!(refusal.ready_at.unwrap() <= at + secs(60));
        at = refusal.ready_at.unwrap();
    }
    assert!(admission.breakers(at).is_empty());
}

#[test]
fn a_rate_limited_key_cools_down_for_its_model_and_another_takes_over() {
    let now = Instant::now();
    let mut admission = Admission::new(Limits::default(), &names(&["A", "B"]), now);
    let first = granted(admission.admit(ask(now), now, 0));
    assert_eq!(&*first.key_name, "A");
    admission.settle(first.lease, failed(FaultKind::RateLimited, Some(30)), now, 0);
    for _ in 0..3 {
        assert_eq!(&*granted(admission.admit(ask(now), now, 0)).key_name, "B");
    }
    let other = Ask { model: Arc::from("other"), key: Some(Arc::from("A")), ..ask(now) };
    assert_eq!(&*granted(admission.admit(other, now, 0)).key_name, "A");
    assert_eq!(admission.keys(now)[0].state, KeyState::Cooling(now + secs(30)));
    let second = granted(admission.admit(ask(now), now, 0));
    admission.settle(second.lease, failed(FaultKind::RateLimited, Some(10)), now, 0);
    let refusal = refused(admission.admit(ask(now), now, 0));
    assert_eq!(refusal, Refusal { why: RefusalKind::Embargo, ready_at: Some(now + secs(10)) });
    assert_eq!(admission.vital("m", now).embargo_until, Some(now + secs(10)));
}

#[test]
fn a_refused_key_is_taken_out_and_named_until_the_config_brings_it_anew() {
    let now = Instant::now();
    let mut admission = Admission::new(Limits::default(), &names(&["A", "B"]), now);
    let first = granted(admission.admit(ask(now), now, 0));
    let settled = admission.settle(first.lease, failed(FaultKind::Auth, None), now, 0).unwrap();
    assert_eq!(settled.key_out, Some((Arc::from("A"), now + secs(1800))));
    for _ in 0..3 {
        assert_eq!(&*granted(admission.admit(ask(now), now, 0)).key_name, "B");
    }
    let tried = Ask { tried: names(&["B"]), ..waiting(now, 10) };
    let refusal = refused(admission.admit(tried.clone(), now, 0));
    assert_eq!(refusal.why, RefusalKind::Embargo, "A may be tried again, much later");
    let all = Ask { tried: names(&["A", "B"]), ..tried };
    assert_eq!(refused(admission.admit(all, now, 0)).why, RefusalKind::NoKeyLeft);
    admission.reconfigure(Limits::default(), &names(&["A", "B", "C"]), now);
    assert!(admission.keys(now).iter().all(|key| key.state == KeyState::Ready));
    // Without a pool there is no key to take out.
    let mut keyless = Admission::new(Limits::default(), &[], now);
    let grant = granted(keyless.admit(ask(now), now, 0));
    assert_eq!(keyless.settle(grant.lease, failed(FaultKind::Auth, None), now, 0), Some(Settled::default()));
    granted(keyless.admit(ask(now), now, 0));
}

#[test]
fn a_session_keeps_its_key_and_sessions_spread_over_keys() {
    let now = Instant::now();
    let mut admission = Admission::new(Limits::default(), &names(&["A", "B", "C"]), now);
    let mut count = [0; 3];
    for n in 0..300 {
        let of = Ask { session: Some(Arc::from(format!("session-{n}"))), ..ask(now) };
        let first = granted(admission.admit(of.clone(), now, 0)).key;
        assert_eq!(granted(admission.admit(of.clone(), now, 0)).key, first);
        let home = Ask { key: Some(Arc::from("C")), ..of };
        assert_eq!(&*granted(admission.admit(home, now, 0)).key_name, "C");
        count[first] += 1;
    }
    assert!(count.iter().all(|count| *count > 60), "{count:?}");
}

#[test]
fn what_an_answer_says_of_the_limits_holds_for_its_key() {
    let now = Instant::now();
    let mut admission = Admission::new(Limits::default(), &names(&["A", "B"]), now);
    let first = granted(admission.admit(ask(now), now, 0));
    let window = Window { limit: Some(60), remaining: Some(0), reset: Some(secs(60)), daily: false };
    let learned = Some(Learned { requests: Some(window), tokens: None });
    admission.settle(first.lease, Outcome { learned, ..well(10) }, now, 0);
    for _ in 0..3 {
        assert_eq!(&*granted(admission.admit(ask(now), now, 0)).key_name, "B");
    }
    let only_a = Ask { tried: names(&["B"]), ..ask(now) };
    let refusal = refused(admission.admit(only_a.clone(), now, 0));
    let ready = refusal.ready_at.unwrap();
    assert!(ready <= now + Duration::from_millis(1100), "one of sixty a minute comes back each second");
    granted(admission.admit(only_a, ready, 0));
}

#[test]
fn while_draining_nobody_comes_in_and_those_who_wait_are_sent_on() {
    let now = Instant::now();
    let mut admission = Admission::new(places(1), &[], now);
    granted(admission.admit(ask(now), now, 0));
    let ticket = ticket(admission.admit(waiting(now, 5), now, 0));
    admission.drain(true);
    assert_eq!(refused(admission.admit(ask(now), now, 0)).why, RefusalKind::Draining);
    let woken = admission.wake(now, 0);
    assert_eq!((woken[0].ticket, woken[0].verdict.clone().unwrap_err().why), (ticket, RefusalKind::Draining));
}

#[test]
fn names_of_models_from_callers_do_not_pile_up() {
    let now = Instant::now();
    let mut admission = Admission::new(Limits::default(), &[], now);
    for n in 0..2000 {
        let of = Ask { model: Arc::from(n.to_string()), ..ask(now) };
        for _ in 0..3 {
            if let Verdict::Granted(grant) = admission.admit(of.clone(), now, 0) {
                let kind = if n % 2 == 0 { FaultKind::ServerError } else { FaultKind::RateLimited };
                admission.settle(grant.lease, failed(kind, None), now, 0);
            }
        }
    }
    assert!(admission.models.len() <= MOST_MODELS);
    assert_eq!(admission.open(), 0);
}

proptest! {
    /// Whatever happens in whichever order: never more open than places, no more requests than the bucket
    /// gives, every waiter hears exactly once, places come back, and who waits longest goes first.
    #[test]
    fn limits_hold_and_nobody_is_forgotten(
        most in 1..5u32,
        per_minute in proptest::option::of(1..30u32),
        steps in proptest::collection::vec((0..8u8, 0..3000u64, any::<u64>()), 1..300),
    ) {
        let start = Instant::now();
        let mut now = start;
        let limits = Limits {
            max_concurrent: Some(most), requests_per_minute: per_minute, max_waiting: Some(8), ..Limits::default()
        };
        let mut admission = Admission::new(limits, &names(&["A", "B"]), now);
        let mut open: Vec<u64> = Vec::new();
        let mut waits: Vec<Ticket> = Vec::new();
        let mut unsent = 0u32;
        let mut grants = 0u32;
        for (what, wait, draw) in steps {
            now += Duration::from_millis(wait);
            match what {
                0..=3 => match admission.admit(
                    Ask { last_resort: draw.is_multiple_of(3), ..waiting(now, draw % 20) },
                    now,
                    draw,
                ) {
                    Verdict::Granted(grant) => { open.push(grant.lease); grants += 1 }
                    Verdict::Wait { ticket, .. } => waits.push(ticket),
                    Verdict::Refused(_) => {}
                },
                4..=5 if !open.is_empty() => {
                    let lease = open.swap_remove((draw as usize) % open.len());
                    let outcome = match draw % 5 {
                        0 => { unsent += 1; Outcome::default() }
                        1 => Outcome { ended: Ended::Abandoned, ..Outcome::default() },
                        2 => failed(FaultKind::ServerError, None),
                        3 => failed(FaultKind::RateLimited, Some(2)),
                        _ => well(10),
                    };
                    prop_assert!(admission.settle(lease, outcome, now, draw).is_some());
                }
                6 if !waits.is_empty() => {
                    let ticket = waits.remove((draw as usize) % waits.len());
                    admission.leave(ticket);
                }
                _ => {}
            }
            let mut last = None;
            for woken in admission.wake(now, draw) {
                let at = waits.iter().position(|ticket| *ticket == woken.ticket);
                prop_assert!(at.is_some(), "woken once, and not after leaving");
                waits.remove(at.unwrap());
                if let Ok(grant) = woken.verdict {
                    prop_assert!(last < Some(woken.ticket), "in the order of arrival");
                    last = Some(woken.ticket);
                    open.push(grant.lease);
                    grants += 1;
                }
            }
            prop_assert!(open.len() as u32 <= most);
            prop_assert_eq!(admission.open(), open.len() as u32);
            prop_assert_eq!(admission.waiting() as usize, waits.len());
            prop_assert_eq!(admission.wake_at(now).is_some(), !waits.is_empty());
            prop_assert!(admission.wake_at(now).is_none_or(|at| at > now), "no busy waiting");
            if let Some(rate) = per_minute {
                let flowed = f64::from(rate) * (1.0 + (now - start).as_secs_f64() / 60.0) + f64::from(unsent);
                prop_assert!(f64::from(grants) <= flowed + 1e-3);
            }
        }
        for lease in open {
            admission.settle(lease, well(1), now, 0);
        }
        // Everyone is told in the end.
        let end = now + secs(30);
        while let Some(woken) = admission.wake(end, 0).into_iter().next() {
            if let Ok(grant) = woken.verdict {
                admission.settle(grant.lease, well(1), end, 0);
            }
        }
        prop_assert_eq!(admission.waiting(), 0);
    }
}
