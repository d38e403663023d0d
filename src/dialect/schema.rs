//! Tools' JSON Schemas, cut down to what an upstream takes.
//!
//! A schema that needs no change keeps its bytes. Sources: OpenAI's guide to function calling, Google's Gemini API
//! reference (`Schema`), llama.cpp's notes on grammars from JSON Schema.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::Deserialize;

use crate::dialect::json::{Raw, Walk};

/// Which keywords an upstream takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// All but what names the schema itself.
    Plain,
    /// Google's subset of OpenAPI.
    Gemini,
    /// What llama.cpp can make a grammar of.
    Grammar,
}

/// The schema of a tool without arguments.
pub const EMPTY: &str = r#"{"type":"object","properties":{}}"#;

/// Deeper schemas are cut off with a free object.
const MAX_DEPTH: usize = 32;
/// Most bytes of a schema whose references are written out; beyond, it becomes a free object.
const MAX_EXPANDED: usize = 512 << 10;

/// Keywords that no function's schema needs.
const ALWAYS_DROPPED: &[&str] = &["$schema", "$id", "$comment", "cache_control"];
/// Keywords that Gemini refuses.
const GEMINI_DROPPED: &[&str] = &[
    "additionalProperties",
    "propertyNames",
    "patternProperties",
    "unevaluatedProperties",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "default",
    "definitions",
    "dependentSchemas",
    "dependentRequired",
    "if",
    "then",
    "else",
    "not",
    "contains",
    "examples",
    "multipleOf",
    "uniqueItems",
    "deprecated",
    "readOnly",
    "writeOnly",
    "contentEncoding",
    "contentMediaType",
    "input_examples",
];
/// Formats that llama.cpp has a grammar for.
const GRAMMAR_FORMATS: &[&str] = &["date", "time", "date-time", "uuid"];

/// A member of an object.
struct Pair<'a> {
    key: Cow<'a, str>,
    /// The key as it is written, without its quotes.
    written: &'a str,
    value: &'a str,
}

/// Writes out a schema for a target.
struct Cleaner<'a> {
    target: Target,
    root: &'a [Pair<'a>],
    out: String,
    overflow: bool,
}

