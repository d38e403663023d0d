//! What a request leaves behind: its line in the log, its record in the ledger, its counts, the headers that tell
//! its route. Begun with the request, ended once, whatever happens to it.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::answer::{Answer, AnswerBody, Served};
use super::attempt::Committed;
use super::life::Failure;
use super::pipe::Report;
use super::relay::{Ending, Relay};
use super::request::Request;
use crate::actors::Directory;
use crate::cells::{Lease, OpenRequest, Outcome, Refusal};
use crate::dialect::Fault;
use crate::routing::Candidate;
use crate::routing::admission::Ended;
use crate::routing::limits;
use crate::runtime::clock;

/// The book-keeping of one request.
pub struct Settlement {
    directory: Arc<Directory>,
    request: Arc<Request>,
    open: Option<OpenRequest>,
    started: Instant,
    attempts: u32,
    /// What happened, for the log and for `x-cproxy-route`.
    route: String,
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
            route: String::new(),
        }
    }

    /// A candidate's actor did not admit the request.
    pub fn passed_over(&mut self, candidate: &Candidate, refusal: &Refusal) {
        self.note(candidate, refusal);
    }

    /// An attempt begins.
    pub fn attempting(&mut self, _: &Candidate, _: &Lease) {
        self.attempts += 1;
    }

    /// An attempt failed before its commit point.
    pub fn faulted(&mut self, candidate: &Candidate, lease: Lease, fault: &Fault) {
        self.note(candidate, &fault.kind.as_str());
        tracing::debug!(request = %self.request.id, target_model = %candidate.target, fault = fault.kind.as_str(), message = %fault.message, "an attempt failed");
        metrics::counter!("cproxy_failovers_total", "reason" => fault.kind.as_str()).increment(1);
        lease.settle(Outcome::failed(fault));
    }

    /// Nobody served the request.
    pub fn failed(&mut self, mut fault: Fault) -> Box<Failure> {
        if self.attempts > 1 {
            let _ = write!(fault.message, " (tried: {})", self.route);
        }
        self.directory.requests.errors.fetch_add(1, Ordering::Relaxed);
        self.line(None, "failed", &Report::default(), Some(&fault));
        self.open = None;
        Box::new(Failure { fault, attempts: self.attempts, route: std::mem::take(&mut self.route) })
    }

    /// An attempt reached its commit point: the answer.
    pub fn committed(
        mut self,
        request: &Request,
        candidate: &Candidate,
        lease: Lease,
        committed: Committed,
    ) -> Answer {
        self.note(candidate, &"ok");
        if self.attempts > 1 {
            self.directory.requests.failovers.fetch_add(1, Ordering::Relaxed);
        }
        let served = Served {
            provider: candidate.target.provider.clone(),
            model: candidate.target.model.clone(),
            attempts: self.attempts,
        };
        let first_output = clock::now().saturating_duration_since(self.started);
        let mut headers = HeaderMap::with_capacity(12);
        let body = match committed {
            Committed::Whole { headers: upstream, body, report } => {
                take_over(&mut headers, &upstream, request, candidate);
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                self.line(Some(&served), "ok", &report, None);
                lease.settle(well(&report, first_output, &upstream));
                self.open = None;
                AnswerBody::Whole(body)
            }
            Committed::Stream { headers: upstream, first, body, pipe, ended } => {
                take_over(&mut headers, &upstream, request, candidate);
                headers.insert(
                    header::CONTENT_TYPE,
                    HeaderValue::from_static("text/event-stream; charset=utf-8"),
                );
                headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
                headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
                let timeouts = lease.timeouts();
                let (idle, total) = (timeouts.idle, lease.admitted_at() + timeouts.total);
                self.route(&mut headers, &served);
                let id = request.id.clone();
                let told = served.clone();
                let settle =
                    Box::new(move |ending: Ending| self.ended(lease, &told, first_output, &upstream, ending));
                let relay = Relay::new(id, body, pipe, first, idle, total, settle);
                let relay = if ended { relay.ended() } else { relay };
                return Answer {
                    status: StatusCode::OK,
                    headers,
                    body: AnswerBody::Stream(Box::pin(relay)),
                    served: Some(served),
                };
            }
        };
        self.route(&mut headers, &served);
        Answer { status: StatusCode::OK, headers, body, served: Some(served) }
    }

    /// A stream has ended.
    fn ended(
        self,
        lease: Lease,
        served: &Served,
        first_output: Duration,
        upstream: &HeaderMap,
        ending: Ending,
    ) {
        match ending {
            Ending::Well(report) => {
                self.line(Some(served), "ok", &report, None);
                lease.settle(well(&report, first_output, upstream));
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
    fn note(&mut self, candidate: &Candidate, what: &dyn std::fmt::Display) {
        let comma = if self.route.is_empty() { "" } else { ", " };
        let _ = write!(self.route, "{comma}{}: {what}", candidate.target);
    }

    /// The headers that tell who served, and how it came to that.
    fn route(&self, headers: &mut HeaderMap, served: &Served) {
        let text = |text: &str| HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("?"));
        headers.insert("request-id", text(&self.request.id.0));
        headers.insert("x-cproxy-provider", text(served.provider.as_str()));
        headers.insert("x-cproxy-model", text(&served.model));
        headers.insert("x-cproxy-attempts", HeaderValue::from(served.attempts));
        headers.insert("x-cproxy-route", text(&self.route));
    }

    /// The request's line in the log.
    fn line(&self, served: Option<&Served>, outcome: &'static str, report: &Report, fault: Option<&Fault>) {
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
fn well(report: &Report, first_output: Duration, upstream: &HeaderMap) -> Outcome {
    Outcome {
        ended: Ended::Well,
        usage: report.usage,
        first_output: Some(first_output),
        learned: limits::learned(upstream, clock::wall()),
    }
}

/// Headers of the upstream that the caller gets: those of its own protocol, from its own dialect.
fn take_over(headers: &mut HeaderMap, upstream: &HeaderMap, request: &Request, candidate: &Candidate) {
    if candidate.dialect != request.dialect {
        return;
    }
    for (name, value) in upstream {
        if name.as_str().starts_with("anthropic-") || name == "x-should-retry" || name == header::RETRY_AFTER
        {
            headers.append(name.clone(), value.clone());
        }
    }
}
