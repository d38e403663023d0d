//! What a request leaves behind: its line in the log, its record in the ledger, its counts, the headers that tell
//! its route. Begun with the request, ended once, whatever happens to it.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, HeaderValue, StatusCode};

use super::answer::{Answer, AnswerBody, Served};
use super::attempt::Committed;
use super::life::Failure;
use super::outgoing::Outgoing;
use super::pipe::Report;
use super::refuse::{self, text};
use super::relay::{Ending, Relay};
use super::request::Request;
use super::spend;
use crate::actors::Directory;
use crate::cells::{Lease, OpenRequest, Outcome, Refusal, Reservation};
use crate::config::ProviderKind;
use crate::dialect::{Fault, Usage};
use crate::ledger::{self, Attempt, Record};
use crate::routing::admission::Ended;
use crate::routing::limits;
use crate::routing::{Candidate, Home, Plan};
use crate::runtime::clock;

/// The book-keeping of one request.
pub struct Settlement {
    directory: Arc<Directory>,
    request: Arc<Request>,
    open: Option<OpenRequest>,
    started: Instant,
    began: SystemTime,
    attempts: u32,
    /// What was tried, for the ledger.
    tried: Vec<Attempt>,
    /// The attempt that runs: should the request end with it, it may have been billed.
    running: Option<(Attempt, Instant)>,
    /// What is set apart of the budgets.
    reserved: Option<Reservation>,
    queue: Duration,
    overhead: Option<Duration>,
    first_output: Option<Duration>,
    /// What happened, for the log and for `x-cproxy-route`.
    route: String,
    /// What the last translation left out, and what was mended on the way.
    dropped: Vec<&'static str>,
    healed: Vec<&'static str>,
    ended: bool,
}

// === impl Settlement ===

impl Settlement {
    /// A request begins.
    pub fn begin(
        directory: &Arc<Directory>,
        request: &Arc<Request>,
        open: OpenRequest,
        started: Instant,
    ) -> Settlement {
        Settlement {
            directory: directory.clone(),
            request: request.clone(),
            open: Some(open),
            started,
            began: clock::wall(),
            attempts: 0,
            tried: Vec::with_capacity(1),
            running: None,
            reserved: None,
            queue: Duration::ZERO,
            overhead: None,
            first_output: None,
            route: String::new(),
            dropped: Vec::new(),
            healed: Vec::new(),
            ended: false,
        }
    }

    /// Sets apart what the request may cost, or says which budget forbids it.
    pub fn reserve(&mut self, plan: &Plan) -> Result<(), Fault> {
        self.reserved = spend::reserve(&self.directory, &self.request, plan)?;
        Ok(())
    }

    /// The request has waited this long for a place at a provider.
    pub fn waited(&mut self, wait: Duration) {
        self.queue += wait;
    }

    /// A candidate did not admit the request.
    pub fn passed_over(&mut self, candidate: &Candidate, refusal: &Refusal) {
        self.note(candidate, refusal);
        if let Some(entry) = self.directory.entries.load().get(&candidate.target.provider) {
            let kind = entry.cell.setup().config.kind;
            let ended = ledger::Ended::NotAdmitted(refusal.as_str());
            self.tried.push(attempt(candidate, kind, ended));
        }
    }

    /// An attempt begins.
    pub fn attempting(&mut self, candidate: &Candidate, lease: &Lease) {
        self.attempts += 1;
        let kind = match self.directory.is_embedded(&candidate.target.provider) {
            true => ProviderKind::Local, // it costs nothing, whatever the model is called
            false => lease.setup().config.kind,
        };
        let running = attempt(candidate, kind, ledger::Ended::Left);
        self.running = Some((running, lease.admitted_at()));
    }

    /// The first attempt is about to be sent: until here the time was ours, but for the wait.
    pub fn sending(&mut self) {
        let ours = || clock::now().saturating_duration_since(self.started).saturating_sub(self.queue);
        self.overhead = Some(self.overhead.unwrap_or_else(ours));
    }

