//! Decisions: who is asked, in which order and why; whether a request is admitted; what a fault leads to.
//! Pure: values in, values out; time and randomness come from the caller.

pub mod facts;
pub mod plan;
pub mod table;
pub mod treatment;

pub use facts::Facts;
pub use plan::{Candidate, Plan, Skipped, plan};
pub use table::{Table, Vital};
