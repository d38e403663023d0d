//! The usual chunk of a stream, which adds a few words and says nothing else: by far the most are of this kind.
//!
//! Such chunks differ from one another in those words alone. So one of them is read by its types, and what stands
//! around its words is kept: the next is compared with that, which costs a fraction of reading it. A chunk that is
//! anything else, in whatever way, is left to the types; so is one that begins an answer or comes after its end, of
//! which more counts.

use crate::dialect::json::{Walk, Written};

/// The last usual chunk without its words.
#[derive(Debug, Default)]
pub(super) struct Usual {
    kind: Kind,
    /// What stood before the words; empty if there was no such chunk.
    before: String,
    /// What stood behind them; up to the padding, if there was some.
    behind: String,
    /// What stood behind the padding.
    end: Option<String>,
}

/// What the words are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    Text,
    Thought,
    /// A fragment of the arguments of the call with this index.
    Arguments(u64),
}

/// Where the strings stand, with their quotes, in which usual chunks differ.
struct Found {
    kind: Kind,
    words: Place,
    /// OpenAI pads its chunks with random letters, so that their size tells nobody what is in them.
    padding: Option<Place>,
}

/// From where to where a value stands.
type Place = (usize, usize);

/// Most bytes that are remembered.
const MAX_REMEMBERED: usize = 4096;

// === impl Usual ===

impl Usual {
    /// The words of a chunk that differs from the one that was learned in its words and its padding alone. What is
    /// the same text around strings is the same JSON.
    pub(super) fn words<'a>(&self, data: &'a str) -> Option<(Kind, Written<'a>)> {
        if self.before.is_empty() {
            return None;
        }
        let rest = data.strip_prefix(self.before.as_str())?;
        let words = Written::at_start_of(rest)?;
        let mut rest = rest.get(words.inside.len() + 2..)?.strip_prefix(self.behind.as_str())?;
        if let Some(end) = &self.end {
            let padding = Written::at_start_of(rest)?;
            rest = rest.get(padding.inside.len() + 2..)?.strip_prefix(end.as_str())?;
        }
        rest.is_empty().then_some((self.kind, words))
    }

    /// Remembers a chunk, which the types have read, for those that will be like it.
    pub(super) fn learn(&mut self, data: &str) {
        self.before.clear();
        let Some(Found { kind, words: (start, end), padding }) = find(data) else { return };
        if data.len() - (end - start) > MAX_REMEMBERED {
            return;
        }
        let (behind, rest) = match padding {
            Some((start, after)) => (data.get(end..start), data.get(after..)),
            None => (data.get(end..), None),
        };
        self.kind = kind;
        self.before.push_str(data.get(..start).unwrap_or_default());
        self.behind.clear();
        self.behind.push_str(behind.unwrap_or_default());
        self.end = rest.map(str::to_owned);
    }
}

/// Finds the words in a chunk; `None` if it is not a usual one.
fn find(data: &str) -> Option<Found> {
    let mut found = None;
    Walk::new(data).members(|walk, key| match plain(key)? {
        "choices" if found.is_none() => {
            walk.eat(b'[')?;
            found = Some(choice(walk)?);
            walk.eat(b']')
        }
        "choices" | "error" | "usage" => is_one_of(walk, &["null"]),
        "object" => (walk.value()? != "\"error\"").then_some(()),
        "obfuscation" if walk.peek() == Some(b'"') => {
            let (padding, _) = placed(walk)?;
            if let Some(found) = &mut found {
                found.padding = Some(padding);
            }
            Some(())
        }
        _ => walk.value().map(drop),
    })?;
    found
}

fn choice(walk: &mut Walk<'_>) -> Option<Found> {
    let mut found = None;
    walk.members(|walk, key| match plain(key)? {
        "delta" if found.is_none() => {
            found = Some(delta(walk)?);
            Some(())
        }
        "index" => is_one_of(walk, &["0"]),
        "finish_reason" => is_one_of(walk, &["null", "\"\""]),
        "delta" | "message" | "error" => is_one_of(walk, &["null"]),
        _ => walk.value().map(drop),
    })?;
    found
}

