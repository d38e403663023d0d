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
fn retry_after_is_read_in_all_its_forms() {
    for (name, value, expected) in [
        ("retry-after", "7", Some(secs(7))),
        ("retry-after", "1.5", Some(Duration::from_millis(1500))),
        ("retry-after", "Sun, 01 Mar 2026 12:00:30 GMT", Some(secs(30))),
        ("retry-after", "Sun, 01 Mar 2026 11:00:00 GMT", Some(Duration::ZERO)),
        ("retry-after", "2026-03-01T12:01:00Z", Some(secs(60))),
        ("retry-after", "-3", Some(Duration::ZERO)),
        ("retry-after", "99999999", Some(secs(3600))),
        ("retry-after", "soon", None),
        ("retry-after", "NaN", None),
        ("retry-after", "", None),
        ("retry-after-ms", "250", Some(Duration::from_millis(250))),
        ("x-ms-retry-after-ms", "1000", Some(secs(1))),
        ("x-ratelimit-reset", "1772366410000", Some(secs(10))),
        ("x-ratelimit-reset", "1772366410", Some(secs(10))),
        ("x-ratelimit-reset", "6m0s", Some(secs(360))),
    ] {
        assert_eq!(retry_after(&headers(&[(name, value)]), wall()), expected, "{name}: {value}");
    }
    let both = headers(&[("retry-after", "2"), ("retry-after-ms", "1500")]);
    assert_eq!(retry_after(&both, wall()), Some(Duration::from_millis(1500)), "the finer one counts");
    let used_up = headers(&[
        ("x-ratelimit-remaining-requests", "9"),
        ("x-ratelimit-reset-requests", "6m0s"),
        ("x-ratelimit-remaining-tokens", "0"),
        ("x-ratelimit-reset-tokens", "420ms"),
    ]);
    assert_eq!(retry_after(&used_up, wall()), Some(Duration::from_millis(420)));
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
    fn no_header_makes_it_panic_or_wait_for_ever(value in "[ -~]{0,80}", which in 0..6usize) {
        let names = [
            "retry-after", "retry-after-ms", "x-ratelimit-reset", "x-ratelimit-reset-tokens",
            "anthropic-ratelimit-requests-reset", "x-ratelimit-remaining-tokens",
        ];
        let headers = headers(&[(names[which], value.trim()), ("x-ratelimit-limit-requests", "5")]);
        prop_assert!(retry_after(&headers, wall()).is_none_or(|wait| wait <= LONGEST_WAIT));
        learned(&headers, wall());
    }
}
