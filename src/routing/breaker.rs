//! The breaker of one model at one provider: closed, open, half-open with a single probe.
//!
//! It opens when half of at least five attempts of the last 30 seconds failed, or three in a row. It stays
//! open for 15 seconds, twice as long after each failed probe, at most 120, give or take a tenth; a longer
//! wait that the upstream asked for is kept. Nothing that fails while it is open shortens that.
//!
//! A request that has nobody else to go to passes all the same, as a trial: to be refused by us is no better
//! than to be refused by the upstream. A trial that goes well shows that the upstream is back, and closes the
//! breaker; one that fails changes nothing.

use std::time::{Duration, Instant};

/// Share of failures that opens.
const RATE: f64 = 0.5;
/// Fewer attempts than this say nothing of the share.
const FEWEST: u32 = 5;
/// Failures in a row that open.
const IN_A_ROW: u32 = 3;
/// The first cool-down.
const BASE: Duration = Duration::from_secs(15);
/// The longest cool-down of our own.
const LONGEST: Duration = Duration::from_secs(120);
/// The longest wait that an upstream may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(3600);
/// A probe that says nothing for this long is taken for lost, and another may go.
const PROBE_LOST: Duration = Duration::from_secs(150);
/// The window, in slots.
const SLOTS: usize = 10;
/// The length of a slot.
const SLOT: Duration = Duration::from_secs(3);

/// The breaker of one model at one provider.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Breaker {
    inner: Inner,
    ring: Ring,
    in_a_row: u32,
    streak: u32,
    /// Permits given so far.
    permits: u64,
    /// How many of them when it opened last: later ones tell how the upstream is since then.
    before: u64,
}

/// How a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// All may pass.
    Closed,
    /// None may pass until then.
    Open {
        /// The moment.
        until: Instant,
    },
    /// One probe may pass, or is on its way.
    HalfOpen {
        /// Whether it is on its way.
        probing: bool,
    },
}

/// What happens to a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerEvent {
    /// Somebody wants to pass.
    Ask {
        /// There is nobody else to ask.
        last_resort: bool,
    },
    /// An attempt went well.
    Success {
        /// The permit of a probe or a trial, if it was one.
        probe: Option<Probe>,
    },
    /// An attempt failed, and the provider is to blame.
    Failure {
        /// The permit of a probe or a trial, if it was one.
        probe: Option<Probe>,
        /// How long the upstream wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// An attempt ended and says nothing of the provider: the caller left, or was at fault, or it was never
    /// sent. Rate limits (429) come here too: they are an embargo, not a failure.
    Neutral {
        /// The permit of a probe or a trial, if it was one.
        probe: Option<Probe>,
    },
}

/// The permit of a probe or a trial. Comes back with the event that ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe(u64);

/// What an event led to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BreakerEffects {
    /// After `Ask`: it may pass.
    pub admitted: bool,
    /// After `Ask`: it passes as a probe or a trial, with this permit.
    pub probe: Option<Probe>,
    /// It opened, or stays open for longer.
    pub opened: Option<Instant>,
    /// It closed.
    pub closed: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Inner {
    #[default]
    Closed,
    /// Open until the moment; half-open from then on, with the probe that is out, if one is.
    Open { until: Instant, probe: Option<(u64, Instant)> },
}

/// Successes and failures of the last 30 seconds.
#[derive(Clone, Debug, Default, PartialEq)]
struct Ring {
    origin: Option<Instant>,
    slots: [Slot; SLOTS],
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Slot {
    tick: u64,
    well: u32,
    failed: u32,
}

// === impl Breaker ===

impl Breaker {
    /// How it stands now.
    pub fn state(&self, now: Instant) -> BreakerState {
        match self.inner {
            Inner::Closed => BreakerState::Closed,
            Inner::Open { until, .. } if now < until => BreakerState::Open { until },
            Inner::Open { probe, .. } => BreakerState::HalfOpen { probing: probe_is_out(probe, now) },
        }
    }

    /// From when on somebody may pass; `None` when closed. A probe that is on its way holds others back for
    /// an unknown time: then it is now.
    pub fn ready_at(&self) -> Option<Instant> {
        match self.inner {
            Inner::Closed => None,
            Inner::Open { until, .. } => Some(until),
        }
    }

    /// Takes an event. `draw` is a random number, for the jitter.
    pub fn on(&mut self, event: BreakerEvent, now: Instant, draw: u64) -> BreakerEffects {
        match event {
            BreakerEvent::Ask { last_resort } => self.ask(last_resort, now),
            BreakerEvent::Success { probe } => self.success(probe, now),
            BreakerEvent::Failure { probe, retry_after } => self.failure(probe, retry_after, now, draw),
            BreakerEvent::Neutral { probe } => {
                self.end_probe(probe);
                BreakerEffects::default()
            }
        }
    }

