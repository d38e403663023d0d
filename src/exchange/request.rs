//! A request as the exchange takes it: the caller's bytes, and what was read from them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::mpsc;

use crate::config::secret::Key;
use crate::dialect::Dialect;
use crate::routing::Facts;

/// One request of a caller, through either front.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its id: in the answer's headers, in errors, in the log, in the ledger.
    pub id: RequestId,
    /// The front through which it came.
    pub front: Front,
    /// The caller's dialect, in which it is answered.
    pub dialect: Dialect,
    /// The body as received.
    pub body: Bytes,
    /// What routing needs.
    pub facts: Facts,
    /// Headers that go with it to an upstream of the caller's dialect (`anthropic-*`), as received.
    pub headers: HeaderMap,
    /// The caller's own credential; goes to nobody but a provider with `auth = "caller"`.
    pub credential: Credential,
    /// A deadline of the caller's own for the whole request.
    pub timeout: Option<Duration>,
    /// What the caller wants of the cache of answers.
    pub cache: CacheWish,
    /// The caller sees nothing of the answer until it is whole, although it is streamed to its front.
    pub unseen: bool,
    /// Where to say, for people, what happens while the caller waits. Lossy.
    pub progress: Option<mpsc::Sender<String>>,
}

/// What a caller wants of the cache of answers. It counts only where the config switches the cache on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CacheWish {
    /// What the config says.
    #[default]
    Default,
    /// The cache, also if the request offers tools.
    On,
    /// A fresh answer, which is kept.
    Refresh,
    /// No cache: nothing read, nothing kept.
    Off,
}

/// `req_` and 24 characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(pub Arc<str>);

/// The front through which a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Front {
    /// `POST /v1/messages`.
    Messages,
    /// An MCP tool.
    Mcp,
    /// `POST /v1/chat/completions` or `/v1/responses`.
    OpenAi,
}

/// The credential that a caller sent, in either header or both.
#[derive(Clone, Debug, Default)]
pub struct Credential {
    /// `x-api-key`.
    pub api_key: Option<Key>,
    /// `Authorization`, whole.
    pub authorization: Option<Key>,
}

/// Output that is reckoned with where an answer's length can't be known.
pub const EXPECTED_OUTPUT: u64 = 4096;

/// How long writing takes at twenty tokens a second, which is slow; and the longest that is reckoned with.
const PER_TOKEN: Duration = Duration::from_millis(50);
const LONGEST_WRITING: Duration = Duration::from_secs(600);

// === impl Request ===

impl Request {
    /// How long an answer of the allowed length may take to be written. Who does not stream waits that long beyond
    /// the first output, and sees no difference between an upstream that writes and one that hangs.
    pub fn writing(&self) -> Duration {
        let tokens = self.facts.head.max_tokens.unwrap_or(EXPECTED_OUTPUT);
        PER_TOKEN.saturating_mul(u32::try_from(tokens).unwrap_or(u32::MAX)).min(LONGEST_WRITING)
    }

    /// The same without what only attempts need. An answer that has begun may take minutes, and nobody asks for it
    /// again: the caller's 75 kB need not be held until its end.
    pub fn answered(&self) -> Request {
        Request {
            id: self.id.clone(),
            front: self.front,
            dialect: self.dialect,
            body: Bytes::new(),
            facts: self.facts.clone(),
            headers: HeaderMap::new(),
            credential: Credential::default(),
            timeout: self.timeout,
            cache: self.cache,
            progress: None,
            unseen: self.unseen,
        }
    }
}

// === impl Credential ===

impl Credential {
    /// Whether the caller sent any.
    pub fn is_some(&self) -> bool {
        self.api_key.is_some() || self.authorization.is_some()
    }
}

// === impl CacheWish ===

impl CacheWish {
    /// What a caller's headers say: `x-cproxy-cache` (`on`, `refresh`, `off`), else `cache-control` (`no-cache`,
    /// `no-store`). Source: RFC 9111, 5.2.1.
    pub fn of(headers: &HeaderMap) -> CacheWish {
        let own = headers.get("x-cproxy-cache").and_then(|value| CacheWish::parse(value.to_str().ok()?));
        let says = |directive: &str| {
            headers.get_all(http::header::CACHE_CONTROL).iter().any(|value| {
                let value = value.to_str().unwrap_or_default();
                value.split(',').any(|part| part.trim().eq_ignore_ascii_case(directive))
            })
        };
        match own {
            Some(wish) => wish,
            None if says("no-store") => CacheWish::Off,
            None if says("no-cache") => CacheWish::Refresh,
            None => CacheWish::Default,
        }
    }

    /// Reads `on`, `refresh` or `off`.
    pub fn parse(text: &str) -> Option<CacheWish> {
        match text.trim().to_ascii_lowercase().as_str() {
            "on" => Some(CacheWish::On),
            "refresh" => Some(CacheWish::Refresh),
            "off" => Some(CacheWish::Off),
            _ => None,
        }
    }
}

// === impl Front ===

impl Front {
    /// A closed vocabulary for logs, metrics and the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            Front::Messages => "messages",
            Front::Mcp => "mcp",
            Front::OpenAi => "openai",
        }
    }
}

// === impl RequestId ===

impl RequestId {
    /// A new one.
    pub fn new() -> RequestId {
        const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        let (high, low): (u64, u64) = rand::random();
        let mut bits = u128::from(high) << 64 | u128::from(low);
        let mut text = String::with_capacity(28);
        text.push_str("req_");
        for _ in 0..24 {
            text.push(char::from(ALPHABET[(bits & 31) as usize]));
            bits >>= 5;
        }
        RequestId(Arc::from(text))
    }
}

impl Default for RequestId {
    fn default() -> RequestId {
        RequestId::new()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
