//! The environment as a layer of the config: `CPROXY_SERVER_PORT` and its like for every scalar key of the
//! plain sections, and the variables that cproxy 1.x knew.

use std::borrow::Cow;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, ValueDeserializer};

use super::document::Document;
use super::error::{self, Problem};
use super::source::Environment;
use super::{Config, suggest};

/// The provider that `ANTHROPIC_PROXY_BASE_URL` makes.
pub const UPSTREAM: &str = "upstream";

/// Sections whose scalar keys have a variable each. Providers are named by the user, so that their keys
/// would have no clear spelling.
const SECTIONS: [&str; 8] = ["server", "routing", "cache", "logging", "mcp", "faults", "ledger", "otlp"];

/// Variables that start with `CPROXY_` and name no key.
const RESERVED: [&str; 6] = [
    "CPROXY_CONFIG",
    "CPROXY_CLAUDE",
    "CPROXY_NODE_MODULES",
    "CPROXY_PYTHON",
    "CPROXY_CI_CACHE",
    "CPROXY_CHROMIUM",
];

/// Writes the variables into the document. Returns whether `MCP_MODE` asks for the MCP front over stdio.
pub fn apply<'t>(
    document: &mut Document<'t>,
    environment: &'t Environment<'_>,
    warnings: &mut Vec<String>,
) -> bool {
    apply_1x(document, environment);
    apply_named(document, environment, warnings);
    environment.get("MCP_MODE").is_some_and(is_on)
}

/// The variables of 1.x, below the `CPROXY_` ones.
///
/// 1.x sent every request to one base URL, and chose between two models by whether the caller asked for
/// thinking. That is two rules here, before those of the file; they take the names that Claude Code uses
/// (`claude-*`), so that a model that is named expressly still goes where it belongs.
fn apply_1x<'t>(document: &mut Document<'t>, environment: &'t Environment<'_>) {
    if let Some(port) = environment.get("PORT") {
        set_checked(document, ("server", "port"), Scalar::Number, port, "PORT");
    }
    if environment.get("DEBUG").is_some_and(is_on) {
        set_checked(document, ("logging", "level"), Scalar::Text, "debug", "DEBUG");
    }

    let has_providers = document.root().get("providers").is_some();
    if environment.get("OPENROUTER_API_KEY").is_some() && !has_providers {
        let provider = table([("kind", text("openrouter"))]);
        document.set("providers", "openrouter", DeValue::Table(provider), "OPENROUTER_API_KEY");
    }
    let base_url = environment.get("ANTHROPIC_PROXY_BASE_URL");
    if let Some(base_url) = base_url {
        let provider = table([("kind", text("local")), ("base_url", text(&base_url_of_1x(base_url)))]);
        document.set("providers", UPSTREAM, DeValue::Table(provider), "ANTHROPIC_PROXY_BASE_URL");
        set_checked(
            document,
            ("routing", "default_provider"),
            Scalar::Text,
            UPSTREAM,
            "ANTHROPIC_PROXY_BASE_URL",
        );
    }

    let provider = if base_url.is_some() { UPSTREAM } else { "openrouter" };
    let target = |model: Option<&str>| match model {
        Some(model) => Some(format!("{provider}/{}", model.trim())),
        None => base_url.map(|_| UPSTREAM.to_owned()),
    };
    let completion = environment.get("COMPLETION_MODEL");
    let reasoning = environment.get("REASONING_MODEL");
    if let Some(target) = target(completion) {
        document.put_rule_first(table([
            (
                "name",
                text(if completion.is_some() { "COMPLETION_MODEL" } else { "ANTHROPIC_PROXY_BASE_URL" }),
            ),
            ("model", text("claude-*")),
            ("targets", list(&target)),
        ]));
    }
    if let Some(target) = reasoning.and_then(|model| target(Some(model))) {
        document.put_rule_first(table([
            ("name", text("REASONING_MODEL")),
            ("model", text("claude-*")),
            ("role", text("thinking")),
            ("targets", list(&target)),
        ]));
    }
}

