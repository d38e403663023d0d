//! The life of one request.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{FutureExt, Stream, StreamExt};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::Exchange;
use super::answer::{Answer, AnswerBody};
use super::attempt::attempt;
use super::outgoing::outgoing;
use super::pipe::error_event;
use super::relay::PING_EVERY;
use super::request::Request;
use super::settle::Settlement;
use crate::actors::directory::Published;
use crate::actors::provider::ProviderMessage;
use crate::cells::{Lease, OpenRequest, Refusal};
use crate::dialect::{Fault, FaultKind, anthropic};
use crate::routing::admission::Ask;
use crate::routing::treatment::{Next, treatment};
use crate::routing::{Candidate, Home, Inputs, Plan, backoff, plan};
use crate::runtime::{self, AskError, Place, State, clock};

/// Silence before the first output after which a streaming caller gets its headers and a ping.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a provider's actor may take to answer, its queue apart.
const ASK_LIMIT: Duration = Duration::from_millis(250);

/// Output that is reserved for when an answer's length can't be known.
const EXPECTED_OUTPUT: u64 = 4096;

/// How long a restart of a provider's actor is waited for.
const RESTART_LIMIT: Duration = Duration::from_secs(2);

/// A request that reached its commit point, or did not.
type Outcome = Result<Box<Answer>, Box<Failure>>;

/// A request that nobody could serve.
#[derive(Debug)]
pub struct Failure {
    /// The most telling fault: what the caller is told.
    pub fault: Fault,
    /// Attempts that were made.
    pub attempts: u32,
    /// What happened at each.
    pub route: String,
}

impl Exchange {
    /// Runs a request to its answer. Always answers; dropping the future, or the answer's stream, means that
    /// the caller has left: its upstream call ends, its lease returns, nothing more is tried.
    pub async fn run(&self, request: Request) -> Answer {
        let limit = self.directory.config_cell.get().config.server.max_requests;
        let Some(open) = self.directory.requests.begin(limit) else {
            return overloaded(&request);
        };
        let (id, stream) = (request.id.clone(), request.facts.head.stream);
        let mut life = Box::pin(self.clone().live(request, open));
        if !stream {
            return settle_down(&id.0, life.await);
        }
        tokio::select! {
            biased;
            outcome = &mut life => settle_down(&id.0, outcome),
            () = tokio::time::sleep(PATIENCE) => late(id.0.to_string(), life),
        }
    }

    /// From the route to the commit point. Contains whatever panics on the way.
    async fn live(self, request: Request, open: OpenRequest) -> Outcome {
        let request = Arc::new(request);
        let life = std::panic::AssertUnwindSafe(self.attempts(&request, open)).catch_unwind();
        match life.await {
            Ok(outcome) => outcome,
            Err(panic) => {
                let panic = crate::runtime::panic_text(&*panic);
                tracing::error!(request = %request.id, panic, "a request panicked");
                let fault = Fault::new(FaultKind::Protocol, "cproxy failed on this request (a bug of ours)");
                Err(Box::new(Failure { fault, attempts: 0, route: String::new() }))
            }
        }
    }

