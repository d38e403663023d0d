//! The daemon's state as resources, all JSON. Each is short by itself, since a model reads it, and names the address
//! under which there is more.
//!
//! Source: Model Context Protocol specification, "Resources".

use rmcp::model::{Resource, ResourceTemplate};
use serde_json::{Value, json};

use crate::actors::status::{ProviderStatus, Status};

use super::outcome::{SHOWN, cut};
use super::{ModelInfo, Shared};

pub(crate) const MIME: &str = "application/json";

/// Models that are listed at once.
const MODELS: usize = 100;
/// Recent requests that are listed, if the address does not say how many.
const RECENT: usize = 10;

/// What can be read: address, name, what it is.
const ALL: [(&str, &str, &str); 8] = [
    ("cproxy://status", "status", "Providers, actors, config and counts, each in a line"),
    ("cproxy://health", "health", "In short: is the proxy well, and who is not"),
    ("cproxy://providers", "providers", "Providers and their state"),
    ("cproxy://models", "models", "Models that can be asked for"),
    ("cproxy://usage", "usage", "Tokens and cost so far"),
    ("cproxy://requests/recent", "recent requests", "The last requests: route, time, outcome"),
    ("cproxy://config", "config", "The config in force, without secrets"),
    ("cproxy://actors", "actors", "The supervision tree: restarts, failures, mailboxes"),
];

/// What can be read with something filled in.
const TEMPLATES: [(&str, &str, &str); 4] = [
    ("cproxy://providers/{id}", "provider", "One provider: keys, limits, breakers, latency"),
    ("cproxy://models{?from}", "more models", "The models from number `from` on"),
    ("cproxy://requests/recent{?limit}", "more recent requests", "The last `limit` requests"),
    ("cproxy://answers/{id}{?from}", "answer", "A long answer, from byte `from` on"),
];

/// The resources.
pub(crate) fn list() -> Vec<Resource> {
    ALL.iter()
        .map(|(uri, name, about)| Resource::new(*uri, *name).with_description(*about).with_mime_type(MIME))
        .collect()
}

/// The templates.
pub(crate) fn templates() -> Vec<ResourceTemplate> {
    TEMPLATES
        .iter()
        .map(|(uri, name, about)| {
            ResourceTemplate::new(*uri, *name).with_description(*about).with_mime_type(MIME)
        })
        .collect()
}

/// Reads a resource; `None` if there is none at this address.
pub(crate) async fn read(shared: &Shared, uri: &str) -> Option<Value> {
    let daemon = &shared.daemon;
    let address = uri.strip_prefix("cproxy://")?;
    let (path, query) = address.split_once('?').map_or((address, None), |(path, query)| (path, Some(query)));
    // The number after `name=` in the query; without a query the usual one.
    let number = |name: &str, usual: usize| match query {
        None => Some(usual),
        Some(query) => query.strip_prefix(name)?.strip_prefix('=')?.parse().ok(),
    };
    Some(match path.trim_end_matches('/') {
        "status" => status(&daemon.status()),
        "health" => health(&daemon.status()),
        "actors" => json!({ "actors": daemon.status().actors }),
        "providers" => json!({
            "providers": daemon.status().providers.iter().map(short).collect::<Vec<_>>(),
            "more": "cproxy://providers/{name}",
        }),
        "models" => {
            let default = super::completion::model(shared, None, None).ok();
            models(daemon.models(), default, number("from", 0)?)
        }
        "usage" => daemon.usage().await,
        "config" => daemon.config_redacted(),
        "requests/recent" => recent(daemon.recent_requests(), number("limit", RECENT)?),
        path => {
            if let Some(name) = path.strip_prefix("providers/") {
                json!(daemon.status().providers.into_iter().find(|provider| provider.name == name)?)
            } else {
                let id = path.strip_prefix("answers/")?;
                piece(id, &shared.sessions.answer(id).await?, number("from", 0)?)
            }
        }
    })
}

