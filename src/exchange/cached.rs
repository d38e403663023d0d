//! What of an exchange may come from the cache of answers, and what goes into it.
//!
//! An answer is kept under the provider and model that gave it, the caller's own credential, and all of the
//! request but what does not change the answer. So an answer of a fallback never stands for one of the provider
//! that was asked for, and no caller gets what another one asked. Kept are only whole answers that ended by
//! themselves.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::Stream;
use http::{HeaderMap, HeaderValue};
use sha2::{Digest, Sha256};

use super::Exchange;
use super::caller::{self, Whole};
use super::relay::Relay;
use super::request::{CacheWish, Request};
use crate::cells::cache::{AnswerCache, CacheKey, Flight, Kept, Lead};
use crate::config::{self, Target};
use crate::dialect::json::Raw;
use crate::dialect::part::Flow;
use crate::dialect::{Dialect, Source as _, Stop, anthropic, sse};
use crate::routing::{Candidate, Plan};
use crate::runtime::clock;

/// Goes into every key: entries of another making must not be found.
const VERSION: &[u8] = b"cproxy answers 1";

/// The largest share of the cache that one answer may take: an eighth.
const SHARE: u64 = 8;

/// Top-level fields of a Messages request that do not change the answer. The model is that of the target.
/// Source: Anthropic API reference, "Create a Message" (`metadata` describes the caller).
const NEUTRAL: [&str; 3] = ["model", "stream", "metadata"];

/// What the cache is to one request.
pub struct Cached {
    using: Option<Using>,
    /// What the status header says unless an answer is found.
    status: Option<&'static str>,
}

/// A request that may be served from the cache, and whose answer may be kept.
struct Using {
    cache: Arc<AnswerCache>,
    config: config::Cache,
    base: Sha256,
    reads: bool,
    tools: bool,
    stream: bool,
    lead: Option<Lead>,
}

/// Whether an answer is at hand.
pub enum Found {
    /// No.
    Nothing,
    /// Yes.
    Answer(FoundAnswer),
}

/// An answer that was at hand.
pub struct FoundAnswer {
    /// As this caller wants it.
    pub body: Bytes,
    /// How long it has been kept.
    pub age: Duration,
}

/// Where an answer will be kept.
pub struct Keeping {
    cache: Arc<AnswerCache>,
    key: CacheKey,
    max_size: u64,
    tools: bool,
    stream: bool,
    lead: Option<Lead>,
}

/// A relay whose bytes are kept once it has ended well.
pub struct Recorder {
    relay: Relay,
    keeping: Option<Keeping>,
    /// How the answer ended, once it has ended well.
    ended: Arc<OnceLock<Option<Stop>>>,
    pieces: Vec<Bytes>,
    size: u64,
    ping: Bytes,
}

// === impl Cached ===

impl Cached {
    /// What the cache is to this request.
    pub fn of(exchange: &Exchange, request: &Request, plan: &Plan, config: &config::Cache) -> Cached {
        if !config.enabled {
            return Cached { using: None, status: None };
        }
        let tools = config.tools || request.cache == CacheWish::On;
        let wanted = request.cache != CacheWish::Off && (tools || request.facts.head.tools == 0);
        match wanted.then(|| base(request, plan)).flatten() {
            Some(base) => {
                let using = Using {
                    cache: exchange.directory.answers.clone(),
                    config: *config,
                    base,
                    reads: request.cache != CacheWish::Refresh,
                    tools,
                    stream: request.facts.head.stream,
                    lead: None,
                };
                Cached { using: Some(using), status: Some("MISS") }
            }
            None => Cached { using: None, status: Some("BYPASS") },
        }
    }

    /// Looks for this candidate's answer. Where another request is on the way to it, waits for that.
    pub async fn look_up(&mut self, request: &Request, candidate: &Candidate, deadline: Instant) -> Found {
        let Some(using) = &mut self.using else { return Found::Nothing };
        using.lead = None; // the candidate before this one gave no answer
        if !using.reads {
            return Found::Nothing;
        }
        let key = using.key(&candidate.target);
        if let Some(found) = using.find(request, &key).await {
            return Found::Answer(found);
        }
        match using.cache.fly(key) {
            Flight::Leads(lead) => using.lead = Some(lead),
            Flight::Follows(other) => {
                let _ = tokio::time::timeout_at(deadline.into(), other.cancelled()).await; // then it is on its own
            }
        }
        // Also who leads looks again: the one before may have ended a moment ago.
        using.find(request, &key).await.map_or(Found::Nothing, Found::Answer)
    }

    /// Where this target's answer will be kept.
    pub fn keeping(&mut self, target: &Target) -> Option<Keeping> {
        let using = self.using.as_mut()?;
        Some(Keeping {
            cache: using.cache.clone(),
            key: using.key(target),
            max_size: using.config.max_size.0,
            tools: using.tools,
            stream: using.stream,
            lead: using.lead.take(),
        })
    }

    /// The status header.
    pub fn explain(&self, headers: &mut HeaderMap) {
        if let Some(status) = self.status {
            headers.insert("x-cproxy-cache", HeaderValue::from_static(status));
        }
    }
}

// === impl Using ===

impl Using {
    fn key(&self, target: &Target) -> CacheKey {
        let mut hash = self.base.clone();
        feed(&mut hash, target.provider.as_str().as_bytes());
        feed(&mut hash, target.model.as_bytes());
        hash.finalize().into()
    }

