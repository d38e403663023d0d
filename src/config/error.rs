//! What is wrong with a configuration, told so that a person can mend it: file, line, key, reason, suggestion.
//!
//! Text that may hold a credential is masked here, before it can reach a log, the status or a terminal.

use std::fmt;

/// Most problems that one error reports; a broken file can hold thousands.
pub const MAX_PROBLEMS: usize = 50;

/// Why a configuration was refused: every problem that was found, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The problems; never empty.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it stands: the file's name, an environment variable, or a command-line option.
    pub origin: String,
    /// The line, from 1, if it stands in a file.
    pub line: Option<usize>,
    /// The key, such as `providers.openrouter.kind`; empty if the whole file is meant.
    pub key: String,
    /// What is wrong, and what to do.
    pub reason: String,
    /// What may have been meant.
    pub suggestion: Option<String>,
    /// The offending line, masked.
    pub excerpt: Option<String>,
}

// === impl ConfigError ===

impl ConfigError {
    /// An error of a single problem that concerns a whole file or the command line.
    pub fn whole(origin: impl Into<String>, reason: impl Into<String>) -> ConfigError {
        ConfigError { problems: vec![Problem::new(origin, reason)] }
    }

    /// The problems in one line, for a status or a log field.
    pub fn summary(&self) -> String {
        let Some(first) = self.problems.first() else { return "refused".into() };
        match self.problems.len() {
            1 => first.headline(),
            more => format!("{} (and {} more)", first.headline(), more - 1),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.problems.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

// === impl Problem ===

impl Problem {
    /// A problem of `origin` as a whole.
    pub fn new(origin: impl Into<String>, reason: impl Into<String>) -> Problem {
        Problem {
            origin: origin.into(),
            line: None,
            key: String::new(),
            reason: reason.into(),
            suggestion: None,
            excerpt: None,
        }
    }

    /// The problem without its excerpt: `config.toml:12: providers.a.kinda: unknown key; did you mean "kind"?`
    pub fn headline(&self) -> String {
        let mut text = self.origin.clone();
        if let Some(line) = self.line {
            text.push_str(&format!(":{line}"));
        }
        if !self.key.is_empty() {
            text.push_str(&format!(": {}", self.key));
        }
        text.push_str(&format!(": {}", self.reason));
        if let Some(suggestion) = &self.suggestion {
            text.push_str(&format!("; did you mean \"{suggestion}\"?"));
        }
        text
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.headline())?;
        match (self.line, &self.excerpt) {
            (Some(line), Some(excerpt)) => write!(f, "\n  {line:>4} | {excerpt}"),
            _ => Ok(()),
        }
    }
}

// === masking ===

/// Masks whatever in `text` looks like a credential, and cuts the text to a bearable length.
///
/// A word is taken for one if it starts as the vendors' keys do (`sk-`, `AIza`, `gsk_` …), or if it is long
/// and mixes letters and digits without being a path, an address or a dated model name.
pub fn mask(text: &str) -> String {
    const LONGEST: usize = 200;
    let mut out = String::with_capacity(text.len().min(LONGEST));
    let mut word = String::new();
    for c in text.chars().chain(std::iter::once(' ')) {
        if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '+' | '~' | '/' | '.' | ':' | '@' | '%') {
            word.push(c);
            continue;
        }
        out.push_str(if looks_secret(&word) { "•••" } else { &word });
        word.clear();
        if c.is_control() {
            out.push(' ');
        } else {
            out.push(c);
        }
        if out.len() > LONGEST {
            let cut =
                out.char_indices().map(|(at, _)| at).take_while(|at| *at <= LONGEST).last().unwrap_or(0);
            out.truncate(cut);
            out.push('…');
            return out;
        }
    }
    out.pop();
    out
}

/// Masks everything after the first `=` of a line: for keys whose values are credentials, or may be.
pub fn mask_value(line: &str) -> String {
    match line.split_once('=') {
        Some((key, _)) => format!("{}= •••", mask(key)),
        None => mask(line),
    }
}

/// Whether a key's values are credentials, or may have been taken for them by whoever wrote the file.
pub fn is_sensitive(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["key", "secret", "password", "passwd", "token_", "bearer", "credential", "auth", "headers", "cookie"]
        .iter()
        .any(|mark| key.contains(mark))
        || key.ends_with("token")
}

/// Whether a word looks like a credential.
pub fn looks_secret(word: &str) -> bool {
    const PREFIXES: [&str; 10] =
        ["sk-", "sk_", "gsk_", "AIza", "xai-", "pplx-", "hf_", "ghp_", "github_pat_", "eyJ"];
    if word.contains('@') && word.contains(':') {
        return true; // user:password@host
    }
    let word = word.trim_matches(['.', ':', '/']);
    if word.len() > 8 && PREFIXES.iter().any(|prefix| word.starts_with(prefix)) {
        return true;
    }
    word.split(['/', '.', ':', '@']).any(|run| {
        let digits = run.chars().filter(char::is_ascii_digit).count();
        let letters = run.chars().filter(char::is_ascii_alphabetic).count();
        // The parts of a model's name between its hyphens are words or numbers; those of a key are both.
        let mixed = run.split(['-', '_']).any(|part| {
            part.len() >= 12
                && part.chars().filter(char::is_ascii_digit).count().min(12) >= 2
                && part.chars().any(|c| c.is_ascii_alphabetic())
        });
        run.len() >= 20 && digits >= 2 && letters >= 2 && mixed
    })
}
