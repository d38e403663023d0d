//! How long an upstream asks to be left alone, in all the forms in which servers say it.
//!
//! Sources: RFC 9110, 10.2.3 (`Retry-After`) and 5.6.7 (dates); Anthropic documentation, "Rate limits" and
//! OpenAI documentation, "Rate limits" (headers); Google API design guide, `google.rpc.RetryInfo`.

use std::time::Duration;

use http::HeaderMap;

/// Longer waits are cut to this: past it the figure is surely wrong.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long the upstream asks to wait. In order: `retry-after-ms`, `retry-after` (seconds or a date), a
/// `retryDelay` or "try again in …" in the body, and only then the moment at which a limit is said to be
/// refilled. Dates are held against the answer's own `date` where it has one, else against `now_unix` (seconds;
/// 0 if unknown).
pub fn retry_after(headers: &HeaderMap, body_text: &str, now_unix: u64) -> Option<Duration> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let now = header("date").and_then(http_date).or((now_unix > 0).then_some(now_unix));
    let until = |moment: u64| Some(Duration::from_secs(moment.saturating_sub(now?)));
    let milliseconds = |name| seconds(header(name)?).map(|wait| wait / 1000);
    milliseconds("retry-after-ms")
        .or_else(|| milliseconds("x-ms-retry-after-ms"))
        .or_else(|| wait(header("retry-after")?, &until))
        .or_else(|| in_body(body_text))
        .or_else(|| reset(headers, &until))
        .map(|wait| wait.min(LONGEST))
}

/// How long it is until a limit is refilled, by a header's value in any of its forms: seconds, a span (`6m0s`), a
/// moment since 1970 in seconds or milliseconds, or a date (RFC 3339, HTTP). A moment that has passed is no wait.
pub fn refill(text: &str, now_unix: u64) -> Option<Duration> {
    wait(text.trim(), &|moment| Some(Duration::from_secs(moment.saturating_sub(now_unix))))
        .map(|wait| wait.min(LONGEST))
}

/// Whole seconds, rounded up: the form of `retry-after` towards callers.
pub fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

fn seconds(text: &str) -> Option<Duration> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    plain.then(|| text.parse::<f64>().ok()).flatten().and_then(|s| Duration::try_from_secs_f64(s).ok())
}

/// `"retryDelay": "48.9s"`, or "try again in 1.5s" (also "in 6m0s", "in 20ms", "in 3 seconds").
fn in_body(text: &str) -> Option<Duration> {
    let delay = text.split_once("\"retryDelay\"").and_then(|(_, after)| {
        let value = after.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
        span(value)
    });
    delay.or_else(|| {
        ["try again in ", "retry in ", "retry after "].iter().find_map(|phrase| {
            let at = find_ignoring_case(text, phrase)?;
            span(text.get(at + phrase.len()..)?.trim_start())
        })
    })
}

fn find_ignoring_case(text: &str, phrase: &str) -> Option<usize> {
    text.as_bytes().windows(phrase.len()).position(|window| window.eq_ignore_ascii_case(phrase.as_bytes()))
}

/// A span of time with units at the start of a text: `1h2m3.5s`, `20ms`, `3 seconds`.
fn span(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    let mut any = false;
    loop {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
        let (number, after) = rest.split_at_checked(digits)?;
        let after = after.trim_start_matches(' ');
        let letters = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(letters)?;
        let scale = match unit {
            "ns" => 1e-9,
            "us" | "\u{b5}s" => 1e-6,
            "ms" | "millisecond" | "milliseconds" => 0.001,
            "s" | "sec" | "second" | "seconds" => 1.0,
            "m" | "min" | "minute" | "minutes" => 60.0,
            "h" | "hour" | "hours" => 3600.0,
            "d" | "day" | "days" => 86_400.0,
            _ => break,
        };
        // "5." at the end of a sentence is 5.
        let Ok(number) = number.trim_end_matches('.').parse::<f64>() else { break };
        total = total.saturating_add(Duration::try_from_secs_f64(number * scale).ok()?);
        any = true;
        rest = after;
    }
    any.then_some(total)
}

