//! What can be seen of a provider for nothing: its key, its name in the DNS, its TLS, its list of models.
//!
//! Sources: the vendors' API references, "List models"; OpenRouter's, "Get current API key".

use std::time::Duration;

use serde::Deserialize;

use super::{Finding, Verdict};
use crate::config::{Auth, Keys, Provider, ProviderId, ProviderKind};

/// How long each step may take.
const LIMIT: Duration = Duration::from_secs(15);

/// Most bytes of a list of models.
const MAX_LIST: usize = 8 << 20;

/// Examines a provider; gives the names of its models as well.
pub async fn examine(
    id: &ProviderId,
    provider: &Provider,
    keys: Option<&Keys>,
) -> (Vec<Finding>, Vec<String>) {
    let name = id.as_str();
    if provider.disabled {
        return (vec![Finding::skipped(name, "all", "disabled in the config")], Vec::new());
    }
    let mut findings = vec![key(name, provider, keys)];
    let url = provider.base_url.as_deref().unwrap_or_default();
    let Some((host, port)) = host_and_port(url) else {
        findings.push(Finding::new(name, "address", Verdict::Fails, format!("{url} is no address")));
        return (findings, Vec::new());
    };
    if matches!(keys, Some(Keys::Missing(_)) | None) {
        findings.push(Finding::skipped(name, "models", "no key to ask with"));
        return (findings, Vec::new());
    }
    if host.parse::<std::net::IpAddr>().is_err() {
        let found = tokio::time::timeout(LIMIT, tokio::net::lookup_host((host.as_str(), port))).await;
        findings.push(match found {
            Ok(Ok(addresses)) => {
                Finding::new(name, "DNS", Verdict::Works, format!("{host}: {} addresses", addresses.count()))
            }
            Ok(Err(error)) => Finding::new(name, "DNS", Verdict::Fails, format!("{host}: {error}")).with(
                "is the machine online? behind a proxy, HTTPS_PROXY is heeded, and names are its matter",
            ),
            Err(_) => Finding::new(name, "DNS", Verdict::Fails, format!("{host}: no answer in time")),
        });
    }
    if provider.auth == Auth::Caller {
        findings.push(Finding::skipped(name, "models", "asked with the caller's own login only"));
        return (findings, Vec::new());
    }
    let (finding, models) = models(name, provider, keys, &host).await;
    findings.push(finding);
    (findings, models)
}

/// Whether its key is there. The key itself is never shown.
fn key(name: &str, provider: &Provider, keys: Option<&Keys>) -> Finding {
    match keys {
        _ if provider.auth == Auth::Caller => {
            Finding::new(name, "key", Verdict::Works, "the caller's own login goes on")
        }
        Some(Keys::Pool(pool)) => {
            let names: Vec<&str> = pool.iter().map(|key| key.name().as_ref()).collect();
            Finding::new(name, "key", Verdict::Works, format!("present: {}", names.join(", ")))
        }
        Some(Keys::NotNeeded) => Finding::new(name, "key", Verdict::Works, "none needed"),
        Some(Keys::Missing(why)) => Finding::skipped(name, "key", why.clone())
            .with("without it the provider is left out of routing; that is no error"),
        None => Finding::skipped(name, "key", "none"),
    }
}

/// Asks for the list of models: shows in one step that it is reached, that its certificate holds, and that it takes
/// the key.
async fn models(name: &str, provider: &Provider, keys: Option<&Keys>, host: &str) -> (Finding, Vec<String>) {
    let base = provider.base_url.as_deref().unwrap_or_default();
    let path = match provider.kind {
        ProviderKind::Anthropic => "/v1/models?limit=1000",
        ProviderKind::Gemini => "/v1beta/models?pageSize=1000",
        // OpenRouter's list is public; this one says whether it takes the key.
        ProviderKind::Openrouter => "/key",
        ProviderKind::Openai | ProviderKind::Local => "/models",
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(LIMIT);
    let loopback =
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    if loopback {
        client = client.no_proxy();
    }
    let fails = |seen: String| Finding::new(name, "models", Verdict::Fails, seen);
    let Ok(client) = client.build() else { return (fails("no HTTP client".to_owned()), Vec::new()) };
    let mut request = client.get(format!("{base}{path}")).header("anthropic-version", "2023-06-01");
    if let Some(key) = keys.and_then(|keys| keys.pool().first()) {
        request = match provider.kind {
            ProviderKind::Anthropic => request.header("x-api-key", key.expose()),
            ProviderKind::Gemini => request.header("x-goog-api-key", key.expose()),
            _ => request.bearer_auth(key.expose()),
        };
    }
    let mut response = match request.send().await {
        Ok(response) => response,
        Err(error) => {
            let remedy =
                "a request goes to the next provider; is the address right, and is the server running?";
            return (fails(causes(&error)).with(remedy), Vec::new());
        }
    };
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_LIST {
            break;
        }
    }
    match status {
        200 if provider.kind == ProviderKind::Openrouter => {
            let seen = "reached, and the key is taken";
            (Finding::new(name, "key accepted", Verdict::Works, seen), Vec::new())
        }
        200 => {
            let models = names(&body);
            let seen = format!("reached, lists {} models", models.len());
            (Finding::new(name, "models", Verdict::Works, seen), models)
        }
        401 | 403 => {
            let remedy =
                "the provider refuses the key; cproxy takes the next of a pool, else the next provider";
            (fails(format!("answers {status}")).with(remedy), Vec::new())
        }
        404 | 405 => {
            let seen = format!("reached, but it has no list of models (answers {status})");
            let remedy =
                "models that are named in the config are asked for all the same; is the base_url right?";
            (Finding::new(name, "models", Verdict::Differs, seen).with(remedy), Vec::new())
        }
        300..=399 => {
            let remedy =
                "redirects are never followed, since a key must not follow one; name the final address";
            (fails(format!("answers {status}, a redirect")).with(remedy), Vec::new())
        }
        _ => (fails(format!("answers {status}")).with("a request goes to the next provider"), Vec::new()),
    }
}

/// The names in a list of models, OpenAI's and Anthropic's form or Gemini's.
fn names(body: &[u8]) -> Vec<String> {
    #[derive(Deserialize)]
    struct Entry {
        #[serde(alias = "name")]
        id: String,
    }
    #[derive(Deserialize)]
    struct List {
        #[serde(alias = "models")]
        data: Vec<Entry>,
    }
    let list: Option<List> = serde_json::from_slice(body).ok();
    let names = list.into_iter().flat_map(|list| list.data).map(|entry| entry.id);
    names.map(|name| name.strip_prefix("models/").map(str::to_owned).unwrap_or(name)).take(10_000).collect()
}

/// What went wrong, without the address, which the user knows.
fn causes(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() { "no answer in time" } else { "not reached" }.to_owned();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

fn host_and_port(url: &str) -> Option<(String, u16)> {
    let uri: http::Uri = url.parse().ok()?;
    let host = uri.host()?.trim_matches(['[', ']']).to_owned();
    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
    Some((host, port))
}
