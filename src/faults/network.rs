//! Faults on the way to an upstream: a decorator around the seam to the network.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::stream;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};

use super::injector::Injector;
use super::plan::NetworkFault;
use crate::actors::providers::Connect;
use crate::cells::upstream::{About, Body, Upstream};
use crate::config::ProviderId;
use crate::dialect::{Fault, FaultKind};

/// An upstream with an injector in front of it.
struct Faulty {
    provider: ProviderId,
    inner: Arc<dyn Upstream>,
    injector: Arc<Injector>,
}

/// A body that is bent.
struct Bent {
    inner: Body,
    fault: NetworkFault,
    /// Whether the body is a stream of events; else it counts as two, its halves.
    events: bool,
    held: BytesMut,
    passed: u64,
    over: bool,
}

/// Wraps what connects to upstreams.
pub fn wrap(connect: Connect, injector: Arc<Injector>) -> Connect {
    Arc::new(move |id, config| {
        let inner = connect(id, config)?;
        Ok(Arc::new(Faulty { provider: id.clone(), inner, injector: injector.clone() }))
    })
}

// === impl Faulty ===

impl Upstream for Faulty {
    fn send(&self, request: Request<Bytes>) -> BoxFuture<'static, Result<Response<Body>, Fault>> {
        let fault = match request.extensions().get::<About>() {
            Some(about) => {
                self.injector.on_the_way(self.provider.as_str(), &about.model, about.session.as_deref())
            }
            None => self.injector.on_a_check(self.provider.as_str()),
        };
        let inner = self.inner.clone();
        Box::pin(async move {
            match fault {
                None => inner.send(request).await,
                Some(NetworkFault::Refuse) => Err(network("injected: the connection was refused", false)),
                Some(NetworkFault::Reset(None)) => Err(network("injected: the connection was reset", true)),
                Some(NetworkFault::Stall) => std::future::pending().await,
                Some(NetworkFault::Status { status, headers, body }) => Ok(answer(status, &headers, body)),
                Some(NetworkFault::Slow(delay)) => {
                    tokio::time::sleep(delay).await;
                    inner.send(request).await
                }
                Some(fault) => Ok(bend(inner.send(request).await?, fault)),
            }
        })
    }

    fn is_curious(&self) -> bool {
        true
    }
}

fn network(message: &str, ambiguous: bool) -> Fault {
    Fault { ambiguous, ..Fault::new(FaultKind::Network, message) }
}

/// An error in a shape that every dialect's reader knows.
fn answer(status: u16, headers: &BTreeMap<String, String>, body: Option<String>) -> Response<Body> {
    let kind = match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        503 | 529 => "overloaded_error",
        _ => "api_error",
    };
    let body = body.unwrap_or_else(|| {
        let error = serde_json::json!({ "type": kind, "message": "injected", "code": status });
        serde_json::json!({ "type": "error", "error": error }).to_string()
    });
    let body = Full::new(Bytes::from(body)).map_err(|never: std::convert::Infallible| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// Lets the fault happen to a body.
fn bend(response: Response<Body>, fault: NetworkFault) -> Response<Body> {
    let events = response
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| kind.starts_with("text/event-stream"));
    response.map(|inner| {
        let bent = Bent { inner, fault, events, held: BytesMut::new(), passed: 0, over: false };
        let frames = stream::unfold(bent, |mut bent| async move {
            let piece = bent.next().await?;
            Some((piece.map(Frame::data), bent))
        });
        StreamBody::new(frames).boxed_unsync()
    })
}

// === impl Bent ===

impl Bent {
    /// The next piece, as the fault lets it through.
    async fn next(&mut self) -> Option<Result<Bytes, Fault>> {
        if self.over {
            return None;
        }
        let (limit, pause) = match self.fault {
            NetworkFault::Split(size) => return self.piece(size, Duration::ZERO).await,
            NetworkFault::Trickle(size, pause) => return self.piece(size, pause).await,
            NetworkFault::StallAfterHeaders => (0, true),
            NetworkFault::StallInStream(events) => (events, true),
            NetworkFault::Corrupt(events) if self.passed == events => {
                self.event().await?.ok()?;
                self.passed += 1;
                return Some(Ok(Bytes::from_static(b"data: {\"broken\":\n\n")));
            }
            NetworkFault::Corrupt(_) => (u64::MAX, false),
            NetworkFault::Cut(events) | NetworkFault::Reset(Some(events)) => (events, false),
            _ => (u64::MAX, false),
        };
        let limit = if self.events { limit } else { limit.min(1) };
        if self.passed >= limit {
            if pause {
                std::future::pending::<()>().await;
            }
            self.over = true;
            return match self.fault {
                NetworkFault::Reset(_) => Some(Err(network("injected: the connection was reset", true))),
                _ => None,
            };
        }
        let event = self.event().await?;
        self.passed += 1;
        Some(event)
    }