fn delta(walk: &mut Walk<'_>) -> Option<Found> {
    let mut found: Option<Found> = None;
    walk.members(|walk, key| {
        let kind = match plain(key)? {
            "content" => Kind::Text,
            "reasoning" | "reasoning_content" => Kind::Thought,
            // Some servers send each field they know, with something in it or not.
            "refusal" => return is_one_of(walk, &["null", "\"\""]),
            "reasoning_details" => return is_one_of(walk, &["null", "[]"]),
            "tool_calls" if walk.peek() == Some(b'[') => {
                let call = call(walk)?;
                return found.replace(call).is_none().then_some(());
            }
            "tool_calls" => return is_one_of(walk, &["null"]),
            "function_call" | "extra_content" | "audio" | "annotations" => {
                return is_one_of(walk, &["null"]);
            }
            _ => return walk.value().map(drop),
        };
        if walk.peek() != Some(b'"') {
            return is_one_of(walk, &["null"]);
        }
        let (words, text) = placed(walk)?;
        if text == "\"\"" {
            return Some(());
        }
        let first = found.replace(Found { kind, words, padding: None });
        first.is_none().then_some(()) // words in two fields are not usual
    })?;
    found
}

/// A list of one call of which nothing but its index and a fragment of its arguments is said.
fn call(walk: &mut Walk<'_>) -> Option<Found> {
    let (mut index, mut words) = (None, None);
    walk.eat(b'[')?;
    walk.members(|walk, key| match plain(key)? {
        "index" => {
            index = Some(walk.value()?.parse().ok()?);
            Some(())
        }
        "type" => is_one_of(walk, &["\"function\"", "null"]),
        "id" => is_one_of(walk, &["null", "\"\""]),
        "function" => walk.members(|walk, key| match plain(key)? {
            "arguments" if walk.peek() == Some(b'"') => {
                words = Some(placed(walk)?.0);
                Some(())
            }
            "name" => is_one_of(walk, &["null", "\"\""]),
            _ => None,
        }),
        _ => None,
    })?;
    walk.eat(b']')?;
    Some(Found { kind: Kind::Arguments(index?), words: words?, padding: None })
}

/// A key without escapes.
fn plain(key: Written<'_>) -> Option<&str> {
    (!key.is_escaped).then_some(key.inside)
}

/// Takes a value: its place, and its text.
fn placed<'a>(walk: &mut Walk<'a>) -> Option<(Place, &'a str)> {
    let text = walk.value()?;
    Some(((walk.at() - text.len(), walk.at()), text))
}