    /// The attempt that runs has ended.
    fn attempted(&mut self, ended: ledger::Ended, usage: Option<Usage>) {
        if let Some((attempt, since)) = self.running.take() {
            let took = clock::now().saturating_duration_since(since);
            self.tried.push(Attempt { ended, usage, took, ..attempt });
        }
    }

    /// The request was translated for an upstream.
    pub fn translated(&mut self, outgoing: &Outgoing) {
        if let Outgoing::Send(_, reading) = outgoing {
            let (dropped, healed) = reading.notes();
            self.dropped = dropped.to_vec();
            healed.iter().for_each(|what| self.healed(what));
        }
    }

    /// Something was mended in the request.
    pub fn healed(&mut self, what: &'static str) {
        if !self.healed.contains(&what) {
            self.healed.push(what);
        }
    }

    /// An attempt failed before its commit point.
    pub fn faulted(&mut self, candidate: &Candidate, lease: Lease, fault: &Fault) {
        self.note(candidate, &fault.kind.as_str());
        tracing::debug!(request = %self.request.id, target_model = %candidate.target, fault = fault.kind.as_str(), message = %fault.message, "an attempt failed");
        self.attempted(ledger::Ended::Fault(fault.kind), None);
        if let Some(session) = &self.request.facts.session {
            self.directory.routes.failed(session, &self.request.facts.head.model, &candidate.target);
        }
        lease.settle(Outcome::failed(fault));
    }

    /// Nobody served the request.
    pub fn failed(&mut self, mut fault: Fault) -> Box<Failure> {
        if self.attempts > 1 {
            let _ = write!(fault.message, " (tried: {})", self.route);
        }
        self.directory.requests.errors.fetch_add(1, Ordering::Relaxed);
        self.end(ledger::Outcome::Failed, Some(&fault));
        Box::new(Failure { fault, route: std::mem::take(&mut self.route) })
    }

    /// An attempt reached its commit point: the answer.
    pub fn committed(mut self, candidate: &Candidate, lease: Lease, committed: Committed) -> Answer {
        let request = self.request.clone();
        self.note(candidate, &"ok");
        self.remember(candidate, &lease);
        if self.attempts > 1 {
            self.directory.requests.failovers.fetch_add(1, Ordering::Relaxed);
        }
        let served = Served {
            provider: candidate.target.provider.clone(),
            model: candidate.target.model.clone(),
            attempts: self.attempts,
        };
        let first_output = clock::now().saturating_duration_since(self.started);
        self.first_output = Some(first_output);
        let same = candidate.dialect == request.dialect;
        match committed {
            Committed::Whole { headers: upstream, body, report } => {
                let mut headers = match request.facts.head.stream {
                    true => refuse::stream_headers(&request),
                    false => refuse::json_headers(&request),
                };
                self.explain(&mut headers, &served, same.then_some(&upstream));
                self.attempted(ledger::Ended::Ok, report.usage);
                self.end(ledger::Outcome::Ok, None);
                lease.settle(well(&report, first_output, &upstream));
                Answer {
                    status: StatusCode::OK,
                    headers,
                    body: AnswerBody::Whole(body),
                    served: Some(served),
                }
            }
            Committed::Stream { headers: upstream, first, body, pipe, ended } => {
                let mut headers = refuse::stream_headers(&request);
                self.explain(&mut headers, &served, same.then_some(&upstream));
                let timeouts = lease.timeouts();
                let (idle, total) = (timeouts.idle, lease.admitted_at() + timeouts.total);
                let ending = self.directory.requests.ending().clone();
                let settle =
                    Box::new(move |ending: Ending| self.ended(lease, first_output, &upstream, ending));
                let relay = Relay::new(request, body, pipe, first, idle, total, ending, settle);
                let relay = if ended { relay.ended() } else { relay };
                let body = AnswerBody::Stream(Box::pin(relay));
                Answer { status: StatusCode::OK, headers, body, served: Some(served) }
            }
        }
    }

