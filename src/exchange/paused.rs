//! Turns that Anthropic pauses, for callers who can't send them back: those of OpenAI's dialects, which have no word for
//! it, and those of the MCP front, who see only the answer. The turn is sent again with what the assistant has said,
//! and the answers are joined. It is one attempt with one place at the provider, whatever it takes.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::stream;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use serde_json::{Value, json};

use super::continuation::with_turns;
use super::outgoing::Reading;
use super::request::{Front, Request};
use crate::cells::upstream::{self, Body, Upstream};
use crate::dialect::anthropic::{self, paused};
use crate::dialect::{Dialect, Fault, FaultKind, Phase};

/// Most bytes of a refusal that are read.
const MAX_REFUSAL: usize = 64 << 10;

/// How a turn that pauses is sent again.
pub struct Resuming {
    upstream: Arc<dyn Upstream>,
    message: http::Request<Bytes>,
    /// The request's id, for the log.
    id: Arc<str>,
}

/// Whether the answer to a request may pause without its caller being able to send it back. Only tools that the server
/// runs make it pause, and what other dialects have of those is the search.
pub fn may_pause(request: &Request) -> bool {
    !matches!(request.front, Front::Messages) && request.facts.head.web_search
}

// === impl Resuming ===

impl Resuming {
    /// For this message, if its answer may pause.
    pub fn of(
        request: &Request,
        reading: &Reading,
        upstream: &Arc<dyn Upstream>,
        message: &http::Request<Bytes>,
    ) -> Option<Resuming> {
        let is_anthropics = match reading {
            Reading::Messages => true,
            Reading::Same(_) => request.dialect == Dialect::Anthropic,
            Reading::Chat(..) | Reading::Responses(..) | Reading::Gemini(..) => false,
        };
        (is_anthropics && may_pause(request)).then(|| Resuming {
            upstream: Arc::clone(upstream),
            message: message.clone(),
            id: request.id.0.clone(),
        })
    }

    /// Sends the turn again, with what was said so far.
    async fn again(&self, said: &[Value]) -> Result<Body, Fault> {
        let turn = json!({ "role": "assistant", "content": said });
        let body = with_turns(self.message.body(), &[turn])
            .ok_or_else(|| Fault::protocol("a paused turn can't be sent again"))?;
        tracing::debug!(request = %self.id, blocks = said.len(), "a paused turn is sent again");
        let mut message = self.message.clone();
        *message.body_mut() = body;
        let (parts, body) = self.upstream.send(message).await?.into_parts();
        if parts.status.is_success() {
            return Ok(body);
        }
        let body = http_body_util::Limited::new(body.map_err(|fault| fault.message), MAX_REFUSAL);
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        Err(anthropic::error::read(parts.status, &parts.headers, &body))
    }

    /// The stream of an answer, joined with those that follow its pauses.
    pub fn stream(self, body: Body) -> Body {
        let state = Streaming {
            resuming: self,
            joined: paused::Joined::new(),
            body,
            ready: None,
            paused: false,
            ended: false,
        };
        let frames = stream::try_unfold(state, |mut state| async move {
            Ok(state.next().await?.map(|piece| (Frame::data(piece), state)))
        });
        Body::new(StreamBody::new(frames))
    }

    /// A whole answer, joined with those that follow its pauses, each of which `read` reads.
    pub async fn whole<F>(
        &self,
        first: Bytes,
        until: Instant,
        read: impl Fn(Body) -> F,
    ) -> Result<Bytes, Fault>
    where
        F: Future<Output = Result<Bytes, Fault>>,
    {
        if memchr::memmem::find(&first, b"pause_turn").is_none() {
            return Ok(first);
        }
        let Ok(mut message) = serde_json::from_slice::<Value>(&first) else { return Ok(first) };
        let mut answers = 0;
        while paused::is_paused(&message) && answers < paused::MOST {
            answers += 1;
            let said = paused::said(&message);
            let again = tokio::time::timeout_at(until.into(), self.again(&said)).await;
            let too_late =
                || Fault::new(FaultKind::Timeout(Phase::Total), "a paused turn was not taken up in time");
            let body = read(again.unwrap_or_else(|_| Err(too_late()))?).await?;
            let next = serde_json::from_slice::<Value>(&body).ok().filter(|next| next["content"].is_array());
            let no_message = || Fault::protocol("the upstream went on with something that is no message");
            paused::join(&mut message, next.ok_or_else(no_message)?);
        }
        Ok(if answers == 0 { first } else { message.to_string().into() })
    }
}

/// A stream on its way through its pauses.
struct Streaming {
    resuming: Resuming,
    joined: paused::Joined,
    body: Body,
    /// What the caller gets before anything else happens.
    ready: Option<Bytes>,
    paused: bool,
    ended: bool,
}

// === impl Streaming ===

impl Streaming {
    /// The next piece; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        loop {
            if let Some(piece) = self.ready.take() {
                return Ok(Some(piece));
            }
            if std::mem::take(&mut self.paused) {
                upstream::read_out(std::mem::take(&mut self.body));
                self.body = self.resuming.again(self.joined.content()).await?;
                self.joined.go_on();
                self.ended = false;
            }
            if self.ended {
                return Ok(None);
            }
            let mut out = Vec::new();
            self.paused = match self.body.frame().await.transpose()?.map(Frame::into_data) {
                Some(Ok(chunk)) => self.joined.push(&chunk, &mut out)?,
                Some(Err(_trailers)) => false,
                None => {
                    self.ended = true;
                    self.joined.end(&mut out)?
                }
            };
            self.ready = (!out.is_empty()).then(|| out.into());
        }
    }
}
