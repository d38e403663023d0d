#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::dialect::Phase;

fn read_json(status: u16, kind: &str, message: &str) -> Fault {
    let body = json!({"type": "error", "error": {"type": kind, "message": message}}).to_string();
    read(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), body.as_bytes())
}

fn as_json(answer: &ErrorAnswer) -> Value {
    serde_json::from_slice(&answer.body).unwrap()
}

#[test]
fn each_error_of_anthropics_is_the_fault_that_it_means() {
    for (status, kind, message, expected) in [
        (429, "rate_limit_error", "This request would exceed the rate limit", FaultKind::RateLimited),
        (529, "overloaded_error", "Overloaded", FaultKind::Overloaded),
        (503, "api_error", "unavailable", FaultKind::Overloaded),
        (500, "api_error", "Internal server error", FaultKind::ServerError),
        (504, "timeout_error", "timed out", FaultKind::ServerError),
        (401, "authentication_error", "invalid x-api-key", FaultKind::Auth),
        (403, "permission_error", "no", FaultKind::Permission),
        (404, "not_found_error", "model: x", FaultKind::ModelNotFound),
        (400, "invalid_request_error", "max_tokens: Field required", FaultKind::Caller),
        (413, "request_too_large", "Request exceeds the maximum size", FaultKind::Caller),
        (
            400,
            "invalid_request_error",
            "prompt is too long: 213462 tokens > 200000 maximum",
            FaultKind::ContextLength,
        ),
        (
            400,
            "invalid_request_error",
            "input length and `max_tokens` exceed context limit: 1 + 2 > 2",
            FaultKind::ContextLength,
        ),
        (
            400,
            "invalid_request_error",
            "Your credit balance is too low to access the API",
            FaultKind::Billing,
        ),
        (402, "billing_error", "pay", FaultKind::Billing),
        (
            400,
            "invalid_request_error",
            "Output blocked by content filtering policy",
            FaultKind::ContentPolicy,
        ),
        (429, "", "", FaultKind::RateLimited),
        (418, "", "", FaultKind::Caller),
        (301, "", "", FaultKind::Protocol),
    ] {
        assert_eq!(read_json(status, kind, message).kind, expected, "{status} {kind} {message}");
    }
}

#[test]
fn a_rate_limit_that_speaks_of_the_prompts_length_is_still_a_rate_limit() {
    let fault = read_json(429, "rate_limit_error", "Please reduce the prompt length; prompt is too long");
    assert_eq!(fault.kind, FaultKind::RateLimited);
}

#[test]
fn an_error_event_is_read_by_its_type() {
    let event = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    let fault = in_stream(event);
    assert_eq!((fault.kind, fault.message.as_str()), (FaultKind::Overloaded, "Overloaded"));
    assert_eq!(write(&fault, "req_1").status.as_u16(), 529);
    assert_eq!(in_stream("{}").kind, FaultKind::ServerError);
    assert_eq!(in_stream("not json").kind, FaultKind::ServerError);
}

#[test]
fn a_body_of_anthropics_goes_to_the_caller_unmodified_with_its_status() {
    let body = br#"{ "type":"error", "error":{"message":"messages.3.content.0: Invalid `signature`","type":"invalid_request_error","details":{"error_code":"x"}},"request_id":"req_theirs"}"#;
    let answer = write(&read(StatusCode::BAD_REQUEST, &HeaderMap::new(), body), "req_ours");
    assert_eq!(answer.status, 400);
    assert_eq!(&answer.body[..], &body[..]);
}

#[test]
fn a_body_in_another_form_is_said_in_ours() {
    for (body, part) in [
        ("<html><body>Bad Gateway</body></html>", "HTML"),
        ("", "empty body"),
        ("[1]", "form of its own"),
        ("oops", "no JSON"),
    ] {
        let fault = read(StatusCode::BAD_GATEWAY, &HeaderMap::new(), body.as_bytes());
        assert_eq!(fault.kind, FaultKind::ServerError);
        assert!(fault.ambiguous);
        let answer = write(&fault, "req_1");
        let json = as_json(&answer);
        assert_eq!(json["type"], "error");
        assert_eq!(json["error"]["type"], "api_error");
        assert_eq!(json["request_id"], "req_1");
        assert!(json["error"]["message"].as_str().unwrap().contains(part), "{json}");
    }
}

#[test]
fn a_413_of_the_edge_keeps_its_status_and_type() {
    let body = br#"{"error":{"type":"request_too_large","message":"Request exceeds the maximum size"}}"#;
    let answer = write(&read(StatusCode::PAYLOAD_TOO_LARGE, &HeaderMap::new(), body), "req_1");
    assert_eq!(answer.status, 413);
    assert_eq!(as_json(&answer)["error"]["type"], "request_too_large");
}

