//! What upstreams say of their limits in the headers of their answers.
//!
//! Sources: Anthropic API reference, "Rate limits: response headers"; OpenAI API reference, "Rate limits in
//! headers"; Groq docs, "Rate limits"; RFC 9110, "Retry-After".

use std::time::{Duration, SystemTime};

use http::HeaderMap;

/// The longest wait that an upstream may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// What one answer said of the limits.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Learned {
    /// Of requests.
    pub requests: Option<Window>,
    /// Of tokens.
    pub tokens: Option<Window>,
}

/// One limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// How much fits in the period.
    pub limit: Option<u64>,
    /// What is left of it.
    pub remaining: Option<u64>,
    /// The time until it is whole again.
    pub reset: Option<Duration>,
    /// Whether the period is a day; else it is a minute.
    pub daily: bool,
}

/// Reads what the headers say. `wall` is the wall clock, since some name moments.
pub fn learned(headers: &HeaderMap, wall: SystemTime) -> Option<Learned> {
    let read = |limit: &str, remaining: &str, reset: &str| {
        let number = |name: &str| text(headers, name).and_then(|text| text.trim().parse::<u64>().ok());
        let reset = text(headers, reset).and_then(|text| moment_or_duration(text, wall));
        Window::new(number(limit), number(remaining), reset)
    };
    let anthropic = |what: &str| {
        let name = |field: &str| format!("anthropic-ratelimit-{what}-{field}");
        read(&name("limit"), &name("remaining"), &name("reset"))
    };
    let openai = |what: &str| {
        let name = |field: &str| format!("x-ratelimit-{field}-{what}");
        read(&name("limit"), &name("remaining"), &name("reset"))
    };
    // Most answers of local servers carry none: then not a name is put together.
    let prefixes = ["anthropic-ratelimit-", "x-ratelimit-"];
    if !headers.keys().any(|name| prefixes.iter().any(|prefix| name.as_str().starts_with(prefix))) {
        return None;
    }
    let learned = Learned {
        requests: anthropic("requests").or_else(|| openai("requests")),
        tokens: anthropic("tokens").or_else(|| anthropic("input-tokens")).or_else(|| openai("tokens")),
    };
    (learned != Learned::default()).then_some(learned)
}

/// How long the upstream wants to be left alone, in whatever form it says so: `retry-after-ms`,
/// `x-ms-retry-after-ms`, `retry-after` in seconds or as a date, and, where a limit is used up, the time until it
/// is whole again. At most an hour.
pub fn retry_after(headers: &HeaderMap, wall: SystemTime) -> Option<Duration> {
    let millis = |name: &str| {
        let ms = text(headers, name)?.trim().parse::<f64>().ok()?;
        Duration::try_from_secs_f64(ms / 1000.0).ok()
    };
    millis("retry-after-ms")
        .or_else(|| millis("x-ms-retry-after-ms"))
        .or_else(|| moment_or_duration(text(headers, "retry-after")?, wall))
        .or_else(|| {
            let learned = learned(headers, wall)?;
            let used_up = |window: Option<Window>| {
                window.filter(|window| window.remaining == Some(0)).and_then(|window| window.reset)
            };
            used_up(learned.requests).max(used_up(learned.tokens))
        })
        .or_else(|| moment_or_duration(text(headers, "x-ratelimit-reset")?, wall))
        .map(|wait| wait.min(LONGEST_WAIT))
}

// === impl Window ===

impl Window {
    fn new(limit: Option<u64>, remaining: Option<u64>, reset: Option<Duration>) -> Option<Window> {
        if limit.is_none() && remaining.is_none() {
            return None;
        }
        // Vendors do not say whether a limit is one of a minute or of a day. The speed at which it fills up
        // again does.
        let daily = match (limit, remaining, reset) {
            (Some(limit), Some(remaining), Some(reset)) if remaining < limit => {
                let used = (limit - remaining) as f64;
                reset.as_secs_f64() * limit as f64 / used > 3600.0
            }
            _ => reset.is_some_and(|reset| reset > Duration::from_secs(3600)),
        };
        Some(Window { limit, remaining, reset, daily })
    }

    /// The period.
    pub fn per(&self) -> Duration {
        if self.daily { DAY } else { MINUTE }
    }

    /// For how long to heed it: until it is whole again, at least for a minute, at most for a day.
    pub fn holds_for(&self) -> Duration {
        self.reset.unwrap_or(MINUTE).clamp(MINUTE, DAY)
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Seconds (`12`, `1.5`), a duration (`6m0s`, `250ms`), a moment in seconds or milliseconds since 1970, or as
/// text (RFC 3339, or the date of HTTP). A moment that has passed is no wait.
fn moment_or_duration(text: &str, wall: SystemTime) -> Option<Duration> {
    let text = text.trim();
    if text.len() > 64 {
        return None;
    }
    if let Ok(number) = text.parse::<f64>() {
        let now = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let seconds = match number {
            moment if moment >= 1e12 => moment / 1000.0 - now,
            moment if moment >= 1e9 => moment - now,
            seconds => seconds,
        };
        return if seconds.is_nan() { None } else { Duration::try_from_secs_f64(seconds.max(0.0)).ok() };
    }
    if let Some(duration) = duration(text) {
        return Some(duration);
    }
    let moment = match humantime::parse_rfc3339(text) {
        Ok(moment) => moment,
        Err(_) => http_date(text)?,
    };
    Some(moment.duration_since(wall).unwrap_or_default())
}

/// A duration such as `1h2m3.5s` or `250ms`.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest.get(..digits)?.parse().ok()?;
        rest = rest.get(digits..)?;
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        sum += number
            * match rest.get(..letters)? {
                "d" => 86_400.0,
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "\u{b5}s" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = rest.get(letters..)?;
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(sum).ok()).flatten()
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`: the one form of a date that HTTP still writes (RFC 9110, 5.6.7).
fn http_date(text: &str) -> Option<SystemTime> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_once(", ")?.1.split(' ');
    let (day, month, year, time) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    if words.next() != Some("GMT") {
        return None;
    }
    humantime::parse_rfc3339(&format!("{year}-{month:02}-{day:0>2}T{time}Z")).ok()
}

#[cfg(test)]
mod tests;
