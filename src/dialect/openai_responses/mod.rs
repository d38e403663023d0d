//! The Responses dialect of OpenAI.
//!
//! [`request`] writes requests, [`stream`] and [`response`] read answers. Errors are those of
//! [`openai_chat::error`](crate::dialect::openai_chat::error), and so are what a second try may change and the
//! rows of the table. For callers of this dialect, [`to_messages`] reads requests, [`answer`] writes answers, and
//! [`watch`] looks at a stream that is passed on as it is.

pub mod answer;
pub mod request;
pub mod response;
pub mod stream;
pub mod to_messages;
mod types;
pub mod watch;

pub use request::from_messages;
pub use stream::Reader;
