//! Where two requests to one model begin to differ, as a prompt cache sees it: tools first, then the system prompt,
//! then the conversation. Cache markers are no part of a prompt, and move with each turn.
//!
//! Source: Anthropic documentation, "Prompt caching" (the order, and what invalidates a cache).

use crate::dialect::json::Raw;
use serde_json::Value;

use super::Dialect;
use super::json::Fields;

/// What a later request is to an earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kinship {
    /// Another conversation, or a new beginning of it: nothing can be said.
    Unrelated,
    /// It begins with all of the earlier one.
    Continues,
    /// The same conversation, but for this.
    Changed(Change),
}

/// The first difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which part differs, as `tools[2]`, `system[0]`, `messages[7]`.
    pub part: String,
    /// The first byte that differs, counted in the later body.
    pub byte: usize,
}

/// A part of a prompt: its name, and where it stands in its body.
struct Piece<'a> {
    list: &'a str,
    nth: usize,
    at: usize,
    text: &'a str,
}

/// A prompt in the order in which it is cached.
#[derive(Default)]
struct Prompt<'a> {
    /// Tools and system prompt.
    head: Vec<Piece<'a>>,
    /// The conversation.
    turns: Vec<Piece<'a>>,
}

/// Compares two bodies in the dialect of their upstream. What can't be read is unrelated.
pub fn compare(earlier: &[u8], later: &[u8], dialect: Dialect) -> Kinship {
    let (Some(old), Some(new)) = (Prompt::read(earlier, dialect), Prompt::read(later, dialect)) else {
        return Kinship::Unrelated;
    };
    if old.turns.is_empty() || new.turns.len() < old.turns.len() {
        return Kinship::Unrelated;
    }
    let head = first_difference(&old.head, &new.head);
    let opening = |prompt: &Prompt<'_>| prompt.turns.first().map(|first| first.text.to_owned());
    if head.is_some() && !same(&opening(&old).unwrap_or_default(), &opening(&new).unwrap_or_default()) {
        return Kinship::Unrelated;
    }
    let turns = || first_difference(&old.turns, new.turns.get(..old.turns.len()).unwrap_or_default());
    match head.or_else(turns) {
        Some(change) => Kinship::Changed(change),
        None => Kinship::Continues,
    }
}

// === impl Prompt ===

impl<'a> Prompt<'a> {
    fn read(body: &'a [u8], dialect: Dialect) -> Option<Prompt<'a>> {
        let (head, turns): (&[&str], &str) = match dialect {
            Dialect::Anthropic => (&["tools", "system"], "messages"),
            Dialect::OpenAiChat => (&["tools"], "messages"),
            Dialect::OpenAiResponses => (&["tools", "instructions"], "input"),
            Dialect::Gemini => (&["tools", "systemInstruction"], "contents"),
        };
        let text = std::str::from_utf8(body).ok()?;
        let Fields(fields) = serde_json::from_str::<Fields<'a>>(text).ok()?;
        let mut prompt = Prompt::default();
        let list = |name: &str| -> Vec<Piece<'a>> {
            let found = fields.iter().rev().find(|(key, _)| key.trim_matches('"') == name);
            let Some((key, value)) = found else { return Vec::new() };
            let items: Vec<Raw<'a>> = match value.get().starts_with('[') {
                true => serde_json::from_str(value.get()).unwrap_or_default(),
                false => vec![*value],
            };
            let pieces = items.into_iter().enumerate().map(|(nth, item)| Piece {
                list: key.trim_matches('"'),
                nth,
                at: (item.get().as_ptr() as usize).saturating_sub(text.as_ptr() as usize),
                text: item.get(),
            });
            pieces.collect()
        };
        head.iter().for_each(|name| prompt.head.extend(list(name)));
        prompt.turns = list(turns);
        Some(prompt)
    }
}

/// The first piece that differs. A piece that is missing on one side differs where it would stand.
fn first_difference(old: &[Piece<'_>], new: &[Piece<'_>]) -> Option<Change> {
    for (nth, piece) in new.iter().enumerate() {
        let part = || format!("{}[{}]", piece.list, piece.nth);
        match old.get(nth) {
            Some(before) if before.list == piece.list && same(before.text, piece.text) => {}
            Some(before) if before.list == piece.list => {
                return Some(Change { part: part(), byte: piece.at + offset(before.text, piece.text) });
            }
            // The later one lacks a piece of this list.
            Some(before) if new.iter().skip(nth).all(|later| later.list != before.list) => {
                return Some(missing(before, new.get(..nth).unwrap_or_default()));
            }
            Some(_) | None => return Some(Change { part: part(), byte: piece.at }),
        }
    }
    Some(missing(old.get(new.len())?, new))
}

