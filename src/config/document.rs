//! The config as written: a TOML tree that knows its lines. Finds what the schema doesn't know, reads sections
//! into their types, and says for each key where it stands.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, ValueDeserializer};

use super::error::{self, MAX_PROBLEMS, Problem};

mod walk;
mod words;

pub use walk::object_schema;
pub use words::explain;

use walk::{Unknown, drop_unknown, locate, remove};
use words::{lies_in, meant_variant, secret_advice, without_values};

/// The text, its tree, and what is wrong with it so far.
pub struct Document<'t> {
    /// The file's name, for messages.
    name: String,
    text: &'t str,
    /// The tree; layers above the file are written into it, with empty spans.
    tree: Spanned<DeTable<'t>>,
    /// Keys that come from elsewhere than the file: key, origin.
    origins: BTreeMap<String, String>,
    problems: Vec<Problem>,
}

/// The place of a value: `providers.openrouter.models[2]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPath(Vec<Step>);

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

// === impl KeyPath ===

impl KeyPath {
    /// A path of keys.
    pub fn of<const N: usize>(keys: [&str; N]) -> KeyPath {
        KeyPath(keys.iter().map(|key| Step::Key((*key).into())).collect())
    }

    /// The path one key deeper.
    pub fn key(&self, key: &str) -> KeyPath {
        let mut path = self.clone();
        path.0.push(Step::Key(key.into()));
        path
    }

    /// The path to an element of an array.
    pub fn index(&self, index: usize) -> KeyPath {
        let mut path = self.clone();
        path.0.push(Step::Index(index));
        path
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => {
                    if n > 0 {
                        f.write_str(".")?;
                    }
                    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
                    if !key.is_empty() && key.chars().all(bare) {
                        f.write_str(&error::mask(key))?;
                    } else {
                        write!(f, "\"{}\"", error::mask(key))?;
                    }
                }
            }
        }
        Ok(())
    }
}

// === impl Document ===

impl<'t> Document<'t> {
    /// Parses the text. What can't be parsed becomes a problem, and the tree holds what could.
    pub fn parse(name: &str, text: &'t str) -> Document<'t> {
        let (tree, errors) = DeTable::parse_recoverable(text);
        let mut document =
            Document { name: name.into(), text, tree, origins: BTreeMap::new(), problems: Vec::new() };
        for error in errors {
            let reason = error::mask(error.message());
            document.report_span(error.span(), String::new(), format!("not valid TOML: {reason}"), None);
        }
        document
    }

    /// Whether anything is wrong.
    pub fn has_problems(&self) -> bool {
        !self.problems.is_empty()
    }

    /// The problems, in the order of the file.
    pub fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
        self.problems.dedup();
        self.problems
    }

    /// Whether the key is written, in the file or in a layer above it.
    pub fn holds(&self, path: &KeyPath) -> bool {
        self.lookup(path).is_some()
    }

