//! Resolves the keys of a provider: from variables and files into a pool, or into words about what was looked for.

use std::path::{Path, PathBuf};

use super::document::{Document, KeyPath};
use super::secret::Key;
use super::source::{Environment, resolve};
use super::{Auth, Provider, ProviderId, ProviderKind, error};

/// The keys of one provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// A pool of at least one, in the order in which they are written.
    Pool(Vec<Key>),
    /// None of its keys is there; the text says what was looked for.
    Missing(String),
    /// It needs none (kind `local`), or sends the caller's own (`auth = "caller"`).
    NotNeeded,
}

/// What resolving leaves behind besides the keys.
#[derive(Debug, Default)]
pub struct Found {
    /// Files that hold keys, there or not.
    pub files: Vec<PathBuf>,
    /// Whatever deserves a person's attention.
    pub warnings: Vec<String>,
}

// === impl Keys ===

impl Keys {
    /// The pool; empty if there is none.
    pub fn pool(&self) -> &[Key] {
        match self {
            Keys::Pool(pool) => pool,
            Keys::Missing(_) | Keys::NotNeeded => &[],
        }
    }
}

impl ProviderKind {
    /// The variable in which the vendor's own tools look for the key. Asked only for the vendor's own address:
    /// a key must not go to a server that merely speaks the same language.
    pub fn usual_key_variable(self) -> Option<&'static str> {
        match self {
            ProviderKind::Anthropic => Some("ANTHROPIC_API_KEY"),
            ProviderKind::Openai => Some("OPENAI_API_KEY"),
            ProviderKind::Openrouter => Some("OPENROUTER_API_KEY"),
            ProviderKind::Gemini => Some("GEMINI_API_KEY"),
            ProviderKind::Local => None,
        }
    }
}

/// Resolves the keys of one provider. Files that others can read are problems; what is merely absent is not.
pub fn resolve_keys(
    id: &ProviderId,
    provider: &Provider,
    dir: &Path,
    environment: &Environment<'_>,
    document: &mut Document<'_>,
    found: &mut Found,
) -> Keys {
    if provider.auth == Auth::Caller {
        return Keys::NotNeeded;
    }
    let path = KeyPath::of(["providers", id.as_str()]);
    let mut variables: Vec<(KeyPath, &str)> = Vec::new();
    if let Some(name) = &provider.api_key_env {
        variables.push((path.key("api_key_env"), name));
    }
    for (n, name) in provider.api_keys_env.iter().enumerate() {
        variables.push((path.key("api_keys_env").index(n), name));
    }
    let mut files: Vec<(KeyPath, &Path)> = Vec::new();
    if let Some(file) = &provider.api_key_file {
        files.push((path.key("api_key_file"), file));
    }
    for (n, file) in provider.api_key_files.iter().enumerate() {
        files.push((path.key("api_key_files").index(n), file));
    }
    if variables.is_empty() && files.is_empty() {
        if provider.base_url.as_deref().is_none_or(|url| Some(url) == provider.kind.default_base_url())
            && let Some(name) = provider.kind.usual_key_variable()
        {
            variables.push((path.clone(), name));
        } else if provider.kind.needs_key() {
            return Keys::Missing("it names no key; set api_key_env or api_key_file".to_owned());
        } else {
            return Keys::NotNeeded;
        }
    }

    let mut pool: Vec<Key> = Vec::new();
    let mut missing: Vec<String> = Vec::new();
    for (at, name) in variables {
        if !is_variable_name(name) {
            document.report(&at, "expected the name of an environment variable, not the key itself");
            continue;
        }
        match environment.get(name) {
            None => missing.push(format!("the variable {name} is not set")),
            Some(value) => add(&mut pool, &mut missing, &mut found.warnings, id, name, value),
        }
    }
    for (at, file) in files {
        let file = resolve(file, dir, &environment.variables);
        let shown = file.display().to_string();
        let read = (environment.read)(&file);
        found.files.push(file);
        match read {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                missing.push(format!("the file {shown} is not there"));
            }
            Err(error) => missing.push(format!("the file {shown} can't be read: {error}")),
            Ok(text) if text.mode.is_some_and(|mode| mode & 0o077 != 0) => {
                let mode = text.mode.unwrap_or_default() & 0o777;
                document.report(
                    &at,
                    format!("others can read the key file {shown} (mode {mode:04o}); run: chmod 600 {shown}"),
                );
            }
            Ok(text) => match std::str::from_utf8(&text.bytes) {
                Ok(value) => add(&mut pool, &mut missing, &mut found.warnings, id, &shown, value),
                Err(_) => missing.push(format!("the file {shown} holds no text")),
            },
        }
    }

    if pool.is_empty() {
        return match (provider.kind.needs_key(), missing.is_empty()) {
            (true, _) => Keys::Missing(missing.join("; ")),
            (false, true) => Keys::NotNeeded,
            (false, false) => {
                found.warnings.push(format!("provider {id} is used without a key: {}", missing.join("; ")));
                Keys::NotNeeded
            }
        };
    }
    for reason in missing {
        found.warnings.push(format!("provider {id} has a smaller pool of keys: {reason}"));
    }
    Keys::Pool(pool)
}

/// Puts a key into the pool, if it is one that can be sent in a header (RFC 9110, section 5.5).
fn add(
    pool: &mut Vec<Key>,
    missing: &mut Vec<String>,
    warnings: &mut Vec<String>,
    id: &ProviderId,
    name: &str,
    value: &str,
) {
    let value = value.trim_start_matches('\u{feff}').trim();
    if value.is_empty() {
        missing.push(format!("{name} is empty"));
    } else if !value.chars().all(|c| c.is_ascii_graphic()) {
        missing.push(format!("{name} holds more than a key (spaces, line breaks or letters beyond ASCII)"));
    } else if let Some(same) = pool.iter().find(|key| key.expose() == value) {
        warnings.push(format!("provider {id}: {name} holds the same key as {}; it counts once", same.name()));
    } else {
        pool.push(Key::new(name, value));
    }
}

/// Whether the text can be the name of a variable (POSIX: letters, digits, underscores, no digit first), and
/// doesn't look like a key that was written in its place.
fn is_variable_name(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.chars().all(legal)
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && !error::looks_secret(name)
}
