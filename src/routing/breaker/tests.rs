#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use std::collections::HashSet;

use proptest::prelude::*;

use super::BreakerEvent::{Failure, Neutral, Success};
use super::*;

/// Somebody who could also go elsewhere.
const ASK: BreakerEvent = BreakerEvent::Ask { last_resort: false };
/// Somebody who has nobody else.
const LAST: BreakerEvent = BreakerEvent::Ask { last_resort: true };

fn failure(breaker: &mut Breaker, now: Instant) -> BreakerEffects {
    breaker.on(Failure { probe: None, retry_after: None }, now, u64::MAX / 2)
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Opens a new breaker by three failures.
fn open(now: Instant) -> (Breaker, Instant) {
    let mut breaker = Breaker::default();
    failure(&mut breaker, now);
    failure(&mut breaker, now);
    let until = failure(&mut breaker, now).opened.unwrap();
    (breaker, until)
}

#[test]
fn three_failures_in_a_row_open_it_for_about_fifteen_seconds() {
    let now = Instant::now();
    let (mut breaker, until) = open(now);
    assert!(until > now + Duration::from_millis(13_400) && until < now + Duration::from_millis(16_600));
    assert!(!breaker.on(ASK, now + secs(1), 0).admitted);
    assert_eq!(breaker.state(now), BreakerState::Open { until });
}

#[test]
fn two_failures_and_a_success_do_not() {
    let now = Instant::now();
    let mut breaker = Breaker::default();
    for _ in 0..2 {
        failure(&mut breaker, now);
        failure(&mut breaker, now);
        for _ in 0..5 {
            breaker.on(Success { probe: None }, now, 0);
        }
    }
    assert_eq!(breaker.state(now), BreakerState::Closed);
}

#[test]
fn half_of_five_failing_opens_it_and_old_ones_do_not_count() {
    let now = Instant::now();
    let mut breaker = Breaker::default();
    let turn = |breaker: &mut Breaker, well: bool, at: Instant| {
        let event = if well { Success { probe: None } } else { Failure { probe: None, retry_after: None } };
        breaker.on(event, at, 0).opened.is_some()
    };
    // Failure and success in turn: the fifth is the third failure of five.
    for (at, well) in [false, true, false, true].into_iter().enumerate() {
        assert!(!turn(&mut breaker, well, now + secs(at as u64)));
    }
    let mut slow = breaker.clone();
    assert!(turn(&mut breaker, false, now + secs(4)));
    assert!(!turn(&mut slow, false, now + secs(34)), "what is older than 30 seconds is forgotten");
}

#[test]
fn one_probe_goes_and_its_success_closes() {
    let now = Instant::now();
    let (mut breaker, until) = open(now);
    let probe = breaker.on(ASK, until, 0).probe;
    assert!(probe.is_some());
    assert_eq!(breaker.state(until), BreakerState::HalfOpen { probing: true });
    assert!(!breaker.on(ASK, until, 0).admitted, "only one at a time");
    assert!(breaker.on(Success { probe }, until, 0).closed);
    assert_eq!(breaker.state(until), BreakerState::Closed);
    assert!(breaker.on(ASK, until, 0).admitted);
}

#[test]
fn a_failed_probe_doubles_the_wait_up_to_two_minutes() {
    let mut now = Instant::now();
    let (mut breaker, mut until) = open(now);
    let mut waits = Vec::new();
    for _ in 0..6 {
        now = until;
        let probe = breaker.on(ASK, now, 0).probe;
        until = breaker.on(Failure { probe, retry_after: None }, now, 0).opened.unwrap();
        waits.push((until - now).as_secs_f64() / 0.9);
    }
    let rounded: Vec<u64> = waits.iter().map(|wait| wait.round() as u64).collect();
    assert_eq!(rounded, [30, 60, 120, 120, 120, 120]);
}

#[test]
fn an_abandoned_probe_gives_its_permit_back() {
    let now = Instant::now();
    let (mut breaker, until) = open(now);
    let probe = breaker.on(ASK, until, 0).probe;
    breaker.on(Neutral { probe }, until, 0);
    assert_eq!(breaker.state(until), BreakerState::HalfOpen { probing: false });
    let second = breaker.on(ASK, until, 0).probe;
    assert!(second.is_some() && second != probe);
    // A probe that never comes back does not wedge it.
    let later = until + PROBE_LOST;
    let third = breaker.on(ASK, later, 0).probe;
    assert!(third.is_some());
    assert!(breaker.on(Success { probe: third }, later, 0).closed);
}

#[test]
fn a_trial_passes_at_any_time_and_only_its_success_counts() {
    let now = Instant::now();
    let (mut breaker, until) = open(now);
    let (first, second) = (breaker.on(LAST, now, 0).probe, breaker.on(LAST, now, 0).probe);
    assert!(first.is_some() && second.is_some() && first != second);
    for _ in 0..5 {
        let failed = breaker.on(Failure { probe: first, retry_after: None }, now, 0);
        assert_eq!(failed.opened, None);
    }
    assert_eq!(breaker.state(now), BreakerState::Open { until }, "neither shortened nor drawn out");
    // Beside a probe that is out as well.
    let probe = breaker.on(ASK, until, 0).probe;
    assert!(probe.is_some() && breaker.on(LAST, until, 0).admitted);
    assert!(!breaker.on(ASK, until, 0).admitted);
    assert!(breaker.on(Success { probe: second }, until, 0).closed);
    assert_eq!(breaker.state(until), BreakerState::Closed);
    assert!(!breaker.on(Success { probe }, until, 0).closed);
}

#[test]
fn a_trial_from_before_it_opened_again_says_nothing() {
    let now = Instant::now();
    let (mut breaker, until) = open(now);
    let trial = breaker.on(LAST, now, 0).probe;
    let probe = breaker.on(ASK, until, 0).probe;
    let again = breaker.on(Failure { probe, retry_after: None }, until, 0).opened;
    assert!(again.is_some());
    assert!(!breaker.on(Success { probe: trial }, until, 0).closed);
}

#[test]
fn what_the_upstream_asks_for_is_a_floor_and_bounded() {
    let now = Instant::now();
    let mut breaker = Breaker::default();
    failure(&mut breaker, now);
    failure(&mut breaker, now);
    let asked = Failure { probe: None, retry_after: Some(secs(300)) };
    assert_eq!(breaker.on(asked, now, 0).opened, Some(now + secs(300)));
    let less = Failure { probe: None, retry_after: Some(secs(10)) };
    assert_eq!(breaker.on(less, now, 0).opened, None);
    let absurd = Failure { probe: None, retry_after: Some(Duration::MAX) };
    assert_eq!(breaker.on(absurd, now, 0).opened, Some(now + LONGEST_ASKED));
}

#[test]
fn a_failed_probe_does_not_shorten_what_the_upstream_asked_for_meanwhile() {
    let now = Instant::now();
    let (mut breaker, until) = open(now);
    let probe = breaker.on(ASK, until, 0).probe;
    // An attempt from before it opened comes back late, with a long wait.
    let late = Failure { probe: None, retry_after: Some(secs(600)) };
    assert_eq!(breaker.on(late, until, 0).opened, Some(until + secs(600)));
    let failed = breaker.on(Failure { probe, retry_after: None }, until + secs(1), 0);
    assert_eq!(failed.opened, Some(until + secs(600)));
}

/// What a breaker does, said as plainly as can be: a list of all results, and counts over it.
#[derive(Default)]
struct Model {
    results: Vec<(Instant, bool)>,
    in_a_row: u32,
    open_until: Option<Instant>,
    probe: Option<(Probe, Instant)>,
    /// Permits given since it opened.
    since: HashSet<u64>,
}

impl Model {
    fn trips(&self, now: Instant, origin: Option<Instant>) -> bool {
        let slot = |at: Instant| origin.map_or(0, |origin| (at - origin).as_secs() / 3);
        let recent: Vec<bool> =
            self.results.iter().filter(|(at, _)| slot(*at) + 10 > slot(now)).map(|(_, well)| *well).collect();
        let failed = recent.iter().filter(|well| !**well).count();
        self.in_a_row >= 3 || (recent.len() >= 5 && failed * 2 >= recent.len())
    }
}

proptest! {
    #[test]
    fn it_behaves_as_the_model(
        steps in proptest::collection::vec((0..7u8, 0..20_000u64, any::<u64>(), any::<bool>()), 1..200)
    ) {
        let mut now = Instant::now();
        let mut breaker = Breaker::default();
        let mut model = Model::default();
        let mut origin = None;
        let mut permits = HashSet::new();
        let mut out: Vec<Probe> = Vec::new();
        for (what, wait, draw, long) in steps {
            now += Duration::from_millis(if long { wait } else { wait / 20 });
            let permit = if draw % 2 == 0 { out.pop() } else { None };
            let is_the_probe = model.probe.is_some_and(|(own, _)| Some(own) == permit);
            match what {
                0..=2 => {
                    let last_resort = what == 2;
                    let effects = breaker.on(BreakerEvent::Ask { last_resort }, now, draw);
                    let free = model.probe.is_none_or(|(_, since)| now - since >= PROBE_LOST);
                    let its_time = model.open_until.is_some_and(|until| now >= until && free);
                    let expected = model.open_until.is_none() || its_time || last_resort;
                    prop_assert_eq!(effects.admitted, expected);
                    prop_assert_eq!(effects.probe.is_some(), expected && model.open_until.is_some());
                    if let Some(given) = effects.probe {
                        prop_assert!(permits.insert(given.0), "no permit is given twice");
                        model.since.insert(given.0);
                        if its_time {
                            model.probe = Some((given, now));
                        }
                        out.push(given);
                    }
                    if let Some(unused) = permit { out.insert(0, unused) }
                }
                3 => {
                    let effects = breaker.on(Success { probe: permit }, now, draw);
                    let closes = permit.is_some_and(|permit| model.since.contains(&permit.0));
                    prop_assert_eq!(effects.closed, closes);
                    if closes {
                        model = Model::default();
                        origin = None;
                    } else if model.open_until.is_none() {
                        origin.get_or_insert(now);
                        model.results.push((now, true));
                        model.in_a_row = 0;
                    }
                }
                4..=5 => {
                    let before = model.open_until;
                    let retry_after = (what == 5).then_some(Duration::from_millis(draw % 400_000));
                    let effects = breaker.on(Failure { probe: permit, retry_after }, now, draw);
                    let opens = match before {
                        None => {
                            origin.get_or_insert(now);
                            model.results.push((now, false));
                            model.in_a_row += 1;
                            model.trips(now, origin)
                        }
                        Some(_) => is_the_probe,
                    };
                    let asked = retry_after.map(|wait| now + wait);
                    match effects.opened {
                        Some(until) if opens => {
                            prop_assert!(until >= now + secs(13));
                            prop_assert!(until <= (now + secs(133)).max(asked.unwrap_or(now)).max(before.unwrap_or(now)));
                            prop_assert!(asked.is_none_or(|asked| until >= asked));
                            prop_assert!(before.is_none_or(|before| until >= before));
                            model = Model { open_until: Some(until), ..Model::default() };
                            origin = None;
                        }
                        // Longer, since the upstream asked for it.
                        Some(until) => {
                            prop_assert!(before.is_some_and(|before| until > before) && asked == Some(until));
                            model.open_until = Some(until);
                        }
                        None => {
                            prop_assert!(!opens);
                            prop_assert!(before.is_none() || asked <= before, "what is asked for is kept");
                        }
                    }
                }
                _ => {
                    breaker.on(Neutral { probe: permit }, now, draw);
                    if is_the_probe {
                        model.probe = None;
                    }
                }
            }
            let closed = breaker.state(now) == BreakerState::Closed;
            prop_assert_eq!(closed, model.open_until.is_none());
            prop_assert_eq!(breaker.ready_at(), model.open_until);
        }
    }
}
