//! The ledger: what each request and each of its attempts used and cost, kept on disk.
//!
//! [`record`] is what a request leaves behind; [`store`] is the database; [`report`] reads it for people;
//! [`budget`] holds spending to limits. Who writes, and when, is decided by the ledger's actor and its cell.

pub mod budget;
pub mod record;
pub mod report;
pub mod store;

pub use record::{Attempt, Ended, Outcome, Priced, Record, micros, sum};

#[cfg(test)]
mod tests;
