//! The way of a request through its candidates: who is asked next, and what a failed attempt leads to.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Exchange;
use super::attempt::{Committed, Failed, Terms};
use super::cached::{Cached, Found};
use super::continuation::Others;
use super::life::{Outcome, Tried, Wish};
use super::request::Request;
use super::settle::Settlement;
use crate::actors::directory::Published;
use crate::cells::{Lease, Refusal};
use crate::config::{AfterOutput, Routing};
use crate::dialect::{Fault, FaultKind};
use crate::routing::treatment::{Situation, Step, step};
use crate::routing::{Candidate, Plan, backoff};
use crate::runtime::clock;

/// Changes to a request that one provider may ask for, one after the other, before it counts as refused.
const MENDS: u32 = 3;

/// What is left of the wait that an upstream asked for when it is asked again: its actor counts from a little later.
const ALMOST: Duration = Duration::from_millis(250);

/// A request on its way.
pub(super) struct Course<'a> {
    exchange: &'a Exchange,
    request: &'a Arc<Request>,
    plan: &'a Plan,
    published: &'a Arc<Published>,
    routing: &'a Routing,
    deadline: Instant,
    settlement: Settlement,
    cache: Cached,
    ahead: VecDeque<Turn<'a>>,
    hops: u32,
    /// Attempts that were sent.
    attempts: u32,
    /// What the caller is told if nobody serves it.
    worst: Option<Fault>,
    too_small: Option<&'a Candidate>,
}

/// A candidate whose turn comes.
#[derive(Clone, Copy)]
struct Turn<'a> {
    candidate: &'a Candidate,
    /// It had no place, and nobody else served: now the request waits for one there.
    again: bool,
}

/// What became of a turn.
enum Came<'a> {
    /// An attempt reached its commit point.
    Committed(&'a Candidate, Box<(Lease, Committed)>),
    /// On to the next.
    Next,
    /// Nobody would do better.
    Stop,
}

// === impl Course ===