    async fn find(&self, request: &Request, key: &CacheKey) -> Option<FoundAnswer> {
        let now = clock::now();
        let kept = self.cache.get(key, self.config.ttl, now).await?;
        let body = as_wanted(request, &kept)?;
        Some(FoundAnswer { body, age: now.saturating_duration_since(kept.at) })
    }
}

/// The hash of all on which the answer depends but the target. `None` if the body can't be read.
fn base(request: &Request, plan: &Plan) -> Option<Sha256> {
    let fields: BTreeMap<String, Raw<'_>> = serde_json::from_slice(&request.body).ok()?;
    let mut hash = Sha256::new();
    feed(&mut hash, VERSION);
    feed(&mut hash, request.dialect.as_str().as_bytes());
    for key in [&request.credential.api_key, &request.credential.authorization] {
        feed(&mut hash, key.as_ref().map_or("", |key| key.expose()).as_bytes());
    }
    for (name, value) in &request.headers {
        if name.as_str().starts_with("anthropic-") {
            feed(&mut hash, name.as_str().as_bytes());
            feed(&mut hash, value.as_bytes());
        }
    }
    feed(&mut hash, plan.effort.as_deref().unwrap_or_default().as_bytes());
    feed(&mut hash, &[u8::from(plan.wide_window)]);
    let messages = request.dialect == Dialect::Anthropic;
    for (name, value) in fields {
        let neutral = if messages { NEUTRAL.contains(&&*name) } else { name == "model" };
        if !neutral {
            feed(&mut hash, name.as_bytes());
            feed(&mut hash, &without_spaces(value.get()));
        }
    }
    Some(hash)
}

/// One piece of a key, so that no two lists of pieces look alike.
fn feed(hash: &mut Sha256, piece: &[u8]) {
    hash.update((piece.len() as u64).to_le_bytes());
    hash.update(piece);
}

/// JSON without the white space between its tokens.
fn without_spaces(json: &str) -> Vec<u8> {
    let (mut inside, mut escaped) = (false, false);
    let mut kept = Vec::with_capacity(json.len());
    for byte in json.bytes() {
        if inside {
            inside = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else if byte.is_ascii_whitespace() {
            continue;
        } else {
            inside = byte == b'"';
        }
        kept.push(byte);
    }
    kept
}

/// A kept answer as this caller wants it: streamed or whole. The other form is known for Messages only.
fn as_wanted(request: &Request, kept: &Kept) -> Option<Bytes> {
    if kept.stream == request.facts.head.stream {
        return Some(kept.body.clone());
    }
    if request.dialect != Dialect::Anthropic {
        return None;
    }
    let mut whole = Whole::new(request);
    if kept.stream {
        let (mut events, mut reader) = (sse::Reader::new(), anthropic::Reader::new());
        events.push(&kept.body);
        while let Some(event) = events.next().ok()? {
            if reader.event(event, &mut whole).ok()? == Flow::Done {
                break;
            }
        }
    } else {
        anthropic::response::read(&kept.body, &mut whole).ok()?;
    }
    whole.finish().ok().map(|(body, _)| body)
}

// === impl Keeping ===

impl Keeping {
    /// Keeps the answer if it ended by itself. Off the request's path; who waits for it waits until it is done.
    pub fn keep(self, body: Bytes, stop: Option<&Stop>) {
        let fit = match stop {
            Some(Stop::EndTurn | Stop::StopSequence(_)) => true,
            Some(Stop::ToolUse) => self.tools,
            _ => false,
        };
        if !fit || body.len() as u64 > self.max_size / SHARE {
            return;
        }
        tokio::spawn(async move {
            let kept = Kept { body, stream: self.stream, at: clock::now() };
            self.cache.keep(self.key, kept, self.max_size).await;
            drop(self.lead);
        });
    }
}

// === impl Recorder ===

impl Recorder {
    /// Records what this relay gives.
    pub fn new(
        relay: Relay,
        keeping: Keeping,
        ended: Arc<OnceLock<Option<Stop>>>,
        dialect: Dialect,
    ) -> Recorder {
        let ping = caller::ping(dialect);
        Recorder { relay, keeping: Some(keeping), ended, pieces: Vec::new(), size: 0, ping }
    }

    fn record(&mut self, piece: &Bytes) {
        let Some(keeping) = &self.keeping else { return };
        self.size += piece.len() as u64;
        if self.size > keeping.max_size / SHARE {
            self.keeping = None;
            self.pieces = Vec::new();
        } else if *piece != self.ping {
            self.pieces.push(piece.clone());
        }
    }
}

impl Stream for Recorder {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let this = &mut *self;
        let piece = ready!(Pin::new(&mut this.relay).poll_next(cx));
        match &piece {
            Some(piece) => this.record(piece),
            None => {
                if let (Some(keeping), Some(stop)) = (this.keeping.take(), this.ended.get()) {
                    keeping.keep(this.pieces.concat().into(), stop.as_ref());
                }
            }
        }
        Poll::Ready(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_counts_inside_strings_only() {
        let tight = without_spaces(r#"{"a":["x  \" y \\",1]}"#);
        assert_eq!(without_spaces("{ \"a\" :\n[ \"x  \\\" y \\\\\" ,\t1 ] }"), tight);
        assert_ne!(without_spaces(r#"{"a":["x \" y \\",1]}"#), tight);
    }
}
