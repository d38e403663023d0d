//! Redaction: texts that may hold credentials, for logs and for errors. What looks like one becomes `•••`.
//!
//! Two nets: names after which a credential follows (`Authorization: Bearer …`, `x-api-key: …`, `?key=…`,
//! `"api_key": "…"`), and words that look like one by themselves, whatever stands before them.

use std::borrow::Cow;

use crate::config::error::{is_sensitive, looks_secret};

/// What stands in place of a credential.
pub const MASK: &str = "•••";

/// The text without credentials. Borrowed if there was nothing to hide.
pub fn text(text: &str) -> Cow<'_, str> {
    let mut out: Option<String> = None;
    let mut copied = 0;
    let mut hide = |from: usize, to: usize| {
        let out = out.get_or_insert_with(|| String::with_capacity(text.len()));
        if from >= copied {
            out.push_str(text.get(copied..from).unwrap_or_default());
            out.push_str(MASK);
        }
        copied = copied.max(to);
    };
    let mut expected = Expected::Nothing;
    for (at, word) in words(text) {
        let end = at + word.len();
        let gap = text.get(end..).unwrap_or_default();
        expected = match expected {
            // The scheme stays: it tells what was sent, not the secret.
            Expected::Value if is_scheme(word) => Expected::Value,
            Expected::Value if is_literal(word) => Expected::Nothing,
            Expected::Value => {
                hide(at, end);
                Expected::Nothing
            }
            Expected::Nothing if looks_secret(word) => {
                hide(at, end);
                Expected::Nothing
            }
            Expected::Nothing if is_scheme(word) && gap.starts_with(' ') => Expected::Value,
            Expected::Nothing if names_credential(word) && assigns(gap) => Expected::Value,
            Expected::Nothing => Expected::Nothing,
        };
    }
    match out {
        None => Cow::Borrowed(text),
        Some(mut out) => {
            out.push_str(text.get(copied..).unwrap_or_default());
            Cow::Owned(out)
        }
    }
}

/// The first `limit` bytes of a body as redacted text, with a word on how long it is if it was cut.
pub fn body(bytes: &[u8], limit: usize) -> String {
    beginning(bytes, bytes.len(), limit)
}

/// The same for a body of `total` bytes of which only the first are at hand.
pub fn beginning(bytes: &[u8], total: usize, limit: usize) -> String {
    // Some more than the limit is looked at, so that a credential across the cut is seen whole.
    let seen = bytes.get(..bytes.len().min(limit.saturating_add(512))).unwrap_or_default();
    let seen = String::from_utf8_lossy(seen);
    let mut shown = text(&seen).into_owned();
    if total > limit || shown.len() > limit {
        let mut cut = limit.min(shown.len());
        while !shown.is_char_boundary(cut) {
            cut -= 1;
        }
        shown.truncate(cut);
        shown.push_str(&format!("… ({total} bytes in all)"));
    }
    shown
}

/// What the next word is, by those before it.
#[derive(Clone, Copy)]
enum Expected {
    Nothing,
    Value,
}

/// The runs of characters of which names and credentials are made, with their places.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let rest = text.get(from..)?;
        let start = from + rest.find(is_word)?;
        let word = text.get(start..)?;
        let word = word.get(..word.find(|c| !is_word(c)).unwrap_or(word.len()))?;
        from = start + word.len();
        Some((start, word))
    })
}

fn is_word(c: char) -> bool {
    // `=` ends a name and pads a credential; as padding it carries nothing.
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '+' | '~' | '/' | '.' | '@' | '%')
}

fn is_scheme(word: &str) -> bool {
    word.eq_ignore_ascii_case("bearer") || word.eq_ignore_ascii_case("basic")
}

/// A truth value, a null or a small number after a sensitive name is no credential.
fn is_literal(word: &str) -> bool {
    matches!(word, "true" | "false" | "null" | "none" | "None")
        || (word.len() <= 7 && word.bytes().all(|b| b.is_ascii_digit()))
}

/// Whether a credential may follow. Counts of tokens are none.
fn names_credential(word: &str) -> bool {
    let name = word.rsplit(['/', '.', '@']).next().unwrap_or(word);
    name.eq_ignore_ascii_case("key") || (is_sensitive(name) && !name.eq_ignore_ascii_case("keys"))
}

/// Whether what follows a name gives it a value: `: `, `=`, `": "`, and the same escaped once.
fn assigns(gap: &str) -> bool {
    let gap = gap.trim_start_matches(['\\', '"', '\'']).trim_start_matches(' ');
    let Some(rest) = gap.strip_prefix([':', '=']) else { return false };
    !rest.starts_with("//")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const CANARY: &str = "c4n4ryQ7wE9rT2yU5iO8pA1sD3fG6hJ";

    #[test]
    fn a_credential_shows_in_none_of_the_forms_in_which_it_travels() {
        for form in [
            "authorization: Bearer {}",
            "Authorization: bearer {}",
            "x-api-key: {}",
            "{\"api_key\":\"{}\"}",
            "{\\\"api_key\\\": \\\"{}\\\"}",
            "https://example.com/v1/models?key={}&limit=1",
            "GET /v1beta/models?limit=1&api_key={}",
            "HeaderMap { \"x-goog-api-key\": \"{}\" }",
            "cookie: session={}",
            "Bearer {}",
            "password = '{}'",
            "https://user:{}@example.com/",
            "the key sk-ant-{} was refused",
            "Incorrect API key provided: sk-proj-{}.",
            "{}",
        ] {
            let line = form.replace("{}", CANARY);
            let shown = text(&line);
            assert!(!shown.contains(CANARY), "{shown}");
            assert!(shown.contains(MASK), "{shown}");
        }
    }

    #[test]
    fn a_short_password_is_hidden_where_its_name_says_so() {
        assert_eq!(text("x-api-key: hunter2"), format!("x-api-key: {MASK}"));
        assert_eq!(text("Authorization: Bearer abc"), format!("Authorization: Bearer {MASK}"));
    }

    #[test]
    fn what_is_no_credential_stays_and_is_not_copied() {
        for line in [
            "request req_01ABCDEF took 12 ms",
            "openrouter/anthropic/claude-sonnet-4.5: rate_limited",
            "max_tokens: 4096, input_tokens=12, claude-haiku-4-5-20251001",
            "\"max_tokens\":4096,\"key_count\":3",
            "panicked at src/exchange/relay.rs:120:5: index out of bounds",
            "Der Schlüssel: Straße — 🎉",
            "https://api.anthropic.com/v1/messages",
        ] {
            assert!(matches!(text(line), Cow::Borrowed(_)), "{} became {}", line, text(line));
        }
    }

    #[test]
    fn a_body_is_cut_and_says_so_and_shows_no_half_of_a_key() {
        let long = "x".repeat(90);
        let bytes = format!("{long} sk-ant-{CANARY}{CANARY}");
        let shown = body(bytes.as_bytes(), 100);
        assert!(!shown.contains("sk-ant") && shown.len() < 140, "{shown}");
        assert!(shown.ends_with("bytes in all)"), "{shown}");
        assert_eq!(body(b"short", 100), "short");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_and_no_canary_passes(before in ".{0,40}", after in ".{0,40}") {
            let line = format!("{before} sk-ant-api03-{CANARY} {after}");
            let shown = text(&line);
            prop_assert!(!shown.contains(CANARY));
            let _ = body(line.as_bytes(), 10);
        }
    }
}
