//! Reasoning in answers: OpenRouter's details put together again, and `<think>` tags found in text.

use super::types::Detail;
use super::write::Json;
use crate::dialect::stops::begun;

/// `reasoning_details` as they arrive in pieces, put together by index and type.
#[derive(Debug, Default)]
pub(crate) struct Details {
    list: Vec<Whole>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Whole {
    kind: String,
    index: Option<u64>,
    id: Option<String>,
    format: Option<String>,
    text: Option<String>,
    summary: Option<String>,
    data: Option<String>,
    signature: Option<String>,
}

/// Finds reasoning that stands between `<think>` tags at the start of a text which comes in pieces.
#[derive(Debug, Default)]
pub(crate) struct ThinkTags {
    state: TagState,
    held: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum TagState {
    /// Nothing but white space yet, or the beginning of a tag.
    #[default]
    Start,
    /// Between the tags.
    Inside,
    /// Behind the closing tag, before the text: white space goes.
    After,
    /// In a text that began without a tag, and has had none.
    Text,
    /// In the text: tags are text, too.
    Plain,
}

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

// === impl Details ===

impl Details {
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many bytes are held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a piece.
    pub(crate) fn add(&mut self, piece: &Detail<'_>) {
        fn append(to: &mut Option<String>, piece: &Option<std::borrow::Cow<'_, str>>) -> usize {
            let Some(piece) = piece else { return 0 };
            to.get_or_insert_default().push_str(piece);
            piece.len()
        }
        fn set(to: &mut Option<String>, piece: &Option<std::borrow::Cow<'_, str>>) -> usize {
            let Some(piece) = piece.as_deref().filter(|piece| !piece.is_empty()) else { return 0 };
            *to = Some(piece.to_owned());
            piece.len()
        }
        let kind = piece.kind.as_deref().unwrap_or_default();
        let known = self.list.iter().rposition(|whole| whole.kind == kind && whole.index == piece.index.0);
        let at = match known {
            // Encrypted data never comes in pieces.
            Some(at) if piece.data.is_none() => at,
            _ => {
                self.list.push(Whole { kind: kind.to_owned(), index: piece.index.0, ..Whole::default() });
                self.list.len() - 1
            }
        };
        let Some(whole) = self.list.get_mut(at) else { return };
        self.bytes += 64;
        self.bytes += append(&mut whole.text, &piece.text) + append(&mut whole.summary, &piece.summary);
        self.bytes += set(&mut whole.data, &piece.data) + set(&mut whole.signature, &piece.signature);
        self.bytes += set(&mut whole.id, &piece.id) + set(&mut whole.format, &piece.format);
    }

