//! What a request leaves behind: its line in the log, its record in the ledger, its counts, the headers that tell
//! its route. Begun with the request, ended once, whatever happens to it.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::answer::{Answer, AnswerBody, Served};
use super::attempt::{Committed, Flowing};
use super::cached::{Cached, FoundAnswer, Recorder};
use super::continuation::Others;
use super::late::told;
use super::life::Failure;
use super::outgoing::Outgoing;
use super::paused::may_pause;
use super::pipe::Report;
use super::refuse::{self, text};
use super::relay::{Bounds, Ending, Keeper, Relay, Rest};
use super::request::Request;
use super::so_far::SoFar;
use super::spend;
use crate::actors::Directory;
use crate::cells::prompt_caches;
use crate::cells::{Lease, OpenRequest, Outcome, Refusal, Reservation};
use crate::config::{ProviderKind, Target};
use crate::dialect::{Dialect, Fault, FaultKind, Stop, Usage};
use crate::ledger::{self, Attempt, Record};
use crate::routing::admission::Ended;
use crate::routing::limits::{self, Learned};
use crate::routing::{Candidate, Home, Plan, Why};
use crate::runtime::clock;
use crate::telemetry::bodies::{self, What};

/// The book-keeping of one request.
pub struct Settlement {
    directory: Arc<Directory>,
    request: Arc<Request>,
    open: Option<OpenRequest>,
    started: Instant,
    began: SystemTime,
    attempts: u32,
    noted: u32,
    /// What was tried, for the ledger.
    tried: Vec<Attempt>,
    /// The attempts that run: should the request end with them, they may have been billed.
    running: Vec<(Attempt, Instant)>,
    /// What is set apart of the budgets.
    reserved: Option<Reservation>,
    queue: Duration,
    overhead: Option<Duration>,
    connect: Option<Duration>,
    first_byte: Option<Duration>,
    first_output: Option<Duration>,
    /// What happened, for the log and for `x-cproxy-route`.
    route: String,
    /// What the last translation left out, and what was mended on the way.
    dropped: Vec<&'static str>,
    healed: Vec<&'static str>,
    /// What the last attempt sent.
    sent: Option<(Dialect, Bytes)>,
    from_cache: bool,
    ended: bool,
    /// The request's span, where it has one: what is said at its end belongs to it.
    span: tracing::Span,
}

/// What the translation of a request changed in it.
#[derive(Clone, Debug)]
pub struct Changed {
    dropped: Vec<&'static str>,
    healed: Vec<&'static str>,
    /// The body that goes out.
    sent: Option<(Dialect, Bytes)>,
    /// When it was done.
    at: Instant,
}

// === impl Changed ===

