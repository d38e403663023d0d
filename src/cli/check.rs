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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(text: &str) -> (bool, String) {
        let environment = Environment {
            variables: [("K".into(), "v".into())].into(),
            read: &|_| Err(io::ErrorKind::NotFound.into()),
        };
        let source = Source::Text(text.into(), "/".into());
        let mut out = Vec::new();
        let result = config::load(&source, &environment, &Overrides::default());
        match &result {
            Ok(loaded) => write_summary(&mut out, loaded).unwrap(),
            Err(error) => write_problems(&mut out, error).unwrap(),
        }
        (result.is_ok(), String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_good_config_is_summed_up_by_provider() {
        let (ok, text) = check(
            "[providers.a]\nkind = \"openai\"\napi_key_env = \"K\"\n[providers.b]\nkind = \"anthropic\"\n\
             [providers.c]\nkind = \"openrouter\"\ndisabled = true\n",
        );
        assert!(ok);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].ends_with("https://api.openai.com/v1  ready"), "{text}");
        assert!(lines[2].ends_with("no key (the variable ANTHROPIC_API_KEY is not set)"), "{text}");
        assert!(lines[3].ends_with("disabled"), "{text}");
        assert!(!text.contains("simulator"), "{text}");
        assert!(check("").1.contains("simulator"));
    }

    #[test]
    fn a_bad_config_is_told_line_by_line() {
        let (ok, text) = check("[server]\nprot = 1\nhost = 1\n");
        assert!(!ok);
        assert!(text.contains("config:2: server.prot: unknown key; did you mean \"port\"?"), "{text}");
        assert!(text.ends_with("2 problems\n"), "{text}");
    }
}