/// The schema as `target` takes it. Its root is always an object's schema.
pub fn clean(schema: Option<Raw<'_>>, target: Target) -> Cow<'_, str> {
    let Some(schema) = schema else { return Cow::Borrowed(EMPTY) };
    let text = schema.get();
    let Some(pairs) = pairs(text) else { return Cow::Borrowed(EMPTY) };
    let is_object = get(&pairs, "type").is_some_and(|kind| kind == "\"object\"");
    let has_properties = get(&pairs, "properties").is_some();
    if is_object && has_properties && target == Target::Plain && !mentions_dropped(text) {
        return Cow::Borrowed(text);
    }
    let mut cleaner =
        Cleaner { target, root: &pairs, out: String::with_capacity(text.len()), overflow: false };
    cleaner.object(&pairs, true, 0);
    if cleaner.overflow { Cow::Borrowed(EMPTY) } else { Cow::Owned(cleaner.out) }
}

/// Whether a schema keeps OpenAI's rules for `strict`: every object is closed and requires all its properties.
pub fn is_strict(schema: Raw<'_>) -> bool {
    fn check(text: &str, depth: usize) -> bool {
        if depth > MAX_DEPTH {
            return false;
        }
        let Some(pairs) = pairs(text) else { return !text.starts_with('[') };
        if get(&pairs, "type") == Some("\"object\"") || get(&pairs, "properties").is_some() {
            if get(&pairs, "additionalProperties") != Some("false") {
                return false;
            }
            let required: Vec<Cow<'_, str>> = get(&pairs, "required")
                .and_then(|required| serde_json::from_str::<Vec<Text<'_>>>(required).ok())
                .unwrap_or_default()
                .into_iter()
                .map(|text| text.0)
                .collect();
            let properties = get(&pairs, "properties").and_then(self::pairs).unwrap_or_default();
            if !properties.iter().all(|property| required.contains(&property.key)) {
                return false;
            }
        }
        pairs.iter().all(|Pair { key, value, .. }| match place(key) {
            Place::Schema => check(value, depth + 1),
            Place::Schemas => list(value).iter().all(|schema| check(schema, depth + 1)),
            Place::Named => {
                self::pairs(value).unwrap_or_default().iter().all(|pair| check(pair.value, depth + 1))
            }
            Place::Other => true,
        })
    }
    check(schema.get(), 0)
}

/// What stands under a keyword.
enum Place {
    /// A schema.
    Schema,
    /// A list of schemas.
    Schemas,
    /// An object of schemas, by names that are no keywords.
    Named,
    /// Something else.
    Other,
}

fn place(keyword: &str) -> Place {
    match keyword {
        "items"
        | "additionalProperties"
        | "not"
        | "if"
        | "then"
        | "else"
        | "propertyNames"
        | "contains"
        | "unevaluatedProperties"
        | "unevaluatedItems" => Place::Schema,
        "anyOf" | "oneOf" | "allOf" | "prefixItems" => Place::Schemas,
        "properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas" => Place::Named,
        _ => Place::Other,
    }
}

fn mentions_dropped(text: &str) -> bool {
    static MARKER: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new("\"cache_control\""));
    // `$` finds three of the four at once; it is rare in schemas.
    let bytes = text.as_bytes();
    let is_key = |at: usize| at.checked_sub(1).and_then(|before| bytes.get(before)) == Some(&b'"');
    memchr::memchr_iter(b'$', bytes).any(is_key) || MARKER.find(bytes).is_some()
}

// === impl Cleaner ===

impl<'a> Cleaner<'a> {
    fn schema(&mut self, text: &'a str, depth: usize) {
        if self.out.len() > MAX_EXPANDED {
            self.overflow = true;
            return;
        }
        if self.target == Target::Plain && !mentions_dropped(text) {
            self.out.push_str(text);
            return;
        }
        match pairs(text) {
            Some(_) if depth > MAX_DEPTH => self.out.push_str(r#"{"type":"object"}"#),
            Some(pairs) => self.object(&pairs, false, depth),
            // A boolean schema; Gemini knows none.
            None if self.target == Target::Gemini => self.out.push_str(r#"{"type":"object"}"#),
            None => self.out.push_str(text),
        }
    }

    fn object(&mut self, pairs: &[Pair<'a>], is_root: bool, depth: usize) {
        if self.target == Target::Gemini
            && let Some(reference) = get(pairs, "$ref")
        {
            match self.resolve(reference) {
                Some(text) => self.schema(text, depth + 1),
                None => self.out.push_str(r#"{"type":"object"}"#),
            }
            return;
        }
        self.out.push('{');
        let mut first = true;
        let mut nullable = false;
        for pair in pairs {
            let Pair { key, written, value: text } = pair;
            if ALWAYS_DROPPED.contains(&key.as_ref()) || (is_root && key == "type") {
                continue;
            }
            if self.target == Target::Gemini {
                self.gemini(pair, pairs, &mut first, &mut nullable, depth);
            } else if self.target == Target::Plain && !mentions_dropped(text) {
                // Mostly `$schema` stands at the root alone: all else keeps its bytes, unread.
                self.keyword(written, &mut first);
                self.out.push_str(text);
            } else if self.target == Target::Plain || grammar_keeps(key, text) {
                self.keyword(written, &mut first);
                self.below(key, text, depth);
            }
        }
        if is_root {
            self.keyword("type", &mut first);
            self.out.push_str("\"object\"");
            if get(pairs, "properties").is_none() {
                self.keyword("properties", &mut first);
                self.out.push_str("{}");
            }
        }
        if nullable {
            self.keyword("nullable", &mut first);
            self.out.push_str("true");
        }
        self.out.push('}');
    }

    /// Writes one keyword for Gemini, if it knows it.
    fn gemini(
        &mut self,
        pair: &Pair<'a>,
        pairs: &[Pair<'a>],
        first: &mut bool,
        nullable: &mut bool,
        depth: usize,
    ) {
        let (key, written, text) = (pair.key.as_ref(), pair.written, pair.value);
        if key.starts_with('$') || GEMINI_DROPPED.contains(&key) {
            return;
        }
        match key {
            "const" => {
                self.keyword("enum", first);
                self.out.push('[');
                self.string_of(text);
                self.out.push(']');
            }
            "enum" => {
                self.keyword("enum", first);
                self.out.push('[');
                let values = list(text);
                let mut some = false;
                for value in values.iter().filter(|value| **value != "null") {
                    if some {
                        self.out.push(',');
                    }
                    some = true;
                    self.string_of(value);
                }
                *nullable |= values.contains(&"null");
                self.out.push(']');
            }
            "type" if text.starts_with('[') => {
                let kinds = list(text);
                *nullable |= kinds.contains(&"\"null\"");
                let Some(kind) = kinds.iter().find(|kind| **kind != "\"null\"") else { return };
                self.keyword("type", first);
                self.out.push_str(kind);
            }
            "format" => {
                let of_string = get(pairs, "type").is_none_or(|kind| kind.contains("\"string\""));
                if of_string && !matches!(text, "\"enum\"" | "\"date-time\"") {
                    return;
                }
                self.keyword(key, first);
                self.out.push_str(text);
            }
            "anyOf" | "oneOf" => {
                let branches = list(text);
                let is_null = |branch: &&str| {
                    self::pairs(branch).is_some_and(|pairs| get(&pairs, "type") == Some("\"null\""))
                };
                *nullable |= branches.iter().any(is_null);
                self.keyword("anyOf", first);
                self.out.push('[');
                for (nth, branch) in branches.iter().filter(|branch| !is_null(branch)).enumerate() {
                    if nth > 0 {
                        self.out.push(',');
                    }
                    self.schema(branch, depth + 1);
                }
                self.out.push(']');
            }
            _ => {
                self.keyword(written, first);
                self.below(key, text, depth);
            }
        }
    }

    fn below(&mut self, key: &str, text: &'a str, depth: usize) {
        match place(key) {
            Place::Schema if text.starts_with('{') => self.schema(text, depth + 1),
            Place::Schemas if text.starts_with('[') => {
                self.out.push('[');
                for (nth, schema) in list(text).iter().enumerate() {
                    if nth > 0 {
                        self.out.push(',');
                    }
                    self.schema(schema, depth + 1);
                }
                self.out.push(']');
            }
            Place::Named if text.starts_with('{') => {
                self.out.push('{');
                let mut first = true;
                for property in pairs(text).unwrap_or_default() {
                    self.keyword(property.written, &mut first);
                    self.schema(property.value, depth + 1);
                }
                self.out.push('}');
            }
            _ => self.out.push_str(text),
        }
    }

    /// Writes a key, which is given as it is written.
    fn keyword(&mut self, written: &str, first: &mut bool) {
        self.out.push_str(if std::mem::take(first) { "\"" } else { ",\"" });
        self.out.push_str(written);
        self.out.push_str("\":");
    }

    /// A value as a JSON string: strings as they are, others quoted.
    fn string_of(&mut self, text: &str) {
        if text.starts_with('"') {
            self.out.push_str(text);
        } else {
            // Serializing a string can't fail.
            self.out.push_str(&serde_json::to_string(text).unwrap_or_default());
        }
    }

    /// The schema that `#/$defs/x` means.
    fn resolve(&self, reference: &str) -> Option<&'a str> {
        let reference: Text<'_> = serde_json::from_str(reference).ok()?;
        let mut steps = reference.0.strip_prefix("#/")?.split('/');
        let mut text = get(self.root, &unescape(steps.next()?))?;
        for step in steps {
            let step = unescape(step);
            let pairs = pairs(text)?;
            text = get(&pairs, &step)?;
        }
        Some(text)
    }
}

/// A step of a JSON pointer (RFC 6901).
fn unescape(step: &str) -> String {
    step.replace("~1", "/").replace("~0", "~")
}

fn grammar_keeps(key: &str, text: &str) -> bool {
    match key {
        "pattern" => text.starts_with("\"^") && text.ends_with("$\""),
        "format" => GRAMMAR_FORMATS.contains(&text.trim_matches('"')),
        _ => true,
    }
}

fn get<'a>(pairs: &[Pair<'a>], key: &str) -> Option<&'a str> {
    pairs.iter().find(|pair| pair.key == key).map(|pair| pair.value)
}

/// The members of an object, in their order; `None` if it is none.
fn pairs(text: &str) -> Option<Vec<Pair<'_>>> {
    let mut pairs = Vec::new();
    Walk::new(text).members(|walk, key| {
        pairs.push(Pair { key: key.text()?, written: key.inside, value: walk.value()? });
        Some(())
    })?;
    Some(pairs)
}

/// The items of a list; none if it is none.
fn list(text: &str) -> Vec<&str> {
    let mut items = Vec::new();
    let list = Walk::new(text).list(|walk| {
        items.push(walk.value()?);
        Some(())
    });
    if list.is_some() { items } else { Vec::new() }
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests;
