//! Writes what was imported as the text of a `config.toml`.

use super::Draft;

/// The text.
pub fn toml(draft: &Draft) -> String {
    let mut out = String::from("# Imported from claude-code-router. Check it: cproxy check --config FILE\n");
    section(&mut out, "server", &draft.server);
    for provider in &draft.providers {
        out.push_str(&format!("\n[providers.{}]\n", quote(&provider.name)));
        out.push_str(&format!("kind = {}\n", quote(provider.kind.as_str())));
        out.push_str(&format!("base_url = {}\n", quote(&provider.base_url)));
        if let Some(variant) = provider.variant {
            out.push_str(&format!("variant = {}\n", quote(variant)));
        }
        if let Some(variable) = &provider.key_variable {
            out.push_str(&format!("api_key_env = {}\n", quote(variable)));
        }
        out.push_str(&format!("models = {}\n", list(&provider.models)));
        if let Some(tokens) = provider.max_output_tokens {
            out.push_str(&format!(
                "capabilities = {{ max_output_tokens = {} }}\n",
                tokens.min(i64::MAX as u64)
            ));
        }
        if let Some(total) = &draft.total_timeout {
            out.push_str(&format!("timeouts = {{ total = {} }}\n", quote(total)));
        }
    }
    if let Some(provider) = &draft.default_provider {
        section(&mut out, "routing", &[("default_provider", quote(provider))]);
    }
    for rule in &draft.rules {
        out.push_str(&format!("\n[[routing.rules]]\nname = {}\n", quote(rule.name)));
        for (key, value) in &rule.matches {
            out.push_str(&format!("{key} = {value}\n"));
        }
        out.push_str(&format!("targets = {}\n", list(&rule.targets)));
    }
    section(&mut out, "logging", &draft.logging);
    out
}

/// A string of TOML: its basic strings escape as JSON's do, apart from DEL.
pub fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007F")
}

fn list(items: &[String]) -> String {
    let items: Vec<String> = items.iter().map(|item| quote(item)).collect();
    format!("[{}]", items.join(", "))
}

fn section(out: &mut String, name: &str, entries: &[(&str, String)]) {
    if entries.is_empty() {
        return;
    }
    out.push_str(&format!("\n[{name}]\n"));
    for (key, value) in entries {
        out.push_str(&format!("{key} = {value}\n"));
    }
}