    fn ask(&mut self, last_resort: bool, now: Instant) -> BreakerEffects {
        let Inner::Open { until, probe } = &mut self.inner else {
            return BreakerEffects { admitted: true, ..BreakerEffects::default() };
        };
        let is_its_time = now >= *until && !probe_is_out(*probe, now);
        if !is_its_time && !last_resort {
            return BreakerEffects::default();
        }
        self.permits += 1;
        if is_its_time {
            *probe = Some((self.permits, now));
        }
        let permit = Some(Probe(self.permits));
        BreakerEffects { admitted: true, probe: permit, ..BreakerEffects::default() }
    }

    fn success(&mut self, probe: Option<Probe>, now: Instant) -> BreakerEffects {
        match self.inner {
            Inner::Closed => {
                self.in_a_row = 0;
                self.ring.add(now, true);
                BreakerEffects::default()
            }
            // Attempts that began before it opened say nothing of how the upstream is now; later ones do.
            Inner::Open { .. } => {
                if probe.is_none_or(|Probe(id)| id <= self.before) {
                    return BreakerEffects::default();
                }
                *self = Breaker { permits: self.permits, before: self.permits, ..Breaker::default() };
                BreakerEffects { closed: true, ..BreakerEffects::default() }
            }
        }
    }

    fn failure(
        &mut self,
        probe: Option<Probe>,
        retry_after: Option<Duration>,
        now: Instant,
        draw: u64,
    ) -> BreakerEffects {
        match self.inner {
            Inner::Closed => {
                self.in_a_row += 1;
                self.ring.add(now, false);
                if self.in_a_row < IN_A_ROW && !self.ring.too_many(now) {
                    return BreakerEffects::default();
                }
                self.open(retry_after, now, draw)
            }
            Inner::Open { until, .. } => {
                if self.end_probe(probe) {
                    self.streak = self.streak.saturating_add(1);
                    return self.open(retry_after, now, draw);
                }
                // A trial, or one that began before: only what the upstream asks for counts, if it is longer.
                let asked = retry_after.map(|wait| now + wait.min(LONGEST_ASKED));
                match asked.filter(|asked| *asked > until) {
                    Some(asked) => {
                        if let Inner::Open { until, .. } = &mut self.inner {
                            *until = asked;
                        }
                        BreakerEffects { opened: Some(asked), ..BreakerEffects::default() }
                    }
                    None => BreakerEffects::default(),
                }
            }
        }
    }

    fn open(&mut self, retry_after: Option<Duration>, now: Instant, draw: u64) -> BreakerEffects {
        let doubled = BASE.saturating_mul(1 << self.streak.min(16)).min(LONGEST);
        let own = doubled.mul_f64(0.9 + 0.2 * unit(draw));
        let asked = retry_after.unwrap_or(Duration::ZERO).min(LONGEST_ASKED);
        let earlier = self.ready_at();
        let until = earlier.into_iter().fold(now + own.max(asked), Instant::max);
        self.inner = Inner::Open { until, probe: None };
        self.before = self.permits;
        self.ring = Ring::default();
        self.in_a_row = 0;
        BreakerEffects { opened: Some(until), ..BreakerEffects::default() }
    }

    /// Takes the permit back; says whether it was the one that is out.
    fn end_probe(&mut self, probe: Option<Probe>) -> bool {
        match (&mut self.inner, probe) {
            (Inner::Open { probe: out, .. }, Some(Probe(id))) if out.is_some_and(|(own, _)| own == id) => {
                *out = None;
                true
            }
            _ => false,
        }
    }
}

fn probe_is_out(probe: Option<(u64, Instant)>, now: Instant) -> bool {
    probe.is_some_and(|(_, since)| now.saturating_duration_since(since) < PROBE_LOST)
}

/// A random number as one between 0 and 1.
pub(super) fn unit(draw: u64) -> f64 {
    (draw >> 11) as f64 / (1u64 << 53) as f64
}

// === impl Ring ===

impl Ring {
    fn tick(&self, now: Instant) -> u64 {
        let since = self.origin.map_or(Duration::ZERO, |origin| now.saturating_duration_since(origin));
        // From 1, so that 0 marks a slot that was never used.
        1 + since.as_secs() / SLOT.as_secs()
    }

    fn add(&mut self, now: Instant, well: bool) {
        self.origin.get_or_insert(now);
        let tick = self.tick(now);
        let Some(slot) = self.slots.get_mut((tick % SLOTS as u64) as usize) else { return };
        if slot.tick != tick {
            *slot = Slot { tick, ..Slot::default() };
        }
        let count = if well { &mut slot.well } else { &mut slot.failed };
        *count = count.saturating_add(1);
    }

    fn too_many(&self, now: Instant) -> bool {
        let tick = self.tick(now);
        let recent = self.slots.iter().filter(|slot| slot.tick > 0 && slot.tick + SLOTS as u64 > tick);
        let (well, failed) = recent.fold((0u32, 0u32), |(well, failed), slot| {
            (well.saturating_add(slot.well), failed.saturating_add(slot.failed))
        });
        let all = well.saturating_add(failed);
        all >= FEWEST && f64::from(failed) >= RATE * f64::from(all)
    }
}

#[cfg(test)]
mod tests;
