//! What the upstreams' prompt caches do for each session: how much of its input was read from them, and which turn
//! was billed again for what had been cached.
//!
//! The last body that went out for a conversation is kept until its next turn, so that the byte can be named at
//! which its prefix changed; all of them together within a bound.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::config::{ProviderId, Target};
use crate::dialect::prefix::{self, Change, Kinship};
use crate::dialect::{Dialect, Usage};

/// The most bytes of bodies that are kept.
const MOST_BYTES: usize = 16 << 20;
/// The largest body that is kept.
const MOST_BODY: usize = 4 << 20;
/// The most threads of a conversation.
const THREADS: usize = 3;
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
    /// The threads of it: a client asks for titles and summaries between the turns.
    threads: Vec<Thread>,
    turns: u64,
    totals: Totals,
    at: Instant,
}

/// A conversation's last turn.
#[derive(Debug)]
struct Thread {
    /// What went out; `None` where it was too large to be kept.
    body: Option<Bytes>,
    /// Tokens that are in the upstream's cache since.
    cached: u64,
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
        let mut state = self.state();
        state.answered(key, dialect, body, usage, now)
    }

    /// An answer that belongs to no session.
    pub fn answered_once(&self, provider: &ProviderId, usage: &Usage) {
        let mut state = self.state();
        state.providers.entry(provider.clone()).or_default().add(usage, 0);
    }

    /// The providers that have answered.
    pub fn providers(&self) -> BTreeMap<ProviderId, Totals> {
        self.state().providers.clone()
    }

    /// The conversations, the latest first.
    pub fn show(&self) -> Vec<Shown> {
        let state = self.state();
        let mut all: Vec<(Instant, Shown)> = state
            .conversations
            .iter()
            .map(|(key, one)| (one.at, Shown { key: key.clone(), turns: one.turns, totals: one.totals }))
            .collect();
        all.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        all.into_iter().map(|(_, shown)| shown).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.make_room(&key, &body);
        let provider = key.target.provider.clone();
        let one = self.conversations.entry(key).or_insert_with(|| Conversation::new(now));
        let held: usize = one.threads.iter().map(Thread::len).sum();
        let loss = one.answered(dialect, body, usage, now);
        self.bytes = self.bytes - held + one.threads.iter().map(Thread::len).sum::<usize>();
        let lost = loss.as_ref().map_or(0, |loss| loss.tokens);
        one.turns += 1;
        one.totals.add(usage, lost);
        one.at = now;
        self.providers.entry(provider).or_default().add(usage, lost);
        loss
    }

    /// Makes room for a body: forgets the conversations that are the longest ago.
    fn make_room(&mut self, key: &Key, body: &Bytes) {
        let room = MOST_BYTES.saturating_sub(body.len().min(MOST_BODY));
        while self.bytes > room || (self.conversations.len() >= MOST && !self.conversations.contains_key(key))
        {
            let oldest = self.conversations.iter().min_by_key(|(_, one)| one.at).map(|(key, _)| key.clone());
            let Some(gone) = oldest.and_then(|oldest| self.conversations.remove(&oldest)) else { return };
            self.bytes -= gone.threads.iter().map(Thread::len).sum::<usize>();
        }
    }
}

// === impl Conversation ===

impl Conversation {
    fn new(now: Instant) -> Conversation {
        Conversation { threads: Vec::new(), turns: 0, totals: Totals::default(), at: now }
    }