/// The latest refill among the limits that are used up; if none is said to be, the earliest of all.
fn reset(headers: &HeaderMap, until: &dyn Fn(u64) -> Option<Duration>) -> Option<Duration> {
    let mut used_up: Option<Duration> = None;
    let mut earliest: Option<Duration> = None;
    for (name, value) in headers {
        let name = name.as_str();
        let remaining = if let Some(kind) = name.strip_prefix("x-ratelimit-reset") {
            format!("x-ratelimit-remaining{kind}")
        } else if let Some(kind) =
            name.strip_prefix("anthropic-ratelimit-").and_then(|name| name.strip_suffix("-reset"))
        {
            format!("anthropic-ratelimit-{kind}-remaining")
        } else {
            continue;
        };
        let Some(wait) = value.to_str().ok().and_then(|value| self::wait(value.trim(), until)) else {
            continue;
        };
        if headers.get(remaining).is_some_and(|left| left.as_bytes() == b"0") {
            used_up = Some(used_up.map_or(wait, |other| other.max(wait)));
        }
        earliest = Some(earliest.map_or(wait, |other| other.min(wait)));
    }
    used_up.or(earliest)
}

/// A number of seconds, a span, a moment since 1970 in seconds or milliseconds, or a date.
fn wait(text: &str, until: &dyn Fn(u64) -> Option<Duration>) -> Option<Duration> {
    match seconds(text) {
        // No cast loses anything: durations hold their seconds as u64.
        Some(milliseconds) if milliseconds.as_secs() >= 1_000_000_000_000 => {
            until(milliseconds.as_secs() / 1000)
        }
        Some(unix) if unix.as_secs() >= 1_000_000_000 => until(unix.as_secs()),
        Some(seconds) => Some(seconds),
        None => whole_span(text).or_else(|| until(http_date(text).or_else(|| rfc3339(text))?)),
    }
}

