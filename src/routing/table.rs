//! The routing table: what the router publishes and every request reads without asking.

use std::time::{Duration, Instant};

use crate::config::{Alias, Capabilities, ProviderId, ProviderKind, Routing};
use crate::dialect::Dialect;

/// The routing state of the daemon, immutable; a change publishes a new one.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// The generation of the config that it was made of.
    pub generation: u64,
    /// The providers, in the order of their names.
    pub rows: Vec<Row>,
    /// Aliases, in the order in which they are written.
    pub aliases: Vec<Alias>,
    /// Rules, strategy and defaults.
    pub routing: Routing,
}

/// What the table says of one provider.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its name.
    pub id: ProviderId,
    /// What it is.
    pub kind: ProviderKind,
    /// The dialect that it is spoken to in, if the model does not demand another.
    pub dialect: Dialect,
    /// Whether it may be chosen at all, and if not, why.
    pub usable: Usable,
    /// Models that it lists: exact names and globs.
    pub models: Vec<String>,
    /// The model to ask for when the request names none that it lists.
    pub default_model: Option<String>,
    /// Tier: lower is tried first.
    pub priority: u32,
    /// Share within a tier.
    pub weight: u32,
    /// What it can do, defaults of its kind filled in.
    pub capabilities: Capabilities,
    /// Its limit on open requests, for the share of load.
    pub max_concurrent: Option<u32>,
}

/// Whether a provider may be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Usable {
    /// It may.
    Ready,
    /// None of its keys is there; the text says what was looked for.
    NoKey(String),
    /// Switched off in the config, or by command.
    Disabled,
    /// It is being taken out: open requests finish, no new ones come.
    Draining,
}

/// What is known of a provider at this moment, for one model.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Vital {
    /// Until when its breaker is open; `None` when closed.
    pub open_until: Option<Instant>,
    /// Until when the upstream asked not to be asked.
    pub embargo_until: Option<Instant>,
    /// Whether its actor lives (a quarantined one does not).
    pub alive: bool,
    /// Whether active health checks find it well.
    pub healthy: bool,
    /// Open requests.
    pub open: u32,
    /// Whether its buckets have room for one more request now.
    pub headroom: bool,
    /// Average time to first output, decayed to now.
    pub latency: Option<Duration>,
    /// Share of errors among recent attempts, 0 to 1.
    pub error_rate: f64,
}