impl<'a> Course<'a> {
    #[allow(clippy::too_many_arguments)] // made in one place, from what stands there
    pub fn new(
        exchange: &'a Exchange,
        request: &'a Arc<Request>,
        plan: &'a Plan,
        published: &'a Arc<Published>,
        routing: &'a Routing,
        deadline: Instant,
        settlement: Settlement,
        cache: Cached,
    ) -> Course<'a> {
        let ahead = plan.candidates.iter().map(|candidate| Turn { candidate, again: false }).collect();
        Course {
            exchange,
            request,
            plan,
            published,
            routing,
            deadline,
            settlement,
            cache,
            ahead,
            hops: 0,
            attempts: 0,
            worst: None,
            too_small: None,
        }
    }

    /// Goes through the candidates until one commits.
    pub async fn run(mut self) -> Outcome {
        while let Some(turn) = self.ahead.pop_front() {
            if self.hops >= self.routing.max_hops || clock::now() >= self.deadline {
                break;
            }
            if self.too_small.is_some_and(|failed| !turn.candidate.may_hold_more_than(failed)) {
                self.settlement.note(turn.candidate, &"its window is no larger");
                continue;
            }
            match self.cache.look_up(self.request, turn.candidate, self.deadline).await {
                Found::Nothing => {}
                Found::Answer(found) => return Ok(self.settlement.cached(turn.candidate, found)),
            }
            match self.take(turn).await {
                Came::Committed(candidate, committed) => {
                    let (lease, committed) = *committed;
                    let left = self.routing.max_hops.saturating_sub(self.hops);
                    let (exchange, request) = (self.exchange, self.request);
                    let others = Others::of(exchange, request, self.plan, self.published, candidate, left);
                    return Ok(self.settlement.committed(candidate, lease, committed, self.cache, others));
                }
                Came::Next => {}
                Came::Stop => break,
            }
        }
        let fault = self.worst.take().unwrap_or_else(|| nobody(self.request, self.plan));
        Err(self.settlement.failed(fault))
    }

    /// Asks one candidate, as often as is worth it.
    async fn take(&mut self, turn: Turn<'a>) -> Came<'a> {
        let candidate = turn.candidate;
        let (mut retries, mut mends) = (0, 0);
        let mut mended = false;
        let mut tried: Vec<Arc<str>> = Vec::new();
        loop {
            let lease = match self.admit(turn, &tried, retries > 0).await {
                Ok(lease) => lease,
                Err(refusal) => {
                    self.refused(turn, refusal);
                    return Came::Next;
                }
            };
            // Every attempt beyond the first comes out of one budget, so that an outage is no storm.
            if self.attempts > 0 && !mended && !self.exchange.directory.routes.spend_retry(clock::now()) {
                self.settlement.note(candidate, &"not asked, since cproxy's retry budget is used up");
                return Came::Stop;
            }
            if retries == 0 && mends == 0 && tried.is_empty() {
                self.hops += 1;
            }
            self.attempts += 1;
            let is_probe = lease.is_probe();
            let (committed, tried_now) = self.race(candidate, lease).await;
            if let Some(committed) = committed {
                return committed;
            }
            let Some((lease, Failed { fault, mend })) = tried_now else { return Came::Next };
            if let Some(key) = lease.key() {
                tried.push(key.name().clone());
            }
            let more = self.hops < self.routing.max_hops;
            // Who has failed several times of late is not asked twice by the same request.
            let most = if is_probe { 0 } else { self.routing.retry_attempts };
            let situation = Situation {
                others: more && self.others_free(),
                last_resorts: more && !self.ahead.is_empty(),
                other_keys: lease.setup().keys.len() > tried.len(),
                retries_left: most.saturating_sub(retries),
                retry_ambiguous: self.routing.retry_ambiguous,
                backoff: backoff(self.routing.retry_delay, retries, self.exchange.directory.random.draw()),
                patience: self.deadline.saturating_duration_since(clock::now()),
            };
            let next = step(&fault, &situation);
            #[cfg(feature = "mutants")]
            let next = if crate::mutants::is(crate::mutants::Mutant::NoFailover) { Step::Stop } else { next };
            self.settlement.faulted(candidate, lease, &fault);
            if let Some(mend) = mend.filter(|_| mends < MENDS) {
                self.settlement.healed(mend.as_str());
                self.exchange.directory.routes.learn(&candidate.target, mend);
                tried.clear();
                mends += 1;
                mended = true;
                continue;
            }
            mended = false;
            let moves = matches!(next, Step::NextCandidate | Step::LargerWindow);
            let upcoming = self.ahead.front().filter(|_| moves).map(|turn| turn.candidate);
            self.say(candidate, &fault.kind.as_str().replace('_', " "), upcoming);
            worse(&mut self.worst, fault);
            match next {
                Step::Again(wait) => {
                    retries += 1;
                    tried.clear();
                    tokio::time::sleep(wait).await;
                }
                Step::OtherKey => {}
                Step::LargerWindow => {
                    self.too_small = Some(candidate);
                    return Came::Next;
                }
                Step::NextCandidate => return Came::Next,
                Step::Stop => return Came::Stop,
            }
        }
    }

    /// Asks for a lease. Where another candidate is free nobody waits for a place; where none is, an open breaker is
    /// no obstacle.
    async fn admit(&mut self, turn: Turn<'a>, tried: &[Arc<str>], again: bool) -> Result<Lease, Refusal> {
        let others_free = self.others_free();
        let wait = match (others_free && !turn.again, again) {
            (true, false) => Duration::ZERO,
            (true, true) => ALMOST,
            (false, _) => self.routing.max_wait,
        };
        let before = clock::now();
        let wish = Wish { tried, last_resort: !others_free, until: self.deadline.min(before + wait) };
        let lease = self.exchange.admit(self.request, turn.candidate, self.published, wish).await;
        self.settlement.waited(clock::now().saturating_duration_since(before));
        lease
    }

    /// Whether one of those ahead stands free.
    fn others_free(&self) -> bool {
        self.ahead.iter().any(|other| !other.again && other.candidate.why.blocked.is_none())
    }

    /// The candidate did not admit the request.
    fn refused(&mut self, turn: Turn<'a>, refusal: Refusal) {
        let candidate = turn.candidate;
        let comes_back = !turn.again && !self.ahead.is_empty() && refusal.passes_soon();
        let upcoming = self.ahead.front().map(|turn| turn.candidate);
        self.say(candidate, &refusal.to_string(), upcoming);
        self.settlement.passed_over(candidate, &refusal);
        worse(&mut self.worst, refusal.into_fault(&candidate.target, clock::now()));
        if comes_back {
            self.ahead.push_back(Turn { candidate, again: true });
        }
    }

    /// An attempt; and, if hedging is on and it is slow, a second one beside it at the next candidate. The first
    /// with output wins. Gives the winner, or how the first attempt failed.
    async fn race(
        &mut self,
        candidate: &'a Candidate,
        lease: Lease,
    ) -> (Option<Came<'a>>, Option<(Lease, Failed)>) {
        self.settlement.attempting(candidate, &lease);
        let (exchange, request, plan, deadline) = (self.exchange, self.request, self.plan, self.deadline);
        let hurry = self.hops < self.routing.max_hops && self.others_free();
        let terms = Terms { after_output: plan.after_output, hurry, so_far: None };
        let mut first = Box::pin(exchange.attempt(request, candidate, plan, lease, deadline, terms));
        let Some(delay) = self.hedge_after(candidate) else {
            let tried = first.await;
            return self.came(candidate, tried);
        };
        tokio::select! {
            biased;
            tried = &mut first => return self.came(candidate, tried),
            () = tokio::time::sleep(delay) => {}
        }
        let Some((other, lease)) = self.second().await else {
            let tried = first.await;
            return self.came(candidate, tried);
        };
        self.say(candidate, "slow", Some(other));
        self.settlement.attempting(other, &lease);
        let mut second = Box::pin(exchange.attempt(request, other, plan, lease, deadline, terms));
        let (first_tried, second_tried) = tokio::select! {
            biased;
            tried = &mut first => (Some(tried), None),
            tried = &mut second => (None, Some(tried)),
        };
        // The loser is dropped, which cancels it; its lease keeps what was reserved for it, since it may be billed.
        match (first_tried, second_tried) {
            (Some(tried), _) if tried.result.is_ok() => {
                self.settlement.outrun(other);
                self.came(candidate, tried)
            }
            (_, Some(tried)) if tried.result.is_ok() => {
                self.settlement.outrun(candidate);
                self.came(other, tried)
            }
            (Some(failed), _) => {
                let tried = second.await;
                if tried.result.is_ok() {
                    if let (_, Some((lease, failed))) = self.came(candidate, failed) {
                        self.settlement.faulted(candidate, lease, &failed.fault);
                    }
                    return self.came(other, tried);
                }
                self.lost(other, tried);
                self.came(candidate, failed)
            }
            (None, Some(failed)) => {
                self.lost(other, failed);
                let tried = first.await;
                self.came(candidate, tried)
            }
            (None, None) => (Some(Came::Next), None),
        }
    }

    /// Sorts what came of an attempt.
    fn came(
        &mut self,
        candidate: &'a Candidate,
        tried: Tried,
    ) -> (Option<Came<'a>>, Option<(Lease, Failed)>) {
        self.settlement.changed(tried.changed);
        match tried.result {
            Ok(committed) => (Some(Came::Committed(candidate, Box::new((tried.lease, committed)))), None),
            Err(failed) => (None, Some((tried.lease, failed))),
        }
    }

    /// The second attempt failed as well.
    fn lost(&mut self, candidate: &'a Candidate, tried: Tried) {
        if let (_, Some((lease, failed))) = self.came(candidate, tried) {
            self.settlement.faulted(candidate, lease, &failed.fault);
            worse(&mut self.worst, failed.fault);
        }
    }

    /// After which time without output the next candidate is asked as well; `None`: never.
    fn hedge_after(&self, candidate: &Candidate) -> Option<Duration> {
        let hedge = self.routing.hedge;
        let streams = self.request.facts.head.stream && self.plan.after_output != AfterOutput::Buffer;
        if !hedge.enabled || !streams || self.next_free().is_none() {
            return None;
        }
        let usual = self.published.entries.get(candidate.row)?.cell.usual_first_output();
        Some(usual.unwrap_or(hedge.max_delay).clamp(hedge.min_delay, hedge.max_delay.max(hedge.min_delay)))
    }

    /// The place in the queue of the next candidate that stands free.
    fn next_free(&self) -> Option<usize> {
        if self.hops >= self.routing.max_hops {
            return None;
        }
        self.ahead.iter().position(|turn| {
            turn.candidate.why.blocked.is_none()
                && self.too_small.is_none_or(|failed| turn.candidate.may_hold_more_than(failed))
        })
    }

    /// A lease for a second attempt, within its budget and without waiting.
    async fn second(&mut self) -> Option<(&'a Candidate, Lease)> {
        let at = self.next_free()?;
        let now = clock::now();
        if !self.exchange.directory.routes.spend_hedge(now) {
            return None;
        }
        let candidate = self.ahead.get(at)?.candidate;
        let wish = Wish { tried: &[], last_resort: false, until: now };
        let lease = self.exchange.admit(self.request, candidate, self.published, wish).await.ok()?;
        self.ahead.remove(at);
        self.hops += 1;
        self.attempts += 1;
        Some((candidate, lease))
    }

    /// Tells a waiting caller what happens. Lossy: nobody waits for it.
    fn say(&self, failed: &Candidate, what: &str, next: Option<&Candidate>) {
        if let Some(progress) = &self.request.progress {
            let _ = progress.try_send(match next {
                Some(next) => format!("{}: {what}; trying {}", failed.target, next.target),
                None => format!("{}: {what}", failed.target),
            });
        }
    }
}

/// Nobody can serve the request: what was missing at each.
fn nobody(request: &Request, plan: &Plan) -> Fault {
    Fault::new(FaultKind::ModelNotFound, plan.nobody(&request.facts.head.model))
}

/// Keeps the fault that tells the caller most: one that it can mend before one that passes; of equals, the last.
fn worse(worst: &mut Option<Fault>, fault: Fault) {
    let weight = |kind: FaultKind| match kind {
        FaultKind::Caller | FaultKind::ContentPolicy | FaultKind::ContextLength => 5,
        FaultKind::RateLimited | FaultKind::Overloaded => 4,
        FaultKind::ServerError | FaultKind::Timeout(_) | FaultKind::Network | FaultKind::Protocol => 3,
        FaultKind::Auth | FaultKind::Permission | FaultKind::Billing => 2,
        FaultKind::ModelNotFound => 1,
    };
    if worst.as_ref().is_none_or(|known| weight(known.kind) <= weight(fault.kind)) {
        *worst = Some(fault);
    }
}