    /// Goes through the candidates until one commits.
    async fn attempts(&self, request: &Arc<Request>, open: OpenRequest) -> Outcome {
        let config = self.directory.config_cell.get();
        let routing = &config.config.routing;
        let started = clock::now();
        let deadline = started + request.timeout.unwrap_or(routing.deadline);
        let published = self.directory.published.load_full();
        let plan = self.plan(request, &published, false);
        let mut settlement = Settlement::begin(&self.directory, request, open, started);
        if let Some(reason) = plan.refused {
            return Err(settlement.failed(Fault::new(FaultKind::Permission, reason)));
        }
        let mut worst: Option<Fault> = None;
        let mut needs_window = 0;
        let mut hops = 0;
        for candidate in &plan.candidates {
            if hops >= routing.max_hops || clock::now() >= deadline {
                break;
            }
            if needs_window > 0 && candidate.window.is_none_or(|window| window <= needs_window) {
                continue;
            }
            let mut retries = 0;
            let mut tried: Vec<Arc<str>> = Vec::new();
            let mut hopped = false;
            loop {
                let mut lease = match self
                    .admit(
                        request,
                        candidate,
                        &published,
                        &tried,
                        deadline.min(clock::now() + routing.max_wait),
                    )
                    .await
                {
                    Ok(lease) => lease,
                    Err(refusal) => {
                        settlement.passed_over(candidate, &refusal);
                        worse(&mut worst, refusal.into_fault(&candidate.target, clock::now()));
                        break;
                    }
                };
                if !hopped {
                    hopped = true;
                    hops += 1;
                }
                settlement.attempting(candidate, &lease);
                let sent = match outgoing(request, candidate, &plan, &lease) {
                    Ok(outgoing) => {
                        let try_until = deadline;
                        match tokio::time::timeout_at(
                            try_until.into(),
                            attempt(request, &mut lease, outgoing),
                        )
                        .await
                        {
                            Ok(result) => result,
                            Err(_) => Err(Fault::new(
                                FaultKind::Timeout(crate::dialect::Phase::FirstOutput),
                                "the request's own deadline passed",
                            )),
                        }
                    }
                    Err(fault) => Err(fault),
                };
                let fault = match sent {
                    Ok(committed) => {
                        return Ok(Box::new(settlement.committed(request, candidate, lease, committed)));
                    }
                    Err(fault) => fault,
                };
                let next = treatment(fault.kind).next;
                let may_go_on = !fault.ambiguous || routing.retry_ambiguous;
                if next == Next::RotateKey
                    && let Some(key) = lease.key()
                {
                    tried.push(key.name().clone());
                }
                settlement.faulted(candidate, lease, &fault);
                self.say(request, candidate, &fault, &plan.candidates);
                let retry_after = fault.retry_after;
                worse(&mut worst, fault);
                if !may_go_on {
                    return Err(settlement.failed(worst.unwrap_or_else(|| unserved(request, &plan))));
                }
                match next {
                    Next::Stop => {
                        return Err(settlement.failed(worst.unwrap_or_else(|| unserved(request, &plan))));
                    }
                    Next::RetryHere | Next::RotateKey if retries < routing.retry_attempts => {
                        let wait = match next {
                            Next::RotateKey => Duration::ZERO,
                            _ => retry_after.unwrap_or_else(|| {
                                backoff(routing.retry_delay, retries, self.directory.random.draw())
                            }),
                        };
                        retries += 1;
                        if clock::now() + wait >= deadline || !self.directory.routes.spend_retry(clock::now())
                        {
                            break;
                        }
                        tokio::time::sleep(wait).await;
                    }
                    Next::LargerWindow => {
                        needs_window =
                            needs_window.max(candidate.window.unwrap_or(request.facts.head.estimated_tokens));
                        break;
                    }
                    Next::RetryHere | Next::RotateKey | Next::NextCandidate => break,
                }
            }
        }
        Err(settlement.failed(worst.unwrap_or_else(|| unserved(request, &plan))))
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
            credential: request.credential.api_key.is_some() || request.credential.authorization.is_some(),
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
        let ask = Ask {
            model: candidate.target.model.clone(),
            tokens: head
                .estimated_tokens
                .saturating_add(head.max_tokens.unwrap_or(EXPECTED_OUTPUT).min(EXPECTED_OUTPUT)),
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

    /// Tells a waiting caller what happens.
    fn say(&self, request: &Request, failed: &Candidate, fault: &Fault, candidates: &[Candidate]) {
        if let Some(progress) = &request.progress {
            let next = candidates.iter().skip_while(|next| next.target != failed.target).nth(1);
            let what = fault.kind.as_str().replace('_', " ");
            let text = match next {
                Some(next) => format!("{}: {what}; next is {}", failed.target, next.target),
                None => format!("{}: {what}", failed.target),
            };
            let _ = progress.try_send(text); // lossy: nobody waits for it
        }
    }
}

/// The answer to a caller, whatever became of its request.
fn settle_down(id: &str, outcome: Outcome) -> Answer {
    match outcome {
        Ok(answer) => *answer,
        Err(failure) => {
            let error = anthropic::error::write(&failure.fault, id);
            let mut headers = error_headers(id, error.retry_after, error.should_retry);
            if let Ok(route) = HeaderValue::from_str(&failure.route) {
                headers.insert("x-cproxy-route", route);
            }
            Answer { status: error.status, headers, body: AnswerBody::Whole(error.body), served: None }
        }
    }
}

/// The headers of an error.
fn error_headers(id: &str, retry_after: Option<u64>, should_retry: Option<bool>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert("request-id", id);
    }
    if let Some(seconds) = retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(retry) = should_retry {
        headers.insert("x-should-retry", HeaderValue::from_static(if retry { "true" } else { "false" }));
    }
    headers
}

/// Too many requests are open already.
fn overloaded(request: &Request) -> Answer {
    let mut fault = Fault::new(
        FaultKind::Overloaded,
        "cproxy serves as many requests as it may (server.max_requests); try again shortly",
    );
    fault.retry_after = Some(Duration::from_secs(1));
    settle_down(&request.id.0, Err(Box::new(Failure { fault, attempts: 0, route: String::new() })))
}

/// A streaming caller that has waited long gets its headers and signs of life; what comes of its request follows in
/// the stream.
fn late(id: String, life: Pin<Box<dyn Future<Output = Outcome> + Send>>) -> Answer {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert("request-id", id);
    }
    let stream = futures_util::stream::unfold(Late::Waiting(id, life, true), |state| async move {
        match state {
            Late::Waiting(id, life, true) => Some((anthropic::write::ping(), Late::Waiting(id, life, false))),
            Late::Waiting(id, mut life, false) => {
                tokio::select! {
                    biased;
                    outcome = &mut life => match outcome {
                        Ok(answer) => match answer.body {
                            AnswerBody::Stream(mut rest) => rest.next().await.map(|piece| (piece, Late::Flowing(rest))),
                            AnswerBody::Whole(bytes) => Some((bytes, Late::Ended)),
                        },
                        Err(failure) => Some((error_event(&failure.fault, &id), Late::Ended)),
                    },
                    () = tokio::time::sleep(PING_EVERY) => Some((anthropic::write::ping(), Late::Waiting(id, life, false))),
                }
            }
            Late::Flowing(mut rest) => rest.next().await.map(|piece| (piece, Late::Flowing(rest))),
            Late::Ended => None,
        }
    });
    Answer { status: StatusCode::OK, headers, body: AnswerBody::Stream(Box::pin(stream)), served: None }
}

