//! The life of one request, from its arrival to its commit point.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;

use super::Exchange;
use super::answer::Answer;
use super::attempt::{Committed, Failed, attempt};
use super::late::late;
use super::outgoing::outgoing;
use super::refuse;
use super::request::Request;
use super::settle::Settlement;
use crate::actors::directory::Published;
use crate::actors::provider::ProviderMessage;
use crate::cells::{Lease, OpenRequest, Refusal};
use crate::dialect::{Fault, FaultKind, Phase};
use crate::routing::admission::Ask;
use crate::routing::treatment::{Situation, Step, step};
use crate::routing::{Candidate, Home, Inputs, Plan, backoff, plan};
use crate::runtime::{self, AskError, Place, State, clock};

/// Silence before the first output after which a streaming caller gets its headers and a sign of life.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a provider's actor may take to answer, its queue apart.
const ASK_LIMIT: Duration = Duration::from_millis(250);

/// How long a restart of a provider's actor is waited for.
const RESTART_LIMIT: Duration = Duration::from_secs(2);

/// Output that is reserved for when an answer's length can't be known.
const EXPECTED_OUTPUT: u64 = 4096;

/// Changes to a request that one provider may ask for, one after the other, before it counts as refused.
const MENDS: u32 = 3;

/// A request that reached its commit point, or did not.
pub type Outcome = Result<Answer, Box<Failure>>;

/// A request that nobody could serve.
#[derive(Debug)]
pub struct Failure {
    /// The most telling fault: what the caller is told.
    pub fault: Fault,
    /// What happened at each candidate.
    pub route: String,
}

impl Exchange {
    /// Runs a request to its answer. Always answers; dropping the future, or the answer's stream, means that
    /// the caller has left: its upstream call ends, its lease returns, nothing more is tried.
    pub async fn run(&self, request: Request) -> Answer {
        let limit = self.directory.config_cell.get().config.server.max_requests;
        let Some(open) = self.directory.requests.begin(limit) else {
            return refuse::overloaded(&request);
        };
        let request = Arc::new(request);
        let mut life = Box::pin(self.clone().live(request.clone(), open));
        if !request.facts.head.stream {
            return refuse::settle_down(&request, life.await);
        }
        tokio::select! {
            biased;
            outcome = &mut life => refuse::settle_down(&request, outcome),
            () = tokio::time::sleep(PATIENCE) => late(request, life),
        }
    }

    /// From the route to the commit point. Contains whatever panics on the way, and ends with the daemon.
    async fn live(self, request: Arc<Request>, open: OpenRequest) -> Outcome {
        let life = std::panic::AssertUnwindSafe(self.attempts(&request, open)).catch_unwind();
        tokio::select! {
            biased;
            lived = life => lived.unwrap_or_else(|panic| {
                let panic = runtime::panic_text(&*panic);
                tracing::error!(request = %request.id, panic, "a request panicked");
                let fault = Fault::new(FaultKind::Protocol, "cproxy failed on this request (a bug of ours)");
                Err(Box::new(Failure { fault, route: String::new() }))
            }),
            () = self.directory.requests.ending().cancelled() => {
                let fault = Fault::new(FaultKind::Overloaded, "cproxy is stopping");
                Err(Box::new(Failure { fault, route: String::new() }))
            }
        }
    }

