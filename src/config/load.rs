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
use super::secret::Key;
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
    /// Headers for the collector of `[otlp]`, which may hold its key: from `OTEL_EXPORTER_OTLP_HEADERS`.
    pub otlp_headers: Vec<(String, Key)>,
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
    let (variables, env_file) = with_env_file(&dir, environment)?;
    let environment = &variables;
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
    if config.otlp.endpoint.is_none() {
        config.otlp.endpoint = environment.get("OTEL_EXPORTER_OTLP_ENDPOINT").map(str::to_owned);
    }
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
    files_to_watch.push(env_file);
    files_to_watch.sort();
    files_to_watch.dedup();
    let otlp_headers = otlp_headers(environment);
    Ok(Loaded { config, keys, warnings, files_to_watch, otlp_headers, source: name, mcp_mode })
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

/// The environment with the variables of the file `cproxy.env` beside the config, if there is one: a service does not
/// see those of a shell, and those of a process can't be changed from outside while it runs. What the process has
/// itself wins. Gives the file's place too.
fn with_env_file<'e>(
    dir: &Path,
    environment: &Environment<'e>,
) -> Result<(Environment<'e>, PathBuf), ConfigError> {
    let path = dir.join(ENV_FILE);
    let mut variables = environment.variables.clone();
    match (environment.read)(&path) {
        Ok(file) => {
            let shown = path.display().to_string();
            if let Some(mode) = file.mode.filter(|mode| mode & 0o077 != 0) {
                let reason =
                    format!("others can read it (mode {:04o}); run: chmod 600 {shown}", mode & 0o777);
                return Err(ConfigError::whole(shown, reason));
            }
            let text = String::from_utf8_lossy(&file.bytes);
            for (n, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
                let line = line.trim();
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                let Some((name, value)) = line.strip_prefix("export ").unwrap_or(line).split_once('=') else {
                    let mut problem = Problem::new(shown, "expected NAME=value");
                    problem.line = Some(n + 1);
                    return Err(ConfigError { problems: vec![problem] });
                };
                let value = value.trim();
                let unquoted =
                    ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
                let value = unquoted.unwrap_or(value);
                variables.entry(name.trim().to_owned()).or_insert_with(|| value.to_owned());
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            let reason =
                "the file can't be read: make it readable for the user who runs cproxy, and for no other";
            return Err(ConfigError::whole(path.display().to_string(), reason));
        }
        Err(_) => {} // none, which is usual
    }
    Ok((Environment { variables, read: environment.read }, path))
}

/// The name of the file with variables.
const ENV_FILE: &str = "cproxy.env";

/// What `OTEL_EXPORTER_OTLP_HEADERS` says: `name=value,name=value`, percent-encoded. Source: OpenTelemetry Protocol
/// Exporter, "Specifying headers via environment variables".
fn otlp_headers(environment: &Environment<'_>) -> Vec<(String, Key)> {
    const VARIABLE: &str = "OTEL_EXPORTER_OTLP_HEADERS";
    let pairs = environment.get(VARIABLE).into_iter().flat_map(|text| text.split(','));
    let pairs = pairs.filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), Key::new(VARIABLE, decoded(value.trim()))))
        .collect()
}

/// Text without its percent-encoding; what is none stays.
fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        let code = (*first == b'%').then(|| std::str::from_utf8(others.get(..2)?).ok()).flatten();
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = others.get(2..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = others;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
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
        otlp: section(document, "otlp"),
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