    /// A stream has ended.
    fn ended(mut self, lease: Lease, first_output: Duration, upstream: &HeaderMap, ending: Ending) {
        match ending {
            Ending::Well(report) => {
                self.attempted(ledger::Ended::Ok, report.usage);
                self.end(ledger::Outcome::Ok, None);
                lease.settle(well(&report, first_output, upstream));
            }
            Ending::Broken(report, fault) => {
                self.directory.requests.errors.fetch_add(1, Ordering::Relaxed);
                self.attempted(ledger::Ended::Fault(fault.kind), report.usage);
                self.end(ledger::Outcome::Broken, Some(&fault));
                lease.settle(Outcome::failed(&fault));
            }
            Ending::Left(report) => {
                self.attempted(ledger::Ended::Left, report.usage);
                self.end(ledger::Outcome::Left, None);
                lease.settle(Outcome { ended: Ended::Abandoned, usage: report.usage, ..Outcome::default() });
            }
        }
    }

    /// Adds to the story of the request.
    pub fn note(&mut self, candidate: &Candidate, what: &dyn std::fmt::Display) {
        let comma = if self.route.is_empty() { "" } else { ", " };
        let _ = write!(self.route, "{comma}{}: {what}", candidate.target);
    }

    /// The session stays with who has served it.
    fn remember(&self, candidate: &Candidate, lease: &Lease) {
        if let Some(session) = &self.request.facts.session {
            let key = lease.key().map(|key| key.name().clone());
            let home = Home { target: candidate.target.clone(), key };
            self.directory.routes.served(session, &self.request.facts.head.model, home, clock::now());
        }
    }

    /// The headers that tell who served, how it came to that, and what was changed on the way.
    fn explain(&self, headers: &mut HeaderMap, served: &Served, upstream: Option<&HeaderMap>) {
        if let Some(upstream) = upstream {
            refuse::take_over(headers, upstream);
        }
        if !self.dropped.is_empty() {
            headers.insert("x-cproxy-dropped", text(&self.dropped.join(",")));
        }
        if !self.healed.is_empty() {
            headers.insert("x-cproxy-healed", text(&self.healed.join(",")));
        }
        headers.insert("x-cproxy-provider", text(served.provider.as_str()));
        headers.insert("x-cproxy-model", text(&served.model));
        headers.insert("x-cproxy-attempts", HeaderValue::from(served.attempts));
        headers.insert("x-cproxy-route", text(&self.route));
    }

    /// What the request leaves behind. Its line in the log, its rows in the ledger and the metrics are made of it
    /// by others, later.
    fn end(&mut self, outcome: ledger::Outcome, fault: Option<&Fault>) {
        self.ended = true;
        let facts = &self.request.facts;
        let record = Record {
            id: self.request.id.0.clone(),
            began: self.began,
            front: self.request.front.as_str(),
            session: facts.session.clone(),
            agent: facts.agent.clone(),
            model: Arc::from(&*facts.head.model),
            outcome,
            fault: fault.map(|fault| fault.kind),
            cached: false,
            attempts: std::mem::take(&mut self.tried),
            route: self.route.clone(),
            healed: std::mem::take(&mut self.healed),
            queue: self.queue,
            first_byte: None,
            first_output: self.first_output,
            total: clock::now().saturating_duration_since(self.started),
            overhead: self.overhead,
        };
        if let Some(reserved) = self.reserved.take() {
            reserved.settle(self.directory.ledger_cell.cost(&record));
        }
        self.directory.ledger_cell.record(record);
        self.open = None;
    }
}

/// An attempt whose end is not known yet.
fn attempt(candidate: &Candidate, kind: ProviderKind, ended: ledger::Ended) -> Attempt {
    Attempt {
        provider: candidate.target.provider.clone(),
        kind,
        model: candidate.target.model.clone(),
        ended,
        usage: None,
        took: Duration::ZERO,
    }
}

/// An attempt that ended well, and what it showed.
fn well(report: &Report, first_output: Duration, upstream: &HeaderMap) -> Outcome {
    Outcome {
        ended: Ended::Well,
        usage: report.usage,
        first_output: Some(first_output),
        learned: limits::learned(upstream, clock::wall()),
    }
}

impl Drop for Settlement {
    /// The caller left before the commit point, or the request's task died.
    fn drop(&mut self) {
        if !self.ended {
            self.attempted(ledger::Ended::Left, None);
            self.end(ledger::Outcome::Left, None);
        }
    }
}