    /// Goes through the candidates until one commits.
    async fn attempts(&self, request: &Arc<Request>, open: OpenRequest) -> Outcome {
        let started = clock::now();
        let config = self.directory.config_cell.get();
        let routing = &config.config.routing;
        let deadline = started + request.timeout.unwrap_or(routing.deadline);
        self.directory.routes.earn_retry(started);
        let published = self.directory.published.load_full();
        let plan = self.plan(request, &published, false);
        let mut settlement = Settlement::begin(&self.directory, request, open, started);
        if let Some(reason) = &plan.refused {
            return Err(settlement.failed(Fault::new(FaultKind::Permission, reason.clone())));
        }
        if let Err(over) = settlement.reserve(&plan) {
            return Err(settlement.failed(over));
        }

        let mut worst: Option<Fault> = None;
        let mut too_small: Option<&Candidate> = None;
        let mut hops = 0;
        for (n, candidate) in plan.candidates.iter().enumerate() {
            if hops >= routing.max_hops || clock::now() >= deadline {
                break;
            }
            if too_small.is_some_and(|failed| !candidate.may_hold_more_than(failed)) {
                settlement.note(candidate, &"its window is no larger");
                continue;
            }
            hops += 1;
            let others = hops < routing.max_hops && n + 1 < plan.candidates.len();
            let (mut retries, mut mends) = (0, 0);
            let mut tried: Vec<Arc<str>> = Vec::new();
            loop {
                let wait_until = deadline.min(clock::now() + routing.max_wait);
                let asked = clock::now();
                let admitted = self.admit(request, candidate, &published, &tried, wait_until).await;
                settlement.waited(clock::now().saturating_duration_since(asked));
                let lease = match admitted {
                    Ok(lease) => lease,
                    Err(refusal) => {
                        settlement.passed_over(candidate, &refusal);
                        worse(&mut worst, refusal.into_fault(&candidate.target, clock::now()));
                        if retries == 0 && tried.is_empty() {
                            hops -= 1; // nothing was sent
                        }
                        break;
                    }
                };
                let (lease, Failed { fault, mend }) = match self
                    .attempt(request, candidate, &plan, lease, deadline, &mut settlement)
                    .await
                {
                    Ok((lease, committed)) => return Ok(settlement.committed(candidate, lease, committed)),
                    Err(failed) => failed,
                };
                if let Some(key) = lease.key() {
                    tried.push(key.name().clone());
                }
                let situation = Situation {
                    others,
                    other_keys: lease.setup().keys.len() > tried.len(),
                    retries_left: routing.retry_attempts.saturating_sub(retries),
                    retry_ambiguous: routing.retry_ambiguous,
                    backoff: backoff(routing.retry_delay, retries, self.directory.random.draw()),
                    patience: deadline.saturating_duration_since(clock::now()),
                };
                let next = step(&fault, &situation);
                settlement.faulted(candidate, lease, &fault);
                if let Some(mend) = mend.filter(|_| mends < MENDS) {
                    settlement.healed(mend.as_str());
                    self.directory.routes.learn(&candidate.target, mend);
                    tried.clear();
                    mends += 1;
                    continue;
                }
                let upcoming = plan
                    .candidates
                    .get(n + 1)
                    .filter(|_| matches!(next, Step::NextCandidate | Step::LargerWindow));
                say(request, candidate, &fault, upcoming);
                worse(&mut worst, fault);
                match next {
                    Step::Again(wait) if self.directory.routes.spend_retry(clock::now()) => {
                        retries += 1;
                        tried.clear();
                        tokio::time::sleep(wait).await;
                    }
                    Step::OtherKey => {}
                    Step::LargerWindow => {
                        too_small = Some(candidate);
                        break;
                    }
                    Step::Again(_) | Step::NextCandidate => break,
                    Step::Stop => {
                        return Err(settlement.failed(worst.unwrap_or_else(|| nobody(request, &plan))));
                    }
                }
            }
        }
        Err(settlement.failed(worst.unwrap_or_else(|| nobody(request, &plan))))
    }

