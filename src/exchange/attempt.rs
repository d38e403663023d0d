//! One attempt at one upstream: send, wait for the first output, or fail. Everything before the commit point.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::BodyExt;

use super::gate::Gate;
use super::outgoing::{self, Outgoing, Reading};
use super::paused::Resuming;
use super::pipe::{Pipe, Report};
use super::request::Request;
use super::so_far::SoFar;
use crate::cells::upstream::{Body, Connected};
use crate::cells::{Answered, Lease};
use crate::config::AfterOutput;
use crate::dialect::openai_chat::Rectify;
use crate::dialect::part::Flow;
use crate::dialect::{Fault, FaultKind, Phase};
use crate::runtime::clock;
use crate::telemetry::bodies::{self, What};

/// Most bytes of an answer that is not streamed.
const MAX_WHOLE: usize = 64 << 20;

/// Most bytes of an error's body, and how long it may take to come: the status has said most.
const MAX_ERROR: usize = 256 << 10;
const ERROR_LIMIT: Duration = Duration::from_secs(5);

/// An attempt that has reached its commit point.
pub enum Committed {
    /// The answer is here, in the caller's dialect.
    Whole {
        /// The upstream's headers.
        headers: HeaderMap,
        /// The body for the caller.
        body: Bytes,
        /// What is known of it.
        report: Report,
    },
    /// The answer has begun.
    Stream(Flowing),
}

/// An answer that has begun.
pub struct Flowing {
    /// The upstream's headers.
    pub headers: HeaderMap,
    /// What the caller gets first.
    pub first: Vec<Bytes>,
    /// The rest.
    pub body: Body,
    /// Reads the rest.
    pub pipe: Box<dyn Pipe>,
    /// Whether the answer is already at its end.
    pub ended: bool,
}

/// An attempt that failed before its commit point.
#[derive(Debug)]
pub struct Failed {
    /// What happened.
    pub fault: Fault,
    /// The change to the request that the upstream's refusal asks for, if it names one.
    pub mend: Option<Rectify>,
}

/// On which terms an attempt is made.
#[derive(Clone, Copy)]
pub struct Terms<'a> {
    /// What happens to an answer that breaks after its first output.
    pub after_output: AfterOutput,
    /// Others stand free: an answer that comes whole has less than its last deadline.
    pub hurry: bool,
    /// It is to write the rest of this.
    pub so_far: Option<&'a SoFar>,
}

/// Sends the request and waits until there is something to give to the caller. `known` are the changes that
/// earlier refusals have taught.
pub async fn attempt(
    request: &Request,
    lease: &mut Lease,
    outgoing: Outgoing,
    known: &[Rectify],
    terms: Terms<'_>,
) -> Result<Committed, Failed> {
    let (message, reading) = match outgoing {
        Outgoing::Send(message, reading) => (message, reading),
        Outgoing::Answer(parts) => {
            if terms.so_far.is_some() {
                return Err(not_in_pieces().into());
            }
            let (body, report) = outgoing::write(request, parts)?;
            return Ok(Committed::Whole { headers: HeaderMap::new(), body, report });
        }
    };
    let timeouts = *lease.timeouts();
    let total_by = clock::now() + timeouts.total;
    // Who does not stream often sends even the headers only when the whole answer is there.
    let headers_by = match (request.facts.head.stream, terms.hurry) {
        (true, _) => clock::now() + timeouts.first_byte,
        (false, true) => total_by.min(clock::now() + timeouts.first_byte + request.writing()),
        (false, false) => total_by,
    };
    let resuming = Resuming::of(request, &reading, lease.upstream(), &message);
    lease.sent();
    let response = by(headers_by, Phase::Headers, lease.upstream().send(message)).await?;
    let (parts, body) = response.into_parts();
    let connect = parts.extensions.get().map(|Connected(took)| *took);
    lease.answered(Answered { at: clock::now(), connect });
    if !parts.status.is_success() {
        let body = whole(Vec::new(), body, MAX_ERROR, clock::now() + ERROR_LIMIT, timeouts.idle).await;
        let body = body.unwrap_or_default();
        bodies::log(&request.id.0, What::Refusal, &body);
        let mut fault = reading.refusal(request, parts.status, &parts.headers, &body);
        fault.headers = Some(Box::new(parts.headers));
        let mend = reading.mend(&fault, known);
        return Err(Failed { fault, mend });
    }
    if request.facts.head.stream {
        let body = match resuming {
            Some(resuming) => resuming.stream(body),
            None => body,
        };
        let by = Until { first: headers_by, idle: timeouts.idle, total: total_by };
        return Ok(stream(request, &reading, parts.headers, body, by, terms).await?);
    }
    let read = |body| whole(Vec::new(), body, MAX_WHOLE, headers_by, timeouts.idle);
    let mut body = read(body).await?;
    if let Some(resuming) = &resuming {
        body = resuming.whole(body, headers_by, read).await?;
    }
    let (body, report) = reading.whole(request, &body)?;
    Ok(Committed::Whole { headers: parts.headers, body, report })
}

