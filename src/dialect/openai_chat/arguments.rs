//! The arguments of a tool call, as models write them: mended where their meaning is plain, and handed on as
//! they are where it is not. No value is ever invented: a call with made-up arguments is worse than none.

use std::borrow::Cow;

use serde::de::IgnoredAny;

use super::write::Json;
use crate::dialect::json::Fields;
use crate::dialect::json::Raw;

/// What became of a call's arguments.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Healed<'a> {
    /// The text of an object.
    Object(Cow<'a, str>),
    /// No object, and it can't be made one: an object that holds the text, so that the client's check of the
    /// schema tells the model.
    Wrapped(String),
}

/// Watches arguments as they arrive for a model that is stuck writing white space.
#[derive(Debug, Default)]
pub(crate) struct Blanks {
    in_string: bool,
    escaped: bool,
    run: usize,
}

/// More white space than this between two tokens means that the model is stuck.
const MAX_BLANKS: usize = 500;

/// Claude Code's `Read` refuses an empty `pages`, which models of others like to write: it goes. `name` is the name
/// that the caller gave the tool; arguments of all other tools stay as they are.
pub(crate) fn without_empty_pages(name: &str, arguments: String) -> String {
    if name != "Read" || !arguments.contains("\"pages\"") {
        return arguments;
    }
    let Ok(Fields(fields)) = serde_json::from_str::<Fields<'_>>(&arguments) else { return arguments };
    let is_empty =
        |key: &str, value: Raw<'_>| key == "\"pages\"" && matches!(value.get(), "\"\"" | "null" | "[]");
    let kept = fields.iter().filter(|(key, value)| !is_empty(key, *value));
    let kept: Vec<String> = kept.map(|(key, value)| format!("{key}:{}", value.get())).collect();
    if kept.len() == fields.len() { arguments } else { format!("{{{}}}", kept.join(",")) }
}

/// Makes arguments the text of one object.
pub(crate) fn heal(raw: &str) -> Healed<'_> {
    let text = raw.trim();
    if text.is_empty() || text == "null" || text == "\"\"" {
        return Healed::Object(Cow::Borrowed("{}"));
    }
    if is_object(text) {
        return Healed::Object(Cow::Borrowed(text));
    }
    if text.starts_with('"') {
        // The text of an object within a string.
        if let Ok(inner) = serde_json::from_str::<String>(text) {
            return match heal_inner(inner.trim()) {
                Some(object) => Healed::Object(Cow::Owned(object)),
                None => wrap(raw),
            };
        }
    }
    if text.starts_with('{')
        && let Some(mended) = mend(text)
    {
        return Healed::Object(Cow::Owned(mended));
    }
    wrap(raw)
}

/// Whether arguments are whole: an object, or one of the spellings of none.
pub(crate) fn is_whole(raw: &str) -> bool {
    let text = raw.trim();
    matches!(text, "" | "null" | "\"\"") || serde_json::from_str::<IgnoredAny>(text).is_ok()
}

fn heal_inner(text: &str) -> Option<String> {
    match text {
        "" | "null" => Some("{}".to_owned()),
        _ if is_object(text) => Some(text.to_owned()),
        _ => None,
    }
}

fn is_object(text: &str) -> bool {
    text.starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

fn wrap(raw: &str) -> Healed<'_> {
    let mut json = Json::with_capacity(raw.len() + 32);
    json.object(|json| json.key("_unparsed_arguments").string(raw));
    Healed::Wrapped(json.finish_string())
}

/// Escapes control characters in strings, takes out trailing commas, adds the brackets that are missing at the
/// end and cuts those that are too many. A string or a value that is cut short can't be mended.
fn mend(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len() + 8);
    let mut open: Vec<char> = Vec::new();
    let (mut in_string, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        if in_string {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => in_string = false,
                '\n' => {
                    out.push_str("\\n");
                    continue;
                }
                '\r' => {
                    out.push_str("\\r");
                    continue;
                }
                '\t' => {
                    out.push_str("\\t");
                    continue;
                }
                _ => {}
            }
            out.push(c);
            continue;
        }
        match c {
            '"' => in_string = true,
            '{' => open.push('}'),
            '[' => open.push(']'),
            '}' | ']' => {
                drop_trailing_comma(&mut out);
                if open.pop() != Some(c) {
                    return None;
                }
                if open.is_empty() {
                    out.push(c);
                    let rest = text.get(at + 1..).unwrap_or_default();
                    let only_brackets = rest.chars().all(|c| c.is_whitespace() || c == '}' || c == ']');
                    return (only_brackets && is_object(&out)).then_some(out);
                }
            }
            _ => {}
        }
        out.push(c);
    }
    if in_string {
        return None;
    }
    drop_trailing_comma(&mut out);
    out.extend(open.into_iter().rev());
    is_object(&out).then_some(out)
}

