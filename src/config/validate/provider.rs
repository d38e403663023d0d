//! Checks of one provider.

use http::{HeaderName, HeaderValue};

use super::{Check, KeyPath};
use crate::config::{Auth, Limits, Provider, ProviderId, ProviderKind, address, error, suggest};

/// The variants of servers that speak Chat Completions (`variant` in the config).
pub const VARIANTS: [&str; 19] = [
    "llamacpp",
    "ollama",
    "vllm",
    "lmstudio",
    "deepseek",
    "groq",
    "mistral",
    "azure",
    "gemini",
    "perplexity",
    "xai",
    "moonshot",
    "zai",
    "together",
    "fireworks",
    "cerebras",
    "openai",
    "openrouter",
    "generic",
];

/// Fields of a body that no config can set.
const OWN_FIELDS: [&str; 5] = ["model", "messages", "input", "contents", "stream"];

/// Headers that the daemon writes itself, or that belong to a connection (RFC 9110, section 7.6.1).
const OWN_HEADERS: [&str; 10] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "content-type",
    "accept-encoding",
];

/// Headers that hold credentials.
const CREDENTIALS: [&str; 5] = ["authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie"];

pub(super) fn provider(id: &ProviderId, provider: &mut Provider, check: &mut Check<'_, '_>) {
    let path = KeyPath::of(["providers", id.as_str()]);
    name(id, &path, check);
    base_url(id, provider, &path, check);
    kind(id, provider, &path, check);
    models(provider, &path, check);
    limits(&provider.limits, &path.key("limits"), check);
    deadlines(provider, &path, check);
    headers(id, provider, &path, check);
    for field in OWN_FIELDS.iter().filter(|field| provider.extra.contains_key(**field)) {
        check.report(&path.key("extra").key(field), "this field is the caller's; leave it out");
    }

    if provider.weight == 0 {
        check.report(&path.key("weight"), "a weight of 0 would never be chosen; use disabled = true");
    } else if provider.weight > 10_000 {
        check.report(&path.key("weight"), "more than 10000; weights are shares such as 1, 2 or 10");
    }
    let capabilities = path.key("capabilities");
    let (window, output) = (provider.capabilities.context_window, provider.capabilities.max_output_tokens);
    for (key, tokens) in [("context_window", window), ("max_output_tokens", output)] {
        if tokens == Some(0) {
            check.report(&capabilities.key(key), "0 tokens can't serve anything; leave it out");
        }
    }
    if let (Some(window), Some(output)) = (window, output)
        && output > window
    {
        check.report(
            &capabilities.key("max_output_tokens"),
            format!("{output} is more than the context window of {window}"),
        );
    }
}

/// A name stands in `provider/model`, in headers, in metrics and in the paths of actors.
fn name(id: &ProviderId, path: &KeyPath, check: &mut Check<'_, '_>) {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if id.as_str().is_empty() || id.as_str().len() > 64 || !id.as_str().chars().all(legal) {
        check
            .report(path, "a provider's name is made of letters, digits, \"-\", \"_\" and \".\"; at most 64");
    }
}

fn base_url(id: &ProviderId, provider: &mut Provider, path: &KeyPath, check: &mut Check<'_, '_>) {
    let path = path.key("base_url");
    let Some(written) = &provider.base_url else {
        match provider.kind.default_base_url() {
            Some(url) => provider.base_url = Some(url.to_owned()),
            None => {
                check.report(&path, "kind \"local\" needs base_url, such as \"http://127.0.0.1:11434/v1\"")
            }
        }
        return;
    };
    match address::normalise(provider.kind, written) {
        Ok(url) => {
            if address::is_unencrypted_beyond_this_machine(&url) && !provider.disabled {
                check.warn(format!(
                    "provider {id} is reached over plain http: its network sees prompts and keys"
                ));
            }
            provider.base_url = Some(url);
        }
        Err(reason) => check.report(&path, reason),
    }
}

fn kind(id: &ProviderId, provider: &Provider, path: &KeyPath, check: &mut Check<'_, '_>) {
    let kind = provider.kind.as_str();
    let speaks_chat =
        matches!(provider.kind, ProviderKind::Openai | ProviderKind::Openrouter | ProviderKind::Local);
    if provider.auth == Auth::Caller {
        if provider.kind != ProviderKind::Anthropic {
            check.report(
                &path.key("auth"),
                format!("\"caller\" is for kind \"anthropic\" only: the caller's credential is of no use to \"{kind}\""),
            );
        }
        let own = provider.api_key_env.is_some()
            || provider.api_key_file.is_some()
            || !provider.api_keys_env.is_empty()
            || !provider.api_key_files.is_empty();
        if own {
            check.warn(format!("provider {id} has auth = \"caller\": its own keys are not used"));
        }
    }
    if provider.api.is_some() && !matches!(provider.kind, ProviderKind::Openai | ProviderKind::Local) {
        check.report(&path.key("api"), format!("kind \"{kind}\" has only one API; leave it out"));
    }
    if let Some(variant) = provider.variant.as_deref() {
        let path = path.key("variant");
        if !VARIANTS.contains(&variant) {
            let reason = format!("unknown variant \"{variant}\" (known: {})", VARIANTS.join(", "));
            check.document.report_with(&path, error::mask(&reason), suggest::nearest(variant, VARIANTS));
        } else if !speaks_chat {
            check.report(&path, format!("kind \"{kind}\" has no variants; they are for Chat Completions"));
        }
    }
}

