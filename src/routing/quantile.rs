//! The time that nearly all attempts take: a percentile of the latest measurements.

use std::time::Duration;

/// Measurements remembered.
const REMEMBERED: usize = 128;
/// With fewer than this a percentile says nothing.
const FEWEST: usize = 20;

/// The latest durations, and their 95th percentile.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Latest {
    ring: Vec<Duration>,
    next: usize,
}

// === impl Latest ===

impl Latest {
    /// Adds a measurement; the oldest goes.
    pub fn observe(&mut self, took: Duration) {
        match self.ring.get_mut(self.next) {
            Some(slot) => *slot = took,
            None => self.ring.push(took),
        }
        self.next = (self.next + 1) % REMEMBERED;
    }

    /// The duration that 95 of 100 do not exceed; `None` while too few are known.
    pub fn p95(&self) -> Option<Duration> {
        if self.ring.len() < FEWEST {
            return None;
        }
        let mut sorted = self.ring.clone();
        // Rounded up: with twenty measurements one may exceed it.
        let at = (sorted.len() * 95).div_ceil(100).saturating_sub(1);
        let (_, p95, _) = sorted.select_nth_unstable(at);
        Some(*p95)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn at_most_one_in_twenty_exceeds_it_and_no_smaller_one_would_do(
            millis in proptest::collection::vec(0u64..10_000, FEWEST..300),
        ) {
            let mut latest = Latest::default();
            millis.iter().for_each(|ms| latest.observe(Duration::from_millis(*ms)));
            let kept: Vec<Duration> =
                millis.iter().rev().take(REMEMBERED).map(|ms| Duration::from_millis(*ms)).collect();
            let p95 = latest.p95().unwrap_or_default();
            let above = kept.iter().filter(|took| **took > p95).count();
            let at_least = kept.iter().filter(|took| **took >= p95).count();
            prop_assert!(above * 20 <= kept.len());
            prop_assert!(at_least * 20 > kept.len());
        }
    }

    #[test]
    fn a_few_measurements_say_nothing() {
        let mut latest = Latest::default();
        for _ in 1..FEWEST {
            latest.observe(Duration::from_secs(1));
        }
        assert_eq!(latest.p95(), None);
        latest.observe(Duration::from_secs(1));
        assert_eq!(latest.p95(), Some(Duration::from_secs(1)));
    }
}
