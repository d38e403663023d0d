//! Waits before retries, and the budget that keeps retries from becoming a storm.

use std::time::{Duration, Instant};

use super::breaker::unit;

/// The longest wait before a retry.
const LONGEST: Duration = Duration::from_secs(5);

/// The wait before retry number `retry` (from 0): anything between nothing and `base` doubled `retry` times,
/// at most five seconds. ("Full jitter": AWS Architecture Blog, "Exponential Backoff And Jitter".)
pub fn backoff(base: Duration, retry: u32, draw: u64) -> Duration {
    base.saturating_mul(1 << retry.min(16)).min(LONGEST).mul_f64(unit(draw))
}

/// How many attempts beyond the first the whole daemon may make: a share of its requests, and a few a second
/// in any case. When an upstream fails altogether, this bounds what the failing adds to its load.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryBudget {
    share: f64,
    floor: f64,
    most: f64,
    level: f64,
    filled: Instant,
}

// === impl RetryBudget ===

impl RetryBudget {
    /// The usual budget: a fifth of the requests, and ten a second.
    pub fn usual(now: Instant) -> RetryBudget {
        RetryBudget::new(0.2, 10.0, now)
    }

    /// A budget of `share` retries for each request and `floor` a second. It saves up for ten seconds.
    pub fn new(share: f64, floor: f64, now: Instant) -> RetryBudget {
        let most = (floor * 10.0).max(1.0);
        RetryBudget { share, floor, most, level: most, filled: now }
    }

    /// A request came.
    pub fn request(&mut self, now: Instant) {
        self.earn(self.share, now);
    }

    /// A request came, and brings this share of an attempt.
    pub fn earn(&mut self, share: f64, now: Instant) {
        self.fill(now);
        // What requests bring may exceed what the seconds save up, within reason.
        self.level = (self.level + share).min(self.most * 10.0);
    }

    /// Takes an attempt beyond the first; false if the budget is used up.
    pub fn spend(&mut self, now: Instant) -> bool {
        self.fill(now);
        let enough = self.level >= 1.0;
        if enough {
            self.level -= 1.0;
        }
        enough
    }

    /// Attempts left.
    pub fn left(&self) -> f64 {
        self.level
    }

    fn fill(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.filled).as_secs_f64();
        if self.level < self.most {
            self.level = (self.level + since * self.floor).min(self.most);
        }
        self.filled = self.filled.max(now);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_wait_never_exceeds_its_bound(base in 0..100_000u64, retry: u32, draw: u64) {
            let base = Duration::from_millis(base);
            let wait = backoff(base, retry, draw);
            prop_assert!(wait <= LONGEST);
            prop_assert!(retry > 16 || wait <= base.saturating_mul(1 << retry));
        }

        /// Over any time, retries stay within what was saved, the seconds' floor and the requests' share.
        #[test]
        fn retries_stay_within_the_budget(steps in proptest::collection::vec((any::<bool>(), 0..2000u64), 1..300)) {
            let start = Instant::now();
            let mut now = start;
            let mut budget = RetryBudget::new(0.2, 2.0, now);
            let (mut requests, mut retries) = (0.0, 0.0);
            for (is_request, wait) in steps {
                now += Duration::from_millis(wait);
                if is_request {
                    budget.request(now);
                    requests += 1.0;
                } else if budget.spend(now) {
                    retries += 1.0;
                }
                let bound = 20.0 + 2.0 * (now - start).as_secs_f64() + 0.2 * requests;
                prop_assert!(retries <= bound + 1e-6, "{} > {}", retries, bound);
            }
        }
    }

    #[test]
    fn a_total_outage_costs_a_fifth_more_not_a_multiple() {
        let now = Instant::now();
        let mut budget = RetryBudget::usual(now);
        let retries: u32 = (0..10_000)
            .map(|_| {
                budget.request(now);
                (0..3).filter(|_| budget.spend(now)).count() as u32
            })
            .sum();
        assert!((2000..=2100).contains(&retries), "{retries}");
    }

    #[test]
    fn a_spent_budget_comes_back_with_time() {
        let now = Instant::now();
        let mut budget = RetryBudget::new(0.0, 1.0, now);
        while budget.spend(now) {}
        assert!(!budget.spend(now + Duration::from_millis(900)));
        assert!(budget.spend(now + Duration::from_millis(1100)));
    }
}
