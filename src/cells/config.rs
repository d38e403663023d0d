//! The config in force, and how the last reload went.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::config::Loaded;

/// The last good config, and what became of the last attempt to replace it. Written by the config actor.
pub struct ConfigCell {
    current: ArcSwap<Loaded>,
    generation: std::sync::atomic::AtomicU64,
    last_reload: ArcSwap<String>,
}

// === impl ConfigCell ===

impl ConfigCell {
    /// The first config.
    pub fn new(loaded: Loaded) -> ConfigCell {
        ConfigCell {
            current: ArcSwap::from_pointee(loaded),
            generation: 1.into(),
            last_reload: ArcSwap::from_pointee("ok".to_owned()),
        }
    }

    /// The config in force.
    pub fn get(&self) -> Arc<Loaded> {
        self.current.load_full()
    }

    /// Counts the configs that were taken up, from 1.
    pub fn generation(&self) -> u64 {
        self.generation.load(std::sync::atomic::Ordering::Acquire)
    }

    /// `ok`, or why the last reload was refused.
    pub fn last_reload(&self) -> Arc<String> {
        self.last_reload.load_full()
    }

    /// Another config is in force from now on; gives back its generation.
    pub fn replace(&self, loaded: Loaded) -> u64 {
        self.current.store(Arc::new(loaded));
        self.last_reload.store(Arc::new("ok".to_owned()));
        self.generation.fetch_add(1, std::sync::atomic::Ordering::AcqRel) + 1
    }

    /// A reload found nothing new, or what was refused before is gone.
    pub fn accepted(&self) {
        self.last_reload.store(Arc::new("ok".to_owned()));
    }

    /// A reload was refused; the config in force stays.
    pub fn refused(&self, reason: String) {
        self.last_reload.store(Arc::new(reason));
    }
}
