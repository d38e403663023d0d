//! The life of one request, from its arrival to its commit point.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;

use tokio::sync::mpsc;
use tracing::Instrument as _;

use super::Exchange;
use super::answer::Answer;
use super::attempt::{Committed, Failed, Terms, attempt};
use super::cached::Cached;
use super::course::Course;
use super::late::late;
use super::outgoing::outgoing;
use super::refuse;
use super::request::{EXPECTED_OUTPUT, Request};
use super::settle::{Changed, Settlement};
use crate::actors::directory::Published;
use crate::actors::provider::ProviderMessage;
use crate::cells::{Lease, OpenRequest, Refusal};
use crate::config::AfterOutput;
use crate::dialect::{Fault, FaultKind, Phase};
use crate::routing::admission::Ask;
use crate::routing::{Candidate, Home, Inputs, Plan, plan};
use crate::runtime::{self, AskError, Patience, Place, State, clock};
use crate::telemetry::bodies::{self, What};

/// Silence before the first output after which a streaming caller gets its headers and a sign of life.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a provider's actor may take to answer, its queue apart.
const ASK_LIMIT: Duration = Duration::from_millis(250);

/// How long a restart of a provider's actor is waited for.
const RESTART_LIMIT: Duration = Duration::from_secs(2);

/// News that wait for a caller to be told of them; more are lost.
const NEWS: usize = 8;

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

/// What a request wants of an admission.
pub(super) struct Wish<'a> {
    /// Keys that it has tried in vain.
    pub tried: &'a [Arc<str>],
    /// There is nobody else to ask.
    pub last_resort: bool,
    /// Until when it waits for its turn.
    pub until: Instant,
}

/// An attempt, up to its commit point.
pub(super) struct Tried {
    /// Its lease, to be settled.
    pub lease: Lease,
    /// What the translation changed.
    pub changed: Changed,
    /// What came of it.
    pub result: Result<Committed, Failed>,
}

