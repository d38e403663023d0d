//! The relay: what flows after the commit point, pulled by the caller's connection.
//!
//! It ends exactly once: with the upstream's own end, or with an error event; unless another upstream writes the
//! rest, and its relay goes on in its place. Back-pressure is the pull itself:
//! the upstream is read only when the caller takes more. Dropping it drops the upstream's body, which closes or
//! cancels the call there.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::BoxFuture;
use http_body::Body as _;
use std::future::Future as _;
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::caller;
use super::pipe::{Pipe, Report};
use super::request::Request;
use super::so_far::SoFar;
use crate::cells::upstream::{self, Body};
use crate::dialect::part::Flow;
use crate::dialect::{Fault, FaultKind, Phase};
use crate::runtime::clock;
use crate::telemetry::bodies::{Tap, What};

/// Silence towards the caller after which it gets a ping.
pub const PING_EVERY: Duration = Duration::from_secs(15);

/// How long a connection may stay open behind a whole answer.
const LINGER: Duration = Duration::from_secs(2);

/// How long an upstream may send pings and nothing else, unless its idle deadline is longer.
const PINGS_ONLY: Duration = Duration::from_secs(300);

/// How an answer ended; what the settlement is made of.
#[derive(Debug)]
pub enum Ending {
    /// The upstream ended it well.
    Well(Report),
    /// It broke after output had begun; the caller got an error event.
    Broken(Report, Fault),
    /// The caller left before the end.
    Left(Report),
}

/// Keeps the book of an answer that flows.
pub trait Keeper: Send {
    /// It has ended.
    fn ended(self: Box<Self>, ending: Ending);

    /// Whether somebody else may write the rest of an answer that broke so.
    fn may_go_on(&self, fault: &Fault) -> bool;

    /// It broke, and somebody else is to write the rest.
    fn goes_on(self: Box<Self>, report: Report, fault: Fault, so_far: SoFar) -> Rest;
}

/// The relay of the rest of an answer, or the error that ends it.
pub type Rest = BoxFuture<'static, Result<Relay, Bytes>>;

/// What bounds an answer in time.
pub struct Bounds {
    /// The longest silence of the upstream.
    pub idle: Duration,
    /// By when the answer must be at its end.
    pub total: Instant,
    /// Cancelled when the daemon ends what is left.
    pub ending: CancellationToken,
}

/// The rest of a committed answer.
pub struct Relay {
    request: Arc<Request>,
    body: Body,
    pipe: Box<dyn Pipe>,
    /// What the pipe gave and the caller has not yet taken, in reverse.
    ready: Vec<Bytes>,
    idle: Duration,
    total: Instant,
    last_input: Instant,
    last_progress: Instant,
    last_output: Instant,
    timer: Pin<Box<Sleep>>,
    /// Resolves when the daemon ends what is left.
    ending: Pin<Box<WaitForCancellationFutureOwned>>,
    done: bool,
    /// Gathers what the caller gets for the log, where the log is to have it.
    tap: Option<Tap>,
    keeper: Option<Box<dyn Keeper>>,
    /// Somebody is looked for who writes the rest.
    rest: Option<Rest>,
    /// Writes the rest.
    next: Option<Pin<Box<Relay>>>,
}

// === impl Relay ===

impl Relay {
    /// The rest of an answer whose first pieces are `first`. `keeper` is told how it ended, once.
    pub fn new(
        request: Arc<Request>,
        body: Body,
        pipe: Box<dyn Pipe>,
        mut first: Vec<Bytes>,
        bounds: Bounds,
        keeper: Box<dyn Keeper>,
    ) -> Relay {
        let Bounds { idle, total, ending } = bounds;
        first.reverse();
        let now = clock::now();
        let wake = total.min(now + idle).min(now + PING_EVERY);
        let tap = Tap::new(&request.id.0, What::Answer);
        Relay {
            request,
            tap,
            body,
            pipe,
            ready: first,
            idle,
            total,
            last_input: now,
            last_progress: now,
            last_output: now,
            timer: Box::pin(tokio::time::sleep_until(wake.into())),
            ending: Box::pin(ending.cancelled_owned()),
            done: false,
            keeper: Some(keeper),
            rest: None,
            next: None,
        }
    }

    /// The answer that had ended with its first pieces.
    pub fn ended(mut self) -> Relay {
        self.finish(Ok(()));
        self
    }

    /// A model that thinks in silence may send pings for minutes; an upstream that hangs does so for ever.
    fn pings_only(&self) -> Duration {
        self.idle.max(PINGS_ONLY)
    }

    /// Ends the answer, well or with an error event, or looks for somebody who writes the rest.
    fn finish(&mut self, result: Result<(), Fault>) {
        let report = self.pipe.report();
        if let Err(fault) = &result
            && self.keeper.as_ref().is_some_and(|keeper| keeper.may_go_on(fault))
            && let Some(so_far) = self.pipe.so_far()
            && let Some(keeper) = self.keeper.take()
        {
            self.body = Body::default(); // closes what is left of the call
            self.rest = Some(keeper.goes_on(report, fault.clone(), so_far));
            return;
        }
        self.done = true;
        let ending = match result {
            Ok(()) => {
                upstream::read_out(std::mem::take(&mut self.body));
                #[cfg(feature = "mutants")]
                crate::mutants::ended_well(&mut self.ready);
                Ending::Well(report)
            }
            Err(fault) => {
                let error = self
                    .pipe
                    .fail(&fault)
                    .unwrap_or_else(|| caller::error_event(self.request.dialect, &fault, &self.request.id.0));
                self.ready.insert(0, error);
                #[cfg(feature = "mutants")]
                crate::mutants::broke_off(&mut self.ready);
                Ending::Broken(report, fault)
            }
        };
        if let Some(keeper) = self.keeper.take() {
            keeper.ended(ending);
        }
    }

