//! The actor of one provider.
//!
//! Owns: admission (token buckets, concurrency, breakers, key pool), the queue of waiting admissions, the
//! health-check timer. What must survive it stands in its cell: the admission state, the open leases, the HTTP
//! client. Leases that come back are settled here, at the next message or when somebody waits for one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Directory;
use super::router::RouterMessage;
use crate::cells::{AdmitSpec, Health, Lease, ProviderCell, Refusal};
use crate::runtime::{Me, Reply, Worker, clock};

/// How many callers may wait for a place unless the config says otherwise.
const MAX_WAITING: usize = 256;

/// What a provider is told.
#[derive(Debug)]
pub enum ProviderMessage {
    /// Asks for a lease; waits for a place until the asker's deadline.
    Admit(AdmitSpec, Reply<Result<Lease, Refusal>>),
    /// A lease came back, or the moment has come at which somebody who waits may be admitted.
    Returned,
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

/// One incarnation.
pub struct Provider {
    seat: Seat,
    waiting: VecDeque<Waiting>,
    /// The moment for which a timer is set.
    alarm: Option<Instant>,
    failed_probes: u32,
}

/// A caller that waits for a place.
struct Waiting {
    spec: AdmitSpec,
    reply: Reply<Result<Lease, Refusal>>,
}

impl Worker for Provider {
    type Message = ProviderMessage;
    type Seat = Seat;

    fn start(seat: &Seat, me: &mut Me<ProviderMessage>) -> Result<Provider, String> {
        seat.cell.restarted(clock::now());
        let (cell, address) = (seat.cell.clone(), me.address().clone());
        me.spawn(async move {
            loop {
                cell.bell().notified().await;
                if address.cast(ProviderMessage::Returned).is_err() {
                    return;
                }
            }
        });
        let mut provider = Provider { seat: seat.clone(), waiting: VecDeque::new(), alarm: None, failed_probes: 0 };
        provider.schedule_check(me);
        Ok(provider)
    }

    fn handle(&mut self, message: ProviderMessage, me: &mut Me<ProviderMessage>) {
        let now = clock::now();
        self.seat.cell.settle_returned(now, self.seat.directory.random.draw());
        match message {
            ProviderMessage::Admit(spec, reply) => self.admit(spec, reply, now, me),
            ProviderMessage::Returned => self.serve_waiting(now, me),
            ProviderMessage::Updated => {
                self.serve_waiting(now, me);
                self.seat.directory.router.cast(RouterMessage::Rebuild);
            }
            ProviderMessage::Check => self.check(me),
            ProviderMessage::Probed(health) => {
                self.failed_probes = match health {
                    Health::Ill(_) => self.failed_probes.saturating_add(1),
                    _ => 0,
                };
                self.seat.cell.probed(health);
                self.schedule_check(me);
            }
        }
    }

    fn name(message: &ProviderMessage) -> &'static str {
        match message {
            ProviderMessage::Admit(..) => "Admit",
            ProviderMessage::Returned => "Returned",
            ProviderMessage::Updated => "Updated",
            ProviderMessage::Check => "Check",
            ProviderMessage::Probed(_) => "Probed",
        }
    }
}

// === impl Provider ===

impl Provider {
    /// Grants, refuses, or lets the asker wait behind those who came before.
    fn admit(&mut self, spec: AdmitSpec, reply: Reply<Result<Lease, Refusal>>, now: Instant, me: &mut Me<ProviderMessage>) {
        if reply.is_closed() {
            return; // the asker has left
        }
        self.forget_the_gone();
        if self.waiting.is_empty() {
            match self.seat.cell.admit(&spec, now, self.seat.directory.random.draw()) {
                Ok(lease) => {
                    let _ = reply.send(Ok(lease)); // undelivered, the lease returns by its drop
                    return;
                }
                Err(refusal) if !refusal.passes_before(spec.until) => {
                    let _ = reply.send(Err(refusal));
                    return;
                }
                Err(_) => {}
            }
        }
        let room = self.seat.cell.setup().config.limits.max_waiting.map_or(MAX_WAITING, |room| room as usize);
        if self.waiting.len() >= room {
            let _ = reply.send(Err(Refusal::QueueFull));
            return;
        }
        self.waiting.push_back(Waiting { spec, reply });
        self.serve_waiting(now, me);
    }

    /// Serves those who wait, in order, as far as there is room.
    fn serve_waiting(&mut self, now: Instant, me: &mut Me<ProviderMessage>) {
        let mut next: Option<Instant> = None;
        while let Some(first) = self.waiting.pop_front() {
            if first.reply.is_closed() {
                continue;
            }
            match self.seat.cell.admit(&first.spec, now, self.seat.directory.random.draw()) {
                Ok(lease) => {
                    let _ = first.reply.send(Ok(lease)); // undelivered, the lease returns by its drop
                }
                Err(refusal) if now < first.spec.until && refusal.passes_before(first.spec.until) => {
                    let until = first.spec.until;
                    next = Some(refusal.ready_at().unwrap_or(until).min(until));
                    self.waiting.push_front(first);
                    break; // those behind it wait their turn
                }
                Err(refusal) => {
                    let _ = first.reply.send(Err(refusal));
                }
            }
        }
        self.seat.cell.set_waiting(self.waiting.len());
        if let Some(at) = next
            && self.alarm.is_none_or(|alarm| at < alarm || alarm <= now)
        {
            self.alarm = Some(at);
            me.after(at.saturating_duration_since(now).max(Duration::from_millis(1)), ProviderMessage::Returned);
        }
    }

    /// Those whose asker has left make room.
    fn forget_the_gone(&mut self) {
        self.waiting.retain(|waiting| !waiting.reply.is_closed());
    }

    /// Sets the timer for the next health check: with jitter, and sooner while the provider is not well.
    fn schedule_check(&mut self, me: &mut Me<ProviderMessage>) {
        let setup = self.seat.cell.setup();
        let interval = setup.config.health.interval;
        if interval.is_zero() {
            return;
        }
        let interval = match self.failed_probes {
            0 => interval,
            n => interval.min(Duration::from_secs(2) * 2u32.saturating_pow(n.min(8))),
        };
        let jitter = interval.mul_f64((self.seat.directory.random.draw() % 1000) as f64 / 5000.0);
        me.after(interval.mul_f64(0.9) + jitter, ProviderMessage::Check);
    }

    /// Probes the provider in a task of its own.
    fn check(&mut self, me: &mut Me<ProviderMessage>) {
        if let Some(probe) = self.seat.cell.probe() {
            let address = me.address().clone();
            me.spawn(async move {
                let _ = address.cast(ProviderMessage::Probed(probe.await)); // gone: the next one probes again
            });
        } else {
            self.schedule_check(me); // nothing to probe with, such as no key
        }
    }
}