    /// The details as JSON, and forgets them. A text that the reader sees anyway is left out if it is the only
    /// one: whoever reads the carrier has it from the block.
    pub(crate) fn take_json(&mut self, shown: &str) -> String {
        let list = std::mem::take(&mut self.list);
        self.bytes = 0;
        let texts = list.iter().filter(|whole| whole.text.is_some()).count();
        let mut json = Json::default();
        json.array(|json| {
            for whole in &list {
                json.object(|json| {
                    json.key("type").string(&whole.kind);
                    let known = texts == 1 && !shown.is_empty() && whole.text.as_deref() == Some(shown);
                    let text = if known { &None } else { &whole.text };
                    let fields = [
                        ("text", text),
                        ("summary", &whole.summary),
                        ("data", &whole.data),
                        ("signature", &whole.signature),
                        ("id", &whole.id),
                        ("format", &whole.format),
                    ];
                    for (key, value) in fields {
                        if let Some(value) = value {
                            json.key(key).string(value);
                        }
                    }
                    if let Some(index) = whole.index {
                        json.key("index").number(index);
                    }
                });
            }
        });
        json.finish_string()
    }
}

// === impl ThinkTags ===

impl ThinkTags {
    /// Takes a piece of text, and gives each (is reasoning, piece).
    pub(crate) fn feed(&mut self, piece: &str, give: &mut dyn FnMut(bool, &str)) {
        if self.state == TagState::Plain {
            give(false, piece);
            return;
        }
        self.held.push_str(piece);
        let mut held = std::mem::take(&mut self.held);
        loop {
            match self.state {
                TagState::Start => {
                    let trimmed = held.trim_start();
                    if let Some(rest) = trimmed.strip_prefix(OPEN) {
                        held = rest.to_owned();
                        self.state = TagState::Inside;
                    } else if OPEN.starts_with(trimmed) {
                        self.held = held;
                        return;
                    } else {
                        self.state = TagState::Text;
                    }
                }
                TagState::Inside => match held.find(CLOSE) {
                    Some(at) => {
                        give(true, held.get(..at).unwrap_or_default());
                        held = held.get(at + CLOSE.len()..).unwrap_or_default().to_owned();
                        self.state = TagState::After;
                    }
                    None => {
                        let safe = held.len() - begun(&held, CLOSE);
                        give(true, held.get(..safe).unwrap_or_default());
                        self.held = held.get(safe..).unwrap_or_default().to_owned();
                        return;
                    }
                },
                TagState::After => {
                    let text = held.trim_start();
                    if text.is_empty() {
                        return;
                    }
                    self.state = TagState::Plain;
                    give(false, text);
                    return;
                }
                // A template that opens the reasoning itself leaves its end alone in the text.
                TagState::Text => match (held.find(OPEN), held.find(CLOSE)) {
                    (None, Some(at)) => {
                        give(false, held.get(..at).unwrap_or_default());
                        held = held.get(at + CLOSE.len()..).unwrap_or_default().to_owned();
                        self.state = TagState::Plain;
                    }
                    (Some(open), Some(close)) if close < open => {
                        give(false, held.get(..close).unwrap_or_default());
                        held = held.get(close + CLOSE.len()..).unwrap_or_default().to_owned();
                        self.state = TagState::Plain;
                    }
                    (Some(_), _) => self.state = TagState::Plain,
                    (None, None) => {
                        let safe = held.len() - begun(&held, CLOSE).max(begun(&held, OPEN));
                        give(false, held.get(..safe).unwrap_or_default());
                        self.held = held.get(safe..).unwrap_or_default().to_owned();
                        return;
                    }
                },
                TagState::Plain => {
                    give(false, &held);
                    return;
                }
            }
        }
    }

    /// The text has ended: what was held back.
    pub(crate) fn finish(&mut self, give: &mut dyn FnMut(bool, &str)) {
        let held = std::mem::take(&mut self.held);
        if !held.is_empty() && self.state != TagState::After {
            give(self.state == TagState::Inside, &held);
        }
        self.state = TagState::Plain;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(pieces: &[&str]) -> (String, String) {
        let (mut reasoning, mut text) = (String::new(), String::new());
        let mut tags = ThinkTags::default();
        let mut give = |is_reasoning: bool, piece: &str| {
            if is_reasoning { reasoning.push_str(piece) } else { text.push_str(piece) }
        };
        for piece in pieces {
            tags.feed(piece, &mut give);
        }
        tags.finish(&mut give);
        (reasoning, text)
    }

    #[test]
    fn only_tags_at_the_start_count() {
        assert_eq!(split(&["\n<thi", "nk>a", "b</th", "ink>\n\n", "c"]), ("ab".into(), "c".into()));
        assert_eq!(split(&["say <think>x</think>"]), (String::new(), "say <think>x</think>".into()));
        assert_eq!(split(&["<th"]), (String::new(), "<th".into()));
        assert_eq!(split(&["a <", "/thi", "nk>\n\nb </think>"]), (String::new(), "a \n\nb </think>".into()));
        assert_eq!(split(&["<think>cut"]), ("cut".into(), String::new()));
    }

    proptest! {
        #[test]
        fn where_the_text_is_cut_makes_no_difference(text in "(<think>)?[a<>/think ]{0,30}(</think>)?[a< ]{0,9}", at in 0usize..60) {
            let at = at.min(text.len());
            let (left, right) = text.split_at(at);
            prop_assert_eq!(split(&[left, right]), split(&[&text]));
        }
    }
}
