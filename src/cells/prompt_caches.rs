//! What the upstreams' prompt caches do for each session: how much of its input was read from them, and which turn
//! was billed again for what had been cached.
//!
//! The last body that went out for a conversation is kept until its next turn, so that the byte can be named at
//! which its prefix changed; all of them together within a bound.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::config::{ProviderId, Target};
use crate::dialect::prefix::{self, Change, Kinship};
use crate::dialect::{Dialect, Usage};

/// The most bytes of bodies that are kept.
const MOST_BYTES: usize = 16 << 20;
/// The most conversations that are remembered.
const MOST: usize = 256;
/// Caches work in blocks: fewer tokens than this are no loss.
const BLOCK: u64 = 1024;
/// How long upstreams keep a prefix at least, after it was used last. Source: Anthropic documentation, "Prompt caching".
const KEPT: Duration = Duration::from_secs(300);

/// All conversations whose prompts are cached upstream.
#[derive(Debug, Default)]
pub struct PromptCaches(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    providers: BTreeMap<ProviderId, Totals>,
    conversations: HashMap<Key, Conversation>,
    /// Bytes of the bodies that are kept.
    bytes: usize,
}

/// What one provider's caches did since the start, whoever asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Tokens of input.
    pub input: u64,
    /// Those of them that were read from a cache.
    pub read: u64,
    /// Tokens that were billed again though they had been cached.
    pub rebilled: u64,
}

/// A conversation with one model: agents of a session have theirs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Who is asked.
    pub target: Target,
    /// For which session.
    pub session: Arc<str>,
    /// For which agent of it.
    pub agent: Option<Arc<str>>,
}

#[derive(Debug)]
struct Conversation {
    body: Option<Bytes>,
    /// Tokens that are in the upstream's cache after the last turn.
    cached: u64,
    turns: u64,
    totals: Totals,
    at: Instant,
}

/// A turn that was billed for what had been cached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Tokens that were cached and were billed again.
    pub tokens: u64,
    /// Why, as far as it can be known.
    pub why: Why,
}

/// Why a prefix was not read from the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// It changed here.
    Changed(Change),
    /// It did not change: the upstream had dropped it, after this long.
    Dropped(Duration),
    /// The body before was too large to be kept.
    Unknown,
}

/// What a conversation got out of the caches.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// Whose.
    pub key: Key,
    /// Answers.
    pub turns: u64,
    /// What they cost.
    pub totals: Totals,
}

// === impl PromptCaches ===

impl PromptCaches {
    /// A turn of a conversation was answered, for this body, at this cost. Gives what was lost, if the cache should
    /// have held it.
    pub fn answered(
        &self,
        key: Key,
        dialect: Dialect,
        body: Bytes,
        usage: &Usage,
        now: Instant,
    ) -> Option<Loss> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.answered(key, dialect, body, usage, now)
    }

    /// An answer that belongs to no session.
    pub fn answered_once(&self, provider: &ProviderId, usage: &Usage) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.providers.entry(provider.clone()).or_default().add(usage, 0);
    }

    /// The providers that have answered.
    pub fn providers(&self) -> BTreeMap<ProviderId, Totals> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).providers.clone()
    }

    /// The conversations, the latest first.
    pub fn show(&self) -> Vec<Shown> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<(Instant, Shown)> = state
            .conversations
            .iter()
            .map(|(key, one)| (one.at, Shown { key: key.clone(), turns: one.turns, totals: one.totals }))
            .collect();
        all.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        all.into_iter().map(|(_, shown)| shown).collect()
    }
}

// === impl State ===

