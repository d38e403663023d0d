//! The drill: a daemon over simulated providers, load on both fronts, and a list of outages.
//!
//! - [`bench`]: the daemon with a simulator in the place of each provider, and a caller of both fronts.
//! - `memory`: simulators that are reached without sockets, so that time can be simulated too.

pub mod bench;
mod memory;

pub use bench::{Answered, Bench, Front, Where};
