//! Tells subscribers when what they read has changed: not at each change of the daemon, but at most once in a
//! while, and only those whose resource reads differently.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;

use super::news::{self, News};
use super::{Settings, Shared, resources};
use crate::actors::status::Status;

/// Changes within this time are told as one.
const DEBOUNCE: Duration = Duration::from_millis(250);

/// What of the daemon the client was last told, or has read.
pub(crate) struct Watcher {
    shared: Shared,
    changes: watch::Receiver<u64>,
    listed: (u64, Settings),
    last: Status,
}

/// What has changed since the last time.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Changes {
    /// The addresses that read differently.
    pub updated: Vec<String>,
    /// The config, and with it maybe the lists of tools and resources.
    pub lists: bool,
    /// What happened, in words.
    pub news: Vec<News>,
}

// === impl Watcher ===

impl Watcher {
    pub fn new(shared: Shared) -> Watcher {
        let changes = shared.daemon.status_changes();
        let last = shared.daemon.status();
        let listed = listed(&shared, &last);
        Watcher { shared, changes, listed, last }
    }

    /// Waits for the next changes. `seen` has the print of each subscribed address as last told; it is
    /// brought up to date. Safe to drop at any time.
    pub async fn next(&mut self, seen: &std::sync::Mutex<BTreeMap<String, u64>>) -> Changes {
        loop {
            if self.changes.changed().await.is_err() {
                // The sender went away with its actor; its successor has another.
                tokio::time::sleep(DEBOUNCE).await;
                self.changes = self.shared.daemon.status_changes();
            }
            tokio::time::sleep(DEBOUNCE).await;
            self.changes.borrow_and_update();
            let mut changes = Changes::default();
            let status = self.shared.daemon.status();
            let now = listed(&self.shared, &status);
            changes.news = news::between(&self.last, &status);
            self.last = status;
            changes.lists = std::mem::replace(&mut self.listed, now.clone()) != now;
            let subscribed: Vec<String> = locked(seen).keys().cloned().collect();
            for uri in subscribed {
                let print = print(&self.shared, &uri).await;
                if let Some(last) = locked(seen).get_mut(&uri)
                    && std::mem::replace(last, print) != print
                {
                    changes.updated.push(uri);
                }
            }
            if changes != Changes::default() {
                return changes;
            }
        }
    }
}

fn listed(shared: &Shared, status: &Status) -> (u64, Settings) {
    (status.config.generation, shared.daemon.settings())
}

/// A poisoned lock holds plain data: it is as good as any.
pub(crate) fn locked<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A print of what the resource reads now, apart from what changes with every second.
pub(crate) async fn print(shared: &Shared, uri: &str) -> u64 {
    let mut value = resources::read(shared, uri).await.unwrap_or(Value::Null);
    if let Value::Object(fields) = &mut value {
        fields.remove("uptime_s");
    }
    let mut hasher = DefaultHasher::new();
    value.to_string().hash(&mut hasher);
    hasher.finish()
}
