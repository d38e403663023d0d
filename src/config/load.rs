//! Loads a configuration: defaults, file, environment, command line, in this order; later wins. Then checks it,
//! and resolves keys.
//!
//! No input makes it panic, and a refused config leaves nothing behind: what was in force stays.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use super::document::{Document, KeyPath};
use super::error::{ConfigError, Problem};
use super::keys::{Found, Keys, resolve_keys};
use super::source::{BUILT_IN, Environment, MAX_FILE, Overrides, Source, resolve, state_dir};
use super::{Config, Provider, ProviderId, aliases, environment as layer, show, validate};

/// A configuration that may come into force.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The config. Every provider has its `base_url` (normalised), paths are absolute or relative to the
    /// working directory, aliases stand for their final targets.
    pub config: Config,
    /// The keys of each provider.
    pub keys: BTreeMap<ProviderId, Keys>,
    /// Whatever deserves a person's attention, in words.
    pub warnings: Vec<String>,
    /// The config file and the key files, there or not.
    pub files_to_watch: Vec<PathBuf>,
    /// Where it came from, for people.
    pub source: String,
    /// Whether the variable `MCP_MODE` asks for the MCP front over stdio, as in 1.x.
    pub mcp_mode: bool,
}

/// Loads from a source.
///
/// # Errors
///
/// Every problem that was found, each with its line, key and reason.
pub fn load(
    source: &Source,
    environment: &Environment<'_>,
    overrides: &Overrides,
) -> Result<Loaded, ConfigError> {
    let File { name, text, dir } = read_source(source, environment)?;
    let mut document = Document::parse(&name, &text);
    if document.has_problems() {
        // What could be read of a file with broken syntax says little about what was meant.
        return Err(ConfigError { problems: document.into_problems() });
    }
    let mut warnings = Vec::new();
    document.drop_unknown_keys(&SCHEMA);
    let mcp_mode = layer::apply(&mut document, environment, &mut warnings);
    let mut config = read_config(&mut document);
    if let Some(host) = overrides.host {
        config.server.host = host;
        document.set_origin("server.host", "--host");
    }
    if let Some(port) = overrides.port {
        config.server.port = port;
        document.set_origin("server.port", "--port");
    }
    resolve_paths(&mut config, &dir, environment);
    validate::validate(&mut config, &mut document, &mut warnings);

    let mut found = Found::default();
    let mut keys = BTreeMap::new();
    for (id, provider) in &config.providers {
        let pool = resolve_keys(id, provider, &dir, environment, &mut document, &mut found);
        keys.insert(id.clone(), pool);
    }
    warnings.append(&mut found.warnings);

    let problems = document.into_problems();
    if !problems.is_empty() {
        return Err(ConfigError { problems });
    }
    let mut files_to_watch: Vec<PathBuf> = source.path().map(Path::to_path_buf).into_iter().collect();
    files_to_watch.append(&mut found.files);
    files_to_watch.sort();
    files_to_watch.dedup();
    Ok(Loaded { config, keys, warnings, files_to_watch, source: name, mcp_mode })
}

/// The schema, made once: it is the same for every load.
pub(super) static SCHEMA: LazyLock<serde_json::Value> = LazyLock::new(show::json_schema);

struct File {
    name: String,
    text: String,
    dir: PathBuf,
}

/// Reads the text of a source.
fn read_source(source: &Source, environment: &Environment<'_>) -> Result<File, ConfigError> {
    let (path, optional) = match source {
        Source::Text(text, dir) => {
            return Ok(File { name: "config".into(), text: text.clone(), dir: dir.clone() });
        }
        Source::File(path) => (path, false),
        Source::Default(path) => (path, true),
    };
    let name = path.display().to_string();
    let dir = path.parent().map(Path::to_path_buf).unwrap_or_default();
    let file = match (environment.read)(path) {
        Ok(file) => file,
        Err(error) if optional && error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(File { name: "built-in defaults".into(), text: BUILT_IN.into(), dir });
        }
        Err(error) => {
            let advice = match error.kind() {
                std::io::ErrorKind::NotFound => {
                    "; check the path, or leave --config out to run with the defaults"
                }
                std::io::ErrorKind::PermissionDenied => "; make it readable for the user who runs cproxy",
                _ => "",
            };
            return Err(ConfigError::whole(name, format!("the file can't be read: {error}{advice}")));
        }
    };
    if file.bytes.len() as u64 > MAX_FILE {
        return Err(ConfigError::whole(name, "the file is larger than 1 MiB; it is hardly a config"));
    }
    match String::from_utf8(file.bytes) {
        Ok(text) => {
            let text = text.strip_prefix('\u{feff}').map(String::from).unwrap_or(text);
            Ok(File { name, text, dir })
        }
        Err(error) => {
            let good = error.utf8_error().valid_up_to();
            let line = error.as_bytes().iter().take(good).filter(|byte| **byte == b'\n').count() + 1;
            let mut problem = Problem::new(name, "not UTF-8; save the file in UTF-8");
            problem.line = Some(line);
            Err(ConfigError { problems: vec![problem] })
        }
    }
}

/// Reads the tree into the types, section by section and provider by provider, so that a slip in one hides
/// none in another.
fn read_config(document: &mut Document<'_>) -> Config {
    fn section<T: Default + serde::de::DeserializeOwned>(document: &mut Document<'_>, name: &str) -> T {
        document.read(&KeyPath::of([name])).unwrap_or_default()
    }
    Config {
        server: section(document, "server"),
        providers: read_providers(document),
        models: aliases::read(document),
        routing: section(document, "routing"),
        cache: section(document, "cache"),
        logging: section(document, "logging"),
        mcp: section(document, "mcp"),
        faults: section(document, "faults"),
        ledger: section(document, "ledger"),
        budgets: section(document, "budgets"),
        prices: section(document, "prices"),
    }
}

fn read_providers(document: &mut Document<'_>) -> BTreeMap<ProviderId, Provider> {
    let root = KeyPath::of(["providers"]);
    let Some(value) = document.get(&root) else { return BTreeMap::new() };
    let Some(table) = value.get_ref().as_table() else {
        let found = value.get_ref().type_str();
        document
            .report(&root, format!("wrong type: found {found}, expected tables such as [providers.openai]"));
        return BTreeMap::new();
    };
    let names: Vec<String> = table.keys().map(|name| name.get_ref().to_string()).collect();
    names
        .into_iter()
        .filter_map(|name| {
            let provider = document.read(&root.key(&name))?;
            Some((ProviderId::from(name.as_str()), provider))
        })
        .collect()
}

/// Makes the paths in the config independent of the directory that the daemon was started in.
fn resolve_paths(config: &mut Config, dir: &Path, environment: &Environment<'_>) {
    let paths = [
        &mut config.server.token_file,
        &mut config.logging.file,
        &mut config.faults.plan,
        &mut config.ledger.file,
    ];
    for path in paths.into_iter().flatten() {
        *path = resolve(path, dir, &environment.variables);
    }
    if config.ledger.file.is_none() {
        config.ledger.file = state_dir(&environment.variables).map(|dir| dir.join("ledger.sqlite3"));
    }
}

#[cfg(test)]
mod tests;