impl State {
    fn answered(
        &mut self,
        key: Key,
        dialect: Dialect,
        body: Bytes,
        usage: &Usage,
        now: Instant,
    ) -> Option<Loss> {
        let known = self.conversations.get(&key);
        let kinship = match known.map(|known| (known, known.body.as_ref())) {
            None => Kinship::Unrelated,
            Some((known, _)) if usage.cache_read + BLOCK > known.cached => Kinship::Continues, // nothing was lost
            Some((_, Some(before))) => prefix::compare(before, &body, dialect),
            Some((_, None)) => Kinship::Continues,
        };
        let loss = known.filter(|known| usage.cache_read + BLOCK <= known.cached).and_then(|known| {
            let idle = now.saturating_duration_since(known.at);
            let why = match (kinship, &known.body) {
                (Kinship::Unrelated, _) => return None,
                (Kinship::Changed(change), _) => Why::Changed(change),
                (Kinship::Continues, Some(_)) => Why::Dropped(idle),
                (Kinship::Continues, None) => Why::Unknown,
            };
            Some(Loss { tokens: known.cached - usage.cache_read, why })
        });
        let lost = loss.as_ref().map_or(0, |loss| loss.tokens);
        self.providers.entry(key.target.provider.clone()).or_default().add(usage, lost);
        self.forget(&key, &body);
        let one = self.conversations.entry(key).or_insert_with(|| Conversation {
            body: None,
            cached: 0,
            turns: 0,
            totals: Totals::default(),
            at: now,
        });
        self.bytes -= one.body.as_ref().map_or(0, Bytes::len);
        self.bytes += body.len();
        one.body = Some(body);
        // Where a cache fills by itself no writing is told: what was read is there at least.
        one.cached = usage.cache_read.saturating_add(usage.cache_creation);
        one.turns += 1;
        one.totals.add(usage, lost);
        one.at = now;
        if self.bytes > MOST_BYTES {
            // Alone too large: its figures stay.
            self.bytes -= one.body.take().map_or(0, |body| body.len());
        }
        loss
    }

    /// Makes room for a body, the oldest first.
    fn forget(&mut self, key: &Key, body: &Bytes) {
        let too_many = |state: &State| {
            state.bytes + body.len() > MOST_BYTES
                || (state.conversations.len() >= MOST && !state.conversations.contains_key(key))
        };
        while too_many(self) {
            let others = self.conversations.iter().filter(|(other, _)| *other != key);
            let Some(oldest) = others.min_by_key(|(_, one)| one.at).map(|(key, _)| key.clone()) else {
                return;
            };
            let gone = self.conversations.remove(&oldest);
            self.bytes -= gone.and_then(|gone| gone.body).map_or(0, |body| body.len());
        }
    }
}

// === impl Totals ===

impl Totals {
    fn add(&mut self, usage: &Usage, rebilled: u64) {
        self.input = self.input.saturating_add(usage.total_input());
        self.read = self.read.saturating_add(usage.cache_read);
        self.rebilled = self.rebilled.saturating_add(rebilled);
    }

    /// The share of the input that was read from a cache.
    pub fn hit_rate(&self) -> f64 {
        if self.input == 0 { 0.0 } else { self.read as f64 / self.input as f64 }
    }
}

// === impl Loss ===