/// The deadlines of an answer.
#[derive(Clone, Copy)]
struct Until {
    first: Instant,
    idle: Duration,
    total: Instant,
}

/// Reads a stream up to its first output, or, where it is to be held, up to its end. An answer that turns out to be one JSON document is read as such,
/// whatever its content type says.
async fn stream(
    request: &Request,
    reading: &Reading,
    headers: HeaderMap,
    mut body: Body,
    until: Until,
    terms: Terms<'_>,
) -> Result<Committed, Fault> {
    let mut pipe = match terms.so_far {
        Some(so_far) => reading.pipe_onward(so_far),
        None => reading.pipe(request, terms.after_output == AfterOutput::Continue),
    };
    // What is to be whole before it goes on is held to its end.
    let hold = terms.after_output == AfterOutput::Buffer;
    let mut gate = if hold { Gate::holding(MAX_WHOLE) } else { Gate::default() };
    let mut pieces = Vec::new();
    let mut looked = false;
    loop {
        let (deadline, phase) = match pipe.begun() {
            true => (until.total.min(clock::now() + until.idle), Phase::Idle),
            false => (until.first, Phase::FirstOutput),
        };
        let frame = by(deadline, phase, async { body.frame().await.transpose() }).await?;
        let flow = match frame.map(http_body::Frame::into_data) {
            Some(Ok(chunk)) => {
                let first = chunk.iter().find(|byte| !byte.is_ascii_whitespace());
                if !looked && matches!(first, Some(b'{' | b'[' | b'<')) {
                    if terms.so_far.is_some() {
                        return Err(not_in_pieces());
                    }
                    let body = whole(vec![chunk], body, MAX_WHOLE, until.total, until.idle).await?;
                    let (body, report) = reading.whole(request, &body)?;
                    return Ok(Committed::Whole { headers, body, report });
                }
                looked |= first.is_some();
                pipe.push(chunk, &mut pieces)?
            }
            Some(Err(_trailers)) => continue,
            None => pipe.end(&mut pieces).map(|()| Flow::Done)?,
        };
        let ended = flow == Flow::Done;
        let first = gate.pass(&mut pieces, ended || (pipe.begun() && !hold));
        if gate.is_open() {
            return Ok(Committed::Stream(Flowing { headers, first, body, pipe, ended }));
        }
    }
}

/// The rest of an answer can only be streamed.
fn not_in_pieces() -> Fault {
    Fault::protocol("the upstream gave no stream")
}

/// Waits for `what`, at most until `deadline`.
async fn by<T>(
    deadline: Instant,
    phase: Phase,
    what: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    match tokio::time::timeout_at(deadline.into(), what).await {
        Ok(result) => result,
        Err(_) => {
            let what = match phase {
                Phase::Connect => "the upstream could not be reached in time",
                Phase::Headers => "the upstream did not answer in time",
                Phase::FirstOutput => "the upstream answered, but gave no output in time",
                Phase::Idle => "the upstream fell silent",
                Phase::Total => "the answer took longer than its deadline",
            };
            let mut fault = Fault::new(FaultKind::Timeout(phase), what);
            fault.ambiguous = true;
            Err(fault)
        }
    }
}

/// Reads the rest of a body whose first pieces are here, at most `limit` bytes in all.
async fn whole(
    mut pieces: Vec<Bytes>,
    mut body: Body,
    limit: usize,
    deadline: Instant,
    idle: Duration,
) -> Result<Bytes, Fault> {
    by(deadline, Phase::Total, async {
        let mut size: usize = pieces.iter().map(Bytes::len).sum();
        loop {
            let next = async { body.frame().await.transpose() };
            // An answer that has begun flows: silence in it is a stall, long before its last deadline.
            let frame = match pieces.is_empty() {
                true => next.await?,
                false => by(clock::now() + idle, Phase::Idle, next).await?,
            };
            let Some(frame) = frame else { break };
            let Ok(piece) = frame.into_data() else { continue };
            size += piece.len();
            if size > limit {
                return Err(Fault::protocol(format!(
                    "the upstream's answer is larger than {} MiB",
                    limit >> 20
                )));
            }
            pieces.push(piece);
        }
        Ok(match <[Bytes; 1]>::try_from(pieces) {
            Ok([only]) => only,
            Err(pieces) => pieces.concat().into(),
        })
    })
    .await
}

// === impl Failed ===

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Failed {
        Failed { fault, mend: None }
    }
}
