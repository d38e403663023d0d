//! The daemon's state as resources, all JSON.
//!
//! Source: Model Context Protocol specification, "Resources".

use rmcp::model::{Resource, ResourceTemplate};
use serde_json::{Value, json};

use crate::actors::status::{ProviderStatus, Status};

use super::Shared;
use super::outcome::{SHOWN, cut};

pub(crate) const MIME: &str = "application/json";

/// What can be read: address, name, what it is.
const ALL: [(&str, &str, &str); 8] = [
    ("cproxy://status", "status", "Everything: actors, providers, limits, config, counts"),
    ("cproxy://health", "health", "In short: is the proxy well, and who is not"),
    ("cproxy://providers", "providers", "Providers and their state"),
    ("cproxy://models", "models", "Models that can be asked for"),
    ("cproxy://usage", "usage", "Tokens and cost so far"),
    ("cproxy://requests/recent", "recent requests", "The last requests: route, time, outcome"),
    ("cproxy://config", "config", "The config in force, without secrets"),
    ("cproxy://answers", "long answers", "How to read the rest of a long answer"),
];

/// The resources.
pub(crate) fn list() -> Vec<Resource> {
    ALL.iter()
        .filter(|(uri, ..)| *uri != "cproxy://answers")
        .map(|(uri, name, about)| Resource::new(*uri, *name).with_description(*about).with_mime_type(MIME))
        .collect()
}

/// The templates.
pub(crate) fn templates() -> Vec<ResourceTemplate> {
    [
        ("cproxy://providers/{id}", "provider", "One provider: keys, limits, breakers, latency"),
        ("cproxy://answers/{id}", "answer", "A long answer; `?from=N` reads on from byte N"),
    ]
    .into_iter()
    .map(|(uri, name, about)| ResourceTemplate::new(uri, name).with_description(about).with_mime_type(MIME))
    .collect()
}

/// Reads a resource; `None` if there is none at this address.
pub(crate) async fn read(shared: &Shared, uri: &str) -> Option<Value> {
    let daemon = &shared.daemon;
    let path = uri.strip_prefix("cproxy://")?;
    Some(match path.trim_end_matches('/') {
        "status" => json!(daemon.status()),
        "health" => health(&daemon.status()),
        "providers" => json!({
            "providers": daemon.status().providers.iter().map(short).collect::<Vec<_>>(),
            "more": "cproxy://providers/{name}"
        }),
        "models" => json!({ "models": daemon.models() }),
        "usage" => daemon.usage().await,
        "config" => daemon.config_redacted(),
        "requests/recent" => daemon.recent_requests(),
        path => {
            if let Some(name) = path.strip_prefix("providers/") {
                json!(daemon.status().providers.into_iter().find(|provider| provider.name == name)?)
            } else if let Some(rest) = path.strip_prefix("answers/") {
                let (id, from) = rest.split_once("?from=").unwrap_or((rest, "0"));
                piece(id, &shared.sessions.answer(id).await?, from.parse().ok()?)
            } else {
                return None;
            }
        }
    })
}

/// A provider in a line.
fn short(provider: &ProviderStatus) -> Value {
    json!({
        "name": provider.name, "kind": provider.kind, "state": provider.state, "health": provider.health,
        "open": provider.open, "latency_ms": provider.latency_ms, "error_rate": provider.error_rate,
        "breakers": provider.breakers,
    })
}

fn health(status: &Status) -> Value {
    let unwell: Vec<_> = status
        .providers
        .iter()
        .filter(|provider| {
            provider.state != "ready"
                || !matches!(provider.health.as_str(), "ok" | "unknown" | "")
                || !provider.breakers.is_empty()
        })
        .map(|provider| {
            json!({
                "name": provider.name, "state": provider.state, "health": provider.health,
                "breakers": provider.breakers, "more": format!("cproxy://providers/{}", provider.name),
            })
        })
        .collect();
    let ready = status.providers.iter().filter(|provider| provider.state == "ready").count();
    let restarting: Vec<_> =
        status.actors.iter().filter(|actor| actor.state != "running").map(|actor| &actor.path).collect();
    json!({
        "ok": status.state == "serving" && ready > 0,
        "state": status.state,
        "providers_ready": ready,
        "providers": status.providers.len(),
        "unwell": unwell,
        "actors_not_running": restarting,
        "warnings": status.warnings,
        "more": "cproxy://status",
    })
}

/// A piece of a long answer, from a byte on.
fn piece(id: &str, whole: &str, from: usize) -> Value {
    let mut from = from.min(whole.len());
    while !whole.is_char_boundary(from) {
        from -= 1;
    }
    let rest = whole.get(from..).unwrap_or_default();
    let end = cut(rest, SHOWN);
    json!({
        "text": rest.get(..end.unwrap_or(rest.len())),
        "from": from,
        "bytes": whole.len(),
        "next": end.map(|end| format!("cproxy://answers/{id}?from={}", from + end)),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_pieces_of_a_long_answer_make_up_the_whole() {
        let whole = "Ein Satz mit ü. ".repeat(20_000);
        let mut read = String::new();
        let mut from = 0;
        loop {
            let piece = piece("a", &whole, from);
            read.push_str(piece["text"].as_str().unwrap());
            match piece["next"].as_str() {
                Some(next) => from = next.rsplit('=').next().unwrap().parse().unwrap(),
                None => break,
            }
        }
        assert_eq!(read, whole);
        assert_eq!(super::piece("a", "x", usize::MAX)["text"], "");
    }
}
