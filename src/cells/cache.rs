//! The cache of whole answers, and the flights: requests on their way to an answer that others wait for.
//!
//! What an entry may be made of, and for whom it may serve, is the exchange's business; here are bytes by a key.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio_util::sync::CancellationToken;

/// Names an answer: a hash of all that it depends on.
pub type CacheKey = [u8; 32];

/// What an entry costs beside its bytes.
const OVERHEAD: usize = 256;

/// The cache.
pub struct AnswerCache {
    store: ArcSwap<Store>,
    flights: DashMap<CacheKey, CancellationToken>,
}

/// A cache of one size; another size needs another one.
struct Store {
    entries: moka::future::Cache<CacheKey, Arc<Kept>>,
    max_size: u64,
}

/// An answer that is kept.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its bytes, as its caller got them.
    pub body: Bytes,
    /// Whether they are those of a stream.
    pub stream: bool,
    /// Since when it is kept.
    pub at: Instant,
}

/// Whether somebody is on the way to an answer already.
pub enum Flight {
    /// Nobody was: now the caller is, until it drops this.
    Leads(Lead),
    /// Somebody is; cancelled when that has ended, well or not.
    Follows(CancellationToken),
}

/// The way to an answer that others wait for. Its drop ends their waiting.
pub struct Lead {
    cache: Arc<AnswerCache>,
    key: CacheKey,
    ended: CancellationToken,
}

// === impl AnswerCache ===

impl AnswerCache {
    /// An answer that is no older than `ttl`.
    pub async fn get(&self, key: &CacheKey, ttl: Duration, now: Instant) -> Option<Arc<Kept>> {
        let kept = self.store.load_full().entries.get(key).await?;
        (now.saturating_duration_since(kept.at) < ttl).then_some(kept)
    }

    /// Keeps an answer, in a cache of at most `max_size` bytes.
    pub async fn keep(&self, key: CacheKey, kept: Kept, max_size: u64) {
        let mut store = self.store.load_full();
        if store.max_size != max_size {
            store = Arc::new(Store::new(max_size));
            self.store.store(store.clone());
        }
        store.entries.insert(key, Arc::new(kept)).await;
    }

    /// Forgets all; says how many.
    pub async fn clear(&self) -> u64 {
        let store = self.store.load_full();
        store.entries.run_pending_tasks().await;
        let entries = store.entries.entry_count();
        store.entries.invalidate_all();
        store.entries.run_pending_tasks().await;
        entries
    }

    /// Whether somebody is on the way to this answer already; if not, the caller is from now on.
    pub fn fly(self: &Arc<AnswerCache>, key: CacheKey) -> Flight {
        match self.flights.entry(key) {
            Entry::Occupied(known) => Flight::Follows(known.get().clone()),
            Entry::Vacant(free) => {
                let ended = free.insert(CancellationToken::new()).clone();
                Flight::Leads(Lead { cache: self.clone(), key, ended })
            }
        }
    }
}

impl Default for AnswerCache {
    fn default() -> AnswerCache {
        AnswerCache { store: ArcSwap::from_pointee(Store::new(0)), flights: DashMap::new() }
    }
}

// === impl Store ===

impl Store {
    fn new(max_size: u64) -> Store {
        let entries = moka::future::Cache::builder()
            .weigher(|_, kept: &Arc<Kept>| u32::try_from(kept.body.len() + OVERHEAD).unwrap_or(u32::MAX))
            .max_capacity(max_size)
            .build();
        Store { entries, max_size }
    }
}

// === impl Lead ===

impl Drop for Lead {
    fn drop(&mut self) {
        self.cache.flights.remove(&self.key);
        self.ended.cancel();
    }
}
