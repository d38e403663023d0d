//! Google's Gemini API (generateContent).
//!
//! [`request`] writes requests, [`stream`] and [`response`] read answers, [`error`] reads errors. There is no
//! front of this dialect: no caller speaks it to us.

pub mod error;
mod models;
pub mod request;
pub mod response;
pub mod stream;
mod types;

pub use request::from_messages;
pub use stream::Reader;
