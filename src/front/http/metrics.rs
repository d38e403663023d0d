//! `GET /metrics`: what has happened, from the ledger's cell; and how things stand, from the status.

use axum::extract::State;
use axum::response::Response;
use http::{HeaderValue, header};

use super::Shared;
use crate::actors::status::Status;
use crate::cells::LedgerCell;
use crate::runtime::shed;
use crate::telemetry::metrics::Page;
use crate::telemetry::panics;

/// The page. Gathered when it is asked for: nothing is counted twice for its sake.
pub async fn page(State(daemon): State<Shared>) -> Response {
    let text = text(&daemon.directory().ledger_cell, &daemon.status());
    let mut response = Response::new(text.into());
    let version = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, version);
    response
}

/// The page's text.
fn text(ledger: &LedgerCell, status: &Status) -> String {
    let mut page = Page::default();
    ledger.render(&mut page);
    daemon(&mut page, status);
    actors(&mut page, status);
    providers(&mut page, status);
    page.into_text()
}

fn daemon(page: &mut Page, status: &Status) {
    page.family("cproxy_info", "gauge", "The version.");
    page.sample("cproxy_info", &[("version", &status.version)], 1);
    for (name, kind, help, value) in [
        ("cproxy_uptime_seconds", "gauge", "Since the start.", status.uptime_s),
        ("cproxy_open_requests", "gauge", "Requests in progress.", status.open_requests),
        (
            "cproxy_tasks",
            "gauge",
            "Tasks of the runtime: connections, requests, actors and what they own.",
            tokio::runtime::Handle::try_current().map_or(0, |it| it.metrics().num_alive_tasks() as u64),
        ),
        ("cproxy_config_generation", "gauge", "Configs that were taken up.", status.config.generation),
        (
            "cproxy_config_refused",
            "gauge",
            "1 while the config on disk is refused.",
            (status.config.last_reload != "ok").into(),
        ),
        ("cproxy_faults_injected_total", "counter", "Faults that were injected.", status.faults.unwrap_or(0)),
        ("cproxy_panics_total", "counter", "Panics that were contained.", panics::count()),
        ("cproxy_messages_shed_total", "counter", "Messages that a full mailbox did not take.", shed()),
    ] {
        page.family(name, kind, help);
        page.sample(name, &[], value);
    }
}

fn actors(page: &mut Page, status: &Status) {
    page.family("cproxy_actor_up", "gauge", "1 while the actor runs.");
    for actor in &status.actors {
        page.sample("cproxy_actor_up", &[("actor", &actor.path)], u8::from(actor.state == "running"));
    }
    page.family("cproxy_actor_restarts_total", "counter", "How often the actor was started again.");
    for actor in &status.actors {
        page.sample("cproxy_actor_restarts_total", &[("actor", &actor.path)], actor.restarts);
    }
    page.family("cproxy_actor_mailbox", "gauge", "Messages that wait.");
    for actor in &status.actors {
        page.sample("cproxy_actor_mailbox", &[("actor", &actor.path)], actor.mailbox);
    }
}

fn providers(page: &mut Page, status: &Status) {
    type Level = fn(&crate::actors::status::ProviderStatus) -> Option<f64>;
    let levels: [(&str, &str, Level); 9] = [
        ("cproxy_provider_ready", "1 while the provider may be chosen.", |it| {
            Some(f64::from(u8::from(it.state == "ready")))
        }),
        ("cproxy_provider_healthy", "0 after a failed health check.", |it| {
            Some(f64::from(u8::from(matches!(it.health.as_str(), "ok" | "unknown" | ""))))
        }),
        ("cproxy_provider_breakers_open", "Models whose breaker is not closed.", |it| {
            Some(it.breakers.len() as f64)
        }),
        ("cproxy_provider_leases", "Requests in progress at the provider.", |it| Some(it.open.into())),
        ("cproxy_provider_waiting", "Requests that wait for a place.", |it| Some(it.waiting.into())),
        ("cproxy_provider_error_rate", "Share of errors among recent attempts.", |it| Some(it.error_rate)),
        ("cproxy_provider_latency_seconds", "Average time to first output.", |it| {
            it.latency_ms.map(|ms| ms as f64 / 1e3)
        }),
        ("cproxy_provider_cache_hit_rate", "Share of the input that was read from the prompt cache.", |it| {
            it.cache_hit_rate
        }),
        ("cproxy_provider_embargo_seconds", "Until the upstream wants to be asked again.", |it| {
            it.embargo_s.map(|s| s as f64)
        }),
    ];
    for (name, help, level) in levels {
        page.family(name, "gauge", help);
        for provider in &status.providers {
            if let Some(value) = level(provider) {
                page.sample(name, &[("provider", &provider.name)], value);
            }
        }
    }
    let name = "cproxy_prompt_cache_rebilled_tokens_total";
    page.family(name, "counter", "Input that was billed again though the prompt cache had held it.");
    for provider in &status.providers {
        page.sample(name, &[("provider", &provider.name)], provider.cache_rebilled_tokens);
    }
    for (name, help, size) in [
        ("cproxy_bucket_level", "What is left in a rate limit's bucket.", false),
        ("cproxy_bucket_size", "The size of a rate limit's bucket.", true),
    ] {
        page.family(name, "gauge", help);
        for provider in &status.providers {
            for bucket in &provider.buckets {
                let labels = [("provider", &*provider.name), ("bucket", &*bucket.name)];
                page.sample(name, &labels, if size { bucket.size } else { bucket.level });
            }
        }
    }
}
