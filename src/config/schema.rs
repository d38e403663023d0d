//! The configuration as typed values, one doc comment per key: the reference is generated from them.
//!
//! Reading, layering and checking are in the sibling modules; defaults are here, beside the keys.

mod models;
mod observe;
mod provider;
mod routing;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use models::{Alias, Target};
pub use observe::{Budget, Budgets, Ledger, LogFormat, Logging, Otlp, Price};
pub use provider::{Api, Auth, Capabilities, Health, Limits, Provider, ProviderKind, Timeouts};
pub use routing::{AfterOutput, Hedge, Role, Routing, Rule, ScoreWeights, Strategy};

/// The name of a provider: the part after `providers.` in the config.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ProviderId(pub Arc<str>);

/// Everything that a user may write.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the daemon listens, and how much it takes in.
    pub server: Server,
    /// The providers, by name.
    pub providers: BTreeMap<ProviderId, Provider>,
    /// Aliases: a model name or glob that callers use, and the targets to try for it, in order.
    #[serde(deserialize_with = "models::read", serialize_with = "models::write")]
    #[schemars(with = "BTreeMap<String, models::Targets>")]
    pub models: Vec<Alias>,
    /// How candidates are chosen, retried and replaced.
    pub routing: Routing,
    /// The cache of whole answers.
    pub cache: Cache,
    /// Logs.
    pub logging: Logging,
    /// The MCP front.
    pub mcp: Mcp,
    /// Fault injection.
    pub faults: Faults,
    /// The ledger: usage and cost.
    pub ledger: Ledger,
    /// What may be spent.
    pub budgets: Budgets,
    /// What models cost: by `model`, or by `provider/model` for that provider alone. Goes before the built-in list.
    pub prices: BTreeMap<String, Price>,
    /// Export of metrics and traces.
    pub otlp: Otlp,
}

/// `[server]`: where the daemon listens, and how much it takes in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// The address to listen on. Anything but loopback needs `token_file`.
    pub host: IpAddr,
    /// The port; 0 takes a free one, and the line printed at start says which.
    pub port: u16,
    /// A file that holds the token which callers must send. Made with mode 0600 if it is not there.
    pub token_file: Option<PathBuf>,
    /// Requests in progress at once; more are refused with `overloaded_error` and `retry-after`.
    pub max_requests: usize,
    /// Connections at once; more wait in the kernel's backlog.
    pub max_connections: usize,
    /// How long open requests may take to finish when the daemon stops.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub drain: Duration,
}

/// `[cache]`: the cache of whole answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Cache {
    /// Off by default.
    pub enabled: bool,
    /// How long an answer may be given again.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub ttl: Duration,
    /// Most bytes of answers kept.
    #[schemars(with = "String")]
    pub max_size: ByteSize,
    /// Also answers to requests that offer tools: what a tool did is not done again.
    pub tools: bool,
}

/// `[mcp]`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Mcp {
    /// Whether MCP tools may change the daemon (reload, enable or disable providers).
    pub allow_changes: bool,
    /// The model that `proxy_completion` asks when the call names none.
    pub default_model: Option<String>,
}

/// `[faults]`: fault injection, off by default.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Whether faults can be injected at all.
    pub enabled: bool,
    /// The seed of all draws.
    pub seed: u64,
    /// A file with a fault plan, armed at start.
    pub plan: Option<PathBuf>,
}

/// A number of bytes, written as people do: `64MiB`, `512 KiB`, `1GB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

// === impl ProviderId ===

impl ProviderId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ProviderId {
    fn from(name: &str) -> ProviderId {
        ProviderId(Arc::from(name))
    }
}

impl fmt::Display for ProviderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for ProviderId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

// === impl ByteSize ===

impl std::str::FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<ByteSize, String> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let scale: u64 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kib" | "k" => 1 << 10,
            "mib" | "m" => 1 << 20,
            "gib" | "g" => 1 << 30,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            other => return Err(format!("unknown unit \"{other}\" (B, KiB, MiB, GiB, kB, MB, GB)")),
        };
        let number: u64 = number.parse().map_err(|_| format!("\"{text}\" is no size such as \"64MiB\""))?;
        number.checked_mul(scale).map(ByteSize).ok_or_else(|| format!("\"{text}\" is too large"))
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            size if size >= 1 << 30 && size % (1 << 30) == 0 => write!(f, "{}GiB", size >> 30),
            size if size >= 1 << 20 && size % (1 << 20) == 0 => write!(f, "{}MiB", size >> 20),
            size if size >= 1 << 10 && size % (1 << 10) == 0 => write!(f, "{}KiB", size >> 10),
            size => write!(f, "{size}B"),
        }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

// === defaults ===

impl Default for Server {
    fn default() -> Server {
        Server {
            host: IpAddr::from([127, 0, 0, 1]),
            port: 3000,
            token_file: None,
            max_requests: 1024,
            max_connections: 8192,
            drain: Duration::from_secs(30),
        }
    }
}

impl Default for Cache {
    fn default() -> Cache {
        Cache { enabled: false, ttl: Duration::from_secs(300), max_size: ByteSize(64 << 20), tools: false }
    }
}
