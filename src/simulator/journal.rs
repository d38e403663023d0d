//! What came, and how far its answer got: for tests that assert which upstream saw which attempt, and that a
//! client's leaving was noticed.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Method};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::dialect::Dialect;

/// How many requests are remembered; the oldest go first.
const REMEMBERED: usize = 4096;

/// How many bytes of bodies are remembered; the oldest go first.
const REMEMBERED_BYTES: usize = 64 << 20;

/// One request as it came, and its answer so far.
#[derive(Clone)]
pub struct Recorded {
    /// Counted from 1, over the simulator's life.
    pub number: u64,
    /// The method.
    pub method: Method,
    /// The path, without the query.
    pub path: String,
    /// The query, without the question mark.
    pub query: Option<String>,
    /// The headers, credentials included. `Debug` does not show them.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The dialect, if the path is one of a model endpoint.
    pub dialect: Option<Dialect>,
    /// The model that was asked for; empty if none was.
    pub model: String,
    /// The rule that answered: its name, or `#` and its place counted from 1. `None`: the polite model, or a
    /// refusal of the strict API.
    pub rule: Option<String>,
    /// When it had come in whole.
    pub at: Instant,
    /// The status that was sent, once it was.
    pub status: Option<u16>,
    /// Events of the answer that were written.
    pub events: usize,
    /// Those of them that carried output.
    pub outputs: usize,
    /// How the answer ended.
    pub ended: Ended,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It has not ended.
    Open,
    /// All of it was written.
    Whole,
    /// The script broke it off.
    Broken,
    /// The client left before.
    Left,
}

/// What is open at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Open {
    /// Connections.
    pub connections: usize,
    /// Requests whose answer has not ended.
    pub answers: usize,
}

/// The journal: a bounded ring, written by the requests, read by tests.
#[derive(Debug)]
pub(super) struct Journal {
    entries: Mutex<Ring>,
    connections: AtomicUsize,
    answers: AtomicUsize,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Ring {
    entries: VecDeque<Entry>,
    bytes: usize,
    count: u64,
}

#[derive(Debug)]
struct Entry {
    request: Recorded,
    progress: Arc<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    status: AtomicU16,
    events: AtomicUsize,
    outputs: AtomicUsize,
    ended: AtomicU8,
}

/// Follows one answer. Dropped before it was told of an end, it notes that the client left.
#[derive(Debug)]
pub(super) struct Tracker {
    progress: Arc<Progress>,
    journal: Arc<Journal>,
}

/// Counts one connection while it lives.
#[derive(Debug)]
pub(super) struct Connection(Arc<Journal>);

// === impl Recorded ===

impl Recorded {
    /// Whether the credential that came is exactly this one, in `x-api-key` or as a bearer token.
    pub fn has_key(&self, key: &str) -> bool {
        super::serve::credentials(&self.headers).any(|sent| sent == key)
    }

    /// A header as text; `None` if it did not come, or is no text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body as JSON; `null` if it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl fmt::Debug for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorded")
            .field("number", &self.number)
            .field("method", &self.method)
            .field("path", &self.path)
            .field("model", &self.model)
            .field("rule", &self.rule)
            .field("body_bytes", &self.body.len())
            .field("status", &self.status)
            .field("events", &self.events)
            .field("outputs", &self.outputs)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

// === impl Journal ===

impl Journal {
    pub fn new() -> Arc<Journal> {
        Arc::new(Journal {
            entries: Mutex::default(),
            connections: AtomicUsize::new(0),
            answers: AtomicUsize::new(0),
            changed: watch::Sender::new(()),
        })
    }

    /// Notes a request; its number is set here.
    pub fn record(self: &Arc<Journal>, mut request: Recorded) -> Tracker {
        let progress = Arc::new(Progress::default());
        {
            let mut ring = self.ring();
            ring.count += 1;
            request.number = ring.count;
            ring.bytes += request.body.len();
            ring.entries.push_back(Entry { request, progress: progress.clone() });
            while ring.entries.len() > REMEMBERED || (ring.bytes > REMEMBERED_BYTES && ring.entries.len() > 1)
            {
                let gone = ring.entries.pop_front().map_or(0, |entry| entry.request.body.len());
                ring.bytes -= gone;
            }
        }
        self.answers.fetch_add(1, Ordering::Relaxed);
        self.changed.send_replace(());
        Tracker { progress, journal: self.clone() }
    }

    pub fn requests(&self) -> Vec<Recorded> {
        let ring = self.ring();
        ring.entries.iter().map(Entry::now).collect()
    }

    pub fn clear(&self) {
        let mut ring = self.ring();
        ring.entries.clear();
        ring.bytes = 0;
    }

    pub fn open(&self) -> Open {
        Open {
            connections: self.connections.load(Ordering::Relaxed),
            answers: self.answers.load(Ordering::Relaxed),
        }
    }

    pub fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub fn connected(self: &Arc<Journal>) -> Connection {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.changed.send_replace(());
        Connection(self.clone())
    }

    fn ring(&self) -> std::sync::MutexGuard<'_, Ring> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Entry ===

impl Entry {
    fn now(&self) -> Recorded {
        let mut request = self.request.clone();
        let status = self.progress.status.load(Ordering::Acquire);
        request.status = (status != 0).then_some(status);
        request.events = self.progress.events.load(Ordering::Acquire);
        request.outputs = self.progress.outputs.load(Ordering::Acquire);
        request.ended = match self.progress.ended.load(Ordering::Acquire) {
            0 => Ended::Open,
            1 => Ended::Whole,
            2 => Ended::Broken,
            _ => Ended::Left,
        };
        request
    }
}

// === impl Tracker ===

impl Tracker {
    /// The status goes out.
    pub fn status(&self, status: u16) {
        self.progress.status.store(status, Ordering::Release);
        self.journal.changed.send_replace(());
    }

    /// So many events, and so many of them with output, go out.
    pub fn sent(&mut self, events: usize, outputs: usize) {
        self.progress.events.fetch_add(events, Ordering::AcqRel);
        self.progress.outputs.fetch_add(outputs, Ordering::AcqRel);
        if events > 0 {
            self.journal.changed.send_replace(());
        }
    }

    /// All of the answer is out.
    pub fn whole(&mut self) {
        self.end(1);
    }

    /// The script breaks the answer off.
    pub fn broken(&mut self) {
        self.end(2);
    }

    fn end(&mut self, how: u8) {
        // The first end counts.
        let ended = &self.progress.ended;
        if ended.compare_exchange(0, how, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            self.journal.answers.fetch_sub(1, Ordering::Relaxed);
            self.journal.changed.send_replace(());
        }
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        self.end(3);
    }
}

// === impl Connection ===

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
        self.0.changed.send_replace(());
    }
}