impl Loss {
    /// Whether somebody should look at it: not where the upstream may have dropped the prefix for its age.
    pub fn is_alarming(&self) -> bool {
        !matches!(self.why, Why::Dropped(idle) if idle >= KEPT)
    }
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Why::Changed(Change { part, byte }) => {
                write!(f, "the request's prefix changed at byte {byte}, in {part}")
            }
            Why::Dropped(idle) => {
                write!(
                    f,
                    "no byte of the prefix changed: the provider dropped it within {} s",
                    idle.as_secs()
                )
            }
            Why::Unknown => f.write_str("the request before was too large to be compared"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn key(session: &str) -> Key {
        let target = Target { provider: ProviderId::from("p"), model: "m".into() };
        Key { target, session: session.into(), agent: None }
    }

    fn body(turns: &[&str]) -> Bytes {
        let turns: Vec<String> =
            turns.iter().map(|text| format!(r#"{{"role":"user","content":"{text}"}}"#)).collect();
        format!(r#"{{"messages":[{}]}}"#, turns.join(",")).into()
    }

    fn usage(input: u64, read: u64, created: u64) -> Usage {
        Usage { input, cache_read: read, cache_creation: created, ..Usage::default() }
    }

    struct Session(PromptCaches, Instant);

    impl Session {
        fn turn(&mut self, turns: &[&str], usage: Usage, after: u64) -> Option<Loss> {
            self.1 += Duration::from_secs(after);
            self.0.answered(key("s"), Dialect::Anthropic, body(turns), &usage, self.1)
        }
    }

    fn session() -> Session {
        Session(PromptCaches::default(), Instant::now())
    }

    #[test]
    fn a_session_whose_prefix_is_read_again_loses_nothing() {
        let mut session = session();
        assert_eq!(session.turn(&["a"], usage(10, 0, 20_000), 0), None);
        assert_eq!(session.turn(&["a", "b"], usage(10, 20_000, 500), 10), None);
        assert_eq!(session.turn(&["a", "b", "c"], usage(10, 20_480, 500), 10), None, "blocks are rounded");
        let [shown] = &session.0.show()[..] else { panic!("one conversation") };
        assert_eq!((shown.turns, shown.totals.read, shown.totals.rebilled), (3, 40_480, 0));
        assert!((shown.totals.hit_rate() - 40_480.0 / 61_510.0).abs() < 1e-9);
        assert_eq!(session.0.providers()[&key("s").target.provider], shown.totals);
    }

    #[test]
    fn a_turn_that_is_billed_again_names_the_first_byte_that_changed() {
        let mut session = session();
        session.turn(&["a", "b"], usage(10, 0, 20_000), 0);
        let loss = session.turn(&["a", "B", "c"], usage(10, 2_000, 18_500), 10).unwrap();
        assert!(loss.is_alarming());
        assert_eq!(loss.tokens, 18_000);
        let Why::Changed(change) = &loss.why else { panic!("{loss:?}") };
        let later = body(&["a", "B", "c"]);
        assert_eq!((change.part.as_str(), later[change.byte]), ("messages[1]", b'B'));
        assert_eq!(session.0.show()[0].totals.rebilled, 18_000);
    }

    #[test]
    fn a_prefix_that_the_provider_dropped_is_told_apart_and_forgiven_after_its_time() {
        let mut session = session();
        session.turn(&["a"], usage(10, 0, 20_000), 0);
        let loss = session.turn(&["a", "b"], usage(10, 0, 21_000), 10).unwrap();
        assert_eq!(loss.why, Why::Dropped(Duration::from_secs(10)));
        assert!(loss.is_alarming());
        assert!(!session.turn(&["a", "b", "c"], usage(10, 0, 21_000), 301).unwrap().is_alarming());
    }

    #[test]
    fn another_conversation_of_the_session_is_no_loss() {
        let mut session = session();
        session.turn(&["a", "b", "c"], usage(10, 0, 20_000), 0);
        assert_eq!(session.turn(&["a title"], usage(300, 0, 0), 1), None);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let caches = PromptCaches::default();
        let large = Bytes::from(vec![b'x'; 3 << 20]);
        let now = Instant::now();
        for nth in 0..400u64 {
            let at = now + Duration::from_secs(nth);
            caches.answered(key(&nth.to_string()), Dialect::Anthropic, large.clone(), &usage(1, 0, 0), at);
            let state = caches.0.lock().unwrap();
            let held: usize =
                state.conversations.values().filter_map(|one| Some(one.body.as_ref()?.len())).sum();
            assert!(held == state.bytes && held <= MOST_BYTES);
        }
        caches.answered(key("small"), Dialect::Anthropic, body(&["a"]), &usage(1, 0, 0), now);
        let huge = Bytes::from(vec![b'x'; MOST_BYTES + 1]);
        caches.answered(
            key("huge"),
            Dialect::Anthropic,
            huge,
            &usage(1, 0, 9_000),
            now + Duration::from_secs(999),
        );
        assert!(caches.show().len() <= MOST);
        let later = now + Duration::from_secs(1000);
        let loss = caches.answered(key("huge"), Dialect::Anthropic, body(&["a"]), &usage(1, 0, 0), later);
        assert_eq!(loss.map(|loss| loss.why), Some(Why::Unknown));
        for nth in 0..2 * MOST {
            let at = later + Duration::from_secs(nth as u64);
            caches.answered(key(&nth.to_string()), Dialect::Anthropic, body(&["a"]), &usage(1, 0, 0), at);
        }
        assert_eq!(caches.show().len(), MOST);
    }
}
