//! Where an image's or a document's bytes are.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use super::{Content, text};

/// Where an image's or a document's bytes are.
#[derive(Debug, Default)]
pub enum Source<'a> {
    /// Nowhere.
    #[default]
    None,
    /// A string: the source of a `search_result`.
    Text(Cow<'a, str>),
    /// An object.
    Object(Box<SourceObject<'a>>),
}

/// The object form of a source.
#[derive(Debug, Default, serde::Deserialize)]
pub struct SourceObject<'a> {
    /// `base64`, `url`, `file`, `text` or `content`.
    #[serde(borrow, rename = "type", default, deserialize_with = "text")]
    pub kind: Option<Cow<'a, str>>,
    /// The media type.
    #[serde(borrow, default, deserialize_with = "text")]
    pub media_type: Option<Cow<'a, str>>,
    /// The data: base64, or text.
    #[serde(borrow, default, deserialize_with = "text")]
    pub data: Option<Cow<'a, str>>,
    /// The address.
    #[serde(borrow, default, deserialize_with = "text")]
    pub url: Option<Cow<'a, str>>,
    /// A file at Anthropic.
    #[serde(borrow, default, deserialize_with = "text")]
    pub file_id: Option<Cow<'a, str>>,
    /// Blocks in place of data.
    #[serde(borrow, default)]
    pub content: Content<'a>,
}

// === impl Source ===

impl<'de: 'a, 'a> Deserialize<'de> for Source<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Source<'a>, D::Error> {
        struct SourceVisitor<'a>(PhantomData<&'a ()>);

        impl<'de: 'a, 'a> Visitor<'de> for SourceVisitor<'a> {
            type Value = Source<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a source")
            }
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Source<'a>, E> {
                Ok(Source::Text(Cow::Borrowed(text)))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Source<'a>, E> {
                Ok(Source::Text(Cow::Owned(text.to_owned())))
            }
            fn visit_unit<E: Error>(self) -> Result<Source<'a>, E> {
                Ok(Source::None)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Source<'a>, A::Error> {
                let object = SourceObject::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(Source::Object(Box::new(object)))
            }
        }

        deserializer.deserialize_any(SourceVisitor(PhantomData))
    }
}
