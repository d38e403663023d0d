//! `actors.md` says what is there: the tree that runs, and the messages that the source defines.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/daemon.rs"]
mod daemon;

use std::collections::BTreeSet;

use daemon::{Daemon, Upstream};

const PAGE: &str = include_str!("../actors.md");

/// A section about one actor.
struct Section {
    path: String,
    text: String,
}

/// The sections under "Each actor".
fn sections() -> Vec<Section> {
    let (_, part) = PAGE.split_once("\n## Each actor\n").expect("a part about each actor");
    let part = part.split("\n## ").next().unwrap();
    let sections = part.split("\n### ").skip(1).map(|section| {
        let (heading, text) = section.split_once('\n').unwrap();
        Section { path: heading.trim_matches('`').to_owned(), text: text.to_owned() }
    });
    sections.collect()
}

/// The paths in the drawing of the tree, each with its parent's.
fn drawn() -> Vec<(String, Option<String>)> {
    let (_, drawing) = PAGE.split_once("```mermaid\nflowchart TD\n").expect("a drawing of the tree");
    let mut known: Vec<(String, String)> = Vec::new();
    let mut drawn = Vec::new();
    for line in drawing.lines().take_while(|line| !line.starts_with("```")) {
        let (parent, node) =
            line.split_once("-->").map_or((None, line), |(parent, node)| (Some(parent), node));
        let (name, path) = node.split_once("[\"").unwrap_or_else(|| panic!("no node with a path: {line}"));
        let path = path.trim_end().trim_end_matches("\"]").to_owned();
        let parent = parent.map(|parent| {
            let parent = known.iter().find(|(name, _)| name == parent.trim());
            parent.unwrap_or_else(|| panic!("an unknown parent: {line}")).1.clone()
        });
        known.push((name.trim().to_owned(), path.clone()));
        drawn.push((path, parent));
    }
    drawn
}

/// The paths of the daemon's actors, with those of providers as the page writes them.
fn running(daemon: &Daemon) -> BTreeSet<String> {
    let status = daemon.status();
    let providers: BTreeSet<String> = status["providers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|provider| format!("root/providers/{}", provider["name"].as_str().unwrap()))
        .collect();
    let actors = status["actors"].as_array().unwrap().iter();
    let paths: Vec<&str> = actors.map(|actor| actor["path"].as_str().unwrap()).collect();
    for provider in &providers {
        assert!(paths.contains(&provider.as_str()), "{provider} has no actor: {paths:?}");
    }
    let written =
        |path: &str| if providers.contains(path) { "root/providers/NAME".into() } else { path.into() };
    paths.into_iter().map(written).collect()
}

/// The messages of an enum in the source.
fn variants(file: &str, name: &str) -> BTreeSet<String> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let source = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
    let start = source.find(&format!("pub enum {name}")).unwrap_or_else(|| panic!("no {name} in {file}"));
    let body = source[start..].split("\n}").next().unwrap();
    let variant = |line: &str| -> Option<String> {
        let line = line.strip_prefix("    ")?;
        let end = line.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(line.len());
        line.starts_with(|c: char| c.is_ascii_uppercase()).then(|| line[..end].to_owned())
    };
    body.lines().skip(1).filter_map(variant).collect()
}

#[test]
fn the_drawn_tree_is_the_one_that_runs() {
    let drawn = drawn();
    let paths: BTreeSet<String> = drawn.iter().map(|(path, _)| path.clone()).collect();
    for (path, parent) in &drawn {
        let of_path = path.rsplit_once('/').map(|(parent, _)| parent.to_owned());
        assert_eq!(&of_path, parent, "{path} hangs below its parent");
    }
    // Without any key the simulator serves, and its actor is there; with fault injection, the faults actor.
    let alone = Daemon::start(
        "[providers.openrouter]\nkind = \"openrouter\"\napi_key_env = \"NOT_SET\"\n[faults]\nenabled = true\n",
    );
    assert_eq!(running(&alone), paths);

    let upstream = Upstream::start("");
    let mut without = paths;
    without.remove("root/simulator");
    without.remove("root/faults");
    assert_eq!(running(&Daemon::over(&upstream, "local")), without);
}

#[test]
fn every_drawn_actor_has_its_section_and_no_other() {
    let drawn: BTreeSet<String> = drawn().into_iter().map(|(path, _)| path).collect();
    let described: Vec<String> = sections().into_iter().map(|section| section.path).collect();
    assert_eq!(described.iter().cloned().collect::<BTreeSet<_>>(), drawn);
    assert_eq!(described.len(), drawn.len(), "each once: {described:?}");
}

#[test]
fn every_message_stands_in_its_actors_table_and_no_other() {
    for Section { path, text } in sections() {
        let line = text.lines().find_map(|line| line.strip_prefix("Messages: ")).unwrap_or_default();
        let names: Vec<&str> = line.split('`').skip(1).step_by(2).collect();
        assert!(
            !names.is_empty() && names.len().is_multiple_of(2),
            "{path} says where its messages are: {line}"
        );
        let defined: BTreeSet<String> = names.chunks(2).flat_map(|pair| variants(pair[1], pair[0])).collect();
        let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
        let described: BTreeSet<String> =
            rows.filter_map(|row| Some(row.split_once('`')?.0.to_owned())).collect();
        assert_eq!(described, defined, "{path}");
    }
}
