//! Connections of one provider that wait for their next request.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::connect::Connection;
use super::http1::Http1;
use super::http2::Http2;
use crate::runtime::clock;

/// Most connections that are kept without a request on them.
const MOST_IDLE: usize = 64;

/// How long one is kept. Load balancers close idle connections after a minute or more.
const KEPT: Duration = Duration::from_secs(60);

/// The connections of one provider.
#[derive(Default)]
pub(super) struct Pool(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// The one that was used last stands last, and is used next: the others may grow old.
    http1: Vec<(Http1, Instant)>,
    http2: Vec<(Http2, Instant)>,
    /// Whether the task runs that closes the old ones.
    swept: bool,
}

// === impl Pool ===

impl Pool {
    /// A connection that can take a request now, if there is one.
    pub(super) fn take(&self) -> Option<Connection> {
        let now = clock::now();
        let mut kept = self.kept();
        kept.http2.retain(|(shared, _)| !shared.is_closed());
        if let Some((shared, used)) = kept.http2.iter_mut().find(|(shared, _)| shared.has_room()) {
            *used = now;
            return Some(Connection::Http2(shared.clone()));
        }
        while let Some((mut connection, since)) = kept.http1.pop() {
            if now < since + KEPT && connection.is_usable() {
                return Some(Connection::Http1(connection));
            }
        }
        None
    }

    /// Keeps a connection whose request is done, if it can take another.
    pub(super) fn put(self: &Arc<Self>, mut connection: Http1) {
        if !connection.is_usable() {
            return;
        }
        let mut kept = self.kept();
        if kept.http1.len() < MOST_IDLE {
            kept.http1.push((connection, clock::now()));
            self.sweep_later(&mut kept);
        }
    }

    /// Lets others use this connection, too.
    pub(super) fn share(self: &Arc<Self>, connection: Http2) {
        let mut kept = self.kept();
        kept.http2.push((connection, clock::now()));
        self.sweep_later(&mut kept);
    }

    /// Sees to it that old connections are closed, whether or not requests come.
    fn sweep_later(self: &Arc<Self>, kept: &mut Kept) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if std::mem::replace(&mut kept.swept, true) {
            return;
        }
        let pool = Arc::downgrade(self);
        runtime.spawn(async move {
            loop {
                tokio::time::sleep(KEPT / 2).await;
                match pool.upgrade() {
                    Some(pool) if pool.sweep() => {}
                    _ => return,
                }
            }
        });
    }

    /// Closes what is old or dead; false if nothing is left.
    fn sweep(&self) -> bool {
        let now = clock::now();
        let mut kept = self.kept();
        kept.http1.retain_mut(|(connection, since)| now < *since + KEPT && connection.is_usable());
        kept.http2.retain(|(shared, used)| !shared.is_closed() && (now < *used + KEPT || !shared.is_idle()));
        kept.swept = !(kept.http1.is_empty() && kept.http2.is_empty());
        kept.swept
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
