//! The embedded upstream: a real HTTP server on loopback that speaks the dialects of the providers, scripted
//! and deterministic. It serves when no provider has a key, it is the upstream of the tests, and
//! `cproxy simulate` runs it alone.
//!
//! - [`script`]: what a test or a user writes: rules, answers, paces, faults.
//! - `ask`: what a request asks for, whatever its dialect. `strict`: what a real API would refuse.
//! - `polite`, `program`: the answer when no rule says otherwise.
//! - `reply`, `cache`: an answer with its ids, signatures and usage.
//! - `write`, `errors`: answers and errors in each dialect.
//! - `draft`, `steps`: an answer as a list of waits and writes, faults included, and its player.
//! - `target`, `serve`: what a path stands for; one request from its bytes to its answer.
//! - `server`, [`journal`]: the listener; what came and how far its answer got.
//!
//! It shares no translator with the proxy: a mistake in one must not hide a mistake in the other.

mod ask;
mod cache;
mod draft;
mod errors;
pub mod journal;
mod polite;
mod program;
mod reply;
pub mod script;
mod serve;
mod server;
mod steps;
mod strict;
mod target;
mod write;

pub use journal::{Ended, Open, Recorded};
pub use script::{Answer, Rule, Script, ScriptError, When};
pub use server::{Handle, Running, Simulator};
pub use steps::Broken;
