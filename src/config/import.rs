//! Reads claude-code-router's `config.json` (version 2: providers, router roles, transformers) into our TOML, and
//! lists what has no counterpart. Keys are never copied: they become names of variables.
//!
//! The format: the project's README (musistudio/claude-code-router, tag v2.0.0, "Configuration").

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::{Map, Value};

use super::{ProviderKind, address};

mod json5;
mod write;

/// The result of an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The text of a `config.toml`.
    pub toml: String,
    /// What has no counterpart, or needs a hand, each in words.
    pub notes: Vec<String>,
}

/// Why a file can't be imported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// It is larger than any such file.
    #[error("the file is larger than 1 MiB; it is hardly a config.json of claude-code-router")]
    TooLarge,
    /// It is not JSON.
    #[error("not JSON, line {line}: {reason} (comments and trailing commas are fine)")]
    NotJson {
        /// The line, from 1.
        line: usize,
        /// What the parser says.
        reason: String,
    },
    /// It is JSON of something else.
    #[error("no config.json of claude-code-router 2: {0}")]
    Foreign(&'static str),
}

/// One provider on its way over.
#[derive(Debug)]
struct Provider {
    name: String,
    kind: ProviderKind,
    base_url: String,
    variant: Option<&'static str>,
    key_variable: Option<String>,
    models: Vec<String>,
    max_output_tokens: Option<u64>,
}