impl Exchange {
    /// Runs a request to its answer. Always answers; dropping the future, or the answer's stream, means that
    /// the caller has left: its upstream call ends, its lease returns, nothing more is tried.
    pub async fn run(&self, request: Request) -> Answer {
        let limit = self.directory.config_cell.get().config.server.max_requests;
        let Some(open) = self.directory.requests.begin(limit) else {
            return refuse::overloaded(&request);
        };
        let (request, news) = with_news(request);
        let request = Arc::new(request);
        bodies::log(&request.id.0, What::Request, &request.body);
        // Messages to actors carry it along, so that what they say of a request can be found by its id.
        let span = tracing::debug_span!("request", request = %request.id);
        let mut life = Box::pin(self.clone().live(request.clone(), open).instrument(span));
        if !request.facts.head.stream || request.unseen {
            return refuse::settle_down(&request, life.await);
        }
        tokio::select! {
            biased;
            outcome = &mut life => refuse::settle_down(&request, outcome),
            () = tokio::time::sleep(PATIENCE) => late(request, life, news),
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

    /// Plans the request, and goes through its candidates.
    async fn attempts(&self, request: &Arc<Request>, open: OpenRequest) -> Outcome {
        let started = clock::now();
        let loaded = self.directory.config_cell.get();
        let routing = &loaded.config.routing;
        self.directory.routes.earn_retry(started);
        if routing.hedge.enabled {
            self.directory.routes.earn_hedge(routing.hedge.budget, started);
        }
        let published = self.directory.published.load_full();
        let mut plan = self.plan(request, &published, false);
        if request.unseen {
            plan.after_output = AfterOutput::Buffer;
        }
        if tracing::enabled!(tracing::Level::DEBUG) {
            let plan = plan.to_string();
            tracing::debug!(plan = plan.trim_end().replace('\n', "; "), "planned");
        }
        let held = !request.facts.head.stream || plan.after_output == AfterOutput::Buffer;
        let writing = if held { request.writing() } else { Duration::ZERO };
        let deadline = started + request.timeout.unwrap_or(routing.deadline + writing);
        let mut settlement = Settlement::begin(&self.directory, request, open, started);
        if let Some(reason) = &plan.refused {
            return Err(settlement.failed(Fault::new(FaultKind::Permission, reason.clone())));
        }
        if let Err(over) = settlement.reserve(&plan) {
            return Err(settlement.failed(over));
        }
        let cache = Cached::of(self, request, &plan, &loaded.config.cache);
        Course::new(self, request, &plan, &published, routing, deadline, settlement, cache).run().await
    }

    /// One attempt: the request in the candidate's dialect, sent, up to its commit point.
    pub(super) async fn attempt(
        &self,
        request: &Request,
        candidate: &Candidate,
        plan: &Plan,
        mut lease: Lease,
        deadline: Instant,
        terms: Terms<'_>,
    ) -> Tried {
        let learned = self.directory.routes.learned(&candidate.target);
        let outgoing = match outgoing(request, candidate, plan, &lease, &learned) {
            Ok(outgoing) => outgoing,
            Err(fault) => {
                return Tried {
                    lease,
                    changed: Changed::by(None, candidate.dialect),
                    result: Err(fault.into()),
                };
            }
        };
        let changed = Changed::by(Some(&outgoing), candidate.dialect);
        // A caller that streams waits for its first output; one that does not, for the whole answer.
        let whole = !request.facts.head.stream || plan.after_output == AfterOutput::Buffer;
        let until = match whole && request.timeout.is_none() {
            true => clock::now() + lease.timeouts().total,
            false => deadline,
        };
        let attempt = attempt(request, &mut lease, outgoing, &learned, terms);
        let result = match tokio::time::timeout_at(until.into(), attempt).await {
            Ok(result) => result,
            Err(_) => {
                let kind = FaultKind::Timeout(Phase::FirstOutput);
                let fault = Fault::new(kind, "the request's own deadline passed");
                Err(Fault { ambiguous: true, ..fault }.into())
            }
        };
        Tried { lease, changed, result }
    }

    /// Who is to be asked, in order.
    pub(super) fn plan(&self, request: &Request, published: &Published, explain: bool) -> Plan {
        let now = clock::now();
        let home = self.home(request, now);
        let mut facts = std::borrow::Cow::Borrowed(&request.facts);
        if self.directory.ledger_cell.is_past_a_mark(facts.session.as_deref(), facts.agent.as_deref()) {
            facts.to_mut().over_budget = true;
        }
        let vital = |row: usize, model: &str| match published.entries.get(row) {
            Some(entry) => entry.vital(model, now),
            None => Default::default(),
        };
        let inputs = Inputs {
            facts: &facts,
            table: &published.table,
            vital: &vital,
            credential: request.credential.is_some(),
            affinity: home.as_ref().map(|home| &home.target),
            now,
            draw: self.directory.random.draw(),
            explain,
        };
        // Who only looks takes nobody's turn.
        self.directory.routes.balance(|balance| match explain {
            true => plan(&inputs, &mut balance.clone()),
            false => plan(&inputs, balance),
        })
    }

    /// Where the session was served before with this model.
    fn home(&self, request: &Request, now: Instant) -> Option<Home> {
        let session = request.facts.session.as_deref()?;
        self.directory.routes.home(session, &request.facts.head.model, now)
    }

    /// Asks the candidate's actor for a lease.
    pub(super) async fn admit(
        &self,
        request: &Request,
        candidate: &Candidate,
        published: &Published,
        wish: Wish<'_>,
    ) -> Result<Lease, Refusal> {
        let Wish { tried, last_resort, until } = wish;
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
            last_resort,
            deadline: until,
        };
        let back_by = until.min(clock::now() + RESTART_LIMIT);
        let mut patience = Patience::default();
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
                    patience.wait(&entry.slot).await;
                }
            }
        }
    }
}

/// Where the news of a request that is streamed come out, unless its front takes them itself.
fn with_news(mut request: Request) -> (Request, Option<mpsc::Receiver<String>>) {
    if !request.facts.head.stream || request.progress.is_some() {
        return (request, None);
    }
    let (sender, receiver) = mpsc::channel(NEWS);
    request.progress = Some(sender);
    (request, Some(receiver))
}
