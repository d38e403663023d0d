//! Walks of the tree: what the schema doesn't know, what stands at a place, and taking a value out.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{KeyPath, Step};
use crate::config::error::MAX_PROBLEMS;
use crate::config::suggest;

/// A key that the schema doesn't know.
pub struct Unknown {
    pub path: KeyPath,
    pub span: Range<usize>,
    pub suggestion: Option<String>,
}

/// Takes unknown keys out of the table, and lists them.
pub fn drop_unknown(
    table: &mut DeTable<'_>,
    node: &serde_json::Value,
    root: &serde_json::Value,
    path: &KeyPath,
    unknown: &mut Vec<Unknown>,
) {
    let Some(node) = object_schema(node, root) else { return };
    let properties = node.get("properties").and_then(|properties| properties.as_object());
    let free = node.get("additionalProperties").filter(|schema| schema.is_object());
    let mut wrong = Vec::new();
    for (key, value) in table.iter_mut() {
        let name: &str = key.get_ref();
        let inner = path.key(name);
        match properties.and_then(|known| known.get(name)).or(free) {
            Some(schema) => {
                drop_unknown_in(value.get_mut(), schema, root, &inner, unknown);
            }
            None if unknown.len() >= MAX_PROBLEMS => break,
            None if properties.is_some() => {
                let known = properties.into_iter().flat_map(|known| known.keys().map(String::as_str));
                let suggestion = suggest::nearest(name, known).map(String::from);
                unknown.push(Unknown { path: inner, span: key.span(), suggestion });
                wrong.push(name.to_owned());
            }
            None => {}
        }
    }
    for name in wrong {
        table.remove(name.as_str());
    }
}

fn drop_unknown_in(
    value: &mut DeValue<'_>,
    schema: &serde_json::Value,
    root: &serde_json::Value,
    path: &KeyPath,
    unknown: &mut Vec<Unknown>,
) {
    match value {
        DeValue::Table(table) => drop_unknown(table, schema, root, path, unknown),
        DeValue::Array(array) => {
            let Some(items) = schema.get("items") else { return };
            for (n, element) in array.iter_mut().enumerate() {
                drop_unknown_in(element.get_mut(), items, root, &path.index(n), unknown);
            }
        }
        _ => {}
    }
}

/// Follows references and options to the schema of an object.
pub fn object_schema<'s>(
    node: &'s serde_json::Value,
    root: &'s serde_json::Value,
) -> Option<&'s serde_json::Value> {
    if let Some(target) = node.get("$ref").and_then(|target| target.as_str()) {
        return root.pointer(target.strip_prefix('#')?);
    }
    if let Some(options) = node.get("anyOf").and_then(|options| options.as_array()) {
        return options.iter().find_map(|option| object_schema(option, root));
    }
    (node.get("properties").is_some() || node.get("additionalProperties").is_some()).then_some(node)
}

/// The path of the innermost value that stands at `span`. Every child is looked at, since a table's own span
/// covers its header alone.
pub fn locate(value: &Spanned<DeValue<'_>>, span: &Range<usize>) -> Option<KeyPath> {
    let children: Vec<(Step, Range<usize>, &Spanned<DeValue<'_>>)> = match value.get_ref() {
        DeValue::Table(table) => table
            .iter()
            .map(|(key, value)| (Step::Key(key.get_ref().to_string()), key.span(), value))
            .collect(),
        DeValue::Array(array) => {
            array.iter().enumerate().map(|(n, value)| (Step::Index(n), value.span(), value)).collect()
        }
        _ => Vec::new(),
    };
    for (step, key, child) in children {
        if let Some(rest) = locate(child, span) {
            return Some(KeyPath(std::iter::once(step).chain(rest.0).collect()));
        }
        if key == *span && !span.is_empty() {
            return Some(KeyPath(vec![step]));
        }
    }
    (value.span() == *span && !span.is_empty()).then(KeyPath::default)
}

/// Takes the value at `path` out of the tree; false if there is none, or if it is the root.
pub fn remove(value: &mut Spanned<DeValue<'_>>, path: &[Step]) -> bool {
    match (path, value.get_mut()) {
        ([Step::Key(key)], DeValue::Table(table)) => table.remove(key.as_str()).is_some(),
        ([Step::Key(key), rest @ ..], DeValue::Table(table)) => {
            table.get_mut(key.as_str()).is_some_and(|value| remove(value, rest))
        }
        ([Step::Index(index), rest @ ..], DeValue::Array(array)) => {
            array.get_mut(*index).is_some_and(|value| remove(value, rest))
        }
        _ => false,
    }
}