/// One routing rule on its way over.
#[derive(Debug)]
struct Rule {
    name: &'static str,
    matches: Vec<(&'static str, String)>,
    targets: Vec<String>,
}

/// All that comes over.
#[derive(Debug, Default)]
struct Draft {
    server: Vec<(&'static str, String)>,
    logging: Vec<(&'static str, String)>,
    total_timeout: Option<String>,
    providers: Vec<Provider>,
    default_provider: Option<String>,
    rules: Vec<Rule>,
    notes: Vec<String>,
}

/// Reads a `config.json`.
///
/// # Errors
///
/// If the text is no JSON (with comments), or not of claude-code-router.
pub fn from_ccr(json: &str) -> Result<Imported, ImportError> {
    if json.len() as u64 > super::source::MAX_FILE {
        return Err(ImportError::TooLarge);
    }
    let value: Value = serde_json::from_str(&json5::to_json(json)).map_err(|error| {
        // serde's message tells the place a second time, and never the text.
        let reason = error.to_string();
        let reason = reason.split(" at line ").next().unwrap_or_default().to_owned();
        ImportError::NotJson { line: error.line(), reason }
    })?;
    let Value::Object(root) = value else { return Err(ImportError::Foreign("it is no JSON object")) };
    let providers = root.get("Providers").or_else(|| root.get("providers"));
    let Some(Value::Array(providers)) = providers else {
        return Err(ImportError::Foreign("it has no list \"Providers\""));
    };

    let mut draft = Draft::default();
    // The name in the file, and the one that it gets here.
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for provider in providers {
        read_provider(provider, &mut names, &mut draft);
    }
    if let Some(Value::Object(router)) = root.get("Router") {
        read_router(router, root.get("fallback"), &names, &mut draft);
    }
    read_server(&root, &mut draft);
    note_the_rest(&root, &mut draft);
    Ok(Imported { toml: write::toml(&draft), notes: draft.notes })
}

// === providers ===

fn read_provider(value: &Value, names: &mut BTreeMap<String, String>, draft: &mut Draft) {
    let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::trim).unwrap_or_default();
    let written = text("name");
    let url = text("api_base_url");
    if written.is_empty() || url.is_empty() {
        draft.notes.push("a provider without name or api_base_url was left out".into());
        return;
    }
    if names.contains_key(written) {
        draft.notes.push(format!("a second provider \"{}\" was left out", shown(written)));
        return;
    }
    let name = free_name(written, draft);
    if name != written {
        draft.notes.push(format!("provider \"{}\" is called \"{name}\" here", shown(written)));
    }

    let mut transformers = BTreeSet::new();
    let mut options = BTreeMap::new();
    if let Some(transformer) = value.get("transformer") {
        collect_transformers(transformer, &mut transformers, &mut options);
        let scoped = transformer.as_object().is_some_and(|object| object.keys().any(|key| key != "use"));
        if scoped {
            draft.notes.push(format!("provider {name}: transformers of single models have no counterpart"));
        }
    }
    let (kind, variant) = kind_of(url, &transformers);
    let base = url.trim_end_matches('/').trim_end_matches("/models").trim_end_matches(':');
    let base_url = match address::normalise(kind, base) {
        Ok(base_url) => base_url,
        Err(reason) => {
            draft.notes.push(format!("provider {name} was left out: api_base_url: {reason}"));
            return;
        }
    };
    for transformer in &transformers {
        note_transformer(transformer, &name, draft);
    }

    let key = text("api_key");
    let key_variable = key_variable(key, &name, kind, draft);
    let mut models: Vec<String> = Vec::new();
    for model in value.get("models").and_then(Value::as_array).into_iter().flatten() {
        match model.as_str().map(str::trim) {
            Some(model) if !model.is_empty() && !model.chars().any(char::is_control) => {
                if !models.iter().any(|known| known == model) {
                    models.push(model.to_owned());
                }
            }
            _ => draft.notes.push(format!("provider {name}: a model without a name was left out")),
        }
    }
    let max_output_tokens = options.get("maxtoken").copied().filter(|tokens| *tokens > 0);
    names.insert(written.to_owned(), name.clone());
    draft.providers.push(Provider { name, kind, base_url, variant, key_variable, models, max_output_tokens });
}

/// A name that is legal here and not taken.
fn free_name(written: &str, draft: &Draft) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
    let plain: String = written.chars().map(legal).take(48).collect();
    let plain = match plain.trim_matches('-') {
        "" => "provider".to_owned(),
        plain if super::error::looks_secret(plain) => "provider".to_owned(),
        plain => plain.to_owned(),
    };
    let taken = |name: &str| draft.providers.iter().any(|provider| provider.name == name);
    if !taken(&plain) {
        return plain;
    }
    (2..).map(|n| format!("{plain}-{n}")).find(|name| !taken(name)).unwrap_or(plain)
}

/// What the upstream is, by its address and transformers.
fn kind_of(url: &str, transformers: &BTreeSet<String>) -> (ProviderKind, Option<&'static str>) {
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = after_scheme.split(['/', '?', '#']).next().unwrap_or_default().to_ascii_lowercase();
    let host = authority.split_once(':').map_or(authority.as_str(), |(host, _)| host);
    let is = |domain: &str| host == domain || host.ends_with(&format!(".{domain}"));
    let has = |name: &str| transformers.contains(name);

    if has("anthropic") || is("anthropic.com") {
        (ProviderKind::Anthropic, None)
    } else if is("openrouter.ai") {
        (ProviderKind::Openrouter, None)
    } else if has("gemini") && is("googleapis.com") && !url.contains("/openai") {
        (ProviderKind::Gemini, None)
    } else if is("openai.com") {
        (ProviderKind::Openai, None)
    } else if url.starts_with("http://") {
        let variant = if authority.ends_with(":11434") { Some("ollama") } else { None };
        (ProviderKind::Local, variant)
    } else {
        let variants = [
            ("deepseek.com", "deepseek"),
            ("groq.com", "groq"),
            ("mistral.ai", "mistral"),
            ("azure.com", "azure"),
            ("perplexity.ai", "perplexity"),
            ("x.ai", "xai"),
            ("moonshot.ai", "moonshot"),
            ("moonshot.cn", "moonshot"),
            ("kimi.com", "moonshot"),
            ("z.ai", "zai"),
            ("bigmodel.cn", "zai"),
            ("together.xyz", "together"),
            ("together.ai", "together"),
            ("fireworks.ai", "fireworks"),
            ("cerebras.ai", "cerebras"),
            ("googleapis.com", "gemini"),
        ];
        let by_host = variants.iter().find(|(domain, _)| is(domain)).map(|(_, variant)| *variant);
        (ProviderKind::Openai, by_host.or(Some("generic")))
    }
}

/// The variable for a key. What was written literally is not copied.
fn key_variable(key: &str, name: &str, kind: ProviderKind, draft: &mut Draft) -> Option<String> {
    let reference = key.strip_prefix('$').map(|rest| rest.trim_start_matches('{').trim_end_matches('}'));
    let legal = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && !super::error::looks_secret(name)
    };
    if let Some(variable) = reference.filter(|name| legal(name)) {
        return Some(variable.to_owned());
    }
    if kind == ProviderKind::Local {
        if !key.is_empty() {
            draft.notes.push(format!(
                "provider {name}: its key was not copied; a local server mostly needs none, else set api_key_env"
            ));
        }
        return None;
    }
    let upper = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let mut variable = format!("{}_API_KEY", name.chars().map(upper).collect::<String>());
    if variable.starts_with(|c: char| c.is_ascii_digit()) {
        variable.insert(0, '_');
    }
    draft.notes.push(format!("provider {name}: keys are not copied; put it into the variable {variable}"));
    Some(variable)
}

