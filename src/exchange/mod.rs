//! The life of a request: route, admit, exchange, settle. Reads top down as it happens, in `life`.
//!
//! A request is a small supervisor of its own: an attempt at an upstream is its child, a failed attempt is a
//! dead child, and the strategy is "restart with the next candidate". No actor ever carries a byte of an
//! answer; the request's own task does.

pub mod answer;
mod attempt;
mod cached;
mod caller;
mod continuation;
mod count;
mod course;
mod gate;
mod late;
mod life;
mod outgoing;
mod paused;
mod pipe;
mod refuse;
mod relay;
pub mod request;
mod settle;
mod so_far;
mod spend;

use std::sync::Arc;

use crate::actors::Directory;

pub use answer::{Answer, AnswerBody, Served};
pub use count::in_words;
pub use request::{CacheWish, Credential, Front, Request, RequestId};

/// Runs requests. Cheap to clone.
#[derive(Clone)]
pub struct Exchange {
    directory: Arc<Directory>,
}

// === impl Exchange ===

impl Exchange {
    /// An exchange over the providers of this directory.
    pub fn new(directory: Arc<Directory>) -> Exchange {
        Exchange { directory }
    }
}
