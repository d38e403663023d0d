//! Bodies in the log, only when `[logging] responses` or `request_bodies` asks for them: redacted, bounded, and for an
//! hour at most, so that a switch that was forgotten does not fill a disk with what people and models said.

use std::sync::atomic::{AtomicU64, Ordering};

use super::redact;
use crate::runtime::clock;

/// How long bodies are logged after they were asked for, in seconds.
const LASTS: u64 = 3600;

/// Most bytes of a body.
pub const LIMIT: usize = 4 << 10;

/// The target of these lines.
pub const TARGET: &str = "cproxy::body";

/// Until when bodies of requests, and those of answers, are logged, in seconds since 1970; 0 is not at all.
static REQUESTS: AtomicU64 = AtomicU64::new(0);
static ANSWERS: AtomicU64 = AtomicU64::new(0);

/// Which body it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A caller's request, as it came.
    Request,
    /// What the caller gets.
    Answer,
    /// What an upstream said when it refused.
    Refusal,
}

// === impl What ===

impl What {
    fn as_str(self) -> &'static str {
        match self {
            What::Request => "request",
            What::Answer => "answer",
            What::Refusal => "upstream's error",
        }
    }

    fn until(self) -> &'static AtomicU64 {
        match self {
            What::Request => &REQUESTS,
            What::Answer | What::Refusal => &ANSWERS,
        }
    }
}

/// Asks for these bodies for an hour from now on, or no more.
pub fn set(what: What, wanted: bool) {
    let until = if wanted { clock::unix().saturating_add(LASTS) } else { 0 };
    what.until().store(until, Ordering::Relaxed);
    if wanted {
        let key = match what {
            What::Request => "logging.request_bodies",
            What::Answer | What::Refusal => "logging.responses",
        };
        tracing::warn!("bodies are logged, redacted and cut, for an hour from now on ({key})");
    }
}

/// Whether these bodies are logged now.
pub fn wanted(what: What) -> bool {
    match what.until().load(Ordering::Relaxed) {
        0 => false,
        until => {
            let now = clock::unix();
            // Too far off is a clock that jumped back: it must not keep the switch on.
            now < until && until - now <= LASTS
        }
    }
}

/// Logs a body, if that is wanted.
pub fn log(request: &str, what: What, body: &[u8]) {
    if wanted(what) {
        tracing::info!(target: TARGET, request, what = what.as_str(), body = redact::body(body, LIMIT), "body");
    }
}

/// Gathers the beginning of a streamed body, if bodies are wanted; logs it when it is dropped.
#[derive(Debug)]
pub struct Tap {
    request: std::sync::Arc<str>,
    what: What,
    seen: Vec<u8>,
    total: usize,
}

// === impl Tap ===

impl Tap {
    /// `None` if bodies are not wanted.
    pub fn new(request: &std::sync::Arc<str>, what: What) -> Option<Tap> {
        wanted(what).then(|| Tap { request: request.clone(), what, seen: Vec::new(), total: 0 })
    }

    /// A piece of the body.
    pub fn push(&mut self, piece: &[u8]) {
        self.total = self.total.saturating_add(piece.len());
        // Some more than is shown, so that a credential across the cut is seen whole.
        let room = (LIMIT + 512).saturating_sub(self.seen.len());
        self.seen.extend_from_slice(piece.get(..room.min(piece.len())).unwrap_or_default());
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let body = redact::beginning(&self.seen, self.total, LIMIT);
        tracing::info!(target: TARGET, request = &*self.request, what = self.what.as_str(), body, "body");
    }
}
