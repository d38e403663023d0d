#![allow(clippy::unwrap_used, clippy::expect_used)]

use http::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    lines
        .iter()
        .map(|(name, value)| {
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
        })
        .collect()
}

fn wall() -> SystemTime {
    humantime::parse_rfc3339("2026-03-01T12:00:00Z").unwrap()
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[test]
fn limits_are_read_as_the_vendors_say_them() {
    let anthropic = headers(&[
        ("anthropic-ratelimit-requests-limit", "50"),
        ("anthropic-ratelimit-requests-remaining", "49"),
        ("anthropic-ratelimit-requests-reset", "2026-03-01T12:00:01Z"),
        ("anthropic-ratelimit-tokens-limit", "40000"),
        ("anthropic-ratelimit-tokens-remaining", "12000"),
        ("anthropic-ratelimit-tokens-reset", "2026-03-01T12:00:42Z"),
        ("anthropic-ratelimit-input-tokens-limit", "30000"),
    ]);
    let learned_now = learned(&anthropic, wall()).unwrap();
    let window = |limit, remaining, reset, daily| {
        Some(Window { limit: Some(limit), remaining: Some(remaining), reset: Some(reset), daily })
    };
    assert_eq!(learned_now.requests, window(50, 49, secs(1), false));
    assert_eq!(learned_now.tokens, window(40_000, 12_000, secs(42), false));

    // The same header names a minute's limit at one vendor and a day's at another.
    let openai = headers(&[
        ("x-ratelimit-limit-requests", "60"),
        ("x-ratelimit-remaining-requests", "59"),
        ("x-ratelimit-reset-requests", "1s"),
    ]);
    assert_eq!(learned(&openai, wall()).unwrap().requests, window(60, 59, secs(1), false));
    let daily = headers(&[
        ("x-ratelimit-limit-requests", "14400"),
        ("x-ratelimit-remaining-requests", "14370"),
        ("x-ratelimit-reset-requests", "2m59.56s"),
    ]);
    assert!(learned(&daily, wall()).unwrap().requests.unwrap().daily);
    assert_eq!(learned(&headers(&[("content-type", "text/html")]), wall()), None);
    assert_eq!(learned(&headers(&[("x-ratelimit-limit-tokens", "many")]), wall()), None);
}

proptest! {
    #[test]
    fn no_header_makes_it_panic_or_hold_for_ever(value in "[ -~]{0,80}", which in 0..3usize) {
        let names = [
            "x-ratelimit-reset-requests", "anthropic-ratelimit-requests-reset", "x-ratelimit-remaining-requests",
        ];
        let headers = headers(&[(names[which], value.trim()), ("x-ratelimit-limit-requests", "5")]);
        let learned = learned(&headers, wall());
        prop_assert!(learned.is_none_or(|learned| learned.requests.is_none_or(|window| window.holds_for() <= DAY)));
    }
}
