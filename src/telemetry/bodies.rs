//! Bodies in the log, only when `[logging] responses` asks for them: redacted, bounded, and for an hour at most, so
//! that a switch that was forgotten does not fill a disk with what people and models said.

use std::sync::atomic::{AtomicU64, Ordering};

use super::redact;
use crate::runtime::clock;

/// How long bodies are logged after they were asked for, in seconds.
const LASTS: u64 = 3600;

/// Most bytes of a body.
pub const LIMIT: usize = 4 << 10;

/// The target of these lines.
pub const TARGET: &str = "cproxy::body";

/// Until when bodies are logged, in seconds since 1970; 0 is not at all.
static UNTIL: AtomicU64 = AtomicU64::new(0);

/// Asks for bodies for an hour from now on, or no more.
pub fn set(wanted: bool) {
    let until = if wanted { clock::unix().saturating_add(LASTS) } else { 0 };
    UNTIL.store(until, Ordering::Relaxed);
    if wanted {
        tracing::warn!("bodies are logged, redacted and cut, for an hour from now on (logging.responses)");
    }
}

/// Whether bodies are logged now.
pub fn wanted() -> bool {
    match UNTIL.load(Ordering::Relaxed) {
        0 => false,
        until => {
            let now = clock::unix();
            // Too far off is a clock that jumped back: it must not keep the switch on.
            now < until && until - now <= LASTS
        }
    }
}

/// Logs a body, if that is wanted. `what` says which: `request`, `answer`, `upstream's error`.
pub fn log(request: &str, what: &'static str, body: &[u8]) {
    if wanted() {
        tracing::info!(target: TARGET, request, what, body = redact::body(body, LIMIT), "body");
    }
}

/// Gathers the beginning of a streamed body, if bodies are wanted; logs it when it is dropped.
#[derive(Debug)]
pub struct Tap {
    request: std::sync::Arc<str>,
    what: &'static str,
    seen: Vec<u8>,
    total: usize,
}

// === impl Tap ===

impl Tap {
    /// `None` if bodies are not wanted.
    pub fn new(request: &std::sync::Arc<str>, what: &'static str) -> Option<Tap> {
        wanted().then(|| Tap { request: request.clone(), what, seen: Vec::new(), total: 0 })
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
        tracing::info!(target: TARGET, request = &*self.request, what = self.what, body, "body");
    }
}
