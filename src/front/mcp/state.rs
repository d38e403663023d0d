//! What a session knows of its client: what it has subscribed to, and which log messages it wants.

use std::collections::BTreeMap;
use std::sync::Mutex;

#[allow(deprecated, reason = "the clients of today are told of logs this way")]
use rmcp::model::{
    ErrorData, LoggingLevel, LoggingMessageNotificationParam, ResourceUpdatedNotificationParam,
};
use rmcp::{Peer, RoleServer, ServiceError};
use serde_json::Value;

use super::news::is_told;
use super::watch_status::{Watcher, locked};
use super::{SERVER_NAME, Shared};

/// Most subscriptions of one session.
pub(crate) const SUBSCRIPTIONS: usize = 256;
/// Longest address of a subscription.
pub(crate) const URI_BYTES: usize = 2048;

/// What a session knows of its client.
#[allow(deprecated, reason = "the clients of today are told of logs this way")]
pub(crate) struct State {
    /// Subscribed addresses, each with a print of what it last read.
    subscribed: Mutex<BTreeMap<String, u64>>,
    /// From which level on the client wants log messages.
    level: Mutex<LoggingLevel>,
}

// === impl State ===

#[allow(deprecated, reason = "the clients of today are told of logs this way")]
impl Default for State {
    fn default() -> State {
        State { subscribed: Mutex::default(), level: Mutex::new(LoggingLevel::Warning) }
    }
}

#[allow(deprecated, reason = "the clients of today are told of logs this way")]
impl State {
    /// Notes a subscription; `print` is that of what the address reads now.
    pub fn subscribe(&self, uri: String, print: u64) -> Result<(), ErrorData> {
        if uri.len() > URI_BYTES {
            let why = format!("the uri is longer than {URI_BYTES} bytes");
            return Err(ErrorData::invalid_params(why, None));
        }
        let mut subscribed = locked(&self.subscribed);
        if subscribed.len() >= SUBSCRIPTIONS && !subscribed.contains_key(&uri) {
            let why =
                format!("a session may have {SUBSCRIPTIONS} subscriptions; unsubscribe from some first");
            return Err(ErrorData::invalid_request(why, None));
        }
        subscribed.insert(uri, print);
        Ok(())
    }

    /// Ends a subscription.
    pub fn unsubscribe(&self, uri: &str) {
        locked(&self.subscribed).remove(uri);
    }

    /// Sets from which level on the client wants log messages.
    pub fn set_level(&self, level: LoggingLevel) {
        *locked(&self.level) = level;
    }

    /// Tells the client, if it wants to hear of this level.
    pub async fn log(
        &self,
        peer: &Peer<RoleServer>,
        level: LoggingLevel,
        data: Value,
    ) -> Result<(), ServiceError> {
        if !is_told(*locked(&self.level), level) {
            return Ok(());
        }
        let message = LoggingMessageNotificationParam::new(level, data).with_logger(SERVER_NAME);
        peer.notify_logging_message(message).await
    }

    /// Sends what changes to the client, until it is gone.
    pub async fn watch(&self, shared: Shared, peer: &Peer<RoleServer>) {
        let mut watcher = Watcher::new(shared);
        loop {
            let changes = watcher.next(&self.subscribed).await;
            let mut sent = Ok(());
            for uri in changes.updated {
                let updated = ResourceUpdatedNotificationParam::new(uri);
                sent = sent.and(peer.notify_resource_updated(updated).await);
            }
            if changes.lists {
                sent = sent.and(peer.notify_resource_list_changed().await);
                sent = sent.and(peer.notify_tool_list_changed().await);
            }
            for news in changes.news {
                sent = sent.and(self.log(peer, news.level, news.text.into()).await);
            }
            if sent.is_err() {
                return;
            }
        }
    }
}
