//! The order of candidates within a tier: the strategies.

use std::collections::HashMap;
use std::time::Duration;

use crate::config::{ScoreWeights, Strategy};

/// What a strategy knows of one candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entrant {
    /// Its row; unique within the set.
    pub row: usize,
    /// Its share.
    pub weight: u32,
    /// Its tier; lower is better.
    pub priority: u32,
    /// Open requests.
    pub open: u32,
    /// The limit on them.
    pub max_concurrent: Option<u32>,
    /// Average time to first output.
    pub latency: Option<Duration>,
    /// What the request would cost there in US dollars, where that is known.
    pub cost: Option<f64>,
}

/// Whose turn it is: the state of smooth weighted round-robin, one for each set of candidates that came up,
/// so that the shares are exact within each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Balance {
    sets: HashMap<u64, Vec<i64>>,
}

/// Sets remembered at once. They are made of configured providers, so only a config that changes for ever
/// comes near this; then all start anew.
const MAX_SETS: usize = 1024;

// === impl Balance ===

impl Balance {
    /// Takes the next turn: the order in which the set stands now, as indexes into `entrants`. The first is
    /// charged for the turn.
    ///
    /// Smooth weighted round-robin as in nginx: everyone gains its weight, the richest is chosen and pays
    /// the sum of all weights. Over a round of that many turns each is chosen exactly `weight` times.
    fn turn(&mut self, entrants: &[Entrant], weight: impl Fn(&Entrant) -> u32) -> Vec<usize> {
        let all_zero = entrants.iter().all(|entrant| weight(entrant) == 0);
        let weight = |entrant: &Entrant| if all_zero { 1 } else { i64::from(weight(entrant)) };
        let key = fingerprint(entrants, &weight);
        if self.sets.len() >= MAX_SETS && !self.sets.contains_key(&key) {
            self.sets.clear();
        }
        let state = self.sets.entry(key).or_default();
        state.resize(entrants.len(), 0);
        let mut total = 0i64;
        for (level, entrant) in state.iter_mut().zip(entrants) {
            let weight = weight(entrant);
            *level = level.saturating_add(weight);
            total = total.saturating_add(weight);
        }
        let mut order: Vec<usize> = (0..entrants.len()).collect();
        order.sort_by_key(|&at| std::cmp::Reverse(state.get(at).copied().unwrap_or(0)));
        if let Some(level) = order.first().and_then(|&first| state.get_mut(first)) {
            *level = level.saturating_sub(total);
        }
        order
    }
}

/// Names a set of candidates with their weights (FNV-1a).
fn fingerprint(entrants: &[Entrant], weight: &impl Fn(&Entrant) -> i64) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for entrant in entrants {
        for word in [entrant.row as u64, weight(entrant).unsigned_abs()] {
            hash = (hash ^ word).wrapping_mul(0x0100_0000_01b3);
            hash ^= hash >> 29;
        }
    }
    hash
}

/// The order in which the entrants of one tier are asked, as indexes into `entrants`.
///
/// `entrants` stand in the order of their rows. `draw` is a random number.
pub fn order(
    strategy: Strategy,
    entrants: &[Entrant],
    balance: &mut Balance,
    draw: u64,
    weights: ScoreWeights,
) -> Vec<usize> {
    if entrants.len() < 2 {
        return (0..entrants.len()).collect();
    }
    match strategy {
        Strategy::RoundRobin => balance.turn(entrants, |_| 1),
        Strategy::Weighted => balance.turn(entrants, |entrant| entrant.weight),
        Strategy::LeastConnections => by_measure(entrants, balance, |at| {
            entrants.get(at).map_or(f64::INFINITY, |entrant| f64::from(entrant.open))
        }),
        Strategy::Cost => by_measure(entrants, balance, |at| {
            entrants.get(at).and_then(|entrant| entrant.cost).unwrap_or(f64::INFINITY)
        }),
        Strategy::Score => {
            let scores = scores(entrants, weights);
            by_measure(entrants, balance, |at| scores.get(at).map_or(f64::INFINITY, |score| -score))
        }
        Strategy::Latency => by_latency(entrants, draw),
    }
}