/// A piece that would stand behind these.
fn missing(piece: &Piece<'_>, before: &[Piece<'_>]) -> Change {
    let byte = before.last().map_or(0, |last| last.at + last.text.len());
    Change { part: format!("{}[{}]", piece.list, piece.nth), byte }
}

/// Whether two pieces say the same to a model: a text alone is a list of one text, and markers say nothing.
fn same(old: &str, new: &str) -> bool {
    if old == new {
        return true;
    }
    let plain = |text: &str| serde_json::from_str(text).map(without_markers);
    matches!((plain(old), plain(new)), (Ok(old), Ok(new)) if old == new)
}

fn without_markers(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(key, _)| key != "cache_control");
            let kept = kept.map(|(key, value)| match value {
                Value::String(text) if key == "content" => {
                    (key, serde_json::json!([{ "type": "text", "text": text }]))
                }
                value => (key, without_markers(value)),
            });
            Value::Object(kept.collect())
        }
        Value::Array(items) => items.into_iter().map(without_markers).collect(),
        value => value,
    }
}

/// The first byte of `new` that isn't that of `old`, markers left out.
fn offset(old: &str, new: &str) -> usize {
    let (old, new) = (unmarked(old), unmarked(new));
    let differs = old.iter().zip(&new).position(|((a, _), (b, _))| a != b);
    let at = differs.unwrap_or(old.len().min(new.len()));
    new.get(at).or(new.last()).map_or(0, |(_, at)| *at)
}

/// The bytes of a JSON text without its cache markers, each with its place.
fn unmarked(text: &str) -> Vec<(u8, usize)> {
    const KEY: &str = "\"cache_control\"";
    let mut kept: Vec<(u8, usize)> = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.as_bytes().get(at) {
        let rest = text.get(at..).unwrap_or_default();
        if byte != b'"' {
            kept.push((byte, at));
            at += 1;
            continue;
        }
        let length = string_length(rest.as_bytes());
        let after = rest.get(length..).unwrap_or_default();
        match after.trim_start().strip_prefix(':').filter(|_| rest.starts_with(KEY)) {
            Some(value) => {
                let mut values =
                    serde_json::Deserializer::from_str(value).into_iter::<serde::de::IgnoredAny>();
                let _ = values.next();
                let behind = value.get(values.byte_offset()..).unwrap_or_default().trim_start();
                // One comma goes with the member.
                match behind.strip_prefix(',') {
                    Some(behind) => at = text.len() - behind.len(),
                    None => {
                        at = text.len() - behind.len();
                        if kept.last().is_some_and(|(byte, _)| *byte == b',') {
                            kept.pop();
                        }
                    }
                }
            }
            None => {
                kept.extend(rest.bytes().take(length).enumerate().map(|(nth, byte)| (byte, at + nth)));
                at += length;
            }
        }
    }
    kept
}

