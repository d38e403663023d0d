//! The Responses dialect of OpenAI.
//!
//! [`request`] writes requests, [`stream`] and [`response`] read answers. Errors are those of
//! [`openai_chat::error`](crate::dialect::openai_chat::error), and so are what a second try may change and the
//! rows of the table.

pub mod request;
pub mod response;
pub mod stream;
mod types;

pub use request::from_messages;
pub use stream::Reader;
