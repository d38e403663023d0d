//! Decisions: who is asked, in which order and why; whether a request is admitted; what a fault leads to.
//! Pure: values in, values out; time and randomness come from the caller.
//!
//! - [`plan()`] turns the facts of a request and the published [`Table`] into candidates in order.
//! - [`rules`], [`select`], [`why`], [`price`]: its parts: user's rules, strategies within a tier, reasons in
//!   words, what models cost.
//! - [`affinity`], [`ewma`], [`quantile`]: what the router remembers: homes of sessions, averages, usual times.
//! - [`admission`]: whether an attempt may start at a provider, made of [`breaker`], [`bucket`] and [`limits`].
//! - [`mod@treatment`], [`retry`]: what a fault leads to, how long to wait, and when to stop trying.

pub mod admission;
pub mod affinity;
pub mod breaker;
pub mod bucket;
pub mod ewma;
pub mod facts;
mod index;
pub mod invariants;
pub mod limits;
pub mod plan;
pub mod price;
pub mod quantile;
pub mod retry;
pub mod rules;
pub mod select;
pub mod table;
pub mod treatment;
pub mod why;

pub use admission::{
    Admission, Ask, Ended, Grant, Outcome, Refusal, RefusalKind, Settled, Ticket, Verdict, Woken,
};
pub use affinity::{Affinity, Home};
pub use breaker::{Breaker, BreakerEvent, BreakerState};
pub use bucket::Bucket;
pub use ewma::{ErrorAverage, PeakEwma};
pub use facts::Facts;
pub use plan::{Candidate, Inputs, Plan, Skipped, plan};
pub use price::{Price, Prices};
pub use quantile::Latest;
pub use retry::{RetryBudget, backoff};
pub use select::Balance;
pub use table::{Row, Table, Usable, Vital};
pub use treatment::{Blame, Next, Situation, Step, Treatment, step, treatment};
pub use why::{Blocked, Demotion, Need, Reason, Why, WhyNot};