    /// The root of the tree.
    pub fn root(&self) -> &DeTable<'t> {
        self.tree.get_ref()
    }

    /// Writes a value into the tree, as a layer above the file: `origin` is named if it turns out wrong.
    pub fn set(&mut self, section: &str, key: &str, value: DeValue<'t>, origin: &str) {
        let owned = |text: &str| Spanned::new(0..0, Cow::Owned(text.to_owned()));
        let table = self
            .tree
            .get_mut()
            .entry(owned(section))
            .or_insert_with(|| Spanned::new(0..0, DeValue::Table(DeTable::new())));
        if let DeValue::Table(table) = table.get_mut() {
            table.remove(key);
            table.insert(owned(key), Spanned::new(0..0, value));
            self.set_origin(&KeyPath::of([section, key]).to_string(), origin);
        }
    }

    /// Says that a key has its value from elsewhere than the file.
    pub fn set_origin(&mut self, key: &str, origin: &str) {
        self.origins.insert(key.to_owned(), origin.to_owned());
    }

    /// Puts a rule before those of the file.
    pub fn put_rule_first(&mut self, rule: DeTable<'t>) {
        let owned = |text: &str| Spanned::new(0..0, Cow::Owned(text.to_owned()));
        let routing = self
            .tree
            .get_mut()
            .entry(owned("routing"))
            .or_insert_with(|| Spanned::new(0..0, DeValue::Table(DeTable::new())));
        let DeValue::Table(routing) = routing.get_mut() else { return };
        let rules = routing
            .entry(owned("rules"))
            .or_insert_with(|| Spanned::new(0..0, DeValue::Array(DeArray::new())));
        if let DeValue::Array(rules) = rules.get_mut() {
            rules.push(Spanned::new(0..0, DeValue::Table(rule)));
            rules.rotate_right(1);
        }
    }

    /// Reports a problem with the value at `path`.
    pub fn report(&mut self, path: &KeyPath, reason: impl Into<String>) {
        self.report_with(path, reason, None);
    }

    /// Reports a problem with the value at `path`, with what may have been meant.
    pub fn report_with(&mut self, path: &KeyPath, reason: impl Into<String>, suggestion: Option<&str>) {
        let key = path.to_string();
        let origin = self.origins.iter().find(|(set, _)| lies_in(&key, set));
        if let Some((_, origin)) = origin {
            let mut problem = Problem::new(origin.clone(), reason);
            problem.key = key;
            problem.suggestion = suggestion.map(String::from);
            self.push(problem);
            return;
        }
        // A default that goes wrong stands nowhere; the nearest enclosing key that is written is shown.
        let mut shown = path.clone();
        let span = loop {
            if let Some(span) = self.lookup(&shown)
                && !span.is_empty()
            {
                break Some(span);
            }
            if shown.0.pop().is_none() {
                break None;
            }
        };
        self.report_span(span, key, reason.into(), suggestion);
    }

    /// Reports a problem that no key stands for.
    pub fn push(&mut self, problem: Problem) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
        }
    }

    fn report_span(
        &mut self,
        span: Option<Range<usize>>,
        key: String,
        reason: String,
        suggestion: Option<&str>,
    ) {
        let mut problem = Problem::new(self.name.clone(), reason);
        if let Some(span) = span {
            let at = span.start.min(self.text.len());
            let before = self.text.as_bytes().get(..at).unwrap_or_default();
            let line = before.iter().filter(|byte| **byte == b'\n').count();
            let text = self.text.lines().nth(line).unwrap_or_default();
            problem.line = Some(line + 1);
            let masked =
                if error::is_sensitive(&key) || error::is_sensitive(text.split('=').next().unwrap_or("")) {
                    error::mask_value(text.trim_end())
                } else {
                    error::mask(text.trim_end())
                };
            problem.excerpt = (!masked.trim().is_empty()).then_some(masked);
        }
        problem.key = key;
        problem.suggestion = suggestion.map(String::from);
        self.push(problem);
    }

    /// Reports every key that the schema doesn't know, and takes it out, so that it hides nothing else.
    pub fn drop_unknown_keys(&mut self, schema: &serde_json::Value) {
        let mut unknown = Vec::new();
        drop_unknown(self.tree.get_mut(), schema, schema, &KeyPath::default(), &mut unknown);
        for Unknown { path, span, suggestion } in unknown {
            let reason = match secret_advice(&path) {
                Some(advice) => format!("unknown key; {advice}"),
                None => "unknown key".to_owned(),
            };
            // Whatever stands behind an unknown key may be a credential: it is never shown.
            let before = self.problems.len();
            self.report_span(Some(span), path.to_string(), reason, suggestion.as_deref());
            if let Some(problem) = self.problems.get_mut(before) {
                problem.excerpt = problem.excerpt.take().map(|line| error::mask_value(&line));
            }
        }
    }

    /// Reads the value at `path`; what has the wrong type is reported, and the rest is read none the less, so
    /// that all of it is reported together. `None` if it is absent or wrong.
    pub fn read<T: DeserializeOwned>(&mut self, path: &KeyPath) -> Option<T> {
        let mut value = self.get(path)?.clone();
        let mut removed = false;
        for _ in 0..MAX_PROBLEMS {
            let error = match T::deserialize(ValueDeserializer::from(value.clone())) {
                Ok(read) => return self.is_clean(path).then_some(read),
                Err(error) => error,
            };
            let message = error.message();
            if removed && message.starts_with("missing field") {
                break; // it was there, and wrong
            }
            let inner = error.span().and_then(|span| locate(&value, &span)).unwrap_or_default();
            let at = KeyPath(path.0.iter().chain(&inner.0).cloned().collect());
            let reason = match error::is_sensitive(&at.to_string()) {
                true => without_values(message),
                false => message.to_owned(),
            };
            self.report_with(&at, explain(&error::mask(&reason)), meant_variant(message));
            // Without it, what else is wrong comes to light. An element would shift those behind it: its
            // whole list goes.
            let mut inner = inner.0;
            while matches!(inner.last(), Some(Step::Index(_))) {
                inner.pop();
            }
            if !remove(&mut value, &inner) {
                break;
            }
            removed = true;
        }
        None
    }

    /// Whether nothing at or below `path` was reported yet.
    pub fn is_clean(&self, path: &KeyPath) -> bool {
        let path = path.to_string();
        !self.problems.iter().any(|problem| lies_in(&problem.key, &path))
    }

    /// The value at `path`.
    pub fn get(&self, path: &KeyPath) -> Option<&Spanned<DeValue<'t>>> {
        let (first, rest) = path.0.split_first()?;
        let Step::Key(first) = first else { return None };
        let mut value = self.root().get(first.as_str())?;
        for step in rest {
            value = match step {
                Step::Key(key) => value.get_ref().as_table()?.get(key.as_str())?,
                Step::Index(index) => value.get_ref().as_array()?.get(*index)?,
            };
        }
        Some(value)
    }

    /// Where the value at `path` is written: its key for a table, else the value itself.
    fn lookup(&self, path: &KeyPath) -> Option<Range<usize>> {
        let value = self.get(path)?;
        let (Some(Step::Key(last)), parents) = (path.0.last(), KeyPath(path.0.split_last()?.1.to_vec()))
        else {
            return Some(value.span());
        };
        let table = match parents.0.is_empty() {
            true => self.root(),
            false => self.get(&parents)?.get_ref().as_table()?,
        };
        table.get_key_value(last.as_str()).map(|(key, _)| key.span())
    }
}
