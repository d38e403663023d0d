//! The Chat Completions dialect.
//!
//! [`request`] writes requests, [`stream`] and [`response`] read answers, [`error`] reads errors, [`rectify`]
//! says what a second try would do differently.

mod arguments;
mod calls;
pub mod error;
mod overflow;
mod reasoning;
pub mod response;
pub mod stream;
pub(crate) mod types;
pub(crate) mod write;

pub use stream::{Context, Reader};
