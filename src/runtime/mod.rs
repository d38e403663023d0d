//! All that knows ractor: how an actor is written ([`Worker`]), addressed ([`Slot`]), asked ([`ask`]),
//! supervised ([`supervisor`]); and what else must be owned to be simulated: time and randomness.
//!
//! What the actors of cproxy do is in `actors`.

mod ask;
mod backoff;
pub mod clock;
pub mod current;
mod random;
mod slot;
pub mod supervisor;
mod worker;

#[cfg(test)]
mod tests;

pub use ask::{AskError, Patience, Reply, ask, ask_again};
pub use backoff::Backoff;
pub use random::{Random, splitmix64};
pub use slot::{Address, MAILBOX, Place, Slot, State, Vitals, shed};
pub use supervisor::{Beyond, ChildSpec, Overseer, Policy, Supervisor, SupervisorMessage};
pub use worker::{Interrupt, Interruption, Me, Worker, panic_text};
