//! The text of the config that `init` writes: short, commented, and right as it stands.

use std::fmt::Write as _;

use super::find::{Cloud, Found, Local};
use crate::config::ProviderKind;

/// Stand-ins for Claude's names at those who do not serve them: for opus and sonnet, and for haiku, which Claude
/// Code uses for small tasks.
fn stand_ins(kind: ProviderKind) -> Option<(&'static str, &'static str)> {
    match kind {
        ProviderKind::Openrouter => Some(("anthropic/claude-sonnet-4.5", "anthropic/claude-haiku-4.5")),
        ProviderKind::Openai => Some(("gpt-5.2", "gpt-5-mini")),
        ProviderKind::Gemini => Some(("gemini-3-pro-preview", "gemini-3-flash-preview")),
        ProviderKind::Anthropic | ProviderKind::Local => None,
    }
}

/// The config for what was found.
pub fn config(found: &Found, port: u16) -> String {
    let mut out = format!(
        "# The configuration of cproxy, written by `cproxy init`. `cproxy config example` shows every key there is;\n\
         # `cproxy check` checks this file. The daemon watches it: save it, and the change is in force.\n\n\
         [server]\nport = {port}\n\n\
         # Providers. Keys are never written here: name the variable or the file that holds them.\n"
    );
    let mut clouds = found.clouds.clone();
    if found.claude_login {
        clouds.retain(|cloud| cloud.kind != ProviderKind::Anthropic);
        out.push_str(
            "\n[providers.anthropic]\nkind = \"anthropic\"\n\
             auth = \"caller\"                      # your Claude login goes on to Anthropic, untouched\n\
             models = [\"claude-*\"]\npriority = 1\n",
        );
    }
    if clouds.is_empty() && found.locals.is_empty() {
        // Nothing was found: write down the two most likely, to wait for their keys.
        let likely = [ProviderKind::Anthropic, ProviderKind::Openrouter];
        clouds.extend(likely.into_iter().filter_map(|kind| {
            let known = found.claude_login && kind == ProviderKind::Anthropic;
            let variable = kind.usual_key_variable().filter(|_| !known)?;
            Some(Cloud { kind, variable })
        }));
    }
    for cloud in &clouds {
        provider(&mut out, cloud);
    }
    for server in &found.locals {
        local(&mut out, server);
    }
    let claude = found.claude_login || clouds.iter().any(|cloud| cloud.kind == ProviderKind::Anthropic);
    let first = (if claude { Some("anthropic") } else { None })
        .or(clouds.first().map(|cloud| cloud.kind.as_str()))
        .or(found.locals.first().map(|server| server.name));
    aliases(&mut out, found, &clouds, claude);
    if let Some(first) = first {
        let _ = write!(
            out,
            "\n[routing]\ndefault_provider = {}        # for models that nobody lists\n",
            quoted(first)
        );
        let fallback = clouds.iter().map(|cloud| cloud.kind.as_str()).find(|name| *name != first);
        match fallback {
            Some(fallback) => {
                let _ =
                    writeln!(out, "fallback_provider = {}      # when all others failed", quoted(fallback));
            }
            None => out.push_str("# fallback_provider = \"…\"             # when all others failed\n"),
        }
    }
    out
}

fn provider(out: &mut String, cloud: &Cloud) {
    let name = cloud.kind.as_str();
    let models: &[&str] = match cloud.kind {
        ProviderKind::Anthropic => &["claude-*"],
        ProviderKind::Openai => &["gpt-*", "o1*", "o3*", "o4*"],
        ProviderKind::Openrouter => &["*/*"],
        ProviderKind::Gemini => &["gemini-*"],
        ProviderKind::Local => &[],
    };
    let priority = if cloud.kind == ProviderKind::Openrouter { 2 } else { 1 };
    let _ = write!(
        out,
        "\n[providers.{name}]\nkind = {}\napi_key_env = {}      # or api_key_file = \"~/.keys/{name}\" (mode 0600)\n\
         models = {}\npriority = {priority}                          # lower is tried first\n",
        quoted(name),
        quoted(cloud.variable),
        list(models.iter().copied()),
    );
}

