//! The routing table: what the router publishes and every request reads without asking.

use std::time::{Duration, Instant};

use crate::config::{Alias, Api, Auth, Capabilities, Config, Provider, ProviderId, ProviderKind, Routing};
use crate::dialect::{Dialect, Head};

use super::index::Index;
use super::price::Prices;

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
    /// What models cost.
    pub prices: Prices,
    /// Names and globs, compiled for the request's path.
    pub(super) index: Index,
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
    /// For kind `openai`: the API that the config asks for; by itself it is chosen by the model.
    pub api: Option<Api>,
    /// Whether its address is the vendor's own.
    pub official: bool,
    /// Whose credential goes to it.
    pub auth: Auth,
    /// Whether it may be chosen at all, and if not, why.
    pub usable: Usable,
    /// Models that it lists: exact names and globs; where the config lists none, those assumed of its kind.
    pub models: Vec<String>,
    /// The model to ask for when the request names none that it lists.
    pub default_model: Option<String>,
    /// Tier: lower is tried first.
    pub priority: u32,
    /// Share within a tier.
    pub weight: u32,
    /// What it can do, defaults of its kind filled in. What is still `None` is unknown: it counts against a
    /// candidate, but does not exclude it.
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
    /// Whether active health checks find it well; true while they said nothing yet.
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

// === impl Table ===

impl Table {
    /// The table of a config. `usable` tells what stands against a provider from outside the config (its
    /// keys, a command); `disabled` in the config is heeded here.
    pub fn new(generation: u64, config: &Config, usable: impl Fn(&ProviderId) -> Usable) -> Table {
        let rows: Vec<Row> = config
            .providers
            .iter()
            .map(|(id, provider)| {
                let usable = if provider.disabled { Usable::Disabled } else { usable(id) };
                Row::new(id, provider, usable)
            })
            .collect();
        let index = Index::new(&rows, &config.models, &config.routing);
        Table {
            generation,
            rows,
            aliases: config.models.clone(),
            routing: config.routing.clone(),
            prices: Prices::of_config(config),
            index,
        }
    }

    /// The row of a provider.
    pub fn row(&self, provider: &str) -> Option<usize> {
        self.rows.binary_search_by(|row| row.id.as_str().cmp(provider)).ok()
    }

    /// Whether the row lists the model, by name or glob.
    pub fn lists(&self, row: usize, model: &str) -> bool {
        self.index.lists(row, model)
    }
}

// === impl Row ===

impl Row {
    fn new(id: &ProviderId, provider: &Provider, usable: Usable) -> Row {
        let mut models = provider.models.clone();
        if models.is_empty() {
            models.extend(assumed_models(provider.kind).iter().map(ToString::to_string));
        }
        if let Some(model) = &provider.default_model
            && !models.contains(model)
        {
            models.push(model.clone());
        }
        let official = match (provider.base_url.as_deref(), provider.kind.default_base_url()) {
            (None, Some(_)) => true,
            (Some(url), Some(own)) => host(url) == host(own),
            (_, None) => false,
        };
        let dialect = match provider.kind {
            ProviderKind::Anthropic => Dialect::Anthropic,
            ProviderKind::Openai if provider.api == Some(Api::Responses) => Dialect::OpenAiResponses,
            ProviderKind::Openai | ProviderKind::Openrouter | ProviderKind::Local => Dialect::OpenAiChat,
            ProviderKind::Gemini => Dialect::Gemini,
        };
        Row {
            id: id.clone(),
            kind: provider.kind,
            dialect,
            api: provider.api,
            official,
            auth: provider.auth,
            usable,
            models,
            default_model: provider.default_model.clone(),
            priority: provider.priority,
            weight: provider.weight,
            capabilities: assumed_capabilities(provider.kind, provider.capabilities),
            max_concurrent: provider.limits.max_concurrent,
        }
    }

    /// The context window for a request, where the config says it. Anthropic's models have one of a million
    /// tokens for those who ask for it by the suffix `[1m]` (Claude Code docs, "Model configuration").
    pub fn window(&self, wide: bool) -> Option<u64> {
        const WIDE: u64 = 1_000_000;
        let asked_for = wide && self.kind == ProviderKind::Anthropic;
        self.capabilities.context_window.map(|window| if asked_for { window.max(WIDE) } else { window })
    }
}

/// The dialect in which a provider is asked for a model.
///
/// OpenAI's models from gpt-5.4 on refuse function tools together with reasoning on Chat Completions and take
/// them on Responses only (OpenAI API reference, "Migrate to the Responses API"). Who asks in Responses is passed
/// on in Responses.
pub fn dialect_for(row: &Row, model: &str, head: &Head) -> Dialect {
    let by_itself = row.kind == ProviderKind::Openai && row.api.is_none() && row.official;
    let asked_so = head.dialect == Some(Dialect::OpenAiResponses);
    if by_itself && (asked_so || (head.tools > 0 && wants_responses(model))) {
        return Dialect::OpenAiResponses;
    }
    row.dialect
}

/// Whether the name is `gpt-5.4` or a later one.
pub(super) fn wants_responses(model: &str) -> bool {
    let Some(version) = model.strip_prefix("gpt-") else { return false };
    let end = version.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(version.len());
    let mut parts = version[..end].split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    version >= (5, 4)
}

/// The models that a provider of this kind is taken to serve when its config lists none.
fn assumed_models(kind: ProviderKind) -> &'static [&'static str] {
    match kind {
        ProviderKind::Anthropic => &["claude-*"],
        ProviderKind::Openai => &["gpt-*", "chatgpt-*", "codex-*", "o1*", "o3*", "o4*"],
        ProviderKind::Openrouter => &["*/*"],
        ProviderKind::Gemini => &["gemini-*", "gemma-*"],
        ProviderKind::Local => &[],
    }
}

/// What the config says, and what the kind lets us assume of the rest.
fn assumed_capabilities(kind: ProviderKind, said: Capabilities) -> Capabilities {
    let cloud = kind != ProviderKind::Local;
    Capabilities {
        streaming: said.streaming.or(Some(true)),
        tools: said.tools.or(Some(true)),
        reasoning: said.reasoning.or(cloud.then_some(true)),
        images: said.images.or(cloud.then_some(true)),
        documents: said.documents.or(cloud.then_some(true)),
        web_search: said.web_search.or(Some(kind == ProviderKind::Anthropic)),
        context_window: said.context_window,
        max_output_tokens: said.max_output_tokens,
    }
}

/// The host of an address, port left out.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let end = rest.find(['/', ':', '?', '#']).unwrap_or(rest.len());
    &rest[..end]
}