/// `CPROXY_<SECTION>_<KEY>`.
fn apply_named<'t>(
    document: &mut Document<'t>,
    environment: &'t Environment<'_>,
    warnings: &mut Vec<String>,
) {
    let schema: &serde_json::Value = &super::load::SCHEMA;
    let mut known: Vec<(String, &'static str, String, Scalar)> = Vec::new();
    for section in SECTIONS {
        for (key, kind) in scalar_keys(schema, section) {
            let name = format!("CPROXY_{}_{}", section.to_uppercase(), key.to_uppercase());
            known.push((name, section, key, kind));
        }
    }
    for (name, value) in environment.variables.range("CPROXY_".to_owned()..) {
        if !name.starts_with("CPROXY_") {
            break;
        }
        if RESERVED.contains(&name.as_str()) || value.trim().is_empty() {
            continue;
        }
        if let Some((name, section, key, kind)) = known.iter().find(|(known, ..)| known == name) {
            set_checked(document, (section, key), *kind, value, name);
        } else {
            let meant = suggest::nearest(name, known.iter().map(|(name, ..)| name.as_str()));
            let meant = meant.map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
            warnings.push(format!("the variable {} names no key of the config{meant}", error::mask(name)));
        }
    }
}

/// Writes one value, if it can be read as what the key takes; else reports the variable.
fn set_checked<'t>(
    document: &mut Document<'t>,
    (section, key): (&str, &str),
    kind: Scalar,
    value: &'t str,
    variable: &str,
) {
    let value = match kind {
        Scalar::Text => text(value),
        // What is no number or truth value stays text, and is refused as such below.
        Scalar::Number | Scalar::Truth => match DeValue::parse(value.trim()) {
            Ok(parsed)
                if parsed.get_ref().is_integer()
                    || parsed.get_ref().is_float()
                    || parsed.get_ref().is_bool() =>
            {
                parsed.into_inner()
            }
            _ => text(value),
        },
    };
    let section_table = table([(section, DeValue::Table(table([(key, value.clone())])))]);
    let whole = Spanned::new(0..0, DeValue::Table(section_table));
    match Config::deserialize(ValueDeserializer::from(whole)) {
        Ok(_) => document.set(section, key, value, variable),
        Err(error) => {
            let mut problem = Problem::new(variable, error::mask(&super::document::explain(error.message())));
            problem.key = format!("{section}.{key}");
            document.push(problem);
        }
    }
}

/// What a variable's text is read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scalar {
    Text,
    Number,
    Truth,
}

/// The scalar keys of a section, by its schema.
fn scalar_keys(schema: &serde_json::Value, section: &str) -> Vec<(String, Scalar)> {
    let properties = super::document::object_schema(&schema["properties"][section], schema)
        .and_then(|section| section.get("properties"))
        .and_then(|properties| properties.as_object());
    let kind = |node: &serde_json::Value| {
        let names = |name: &str| match &node["type"] {
            serde_json::Value::String(only) => only == name,
            serde_json::Value::Array(several) => several.iter().any(|one| one == name),
            _ => false,
        };
        if names("integer") || names("number") {
            Some(Scalar::Number)
        } else if names("boolean") {
            Some(Scalar::Truth)
        } else if names("array") || names("object") {
            None
        } else if names("string") || super::document::object_schema(node, schema).is_none_or(is_choice) {
            Some(Scalar::Text)
        } else {
            None
        }
    };
    properties.into_iter().flatten().filter_map(|(key, node)| Some((key.clone(), kind(node)?))).collect()
}

/// Whether the schema is a choice of names, or a name.
fn is_choice(schema: &serde_json::Value) -> bool {
    schema.get("properties").is_none() && schema.get("additionalProperties").is_none()
}

/// 1.x put `/v1/chat/completions` behind whatever it was given.
fn base_url_of_1x(written: &str) -> String {
    let trimmed = written.trim().trim_end_matches('/');
    let last = trimmed.rsplit('/').next().unwrap_or_default();
    let versioned = last.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    if versioned { trimmed.to_owned() } else { format!("{trimmed}/v1") }
}

/// Whether a switch is on, as people set them.
fn is_on(value: &str) -> bool {
    !matches!(value.trim().to_ascii_lowercase().as_str(), "" | "0" | "false" | "no" | "off")
}

// === building TOML ===

fn text<'t>(value: &str) -> DeValue<'t> {
    DeValue::String(Cow::Owned(value.to_owned()))
}

fn list<'t>(value: &str) -> DeValue<'t> {
    let mut array = DeArray::new();
    array.push(Spanned::new(0..0, text(value)));
    DeValue::Array(array)
}

fn table<'t, const N: usize>(entries: [(&str, DeValue<'t>); N]) -> DeTable<'t> {
    entries
        .into_iter()
        .map(|(key, value)| (Spanned::new(0..0, Cow::Owned(key.to_owned())), Spanned::new(0..0, value)))
        .collect()
}