    /// Takes a turn of one of the threads, or begins one.
    fn answered(&mut self, dialect: Dialect, body: Bytes, usage: &Usage, now: Instant) -> Option<Loss> {
        let (mut thread, mut loss) = (None, None);
        if let Some(at) = self.likeliest(&body)
            && let Some(known) = self.threads.get(at)
        {
            // Looked at closely only where something was lost: most turns lose nothing.
            let is_lost = usage.cache_read.saturating_add(BLOCK) <= known.cached;
            let why = match (is_lost, &known.body) {
                (false, _) => None,
                (true, None) => Some(Some(Why::Unknown)),
                (true, Some(before)) => Some(match prefix::compare(before, &body, dialect) {
                    Kinship::Unrelated => None,
                    Kinship::Changed(change) => Some(Why::Changed(change)),
                    Kinship::Continues => Some(Why::Dropped(now.saturating_duration_since(known.at))),
                }),
            };
            if why != Some(None) {
                thread = Some(at);
                let tokens = known.cached.saturating_sub(usage.cache_read);
                loss = why.flatten().map(|why| Loss { tokens, why });
            }
        }
        // Where a cache fills by itself no writing is told: what was read is there at least.
        let cached = usage.cache_read.saturating_add(usage.cache_creation);
        let turn = Thread { body: (body.len() <= MOST_BODY).then_some(body), cached, at: now };
        match thread.and_then(|at| self.threads.get_mut(at)) {
            Some(thread) => *thread = turn,
            None => {
                if self.threads.len() >= THREADS {
                    let oldest =
                        (0..self.threads.len()).min_by_key(|at| self.threads.get(*at).map(|it| it.at));
                    oldest.into_iter().for_each(|at| drop(self.threads.remove(at)));
                }
                self.threads.push(turn);
            }
        }
        loss
    }

    /// The thread whose last body begins most like this one.
    fn likeliest(&self, body: &[u8]) -> Option<usize> {
        let common = |thread: &Thread| common(thread.body.as_deref().unwrap_or_default(), body);
        (0..self.threads.len()).max_by_key(|at| self.threads.get(*at).map(common))
    }
}

/// How many bytes two bodies have in common at their beginning: by blocks as far as they go, then one by one.
fn common(one: &[u8], other: &[u8]) -> usize {
    const BLOCK: usize = 256;
    let blocks = one.chunks_exact(BLOCK).zip(other.chunks_exact(BLOCK));
    let alike = blocks.take_while(|(a, b)| a == b).count() * BLOCK;
    let rest = one.iter().zip(other).skip(alike);
    alike + rest.take_while(|(a, b)| a == b).count()
}

// === impl Thread ===

impl Thread {
    fn len(&self) -> usize {
        self.body.as_ref().map_or(0, Bytes::len)
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
    use crate::runtime::clock;

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
        Session(PromptCaches::default(), clock::now())
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
    fn what_a_client_asks_between_the_turns_is_no_loss_and_hides_none() {
        let mut session = session();
        session.turn(&["a", "b", "c"], usage(10, 0, 20_000), 0);
        assert_eq!(session.turn(&["a title"], usage(300, 0, 0), 1), None);
        assert_eq!(session.turn(&["a summary"], usage(300, 0, 0), 1), None);
        assert_eq!(session.turn(&["a", "b", "c", "d"], usage(10, 20_000, 100), 1), None);
        let loss = session.turn(&["a", "b", "C", "d", "e"], usage(10, 0, 20_200), 1).unwrap();
        assert!(matches!(&loss.why, Why::Changed(change) if change.part == "messages[2]"), "{loss:?}");
        assert_eq!(
            session.turn(&["anew"], usage(10, 0, 9_000), 1),
            None,
            "a conversation that was compacted"
        );
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let caches = PromptCaches::default();
        let large = Bytes::from(vec![b'x'; 3 << 20]);
        let now = clock::now();
        for nth in 0..40u64 {
            let at = now + Duration::from_secs(nth);
            // Four at a time in one session, so that its threads count, too.
            let key = key(&(nth / 4).to_string());
            caches.answered(key, Dialect::Anthropic, large.clone(), &usage(1, 0, nth * 9_000), at);
            let state = caches.0.lock().unwrap();
            let held: usize =
                state.conversations.values().flat_map(|one| &one.threads).map(Thread::len).sum();
            assert!(held == state.bytes && held <= MOST_BYTES, "{held} of {}", state.bytes);
        }
        let huge = Bytes::from(vec![b'x'; MOST_BODY + 1]);
        let later = now + Duration::from_secs(1000);
        caches.answered(key("huge"), Dialect::Anthropic, huge, &usage(1, 0, 9_000), later);
        let loss = caches.answered(key("huge"), Dialect::Anthropic, body(&["a"]), &usage(1, 0, 0), later);
        assert_eq!(loss.map(|loss| loss.why), Some(Why::Unknown));
        for nth in 0..2 * MOST {
            let at = later + Duration::from_secs(nth as u64);
            caches.answered(key(&nth.to_string()), Dialect::Anthropic, body(&["a"]), &usage(1, 0, 0), at);
        }
        assert_eq!(caches.show().len(), MOST);
    }
}