fn models(provider: &Provider, path: &KeyPath, check: &mut Check<'_, '_>) {
    let list = path.key("models");
    let mut seen = std::collections::HashSet::new();
    for (n, model) in provider.models.iter().enumerate() {
        if model.trim().is_empty() || model.chars().any(char::is_control) {
            check.report(&list.index(n), "a model or glob must not be empty or hold control characters");
        } else if !seen.insert(model) {
            check.report(&list.index(n), format!("\"{}\" is listed twice", error::mask(model)));
        }
    }
    if let Some(model) = &provider.default_model
        && (model.trim().is_empty() || model.contains(['*', '?']))
    {
        check.report(&path.key("default_model"), "must be the exact name of a model");
    }
}

fn limits(limits: &Limits, path: &KeyPath, check: &mut Check<'_, '_>) {
    let Limits {
        requests_per_minute,
        tokens_per_minute,
        requests_per_day,
        tokens_per_day,
        max_concurrent,
        max_waiting: _, // 0: nobody waits, the next candidate is asked at once
    } = *limits;
    for (key, limit) in [
        ("requests_per_minute", requests_per_minute.map(u64::from)),
        ("tokens_per_minute", tokens_per_minute),
        ("requests_per_day", requests_per_day),
        ("tokens_per_day", tokens_per_day),
        ("max_concurrent", max_concurrent.map(u64::from)),
    ] {
        if limit == Some(0) {
            check.report(
                &path.key(key),
                "0 would admit nothing; leave it out for no limit, or use disabled = true",
            );
        }
    }
    for (day_key, day, minute_key, minute) in [
        ("requests_per_day", requests_per_day, "requests_per_minute", requests_per_minute.map(u64::from)),
        ("tokens_per_day", tokens_per_day, "tokens_per_minute", tokens_per_minute),
    ] {
        if let (Some(day), Some(minute)) = (day, minute)
            && day > 0
            && day < minute
        {
            check.report(&path.key(day_key), format!("{day} a day is less than {minute_key} = {minute}"));
        }
    }
}

fn deadlines(provider: &Provider, path: &KeyPath, check: &mut Check<'_, '_>) {
    let timeouts = path.key("timeouts");
    let limit = provider.timeouts;
    check.duration(&timeouts.key("connect"), limit.connect, false);
    check.duration(&timeouts.key("first_byte"), limit.first_byte, false);
    check.duration(&timeouts.key("idle"), limit.idle, false);
    check.duration(&timeouts.key("total"), limit.total, false);
    // A default longer than a short `total` is cut by it, and is no mistake of the user's; what is written is.
    for (key, phase) in [("connect", limit.connect), ("first_byte", limit.first_byte), ("idle", limit.idle)] {
        if limit.total.is_zero() {
            continue;
        }
        if phase > limit.total && (check.document.holds(&timeouts.key(key)) || key == "connect") {
            check.report(&timeouts.key(key), format!("longer than timeouts.total ({})", text(limit.total)));
        }
    }
    let health = path.key("health");
    check.duration(&health.key("interval"), provider.health.interval, true);
    check.duration(&health.key("timeout"), provider.health.timeout, false);
    let interval = provider.health.interval;
    if !interval.is_zero() && interval < std::time::Duration::from_secs(1) {
        check.report(&health.key("interval"), "less than a second; \"0s\" means never");
    }
}

fn text(duration: std::time::Duration) -> String {
    humantime::format_duration(duration).to_string()
}

fn headers(id: &ProviderId, provider: &Provider, path: &KeyPath, check: &mut Check<'_, '_>) {
    for (name, value) in &provider.headers {
        let path = path.key("headers").key(name);
        let lower = name.to_ascii_lowercase();
        if HeaderName::from_bytes(name.as_bytes()).is_err() {
            check.report(&path, "not a legal header name");
        } else if OWN_HEADERS.contains(&lower.as_str()) {
            check.report(&path, "this header is the daemon's own; leave it out");
        }
        if HeaderValue::from_str(value).is_err() {
            check.report(&path, "not a legal header value (control characters, line breaks)");
        }
        if CREDENTIALS.contains(&lower.as_str()) {
            check.warn(format!(
                "provider {id} has its credential in the config, in the header {lower}; \
                 api_key_env or api_key_file keep it out of the file"
            ));
        }
    }
    let lower: Vec<String> = provider.headers.keys().map(|name| name.to_ascii_lowercase()).collect();
    for (n, name) in lower.iter().enumerate() {
        if lower.iter().skip(n + 1).any(|other| other == name) {
            check.report(&path.key("headers"), format!("the header \"{name}\" is listed twice"));
        }
    }
}
