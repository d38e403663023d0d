//! The MCP front's actor.
//!
//! Owns: telling MCP clients what has changed. It looks at the daemon now and then, and bumps a counter that every
//! MCP session watches. The sessions themselves, their subscriptions and conversations stand outside of it and
//! survive it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Directory;
use super::status::Status;
use crate::runtime::{Me, Worker};

/// How often changes are told at most.
const EVERY: Duration = Duration::from_secs(1);

/// What the MCP front is told.
#[derive(Debug)]
pub enum McpFrontMessage {
    /// From its timer: look whether the status has changed.
    Look,
}

/// What every incarnation is made from.
#[derive(Clone)]
pub struct Seat {
    /// What is looked at.
    pub directory: Arc<Directory>,
    /// Counts changes; watched by the sessions.
    pub changes: Arc<watch::Sender<u64>>,
}

/// One incarnation.
pub struct McpFront {
    seat: Seat,
    last: u64,
}

impl Worker for McpFront {
    type Message = McpFrontMessage;
    type Seat = Seat;

    fn start(seat: &Seat, me: &mut Me<McpFrontMessage>) -> Result<McpFront, String> {
        me.after(EVERY, McpFrontMessage::Look);
        Ok(McpFront { seat: seat.clone(), last: 0 })
    }

    fn handle(&mut self, message: McpFrontMessage, me: &mut Me<McpFrontMessage>) {
        match message {
            McpFrontMessage::Look => {
                if self.seat.changes.receiver_count() > 0 {
                    let now = fingerprint(&Status::of(&self.seat.directory));
                    if now != self.last {
                        self.last = now;
                        self.seat.changes.send_modify(|count| *count = count.wrapping_add(1));
                    }
                }
                me.after(EVERY, McpFrontMessage::Look);
            }
        }
    }

    fn name(message: &McpFrontMessage) -> &'static str {
        match message {
            McpFrontMessage::Look => "Look",
        }
    }
}

/// What of a status is worth telling: not what changes by itself.
fn fingerprint(status: &Status) -> u64 {
    let mut hasher = DefaultHasher::new();
    for actor in &status.actors {
        (&actor.path, &actor.state, actor.incarnation).hash(&mut hasher);
    }
    for provider in &status.providers {
        (&provider.name, &provider.state, &provider.health, provider.breakers.len(), provider.open)
            .hash(&mut hasher);
        for key in &provider.keys {
            (&key.name, key.state.split(' ').next()).hash(&mut hasher);
        }
    }
    for shown in &status.fault_rules {
        (shown.id, shown.active).hash(&mut hasher);
    }
    (status.config.generation, &status.config.last_reload, &status.state, status.requests, &status.warnings)
        .hash(&mut hasher);
    hasher.finish()
}
