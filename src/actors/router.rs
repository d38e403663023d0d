//! The router.
//!
//! Owns: the making of the routing table. What it publishes stands in the directory and is read by every request
//! without asking, so that a dead or busy router stalls nobody. Affinity and the turns of the strategies stand
//! beside it and survive.

use std::sync::Arc;

use super::Directory;
use super::directory::Published;
use crate::routing::Table;
use crate::runtime::{Me, Worker};

/// What the router is told.
#[derive(Debug)]
pub enum RouterMessage {
    /// The config or the set of providers has changed: make the table anew.
    Rebuild,
}

/// One incarnation.
pub struct Router {
    directory: Arc<Directory>,
}

impl Worker for Router {
    type Message = RouterMessage;
    type Seat = Arc<Directory>;

    fn start(directory: &Arc<Directory>, _: &mut Me<RouterMessage>) -> Result<Router, String> {
        publish(directory);
        Ok(Router { directory: directory.clone() })
    }

    fn handle(&mut self, message: RouterMessage, _: &mut Me<RouterMessage>) {
        match message {
            RouterMessage::Rebuild => publish(&self.directory),
        }
    }

    fn name(message: &RouterMessage) -> &'static str {
        match message {
            RouterMessage::Rebuild => "Rebuild",
        }
    }
}

/// Makes the table of the config in force and of the providers that there are, and publishes it.
pub fn publish(directory: &Directory) {
    let loaded = directory.config_cell.get();
    let known = directory.entries.load_full();
    let usable = |id: &crate::config::ProviderId| match known.get(id) {
        Some(entry) => entry.cell.usable(),
        None => crate::routing::table::Usable::Draining,
    };
    let mut table = Table::new(directory.config_cell.generation(), &loaded.config, usable);
    if let Some(strategy) = directory.routes.strategy() {
        table.routing.strategy = strategy;
    }
    let entries = table.rows.iter().filter_map(|row| known.get(&row.id).cloned()).collect::<Vec<_>>();
    if entries.len() == table.rows.len() {
        directory.published.store(Arc::new(Published { table, entries }));
    } // else: the providers' supervisor is about to make the missing one, and will tell us again
}
