//! Writes JSON into one buffer, without a tree before it.

use crate::dialect::json::{Raw, Text, write_escaped};

/// A JSON text under construction. Who writes keeps brackets and keys in order; commas come by themselves.
#[derive(Debug, Default)]
pub(crate) struct Json {
    out: Vec<u8>,
    comma: bool,
}

// === impl Json ===

impl Json {
    /// An empty text with room for `capacity` bytes.
    pub(crate) fn with_capacity(capacity: usize) -> Json {
        Json { out: Vec::with_capacity(capacity), comma: false }
    }

    /// The text.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.out
    }

    /// The text as a string. What isn't UTF-8 can't get in.
    pub(crate) fn finish_string(self) -> String {
        String::from_utf8(self.out).unwrap_or_default()
    }

    fn value(&mut self, bytes: &[u8]) {
        self.separate();
        self.out.extend_from_slice(bytes);
        self.comma = true;
    }

    fn separate(&mut self) {
        if self.comma {
            self.out.push(b',');
        }
    }

    fn open(&mut self, bracket: u8) {
        self.separate();
        self.out.push(bracket);
        self.comma = false;
    }

    fn close(&mut self, bracket: u8) {
        self.out.push(bracket);
        self.comma = true;
    }

    pub(crate) fn object(&mut self, inner: impl FnOnce(&mut Json)) {
        self.open(b'{');
        inner(self);
        self.close(b'}');
    }

    pub(crate) fn array(&mut self, inner: impl FnOnce(&mut Json)) {
        self.open(b'[');
        inner(self);
        self.close(b']');
    }

    pub(crate) fn key(&mut self, key: &str) -> &mut Json {
        self.string(key);
        self.out.push(b':');
        self.comma = false;
        self
    }

    pub(crate) fn string(&mut self, text: &str) {
        self.pieces(&[text]);
    }

    /// One string out of several pieces.
    pub(crate) fn pieces(&mut self, pieces: &[&str]) {
        self.separate();
        self.out.push(b'"');
        for piece in pieces {
            write_escaped(&mut self.out, piece);
        }
        self.out.push(b'"');
        self.comma = true;
    }

    /// One string out of texts, each with what stands before it.
    pub(crate) fn texts<'t>(&mut self, texts: impl IntoIterator<Item = (&'t str, &'t Text<'t>)>) {
        self.separate();
        self.out.push(b'"');
        for (glue, text) in texts {
            write_escaped(&mut self.out, glue);
            match text.as_written() {
                Some(written) => self.out.extend_from_slice(written.as_bytes()),
                None => write_escaped(&mut self.out, text),
            }
        }
        self.out.push(b'"');
        self.comma = true;
    }

    /// A text, as a string.
    pub(crate) fn text(&mut self, text: &Text<'_>) {
        self.texts([("", text)]);
    }

    pub(crate) fn raw(&mut self, json: Raw<'_>) {
        self.value(json.get().as_bytes());
    }

    /// Text that is JSON already.
    pub(crate) fn json(&mut self, json: &str) {
        self.value(json.as_bytes());
    }

    pub(crate) fn number(&mut self, number: u64) {
        self.value(number.to_string().as_bytes());
    }

    pub(crate) fn boolean(&mut self, value: bool) {
        self.value(if value { b"true" } else { b"false" });
    }

    pub(crate) fn null(&mut self) {
        self.value(b"null");
    }
}

/// JSON without the white space between its tokens.
pub(crate) fn compact(json: &str) -> std::borrow::Cow<'_, str> {
    let mut out: Option<String> = None;
    let mut kept = 0;
    let (mut in_string, mut escaped) = (false, false);
    for (at, byte) in json.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b' ' | b'\n' | b'\r' | b'\t' if !in_string => {
                let out = out.get_or_insert_with(|| String::with_capacity(json.len()));
                out.push_str(json.get(kept..at).unwrap_or_default());
                kept = at + 1;
            }
            _ => {}
        }
    }
    match out {
        None => json.into(),
        Some(mut out) => {
            out.push_str(json.get(kept..).unwrap_or_default());
            out.into()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_string_is_read_back_as_it_was(text in any::<String>(), control in "[\\x00-\\x1f\"\\\\]{0,8}") {
            let mut json = Json::default();
            json.array(|json| { json.string(&text); json.pieces(&[&control, &text]); });
            let read: Vec<String> = serde_json::from_slice(&json.finish()).unwrap();
            prop_assert_eq!(read, vec![text.clone(), format!("{control}{text}")]);
        }
    }

    #[test]
    fn commas_stand_where_they_must() {
        let mut json = Json::default();
        json.object(|json| {
            json.key("a").array(|json| {
                json.number(1);
                json.object(|_| {});
                json.null();
            });
            json.key("b").boolean(true);
        });
        assert_eq!(json.finish_string(), r#"{"a":[1,{},null],"b":true}"#);
        assert_eq!(compact("{ \"a b\" : [ 1,\n2 ], \"c\\\" \":1 }"), "{\"a b\":[1,2],\"c\\\" \":1}");
    }
}