fn drop_trailing_comma(out: &mut String) {
    let kept = out.trim_end();
    if kept.ends_with(',') {
        out.truncate(kept.len() - 1);
    }
}

// === impl Blanks ===

impl Blanks {
    /// Takes the next piece of the arguments. True if the model is stuck.
    pub(crate) fn feed(&mut self, piece: &str) -> bool {
        for byte in piece.bytes() {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                b' ' | b'\n' | b'\r' | b'\t' if !self.in_string => {
                    self.run += 1;
                    if self.run > MAX_BLANKS {
                        return true;
                    }
                    continue;
                }
                _ => {}
            }
            self.run = 0;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn object(raw: &str) -> Option<String> {
        match heal(raw) {
            Healed::Object(text) => Some(text.into_owned()),
            Healed::Wrapped(_) => None,
        }
    }

    #[test]
    fn an_empty_pages_goes_from_read_and_from_nothing_else() {
        let of = |name, raw: &str| without_empty_pages(name, raw.to_owned());
        assert_eq!(of("Read", r#"{"file_path":"/a","pages":""}"#), r#"{"file_path":"/a"}"#);
        assert_eq!(of("Read", r#"{"pages": null, "limit": 1.0}"#), r#"{"limit":1.0}"#);
        for (name, raw) in [
            ("Read", r#"{"pages":"1-3"}"#),
            ("Read", r#"{"x":"\"pages\":\"\""}"#),
            ("Print", r#"{"pages":""}"#),
        ] {
            assert_eq!(of(name, raw), raw);
        }
    }

    #[test]
    fn no_arguments_are_an_empty_object() {
        for raw in ["", "  ", "null", "\"\"", "\"null\"", "{}"] {
            assert_eq!(object(raw).as_deref(), Some("{}"), "{raw}");
        }
    }

    #[test]
    fn plain_mistakes_are_mended() {
        assert_eq!(object(r#""{\"a\":1}""#).as_deref(), Some(r#"{"a":1}"#));
        assert_eq!(object(r#"{"a":[1,2,],}"#).as_deref(), Some(r#"{"a":[1,2]}"#));
        assert_eq!(object("{\"a\":\"x\ny\"}").as_deref(), Some(r#"{"a":"x\ny"}"#));
        assert_eq!(object(r#"{"a":{"b":[1]"#).as_deref(), Some(r#"{"a":{"b":[1]}}"#));
        assert_eq!(object(r#"{"a":1}}"#).as_deref(), Some(r#"{"a":1}"#));
    }

    #[test]
    fn what_has_no_plain_meaning_is_handed_on_as_it_is() {
        for raw in [r#"{"a":"cut of"#, r#"{"a":tr"#, "[1]", "7", "ls -la", r#"{"a":1}{"b":2}"#, r#"{"a":"#] {
            assert_eq!(object(raw), None, "{raw}");
            let Healed::Wrapped(text) = heal(raw) else { panic!("{raw}") };
            let read: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(read["_unparsed_arguments"], raw);
        }
    }

    proptest! {
        #[test]
        fn the_outcome_is_always_an_object(raw in "[\\[\\]{}\",:a1\\\\ \n]{0,40}") {
            let text = match heal(&raw) { Healed::Object(text) => text.into_owned(), Healed::Wrapped(text) => text };
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            prop_assert!(value.is_object());
        }
    }

    #[test]
    fn endless_blanks_are_seen_but_not_within_strings() {
        let mut blanks = Blanks::default();
        assert!(!blanks.feed(&format!("{{\"a\": \"{}\"", " ".repeat(4000))));
        assert!(!blanks.feed(&"\n".repeat(400)));
        assert!(blanks.feed(&" ".repeat(400)));
    }
}
