//! The actor of one provider.
//!
//! Owns: admission (token buckets, concurrency, breakers, key pool), the queue of waiting admissions, the
//! health-check timer. What must survive it stands in its cell: the admission state, the open leases, the HTTP
//! client. Leases that come back are settled here, at the next message or when somebody waits for one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Directory;
use super::router::RouterMessage;
use crate::cells::{Admitted, Health, Lease, ProviderCell, Refusal};
use crate::routing::admission::{Ask, Ticket};
use crate::routing::invariants;
use crate::runtime::{Me, Reply, Worker, clock};

/// What a provider is told.
#[derive(Debug)]
pub enum ProviderMessage {
    /// Asks for a lease; waits for a place until the ask's deadline.
    Admit(Ask, Reply<Result<Lease, Refusal>>),
    /// A lease came back, or the moment has come at which somebody who waits may be admitted.
    Wake,
    /// The setup in the cell has changed.
    Updated,
    /// From its timer: time for a health check.
    Check,
    /// From its probe: what the health check found.
    Probed(Health),
}

/// What every incarnation is made from.
#[derive(Clone)]
pub struct Seat {
    /// What survives.
    pub cell: Arc<ProviderCell>,
    /// Where the others live.
    pub directory: Arc<Directory>,
}

/// One who waits for a place, and the request for which that is.
struct Waiting {
    reply: Reply<Result<Lease, Refusal>>,
    span: tracing::Span,
}

/// One incarnation.
pub struct Provider {
    seat: Seat,
    /// Whom to answer when the waiting is over.
    waiting: HashMap<Ticket, Waiting>,
    /// The moment for which a timer is set.
    alarm: Option<Instant>,
    failed_checks: u32,
    /// The moment for which the next health check is set.
    check_due: Instant,
}

/// A health check that comes later than this was held up by a machine that slept, or a process that was stopped: then
/// the checks of all providers are due at once.
const HELD_UP: Duration = Duration::from_secs(5);

/// Over which time those checks are spread.
const SPREAD: Duration = Duration::from_secs(10);

impl Worker for Provider {
    type Message = ProviderMessage;
    type Seat = Seat;

    fn start(seat: &Seat, me: &mut Me<ProviderMessage>) -> Result<Provider, String> {
        seat.cell.restarted();
        let (cell, address) = (seat.cell.clone(), me.address().clone());
        me.spawn(async move {
            loop {
                cell.bell().notified().await;
                if address.cast(ProviderMessage::Wake).is_err() {
                    return;
                }
            }
        });
        let mut provider = Provider {
            seat: seat.clone(),
            waiting: HashMap::new(),
            alarm: None,
            failed_checks: 0,
            check_due: clock::now(),
        };
        provider.schedule_check(me);
        Ok(provider)
    }

    fn handle(&mut self, message: ProviderMessage, me: &mut Me<ProviderMessage>) {
        let now = clock::now();
        self.seat.cell.settle_returned(now, self.draw());
        match message {
            ProviderMessage::Admit(ask, reply) => self.admit(ask, reply, now, me),
            ProviderMessage::Wake => self.wake(now, me),
            ProviderMessage::Updated => {
                self.wake(now, me);
                self.seat.directory.router.cast(RouterMessage::Rebuild);
            }
            ProviderMessage::Check => self.check(now, me),
            ProviderMessage::Probed(health) => {
                self.failed_checks = match health {
                    Health::Ill(_) => self.failed_checks.saturating_add(1),
                    _ => 0,
                };
                self.seat.cell.probed(health);
                self.schedule_check(me);
            }
        }
        let cell = &self.seat.cell;
        invariants::assert(|| invariants::buckets(&cell.setup().id, cell.buckets(clock::now())));
    }

    fn name(message: &ProviderMessage) -> &'static str {
        match message {
            ProviderMessage::Admit(..) => "Admit",
            ProviderMessage::Wake => "Wake",
            ProviderMessage::Updated => "Updated",
            ProviderMessage::Check => "Check",
            ProviderMessage::Probed(_) => "Probed",
        }
    }
}

// === impl Provider ===