/// The whole daemon, each part of it in a line.
fn status(status: &Status) -> Value {
    let actors: Vec<Value> = status
        .actors
        .iter()
        .map(|actor| match actor.restarts {
            0 => json!({ "path": actor.path, "state": actor.state }),
            restarts => json!({
                "path": actor.path, "state": actor.state, "restarts": restarts,
                "last_failure": actor.last_failure,
            }),
        })
        .collect();
    let mut value = json!({
        "state": status.state, "version": status.version, "pid": status.pid, "address": status.address,
        "uptime_s": status.uptime_s, "config": status.config,
        "providers": status.providers.iter().map(short).collect::<Vec<_>>(),
        "open_requests": status.open_requests, "requests": status.requests, "errors": status.errors,
        "failovers": status.failovers, "actors": actors, "warnings": status.warnings,
        "more": ["cproxy://providers/{name}", "cproxy://actors", "cproxy://requests/recent"],
    });
    if let (Some(faults), Value::Object(fields)) = (status.faults, &mut value) {
        fields.insert("faults_injected".to_owned(), faults.into());
        fields.insert("fault_rules".to_owned(), json!(status.fault_rules));
    }
    value
}

/// Models from a place in the list on, and the patterns that other names may fit.
fn models(all: Vec<ModelInfo>, default: Option<String>, from: usize) -> Value {
    let (patterns, named): (Vec<ModelInfo>, Vec<ModelInfo>) =
        all.into_iter().partition(ModelInfo::is_pattern);
    let shown = named.get(from..).unwrap_or_default();
    let next = (shown.len() > MODELS).then(|| format!("cproxy://models?from={}", from + MODELS));
    let shown = shown.get(..MODELS).unwrap_or(shown);
    let mut value = json!({ "default": default, "models": shown, "total": named.len() });
    let Value::Object(fields) = &mut value else { return value };
    if !patterns.is_empty() {
        let patterns =
            patterns.iter().map(|model| json!({ "pattern": model.id, "provider": model.provider }));
        fields.insert("patterns".to_owned(), patterns.collect());
        fields.insert("note".to_owned(), "any model whose name fits a pattern can be asked for, too".into());
    }
    if let Some(next) = next {
        fields.insert("more".to_owned(), next.into());
    }
    value
}

/// The newest requests.
fn recent(mut all: Value, limit: usize) -> Value {
    if let Value::Object(fields) = &mut all {
        let more = match fields.get_mut("requests") {
            Some(Value::Array(requests)) if requests.len() > limit => {
                let total = requests.len();
                requests.truncate(limit);
                Some(format!("cproxy://requests/recent?limit={total}"))
            }
            _ => None,
        };
        if let Some(more) = more {
            fields.insert("more".to_owned(), more.into());
        }
    }
    all
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

    #[test]
    fn long_lists_are_cut_and_say_where_the_rest_is() {
        let all: Vec<ModelInfo> = (0..MODELS + 7)
            .map(|n| ModelInfo { id: format!("m{n}"), provider: "p".into(), via: "listed".into() })
            .collect();
        let first = models(all.clone(), None, 0);
        assert_eq!(first["models"].as_array().unwrap().len(), MODELS);
        assert_eq!(first["more"], format!("cproxy://models?from={MODELS}"));
        let rest = models(all.clone(), None, MODELS);
        assert_eq!((rest["models"].as_array().unwrap().len(), rest.get("more")), (7, None));
        assert_eq!(models(all.clone(), None, usize::MAX)["models"], json!([]));
        let any = ModelInfo { id: "gpt-*".into(), provider: "p".into(), via: "pattern".into() };
        let patterns = models(vec![any, all[0].clone()], Some("m0".into()), 0);
        assert_eq!(patterns["patterns"], json!([{ "pattern": "gpt-*", "provider": "p" }]));
        assert_eq!((&patterns["total"], &patterns["default"]), (&json!(1), &json!("m0")));

        let requests = json!({ "requests": (0..12).collect::<Vec<_>>() });
        let shown = recent(requests.clone(), RECENT);
        assert_eq!(shown["requests"].as_array().unwrap().len(), RECENT);
        assert_eq!(shown["more"], "cproxy://requests/recent?limit=12");
        assert_eq!(recent(requests.clone(), 12), requests);
    }
}
