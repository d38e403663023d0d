//! What a request leaves behind: its line in the log, its record in the ledger, its counts, the headers that tell
//! its route. Begun with the request, ended once, whatever happens to it.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, StatusCode};

use super::answer::{Answer, AnswerBody, Served};
use super::attempt::Committed;
use super::cached::{Cached, FoundAnswer, Recorder};
use super::life::Failure;
use super::outgoing::Outgoing;
use super::pipe::Report;
use super::refuse::{self, text};
use super::relay::{Ending, Relay};
use super::request::Request;
use crate::actors::Directory;
use crate::cells::{Lease, OpenRequest, Outcome};
use crate::dialect::{Fault, FaultKind};
use crate::routing::admission::Ended;
use crate::routing::limits;
use crate::routing::{Candidate, Home};
use crate::runtime::clock;

/// The book-keeping of one request.
pub struct Settlement {
    directory: Arc<Directory>,
    request: Arc<Request>,
    open: Option<OpenRequest>,
    started: Instant,
    attempts: u32,
    noted: u32,
    /// What happened, for the log and for `x-cproxy-route`.
    route: String,
    /// What the last translation left out, and what was mended on the way.
    dropped: Vec<&'static str>,
    healed: Vec<&'static str>,
    ended: bool,
}

/// What the translation of a request changed in it.
#[derive(Clone, Debug, Default)]
pub struct Changed {
    dropped: Vec<&'static str>,
    healed: Vec<&'static str>,
}

// === impl Changed ===