impl Changed {
    /// By this translation into a dialect; `None` if there is none.
    pub fn by(outgoing: Option<&Outgoing>, dialect: Dialect) -> Changed {
        let (dropped, healed): (&[&'static str], &[&'static str]) = match outgoing {
            Some(Outgoing::Send(_, reading)) => reading.notes(),
            Some(Outgoing::Answer(_)) | None => (&[], &[]),
        };
        let sent = match outgoing {
            Some(Outgoing::Send(message, _)) => Some((dialect, message.body().clone())),
            Some(Outgoing::Answer(_)) | None => None,
        };
        Changed { dropped: dropped.to_vec(), healed: healed.to_vec(), sent, at: clock::now() }
    }
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
            noted: 0,
            tried: Vec::with_capacity(1),
            running: Vec::with_capacity(1),
            reserved: None,
            queue: Duration::ZERO,
            overhead: None,
            connect: None,
            first_byte: None,
            first_output: None,
            route: String::new(),
            dropped: Vec::new(),
            healed: Vec::new(),
            sent: None,
            from_cache: false,
            ended: false,
            span: tracing::Span::current(),
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
            let at = clock::now().saturating_duration_since(self.started);
            self.tried.push(Attempt { at, ..attempt(candidate, kind, ended) });
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
        self.running.push((running, lease.admitted_at()));
    }

    /// An attempt at this target has ended.
    fn attempted(&mut self, target: &Target, ended: ledger::Ended, usage: Option<Usage>) {
        let is_it = |(attempt, _): &(Attempt, Instant)| {
            attempt.provider == target.provider && attempt.model == target.model
        };
        if let Some(at) = self.running.iter().position(is_it) {
            let (attempt, since) = self.running.remove(at);
            let took = clock::now().saturating_duration_since(since);
            let at = since.saturating_duration_since(self.started);
            self.tried.push(Attempt { ended, usage, at, took, ..attempt });
        }
    }

    /// An attempt was overtaken by another and is given up. It may be billed.
    pub fn outrun(&mut self, candidate: &Candidate) {
        self.note(candidate, &"outrun");
        self.attempted(&candidate.target, ledger::Ended::Left, None);
    }

    /// What the translation for the last attempt changed.
    pub fn changed(&mut self, changed: Changed) {
        self.dropped = changed.dropped;
        // Only what sessions send is looked at again, and where answers may be joined their figures tell nothing.
        let is_of_use = self.request.facts.session.is_some() && !may_pause(&self.request);
        self.sent = changed.sent.filter(|_| is_of_use);
        changed.healed.iter().for_each(|what| self.healed(what));
        // Until the first attempt was ready to be sent the time was ours, but for the wait.
        let ours = || changed.at.saturating_duration_since(self.started).saturating_sub(self.queue);
        self.overhead = Some(self.overhead.unwrap_or_else(ours));
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
        self.attempted(&candidate.target, ledger::Ended::Fault(fault.kind), None);
        self.forget(&candidate.target);
        lease.settle(Outcome::failed(fault));
    }

    /// Nobody served the request.
    pub fn failed(mut self, mut fault: Fault) -> Box<Failure> {
        if self.noted > 1 {
            let _ = write!(fault.message, " (tried: {})", self.route);
            // The first words of one provider would hide the others. Those that a caller acts upon stay as they came.
            if !matches!(fault.kind, FaultKind::Caller | FaultKind::ContentPolicy | FaultKind::ContextLength)
            {
                fault.body = None;
            }
        }
        self.directory.requests.errors.fetch_add(1, Ordering::Relaxed);
        self.end(ledger::Outcome::Failed, Some(&fault));
        Box::new(Failure { fault, route: std::mem::take(&mut self.route) })
    }

    /// An attempt reached its commit point: the answer.
    pub fn committed(
        mut self,
        candidate: &Candidate,
        lease: Lease,
        committed: Committed,
        mut cache: Cached,
        others: Option<Others>,
    ) -> Answer {
        let request = self.request.clone();
        self.note(candidate, &"ok");
        lease.begun();
        self.remember(candidate, &lease);
        if self.attempts > 1 {
            self.directory.requests.failovers.fetch_add(1, Ordering::Relaxed);
        }
        let served = Served {
            provider: candidate.target.provider.clone(),
            model: candidate.target.model.clone(),
            attempts: self.attempts,
        };
        let now = clock::now();
        self.first_output = Some(now.saturating_duration_since(self.started));
        if let Some(answered) = lease.answer() {
            self.connect = answered.connect;
            self.first_byte = Some(answered.at.saturating_duration_since(self.started));
        }
        let keeping = cache.keeping(&candidate.target);
        let dialect = request.dialect;
        let same = candidate.dialect == dialect;
        match committed {
            Committed::Whole { headers: upstream, body, report } => {
                let mut headers = match request.facts.head.stream {
                    true => refuse::stream_headers(&request),
                    false => refuse::json_headers(&request),
                };
                self.explain(&mut headers, &served, &candidate.why, same.then_some(&upstream));
                cache.explain(&mut headers);
                self.attempted(&candidate.target, ledger::Ended::Ok, report.usage);
                self.watch_cache(&candidate.target, report.usage);
                bodies::log(&request.id.0, What::Answer, &body);
                self.end(ledger::Outcome::Ok, None);
                // Where nothing was streamed, the first output was not seen.
                lease.settle(well(&report, None, limits::learned(&upstream, clock::wall())));
                if let Some(keeping) = keeping {
                    keeping.keep(body.clone(), report.stop.as_ref());
                }
                Answer {
                    status: StatusCode::OK,
                    headers,
                    body: AnswerBody::Whole(body),
                    served: Some(served),
                }
            }
            Committed::Stream(flowing) => {
                let mut headers = refuse::stream_headers(&request);
                self.explain(&mut headers, &served, &candidate.why, same.then_some(&flowing.headers));
                cache.explain(&mut headers);
                if others.is_some() {
                    headers.insert("x-cproxy-after-output", HeaderValue::from_static("continue"));
                }
                let well_ended = Arc::new(OnceLock::new());
                let relay = self.relay(candidate, lease, flowing, others, well_ended.clone());
                let body = match keeping {
                    Some(keeping) => {
                        AnswerBody::Stream(Box::pin(Recorder::new(relay, keeping, well_ended, dialect)))
                    }
                    None => AnswerBody::Stream(Box::pin(relay)),
                };
                Answer { status: StatusCode::OK, headers, body, served: Some(served) }
            }
        }
    }

    /// Another one writes the rest of an answer that broke; `news` says so for people.
    pub fn went_on(
        mut self,
        candidate: &Candidate,
        lease: Lease,
        mut flowing: Flowing,
        others: Others,
        news: &str,
    ) -> Relay {
        self.note(candidate, &"goes on");
        lease.begun();
        self.remember(candidate, &lease);
        self.directory.requests.failovers.fetch_add(1, Ordering::Relaxed);
        flowing.first.insert(0, told(news, &self.request));
        if let Some(progress) = &self.request.progress {
            let _ = progress.try_send(news.to_owned()); // lossy: nobody waits for it
        }
        // What is put together of two answers is no answer to be kept.
        self.relay(candidate, lease, flowing, Some(others), Arc::default())
    }

    /// An answer that flows, and the keeping of its book.
    fn relay(
        mut self,
        candidate: &Candidate,
        lease: Lease,
        flowing: Flowing,
        others: Option<Others>,
        well_ended: Arc<OnceLock<Option<Stop>>>,
    ) -> Relay {
        let Flowing { headers: upstream, first, body, pipe, ended } = flowing;
        let timeouts = lease.timeouts();
        let bounds = Bounds {
            idle: timeouts.idle,
            total: lease.admitted_at() + timeouts.total,
            ending: self.directory.requests.ending().clone(),
        };
        self.request = Arc::new(self.request.answered());
        let request = self.request.clone();
        let book = Book {
            target: candidate.target.clone(),
            // The provider's own: what other attempts took before is not its fault.
            first_output: clock::now().saturating_duration_since(lease.admitted_at()),
            settlement: self,
            lease,
            // Read now: headers hold on to the whole buffer that they came in.
            learned: limits::learned(&upstream, clock::wall()),
            well_ended,
            others,
        };
        let relay = Relay::new(request, body, pipe, first, bounds, Box::new(book));
        if ended { relay.ended() } else { relay }
    }

    /// It broke after its first output, and nobody writes the rest.
    pub fn broken(&mut self, fault: &Fault) {
        self.directory.requests.errors.fetch_add(1, Ordering::Relaxed);
        self.end(ledger::Outcome::Broken, Some(fault));
    }

    /// The answer was at hand.
    pub fn cached(mut self, candidate: &Candidate, found: FoundAnswer) -> Answer {
        let request = self.request.clone();
        self.note(candidate, &"from the cache");
        let served = Served {
            provider: candidate.target.provider.clone(),
            model: candidate.target.model.clone(),
            attempts: self.attempts,
        };
        let mut headers = match request.facts.head.stream {
            true => refuse::stream_headers(&request),
            false => refuse::json_headers(&request),
        };
        self.explain(&mut headers, &served, &candidate.why, None);
        headers.insert("x-cproxy-cache", HeaderValue::from_static("HIT"));
        headers.insert(http::header::AGE, HeaderValue::from(found.age.as_secs()));
        self.from_cache = true;
        bodies::log(&request.id.0, What::Answer, &found.body);
        self.end(ledger::Outcome::Ok, None);
        Answer { status: StatusCode::OK, headers, body: AnswerBody::Whole(found.body), served: Some(served) }
    }

    /// Notes what the upstream's prompt cache did for the session, and warns of a prefix that was billed again.
    fn watch_cache(&mut self, target: &Target, usage: Option<Usage>) {
        let Some(usage) = usage.filter(|usage| !usage.estimated) else { return };
        let caches = &self.directory.prompt_caches;
        let facts = &self.request.facts;
        let (Some((dialect, body)), Some(session)) = (self.sent.take(), &facts.session) else {
            return caches.answered_once(&target.provider, &usage);
        };
        let (session, agent) = (session.clone(), facts.agent.clone());
        let key = prompt_caches::Key { target: target.clone(), session, agent };
        let Some(loss) = caches.answered(key, dialect, body, &usage, clock::now()) else { return };
        let request = &self.request.id;
        if loss.is_alarming() {
            tracing::warn!(%request, target_model = %target, tokens = loss.tokens, "a cached prefix was billed again: {}", loss.why);
        } else {
            tracing::debug!(%request, target_model = %target, tokens = loss.tokens, "a cached prefix was billed again: {}", loss.why);
        }
    }

    /// A stream has ended.
    fn ended(
        mut self,
        lease: Lease,
        target: &Target,
        first_output: Duration,
        learned: Option<Learned>,
        ending: Ending,
    ) {
        let span = self.span.clone();
        let _within = span.enter();
        match ending {
            Ending::Well(report) => {
                self.attempted(target, ledger::Ended::Ok, report.usage);
                self.watch_cache(target, report.usage);
                self.end(ledger::Outcome::Ok, None);
                lease.settle(well(&report, Some(first_output), learned));
            }
            Ending::Broken(report, fault) => {
                self.attempted(target, ledger::Ended::Fault(fault.kind), report.usage);
                self.broken(&fault);
                lease.settle(Outcome::failed(&fault));
            }
            Ending::Left(report) => {
                self.attempted(target, ledger::Ended::Left, report.usage);
                self.end(ledger::Outcome::Left, None);
                lease.settle(Outcome { ended: Ended::Abandoned, usage: report.usage, ..Outcome::default() });
            }
        }
    }

    /// Adds to the story of the request.
    pub fn note(&mut self, candidate: &Candidate, what: &dyn std::fmt::Display) {
        self.note_at(&candidate.target, what);
    }

    fn note_at(&mut self, target: &Target, what: &dyn std::fmt::Display) {
        self.noted += 1;
        let comma = if self.route.is_empty() { "" } else { ", " };
        let _ = write!(self.route, "{comma}{target}: {what}");
    }

    /// The session is better not sent there next time.
    fn forget(&self, target: &Target) {
        if let Some(session) = &self.request.facts.session {
            self.directory.routes.failed(session, &self.request.facts.head.model, target);
        }
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
    fn explain(&self, headers: &mut HeaderMap, served: &Served, why: &Why, upstream: Option<&HeaderMap>) {
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
        headers.insert("x-cproxy-route", text(&format!("{} ({why})", self.route)));
    }

    /// What the request leaves behind. Its line in the log, its rows in the ledger and the metrics are made of it
    /// by others, later.
    fn end(&mut self, outcome: ledger::Outcome, fault: Option<&Fault>) {
        self.ended = true;
        while let Some((running, _)) = self.running.first() {
            let target = Target { provider: running.provider.clone(), model: running.model.clone() };
            self.attempted(&target, ledger::Ended::Left, None);
        }
        tracing::debug!(outcome = outcome.as_str(), route = self.route, "ended");
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
            cached: self.from_cache,
            attempts: std::mem::take(&mut self.tried),
            route: self.route.clone(),
            healed: std::mem::take(&mut self.healed),
            queue: self.queue,
            connect: self.connect,
            first_byte: self.first_byte,
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

/// The book of an answer that flows.
struct Book {
    settlement: Settlement,
    lease: Lease,
    target: Target,
    /// From admission to the first output.
    first_output: Duration,
    /// What the upstream said of its limits.
    learned: Option<Learned>,
    /// Filled when it has ended well: why.
    well_ended: Arc<OnceLock<Option<Stop>>>,
    /// Who may write the rest, should it break.
    others: Option<Others>,
}

// === impl Book ===

impl Keeper for Book {
    fn ended(self: Box<Self>, ending: Ending) {
        if let Ending::Well(report) = &ending {
            let _ = self.well_ended.set(report.stop.clone()); // it ends once
        }
        self.settlement.ended(self.lease, &self.target, self.first_output, self.learned, ending);
    }

    fn may_go_on(&self, fault: &Fault) -> bool {
        self.others.as_ref().is_some_and(|others| others.may_help(fault))
    }

    fn goes_on(self: Box<Self>, report: Report, fault: Fault, so_far: SoFar) -> Rest {
        let Book { mut settlement, lease, target, others, .. } = *self;
        settlement.attempted(
            &target,
            ledger::Ended::Fault(fault.kind),
            Some(report.usage.unwrap_or(so_far.usage)),
        );
        settlement.note_at(&target, &fault.kind.as_str());
        settlement.forget(&target);
        lease.settle(Outcome::failed(&fault));
        Box::pin(async move {
            match others {
                Some(others) => others.go_on(settlement, fault, so_far).await,
                None => {
                    settlement.broken(&fault);
                    Err(so_far.fail(&settlement.request, &fault))
                }
            }
        })
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
        at: Duration::ZERO,
        took: Duration::ZERO,
    }
}

/// An attempt that ended well, and what it showed.
fn well(report: &Report, first_output: Option<Duration>, learned: Option<Learned>) -> Outcome {
    Outcome { ended: Ended::Well, usage: report.usage, first_output, learned }
}

impl Drop for Settlement {
    /// The caller left before the commit point, or the request's task died.
    fn drop(&mut self) {
        if !self.ended {
            self.end(ledger::Outcome::Left, None);
        }
    }
}
