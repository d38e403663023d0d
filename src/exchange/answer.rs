//! An answer: whole, or a stream that the caller's connection pulls.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use http::{HeaderMap, StatusCode};

use crate::config::ProviderId;

/// What a caller gets, always exactly one for a request: an answer or an error, in the caller's dialect.
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers, `request-id` and `x-cproxy-*` included.
    pub headers: HeaderMap,
    /// The body.
    pub body: AnswerBody,
    /// Who served it; `None` if nobody did, or if that is not yet known (see `x-cproxy-route`).
    pub served: Option<Served>,
}

/// The body of an answer.
pub enum AnswerBody {
    /// Whole.
    Whole(Bytes),
    /// As it comes. Dropping it tells the upstream that the caller left. It ends after a terminal event,
    /// or after an error event; it never ends as if well when the upstream did not.
    Stream(Pin<Box<dyn Stream<Item = Bytes> + Send>>),
}

/// Who served an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The provider.
    pub provider: ProviderId,
    /// The model that was asked for there.
    pub model: Arc<str>,
    /// How many attempts it took, this one included.
    pub attempts: u32,
}
