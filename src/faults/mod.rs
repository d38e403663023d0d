//! Faults on demand: what a user may break, and where it is broken.
//!
//! - [`plan`]: pure: rules, targets, triggers; whether the k-th hit of a rule fires.
//! - [`injector`]: the rules that are armed, and their counts; asked before each message of an actor. What is armed is
//!   changed by `root/faults` (`actors::faults`) alone.
//! - [`network`]: the decorator on the way to an upstream.
//! - [`invariants`]: the promises as checks, shared by tests, simulation and `cproxy drill`.
//!
//! Off by default. When off, there is no injector: nothing is asked, nothing is wrapped, no actor and no tool is there.

pub mod injector;
pub mod invariants;
pub mod network;
pub mod plan;

pub use injector::{Injector, Shown};
pub use network::wrap;
pub use plan::{ActorFault, Known, NetworkFault, Plan, PlanError, Rule, RuleText};
