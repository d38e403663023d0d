//! Strings that end an answer, for upstreams that don't take them (all of them, or so many): looked for in the text
//! on its way to the caller.
//!
//! Source: Anthropic API reference, "Create a Message", `stop_sequences`: the answer ends before the string.

use std::sync::Arc;

/// Looks for the strings in a text that comes in pieces.
#[derive(Debug)]
pub(crate) struct Stops {
    list: Arc<[String]>,
    /// The end of the text so far, as long as it may be the beginning of one of the strings.
    held: String,
}

// === impl Stops ===

impl Stops {
    /// For these strings; `None` if there is nothing to look for.
    pub(crate) fn new(list: &Arc<[String]>) -> Option<Stops> {
        (!list.is_empty()).then(|| Stops { list: Arc::clone(list), held: String::new() })
    }

    /// Takes a piece of text, and gives what is surely part of the answer. The string that was met, if any: the
    /// answer has ended before it.
    pub(crate) fn feed(&mut self, piece: &str, give: &mut dyn FnMut(&str)) -> Option<String> {
        self.held.push_str(piece);
        let met = self.list.iter().filter_map(|stop| Some((self.held.find(stop.as_str())?, stop))).min();
        if let Some((at, stop)) = met {
            let text = self.held.get(..at).unwrap_or_default();
            if !text.is_empty() {
                give(text);
            }
            let stop = stop.clone();
            self.held.clear();
            return Some(stop);
        }
        let begun = self.list.iter().map(|stop| begun(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - begun);
        let safe = std::mem::replace(&mut self.held, rest);
        if !safe.is_empty() {
            give(&safe);
        }
        None
    }

    /// The text has ended: what was held back.
    pub(crate) fn rest(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// How many bytes at the end of `text` are the beginning of `stop`.
pub(crate) fn begun(text: &str, stop: &str) -> usize {
    let longest = stop.len().saturating_sub(1).min(text.len());
    (1..=longest).rev().find(|&n| stop.get(..n).is_some_and(|begin| text.ends_with(begin))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(list: &[&str], pieces: &[&str]) -> (String, Option<String>) {
        let list: Arc<[String]> = list.iter().map(|stop| (*stop).to_owned()).collect();
        let Some(mut stops) = Stops::new(&list) else { return (pieces.concat(), None) };
        let mut out = String::new();
        for piece in pieces {
            let met = stops.feed(piece, &mut |text| out.push_str(text));
            if met.is_some() {
                return (out, met);
            }
        }
        out.push_str(&stops.rest());
        (out, None)
    }

    #[test]
    fn the_answer_ends_before_the_first_string_that_is_met() {
        assert_eq!(split(&["END", "\n\n"], &["a E", "N", "D b"]), ("a ".into(), Some("END".into())));
        assert_eq!(split(&["END", "\n\n"], &["a\n", "\nEND"]), ("a".into(), Some("\n\n".into())));
        assert_eq!(split(&["END"], &["a EN"]), ("a EN".into(), None));
        assert_eq!(split(&[], &["a", "b"]), ("ab".into(), None));
    }

    proptest! {
        #[test]
        fn where_the_text_is_cut_makes_no_difference(text in "[abü]{0,24}", stop in "[abü]{1,4}", at in 0usize..48) {
            let at = text.floor_char_boundary(at.min(text.len()));
            let (left, right) = text.split_at(at);
            let whole = split(&[&stop], &[&text]);
            prop_assert_eq!(&split(&[&stop], &[left, right]), &whole);
            prop_assert_eq!(whole.0.as_str(), text.split(stop.as_str()).next().unwrap_or_default());
        }
    }
}