/// The names of transformers, lower-case, and `max_tokens` where one sets it.
fn collect_transformers(value: &Value, names: &mut BTreeSet<String>, options: &mut BTreeMap<String, u64>) {
    for entry in value.get("use").and_then(Value::as_array).into_iter().flatten() {
        match entry {
            Value::String(name) => {
                names.insert(name.to_ascii_lowercase());
            }
            Value::Array(pair) => {
                let Some(name) = pair.first().and_then(Value::as_str) else { continue };
                let name = name.to_ascii_lowercase();
                let tokens =
                    pair.get(1).and_then(|options| options.get("max_tokens")).and_then(Value::as_u64);
                if let Some(tokens) = tokens {
                    options.insert(name.clone(), tokens);
                }
                names.insert(name);
            }
            _ => {}
        }
    }
}

/// Says what becomes of a transformer. Most do what the daemon does by itself.
fn note_transformer(transformer: &str, name: &str, draft: &mut Draft) {
    const BY_ITSELF: [&str; 13] = [
        "anthropic",
        "openrouter",
        "deepseek",
        "gemini",
        "groq",
        "openai",
        "maxtoken",
        "tooluse",
        "enhancetool",
        "cleancache",
        "reasoning",
        "maxcompletiontokens",
        "streamoptions",
    ];
    if !BY_ITSELF.contains(&transformer) {
        draft
            .notes
            .push(format!("provider {name}: the transformer \"{}\" has no counterpart", shown(transformer)));
    }
}

// === router ===

/// Roles become rules, in claude-code-router's own order of precedence.
fn read_router(
    router: &Map<String, Value>,
    fallback: Option<&Value>,
    names: &BTreeMap<String, String>,
    draft: &mut Draft,
) {
    let threshold = router.get("longContextThreshold").and_then(Value::as_u64).unwrap_or(60_000);
    let role = |role: &str| vec![("role", write::quote(role))];
    let roles = [
        ("image", "images", role("images")),
        ("longContext", "long context", vec![("above_tokens", threshold.min(i64::MAX as u64).to_string())]),
        ("background", "background", role("background")),
        ("webSearch", "web search", role("web-search")),
        ("think", "thinking", role("thinking")),
        ("default", "default", vec![("model", write::quote("claude-*"))]),
    ];
    for (key, name, matches) in roles {
        let written = router.get(key).and_then(Value::as_str).unwrap_or_default().trim();
        if written.is_empty() {
            continue;
        }
        let mut targets: Vec<String> = target(written, key, names, draft).into_iter().collect();
        let next = fallback.and_then(|fallback| fallback.get(key)).and_then(Value::as_array);
        for written in next.into_iter().flatten().filter_map(Value::as_str) {
            targets.extend(target(written, key, names, draft));
        }
        if targets.is_empty() {
            continue;
        }
        if key == "default" {
            draft.default_provider =
                targets.first().and_then(|target| Some(target.split_once('/')?.0.to_owned()));
        }
        draft.rules.push(Rule { name, matches, targets });
    }
    let known =
        ["default", "background", "think", "longContext", "longContextThreshold", "webSearch", "image"];
    for key in router.keys().filter(|key| !known.contains(&key.as_str())) {
        draft.notes.push(format!("Router.{} has no counterpart", shown(key)));
    }
}

