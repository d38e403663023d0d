//! What survives a restart: plain shared facts, made before the tree and lent to each incarnation.
//!
//! A cell is written by the living incarnation of its actor alone; the exceptions are the counts that a
//! request's own task keeps by ownership (an open lease, an open request), which must be right whoever died, and what
//! requests leave behind of answers and prompt caches.

pub mod cache;
mod config;
mod lease;
mod ledger;
mod listener;
mod outbox;
mod probe;
pub mod prompt_caches;
mod provider;
mod requests;
mod routes;
pub mod upstream;
mod view;

pub use config::ConfigCell;
pub use lease::{Answered, Lease, Outcome, Refusal};
pub use ledger::{LedgerCell, Reservation};
pub use listener::ListenerCell;
pub use outbox::Outbox;
pub use probe::Health;
pub use provider::{Admitted, ProviderCell, Setup};
pub use requests::{OpenRequest, Requests};
pub use routes::RoutesCell;
pub use view::ProviderView;
