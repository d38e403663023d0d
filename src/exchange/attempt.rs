//! One attempt at one upstream: send, wait for the first output, or fail. Everything before the commit point.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt;

use super::gate::Gate;
use super::outgoing::{self, Outgoing};
use super::pipe::{Pipe, Report};
use super::request::Request;
use crate::cells::Lease;
use crate::cells::upstream::Body;
use crate::dialect::part::Flow;
use crate::dialect::{Fault, FaultKind, Phase};
use crate::runtime::clock;

/// Most bytes of an answer that is not streamed.
const MAX_WHOLE: usize = 64 << 20;

/// Most bytes of an error's body.
const MAX_ERROR: usize = 256 << 10;

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
    Stream {
        /// The upstream's headers.
        headers: HeaderMap,
        /// What the caller gets first.
        first: Vec<Bytes>,
        /// The rest.
        body: Body,
        /// Reads the rest.
        pipe: Box<dyn Pipe>,
        /// Whether the answer is already at its end.
        ended: bool,
    },
}

/// Sends the request and waits until there is something to give to the caller.
pub async fn attempt(request: &Request, lease: &mut Lease, outgoing: Outgoing) -> Result<Committed, Fault> {
    let timeouts = *lease.timeouts();
    let started = clock::now();
    let first_by = started + timeouts.first_byte;
    let total_by = started + timeouts.total;
    let (message, reading) = match outgoing {
        Outgoing::Send(message, reading) => (message, reading),
        Outgoing::Answer(parts) => {
            let (body, report) = outgoing::write(request, parts)?;
            return Ok(Committed::Whole { headers: HeaderMap::new(), body, report });
        }
    };

    lease.sent();
    let response = by(first_by, Phase::Headers, lease.upstream().send(message)).await?;
    let status = response.status();
    let (parts, body) = response.into_parts();
    if !status.is_success() {
        let body = whole(
            body,
            MAX_ERROR,
            first_by.max(clock::now() + std::time::Duration::from_secs(5)),
            Phase::Headers,
        )
        .await;
        return Err(reading.refusal(status, &parts.headers, &body.unwrap_or_default()));
    }
    if request.facts.head.stream && !is_json(&parts.headers) {
        stream(parts.headers, body, reading.pipe(request), first_by).await
    } else {
        let body = whole(body, MAX_WHOLE, total_by, Phase::Total).await?;
        let (body, report) = reading.whole(request, body)?;
        Ok(Committed::Whole { headers: parts.headers, body, report })
    }
}

/// Reads a stream up to its first output.
async fn stream(
    headers: HeaderMap,
    mut body: Body,
    mut pipe: Box<dyn Pipe>,
    first_by: Instant,
) -> Result<Committed, Fault> {
    let mut gate = Gate::default();
    let mut pieces = Vec::new();
    loop {
        let frame = by(first_by, Phase::FirstOutput, async { body.frame().await.transpose() }).await?;
        let flow = match frame {
            Some(frame) => match frame.into_data() {
                Ok(chunk) => pipe.push(chunk, &mut pieces)?,
                Err(_trailers) => continue,
            },
            None => pipe.end(&mut pieces).map(|()| Flow::Done)?,
        };
        let ended = flow == Flow::Done;
        let first = gate.pass(&mut pieces, pipe.begun() || ended);
        if gate.is_open() {
            return Ok(Committed::Stream { headers, first, body, pipe, ended });
        }
    }
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

/// Reads a whole body of at most `limit` bytes.
async fn whole(mut body: Body, limit: usize, deadline: Instant, phase: Phase) -> Result<Bytes, Fault> {
    by(deadline, phase, async {
        let mut first: Option<Bytes> = None;
        let mut joined = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            if first.as_ref().map_or(0, Bytes::len) + joined.len() + data.len() > limit {
                return Err(Fault::protocol(format!(
                    "the upstream's answer is larger than {} MiB",
                    limit >> 20
                )));
            }
            match first.take() {
                None if joined.is_empty() => first = Some(data),
                None => joined.extend_from_slice(&data),
                Some(start) => {
                    joined.extend_from_slice(&start);
                    joined.extend_from_slice(&data);
                }
            }
        }
        Ok(first.unwrap_or_else(|| joined.freeze()))
    })
    .await
}

/// Whether the upstream says that its answer is one JSON document.
fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(http::header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("application/json"))
}