    /// The next event of a stream; the next half of anything else.
    async fn event(&mut self) -> Option<Result<Bytes, Fault>> {
        loop {
            let end = memchr::memmem::find(&self.held, b"\n\n")
                .map(|at| at + 2)
                .or_else(|| memchr::memmem::find(&self.held, b"\r\n\r\n").map(|at| at + 4));
            match end {
                Some(end) if self.events => return Some(Ok(self.held.split_to(end).freeze())),
                _ => {}
            }
            match self.more().await {
                Some(Ok(())) if !self.events && self.passed == 0 && self.held.len() > 1 => {
                    let half = self.held.len() / 2;
                    return Some(Ok(self.held.split_to(half).freeze()));
                }
                Some(Ok(())) => {}
                Some(Err(fault)) => return Some(Err(fault)),
                None if self.held.is_empty() => return None,
                None => return Some(Ok(self.held.split().freeze())),
            }
        }
    }

    /// The next piece of at most `size` bytes.
    async fn piece(&mut self, size: usize, pause: Duration) -> Option<Result<Bytes, Fault>> {
        if self.held.is_empty() {
            match self.more().await? {
                Ok(()) => {}
                Err(fault) => return Some(Err(fault)),
            }
        }
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        let size = size.min(self.held.len());
        Some(Ok(self.held.split_to(size).freeze()))
    }

    /// Reads on.
    async fn more(&mut self) -> Option<Result<(), Fault>> {
        loop {
            match self.inner.frame().await? {
                Ok(frame) => {
                    if let Ok(data) = frame.into_data()
                        && !data.is_empty()
                    {
                        self.held.extend_from_slice(&data);
                        return Some(Ok(()));
                    }
                }
                Err(fault) => return Some(Err(fault)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    const TEXT: &str = "data: één\n\ndata: twee\n\ndata: drie\n\n";

    async fn bent(fault: NetworkFault, events: bool) -> (Vec<Bytes>, Option<Fault>) {
        let body = Full::new(Bytes::from(TEXT)).map_err(|never: std::convert::Infallible| match never {});
        let mut response = Response::new(body.boxed_unsync());
        let kind = if events { "text/event-stream; charset=utf-8" } else { "application/json" };
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        let mut body = bend(response, fault).into_body();
        let mut pieces = Vec::new();
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => pieces.push(frame.into_data().unwrap()),
                Err(fault) => return (pieces, Some(fault)),
            }
        }
        (pieces, None)
    }

    fn text(pieces: &[Bytes]) -> String {
        String::from_utf8(pieces.concat()).unwrap()
    }

    #[tokio::test]
    async fn a_cut_passes_whole_events_and_ends() {
        assert_eq!(text(&bent(NetworkFault::Cut(2), true).await.0), "data: één\n\ndata: twee\n\n");
        assert_eq!(text(&bent(NetworkFault::Cut(9), true).await.0), TEXT);
        let half = text(&bent(NetworkFault::Cut(1), false).await.0);
        assert!(TEXT.starts_with(&half) && half.len() < TEXT.len(), "{half}");
    }

    #[tokio::test]
    async fn a_reset_is_an_error_and_may_have_been_billed() {
        let (pieces, fault) = bent(NetworkFault::Reset(Some(1)), true).await;
        assert_eq!(text(&pieces), "data: één\n\n");
        assert!(fault.unwrap().ambiguous);
    }

    #[tokio::test]
    async fn one_event_is_corrupt_and_the_others_are_whole() {
        let pieces = bent(NetworkFault::Corrupt(1), true).await.0;
        assert_eq!(text(&pieces), "data: één\n\ndata: {\"broken\":\n\ndata: drie\n\n");
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_are_split_inside_characters_and_none_is_lost() {
        let pieces = bent(NetworkFault::Split(1), true).await.0;
        assert_eq!((pieces.len(), text(&pieces).as_str()), (TEXT.len(), TEXT));
        let began = crate::runtime::clock::now();
        let pieces = bent(NetworkFault::Trickle(5, Duration::from_secs(1)), true).await.0;
        assert_eq!(text(&pieces), TEXT);
        assert_eq!(crate::runtime::clock::now() - began, Duration::from_secs(pieces.len() as u64));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stall_gives_nothing_for_ever() {
        let hour = Duration::from_secs(3600);
        assert!(tokio::time::timeout(hour, bent(NetworkFault::StallInStream(1), true)).await.is_err());
        assert!(tokio::time::timeout(hour, bent(NetworkFault::StallAfterHeaders, false)).await.is_err());
    }
}
