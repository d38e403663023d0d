//! Values read out of text that is known to be JSON.
//!
//! For bodies that the [scan](crate::dialect::head) has walked through: their grammar is not checked a second time,
//! which is most of what serde_json does with them.

use serde::de::value::Error;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::Walk;
use super::raw::RAW;
use super::text::WRITTEN;

/// Reads a value. Where this is an error, serde_json may know better, and says what is wrong.
pub(crate) fn from_known<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, Error> {
    let mut known = Known { walk: Walk::new(text), depth: 0 };
    let value = T::deserialize(&mut known)?;
    if known.walk.peek().is_some() {
        return Err(Error::custom("more than one value"));
    }
    Ok(value)
}

/// A place in the text.
struct Known<'de> {
    walk: Walk<'de>,
    /// How many containers are open.
    depth: usize,
}

/// The inside of an object or a list.
struct Inside<'k, 'de> {
    known: &'k mut Known<'de>,
    close: u8,
    is_first: bool,
}

/// Most containers within one another.
const MAX_DEPTH: usize = 128;

/// `None` is: the text is not as it must be.
fn found<T>(value: Option<T>) -> Result<T, Error> {
    value.ok_or_else(|| Error::custom("not JSON"))
}

// === impl Known ===

impl<'de> Known<'de> {
    fn inside<T>(
        &mut self,
        close: u8,
        visit: impl FnOnce(&mut Inside<'_, 'de>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if self.depth == MAX_DEPTH {
            return Err(Error::custom("nested too deep"));
        }
        self.depth += 1;
        let value = visit(&mut Inside { known: self, close, is_first: true })?;
        self.depth -= 1;
        found(self.walk.eat(close))?;
        Ok(value)
    }

    /// A string with escapes as it is written; any other value as ever.
    fn written<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        if self.walk.peek() != Some(b'"') {
            return self.deserialize_any(visitor);
        }
        let written = found(self.walk.string())?;
        if written.is_escaped {
            visitor.visit_borrowed_bytes(written.inside.as_bytes())
        } else {
            visitor.visit_borrowed_str(written.inside)
        }
    }

    fn plain<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        match found(self.walk.value())? {
            "true" => visitor.visit_bool(true),
            "false" => visitor.visit_bool(false),
            "null" => visitor.visit_unit(),
            number => match (number.parse(), number.parse()) {
                (Ok(number), _) => visitor.visit_u64(number),
                (_, Ok(number)) => visitor.visit_i64(number),
                _ => visitor.visit_f64(found(number.parse().ok())?),
            },
        }
    }
}

impl<'de> Deserializer<'de> for &mut Known<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match found(self.walk.peek())? {
            b'"' => {
                let written = found(self.walk.string())?;
                if written.is_escaped {
                    visitor.visit_string(found(written.text())?.into_owned())
                } else {
                    visitor.visit_borrowed_str(written.inside)
                }
            }
            b'{' => {
                found(self.walk.eat(b'{'))?;
                self.inside(b'}', |members| visitor.visit_map(members))
            }
            b'[' => {
                found(self.walk.eat(b'['))?;
                self.inside(b']', |items| visitor.visit_seq(items))
            }
            _ => self.plain(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.walk.peek() == Some(b'n') { self.plain(visitor) } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        match name {
            WRITTEN => self.written(visitor),
            RAW => visitor.visit_borrowed_str(found(self.walk.value())?),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        found(self.walk.value())?;
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq
        tuple tuple_struct map struct enum identifier
    }
}

// === impl Inside ===

impl Inside<'_, '_> {
    /// Whether another value follows; takes the comma before it.
    fn goes_on(&mut self) -> Result<bool, Error> {
        if self.known.walk.peek() == Some(self.close) {
            return Ok(false);
        }
        if !std::mem::take(&mut self.is_first) {
            found(self.known.walk.eat(b','))?;
        }
        Ok(true)
    }
}

impl<'de> MapAccess<'de> for &mut Inside<'_, 'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        if self.goes_on()? { seed.deserialize(&mut *self.known).map(Some) } else { Ok(None) }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        found(self.known.walk.eat(b':'))?;
        seed.deserialize(&mut *self.known)
    }
}

impl<'de> SeqAccess<'de> for &mut Inside<'_, 'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        if self.goes_on()? { seed.deserialize(&mut *self.known).map(Some) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::borrow::Cow;
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::dialect::json::Raw;

    /// Some of each kind.
    #[derive(Debug, serde::Deserialize)]
    struct All<'a> {
        #[serde(borrow)]
        text: Cow<'a, str>,
        #[serde(borrow)]
        raw: Raw<'a>,
        #[serde(default)]
        none: Option<u8>,
        numbers: (u64, i64, f64),
        #[serde(borrow)]
        inner: Vec<BTreeMap<&'a str, bool>>,
    }

    proptest! {
        #[test]
        fn it_reads_what_serde_json_reads(
            text in any::<String>(),
            numbers in any::<(u64, i64, i32)>(),
            keys in proptest::collection::btree_map("[a-c]{1,3}", any::<bool>(), 0..4),
            pretty in any::<bool>(),
        ) {
            let numbers = (numbers.0, numbers.1, f64::from(numbers.2) / 4.0);
            let value = serde_json::json!({"none": null, "more": [{"a": text}], "text": text, "numbers": numbers,
                "inner": [keys, {}], "raw": {"a": [text, "]"]}});
            let json = if pretty { serde_json::to_string_pretty(&value).unwrap() } else { value.to_string() };
            let (ours, theirs): (All<'_>, All<'_>) =
                (from_known(&json).unwrap(), serde_json::from_str(&json).unwrap());
            prop_assert_eq!(&ours.text, &theirs.text);
            prop_assert_eq!(ours.raw.get(), theirs.raw.get());
            prop_assert_eq!((ours.none, ours.numbers, ours.inner), (theirs.none, theirs.numbers, theirs.inner));
            prop_assert_eq!(from_known::<Value>(&json).unwrap(), value);
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        assert!(from_known::<Vec<u8>>("[1,2]").is_ok());
        for wrong in ["[1,300]", "[1,-1]", "[\"1\"]", "{}", "[1 2]", "[1", "[1] 2", "", "[[1]]"] {
            assert!(from_known::<Vec<u8>>(wrong).is_err(), "{wrong}");
        }
        let deep = "[".repeat(MAX_DEPTH + 1) + &"]".repeat(MAX_DEPTH + 1);
        assert!(from_known::<Value>(&deep).is_err());
    }
}