/// Where a late answer stands.
enum Late {
    /// Nothing has come yet; true before the first ping.
    Waiting(String, Pin<Box<dyn Future<Output = Outcome> + Send>>, bool),
    /// The answer flows.
    Flowing(Pin<Box<dyn Stream<Item = Bytes> + Send>>),
    /// All has been said.
    Ended,
}

/// Nobody can serve the request: what was missing at each.
fn unserved(request: &Request, plan: &Plan) -> Fault {
    let model = &request.facts.head.model;
    if plan.skipped.is_empty() {
        let message = format!(
            "model: {model}: no provider serves it; add it to a provider's models, or set routing.default_provider"
        );
        return Fault::new(FaultKind::ModelNotFound, message);
    }
    let reasons: Vec<String> =
        plan.skipped.iter().map(|skipped| format!("{}: {}", skipped.target, skipped.why)).collect();
    Fault::new(
        FaultKind::ModelNotFound,
        format!("model: {model}: no provider can serve this request: {}", reasons.join("; ")),
    )
}

/// Keeps the fault that tells the caller most: one that it can mend before one that passes.
fn worse(worst: &mut Option<Fault>, fault: Fault) {
    let weight = |kind: FaultKind| match kind {
        FaultKind::Caller | FaultKind::ContentPolicy | FaultKind::ContextLength => 5,
        FaultKind::Auth | FaultKind::Billing | FaultKind::Permission => 2,
        FaultKind::ModelNotFound => 1,
        FaultKind::RateLimited | FaultKind::Overloaded => 4,
        _ => 3,
    };
    if worst.as_ref().is_none_or(|known| weight(known.kind) <= weight(fault.kind)) {
        *worst = Some(fault);
    }
}