/// Takes a value that says nothing new.
fn is_one_of(walk: &mut Walk<'_>, values: &[&str]) -> Option<()> {
    let value = walk.value()?;
    values.contains(&value).then_some(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use serde_json::json;

    use super::super::super::types::{Chunk, Piece};
    use super::*;

    /// What the types say that a chunk adds: its reasoning and its text; `None` if it says anything more.
    fn by_types(data: &str) -> Option<(String, String)> {
        let chunk: Chunk<'_> = serde_json::from_str(data).ok()?;
        let [choice] = chunk.choices.as_slice() else { return None };
        let ends = choice.finish_reason.as_ref().is_some_and(|why| !why.is_empty());
        let delta = choice.delta.as_ref()?;
        let says_more = chunk.usage.is_some()
            || chunk.error.is_some()
            || chunk.object.as_deref() == Some("error")
            || choice.index.0 != Some(0)
            || choice.message.is_some()
            || choice.error.is_some()
            || !delta.tool_calls.is_empty()
            || !delta.reasoning_details.is_empty()
            || delta.refusal.as_ref().is_some_and(|refusal| !refusal.is_empty())
            || delta.function_call.is_some()
            || delta.annotations.is_some();
        if ends || says_more {
            return None;
        }
        let mut text = String::new();
        for piece in &delta.content.0 {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Thinking(_) => return None,
            }
        }
        let thought = delta.reasoning_content.clone().unwrap_or_default();
        let thought = if thought.is_empty() { delta.reasoning.clone().unwrap_or_default() } else { thought };
        Some((thought.into_owned(), text))
    }

    /// What stands in a chunk of a server's: mostly nothing new.
    const FIELDS: &[(&str, &str)] = &[
        ("delta", r#""role":"assistant""#),
        ("delta", r#""refusal":null"#),
        ("delta", r#""refusal":"no""#),
        ("delta", r#""tool_calls":[]"#),
        ("delta", r#""tool_calls":[{"index":0,"id":"c","function":{"arguments":"{"}}]"#),
        ("delta", r#""reasoning":"""#),
        ("delta", r#""reasoning":"hm""#),
        ("delta", r#""reasoning_content":null"#),
        ("delta", r#""annotations":[]"#),
        ("delta", r#""content":[{"type":"text","text":"a"}]"#),
        ("choice", r#""logprobs":null"#),
        ("choice", r#""finish_reason":null"#),
        ("choice", r#""finish_reason":"""#),
        ("choice", r#""finish_reason":"stop""#),
        ("choice", r#""error":{"message":"broken"}"#),
        ("chunk", r#""id":"c\u0031""#),
        ("chunk", r#""usage":null"#),
        ("chunk", r#""usage":{"prompt_tokens":1}"#),
        ("chunk", r#""error":null"#),
        ("chunk", r#""error":"overloaded""#),
        ("chunk", r#""object":"chat.completion.chunk""#),
        ("chunk", r#""object":"error""#),
    ];

    /// A chunk with such fields, and words in one place.
    fn chunk(fields: &[usize], place: &str, words: &str, index: u64) -> String {
        let of = |at: &str| -> String {
            let chosen = fields.iter().filter_map(|nth| FIELDS.get(*nth)).filter(|field| field.0 == at);
            chosen.map(|field| format!("{},", field.1)).collect()
        };
        let (words, padding) = (json!(words), "x".repeat(words.len() % 5));
        format!(
            r#"{{{}"choices":[{{{}"index":{index},"delta":{{{}"{place}": {words}}}}}],"obfuscation":"{padding}"}}"#,
            of("chunk"),
            of("choice"),
            of("delta")
        )
    }

    proptest! {
        #[test]
        fn a_usual_chunk_says_what_the_types_say_and_no_more(
            fields in proptest::sample::subsequence((0..FIELDS.len()).collect::<Vec<_>>(), 0..4),
            place in "content|reasoning|reasoning_content",
            words in proptest::collection::vec("[ a\"\\\\\né]{0,6}", 1..4),
            index in 0u64..2,
        ) {
            let mut usual = Usual::default();
            for words in words {
                let data = chunk(&fields, &place, &words, index);
                if serde_json::from_str::<Chunk<'_>>(&data).is_ok() {
                    usual.learn(&data);
                }
                for more in [words.as_str(), "", "b\n\"", &data] {
                    let data = chunk(&fields, &place, more, index);
                    let Some((kind, said)) = usual.words(&data) else { continue };
                    let (thought, text) = by_types(&data).unwrap();
                    let (one, other) = if kind == Kind::Text { (text, thought) } else { (thought, text) };
                    prop_assert_eq!((said.text().unwrap().into_owned(), other), (one, String::new()), "{}", data);
                }
            }
        }
    }

    #[test]
    fn fragments_of_arguments_are_usual_unless_more_is_said_of_the_call() {
        let data = |call: &str| {
            format!(
                r#"{{"id":"1","choices":[{{"index":0,"delta":{{"content":null,"tool_calls":[{call}]}}}}]}}"#
            )
        };
        let fragment = data(r#"{"index":2,"function":{"arguments":"{\"a"}}"#);
        let mut usual = Usual::default();
        usual.learn(&fragment);
        let next = fragment.replace(r#"{\"a"#, r#"\":1"#);
        assert_eq!(usual.words(&next).map(|it| (it.0, it.1.inside)), Some((Kind::Arguments(2), r#"\":1"#)));
        for more in [
            r#"{"index":2,"id":"c","function":{"arguments":"{"}}"#,
            r#"{"index":2,"function":{"name":"f","arguments":"{"}}"#,
            r#"{"index":2,"function":{"arguments":{}}}"#,
            r#"{"index":2,"function":{"arguments":"{"},"extra_content":{}}"#,
            r#"{"index":2,"function":{"arguments":"{"}},{"index":3}"#,
            r#"{"function":{"arguments":"{"}}"#,
        ] {
            let mut usual = Usual::default();
            usual.learn(&data(more));
            assert_eq!(usual.words(&data(more)), None, "{more}");
        }
    }

    #[test]
    fn the_chunks_of_the_well_known_servers_are_usual() {
        let openai = r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt","service_tier":"default","system_fingerprint":"fp","choices":[{"index":0,"delta":{"content":" a\n"},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"Xy"}"#;
        let openrouter = r#"{"id":"gen-1","provider":"P","model":"m","object":"chat.completion.chunk","created":1,"choices":[{"index":0,"delta":{"role":"assistant","content":"","reasoning":"hm","reasoning_details":[]},"finish_reason":null,"native_finish_reason":null,"logprobs":null}]}"#;
        for (data, kind, words, next) in
            [(openai, Kind::Text, r" a\n", r" \u00e9"), (openrouter, Kind::Thought, "hm", "hm?")]
        {
            let mut usual = Usual::default();
            usual.learn(data);
            let data = data.replace(words, next).replace("Xy", "Xyz1");
            assert_eq!(usual.words(&data).map(|(kind, said)| (kind, said.inside)), Some((kind, next)));
            let cut = data.get(..data.len() - 1).unwrap();
            assert_eq!(usual.words(cut), None);
            let ended = data.replace(r#""finish_reason":null"#, r#""finish_reason":"stop""#);
            assert_eq!(usual.words(&ended), None);
        }
    }
}