    /// While somebody is looked for: what the caller gets.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(rest) = &mut self.rest else { return Poll::Ready(()) };
        let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| rest.as_mut().poll(cx)));
        let polled = polled.unwrap_or_else(|_| {
            tracing::error!(request = %self.request.id, "the search for the rest of an answer panicked");
            let fault = Fault::protocol("cproxy could not have the answer continued (a bug of ours)");
            Poll::Ready(Err(caller::error_event(self.request.dialect, &fault, &self.request.id.0)))
        });
        if let Poll::Ready(found) = polled {
            self.rest = None;
            match found {
                Ok(relay) => self.next = Some(Box::pin(relay)),
                Err(error) => {
                    self.done = true;
                    self.ready = vec![error];
                }
            }
            return Poll::Ready(());
        }
        let now = clock::now();
        if now >= self.last_output + PING_EVERY {
            self.ready = vec![caller::ping(self.request.dialect)];
            return Poll::Ready(());
        }
        self.timer.as_mut().reset((self.last_output + PING_EVERY).into());
        self.timer.as_mut().poll(cx)
    }

    /// Takes what the upstream sent next.
    fn take(&mut self, frame: Option<Result<http_body::Frame<Bytes>, Fault>>) {
        let mut out = Vec::new();
        let result = match frame {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(chunk) => {
                    let before = self.pipe.progress();
                    let pushed = self.pipe.push(chunk, &mut out);
                    let now = clock::now();
                    self.last_input = now;
                    if self.pipe.progress() > before {
                        self.last_progress = now;
                    }
                    if self.pipe.is_whole() {
                        self.timer.as_mut().reset((now + LINGER).into());
                    }
                    pushed.map(|flow| flow == Flow::Done)
                }
                Err(_trailers) => Ok(false),
            },
            Some(Err(fault)) if !self.pipe.is_whole() => Err(fault),
            // What breaks off behind the answer is not missed.
            Some(Err(_)) => self.pipe.end(&mut out).map(|()| true),
            None => self.pipe.end(&mut out).map(|()| true),
        };
        out.reverse();
        self.ready = out;
        match result {
            Ok(false) => {}
            Ok(true) => self.finish(Ok(())),
            Err(fault) => self.finish(Err(fault)),
        }
    }

    /// The same; a panic in a translator ends this answer with an error, and nothing else.
    fn take_safely(&mut self, frame: Option<Result<http_body::Frame<Bytes>, Fault>>) {
        let taken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.take(frame)));
        if taken.is_err() {
            tracing::error!(request = %self.request.id, "a translator panicked");
            self.ready.clear();
            self.finish(Err(Fault::protocol("cproxy could not read the upstream's answer (a bug of ours)")));
        }
    }

    /// The timer fired: which of its reasons it was.
    fn woken(&mut self) {
        let now = clock::now();
        if self.pipe.is_whole() && now >= self.last_input + LINGER {
            return self.take_safely(None);
        }
        if now >= self.total {
            self.finish(Err(Fault::new(
                FaultKind::Timeout(Phase::Total),
                "the answer took longer than its deadline",
            )));
            return;
        }
        for (since, limit, what) in
            [(self.last_input, self.idle, "nothing"), (self.last_progress, self.pings_only(), "only pings")]
        {
            if now >= since + limit {
                let message = format!("the upstream sent {what} for {}", humantime::format_duration(limit));
                self.finish(Err(Fault::new(FaultKind::Timeout(Phase::Idle), message)));
                return;
            }
        }
        if now >= self.last_output + PING_EVERY {
            let ping = self.pipe.ping().unwrap_or_else(|| caller::ping(self.request.dialect));
            self.ready = vec![ping];
        }
        // Set anew only when it fires: one timer for the stream, not one for each chunk.
        let idle = (self.last_input + self.idle).min(self.last_progress + self.pings_only());
        let wake = self.total.min(idle).min(self.last_output.max(now) + PING_EVERY);
        self.timer.as_mut().reset(wake.into());
    }
}

impl Stream for Relay {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let this = &mut *self;
        loop {
            if let Some(piece) = this.ready.pop() {
                this.last_output = clock::now();
                if let Some(tap) = &mut this.tap {
                    tap.push(&piece);
                }
                return Poll::Ready(Some(piece));
            }
            if let Some(next) = &mut this.next {
                return next.as_mut().poll_next(cx);
            }
            if this.done {
                return Poll::Ready(None);
            }
            if this.rest.is_some() {
                if this.ending.as_mut().poll(cx).is_ready() {
                    this.rest = None;
                    this.done = true;
                    let fault = Fault::new(FaultKind::Overloaded, "cproxy is stopping");
                    this.ready = vec![caller::error_event(this.request.dialect, &fault, &this.request.id.0)];
                    continue;
                }
                ready!(this.poll_rest(cx));
                continue;
            }
            if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
                this.take_safely(frame);
                continue;
            }
            if this.ending.as_mut().poll(cx).is_ready() {
                this.finish(Err(Fault::new(FaultKind::Overloaded, "cproxy is stopping")));
                continue;
            }
            ready!(this.timer.as_mut().poll(cx));
            this.woken();
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        #[cfg(feature = "mutants")]
        if crate::mutants::is(crate::mutants::Mutant::CallerNotMissed) {
            std::mem::forget(self.keeper.take());
        }
        if let Some(keeper) = self.keeper.take() {
            keeper.ended(Ending::Left(self.pipe.report()));
        }
    }
}
