//! Routing, balancing, failover, limits, health and cancellation, seen from outside: a daemon over simulated
//! upstreams, whose journals say which of them got which attempt.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
#![allow(clippy::disallowed_methods, reason = "real sockets, real time")]

#[path = "support/inside.rs"]
mod inside;

#[path = "routing_e2e/cache.rs"]
mod cache;
#[path = "routing_e2e/cancel.rs"]
mod cancel;
#[path = "routing_e2e/continuation.rs"]
mod continuation;
#[path = "routing_e2e/delivery.rs"]
mod delivery;
#[path = "routing_e2e/failover.rs"]
mod failover;
#[path = "routing_e2e/health.rs"]
mod health;
#[path = "routing_e2e/limits.rs"]
mod limits;
#[path = "routing_e2e/passing.rs"]
mod passing;
#[path = "routing_e2e/selection.rs"]
mod selection;
