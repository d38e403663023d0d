//! How long to wait before the next try: exponential, with full jitter.

use std::time::Duration;

/// Exponential back-off with full jitter, between zero and `base * 2^n`, at most `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The width of the first step.
    pub base: Duration,
    /// The widest step.
    pub max: Duration,
}

impl Backoff {
    /// The wait before try `n` (the first is 0), by a random number.
    pub fn delay(&self, n: u32, draw: u64) -> Duration {
        let width = self.base.saturating_mul(1u32.checked_shl(n).unwrap_or(u32::MAX)).min(self.max);
        let nanos = u64::try_from(width.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(draw.checked_rem(nanos.saturating_add(1)).unwrap_or(draw))
    }
}
