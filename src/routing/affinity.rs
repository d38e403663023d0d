//! Who served a session before: prompt caches and the signatures of reasoning live there.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::Target;

/// Models of one session that are remembered apart: Claude Code uses two or three.
const MODELS: usize = 8;
/// Longer names are not remembered.
const LONGEST_NAME: usize = 256;

/// The homes of sessions, bounded in number and time. A session has one for each model that it asks for.
#[derive(Clone, Debug)]
pub struct Affinity {
    sessions: HashMap<Arc<str>, Session>,
    most: usize,
    ttl: Duration,
}

/// Where a session was served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// Provider and model.
    pub target: Target,
    /// The key, by its name in the pool.
    pub key: Option<Arc<str>>,
}

#[derive(Clone, Debug)]
struct Session {
    used: Instant,
    homes: Vec<(Arc<str>, Home)>,
}

// === impl Affinity ===

impl Affinity {
    /// Remembers at most `most` sessions, each for `ttl` after its last request.
    pub fn new(most: usize, ttl: Duration) -> Affinity {
        Affinity { sessions: HashMap::new(), most: most.max(1), ttl }
    }

    /// Where the session was last served with this model.
    pub fn recall(&self, session: &str, model: &str, now: Instant) -> Option<&Home> {
        let session = self.sessions.get(session).filter(|session| !self.is_over(session, now))?;
        session.homes.iter().find(|(asked, _)| &**asked == model).map(|(_, home)| home)
    }

    /// The session was served there.
    pub fn remember(&mut self, session: &str, model: &str, home: Home, now: Instant) {
        if session.is_empty() || session.len() > LONGEST_NAME || model.len() > LONGEST_NAME {
            return;
        }
        if !self.sessions.contains_key(session) {
            self.make_room(now);
        }
        let entry = self
            .sessions
            .entry(Arc::from(session))
            .or_insert_with(|| Session { used: now, homes: Vec::with_capacity(1) });
        entry.used = entry.used.max(now);
        match entry.homes.iter_mut().find(|(asked, _)| &**asked == model) {
            Some((_, known)) => *known = home,
            None => {
                if entry.homes.len() >= MODELS {
                    entry.homes.remove(0);
                }
                entry.homes.push((Arc::from(model), home));
            }
        }
    }

    /// The target failed the session: it is no home any more. A home elsewhere stays.
    pub fn forget_on_failure(&mut self, session: &str, model: &str, failed: &Target) {
        if let Some(entry) = self.sessions.get_mut(session) {
            entry.homes.retain(|(asked, home)| &**asked != model || home.target != *failed);
            if entry.homes.is_empty() {
                self.sessions.remove(session);
            }
        }
    }

    /// Sessions remembered.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Before one more comes: those that are over go, and if it is still full, the eighth part that was
    /// longest without a request. So each removal is paid by many arrivals.
    fn make_room(&mut self, now: Instant) {
        if self.sessions.len() < self.most {
            return;
        }
        let ttl = self.ttl;
        self.sessions.retain(|_, session| now.saturating_duration_since(session.used) < ttl);
        if self.sessions.len() < self.most {
            return;
        }
        let mut ages: Vec<Instant> = self.sessions.values().map(|session| session.used).collect();
        let go = (ages.len() / 8).max(1);
        let (_, &mut youngest, _) = ages.select_nth_unstable(go - 1);
        let mut left = go;
        self.sessions.retain(|_, session| {
            let goes = left > 0 && session.used <= youngest;
            left -= usize::from(goes);
            !goes
        });
    }

    fn is_over(&self, session: &Session, now: Instant) -> bool {
        now.saturating_duration_since(session.used) >= self.ttl
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

    use super::*;

    fn home(target: &str) -> Home {
        Home { target: Target::parse(target).unwrap(), key: None }
    }

    #[test]
    fn a_session_has_a_home_for_each_model_until_it_fails_there() {
        let now = Instant::now();
        let mut affinity = Affinity::new(10, Duration::from_secs(60));
        affinity.remember("s", "opus", home("a/opus"), now);
        affinity.remember("s", "haiku", home("b/small"), now);
        assert_eq!(affinity.recall("s", "opus", now), Some(&home("a/opus")));
        assert_eq!(affinity.recall("s", "haiku", now), Some(&home("b/small")));
        assert_eq!(affinity.recall("t", "opus", now), None);

        affinity.forget_on_failure("s", "opus", &home("c/opus").target);
        assert!(affinity.recall("s", "opus", now).is_some(), "another target's failure changes nothing");
        affinity.forget_on_failure("s", "opus", &home("a/opus").target);
        assert_eq!(affinity.recall("s", "opus", now), None);
        assert!(affinity.recall("s", "haiku", now).is_some());
    }

    #[test]
    fn a_home_is_forgotten_after_its_time() {
        let now = Instant::now();
        let mut affinity = Affinity::new(10, Duration::from_secs(60));
        affinity.remember("s", "m", home("a/m"), now);
        affinity.remember("s", "m", home("a/m"), now + Duration::from_secs(50));
        assert!(affinity.recall("s", "m", now + Duration::from_secs(109)).is_some());
        assert!(affinity.recall("s", "m", now + Duration::from_secs(110)).is_none());
    }

    #[test]
    fn however_many_sessions_come_the_latest_are_kept_within_the_bound() {
        let now = Instant::now();
        let mut affinity = Affinity::new(64, Duration::from_secs(3600));
        for n in 0..10_000u64 {
            affinity.remember(&n.to_string(), "m", home("a/m"), now + Duration::from_millis(n));
            assert!(affinity.len() <= 64);
        }
        let late = now + Duration::from_secs(10);
        assert!(affinity.recall("9999", "m", late).is_some());
        assert!(affinity.recall("9960", "m", late).is_some());
        assert!(affinity.recall("100", "m", late).is_none());
        for n in 0..100 {
            affinity.remember("9999", &n.to_string(), home("a/m"), late);
        }
        assert!(affinity.recall("9999", "99", late).is_some());
        assert!(affinity.recall("9999", "m", late).is_none());
        affinity.remember(&"x".repeat(10_000), "m", home("a/m"), late);
        assert!(affinity.recall(&"x".repeat(10_000), "m", late).is_none());
    }
}