fn local(out: &mut String, server: &Local) {
    let _ = write!(
        out,
        "\n[providers.{0}]\nkind = \"local\"\nvariant = {1}\nbase_url = {2}\nmodels = {3}\npriority = 3\n",
        server.name,
        quoted(server.name),
        quoted(&server.base_url),
        list(server.models.iter().map(String::as_str)),
    );
}

/// Aliases: in force where nobody serves Claude's names, else as an example.
fn aliases(out: &mut String, found: &Found, clouds: &[Cloud], claude: bool) {
    out.push_str(
        "\n# Aliases: the name that Claude Code asks for, and what to try for it, in order: \"provider/model\".\n[models]\n",
    );
    let by_cloud = clouds.iter().find_map(|cloud| {
        let (large, small) = stand_ins(cloud.kind)?;
        let name = cloud.kind.as_str();
        Some((format!("{name}/{large}"), format!("{name}/{small}")))
    });
    let by_local = found.locals.iter().find_map(|server| {
        let model = format!("{}/{}", server.name, server.models.first()?);
        Some((model.clone(), model))
    });
    match by_cloud.or(by_local) {
        Some((large, small)) => {
            let comment = if claude { "# " } else { "" };
            let _ = write!(
                out,
                "{comment}\"claude-haiku-*\" = [{}]\n{comment}\"claude-*\" = [{}]\n",
                quoted(&small),
                quoted(&large)
            );
        }
        None => out.push_str("# \"claude-haiku-*\" = [\"openrouter/google/gemini-3-flash-preview\"]\n"),
    }
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.map(quoted).collect();
    format!("[{}]", names.join(", "))
}

/// The text as TOML writes it.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::config::{self, Environment, Loaded, Overrides, Source};

    fn loads(found: &Found) -> Loaded {
        let environment = Environment {
            variables: Default::default(),
            read: &|_| Err(std::io::ErrorKind::NotFound.into()),
        };
        let source = Source::Text(config(found, 3000), "/".into());
        match config::load(&source, &environment, &Overrides::default()) {
            Ok(loaded) => loaded,
            Err(error) => panic!("{error}\n{}", config(found, 3000)),
        }
    }

    #[test]
    fn whatever_is_found_the_config_loads_without_a_warning() {
        let clouds: Vec<Cloud> =
            [ProviderKind::Anthropic, ProviderKind::Openai, ProviderKind::Openrouter, ProviderKind::Gemini]
                .into_iter()
                .map(|kind| Cloud { kind, variable: kind.usual_key_variable().unwrap() })
                .collect();
        let hostile = Local {
            name: "ollama",
            base_url: "http://127.0.0.1:11434/v1".into(),
            models: vec!["qwen3:8b".into(), "a\"b\\".into()],
        };
        for taken in 0..1 << clouds.len() {
            for login in [false, true] {
                for locals in [vec![], vec![hostile.clone()]] {
                    let chosen = (0..clouds.len()).filter(|at| taken & (1 << at) != 0).map(|at| clouds[at]);
                    let found = Found { clouds: chosen.collect(), locals, claude_login: login };
                    let loaded = loads(&found);
                    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
                    assert!(loaded.config.routing.default_provider.is_some());
                }
            }
        }
    }

    #[test]
    fn with_only_a_local_server_claude_code_is_served_by_it() {
        let server = Local {
            name: "ollama",
            base_url: "http://127.0.0.1:11434/v1".into(),
            models: vec!["qwen3:8b".into()],
        };
        let loaded = loads(&Found { locals: vec![server], ..Found::default() });
        let alias = loaded.config.models.iter().find(|alias| alias.pattern == "claude-*").unwrap();
        assert_eq!(alias.targets[0].to_string(), "ollama/qwen3:8b");
    }
}
