//! The tree: one file for each actor, each with what it owns, its messages, its state and its handler. What is
//! drawn here is drawn for people in `actors.md`.
//!
//! Nothing here knows a front: what serves a connection is handed in from above.

pub mod config;
pub mod directory;
pub mod faults;
pub mod http_front;
pub mod ledger;
pub mod mcp_front;
pub mod measures;
pub mod otlp;
pub mod provider;
pub mod providers;
pub mod router;
pub mod simulator;
pub mod status;
pub mod tree;

pub use directory::{Directory, Entry};
pub use tree::Tree;
