//! The drill: a daemon over simulated providers, load on both fronts, and a list of outages.
//!
//! - [`mod@bench`]: the daemon with a simulator in the place of each provider, and a caller of both fronts.
//! - [`scenarios`]: the outages. `run`: plays them. `card`: the score.
//! - `memory`: simulators that are reached without sockets, so that time can be simulated too.

pub mod bench;
mod card;
mod memory;
mod run;
pub mod scenarios;

pub use bench::{Answered, Begun, Bench, Front, Where};
pub use card::{Card, Score};
pub use run::{Order, run};

#[cfg(test)]
mod tests;
