//! Text on its way through.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::ops::Deref;

use serde::de::Deserializer;

use super::Written;

/// The text of a JSON string, which may still be as it was written: whoever only passes it on neither reads its
/// escapes nor writes them anew. Whoever looks at it reads it, once.
#[derive(Clone, Debug)]
pub struct Text<'a> {
    form: Form<'a>,
    read: OnceCell<String>,
}

/// How a text is there.
#[derive(Clone, Debug)]
enum Form<'a> {
    Read(Cow<'a, str>),
    /// As it stands between the quotes. It can be read.
    Written(&'a str),
}

/// By this name a text asks for a string as it is written. Readers that don't know the name read it.
pub(super) const WRITTEN: &str = "cproxy::json::Text";

// === impl Text ===

impl<'a> Text<'a> {
    /// A text as it stands between its quotes; `None` if it has escapes that are none.
    pub(crate) fn written(inside: &'a str) -> Option<Text<'a>> {
        let written = Written { inside, is_escaped: true };
        // Of escapes only those with numbers can be wrong. (This finds some others, too.)
        let form = match memchr::memmem::find(inside.as_bytes(), b"\\u") {
            None => Form::Written(inside),
            Some(_) => Form::Read(written.text()?),
        };
        Some(Text { form, read: OnceCell::new() })
    }

    /// The same of bytes, for a visitor that [asked](deserialize_written) for them.
    pub(crate) fn of_bytes<E: serde::de::Error>(written: &'a [u8]) -> Result<Text<'a>, E> {
        let text = std::str::from_utf8(written).ok().and_then(Text::written);
        text.ok_or_else(|| E::custom("a string with escapes that are none"))
    }

    /// As it is written between quotes, if that is known.
    pub(crate) fn as_written(&self) -> Option<&str> {
        match self.form {
            Form::Written(inside) => Some(inside),
            Form::Read(_) => None,
        }
    }

    /// Whether there is none. Needs no reading.
    pub(crate) fn is_empty(&self) -> bool {
        match &self.form {
            Form::Read(text) => text.is_empty(),
            Form::Written(inside) => inside.is_empty(),
        }
    }

    /// Whether it begins so. Needs no reading; `start` must be of characters that are never escaped but by number.
    pub(crate) fn begins(&self, start: &str) -> bool {
        match &self.form {
            Form::Read(text) => text.starts_with(start),
            Form::Written(inside) => inside.starts_with(start),
        }
    }

    /// The text as a value.
    pub(crate) fn into_cow(self) -> Cow<'a, str> {
        match self.form {
            Form::Read(text) => text,
            Form::Written(_) => Cow::Owned(self.to_string()),
        }
    }
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match &self.form {
            Form::Read(text) => text,
            Form::Written(inside) => self.read.get_or_init(|| {
                let written = Written { inside, is_escaped: true };
                written.text().unwrap_or_default().into_owned()
            }),
        }
    }
}

impl AsRef<str> for Text<'_> {
    fn as_ref(&self) -> &str {
        self
    }
}

impl Default for Text<'_> {
    fn default() -> Self {
        Text::from("")
    }
}

impl<'a, T: Into<Cow<'a, str>>> From<T> for Text<'a> {
    fn from(text: T) -> Text<'a> {
        Text { form: Form::Read(text.into()), read: OnceCell::new() }
    }
}

impl Text<'_> {
    /// The same text, borrowed.
    pub(crate) fn borrowed(&self) -> Text<'_> {
        match &self.form {
            Form::Read(text) => Text::from(text.as_ref()),
            Form::Written(inside) => Text { form: Form::Written(inside), read: OnceCell::new() },
        }
    }
}

impl std::fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self)
    }
}

/// Asks for a value; strings with escapes may come as bytes, which are the string as it is written.
pub(crate) fn deserialize_written<'de, D, V>(deserializer: D, visitor: V) -> Result<V::Value, D::Error>
where
    D: Deserializer<'de>,
    V: serde::de::Visitor<'de>,
{
    deserializer.deserialize_newtype_struct(WRITTEN, visitor)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_text_is_the_same_whether_it_was_read_or_not(text in any::<String>(), more in "[\\x00-\\x1f\"\\\\/é]{0,8}") {
            let text = text + &more;
            let json = serde_json::Value::from(text.as_str()).to_string();
            let written = Text::written(&json[1..json.len() - 1]).unwrap();
            prop_assert_eq!(written.is_empty(), text.is_empty());
            prop_assert_eq!(&*written.borrowed(), text.as_str());
            prop_assert_eq!(written.into_cow(), text);
        }
    }

    #[test]
    fn plain_escapes_stay_as_they_are_and_numbered_ones_are_read() {
        assert_eq!(Text::written(r#"a\n\"b\/"#).unwrap().as_written(), Some(r#"a\n\"b\/"#));
        let numbered = Text::written(r"\u00e9").unwrap();
        assert_eq!((numbered.as_written(), &*numbered), (None, "é"));
        assert!(Text::written(r"\ud83d").is_none(), "half a pair is no text");
    }
}