/// `provider,model` as `provider/model`.
fn target(written: &str, role: &str, names: &BTreeMap<String, String>, draft: &mut Draft) -> Option<String> {
    let (provider, model) = written.split_once(',').map(|(p, m)| (p.trim(), m.trim())).unwrap_or_default();
    let Some(name) = names.get(provider).filter(|_| !model.is_empty() && !model.contains(char::is_control))
    else {
        draft.notes.push(format!(
            "Router.{role} names \"{}\", which is no \"provider,model\" of this file; it was left out",
            shown(written)
        ));
        return None;
    };
    Some(format!("{name}/{model}"))
}

// === the rest ===

fn read_server(root: &Map<String, Value>, draft: &mut Draft) {
    let number = |key: &str| match root.get(key) {
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(value) => value.as_u64(),
        None => None,
    };
    if let Some(port) = number("PORT").and_then(|port| u16::try_from(port).ok()) {
        draft.server.push(("port", port.to_string()));
    }
    // claude-code-router listens beyond the machine only with an APIKEY; the daemon likewise with a token.
    let guarded = root.get("APIKEY").and_then(Value::as_str).is_some_and(|key| !key.trim().is_empty());
    let host = root.get("HOST").and_then(Value::as_str).and_then(|host| host.trim().parse::<IpAddr>().ok());
    match host {
        Some(host) if guarded || host.is_loopback() => {
            draft.server.push(("host", write::quote(&host.to_string())))
        }
        Some(_) => {
            draft.notes.push("HOST was left out: without APIKEY it was 127.0.0.1 there as well".into())
        }
        None => {}
    }
    if guarded {
        draft.server.push(("token_file", write::quote("~/.config/cproxy/token")));
        draft.notes.push(
            "APIKEY was not copied: callers now send the token in ~/.config/cproxy/token (made at first start; \
             or put the old value there, mode 0600)"
                .into(),
        );
    }
    if let Some(timeout) = number("API_TIMEOUT_MS").filter(|ms| *ms > 0) {
        // Our own bound is a week; connecting keeps its default and must fit in.
        let timeout = timeout.clamp(10_000, 7 * 24 * 3_600_000);
        draft.total_timeout = Some(format!("{timeout}ms"));
    }
    if root.get("LOG") == Some(&Value::Bool(false)) {
        draft.logging.push(("requests", "false".into()));
    }
    if let Some(level) = root.get("LOG_LEVEL").and_then(Value::as_str) {
        let level = match level.trim().to_ascii_lowercase().as_str() {
            "fatal" => Some("error"),
            "silent" => Some("off"),
            level => ["error", "warn", "info", "debug", "trace"].into_iter().find(|known| *known == level),
        };
        draft.logging.extend(level.map(|level| ("level", write::quote(level))));
    }
}

fn note_the_rest(root: &Map<String, Value>, draft: &mut Draft) {
    for (key, value) in root {
        let empty = matches!(value, Value::Null | Value::Bool(false))
            || value.as_str().is_some_and(str::is_empty)
            || value.as_array().is_some_and(Vec::is_empty)
            || value.as_object().is_some_and(Map::is_empty);
        let note = match key.as_str() {
            "Providers" | "providers" | "Router" | "fallback" | "HOST" | "PORT" | "APIKEY"
            | "API_TIMEOUT_MS" | "LOG" | "LOG_LEVEL" => continue,
            _ if empty => continue,
            "PROXY_URL" => "PROXY_URL: set the variable HTTPS_PROXY instead".to_owned(),
            "CUSTOM_ROUTER_PATH" => {
                "CUSTOM_ROUTER_PATH: a script has no counterpart; see [[routing.rules]]".to_owned()
            }
            "transformers" => "transformers: own transformers have no counterpart".to_owned(),
            "NON_INTERACTIVE_MODE" => continue,
            other => format!("{} has no counterpart", shown(other)),
        };
        draft.notes.push(note);
    }
}

/// A text of the file in a note: masked, and short.
fn shown(text: &str) -> String {
    super::error::mask(text)
}

#[cfg(test)]
mod tests;
