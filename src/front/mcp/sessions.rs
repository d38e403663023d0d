//! What outlives an incarnation of the front: HTTP sessions, conversations, and answers too long to show.
//! All of it bounded, the least recently used goes first.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use moka::future::Cache;
use moka::policy::EvictionPolicy;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::session::{SessionState, SessionStore, SessionStoreError};
use serde_json::Value;
use tokio::sync::Mutex;

use super::ids::HttpSessions;

/// Bytes of all conversations together.
const CONVERSATIONS_BYTES: u64 = 64 << 20;
/// Bytes of one conversation.
pub(crate) const CONVERSATION_BYTES: usize = 4 << 20;
/// Bytes of all kept answers together.
const ANSWERS_BYTES: u64 = 32 << 20;
/// Handshakes of HTTP sessions that can be taken up again.
const HANDSHAKES: u64 = 4096;
/// How long what nobody asks for is kept.
const IDLE: Duration = Duration::from_secs(24 * 3600);
/// How long an HTTP session's task lives without a message. Its handshake is kept longer: the next message
/// of its client brings the session back.
const SESSION_IDLE: Duration = Duration::from_secs(3600);

/// How soon a client comes back whose stream broke.
pub(crate) const SSE_RETRY: Duration = Duration::from_millis(500);

/// What outlives an incarnation of the front. Make one for the life of the process, lend it to each.
pub struct Sessions {
    pub(crate) http: Arc<HttpSessions>,
    pub(crate) handshakes: Arc<Handshakes>,
    /// Each living session holds a clone.
    pub(crate) alive: Arc<()>,
    conversations: Cache<String, Arc<Conversation>>,
    answers: Cache<String, Arc<str>>,
}

/// One conversation. Whoever continues it holds the lock of its turns.
#[derive(Debug, Default)]
pub(crate) struct Conversation {
    pub turns: Mutex<Turns>,
    /// The size of its turns as JSON.
    pub bytes: AtomicUsize,
}

/// What was said so far, in the Messages dialect.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    pub messages: Vec<Value>,
    pub system: Option<String>,
}

/// Handshakes of HTTP sessions.
pub(crate) struct Handshakes(Cache<String, SessionState>);

// === impl Sessions ===

impl Default for Sessions {
    fn default() -> Sessions {
        Sessions::new()
    }
}

impl Sessions {
    /// Empty.
    pub fn new() -> Sessions {
        let mut http = LocalSessionManager::default();
        http.session_config.keep_alive = Some(SESSION_IDLE);
        http.session_config.sse_retry = Some(SSE_RETRY);
        Sessions {
            http: Arc::new(HttpSessions::new(http)),
            alive: Arc::new(()),
            handshakes: Arc::new(Handshakes(bounded(HANDSHAKES, |_| 1))),
            // A conversation is weighed anew when it is put back after each turn.
            conversations: bounded(CONVERSATIONS_BYTES, |conversation: &Arc<Conversation>| {
                conversation.bytes.load(Ordering::Relaxed)
            }),
            answers: bounded(ANSWERS_BYTES, |text: &Arc<str>| text.len()),
        }
    }

    /// The conversation of this id, if it is still kept.
    pub(crate) async fn conversation(&self, id: &str) -> Option<Arc<Conversation>> {
        self.conversations.get(id).await
    }

    /// Keeps a conversation, with its present weight.
    pub(crate) async fn keep_conversation(&self, id: String, conversation: Arc<Conversation>) {
        self.conversations.insert(id, conversation).await;
    }

    /// The kept answer of this id.
    pub(crate) async fn answer(&self, id: &str) -> Option<Arc<str>> {
        self.answers.get(id).await
    }

    /// Keeps an answer.
    pub(crate) async fn keep_answer(&self, id: String, text: Arc<str>) {
        self.answers.insert(id, text).await;
    }
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions")
            .field("conversations", &self.conversations.entry_count())
            .field("answers", &self.answers.entry_count())
            .finish_non_exhaustive()
    }
}

fn bounded<T: Clone + Send + Sync + 'static>(
    most: u64,
    weight: impl Fn(&T) -> usize + Send + Sync + 'static,
) -> Cache<String, T> {
    Cache::builder()
        .max_capacity(most)
        .weigher(move |_: &String, value: &T| u32::try_from(weight(value).max(1)).unwrap_or(u32::MAX))
        .eviction_policy(EvictionPolicy::lru())
        .time_to_idle(IDLE)
        .build()
}

// === impl Handshakes ===

// The trait is made with `async_trait`; these are its signatures written out.
type Stored<'f, T> = std::pin::Pin<Box<dyn Future<Output = Result<T, SessionStoreError>> + Send + 'f>>;

impl SessionStore for Handshakes {
    fn load<'a, 'b, 'f>(&'a self, id: &'b str) -> Stored<'f, Option<SessionState>>
    where
        'a: 'f,
        'b: 'f,
        Self: 'f,
    {
        Box::pin(async move { Ok(self.0.get(id).await) })
    }

    fn store<'a, 'b, 'c, 'f>(&'a self, id: &'b str, state: &'c SessionState) -> Stored<'f, ()>
    where
        'a: 'f,
        'b: 'f,
        'c: 'f,
        Self: 'f,
    {
        Box::pin(async move {
            self.0.insert(id.to_owned(), state.clone()).await;
            Ok(())
        })
    }

    fn delete<'a, 'b, 'f>(&'a self, id: &'b str) -> Stored<'f, ()>
    where
        'a: 'f,
        'b: 'f,
        Self: 'f,
    {
        Box::pin(async move {
            self.0.invalidate(id).await;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn conversations_are_bounded_and_the_one_used_last_is_kept() {
        let sessions = Sessions::new();
        for n in 0..100 {
            let conversation = Arc::new(Conversation::default());
            conversation.bytes.store(CONVERSATION_BYTES, Ordering::Relaxed);
            sessions.keep_conversation(format!("conv_{n}"), conversation).await;
        }
        sessions.conversations.run_pending_tasks().await;
        assert!(sessions.conversations.weighted_size() <= CONVERSATIONS_BYTES);
        assert!(sessions.conversation("conv_99").await.is_some());
        assert!(sessions.conversation("conv_0").await.is_none());
    }
}