/// How long the string is with which a text begins, quotes included.
fn string_length(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    const TOOLS: &str = r#""tools":[{"name":"Read"},{"name":"Write"}]"#;

    fn body(head: &str, turns: &[&str]) -> String {
        format!(r#"{{"model":"m","messages":[{}],{head},"stream":true}}"#, turns.join(","))
    }

    fn user(text: &str) -> String {
        format!(r#"{{"role":"user","content":[{{"type":"text","text":"{text}"}}]}}"#)
    }

    fn compared(old: &str, new: &str) -> Kinship {
        compare(old.as_bytes(), new.as_bytes(), Dialect::Anthropic)
    }

    /// The change, and the later body from its first byte on.
    fn changed<'b>(old: &str, new: &'b str) -> (String, &'b str) {
        match compared(old, new) {
            Kinship::Changed(Change { part, byte }) => (part, &new[byte..]),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_turn_that_adds_to_the_conversation_continues_it() {
        let old = body(TOOLS, &[&user("a")]);
        let new = body(TOOLS, &[&user("a"), r#"{"role":"assistant","content":"b"}"#, &user("c")]);
        assert_eq!(compared(&old, &new), Kinship::Continues);
        assert_eq!(compared(&old, &old), Kinship::Continues);
    }

    #[test]
    fn markers_that_move_and_a_text_that_becomes_a_list_change_nothing() {
        let marked =
            r#"{"role":"user","content":[{"type":"text","text":"a","cache_control":{"type":"ephemeral"}}]}"#;
        let plain = r#"{"role":"user","content":"a"}"#;
        for (old, new) in [(marked, plain), (plain, marked)] {
            let (old, new) = (body(TOOLS, &[old]), body(TOOLS, &[new, &user("b")]));
            assert_eq!(compared(&old, &new), Kinship::Continues);
        }
    }

    #[test]
    fn the_first_byte_that_changed_is_named() {
        let old = body(TOOLS, &[&user("one"), &user("two words"), &user("three")]);
        let new = body(TOOLS, &[&user("one"), &user("two worlds"), &user("3"), &user("four")]);
        let (part, from) = changed(&old, &new);
        assert_eq!(part, "messages[1]");
        assert!(from.starts_with("lds"), "{from}");
        let marked = r#"{"role":"user","content":[{"cache_control":{"type":"ephemeral"},"type":"text","text":"onE"}]}"#;
        let new = body(TOOLS, &[marked, &user("two words"), &user("three")]);
        let (part, from) = changed(&old, &new);
        assert_eq!(part, "messages[0]");
        assert!(from.starts_with("E\"}"), "{from}");
    }

    #[test]
    fn tools_and_the_system_prompt_come_before_the_conversation() {
        let old = body(r#""system":"s","tools":[{"name":"Read"}]"#, &[&user("a")]);
        let new = body(r#""system":"S","tools":[{"name":"Read"},{"name":"Write"}]"#, &[&user("a")]);
        let (part, from) = changed(&old, &new);
        assert_eq!(part, "tools[1]");
        assert!(from.starts_with(r#"{"name":"Write"}"#), "{from}");
        let (part, _) = changed(&new, &old);
        assert_eq!(part, "tools[1]", "one that went");
        let new = body(r#""system":"S","tools":[{"name":"Read"}]"#, &[&user("a")]);
        assert_eq!(changed(&old, &new).0, "system[0]");
    }

    #[test]
    fn another_conversation_is_no_change() {
        let long = body(TOOLS, &[&user("a"), &user("b")]);
        assert_eq!(
            compared(&long, &body(TOOLS, &[&user("summary")])),
            Kinship::Unrelated,
            "it was compacted"
        );
        let title = body(r#""system":"Make a title.""#, &[&user("x"), &user("y")]);
        assert_eq!(compared(&long, &title), Kinship::Unrelated);
        assert_eq!(compared(&long, "<html>"), Kinship::Unrelated);
        assert_eq!(compared("{}", "{}"), Kinship::Unrelated);
    }

    #[test]
    fn each_dialect_has_its_own_order() {
        for (dialect, old, new, part) in [
            (
                Dialect::OpenAiChat,
                r#"{"messages":[{"content":"a"}]}"#,
                r#"{"messages":[{"content":"b"}]}"#,
                "messages[0]",
            ),
            (
                Dialect::OpenAiResponses,
                r#"{"instructions":"a","input":[{"c":1}]}"#,
                r#"{"instructions":"b","input":[{"c":1}]}"#,
                "instructions[0]",
            ),
            (
                Dialect::Gemini,
                r#"{"contents":[{"parts":[1]}],"systemInstruction":{"parts":[2]}}"#,
                r#"{"contents":[{"parts":[1]}],"systemInstruction":{"parts":[3]}}"#,
                "systemInstruction[0]",
            ),
        ] {
            let Kinship::Changed(change) = compare(old.as_bytes(), new.as_bytes(), dialect) else {
                panic!("{dialect:?}")
            };
            assert_eq!(change.part, part);
        }
    }

    proptest::proptest! {
        /// Whatever bytes come, nothing panics, and what is named lies in the later body.
        #[test]
        fn any_bytes_are_compared(old in ".{0,60}", new in ".{0,60}") {
            let wrap = |text: &str| format!(r#"{{"messages":[{{"content":{}}}]}}"#, Value::from(text));
            let (old, new) = (wrap(&old), wrap(&new));
            if let Kinship::Changed(change) = compared(&old, &new) {
                proptest::prop_assert!(change.byte < new.len());
            }
        }
    }
}