/// The smallest measure first; those that share it take turns by weight.
fn by_measure(entrants: &[Entrant], balance: &mut Balance, measure: impl Fn(usize) -> f64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..entrants.len()).collect();
    sort_by_number(&mut order, &measure);
    let best = order.first().map_or(f64::INFINITY, |&at| measure(at));
    let equal = order.iter().take_while(|&&at| measure(at).total_cmp(&best).is_eq()).count();
    if equal > 1 {
        let tied: Vec<Entrant> =
            order.iter().take(equal).filter_map(|&at| entrants.get(at).copied()).collect();
        let turn = balance.turn(&tied, |entrant| entrant.weight);
        let before: Vec<usize> = order.iter().take(equal).copied().collect();
        for (slot, place) in order.iter_mut().zip(turn) {
            if let Some(&at) = before.get(place) {
                *slot = at;
            }
        }
    }
    order
}

/// The name of a strategy in explanations.
pub fn in_words(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::RoundRobin => "its turn (round-robin)",
        Strategy::Weighted => "its turn by weight",
        Strategy::LeastConnections => "by open requests",
        Strategy::Latency => "by time to first output",
        Strategy::Cost => "by price",
        Strategy::Score => "by score",
    }
}

/// Power of two choices: the better of two drawn ones stands first, the others behind it by the same measure.
/// The measure is the average time to first output times the requests that would then be open.
fn by_latency(entrants: &[Entrant], draw: u64) -> Vec<usize> {
    // Who has no figure yet is taken for the quickest known, so that it is measured, but not flooded.
    let quickest = entrants.iter().filter_map(|entrant| entrant.latency).min().unwrap_or(Duration::ZERO);
    let load = |at: usize| {
        entrants.get(at).map_or(f64::INFINITY, |entrant| {
            let latency = entrant.latency.unwrap_or(quickest).as_secs_f64().max(0.001);
            latency * (f64::from(entrant.open) + 1.0)
        })
    };
    let count = entrants.len() as u64;
    let first = (draw >> 32) % count;
    let second = (first + 1 + (draw & 0xffff_ffff) % (count - 1)) % count;
    let (first, second) = (first as usize, second as usize);
    let winner = if load(second) < load(first) { second } else { first };
    let mut order: Vec<usize> = (0..entrants.len()).collect();
    sort_by_number(&mut order, |at| if at == winner { f64::NEG_INFINITY } else { load(at) });
    order
}

/// The score of each: the weighted sum of four figures, each between 0 (worst of the set) and 1 (best).
/// An unknown time to first output counts as half as good as the best, an unknown price as the worst.
pub fn scores(entrants: &[Entrant], weights: ScoreWeights) -> Vec<f64> {
    let tiers = entrants.iter().map(|entrant| entrant.priority);
    let best = tiers.clone().min().unwrap_or(0);
    let worst = tiers.max().unwrap_or(0);
    let busiest = entrants.iter().map(|entrant| entrant.open).max().unwrap_or(0);
    let quickest = entrants.iter().filter_map(|entrant| entrant.latency).min();
    let cheapest = entrants.iter().filter_map(|entrant| entrant.cost).reduce(f64::min);
    let share = |part: f64, whole: f64| if whole > 0.0 { (part / whole).clamp(0.0, 1.0) } else { 1.0 };
    let weight = |weight: f64| if weight.is_finite() { weight.max(0.0) } else { 0.0 };

    entrants
        .iter()
        .map(|entrant| {
            let priority = share(f64::from(worst - entrant.priority), f64::from(worst - best));
            let limit = entrant.max_concurrent.unwrap_or(busiest).max(1);
            let load = 1.0 - share(f64::from(entrant.open), f64::from(limit));
            let latency = match (quickest, entrant.latency) {
                (Some(quickest), Some(own)) => share(quickest.as_secs_f64(), own.as_secs_f64()),
                (Some(_), None) => 0.5,
                (None, _) => 1.0,
            };
            let cost = match (cheapest, entrant.cost) {
                (Some(cheapest), Some(own)) => share(cheapest, own),
                _ => 0.0,
            };
            weight(weights.priority) * priority
                + weight(weights.load) * load
                + weight(weights.latency) * latency
                + weight(weights.cost) * cost
        })
        .collect()
}

fn sort_by_number(order: &mut [usize], number: impl Fn(usize) -> f64) {
    order.sort_by(|&a, &b| number(a).total_cmp(&number(b)));
}

#[cfg(test)]
mod tests;