impl Provider {
    /// Grants, refuses, or lets the asker wait behind those who came before.
    fn admit(
        &mut self,
        ask: Ask,
        reply: Reply<Result<Lease, Refusal>>,
        now: Instant,
        me: &mut Me<ProviderMessage>,
    ) {
        if reply.is_closed() {
            return; // the asker has left
        }
        self.forget_the_gone();
        let setup = self.seat.cell.setup();
        let provider = setup.id.as_str();
        match self.seat.cell.admit(ask, now, self.draw()) {
            Admitted::Now(lease) => answer(reply, Ok(lease), provider),
            Admitted::Not(refusal) => answer(reply, Err(refusal), provider),
            Admitted::Waits(ticket) => {
                tracing::debug!(provider, "waits for a place");
                self.waiting.insert(ticket, Waiting { reply, span: tracing::Span::current() });
                self.wake(now, me);
            }
        }
    }

    /// Answers those whose waiting is over, and sets the timer for the next.
    fn wake(&mut self, now: Instant, me: &mut Me<ProviderMessage>) {
        self.forget_the_gone();
        let setup = self.seat.cell.setup();
        let (woken, next) = self.seat.cell.wake(now, self.draw());
        for (ticket, verdict) in woken {
            if let Some(Waiting { reply, span }) = self.waiting.remove(&ticket) {
                span.in_scope(|| answer(reply, verdict, setup.id.as_str()));
            }
        }
        if let Some(at) = next
            && self.alarm.is_none_or(|alarm| at < alarm || alarm <= now)
        {
            self.alarm = Some(at);
            me.after(at.saturating_duration_since(now).max(Duration::from_millis(1)), ProviderMessage::Wake);
        }
    }

    /// Those whose asker has left make room.
    fn forget_the_gone(&mut self) {
        let cell = &self.seat.cell;
        self.waiting.retain(|ticket, waiting| {
            let stays = !waiting.reply.is_closed();
            if !stays {
                cell.leave(*ticket);
            }
            stays
        });
    }

    /// Sets the timer for the next health check: with jitter, and sooner while the provider is not well.
    fn schedule_check(&mut self, me: &mut Me<ProviderMessage>) {
        let interval = self.seat.cell.setup().config.health.interval;
        if interval.is_zero() {
            return;
        }
        let interval = match self.failed_checks {
            0 => interval,
            n => interval.min(Duration::from_secs(2) * 2u32.saturating_pow(n.min(8))),
        };
        let jitter = interval.mul_f64(0.2 * self.fraction());
        self.check_in(interval.mul_f64(0.9) + jitter, me);
    }

    fn check_in(&mut self, delay: Duration, me: &mut Me<ProviderMessage>) {
        self.check_due = clock::now() + delay;
        me.after(delay, ProviderMessage::Check);
    }

    /// Probes the provider in a task of its own. After a sleep of the machine not at once: all others are due as well.
    fn check(&mut self, now: Instant, me: &mut Me<ProviderMessage>) {
        if now.saturating_duration_since(self.check_due) > HELD_UP {
            return self.check_in(SPREAD.mul_f64(self.fraction()), me);
        }
        match self.seat.cell.probe() {
            Some(probe) => {
                let address = me.address().clone();
                me.spawn(async move {
                    let _ = address.cast(ProviderMessage::Probed(probe.await)); // gone: the next one probes again
                });
            }
            None => self.schedule_check(me), // nothing to check with, such as no key
        }
    }

    /// From 0 to 1, at random.
    fn fraction(&self) -> f64 {
        (self.draw() % 1000) as f64 / 1000.0
    }

    fn draw(&self) -> u64 {
        self.seat.directory.random.draw()
    }
}

/// Answers an asker. Undelivered, the lease returns by its drop.
fn answer(reply: Reply<Result<Lease, Refusal>>, verdict: Result<Lease, Refusal>, provider: &str) {
    match &verdict {
        Ok(lease) => {
            let key = lease.key().map(|key| &**key.name());
            tracing::debug!(provider, key, "admitted");
        }
        Err(refusal) => tracing::debug!(provider, %refusal, "not admitted"),
    }
    let _ = reply.send(verdict);
}
