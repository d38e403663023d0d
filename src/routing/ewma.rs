//! Averages that forget: time to first output, and the share of errors.

use std::time::{Duration, Instant};

/// Within this time an old figure loses about two thirds of its weight against new ones.
const MEMORY: Duration = Duration::from_secs(60);
/// Within this time an average that nobody adds to fades by about two thirds, so that a provider that was slow
/// once is tried again.
const FADE: Duration = Duration::from_secs(300);

/// An average of durations that jumps up with a peak and comes down slowly.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PeakEwma {
    last: Option<(f64, Instant)>,
}

/// The share of errors among recent attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ErrorAverage {
    failed: f64,
    all: f64,
    at: Option<Instant>,
}

// === impl PeakEwma ===

impl PeakEwma {
    /// Adds a measurement.
    pub fn observe(&mut self, measured: Duration, now: Instant) {
        let new = measured.as_secs_f64();
        let value = match self.last {
            Some((old, at)) if new < old => {
                let weight = decay(now.saturating_duration_since(at), MEMORY);
                // Even measurements of one moment bring it down a little.
                let weight = weight.min(0.9);
                old * weight + new * (1.0 - weight)
            }
            _ => new,
        };
        self.last = Some((value, now));
    }

    /// The average, faded to now; `None` while nothing was measured.
    pub fn get(&self, now: Instant) -> Option<Duration> {
        let (value, at) = self.last?;
        Duration::try_from_secs_f64(value * decay(now.saturating_duration_since(at), FADE)).ok()
    }
}

// === impl ErrorAverage ===

impl ErrorAverage {
    /// Adds an attempt.
    pub fn observe(&mut self, failed: bool, now: Instant) {
        let weight = self.weight(now);
        self.failed = self.failed * weight + f64::from(u8::from(failed));
        self.all = self.all * weight + 1.0;
        self.at = Some(self.at.map_or(now, |at| at.max(now)));
    }

    /// The share, 0 to 1. One attempt alone does not make it 1: it counts as if one good one had come before,
    /// and with time it fades.
    pub fn rate(&self, now: Instant) -> f64 {
        let weight = self.weight(now);
        self.failed * weight / (self.all * weight + 1.0)
    }

    fn weight(&self, now: Instant) -> f64 {
        self.at.map_or(1.0, |at| decay(now.saturating_duration_since(at), MEMORY))
    }
}

fn decay(passed: Duration, memory: Duration) -> f64 {
    (-passed.as_secs_f64() / memory.as_secs_f64()).exp()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_peak_counts_at_once_and_is_forgotten_slowly() {
        let start = Instant::now();
        let mut average = PeakEwma::default();
        assert_eq!(average.get(start), None);
        average.observe(ms(100), start);
        average.observe(ms(4000), start);
        assert_eq!(average.get(start), Some(ms(4000)));
        for step in 1..=20 {
            average.observe(ms(100), start + Duration::from_secs(step));
        }
        let after = average.get(start + Duration::from_secs(20)).unwrap();
        assert!(after > ms(150) && after < ms(1500), "{after:?}");
    }

    #[test]
    fn an_average_that_nobody_adds_to_fades() {
        let start = Instant::now();
        let mut average = PeakEwma::default();
        average.observe(ms(1000), start);
        let later = average.get(start + Duration::from_secs(1800)).unwrap();
        assert!(later < ms(10), "{later:?}");
        // A clock that seems to go back changes nothing.
        average.observe(ms(1000), start + Duration::from_secs(10));
        assert_eq!(average.get(start), Some(ms(1000)));
    }

    #[test]
    fn the_share_of_errors_follows_the_attempts() {
        let start = Instant::now();
        let mut average = ErrorAverage::default();
        assert_eq!(average.rate(start), 0.0);
        average.observe(true, start);
        assert_eq!(average.rate(start), 0.5);
        for _ in 0..50 {
            average.observe(true, start);
        }
        assert!(average.rate(start) > 0.95);
        for _ in 0..150 {
            average.observe(false, start);
        }
        assert!(average.rate(start) < 0.3);
        assert!(average.rate(start + Duration::from_secs(1000)) < 0.001);
    }
}
