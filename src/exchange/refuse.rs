//! Answers that are errors, and the headers that every answer has.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};

use super::answer::{Answer, AnswerBody};
use super::caller;
use super::life::{Failure, Outcome};
use super::request::Request;
use crate::dialect::{Dialect, Fault, FaultKind};
use crate::telemetry::bodies::{self, What};

/// The answer to a caller, whatever became of its request.
pub fn settle_down(request: &Request, outcome: Outcome) -> Answer {
    let failure = match outcome {
        Ok(answer) => return answer,
        Err(failure) => failure,
    };
    let error = caller::error(request.dialect, &failure.fault, &request.id.0);
    bodies::log(&request.id.0, What::Answer, &error.body);
    let mut headers = json_headers(request);
    if let Some(upstream) = &failure.fault.headers {
        take_over(&mut headers, upstream);
    }
    if let Some(seconds) = error.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(retry) = error.should_retry {
        headers.insert("x-should-retry", HeaderValue::from_static(if retry { "true" } else { "false" }));
    }
    headers.insert("x-cproxy-route", text(&failure.route));
    Answer { status: error.status, headers, body: AnswerBody::Whole(error.body), served: None }
}

/// Too many requests are open already.
pub fn overloaded(request: &Request) -> Answer {
    let message = "cproxy serves as many requests as it may (server.max_requests); try again shortly";
    let mut fault = Fault::new(FaultKind::Overloaded, message);
    fault.retry_after = Some(Duration::from_secs(1));
    settle_down(request, Err(Box::new(Failure { fault, route: String::new() })))
}

/// The headers of an answer that is one document.
pub fn json_headers(request: &Request) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(12);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    identify(&mut headers, request);
    headers
}

/// The headers of a stream.
pub fn stream_headers(request: &Request) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(16);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    identify(&mut headers, request);
    headers
}

/// The request's id, under the name that the caller's SDK looks for.
fn identify(headers: &mut HeaderMap, request: &Request) {
    let name = match request.dialect {
        Dialect::Anthropic | Dialect::Gemini => "request-id",
        Dialect::OpenAiChat | Dialect::OpenAiResponses => "x-request-id",
    };
    headers.insert(name, text(&request.id.0));
}

/// Headers of an upstream of the caller's dialect that the caller gets: its limits, and whether to come again.
pub fn take_over(headers: &mut HeaderMap, upstream: &HeaderMap) {
    for (name, value) in upstream {
        let prefixes = ["anthropic-", "openai-", "x-ratelimit-"];
        if prefixes.iter().any(|prefix| name.as_str().starts_with(prefix))
            || name == "x-should-retry"
            || name == header::RETRY_AFTER
        {
            headers.append(name.clone(), value.clone());
        }
    }
}

/// Text as a header's value; what no header may hold becomes a question mark.
pub fn text(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| {
        let plain: String =
            text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect();
        HeaderValue::from_str(&plain).unwrap_or_else(|_| HeaderValue::from_static("?"))
    })
}
