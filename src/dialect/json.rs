//! What reading and writing JSON text needs in more than one place: finding the bytes of a string that are
//! not plain, writing an escaped string, and values that take what servers really send.
//!
//! Source: RFC 8259 (the JSON grammar, section 7 for strings).

mod block;
mod known;
pub(crate) mod lexer;
mod raw;
mod text;
mod walk;

pub(crate) use known::from_known;
pub use lexer::is_json;
pub use raw::Raw;
pub use text::Text;
pub(crate) use text::deserialize_written;
pub(crate) use walk::{Walk, Written};

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use bytes::{BufMut, BytesMut};
use serde::de::{Deserialize, Deserializer, IgnoredAny, Visitor};
use serde_json::Value;

/// Where the next byte stands, at or after `from`, that a JSON string can't hold as it is: a quote, a
/// backslash, or a control character. `bytes.len()` if there is none.
pub fn find_special(bytes: &[u8], from: usize) -> usize {
    // Most strings are short (keys): first 16 bytes by words. Long ones by blocks that compile to vectors.
    let mut at = from;
    for _ in 0..2 {
        match word_at(bytes, at).map(special_in_word) {
            Some(None) => at += 8,
            Some(Some(offset)) => return at + offset,
            None => break,
        }
    }
    while let Some(block) = bytes.get(at..).and_then(|rest| rest.first_chunk::<32>()) {
        let hit = block.iter().fold(false, |hit, &b| hit | (b == b'"') | (b == b'\\') | (b < 0x20));
        if hit {
            break;
        }
        at += 32;
    }
    while let Some(word) = word_at(bytes, at) {
        match special_in_word(word) {
            Some(offset) => return at + offset,
            None => at += 8,
        }
    }
    let rest = bytes.get(at..).unwrap_or_default();
    rest.iter().position(|&b| is_special(b)).map_or(bytes.len(), |offset| at + offset)
}

fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

fn word_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk::<8>().map(|word| u64::from_le_bytes(*word))
}

/// The offset of the first special byte of eight. A borrow can only spoil bytes above a true hit.
fn special_in_word(word: u64) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = ONES << 7;
    let quote = word ^ (ONES * b'"' as u64);
    let slash = word ^ (ONES * b'\\' as u64);
    let hit = ((quote.wrapping_sub(ONES) & !quote)
        | (slash.wrapping_sub(ONES) & !slash)
        | (word.wrapping_sub(ONES * 0x20) & !word))
        & HIGHS;
    (hit != 0).then(|| hit.trailing_zeros() as usize / 8)
}

/// Writes `text` as a JSON string, quotes included.
pub fn write_str(out: &mut BytesMut, text: &str) {
    out.put_u8(b'"');
    write_escaped(out, text);
    out.put_u8(b'"');
}

/// Writes `text` as the inside of a JSON string.
pub fn write_escaped(out: &mut impl BufMut, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    let mut from = 0;
    loop {
        let at = find_special(bytes, from);
        out.put_slice(bytes.get(from..at).unwrap_or_default());
        let Some(&byte) = bytes.get(at) else { return };
        match byte {
            b'"' => out.put_slice(b"\\\""),
            b'\\' => out.put_slice(b"\\\\"),
            b'\n' => out.put_slice(b"\\n"),
            b'\r' => out.put_slice(b"\\r"),
            b'\t' => out.put_slice(b"\\t"),
            other => {
                out.put_slice(b"\\u00");
                out.put_u8(HEX[usize::from(other >> 4) & 15]);
                out.put_u8(HEX[usize::from(other) & 15]);
            }
        }
        from = at + 1;
    }
}

/// Writes a number.
pub fn write_u64(out: &mut BytesMut, number: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Whether `text` is exactly one JSON object.
pub fn is_object(text: &str) -> bool {
    text.trim_start().starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// A JSON string, borrowed unless it holds escapes. (`Option<Cow<str>>` would always copy.)
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Str<'a>(pub Cow<'a, str>);

/// A count as servers send it: a whole number, a float, or something below zero (read as zero).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count(pub u64);

/// An object: its keys (as written, with their quotes) and values in order, unparsed.
pub(crate) struct Fields<'a>(pub(crate) Vec<(&'a str, Raw<'a>)>);

/// The body with fields of the user's config at its top level, in front; fields of the same name give way to them.
pub(crate) fn with_extra(body: Vec<u8>, extra: Option<&BTreeMap<String, Value>>) -> Vec<u8> {
    let Some(extra) = extra.filter(|extra| !extra.is_empty()) else { return body };
    let Ok(Fields(fields)) = serde_json::from_slice::<Fields<'_>>(&body) else { return body };
    let given = extra.iter().map(|(key, value)| (Value::from(key.as_str()).to_string(), value.to_string()));
    let mut all: Vec<(String, String)> = given.collect();
    let ours = fields.into_iter().filter(|(key, _)| all.iter().all(|(given, _)| given != key));
    let ours: Vec<_> = ours.map(|(key, value)| (key.to_owned(), value.get().to_owned())).collect();
    all.extend(ours);
    let pairs: Vec<String> = all.into_iter().map(|(key, value)| format!("{key}:{value}")).collect();
    format!("{{{}}}", pairs.join(",")).into_bytes()
}

// === impl Str ===

impl std::ops::Deref for Str<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Str<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StrVisitor;
        impl<'de> Visitor<'de> for StrVisitor {
            type Value = Str<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Str<'de>, E> {
                Ok(Str(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Str<'de>, E> {
                Ok(Str(Cow::Owned(text.to_owned())))
            }

            fn visit_string<E>(self, text: String) -> Result<Str<'de>, E> {
                Ok(Str(Cow::Owned(text)))
            }
        }
        deserializer.deserialize_str(StrVisitor)
    }
}

// === impl Fields ===

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Fields<'a>, D::Error> {
        struct InOrder;

        impl<'de> serde::de::Visitor<'de> for InOrder {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some(key) = map.next_key::<Raw<'de>>()? {
                    fields.push((key.get(), map.next_value::<Raw<'de>>()?));
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

// === impl Count ===

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CountVisitor;
        impl Visitor<'_> for CountVisitor {
            type Value = Count;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }

            fn visit_u64<E>(self, number: u64) -> Result<Count, E> {
                Ok(Count(number))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Count, E> {
                Ok(Count(u64::try_from(number).unwrap_or(0)))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Count, E> {
                Ok(Count(number as u64)) // saturates; below zero and NaN become zero
            }
        }
        deserializer.deserialize_any(CountVisitor)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_written_string_reads_back_as_it_was(text in any::<String>()) {
            let mut out = BytesMut::new();
            write_str(&mut out, &text);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }

        #[test]
        fn the_search_finds_what_a_plain_loop_finds(bytes in proptest::collection::vec(any::<u8>(), 0..120), pad in 0usize..90) {
            let mut bytes = bytes;
            bytes.splice(0..0, std::iter::repeat_n(b'x', pad));
            let plain = bytes.iter().position(|&b| is_special(b)).unwrap_or(bytes.len());
            prop_assert_eq!(find_special(&bytes, 0), plain);
        }

        #[test]
        fn numbers_are_written_as_display_does(number in any::<u64>()) {
            let mut out = BytesMut::new();
            write_u64(&mut out, number);
            prop_assert_eq!(std::str::from_utf8(&out).unwrap(), number.to_string());
        }
    }
}
