//! A token bucket: so much at once, so much in a period. Tokens are reserved by estimate and settled with
//! what was really used, which may leave a debt.

use std::time::{Duration, Instant};

/// One bucket. Without a limit, of the config or learned, it is endless.
#[derive(Clone, Debug, PartialEq)]
pub struct Bucket {
    configured: Option<f64>,
    learned: Option<(f64, Instant)>,
    per: Duration,
    level: f64,
    filled: Instant,
}

// === impl Bucket ===

impl Bucket {
    /// A full bucket of this size that fills up in `per`; without a size it is endless.
    pub fn new(size: Option<u64>, per: Duration, now: Instant) -> Bucket {
        let configured = size.map(|size| size as f64);
        let level = configured.unwrap_or(f64::INFINITY);
        Bucket { configured, learned: None, per, level, filled: now }
    }

    /// Its size now: the smaller of what the config says and what the upstream said. Endless is infinity.
    pub fn size(&self, now: Instant) -> f64 {
        let learned = self.learned.filter(|(_, until)| now < *until).map(|(size, _)| size);
        self.configured.unwrap_or(f64::INFINITY).min(learned.unwrap_or(f64::INFINITY))
    }

    /// What is left now; less than nothing is a debt.
    pub fn level(&self, now: Instant) -> f64 {
        let size = self.size(now);
        if size.is_infinite() {
            return f64::INFINITY;
        }
        let since = now.saturating_duration_since(self.filled).as_secs_f64();
        (self.level + size * since / self.per.as_secs_f64()).min(size)
    }

    /// From when on `need` can be taken: `now` at once; `None` never, since the size is nothing. A need
    /// larger than the bucket is met by a full one.
    pub fn ready_at(&self, now: Instant, need: u64) -> Option<Instant> {
        let size = self.size(now);
        let missing = (need as f64).min(size) - self.level(now);
        if missing <= 0.0 {
            return Some(now).filter(|_| size > 0.0 || need == 0);
        }
        if size <= 0.0 {
            return None;
        }
        let wait = Duration::try_from_secs_f64(missing * self.per.as_secs_f64() / size).ok()?;
        // Rounded up, so that asking again at that moment succeeds in spite of the fractions.
        now.checked_add(wait + Duration::from_millis(1))
    }

    /// Takes `need` if there is room; more than the size counts as the size. Gives back what was taken.
    pub fn reserve(&mut self, now: Instant, need: u64) -> Option<u64> {
        let ready = self.ready_at(now, need).is_some_and(|at| at <= now);
        if !ready {
            return None;
        }
        let size = self.size(now);
        let taken = if (need as f64) <= size { need } else { size as u64 };
        self.set(now, self.level(now) - taken as f64);
        Some(taken)
    }

    /// Replaces a reservation by what was really used. The debt ends at one size, so that one absurd figure
    /// does not close the provider for good.
    pub fn settle(&mut self, now: Instant, reserved: u64, used: u64) {
        let size = self.size(now);
        let level = self.level(now) + reserved as f64 - used as f64;
        self.set(now, level.clamp(-size, size));
    }

    /// Heeds what the upstream said of its own limit: lower only, and only until `until`.
    pub fn learn(&mut self, now: Instant, limit: Option<u64>, remaining: Option<u64>, until: Instant) {
        let before = self.level(now);
        match (limit, self.configured) {
            (Some(limit), _) => self.learned = Some((limit as f64, until)),
            // Without any limit there is no rate at which what remains would grow again.
            (None, None) if self.learned.is_none() => return,
            (None, _) => {}
        }
        let level = before.min(self.size(now)).min(remaining.map_or(f64::INFINITY, |left| left as f64));
        self.set(now, level);
    }

    /// Takes up another size from the config; the level is kept, in a smaller bucket as far as it fits.
    pub fn resize(&mut self, now: Instant, size: Option<u64>) {
        let was_endless = self.configured.is_none() && self.learned.is_none();
        let used = if was_endless { 0.0 } else { self.size(now) - self.level(now) };
        self.configured = size.map(|size| size as f64);
        let size = self.size(now);
        let level = if size.is_infinite() { size } else { size - used.max(0.0) };
        self.set(now, level.clamp(-size, size));
    }

    fn set(&mut self, now: Instant, level: f64) {
        self.level = level;
        self.filled = self.filled.max(now);
    }
}

#[cfg(test)]
mod tests;
