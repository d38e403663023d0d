//! Deliberate mistakes, at least one for each promise, by which the tests show that they would see them. They are there
//! with the feature `mutants` only, which no build that is used has, and do nothing until one is switched on: by a test, or
//! by its name in `CPROXY_MUTANT`. `tests/mutants.rs` holds that each is caught.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;
use http::HeaderMap;

use crate::config::Limits;
use crate::config::secret::Key;

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mutant {
    /// Promise 1: an answer that breaks off has no final error.
    NoFinalError = 1,
    /// Promise 1: an answer ends twice.
    EndsTwice,
    /// Promise 2: an answer that breaks off ends as if it were whole.
    TruncationEndsWell,
    /// Promise 3: a failed attempt is not followed by the next candidate.
    NoFailover,
    /// Promise 3: what was sent already is begun anew after the commit point.
    Replay,
    /// Promise 4: a body for an upstream of the caller's own dialect is written anew.
    BodyRewritten,
    /// Promise 4: the caller's `anthropic-*` headers do not go on.
    HeadersDropped,
    /// Promise 5: there is no limit on the requests in progress.
    NoLimit,
    /// Promise 5: a restart fills the buckets.
    BucketsRefilled,
    /// Promises 5 and 6: leases that came back just before a restart are lost, as messages would be.
    LeasesByMessage,
    /// Promise 6: a killed actor counts as one that ended on purpose.
    KilledStaysDead,
    /// Promise 7: a broken config is taken up, as far as it goes.
    BrokenConfigTakenUp,
    /// Promise 8: a provider is asked with another's key.
    ForeignKey,
    /// Promise 9: a caller that leaves is not noticed.
    CallerNotMissed,
}

/// All of them.
pub const ALL: [Mutant; 14] = [
    Mutant::NoFinalError,
    Mutant::EndsTwice,
    Mutant::TruncationEndsWell,
    Mutant::NoFailover,
    Mutant::Replay,
    Mutant::BodyRewritten,
    Mutant::HeadersDropped,
    Mutant::NoLimit,
    Mutant::BucketsRefilled,
    Mutant::LeasesByMessage,
    Mutant::KilledStaysDead,
    Mutant::BrokenConfigTakenUp,
    Mutant::ForeignKey,
    Mutant::CallerNotMissed,
];

static ON: AtomicU8 = AtomicU8::new(UNKNOWN);

/// Nobody has switched one on or off yet: the environment says.
const UNKNOWN: u8 = u8::MAX;

/// Makes one mistake from now on, or none.
pub fn switch(mutant: Option<Mutant>) {
    ON.store(mutant.map_or(0, |mutant| mutant as u8), Ordering::SeqCst);
}

/// Whether this mistake is to be made.
pub fn is(mutant: Mutant) -> bool {
    let mut on = ON.load(Ordering::Relaxed);
    if on == UNKNOWN {
        let named = std::env::var("CPROXY_MUTANT").unwrap_or_default();
        on = ALL.into_iter().find(|mutant| format!("{mutant:?}") == named).map_or(0, |mutant| mutant as u8);
        ON.store(on, Ordering::Relaxed);
    }
    on == mutant as u8
}

/// The last pieces of an answer that ended well, the last one first.
pub(crate) fn ended_well(pieces: &mut Vec<Bytes>) {
    if is(Mutant::EndsTwice) {
        pieces.insert(0, Bytes::from_static(STOP));
    }
}

/// The last pieces of an answer that broke off, the last one first: its error.
pub(crate) fn broke_off(pieces: &mut Vec<Bytes>) {
    if is(Mutant::NoFinalError) {
        pieces.remove(0);
    } else if is(Mutant::TruncationEndsWell) {
        pieces.splice(0..1, [STOP, END, CLOSE].map(Bytes::from_static));
    } else if is(Mutant::Replay) {
        pieces.insert(1, Bytes::from_static(START));
    }
}

/// What a body becomes on its way to an upstream of its own dialect.
pub(crate) fn passed_through(body: Bytes) -> Bytes {
    if !is(Mutant::BodyRewritten) {
        return body;
    }
    let value: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    serde_json::to_vec_pretty(&value).map_or(body, Bytes::from)
}

/// The caller's headers on their way to an upstream of its own dialect.
pub(crate) fn own_headers(headers: HeaderMap) -> HeaderMap {
    if is(Mutant::HeadersDropped) { HeaderMap::new() } else { headers }
}

/// The limits that are heeded.
pub(crate) fn limits(limits: Limits) -> Limits {
    let max_concurrent = limits.max_concurrent.filter(|_| !is(Mutant::NoLimit));
    Limits { max_concurrent, ..limits }
}

/// The key that is used in place of this one: the first that anybody used.
pub(crate) fn key(own: &Key) -> Option<&'static Key> {
    static FIRST: OnceLock<Key> = OnceLock::new();
    is(Mutant::ForeignKey).then(|| FIRST.get_or_init(|| own.clone()))
}

const START: &[u8] =
    b"event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"again\",\"content\":[]}}\n\n";
const CLOSE: &[u8] = b"event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n";
const END: &[u8] = b"event: message_delta\ndata: {\"type\":\"message_delta\",\
    \"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":1}}\n\n";
const STOP: &[u8] = b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
