//! Messages of the parser and of serde, in the words of people who write TOML.

use super::{KeyPath, Step};
use crate::config::suggest;

/// Whether `key` is `parent`, or lies in it.
pub fn lies_in(key: &str, parent: &str) -> bool {
    key.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// What to do for a key that people expect to exist, and that doesn't on purpose.
pub fn secret_advice(path: &KeyPath) -> Option<&'static str> {
    match path.0.last() {
        Some(Step::Key(key)) if matches!(key.as_str(), "api_key" | "apikey" | "apiKey" | "key" | "token") => {
            Some(
                "keys are not written into the config: name a variable (api_key_env) or a file (api_key_file)",
            )
        }
        _ => None,
    }
}

/// serde's message without the values that it quotes.
pub fn without_values(message: &str) -> String {
    match (message.find('"'), message.rfind('"')) {
        (Some(first), Some(last)) if first < last => format!(
            "{}{}",
            message.get(..first).unwrap_or_default(),
            message.get(last + 1..).unwrap_or_default()
        )
        .replace("  ", " ")
        .replace(" ,", ","),
        _ => message.to_owned(),
    }
}

/// The choice that was meant by one that there is not, out of serde's message, which lists them.
pub fn meant_variant(message: &str) -> Option<&str> {
    let mut words = message.strip_prefix("unknown variant ")?.split('`').skip(1).step_by(2);
    let word = words.next()?;
    suggest::nearest(word, words)
}

/// serde's words, for people who write TOML.
pub fn explain(message: &str) -> String {
    message
        .replace("invalid type: ", "wrong type: found ")
        .replace("invalid value: ", "wrong value: found ")
        .replace("expected a sequence", "expected a list such as [\"a\", \"b\"]")
        .replace("expected a borrowed string", "expected a string")
        .replace("expected u16", "expected a whole number from 0 to 65535")
        .replace("expected u32", "expected a whole number")
        .replace("expected u64", "expected a whole number")
        .replace("expected usize", "expected a whole number")
        .replace("expected f64", "expected a number")
        .replace("expected struct ", "expected a table of ")
        .replace("expected a duration", "expected a duration such as \"30s\" or \"5m\"")
        .replace("missing field", "misses the key")
}
