#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::{Barrier, Mutex};

use proptest::prelude::*;

use super::*;

const NOON: u64 = 20_000 * 86_400 + 43_200;

fn limits(stop: f64) -> Limits {
    Limits { day: Budget { warn: Some(stop / 2.0), stop: Some(stop) }, ..Limits::default() }
}

fn budgets(limits: Limits) -> Budgets {
    let mut budgets = Budgets::default();
    budgets.limit(limits);
    budgets
}

#[test]
fn what_is_reserved_counts_as_spent() {
    let mut budgets = budgets(limits(1.0));
    let first = budgets.reserve(None, None, 600_000, NOON).unwrap();
    let refused = budgets.reserve(None, None, 600_000, NOON).unwrap_err();
    assert_eq!((refused.scope, refused.spent, refused.limit), (Scope::Day, 600_000, 1_000_000));
    budgets.settle(first, Some(100_000), NOON);
    assert!(budgets.reserve(None, None, 600_000, NOON).is_ok());
}

#[test]
fn a_refusal_says_which_budget_and_what_to_do() {
    let text = budgets(limits(1.0)).reserve(None, None, 2_000_000, NOON).unwrap_err().to_string();
    for part in ["of today", "$1.0000", "$2.0000", "[budgets] day"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_soft_limit_is_told_and_a_hard_one_refuses() {
    let mut budgets = budgets(limits(1.0));
    let first = budgets.reserve(None, None, 0, NOON).unwrap();
    let second = budgets.reserve(None, None, 0, NOON).unwrap();
    assert!(!budgets.is_past_a_mark(None, None, NOON));
    assert_eq!(budgets.settle(first, Some(500_000), NOON), [Scope::Day]);
    assert!(budgets.is_past_a_mark(None, None, NOON));
    assert_eq!(budgets.settle(second, Some(1), NOON), [], "told once");
    assert_eq!(budgets.warnings().len(), 1, "{:?}", budgets.warnings());
    assert!(!budgets.is_past_a_mark(None, None, NOON + 86_400));
}

#[test]
fn another_day_begins_anew_but_a_clock_that_jumps_back_does_not() {
    let mut budgets = budgets(limits(1.0));
    let first = budgets.reserve(None, None, 1_000_000, NOON).unwrap();
    budgets.settle(first, None, NOON); // unknown: as estimated
    assert!(budgets.reserve(None, None, 1, NOON).is_err());
    assert!(budgets.reserve(None, None, 1, NOON - 86_400).is_err());
    assert!(budgets.reserve(None, None, 1, NOON + 86_400).is_ok());
}

#[test]
fn sessions_have_budgets_of_their_own() {
    let stop = Budget { warn: None, stop: Some(1.0) };
    let mut budgets = budgets(Limits { session: stop, ..Limits::default() });
    let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
    let _held = budgets.reserve(Some(&a), None, 1_000_000, NOON).unwrap();
    assert_eq!(budgets.reserve(Some(&a), None, 1, NOON).unwrap_err().scope, Scope::Session);
    assert!(budgets.reserve(Some(&b), None, 1, NOON).is_ok());
    assert!(budgets.reserve(None, None, 1, NOON).is_ok());
}

#[test]
fn sessions_that_are_forgotten_are_those_without_open_requests() {
    let stop = Budget { warn: None, stop: Some(1.0) };
    let mut budgets = budgets(Limits { session: stop, ..Limits::default() });
    let held: Arc<str> = "held".into();
    let _held = budgets.reserve(Some(&held), None, 1_000_000, NOON).unwrap();
    for n in 0..REMEMBERED + 10 {
        let name: Arc<str> = n.to_string().into();
        let reserved = budgets.reserve(Some(&name), None, 1, NOON).unwrap();
        budgets.settle(reserved, Some(1), NOON);
    }
    assert!(budgets.sessions.len() <= REMEMBERED);
    assert!(budgets.reserve(Some(&held), None, 1, NOON).is_err());
}

#[test]
fn months_are_those_of_the_calendar() {
    let day = |date: &str| {
        let time = humantime::parse_rfc3339(&format!("{date}T00:00:00Z")).unwrap();
        i64::try_from(time.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() / 86_400).unwrap()
    };
    for (last, first) in
        [("2024-02-29", "2024-03-01"), ("2025-12-31", "2026-01-01"), ("2026-01-31", "2026-02-01")]
    {
        assert_eq!(month(day(last)) + 1, month(day(first)), "{last}");
    }
    assert_eq!(month(day("2026-01-01")), month(day("2026-01-31")));
}

#[derive(Clone, Debug)]
enum Step {
    Reserve(u8, i64),
    Settle(usize, u8),
    Later(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..4, 0i64..400_000).prop_map(|(session, estimate)| Step::Reserve(session, estimate)),
        4 => (any::<usize>(), 0u8..=100).prop_map(|(which, percent)| Step::Settle(which, percent)),
        1 => (0u64..100_000).prop_map(Step::Later),
    ]
}

proptest! {
    /// In whatever order requests come and end: as long as none costs more than its estimate, no limit is passed,
    /// and nothing stays reserved in the end.
    #[test]
    fn no_order_of_events_passes_a_limit(steps in prop::collection::vec(step(), 1..200)) {
        let budget = |stop| Budget { warn: None, stop: Some(stop) };
        let limits = Limits { day: budget(1.0), month: budget(3.0), session: budget(0.5), agent: Budget::default() };
        let mut budgets = budgets(limits);
        let mut open = Vec::new();
        let mut now = NOON;
        for step in steps {
            match step {
                Step::Reserve(session, estimate) => {
                    let name: Arc<str> = session.to_string().into();
                    if let Ok(reserved) = budgets.reserve(Some(&name), None, estimate, now) {
                        open.push(reserved);
                    }
                }
                Step::Settle(which, percent) if !open.is_empty() => {
                    let reserved = open.swap_remove(which % open.len());
                    let cost = reserved.estimate * i64::from(percent) / 100;
                    // A cost that falls on another day than its reservation is the one exception to the limit.
                    let same_day = reserved.day == i64::try_from(now / 86_400).unwrap();
                    budgets.settle(reserved, Some(if same_day { cost } else { 0 }), now);
                }
                Step::Settle(..) => {}
                Step::Later(seconds) => now += seconds,
            }
            prop_assert!(budgets.day.spent.all() <= 1_000_000);
            prop_assert!(budgets.month.spent.all() <= 3_000_000);
            prop_assert!(budgets.sessions.values().all(|spent| spent.all() <= 500_000));
        }
        for reserved in open {
            budgets.settle(reserved, Some(0), now);
        }
        prop_assert_eq!(budgets.day.spent.reserved, 0);
        prop_assert_eq!(budgets.month.spent.reserved, 0);
        prop_assert!(budgets.sessions.values().all(|spent| spent.reserved == 0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Callers that come at the same moment, on threads of their own, can't pass a limit together, and none of them is
    /// refused while there was room for all.
    #[test]
    fn callers_at_the_same_time_do_not_pass_a_limit_together(
        estimates in prop::collection::vec(1i64..200_000, 2..12),
        stop in 1i64..1_000_000,
    ) {
        let limit = Budget { warn: None, stop: Some(dollars(stop)) };
        let budgets = Mutex::new(budgets(Limits { day: limit, ..Limits::default() }));
        let start = Barrier::new(estimates.len());
        let granted: Vec<Option<i64>> = std::thread::scope(|scope| {
            let callers: Vec<_> = estimates.iter().map(|estimate| scope.spawn(|| {
                start.wait();
                let reserved = budgets.lock().unwrap().reserve(None, None, *estimate, NOON);
                reserved.ok().map(|reserved| {
                    // It costs what was expected, which is only known later.
                    std::thread::yield_now();
                    budgets.lock().unwrap().settle(reserved, Some(*estimate), NOON);
                    *estimate
                })
            })).collect();
            callers.into_iter().map(|caller| caller.join().unwrap()).collect()
        });
        let spent: i64 = granted.iter().flatten().sum();
        prop_assert!(spent <= stop, "{spent} of {stop}");
        let wanted: i64 = estimates.iter().sum();
        prop_assert!(wanted > stop || spent == wanted);
        prop_assert_eq!(budgets.lock().unwrap().day.spent, Spent { settled: spent, reserved: 0, used: estimates.len() as u64 - granted.iter().filter(|one| one.is_none()).count() as u64 });
    }
}
