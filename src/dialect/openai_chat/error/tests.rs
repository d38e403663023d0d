#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use super::*;
use crate::dialect::table::by_name;

fn kind(status: u16, body: &str) -> FaultKind {
    fault(status, body).kind
}

fn fault(status: u16, body: &str) -> Fault {
    read(status, &HeaderMap::new(), body.as_bytes(), by_name("generic").unwrap())
}

#[test]
fn every_envelope_gives_its_message() {
    for (body, message) in [
        (r#"{"type":"error","error":{"type":"api_error","message":"a"},"request_id":null}"#, "a"),
        (r#"{"error":{"message":"b","type":"x","param":null,"code":null}}"#, "b"),
        (r#"{"error":{"code":400,"message":"c"}}"#, "c"),
        (r#"{"error":"d"}"#, "d"),
        (r#"{"code":"invalid-argument","error":"e"}"#, "e"),
        (r#"{"object":"error","message":"f","type":"t","code":"1"}"#, "f"),
        (r#"{"detail":"g"}"#, "g"),
        (r#"{"detail":[{"loc":["body"],"msg":"h"}]}"#, "h"),
        (r#"{"message":"i"}"#, "i"),
        (r#"[{"error":{"code":400,"message":"j","status":"INVALID_ARGUMENT"}}]"#, "j"),
        ("<html><head><title>502 Bad Gateway</title></head></html>", "502 Bad Gateway"),
        ("upstream connect error", "upstream connect error"),
        (
            r#"{"error":{"message":"Provider returned error","metadata":{"raw":"{\"error\":{\"message\":\"k\"}}"}}}"#,
            "Provider returned error: k",
        ),
        ("", "generic answered 500 without a message"),
    ] {
        assert_eq!(fault(500, body).message, message, "{body}");
    }
}

#[test]
fn the_words_count_where_the_status_misleads() {
    assert_eq!(kind(400, r#"{"error":"Incorrect API key provided: xx"}"#), FaultKind::Auth);
    assert_eq!(kind(403, r#"{"error":"nope"}"#), FaultKind::Permission);
    assert_eq!(kind(429, r#"{"error":{"code":"insufficient_quota","message":"m"}}"#), FaultKind::Billing);
    assert_eq!(kind(400, r#"{"error":{"code":"model_not_found","message":"m"}}"#), FaultKind::ModelNotFound);
    assert_eq!(kind(500, r#"{"error":{"message":"tools param requires --jinja flag"}}"#), FaultKind::Caller);
    assert_eq!(
        kind(403, r#"{"error":{"message":"flagged","metadata":{"reasons":["violence"]}}}"#),
        FaultKind::ContentPolicy
    );
    assert_eq!(
        kind(
            413,
            r#"{"error":{"message":"Request too large for model `x` on tokens per minute (TPM): Limit 6000, Requested 7012"}}"#
        ),
        FaultKind::ContextLength
    );
    assert_eq!(kind(413, "Request Entity Too Large"), FaultKind::Caller);
    assert_eq!(
        kind(500, r#"{"error":{"message":"The engine is currently overloaded"}}"#),
        FaultKind::Overloaded
    );
    assert_eq!(kind(522, ""), FaultKind::Overloaded);
    assert_eq!(kind(502, ""), FaultKind::ServerError);
    assert_eq!(kind(422, r#"{"detail":[{"msg":"x"}]}"#), FaultKind::Caller);
}

#[test]
fn the_wait_is_found_wherever_it_is_said() {
    let wait = |headers: &[(&'static str, &'static str)], body: &str| {
        let headers =
            headers.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()));
        read(429, &headers.collect(), body.as_bytes(), by_name("generic").unwrap()).retry_after
    };
    let text = |text: &str| format!(r#"{{"error":{{"message":"{text}"}}}}"#);
    assert_eq!(wait(&[("retry-after", "7")], ""), Some(Duration::from_secs(7)));
    assert_eq!(
        wait(&[("retry-after-ms", "1500"), ("retry-after", "2")], ""),
        Some(Duration::from_millis(1500))
    );
    assert_eq!(wait(&[], &text("Please try again in 1m2.5s. Visit")), Some(Duration::from_millis(62_500)));
    assert_eq!(wait(&[], &text("Please try again in 20 seconds")), Some(Duration::from_secs(20)));
    assert_eq!(wait(&[], &text("try again in 300ms.")), Some(Duration::from_millis(300)));
    let google = r#"{"error":{"code":429,"message":"m","details":[{"@type":"x"},{"retryDelay":"34.4s"}]}}"#;
    assert_eq!(wait(&[], google), Some(Duration::from_millis(34_400)));
    let reset = [("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "6m0s")];
    assert_eq!(wait(&reset, ""), Some(Duration::from_secs(360)));
    assert_eq!(wait(&[("retry-after", "soon")], &text("no figure here")), None);
    assert_eq!(wait(&[("retry-after", "-1")], ""), None);
}

#[test]
fn keys_are_not_repeated() {
    let fault =
        fault(401, r#"{"error":{"message":"Incorrect API key provided: sk-abcdefghijklmnopqrstuvwxyz."}}"#);
    assert!(!fault.message.contains("abcdef"), "{}", fault.message);
}
