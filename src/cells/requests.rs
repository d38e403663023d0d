//! The requests in progress, and the counts since the start.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Counts requests. Shared by both fronts.
#[derive(Debug, Default)]
pub struct Requests {
    open: AtomicU64,
    /// Since the start.
    pub total: AtomicU64,
    /// Since the start: answered with an error.
    pub errors: AtomicU64,
    /// Since the start: answered well after more than one attempt.
    pub failovers: AtomicU64,
    idle: Notify,
    ending: CancellationToken,
}

/// One request in progress. Its drop ends it.
#[derive(Debug)]
pub struct OpenRequest(Arc<Requests>);

// === impl Requests ===

impl Requests {
    /// A request begins; `None` if `limit` are open already.
    pub fn begin(self: &Arc<Requests>, limit: usize) -> Option<OpenRequest> {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        let admitted = self.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| {
            (open < limit).then_some(open.saturating_add(1))
        });
        admitted.ok()?;
        self.total.fetch_add(1, Ordering::Relaxed);
        Some(OpenRequest(self.clone()))
    }

    /// How many are open.
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Acquire)
    }

    /// Ends all that are open: the daemon stops, and their time is over.
    pub fn end_all(&self) {
        self.ending.cancel();
    }

    /// Cancelled when open requests must end.
    pub fn ending(&self) -> &CancellationToken {
        &self.ending
    }

    /// Resolves when none is open.
    pub async fn idle(&self) {
        loop {
            let idle = self.idle.notified();
            if self.open() == 0 {
                return;
            }
            idle.await;
        }
    }
}

// === impl OpenRequest ===

impl Drop for OpenRequest {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}
