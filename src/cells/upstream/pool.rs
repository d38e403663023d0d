//! Connections of one provider that wait for their next request.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::http1::Http1;
use super::http2::{self, Http2};
use crate::runtime::clock;

/// Most connections that are kept without a request on them.
const MOST_IDLE: usize = 64;

/// How long one is kept. Load balancers close idle connections after a minute or more.
const KEPT: Duration = Duration::from_secs(60);

/// A machine that was asleep for longer than this has lost its connections: the other side, or something on the way,
/// has forgotten them, and would not even say so.
const NAP: Duration = Duration::from_secs(10);

/// The connections of one provider.
#[derive(Default)]
pub(super) struct Pool(Mutex<Kept>);

/// A connection that can take a request.
#[allow(clippy::large_enum_variant)] // lives for a moment, on the stack
pub(super) enum Free {
    Http1(Http1),
    Http2(http2::Stream),
}

/// A moment by both clocks: the one that stands still while the machine sleeps, and the one on the wall.
#[derive(Clone, Copy)]
struct Moment {
    at: Instant,
    wall: SystemTime,
}

#[derive(Default)]
struct Kept {
    /// The one that was used last stands last, and is used next: the others may grow old.
    http1: Vec<(Http1, Moment)>,
    http2: Vec<(Http2, Moment)>,
    /// Whether the task runs that closes the old ones.
    swept: bool,
}

// === impl Pool ===

impl Pool {
    /// A connection that can take a request now, if there is one.
    pub(super) fn take(&self) -> Option<Free> {
        let now = Moment::now();
        let mut kept = self.kept();
        kept.http2.retain(|(shared, used)| !shared.is_closed() && !now.slept_since(*used));
        let free = kept.http2.iter_mut().find_map(|(shared, used)| {
            let stream = shared.stream()?;
            *used = now;
            Some(stream)
        });
        if let Some(stream) = free {
            return Some(Free::Http2(stream));
        }
        while let Some((mut connection, since)) = kept.http1.pop() {
            if now.at < since.at + KEPT && !now.slept_since(since) && connection.is_usable() {
                return Some(Free::Http1(connection));
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
            kept.http1.push((connection, Moment::now()));
            self.sweep_later(&mut kept);
        }
    }

    /// Lets others use this connection, too.
    pub(super) fn share(self: &Arc<Self>, connection: Http2) {
        let mut kept = self.kept();
        kept.http2.push((connection, Moment::now()));
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
        kept.http1.retain_mut(|(connection, since)| now < since.at + KEPT && connection.is_usable());
        kept.http2
            .retain(|(shared, used)| !shared.is_closed() && (now < used.at + KEPT || !shared.is_idle()));
        kept.swept = !(kept.http1.is_empty() && kept.http2.is_empty());
        kept.swept
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Moment ===

impl Moment {
    fn now() -> Moment {
        Moment { at: clock::now(), wall: clock::wall() }
    }

    /// Whether the machine was asleep between that moment and this.
    fn slept_since(self, since: Moment) -> bool {
        let by_wall = self.wall.duration_since(since.wall).unwrap_or_default();
        by_wall > self.at.saturating_duration_since(since.at) + NAP
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_is_told_by_the_two_clocks_and_a_wait_is_none() {
        let since = Moment::now();
        let later = |at: u64, wall: u64| Moment {
            at: since.at + Duration::from_secs(at),
            wall: since.wall + Duration::from_secs(wall),
        };
        assert!(later(5, 3600).slept_since(since));
        for (at, wall) in [(0, 0), (50, 50), (50, 58), (3600, 3600), (3600, 0)] {
            assert!(!later(at, wall).slept_since(since), "{at} {wall}");
        }
        let back = Moment { wall: since.wall - Duration::from_secs(7200), ..since };
        assert!(!back.slept_since(since), "a clock that was set back");
    }
}