/// A text that is a span as a whole.
fn whole_span(text: &str) -> Option<Duration> {
    let ends = text.ends_with(|c: char| c.is_alphabetic()) && !text.contains(['T', ',']);
    ends.then(|| span(text)).flatten()
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` as seconds since 1970.
fn http_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_once(", ")?.1.split(' ');
    let day = words.next()?.parse().ok()?;
    let name = words.next()?;
    let month = MONTHS.iter().position(|month| *month == name)? as u64 + 1;
    let year = words.next()?.parse().ok()?;
    unix(year, month, day, words.next()?)
}

/// `2026-11-23T13:00:00Z`, with or without fractions; offsets other than zero aren't used by these headers.
fn rfc3339(text: &str) -> Option<u64> {
    let (date, time) = text.split_once('T')?;
    let mut numbers = date.splitn(3, '-').map(|number| number.parse::<u64>().ok());
    let (year, month, day) = (numbers.next()??, numbers.next()??, numbers.next()??);
    let time = time.strip_suffix('Z').or_else(|| time.strip_suffix("+00:00"))?;
    unix(year, month, day, time.split_once('.').map_or(time, |(whole, _)| whole))
}

/// Seconds since 1970 of a date of the Gregorian calendar and a time `hh:mm:ss`.
fn unix(year: u64, month: u64, day: u64, time: &str) -> Option<u64> {
    let mut numbers = time.splitn(3, ':').map(|number| number.parse::<u64>().ok());
    let (hour, minute, second) = (numbers.next()??, numbers.next()??, numbers.next()??);
    let legal = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !legal {
        return None;
    }
    // Years begin in March, so that the leap day comes last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    let days = year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1;
    let days = days.checked_sub(719_468)?; // from 1 March of the year 0 to 1 January 1970
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn wait(headers: &[(&'static str, &'static str)], body: &str) -> Option<f64> {
        let map =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        retry_after(&map, body, 784_111_777).map(|wait| wait.as_secs_f64())
    }

    #[test]
    fn the_header_is_read_as_seconds_milliseconds_or_date() {
        assert_eq!(wait(&[("retry-after", "20")], ""), Some(20.0));
        assert_eq!(wait(&[("retry-after", "1.5")], ""), Some(1.5));
        assert_eq!(wait(&[("retry-after-ms", "250"), ("retry-after", "9")], ""), Some(0.25));
        assert_eq!(wait(&[("retry-after", "Sun, 06 Nov 1994 08:50:37 GMT")], ""), Some(60.0));
        assert_eq!(wait(&[("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT")], ""), Some(0.0));
        let skewed =
            [("date", "Tue, 29 Feb 2028 23:59:50 GMT"), ("retry-after", "Wed, 01 Mar 2028 00:00:00 GMT")];
        assert_eq!(wait(&skewed, ""), Some(10.0));
        for nonsense in ["soon", "-1", "", "nan", "inf", "Sun, 99 Foo 1994 08:49:37 GMT"] {
            let map = [("retry-after".parse().unwrap(), nonsense.parse().unwrap())].into_iter().collect();
            assert_eq!(retry_after(&map, "", 1), None, "{nonsense}");
        }
        assert_eq!(wait(&[("retry-after", "999999999")], ""), Some(LONGEST.as_secs_f64()));
        assert_eq!(wait(&[("x-ms-retry-after-ms", "1000")], ""), Some(1.0));
        assert_eq!(wait(&[("retry-after", "1994-11-06T08:50:37Z")], ""), Some(60.0));
    }

    #[test]
    fn the_body_is_read_where_no_header_says_it() {
        let google = r#"{"error":{"details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay": "48.9s"}]}}"#;
        assert_eq!(wait(&[], google), Some(48.9));
        assert_eq!(wait(&[("retry-after", "3")], google), Some(3.0));
        assert_eq!(wait(&[], "Rate limit reached. Please try again in 1.5s."), Some(1.5));
        assert_eq!(wait(&[], "Please Try Again In 6m0s. Visit"), Some(360.0));
        assert_eq!(wait(&[], "try again in 20ms"), Some(0.02));
        assert_eq!(wait(&[], "try again in 3 seconds"), Some(3.0));
        assert_eq!(wait(&[], "try again in a moment"), None);
    }

    #[test]
    fn the_refill_of_a_used_up_limit_is_the_last_resort() {
        let openai = [
            ("x-ratelimit-remaining-requests", "10"),
            ("x-ratelimit-reset-requests", "120ms"),
            ("x-ratelimit-remaining-tokens", "0"),
            ("x-ratelimit-reset-tokens", "6m0s"),
        ];
        assert_eq!(wait(&openai, ""), Some(360.0));
        assert_eq!(wait(&openai[..2], ""), Some(0.12));
        assert_eq!(wait(&openai, "try again in 1.5s"), Some(1.5), "what the answer itself says comes before");
        let now = 1_772_366_400;
        for (text, expected) in
            [("1772366410", 10.0), ("1772366410000", 10.0), ("6m0s", 360.0), ("1d2h", 93_600.0)]
        {
            assert_eq!(refill(text, now).map(|wait| wait.as_secs_f64()), Some(expected), "{text}");
        }
        assert_eq!(refill("250\u{b5}s", now), Some(Duration::from_micros(250)));
        assert_eq!(refill("many", now), None);
        assert_eq!(wait(&[("anthropic-ratelimit-tokens-reset", "1994-11-06T08:49:40Z")], ""), Some(3.0));
        assert_eq!(wait(&[], ""), None);
    }

    #[test]
    fn callers_get_whole_seconds_rounded_up() {
        assert_eq!(whole_seconds(Duration::from_millis(1001)), 2);
        assert_eq!(whole_seconds(Duration::from_secs(3)), 3);
        assert_eq!(whole_seconds(Duration::ZERO), 0);
    }
}
