//! The life of a request: route, admit, exchange, settle. Reads top down as it happens.
//!
//! A request is a small supervisor of its own: an attempt at an upstream is its child, a failed attempt is a
//! dead child, and the strategy is "restart with the next candidate". No actor ever carries a byte of an
//! answer; the request's own task does.

pub mod answer;
pub mod request;

pub use answer::{Answer, AnswerBody, Served};
pub use request::{Credential, Front, Request, RequestId};
