//! Reads `[models]`: alias to targets, in the order in which they are written, since the first match wins.
//!
//! A target is `provider/model`, or the name of another alias, which stands for its targets.

use std::collections::HashMap;

use toml::de::DeValue;

use super::document::{Document, KeyPath};
use super::{Alias, Target, suggest};

/// Most targets of one alias, those of the aliases that it names included.
const MAX_TARGETS: usize = 32;

/// The aliases, each with its own targets in order. What is wrong is reported in the document.
pub fn read(document: &mut Document<'_>) -> Vec<Alias> {
    let root = KeyPath::of(["models"]);
    let Some(written) = written(document, &root) else { return Vec::new() };
    let by_name: HashMap<&str, usize> =
        written.iter().enumerate().map(|(n, entry)| (entry.pattern.as_str(), n)).collect();

    let mut resolved: Vec<Option<Vec<Target>>> = vec![None; written.len()];
    let mut problems = Vec::new();
    for n in 0..written.len() {
        resolve(n, &written, &by_name, &mut resolved, &mut Vec::new(), &mut problems);
    }
    for (at, reason, suggestion) in problems {
        document.report_with(&at, reason, suggestion.as_deref());
    }
    written
        .into_iter()
        .zip(resolved)
        .map(|(entry, targets)| Alias { pattern: entry.pattern, targets: targets.unwrap_or_default() })
        .collect()
}

struct Written {
    pattern: String,
    path: KeyPath,
    targets: Vec<String>,
}

/// The entries as they stand in the file.
fn written(document: &mut Document<'_>, root: &KeyPath) -> Option<Vec<Written>> {
    const SHAPE: &str = "expected \"provider/model\", or a list of them";
    let value = document.get(root)?.get_ref();
    let Some(table) = value.as_table() else {
        let found = value.type_str();
        document.report(
            root,
            format!("wrong type: found {found}, expected a table: alias = [\"provider/model\"]"),
        );
        return None;
    };
    let mut entries = Vec::new();
    let mut problems = Vec::new();
    for (key, value) in table {
        let pattern = key.get_ref().to_string();
        let path = root.key(&pattern);
        let mut targets = Vec::new();
        let before = problems.len();
        match value.get_ref() {
            DeValue::String(target) => targets.push(target.to_string()),
            DeValue::Array(list) => {
                for (n, target) in list.iter().enumerate() {
                    match target.get_ref().as_str() {
                        Some(target) => targets.push(target.to_owned()),
                        None => {
                            let found = target.get_ref().type_str();
                            problems.push((path.index(n), format!("wrong type: found {found}, {SHAPE}")));
                        }
                    }
                }
            }
            other => {
                problems.push((path.clone(), format!("wrong type: found {}, {SHAPE}", other.type_str())))
            }
        }
        if pattern.trim().is_empty() {
            problems.push((path.clone(), "an alias needs a name".to_owned()));
        } else if targets.is_empty() && problems.len() == before {
            problems.push((path.clone(), format!("the alias has no target: {SHAPE}")));
        }
        entries.push(Written { pattern, path, targets });
    }
    for (path, reason) in problems {
        document.report(&path, reason);
    }
    Some(entries)
}

/// Resolves the alias `n`; `open` holds the aliases on the way to it.
fn resolve(
    n: usize,
    written: &[Written],
    by_name: &HashMap<&str, usize>,
    resolved: &mut Vec<Option<Vec<Target>>>,
    open: &mut Vec<usize>,
    problems: &mut Vec<(KeyPath, String, Option<String>)>,
) {
    let Some(entry) = written.get(n) else { return };
    if resolved.get(n).is_none_or(Option::is_some) {
        return;
    }
    open.push(n);
    let mut targets: Vec<Target> = Vec::new();
    for (at, text) in entry.targets.iter().enumerate() {
        let path = entry.path.index(at);
        let named = by_name.get(text.as_str()).copied();
        let found = match (named, Target::parse(text)) {
            (Some(next), _) if open.contains(&next) => {
                let from = open.iter().position(|alias| *alias == next).unwrap_or(0);
                let mut names: Vec<&str> =
                    open.iter().skip(from).filter_map(|n| Some(written.get(*n)?.pattern.as_str())).collect();
                names.push(text);
                problems.push((path, format!("a cycle of aliases: {}", names.join(" -> ")), None));
                continue;
            }
            // Deeper than this is no set-up, and the stack has an end.
            (Some(_), _) if open.len() > 16 => {
                problems.push((path, "aliases name each other more than 16 deep".to_owned(), None));
                continue;
            }
            (Some(next), _) => {
                resolve(next, written, by_name, resolved, open, problems);
                resolved.get(next).cloned().flatten().unwrap_or_default()
            }
            (None, Some(target)) => vec![target],
            (None, None) => {
                let suggestion = suggest::nearest(text, by_name.keys().copied()).map(String::from);
                let shown = super::error::mask(text);
                let reason = format!("\"{shown}\" is neither \"provider/model\" nor another alias");
                problems.push((path, reason, suggestion));
                continue;
            }
        };
        for target in found {
            if !targets.contains(&target) {
                targets.push(target);
            }
        }
    }
    if targets.len() > MAX_TARGETS {
        problems.push((entry.path.clone(), format!("more than {MAX_TARGETS} targets"), None));
        targets.truncate(MAX_TARGETS);
    }
    open.pop();
    if let Some(place) = resolved.get_mut(n) {
        *place = Some(targets);
    }
}