impl Changed {
    /// By this translation.
    pub fn by(outgoing: &Outgoing) -> Changed {
        match outgoing {
            Outgoing::Send(_, reading) => {
                let (dropped, healed) = reading.notes();
                Changed { dropped: dropped.to_vec(), healed: healed.to_vec() }
            }
            Outgoing::Answer(_) => Changed::default(),
        }
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
            attempts: 0,
            noted: 0,
            route: String::new(),
            dropped: Vec::new(),
            healed: Vec::new(),
            ended: false,
        }
    }

    /// An attempt begins.
    pub fn attempting(&mut self) {
        self.attempts += 1;
    }

    /// What the translation for the last attempt changed.
    pub fn changed(&mut self, changed: Changed) {
        self.dropped = changed.dropped;
        changed.healed.iter().for_each(|what| self.healed(what));
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
        metrics::counter!("cproxy_failovers_total", "reason" => fault.kind.as_str()).increment(1);
        if let Some(session) = &self.request.facts.session {
            self.directory.routes.failed(session, &self.request.facts.head.model, &candidate.target);
        }
        lease.settle(Outcome::failed(fault));
    }

    /// Nobody served the request.
    pub fn failed(mut self, mut fault: Fault) -> Box<Failure> {
        if self.noted > 1 {
            let _ = write!(fault.message, " (tried: {})", self.route);
            // The first words of one provider would hide the others. Those that a caller acts upon stay as they came.
            if !matches!(fault.kind, FaultKind::Caller | FaultKind::ContentPolicy | FaultKind::ContextLength) {
                fault.body = None;
            }
        }
        self.directory.requests.errors.fetch_add(1, Ordering::Relaxed);
        self.line(None, "failed", &Report::default(), Some(&fault));
        Box::new(Failure { fault, route: std::mem::take(&mut self.route) })
    }

    /// An attempt reached its commit point: the answer.
    pub fn committed(
        mut self,
        candidate: &Candidate,
        lease: Lease,
        committed: Committed,
        mut cache: Cached,
    ) -> Answer {
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
        let first_output = clock::now().saturating_duration_since(lease.admitted_at());
        let keeping = cache.keeping(&candidate.target);
        let same = candidate.dialect == request.dialect;
        let request_dialect = request.dialect;
        match committed {
            Committed::Whole { headers: upstream, body, report } => {
                let mut headers = match request.facts.head.stream {
                    true => refuse::stream_headers(&request),
                    false => refuse::json_headers(&request),
                };
                self.explain(&mut headers, &served, same.then_some(&upstream));
                cache.explain(&mut headers);
                self.line(Some(&served), "ok", &report, None);
                // Where nothing was streamed, the first output was not seen.
                lease.settle(well(&report, None, &upstream));
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
            Committed::Stream { headers: upstream, first, body, pipe, ended } => {
                let mut headers = refuse::stream_headers(&request);
                self.explain(&mut headers, &served, same.then_some(&upstream));
                cache.explain(&mut headers);
                let timeouts = lease.timeouts();
                let (idle, total) = (timeouts.idle, lease.admitted_at() + timeouts.total);
                let ending = self.directory.requests.ending().clone();
                let told = served.clone();
                let (keeping, fit) = match keeping {
                    Some(keeping) => (Some(keeping), Arc::new(OnceLock::new())),
                    None => (None, Arc::default()),
                };
                let ended_so = fit.clone();
                let settle = Box::new(move |ending: Ending| {
                    if let Ending::Well(report) = &ending {
                        let _ = ended_so.set(report.stop.clone()); // ends once
                    }
                    self.ended(lease, &told, first_output, &upstream, ending);
                });
                let relay = Relay::new(request, body, pipe, first, idle, total, ending, settle);
                let relay = if ended { relay.ended() } else { relay };
                let body = match keeping {
                    Some(keeping) => AnswerBody::Stream(Box::pin(Recorder::new(relay, keeping, fit, request_dialect))),
                    None => AnswerBody::Stream(Box::pin(relay)),
                };
                Answer { status: StatusCode::OK, headers, body, served: Some(served) }
            }
        }
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
        self.explain(&mut headers, &served, None);
        headers.insert("x-cproxy-cache", HeaderValue::from_static("HIT"));
        headers.insert(http::header::AGE, HeaderValue::from(found.age.as_secs()));
        self.line(Some(&served), "cached", &Report::default(), None);
        Answer { status: StatusCode::OK, headers, body: AnswerBody::Whole(found.body), served: Some(served) }
    }

    /// A stream has ended.
    fn ended(
        mut self,
        lease: Lease,
        served: &Served,
        first_output: Duration,
        upstream: &HeaderMap,
        ending: Ending,
    ) {
        match ending {
            Ending::Well(report) => {
                self.line(Some(served), "ok", &report, None);
                lease.settle(well(&report, Some(first_output), upstream));
            }
            Ending::Broken(report, fault) => {
                self.directory.requests.errors.fetch_add(1, Ordering::Relaxed);
                self.line(Some(served), "broken", &report, Some(&fault));
                lease.settle(Outcome::failed(&fault));
            }
            Ending::Left(report) => {
                self.line(Some(served), "left", &report, None);
                lease.settle(Outcome { ended: Ended::Abandoned, usage: report.usage, ..Outcome::default() });
            }
        }
    }

    /// Adds to the story of the request.
    pub fn note(&mut self, candidate: &Candidate, what: &dyn std::fmt::Display) {
        self.noted += 1;
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

    /// The request's line in the log.
    fn line(
        &mut self,
        served: Option<&Served>,
        outcome: &'static str,
        report: &Report,
        fault: Option<&Fault>,
    ) {
        self.ended = true;
        self.open = None;
        let usage = report.usage.unwrap_or_default();
        tracing::info!(
            target: "cproxy::request",
            request = %self.request.id,
            session = self.request.facts.session.as_deref(),
            agent = self.request.facts.agent.as_deref(),
            model = %self.request.facts.head.model,
            provider = served.map(|served| served.provider.as_str()),
            upstream_model = served.map(|served| &*served.model),
            attempts = self.attempts,
            outcome,
            route = self.route,
            healed = (!self.healed.is_empty()).then(|| self.healed.join(",")),
            fault = fault.map(|fault| fault.kind.as_str()),
            total_ms = u64::try_from(clock::now().saturating_duration_since(self.started).as_millis()).unwrap_or(u64::MAX),
            input = usage.input,
            cache_read = usage.cache_read,
            cache_creation = usage.cache_creation,
            output = usage.output,
            "request"
        );
    }
}

/// An attempt that ended well, and what it showed.
fn well(report: &Report, first_output: Option<Duration>, upstream: &HeaderMap) -> Outcome {
    Outcome {
        ended: Ended::Well,
        usage: report.usage,
        first_output,
        learned: limits::learned(upstream, clock::wall()),
    }
}

impl Drop for Settlement {
    /// The caller left before the commit point, or the request's task died.
    fn drop(&mut self) {
        if !self.ended {
            self.line(None, "left", &Report::default(), None);
        }
    }
}
