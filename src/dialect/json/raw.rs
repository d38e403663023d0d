//! Values that are passed on unread.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde_json::value::RawValue;

/// The text of a JSON value. Unlike serde_json's `RawValue` it can be had from readers of our own, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw<'a>(&'a str);

/// By this name a raw value asks for its text. serde_json, which doesn't know the name, is asked for its `RawValue`.
pub(super) const RAW: &str = "cproxy::json::Raw";

// === impl Raw ===

impl<'a> Raw<'a> {
    /// The text, without white space around it.
    pub fn get(self) -> &'a str {
        self.0
    }
}

impl<'a> From<&'a RawValue> for Raw<'a> {
    fn from(raw: &'a RawValue) -> Raw<'a> {
        Raw(raw.get())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Raw<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Raw<'a>, D::Error> {
        struct Take;

        impl<'de> Visitor<'de> for Take {
            type Value = Raw<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Raw<'de>, E> {
                Ok(Raw(text))
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, json: D) -> Result<Raw<'de>, D::Error> {
                <&RawValue>::deserialize(json).map(Raw::from)
            }
        }

        deserializer.deserialize_newtype_struct(RAW, Take)
    }
}
