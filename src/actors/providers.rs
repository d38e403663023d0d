//! The supervisor of the providers.
//!
//! Owns: which providers there are. Starts, updates, drains and stops its children as the config changes. A
//! provider that keeps failing is quarantined, never escalated: one poisoned provider must not take its siblings
//! down.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Directory;
use super::directory::Entry;
use super::provider::{Provider, ProviderMessage, Seat};
use super::router::RouterMessage;
use crate::cells::upstream::HttpUpstream;
use crate::cells::{ProviderCell, Setup};
use crate::config::{Keys, Loaded, ProviderId};
use crate::runtime::supervisor::{Beyond, Changes, ChildSpec, Overseer, Policy};
use crate::runtime::{Backoff, Slot, clock};

/// What the providers' supervisor is told.
#[derive(Debug)]
pub enum ProvidersMessage {
    /// The config in force has changed.
    Apply,
}

/// Makes a provider's way to the network. Tests and drills hand in their own.
pub type Connect = Arc<
    dyn Fn(&ProviderId, &crate::config::Provider) -> Result<Arc<dyn crate::cells::upstream::Upstream>, String>
        + Send
        + Sync,
>;

/// The overseer of one incarnation.
pub struct Providers {
    directory: Arc<Directory>,
}

/// When a provider's actor dies: at once the first time, then with a growing wait; five deaths in ten seconds, and
/// it stays away for a while.
const POLICY: Policy = Policy {
    intensity: 5,
    period: Duration::from_secs(10),
    backoff: Backoff { base: Duration::from_millis(50), max: Duration::from_secs(5) },
    beyond: Beyond::Quarantine { base: Duration::from_secs(30), max: Duration::from_secs(300) },
};

// === impl Providers ===

impl Providers {
    /// An overseer of the providers in this directory.
    pub fn new(directory: Arc<Directory>) -> Providers {
        Providers { directory }
    }

    fn child(&self, id: &ProviderId, entry: &Entry) -> ChildSpec {
        let seat = Seat { cell: entry.cell.clone(), directory: self.directory.clone() };
        let interrupt = self.directory.interrupt.clone();
        ChildSpec::worker::<Provider>(id.0.clone(), entry.slot.clone(), seat, POLICY, interrupt)
    }
}

impl Overseer for Providers {
    type Message = ProvidersMessage;

    fn children(&self) -> Vec<ChildSpec> {
        apply(&self.directory);
        self.directory.entries.load().iter().map(|(id, entry)| self.child(id, entry)).collect()
    }

    fn handle(&self, message: ProvidersMessage) -> Changes {
        match message {
            ProvidersMessage::Apply => {
                let before = self.directory.entries.load_full();
                apply(&self.directory);
                let after = self.directory.entries.load_full();
                self.directory.router.cast(RouterMessage::Rebuild);
                for (id, entry) in after.iter() {
                    if before.contains_key(id) {
                        entry.slot.cast(ProviderMessage::Updated);
                    }
                }
                Changes {
                    start: after.iter().map(|(id, entry)| self.child(id, entry)).collect(),
                    stop: before
                        .keys()
                        .filter(|id| !after.contains_key(*id))
                        .map(|id| id.0.clone())
                        .collect(),
                }
            }
        }
    }

    fn name(message: &ProvidersMessage) -> &'static str {
        match message {
            ProvidersMessage::Apply => "Apply",
        }
    }
}

/// Brings the directory's entries in line with the config in force: new cells for new providers, new setups for
/// changed ones, the same for the rest. A removed provider's cell lives on in the leases that are open.
pub fn apply(directory: &Directory) {
    let loaded = directory.config_cell.get();
    let known = directory.entries.load_full();
    let mut entries = BTreeMap::new();
    for (id, config) in &loaded.config.providers {
        let before = known.get(id);
        let setup = match before.map(|entry| entry.cell.setup()) {
            Some(setup) if setup.config == *config && setup.keys == keys_of(&loaded, id) => None,
            before => match setup(directory, &loaded, id, config, before.as_deref()) {
                Ok(setup) => Some(setup),
                Err(reason) => {
                    tracing::error!(provider = %id, reason, "a provider can't be set up");
                    continue;
                }
            },
        };
        let entry = match (before, setup) {
            (Some(entry), None) => entry.clone(),
            (Some(entry), Some(setup)) => {
                entry.cell.update(setup, clock::now());
                entry.clone()
            }
            (None, Some(setup)) => Arc::new(Entry {
                slot: Slot::new(format!("root/providers/{id}")),
                cell: Arc::new(ProviderCell::new(setup, clock::now())),
            }),
            (None, None) => continue,
        };
        entries.insert(id.clone(), entry);
    }
    directory.entries.store(Arc::new(entries));
}

/// The setup of a provider. The connection pool is kept unless what it is made of has changed.
fn setup(
    directory: &Directory,
    loaded: &Loaded,
    id: &ProviderId,
    config: &crate::config::Provider,
    before: Option<&Setup>,
) -> Result<Setup, String> {
    let base_url: Arc<str> = Arc::from(config.base_url.as_deref().unwrap_or_default());
    let kept = before.filter(|before| {
        before.base_url == base_url && before.config.timeouts.connect == config.timeouts.connect
    });
    let upstream = match kept {
        Some(before) => before.upstream.clone(),
        None => (directory.connect)(id, config)?,
    };
    Ok(Setup {
        id: id.clone(),
        variant: crate::dialect::table::variant(config.kind, config.variant.as_deref(), &base_url),
        base_url,
        keys: keys_of(loaded, id),
        no_key: match loaded.keys.get(id) {
            Some(Keys::Missing(looked_for)) => Some(looked_for.clone()),
            _ => None,
        },
        config: config.clone(),
        upstream,
    })
}

fn keys_of(loaded: &Loaded, id: &ProviderId) -> Vec<crate::config::secret::Key> {
    loaded.keys.get(id).map_or_else(Vec::new, |keys| keys.pool().to_vec())
}

/// The real way to the network: a client of its own for each provider.
pub fn connect() -> Connect {
    Arc::new(|_, config| {
        match HttpUpstream::new(config.base_url.as_deref().unwrap_or_default(), &config.timeouts) {
            Ok(upstream) => Ok(Arc::new(upstream)),
            Err(fault) => Err(fault.message),
        }
    })
}
