//! What upstreams say of their limits in the headers of their answers.
//!
//! Sources: Anthropic API reference, "Rate limits: response headers"; OpenAI API reference, "Rate limits in
//! headers"; Groq docs, "Rate limits".

use std::time::{Duration, SystemTime};

use http::HeaderMap;

use crate::dialect::retry_after::refill;

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
    let now = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let read = |limit: &str, remaining: &str, reset: &str| {
        let number = |name: &str| text(headers, name).and_then(|text| text.trim().parse::<u64>().ok());
        let reset = text(headers, reset).and_then(|text| refill(text, now));
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

#[cfg(test)]
mod tests;