    /// One attempt: the request in the candidate's dialect, sent, up to its commit point.
    async fn attempt(
        &self,
        request: &Request,
        candidate: &Candidate,
        plan: &Plan,
        mut lease: Lease,
        deadline: Instant,
        settlement: &mut Settlement,
    ) -> Result<(Lease, Committed), (Lease, Failed)> {
        settlement.attempting(candidate, &lease);
        let learned = self.directory.routes.learned(&candidate.target);
        let outgoing = match outgoing(request, candidate, plan, &lease, &learned) {
            Ok(outgoing) => outgoing,
            Err(fault) => return Err((lease, Failed { fault, mend: None })),
        };
        settlement.translated(&outgoing);
        settlement.sending();
        // A caller that streams waits for its first output; one that does not, for the whole answer.
        let until = if request.facts.head.stream || request.timeout.is_some() {
            deadline
        } else {
            clock::now() + lease.timeouts().total
        };
        match tokio::time::timeout_at(until.into(), attempt(request, &mut lease, outgoing, &learned)).await {
            Ok(Ok(committed)) => Ok((lease, committed)),
            Ok(Err(failed)) => Err((lease, failed)),
            Err(_) => {
                let kind = FaultKind::Timeout(Phase::FirstOutput);
                let fault =
                    Fault { ambiguous: true, ..Fault::new(kind, "the request's own deadline passed") };
                Err((lease, Failed { fault, mend: None }))
            }
        }
    }

    /// Who is to be asked, in order.
    pub(super) fn plan(&self, request: &Request, published: &Published, explain: bool) -> Plan {
        let now = clock::now();
        let home = self.home(request, now);
        let vital = |row: usize, model: &str| match published.entries.get(row) {
            Some(entry) => entry.vital(model, now),
            None => Default::default(),
        };
        let inputs = Inputs {
            facts: &request.facts,
            table: &published.table,
            vital: &vital,
            credential: request.credential.is_some(),
            affinity: home.as_ref().map(|home| &home.target),
            now,
            draw: self.directory.random.draw(),
            explain,
        };
        self.directory.routes.balance(|balance| plan(&inputs, balance))
    }

    /// Where the session was served before with this model.
    fn home(&self, request: &Request, now: Instant) -> Option<Home> {
        let session = request.facts.session.as_deref()?;
        self.directory.routes.home(session, &request.facts.head.model, now)
    }

    /// Asks the candidate's actor for a lease.
    async fn admit(
        &self,
        request: &Request,
        candidate: &Candidate,
        published: &Published,
        tried: &[Arc<str>],
        until: Instant,
    ) -> Result<Lease, Refusal> {
        let Some(entry) = published.entries.get(candidate.row) else { return Err(Refusal::Gone) };
        let head = &request.facts.head;
        let home = self.home(request, clock::now());
        let output = head.max_tokens.unwrap_or(EXPECTED_OUTPUT).min(EXPECTED_OUTPUT);
        let ask = Ask {
            model: candidate.target.model.clone(),
            tokens: head.estimated_tokens.saturating_add(output),
            session: request.facts.session.clone(),
            key: home.filter(|home| home.target == candidate.target).and_then(|home| home.key),
            tried: tried.to_vec(),
            deadline: until,
        };
        let back_by = until.min(clock::now() + RESTART_LIMIT);
        loop {
            let ask = ask.clone();
            match runtime::ask(&entry.slot, until + ASK_LIMIT, |reply| ProviderMessage::Admit(ask, reply))
                .await
            {
                Ok(granted) => return granted,
                Err(AskError::Deadline | AskError::Overloaded) => return Err(Refusal::Busy),
                Err(AskError::Down | AskError::Died) => {
                    // A restart is not an outage: the next incarnation is asked, unless it will be long in coming.
                    let state = entry.slot.vitals().state();
                    if !matches!(state, State::Running | State::Restarting) || clock::now() >= back_by {
                        return Err(Refusal::Gone);
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        }
    }
}

/// Tells a waiting caller what happens. Lossy: nobody waits for it.
fn say(request: &Request, failed: &Candidate, fault: &Fault, next: Option<&Candidate>) {
    if let Some(progress) = &request.progress {
        let what = fault.kind.as_str().replace('_', " ");
        let _ = progress.try_send(match next {
            Some(next) => format!("{}: {what}; trying {}", failed.target, next.target),
            None => format!("{}: {what}", failed.target),
        });
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
