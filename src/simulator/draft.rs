//! An answer before it goes out: its status and events, then the response with the script's pace and faults.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::Stream;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use serde_json::Value;

use super::errors::{Failure, Voice};
use super::journal::Tracker;
use super::script::{Answer, Chunks, Pace, Trouble};
use super::steps::{Broken, Step, compile, play};
use super::write::{self, Event, Kind};
use crate::dialect::Dialect;

/// The body of an answer.
pub(super) type Body = StreamBody<Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Broken>> + Send>>>;

/// An answer's status and events.
pub(super) struct Draft {
    pub status: u16,
    pub retry_after: Option<u64>,
    pub stream: bool,
    pub events: Vec<Event>,
}

// === impl Draft ===

impl Draft {
    pub fn failure(failure: Failure) -> Draft {
        let Failure { status, retry_after, body } = failure;
        Draft { status, retry_after, ..Draft::halves(status, body) }
    }

    pub fn json(status: u16, body: &Value) -> Draft {
        Draft::halves(status, serde_json::to_string(body).unwrap_or_default())
    }

    /// A whole body is two events, its halves: faults can stand between them.
    fn halves(status: u16, mut body: String) -> Draft {
        let mut middle = body.len() / 2;
        while !body.is_char_boundary(middle) {
            middle -= 1;
        }
        let second = body.split_off(middle);
        let halves = [(body, Kind::Output), (second, Kind::End)];
        let events = halves.map(|(text, kind)| Event { text, kind }).into();
        Draft { status, retry_after: None, stream: false, events }
    }

    pub fn stream(events: Vec<Event>) -> Draft {
        Draft { status: 200, retry_after: None, stream: true, events }
    }

    /// Puts the answer on its way, with the script's pace and faults.
    pub fn send(
        self,
        voice: Voice<'_>,
        bodiless: bool,
        answer: &Answer,
        mut tracker: Tracker,
        reset: Arc<AtomicBool>,
    ) -> Response<Body> {
        let fault = answer.fault.as_ref();
        let error = match fault {
            Some(Trouble::Error(error)) => Some(voice.event(&error.fail)),
            _ => None,
        };
        let alive = write::alive(voice.dialect, voice.openrouter);
        let steps = if self.stream {
            compile(self.events, &answer.pace, &answer.chunks, fault, &alive, error)
        } else {
            let pace = Pace { ping: None, ..answer.pace.clone() };
            let plain = fault.is_none() && answer.chunks.bytes.is_none() && pace.first.is_zero();
            let chunks =
                Chunks { at_once: plain || answer.chunks.at_once, crlf: false, ..answer.chunks.clone() };
            compile(self.events, &pace, &chunks, fault, &alive, None)
        };
        let mut response = Response::new(());
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        let content_type = if self.stream { "text/event-stream; charset=utf-8" } else { "application/json" };
        put(headers, CONTENT_TYPE, answer.content_type.as_deref().unwrap_or(content_type));
        if self.stream {
            put(headers, HeaderName::from_static("cache-control"), "no-cache");
        } else if fault.is_none() {
            // A fault may cut the body short, so its length is not promised then.
            let length: usize = steps
                .iter()
                .map(|step| if let Step::Send { bytes, .. } = step { bytes.len() } else { 0 })
                .sum();
            put(headers, CONTENT_LENGTH, &length.to_string());
        }
        let id = if voice.dialect == Dialect::Anthropic { "request-id" } else { "x-request-id" };
        put(headers, HeaderName::from_static(id), &voice.request_id());
        if let Some(seconds) = self.retry_after {
            put(headers, HeaderName::from_static("retry-after"), &seconds.to_string());
        }
        for (name, value) in &answer.headers {
            if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
                put(headers, name, value);
            }
        }
        tracker.status(self.status);
        if bodiless || steps.is_empty() {
            tracker.whole();
        }
        let body = play(steps, tracker, move || reset.store(true, Ordering::Release));
        response.map(|()| StreamBody::new(Box::pin(body) as _))
    }
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
