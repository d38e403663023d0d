#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;

use super::*;
use crate::config::Strategy;

fn entrant(row: usize) -> Entrant {
    Entrant { row, weight: 1, priority: 1, open: 0, max_concurrent: None, latency: None, cost: None }
}

fn first(strategy: Strategy, entrants: &[Entrant], balance: &mut Balance, draw: u64) -> usize {
    order(strategy, entrants, balance, draw, ScoreWeights::default())[0]
}

/// A draw for each number, spread over all bits.
fn draw(n: u64) -> u64 {
    (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn any_entrants() -> impl proptest::strategy::Strategy<Value = Vec<Entrant>> {
    let one = (
        prop_oneof![0..5u32, any::<u32>()],
        any::<u32>(),
        any::<u32>(),
        proptest::option::of(any::<u32>()),
        proptest::option::of(any::<u64>()),
        proptest::option::of(any::<f64>()),
    );
    let many = proptest::collection::vec(one, 1..8);
    proptest::strategy::Strategy::prop_map(many, |all| {
        all.into_iter()
            .enumerate()
            .map(|(row, (weight, priority, open, max_concurrent, latency, cost))| Entrant {
                row,
                weight,
                priority,
                open,
                max_concurrent,
                latency: latency.map(Duration::from_nanos),
                cost,
            })
            .collect()
    })
}

fn any_strategy() -> impl proptest::strategy::Strategy<Value = Strategy> {
    prop_oneof![
        Just(Strategy::RoundRobin),
        Just(Strategy::Weighted),
        Just(Strategy::LeastConnections),
        Just(Strategy::Latency),
        Just(Strategy::Cost),
        Just(Strategy::Score)
    ]
}

proptest! {
    #[test]
    fn every_strategy_names_each_entrant_once(
        strategy in any_strategy(), entrants in any_entrants(), draws in any::<[u64; 3]>(),
    ) {
        let mut balance = Balance::default();
        for draw in draws {
            let mut order = order(strategy, &entrants, &mut balance, draw, ScoreWeights::default());
            order.sort_unstable();
            prop_assert_eq!(order, (0..entrants.len()).collect::<Vec<_>>());
        }
    }

    /// In each round of as many turns as the weights sum up to, each is first exactly `weight` times, from
    /// whatever turn on the round is counted; and nobody is ever ahead of its share by a whole turn or more
    /// than its neighbours can explain.
    #[test]
    fn smooth_weighted_shares_are_exact_in_every_round(
        weights in proptest::collection::vec(0..9u32, 2..6), offset in 0..40usize,
    ) {
        prop_assume!(weights.iter().any(|weight| *weight > 0));
        let entrants: Vec<Entrant> =
            weights.iter().enumerate().map(|(row, &weight)| Entrant { weight, ..entrant(row) }).collect();
        let round: usize = weights.iter().sum::<u32>() as usize;
        let mut balance = Balance::default();
        for _ in 0..offset {
            first(Strategy::Weighted, &entrants, &mut balance, 0);
        }
        let mut count = vec![0u32; weights.len()];
        for _ in 0..round {
            count[first(Strategy::Weighted, &entrants, &mut balance, 0)] += 1;
        }
        prop_assert_eq!(count, weights);
    }

    #[test]
    fn every_part_of_the_score_is_between_nothing_and_its_weight(entrants in any_entrants()) {
        let weights = ScoreWeights { priority: 1.0, load: 10.0, latency: 100.0, cost: 1000.0 };
        for score in scores(&entrants, weights) {
            prop_assert!((0.0..=1111.0).contains(&score), "{}", score);
        }
    }
}

#[test]
fn round_robin_takes_each_in_turn_and_each_set_has_its_own_turn() {
    let mut balance = Balance::default();
    let all = [entrant(0), entrant(1), entrant(2)];
    let two = [entrant(0), entrant(2)];
    let mut firsts = Vec::new();
    for n in 0..6 {
        firsts.push(first(Strategy::RoundRobin, &all, &mut balance, 0));
        if n % 2 == 0 {
            first(Strategy::RoundRobin, &two, &mut balance, 0);
        }
    }
    assert_eq!(firsts, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn least_connections_takes_the_idlest_and_equals_in_turn() {
    let mut balance = Balance::default();
    let busy = [
        Entrant { open: 3, ..entrant(0) },
        Entrant { open: 1, ..entrant(1) },
        Entrant { open: 1, ..entrant(2) },
    ];
    let firsts: Vec<usize> =
        (0..6).map(|_| first(Strategy::LeastConnections, &busy, &mut balance, 0)).collect();
    assert_eq!(firsts, [1, 2, 1, 2, 1, 2]);
}

#[test]
fn latency_favours_the_quick_weighs_open_requests_and_starves_nobody_without_a_figure() {
    let ms = |ms| Some(Duration::from_millis(ms));
    let mut balance = Balance::default();
    let share = |entrants: &[Entrant], balance: &mut Balance| {
        let mut count = vec![0u32; entrants.len()];
        (0..3000).for_each(|n| count[first(Strategy::Latency, entrants, balance, draw(n))] += 1);
        count
    };
    let three = [
        Entrant { latency: ms(100), ..entrant(0) },
        Entrant { latency: ms(200), ..entrant(1) },
        Entrant { latency: ms(5000), ..entrant(2) },
    ];
    // Of two drawn the slowest is never the better, the quickest always.
    let count = share(&three, &mut balance);
    assert!(count[0] > 1800 && count[1] > 800 && count[2] == 0, "{count:?}");
    let loaded = [Entrant { open: 9, ..three[0] }, three[1]];
    assert_eq!(share(&loaded, &mut balance), [0, 3000]);
    let unknown = [three[0], Entrant { latency: None, ..entrant(1) }];
    let count = share(&unknown, &mut balance);
    assert!(count.iter().all(|count| *count > 1200), "{count:?}");
}

#[test]
fn the_cheapest_comes_first_and_an_unknown_price_last() {
    let mut balance = Balance::default();
    let entrants =
        [entrant(0), Entrant { cost: Some(0.02), ..entrant(1) }, Entrant { cost: Some(0.01), ..entrant(2) }];
    for _ in 0..4 {
        let order = order(Strategy::Cost, &entrants, &mut balance, 0, ScoreWeights::default());
        assert_eq!(order, [2, 1, 0]);
    }
}

#[test]
fn the_score_weighs_what_the_config_says() {
    let quick =
        Entrant { latency: Some(Duration::from_millis(100)), cost: Some(1.0), priority: 2, ..entrant(0) };
    let cheap = Entrant { latency: Some(Duration::from_millis(900)), cost: Some(0.1), open: 3, ..entrant(1) };
    let nothing = ScoreWeights { priority: 0.0, load: 0.0, latency: 0.0, cost: 0.0 };
    let winner = |weights| order(Strategy::Score, &[quick, cheap], &mut Balance::default(), 0, weights)[0];
    assert_eq!(winner(ScoreWeights { latency: 1.0, ..nothing }), 0);
    assert_eq!(winner(ScoreWeights { load: 1.0, ..nothing }), 0);
    assert_eq!(winner(ScoreWeights { cost: 1.0, ..nothing }), 1);
    assert_eq!(winner(ScoreWeights { priority: 1.0, ..nothing }), 1);
    assert_eq!(winner(ScoreWeights { priority: f64::NAN, cost: -5.0, latency: 1.0, load: 0.0 }), 0);
}
