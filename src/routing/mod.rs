//! Decisions: who is asked, in which order and why; whether a request is admitted; what a fault leads to.
//! Pure: values in, values out; time and randomness come from the caller.
//!
//! - [`plan()`] turns the facts of a request and the published [`Table`] into candidates in order.
//! - [`rules`], [`select`], [`why`]: its parts: user's rules, strategies within a tier, reasons in words.

pub mod facts;
mod index;
pub mod plan;
pub mod price;
pub mod rules;
pub mod select;
pub mod table;
pub mod treatment;
pub mod why;

pub use facts::Facts;
pub use plan::{Candidate, Inputs, Plan, Skipped, plan};
pub use price::{Price, Prices};
pub use select::Balance;
pub use table::{Row, Table, Usable, Vital};
pub use treatment::{Blame, Next, Treatment, treatment};
pub use why::{Blocked, Demotion, Need, Reason, Why, WhyNot};
