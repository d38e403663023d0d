#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::*;
use crate::config::{ConfigError, Environment, FileText, Overrides, Source, load};

fn load_with(text: &str, key: &str) -> Loaded {
    let read = |_: &Path| -> io::Result<FileText> { Err(io::ErrorKind::NotFound.into()) };
    let environment =
        Environment { variables: BTreeMap::from([("KEY_OF_A".into(), key.into())]), read: &read };
    let loaded: Result<Loaded, ConfigError> =
        load(&Source::Text(text.into(), "/".into()), &environment, &Overrides::default());
    loaded.unwrap_or_else(|error| panic!("{error}\n{text}"))
}

const BEFORE: &str = "[providers.a]\nkind = \"openai\"\napi_key_env = \"KEY_OF_A\"\n#more\n";

/// The change of provider `a` when `more` is added to it.
fn change(more: &str) -> Change {
    let after = load_with(&BEFORE.replace("#more", more), "k");
    diff(&load_with(BEFORE, "k"), &after).providers["a"].clone()
}

#[test]
fn the_same_config_changes_nothing() {
    let changes = diff(&load_with(BEFORE, "k"), &load_with(BEFORE, "k"));
    assert!(changes.is_empty());
    assert_eq!(changes.summary(), "nothing changed");
    assert_eq!(change("base_url = \"https://api.openai.com/v1/\""), Change::Unchanged, "another spelling");
}

#[test]
fn most_keys_are_taken_up_without_new_connections() {
    for (more, key) in [
        ("models = [\"x\"]", "models"),
        ("weight = 2", "weight"),
        ("priority = 2", "priority"),
        ("disabled = true", "disabled"),
        ("limits = { max_concurrent = 2 }", "limits"),
        ("health = { interval = \"5s\" }", "health"),
        ("timeouts = { idle = \"5s\" }", "timeouts"),
        ("headers = { X-A = \"b\" }", "headers"),
        ("api_keys_env = [\"OTHER\"]", "keys"),
        ("variant = \"groq\"", "variant"),
        ("default_model = \"x\"", "default_model"),
        ("capabilities = { tools = false }", "capabilities"),
        ("api = \"chat\"", "api"),
    ] {
        assert_eq!(change(more), Change::Updated(vec![key]), "{more}");
    }
}

#[test]
fn a_new_value_of_a_key_is_a_change_though_the_text_is_the_same() {
    let changes = diff(&load_with(BEFORE, "k"), &load_with(BEFORE, "rotated"));
    assert_eq!(changes.providers["a"], Change::Updated(vec!["keys"]));
    assert!(!changes.summary().contains("rotated"));
}

#[test]
fn another_address_or_connect_deadline_needs_new_connections() {
    assert_eq!(change("base_url = \"https://b.example\""), Change::NewPool(vec!["base_url"]));
    assert_eq!(
        change("weight = 3\ntimeouts = { connect = \"1s\" }"),
        Change::NewPool(vec!["timeouts.connect", "weight"])
    );
}

#[test]
fn providers_come_and_go_and_some_keys_wait_for_a_restart() {
    let other = "[providers.b]\nkind = \"anthropic\"\n[server]\nport = 1\nmax_requests = 5\n[cache]\nenabled = true\n";
    let changes = diff(&load_with(BEFORE, "k"), &load_with(other, "k"));
    assert_eq!(changes.providers["a"], Change::Removed);
    assert_eq!(changes.providers["b"], Change::Added);
    assert_eq!(changes.sections, ["server", "cache"]);
    assert_eq!(changes.restart, ["server.port"]);
    assert_eq!(changes.summary(), "a: removed; b: added; [server]; [cache]; needs a restart: server.port");
}
