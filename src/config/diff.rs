//! What changed between two configs: for each provider whether it stays, is updated where it stands, needs new
//! connections, comes or goes; and what only a restart of the daemon brings about.

use std::collections::{BTreeMap, BTreeSet};

use super::load::Loaded;
use super::{Provider, ProviderId};

/// The changes from one config to another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Every provider of either config.
    pub providers: BTreeMap<ProviderId, Change>,
    /// Sections besides the providers that differ: `routing`, `models` …
    pub sections: Vec<&'static str>,
    /// Keys that differ and come into force only when the daemon starts again: `server.port` …
    pub restart: Vec<&'static str>,
}

/// What changed of one provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Unchanged,
    /// These keys; the actor takes them up, and keeps its connections.
    Updated(Vec<&'static str>),
    /// These keys, and among them some that make new connections necessary.
    NewPool(Vec<&'static str>),
    /// It is new.
    Added,
    /// It is gone.
    Removed,
}

// === impl Changes ===

impl Changes {
    /// Whether the two configs are the same in all that the daemon heeds.
    pub fn is_empty(&self) -> bool {
        self.sections.is_empty()
            && self.restart.is_empty()
            && self.providers.values().all(|change| *change == Change::Unchanged)
    }

    /// The changes in one line, for the log and the status.
    pub fn summary(&self) -> String {
        let mut parts: Vec<String> = Vec::new();
        for (id, change) in &self.providers {
            match change {
                Change::Unchanged => {}
                Change::Updated(keys) => parts.push(format!("{id}: {}", keys.join(", "))),
                Change::NewPool(keys) => parts.push(format!("{id}: {} (new connections)", keys.join(", "))),
                Change::Added => parts.push(format!("{id}: added")),
                Change::Removed => parts.push(format!("{id}: removed")),
            }
        }
        parts.extend(self.sections.iter().map(|section| format!("[{section}]")));
        if !self.restart.is_empty() {
            parts.push(format!("needs a restart: {}", self.restart.join(", ")));
        }
        if parts.is_empty() { "nothing changed".to_owned() } else { parts.join("; ") }
    }
}

/// Compares two configs.
pub fn diff(old: &Loaded, new: &Loaded) -> Changes {
    let ids: BTreeSet<&ProviderId> = old.config.providers.keys().chain(new.config.providers.keys()).collect();
    let providers = ids
        .into_iter()
        .map(|id| {
            let change = match (old.config.providers.get(id), new.config.providers.get(id)) {
                (Some(before), Some(after)) => compare(before, after, old.keys.get(id) != new.keys.get(id)),
                (None, _) => Change::Added,
                (_, None) => Change::Removed,
            };
            (id.clone(), change)
        })
        .collect();

    let (a, b) = (&old.config, &new.config);
    let sections = [
        ("server", a.server != b.server),
        ("models", a.models != b.models),
        ("routing", a.routing != b.routing),
        ("cache", a.cache != b.cache),
        ("logging", a.logging != b.logging),
        ("mcp", a.mcp != b.mcp),
        ("faults", a.faults != b.faults),
        ("ledger", a.ledger != b.ledger),
        ("budgets", a.budgets != b.budgets),
        ("prices", a.prices != b.prices),
        ("otlp", a.otlp != b.otlp || old.otlp_headers != new.otlp_headers),
    ];
    let restart = [
        ("server.host", a.server.host != b.server.host),
        ("server.port", a.server.port != b.server.port),
        ("faults.enabled", a.faults.enabled != b.faults.enabled),
        ("faults.seed", a.faults.seed != b.faults.seed),
        ("faults.plan", a.faults.plan != b.faults.plan),
        ("logging.format", a.logging.format != b.logging.format),
        ("logging.file", a.logging.file != b.logging.file),
        ("ledger.enabled", a.ledger.enabled != b.ledger.enabled),
        ("ledger.file", a.ledger.file != b.ledger.file),
    ];
    Changes { providers, sections: changed(sections), restart: changed(restart) }
}

fn compare(before: &Provider, after: &Provider, keys_changed: bool) -> Change {
    // Taken apart, so that a new key of the schema can't be forgotten here.
    let Provider {
        kind,
        base_url,
        api,
        variant,
        api_key_env,
        api_key_file,
        api_keys_env,
        api_key_files,
        auth,
        models,
        default_model,
        priority,
        weight,
        disabled,
        capabilities,
        limits,
        health,
        timeouts,
        headers,
        extra,
    } = before;
    let connection = [
        ("kind", *kind != after.kind),
        ("base_url", *base_url != after.base_url),
        ("timeouts.connect", timeouts.connect != after.timeouts.connect),
    ];
    let in_place = [
        ("api", *api != after.api),
        ("variant", *variant != after.variant),
        (
            "keys",
            keys_changed
                || *api_key_env != after.api_key_env
                || *api_key_file != after.api_key_file
                || *api_keys_env != after.api_keys_env
                || *api_key_files != after.api_key_files,
        ),
        ("auth", *auth != after.auth),
        ("models", *models != after.models),
        ("default_model", *default_model != after.default_model),
        ("priority", *priority != after.priority),
        ("weight", *weight != after.weight),
        ("disabled", *disabled != after.disabled),
        ("capabilities", *capabilities != after.capabilities),
        ("limits", *limits != after.limits),
        ("health", *health != after.health),
        (
            "timeouts",
            (timeouts.first_byte, timeouts.idle, timeouts.total)
                != (after.timeouts.first_byte, after.timeouts.idle, after.timeouts.total),
        ),
        ("headers", *headers != after.headers),
        ("extra", *extra != after.extra),
    ];
    let mut keys = changed(connection);
    let new_pool = !keys.is_empty();
    keys.extend(changed(in_place));
    match (new_pool, keys.is_empty()) {
        (_, true) => Change::Unchanged,
        (true, _) => Change::NewPool(keys),
        (false, _) => Change::Updated(keys),
    }
}

fn changed<const N: usize>(pairs: [(&'static str, bool); N]) -> Vec<&'static str> {
    pairs.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
}

#[cfg(test)]
mod tests;
