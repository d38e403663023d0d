//! A walk through text that is known to be JSON: which value comes next, and where it ends.
//!
//! The grammar is not checked again. In other text the walk finds nothing or nonsense, but it always ends.

use std::borrow::Cow;

use super::block::{Marks, SIZE};
use super::find_special;

/// A place in a JSON text.
#[derive(Clone, Debug)]
pub(crate) struct Walk<'a> {
    text: &'a str,
    at: usize,
    /// The block in which the marks of strings were last looked for, and where they stand: one bit for each.
    block: usize,
    marks: u64,
}

/// A string as it is written, without its quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written<'a> {
    /// What stands between the quotes.
    pub(crate) inside: &'a str,
    /// Whether that holds escapes.
    pub(crate) is_escaped: bool,
}

// === impl Walk ===

impl<'a> Walk<'a> {
    /// A walk that begins before the first byte.
    pub(crate) fn new(text: &'a str) -> Walk<'a> {
        Walk { text, at: 0, block: usize::MAX, marks: 0 }
    }

    /// How many bytes are behind it.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// The next byte that is no white space, not taken.
    #[inline]
    pub(crate) fn peek(&mut self) -> Option<u8> {
        loop {
            match self.text.as_bytes().get(self.at)? {
                b' ' | b'\n' | b'\r' | b'\t' => self.at += 1,
                other => return Some(*other),
            }
        }
    }

    /// Takes the next byte that is no white space, if it is this one.
    #[inline]
    pub(crate) fn eat(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// Takes an object; `member` is given each key, and must take its value.
    #[inline]
    pub(crate) fn members(
        &mut self,
        mut member: impl FnMut(&mut Self, Written<'a>) -> Option<()>,
    ) -> Option<()> {
        self.eat(b'{')?;
        if self.eat(b'}').is_some() {
            return Some(());
        }
        loop {
            let key = self.string()?;
            self.eat(b':')?;
            member(self, key)?;
            if self.eat(b',').is_none() {
                return self.eat(b'}');
            }
        }
    }

    /// Takes a list; `item` must take each value.
    #[inline]
    pub(crate) fn list(&mut self, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.eat(b'[')?;
        if self.eat(b']').is_some() {
            return Some(());
        }
        loop {
            item(self)?;
            if self.eat(b',').is_none() {
                return self.eat(b']');
            }
        }
    }

    /// The next quote or backslash of a string, taken. (Control characters are none of JSON's.) They stand close together, so a whole block is looked at in one go, and
    /// its findings are kept.
    #[inline]
    fn next_mark(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        loop {
            let block = self.at / SIZE;
            if block != self.block {
                let rest = bytes.get(block * SIZE..).filter(|rest| !rest.is_empty())?;
                self.block = block;
                self.marks = Marks::of(rest).specials;
            }
            let ahead = self.marks >> (self.at % SIZE);
            if ahead != 0 {
                self.at += ahead.trailing_zeros() as usize + 1;
                return bytes.get(self.at - 1).copied();
            }
            self.at = (block + 1) * SIZE;
        }
    }

    /// Takes a string.
    #[inline]
    pub(crate) fn string(&mut self) -> Option<Written<'a>> {
        self.eat(b'"')?;
        let start = self.at;
        let mut is_escaped = false;
        while self.next_mark()? == b'\\' {
            self.at += 1;
            is_escaped = true;
        }
        Some(Written { inside: self.text.get(start..self.at - 1)?, is_escaped })
    }

    /// Takes any value, and gives its text.
    pub(crate) fn value(&mut self) -> Option<&'a str> {
        let first = self.peek()?;
        let start = self.at;
        match first {
            b'"' => drop(self.string()?),
            b'{' | b'[' => self.container()?,
            _ => {
                let bytes = self.text.as_bytes().get(start..)?;
                let is_end = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t');
                self.at += bytes.iter().position(is_end).unwrap_or(bytes.len());
            }
        }
        self.text.get(start..self.at)
    }

    /// Takes an object or a list. A loop, so that hostile nesting costs no stack.
    fn container(&mut self) -> Option<()> {
        let mut open = 0usize;
        loop {
            let byte = *self.text.as_bytes().get(self.at)?;
            self.at += 1;
            match byte {
                b'"' => {
                    while self.next_mark()? == b'\\' {
                        self.at += 1;
                    }
                }
                b'{' | b'[' => open += 1,
                b'}' | b']' if open == 1 => return Some(()),
                b'}' | b']' => open -= 1,
                _ => {}
            }
        }
    }
}

// === impl Written ===

impl<'a> Written<'a> {
    /// The string with which a text begins, if it begins with one. Here the grammar is checked.
    pub(crate) fn at_start_of(text: &'a str) -> Option<Written<'a>> {
        let bytes = text.as_bytes();
        if bytes.first() != Some(&b'"') {
            return None;
        }
        let (mut at, mut is_escaped) = (1, false);
        loop {
            at = find_special(bytes, at);
            match bytes.get(at)? {
                b'"' => return Some(Written { inside: text.get(1..at)?, is_escaped }),
                b'\\' => {
                    is_escaped = true;
                    at += match bytes.get(at + 1)? {
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => 2,
                        b'u' if bytes.get(at + 2..at + 6)?.iter().all(u8::is_ascii_hexdigit) => 6,
                        _ => return None,
                    };
                }
                _ => return None,
            }
        }
    }

    /// The text; `None` if its escapes are none (half a surrogate pair).
    pub(crate) fn text(&self) -> Option<Cow<'a, str>> {
        if !self.is_escaped {
            return Some(Cow::Borrowed(self.inside));
        }
        let mut text = String::with_capacity(self.inside.len());
        let mut rest = self.inside;
        while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
            text.push_str(rest.get(..at)?);
            text.push(match rest.as_bytes().get(at + 1)? {
                b'n' => '\n',
                b't' => '\t',
                b'r' => '\r',
                b'b' => '\u{8}',
                b'f' => '\u{c}',
                // Numbered escapes may come in pairs: seldom, and not ours to know.
                b'u' => return serde_json::from_str(&format!("\"{}\"", self.inside)).ok().map(Cow::Owned),
                other => char::from(*other),
            });
            rest = rest.get(at + 2..)?;
        }
        text.push_str(rest);
        Some(Cow::Owned(text))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// Any JSON value.
    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<i16>().prop_map(|number| Value::from(f64::from(number) / 8.0)),
            "[ a\"\\\\\\n\\[\\]{}é]{0,90}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::vec(("[a\"\\\\é]{0,5}", inner), 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_value_ends_where_it_ends(value in json(), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&value).unwrap() } else { value.to_string() };
            for around in ["", " ", ",", "]", "}"] {
                let within = format!("{text}{around}");
                prop_assert_eq!(Walk::new(&within).value(), Some(text.as_str()));
            }
        }

        #[test]
        fn members_and_items_are_those_that_serde_json_finds(value in json()) {
            let text = value.to_string();
            let mut walk = Walk::new(&text);
            let mut found: Vec<(String, Value)> = Vec::new();
            let mut add = |key: String, value: &str| found.push((key, serde_json::from_str(value).unwrap()));
            match &value {
                Value::Object(members) => {
                    walk.members(|walk, key| {
                        add(key.text()?.into_owned(), walk.value()?);
                        Some(())
                    })
                    .unwrap();
                    prop_assert_eq!(found, members.clone().into_iter().collect::<Vec<_>>());
                }
                Value::Array(items) => {
                    walk.list(|walk| {
                        add(String::new(), walk.value()?);
                        Some(())
                    })
                    .unwrap();
                    prop_assert_eq!(found.into_iter().map(|(_, item)| item).collect::<Vec<_>>(), items.clone());
                }
                _ => prop_assert_eq!(walk.value(), Some(text.as_str())),
            }
            prop_assert_eq!(walk.at(), text.len());
        }

        #[test]
        fn every_walk_ends(text in "[\\[\\]{}\",:\\\\ a1é]{0,200}") {
            let mut walk = Walk::new(&text);
            while walk.value().is_some_and(|value| !value.is_empty()) {}
            prop_assert!(walk.at() <= text.len().next_multiple_of(SIZE) + 1);
            Walk::new(&text).members(|walk, _| walk.value().map(drop));
        }

        #[test]
        fn strings_are_read_as_they_were_written(text in any::<String>(), more in "[\\x00-\\x1f\"\\\\/é]{0,8}") {
            let text = text + &more;
            let json = Value::from(text.as_str()).to_string();
            let written = Walk::new(&json).string().unwrap();
            prop_assert_eq!(written.text(), Some(text.into()));
            let more = format!("{json}\"");
            prop_assert_eq!(Written::at_start_of(&more), Some(written));
        }

        #[test]
        fn what_is_no_string_is_not_taken_for_one(text in "\"(\\\\[nu\"x0]|0041|a|\\n|é){0,6}\"?") {
            if let Some(written) = Written::at_start_of(&text) {
                let json = format!("\"{}\"", written.inside);
                prop_assert!(serde_json::from_str::<serde::de::IgnoredAny>(&json).is_ok(), "{}", json);
            }
        }
    }

    #[test]
    fn half_a_pair_is_no_text() {
        assert_eq!(Walk::new(r#""\ud83d\ude00""#).string().and_then(|it| it.text()), Some("😀".into()));
        assert_eq!(Walk::new(r#""\ud83d""#).string().and_then(|written| written.text()), None);
    }
}
