//! cproxy: one local daemon between Claude Code and every model that its user can reach.
//!
//! Two fronts (Anthropic Messages over HTTP, MCP over stdio and HTTP) share one supervision tree of
//! actors. `actors.md` draws the tree. The rooms, from the top down; a room imports only those below:
//!
//! - [`cli`]: one file per subcommand.
//! - [`drill`]: a daemon over simulated providers, and what outages do to it.
//! - [`front`]: the HTTP and the MCP front: requests in, answers out, in the caller's dialect.
//! - [`exchange`]: the life of a request: attempts, commit gate, relay, deadlines.
//! - [`actors`]: the tree: who owns what, and the messages.
//! - [`cells`]: what survives a restart.
//! - [`telemetry`]: logs, redaction, metrics.
//! - [`runtime`]: what knows ractor: how an actor is written, addressed, asked, supervised.
//! - [`simulator`], [`faults`]: the embedded upstream; the fault plan.
//! - [`ledger`]: usage and cost: records, their store, reports, budgets.
//! - [`routing`], [`dialect`], [`config`]: pure: no I/O, no clock, no lock.

pub mod actors;
pub mod cells;
pub mod cli;
pub mod config;
pub mod dialect;
pub mod drill;
pub mod exchange;
pub mod faults;
pub mod front;
pub mod ledger;
#[cfg(feature = "mutants")]
pub mod mutants;
pub mod routing;
pub mod runtime;
pub mod simulator;
pub mod telemetry;
