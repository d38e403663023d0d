//! `cproxy check`: loads the config, says what is wrong with it or which providers it gives.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use crate::config::{self, ConfigError, Environment, Keys, Loaded, Overrides, Source};

/// Checks the file at `path`, or that at the default place. Problems go to stderr with line, key, reason and
/// suggestion, and end in exit status 1; else a summary goes to stdout.
pub fn run(path: Option<&Path>) -> ExitCode {
    let environment = Environment::of_process();
    let source = Source::of_process(path, &environment);
    let result = config::load(&source, &environment, &Overrides::default());
    let written = match &result {
        Ok(loaded) => write_summary(&mut io::stdout().lock(), loaded),
        Err(error) => write_problems(&mut io::stderr().lock(), error),
    };
    // A reader that has gone (`cproxy check | head`) changes nothing about the verdict.
    drop(written);
    if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Writes every problem, and how many there are.
pub fn write_problems(out: &mut dyn Write, error: &ConfigError) -> io::Result<()> {
    writeln!(out, "{error}")?;
    match error.problems.len() {
        1 => writeln!(out, "1 problem"),
        n => writeln!(out, "{n} problems"),
    }
}

/// Writes the providers with their states, and the warnings.
pub fn write_summary(out: &mut dyn Write, loaded: &Loaded) -> io::Result<()> {
    writeln!(out, "{}: ok", loaded.source)?;
    let width = loaded.config.providers.keys().map(|id| id.as_str().len()).max().unwrap_or(0);
    for (id, provider) in &loaded.config.providers {
        let state = match loaded.keys.get(id) {
            _ if provider.disabled => "disabled".to_owned(),
            Some(Keys::Missing(why)) => format!("no key ({why})"),
            Some(Keys::Pool(pool)) if pool.len() > 1 => format!("ready, {} keys", pool.len()),
            _ => "ready".to_owned(),
        };
        let address = provider.base_url.as_deref().unwrap_or_default();
        writeln!(out, "  {:width$}  {:10}  {address}  {state}", id.as_str(), provider.kind.as_str())?;
    }
    let usable = loaded.config.providers.iter().any(|(id, provider)| {
        !provider.disabled && !matches!(loaded.keys.get(id), None | Some(Keys::Missing(_)))
    });
    if !usable {
        writeln!(out, "  no provider is usable: the built-in simulator will answer")?;
    }
    for warning in &loaded.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    Ok(())
}