#[test]
fn every_kind_of_fault_has_its_status_and_type() {
    let cases = [
        (FaultKind::RateLimited, 429, "rate_limit_error"),
        (FaultKind::Overloaded, 529, "overloaded_error"),
        (FaultKind::ServerError, 502, "api_error"),
        (FaultKind::Timeout(Phase::Idle), 504, "timeout_error"),
        (FaultKind::Network, 502, "api_error"),
        (FaultKind::Auth, 401, "authentication_error"),
        (FaultKind::Permission, 403, "permission_error"),
        (FaultKind::Billing, 402, "billing_error"),
        (FaultKind::ModelNotFound, 404, "not_found_error"),
        (FaultKind::ContextLength, 400, "invalid_request_error"),
        (FaultKind::ContentPolicy, 400, "invalid_request_error"),
        (FaultKind::Caller, 400, "invalid_request_error"),
        (FaultKind::Protocol, 502, "api_error"),
    ];
    for (kind, status, name) in cases {
        let answer = write(&Fault::new(kind, "what \"happened\""), "req_1");
        assert_eq!(answer.status.as_u16(), status, "{kind:?}");
        assert_eq!(as_json(&answer)["error"]["type"], name);
        assert_eq!(answer.should_retry, (kind == FaultKind::Billing).then_some(false));
    }
}

#[test]
fn another_dialects_overflow_is_said_in_the_words_that_make_the_client_compact() {
    let mut fault = Fault::new(FaultKind::ContextLength, "the request exceeds the available context size");
    fault.status = Some(500);
    fault.body = Some(Bytes::from_static(br#"{"error":{"n_prompt_tokens":5000,"n_ctx":4096}}"#));
    let answer = write(&fault, "req_1");
    assert_eq!(answer.status, 400);
    assert_eq!(as_json(&answer)["error"]["message"], "prompt is too long: 5000 tokens > 4096 maximum");
}

#[test]
fn a_wait_is_told_in_whole_seconds() {
    let mut fault = Fault::new(FaultKind::RateLimited, "slow down");
    fault.retry_after = Some(Duration::from_millis(1500));
    assert_eq!(write(&fault, "r").retry_after, Some(2));
    let headers = [("retry-after".parse().unwrap(), "7".parse().unwrap())].into_iter().collect();
    let fault = read(StatusCode::TOO_MANY_REQUESTS, &headers, b"{}");
    assert_eq!(fault.retry_after, Some(Duration::from_secs(7)));
}

proptest! {
    #[test]
    fn any_answer_at_all_becomes_an_error_in_anthropics_form(
        status in 100u16..1000, body in proptest::collection::vec(any::<u8>(), 0..200), json in any::<bool>(),
        message in any::<String>(),
    ) {
        let body = if json { json!({"error": {"message": message, "type": "x"}}).to_string().into_bytes() } else { body };
        let answer = write(&read(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), &body), "req_1");
        prop_assert!(answer.status.is_client_error() || answer.status.is_server_error());
        let json = as_json(&answer);
        prop_assert_eq!(&json["type"], "error");
        prop_assert!(json["error"]["message"].is_string());
    }
}

#[test]
fn an_overflow_of_another_server_in_this_dialect_is_put_in_the_words_that_callers_know() {
    let llama = br#"{"type":"error","error":{"type":"invalid_request_error","message":"request exceeds the available context size","n_prompt_tokens":5000,"n_ctx":4096}}"#;
    let fault = read(StatusCode::BAD_REQUEST, &HeaderMap::new(), llama);
    let answer = String::from_utf8(write(&fault, "r").body.to_vec()).unwrap();
    assert!(answer.contains("prompt is too long: 5000 tokens > 4096 maximum"), "{answer}");
    let own = br#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 2 tokens > 1 maximum"},"x":1}"#;
    let fault = read(StatusCode::BAD_REQUEST, &HeaderMap::new(), own);
    assert_eq!(write(&fault, "r").body.as_ref(), own, "Anthropic's own goes as it came");
}

#[test]
fn a_body_that_is_no_text_in_a_field_that_nobody_reads_does_not_reach_the_caller() {
    let body = b"{\"type\":\"error\",\"error\":{\"type\":\"x\",\"message\":\"m\"},\"request_id\":\"\xb1\"}";
    let fault = read(StatusCode::BAD_REQUEST, &HeaderMap::new(), body);
    let answer = write(&fault, "r");
    assert!(std::str::from_utf8(&answer.body).is_ok());
    assert_eq!(fault.message, "m");
}
