//! The Anthropic Messages dialect.
//!
//! - [`stream`] and [`response`] read an upstream's answer into parts; [`watch`] looks at a stream that is
//!   passed on as it is.
//! - [`compose`] writes requests of callers who speak another dialect.
//! - [`mod@write`] writes parts for a caller: as a stream, or as one message.
//! - [`paused`] joins the answers of a turn that was paused.
//! - [`error`] reads an upstream's refusal and writes ours; [`overflow`](super::overflow) knows how servers say that a
//!   conversation is too long.

pub mod compose;
pub mod error;
mod events;
pub mod own;
pub mod paused;
pub mod response;
pub mod stream;
pub mod types;
pub mod usage;
pub mod watch;
pub mod write;

pub use error::ErrorAnswer;
pub use stream::Reader;
pub use watch::Watch;
pub use write::{MessageBuilder, StreamWriter};
