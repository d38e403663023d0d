//! The Chat Completions dialect.
//!
//! [`request`] writes requests, [`stream`] and [`response`] read answers, [`error`] reads errors, [`mod@rectify`]
//! says what a second try would do differently.
//! For callers of this dialect, [`to_messages`] reads requests, [`answer`] writes answers and errors, and
//! [`watch`] looks at a stream that is passed on as it is.

pub mod answer;
pub(in crate::dialect) mod arguments;
pub(in crate::dialect) mod calls;
pub mod error;
pub(in crate::dialect) mod reasoning;
pub mod rectify;
pub mod request;
pub mod response;
pub mod stream;
pub mod to_messages;
pub(crate) mod types;
pub mod watch;
pub(crate) mod write;

pub use rectify::{Rectify, rectify, rectify_composed};
pub use request::{Extra, RequestError, Target, Translated, Translation, from_known, from_messages};
pub use stream::{Context, Reader};
