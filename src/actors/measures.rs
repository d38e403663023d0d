//! What is measured at this moment: what has happened, from the ledger's cell; and how things stand, from the status.
//! Gathered when somebody looks: nothing is counted twice for its sake.

use super::Directory;
use super::status::{ProviderStatus, Status};
use crate::runtime::shed;
use crate::telemetry::metrics::{Kind, Page};
use crate::telemetry::panics;
use crate::telemetry::process::Process;

/// All of it.
pub fn page(directory: &Directory) -> Page {
    let status = Status::of(directory);
    let mut page = Page::default();
    directory.ledger_cell.render(&mut page);
    daemon(&mut page, &status);
    process(&mut page, Process::read());
    actors(&mut page, &status);
    providers(&mut page, &status);
    page
}

fn daemon(page: &mut Page, status: &Status) {
    page.family("cproxy.info", "", Kind::Gauge, "The version.");
    page.count(&[("version", &status.version)], 1);
    let refused = status.config.last_reload != "ok";
    for (name, unit, kind, help, value) in [
        ("cproxy.uptime", "s", Kind::Gauge, "Since the start.", status.uptime_s),
        ("cproxy.open_requests", "{request}", Kind::Gauge, "Requests in progress.", status.open_requests),
        (
            "cproxy.config_generation",
            "",
            Kind::Gauge,
            "Configs that were taken up.",
            status.config.generation,
        ),
        ("cproxy.config_refused", "", Kind::Gauge, "1 while the config on disk is refused.", refused.into()),
        (
            "cproxy.faults_injected",
            "{fault}",
            Kind::Counter,
            "Faults that were injected.",
            status.faults.unwrap_or(0),
        ),
        ("cproxy.panics", "{panic}", Kind::Counter, "Panics that were contained.", panics::count()),
        (
            "cproxy.messages_shed",
            "{message}",
            Kind::Counter,
            "Messages that a full mailbox did not take.",
            shed(),
        ),
    ] {
        page.family(name, unit, kind, help);
        page.count(&[], value);
    }
}

/// Under the names that OpenTelemetry's conventions for processes have for these, as far as they have one.
fn process(page: &mut Page, process: Process) {
    for (name, unit, help, value) in [
        ("process.memory.usage", "By", "Memory that is in RAM.", process.resident),
        ("process.unix.file_descriptor.count", "{file_descriptor}", "Open descriptors.", process.descriptors),
        ("process.thread.count", "{thread}", "Threads.", process.threads),
        ("cproxy.tasks", "{task}", "Tasks of the runtime: connections, actors, timers.", process.tasks),
    ] {
        if let Some(value) = value {
            page.family(name, unit, Kind::Gauge, help);
            page.count(&[], value);
        }
    }
}

fn actors(page: &mut Page, status: &Status) {
    page.family("cproxy.actor_up", "", Kind::Gauge, "1 while the actor runs.");
    for actor in &status.actors {
        page.count(&[("actor", &actor.path)], u64::from(actor.state == "running"));
    }
    page.family(
        "cproxy.actor_restarts",
        "{restart}",
        Kind::Counter,
        "How often the actor was started again.",
    );
    for actor in &status.actors {
        page.count(&[("actor", &actor.path)], actor.restarts);
    }
    page.family("cproxy.actor_mailbox", "{message}", Kind::Gauge, "Messages that wait.");
    for actor in &status.actors {
        page.count(&[("actor", &actor.path)], actor.mailbox);
    }
}

fn providers(page: &mut Page, status: &Status) {
    type Level = fn(&ProviderStatus) -> Option<f64>;
    let levels: [(&str, &str, &str, Level); 9] = [
        ("cproxy.provider_ready", "", "1 while the provider may be chosen.", |it| {
            Some(f64::from(u8::from(it.state == "ready")))
        }),
        ("cproxy.provider_healthy", "", "0 after a failed health check.", |it| {
            Some(f64::from(u8::from(matches!(it.health.as_str(), "ok" | "unknown" | ""))))
        }),
        ("cproxy.provider_breakers_open", "{breaker}", "Models whose breaker is not closed.", |it| {
            Some(it.breakers.len() as f64)
        }),
        ("cproxy.provider_leases", "{request}", "Requests in progress at the provider.", |it| {
            Some(it.open.into())
        }),
        ("cproxy.provider_waiting", "{request}", "Requests that wait for a place.", |it| {
            Some(it.waiting.into())
        }),
        ("cproxy.provider_error_rate", "", "Share of errors among recent attempts.", |it| {
            Some(it.error_rate)
        }),
        ("cproxy.provider_latency", "s", "Average time to first output.", |it| {
            it.latency_ms.map(|ms| ms as f64 / 1e3)
        }),
        (
            "cproxy.provider_cache_hit_rate",
            "",
            "Share of the input that was read from the prompt cache.",
            |it| it.cache_hit_rate,
        ),
        ("cproxy.provider_embargo", "s", "Until the upstream wants to be asked again.", |it| {
            it.embargo_s.map(|s| s as f64)
        }),
    ];
    for (name, unit, help, level) in levels {
        page.family(name, unit, Kind::Gauge, help);
        for provider in &status.providers {
            if let Some(value) = level(provider) {
                page.sample(&[("provider", &provider.name)], value);
            }
        }
    }
    page.family(
        "cproxy.prompt_cache_rebilled_tokens",
        "{token}",
        Kind::Counter,
        "Input that was billed again though the prompt cache had held it.",
    );
    for provider in &status.providers {
        page.count(&[("provider", &provider.name)], provider.cache_rebilled_tokens);
    }
    for (name, help, size) in [
        ("cproxy.bucket_level", "What is left in a rate limit's bucket.", false),
        ("cproxy.bucket_size", "The size of a rate limit's bucket.", true),
    ] {
        page.family(name, "", Kind::Gauge, help);
        for provider in &status.providers {
            for bucket in &provider.buckets {
                let labels = [("provider", &*provider.name), ("bucket", &*bucket.name)];
                page.sample(&labels, if size { bucket.size } else { bucket.level });
            }
        }
    }
}
