//! Error bodies of upstreams, read, and written for a caller. The first two bytes are the status.
#![no_main]

use cproxy::dialect::{anthropic, openai_chat, table};
use http::{HeaderMap, StatusCode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [high, low, body @ ..] = data else { return };
    let status = 400 + u16::from_be_bytes([*high, *low]) % 200;
    let mut headers = HeaderMap::new();
    if let Some(value) = body.get(..20).and_then(|value| http::HeaderValue::from_bytes(value).ok()) {
        headers.insert("retry-after", value.clone());
        headers.insert("x-ratelimit-reset-tokens", value);
    }
    let chat = openai_chat::error::read(status, &headers, body, table::by_name("generic").unwrap());
    let own = anthropic::error::read(StatusCode::from_u16(status).unwrap(), &headers, body);
    for fault in [chat, own] {
        let answer = anthropic::error::write(&fault, "req_1");
        assert!(answer.status.is_client_error() || answer.status.is_server_error());
        let json: serde_json::Value = serde_json::from_slice(&answer.body).expect("an error is JSON");
        assert_eq!(json["type"], "error");
    }
});
