//! What the README says is so: its table of the config has every key of the schema and no other, its examples are
//! valid, and the commands that it names are there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

const README: &str = include_str!("../README.md");

/// Runs the built binary; gives what it prints.
fn cproxy(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_cproxy")).args(arguments).env_clear().output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {stdout}\n{stderr}");
    stdout.into_owned()
}

/// The rows of the table whose first column is headed so, each with its cells.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let start = README.find(&format!("\n| {heading} |")).unwrap_or_else(|| panic!("no table \"{heading}\""));
    let rows = README[start + 1..].lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
}

/// What stands in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The schema behind a node: what it refers to, the member of a choice that is an object, or itself.
fn resolved<'a>(schema: &'a Value, node: &'a Value) -> &'a Value {
    if let Some(name) = node["$ref"].as_str() {
        return schema.pointer(name.trim_start_matches('#')).unwrap();
    }
    let choices = ["anyOf", "allOf"].iter().filter_map(|key| node[*key].as_array()).flatten();
    choices
        .map(|choice| resolved(schema, choice))
        .find(|choice| choice["properties"].is_object())
        .unwrap_or(node)
}

/// The keys of a table in the config, with the names of users' own tables as `NAME`.
fn keys(schema: &Value, node: &Value, prefix: &str, found: &mut Vec<(String, Value)>) {
    for (key, value) in resolved(schema, node)["properties"].as_object().into_iter().flatten() {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        let inner = resolved(schema, value);
        let of_users = resolved(schema, &inner["additionalProperties"]);
        let items = resolved(schema, &inner["items"]);
        if of_users["properties"].is_object() {
            keys(schema, of_users, &format!("{path}.NAME"), found);
        } else if items["properties"].is_object() {
            keys(schema, items, &path, found);
        } else if inner["properties"].is_object() {
            keys(schema, inner, &path, found);
        } else {
            found.push((path, value["default"].clone()));
        }
    }
}

#[test]
fn the_table_has_every_key_of_the_config_and_no_other() {
    let schema: Value = serde_json::from_str(&cproxy(&["config", "schema"])).unwrap();
    let mut found = Vec::new();
    keys(&schema, &schema, "", &mut found);
    assert!(found.len() > 50, "{found:?}");

    let mut unmatched: BTreeSet<&str> = BTreeSet::new();
    let rows = table("Key");
    for row in &rows {
        unmatched.insert(quoted(row[0]).next().unwrap());
    }
    let known = unmatched.clone();
    for (path, default) in &found {
        if known.contains(path.as_str()) {
            unmatched.remove(path.as_str());
            let row = rows.iter().find(|row| quoted(row[0]).next() == Some(path)).unwrap();
            if default.is_string() || default.is_number() || default.is_boolean() {
                assert_eq!(quoted(row[1]).next(), Some(&*default.to_string()), "the default of {path}");
            }
            continue;
        }
        // The keys of a small table stand together in the row of the table.
        let ends = path.match_indices('.').map(|(at, _)| at).rev();
        let outer = ends.map(|at| &path[..at]).find(|outer| known.contains(outer));
        let outer = outer.unwrap_or_else(|| panic!("{path} is not in the table"));
        let row = rows.iter().find(|row| quoted(row[0]).next() == Some(outer)).unwrap();
        for key in path[outer.len()..].split('.').skip(1) {
            assert!(quoted(row[2]).any(|word| word == key), "{path} is not in the row of {outer}");
        }
        unmatched.remove(outer);
    }
    assert!(unmatched.is_empty(), "no keys of the config: {unmatched:?}");
}

#[test]
fn the_examples_of_the_config_are_valid() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    let providers = "[providers.openrouter]\nkind = \"openrouter\"\n[providers.local]\nkind = \"local\"\n\
                     base_url = \"http://127.0.0.1:1/v1\"\n";
    let examples: Vec<&str> =
        README.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(!examples.is_empty());
    for example in examples {
        std::fs::write(&path, format!("{providers}{example}")).unwrap();
        cproxy(&["check", "--config", &path.display().to_string()]);
    }
}

#[test]
fn the_commands_are_there() {
    let rows = table("Command");
    for row in &rows {
        for command in quoted(row[0]) {
            let words: Vec<&str> = command.split(' ').skip(1).take_while(|word| *word != "claude").collect();
            let help = cproxy(&[&*words, &["--help"]].concat());
            let options = quoted(row[1]).filter(|option| option.starts_with("--"));
            for option in options.map(|option| option.split(' ').next().unwrap()) {
                assert!(help.contains(option), "{command}: no {option} in:\n{help}");
            }
        }
    }
    let help = cproxy(&["--help"]);
    let listed = help.split("Commands:").nth(1).unwrap().lines().skip(1);
    for name in
        listed.take_while(|line| !line.trim().is_empty()).filter_map(|line| line.split_whitespace().next())
    {
        let is_told = name == "help"
            || rows.iter().any(|row| quoted(row[0]).any(|c| c.split(' ').nth(1) == Some(name)));
        assert!(is_told, "the README does not tell of `cproxy {name}`");
    }
}
