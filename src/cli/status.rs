//! `cproxy status`: the daemon at this moment, once or live.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use super::client::{Client, DaemonArgs};
use super::process;
use super::terminal::{Cell, Table, Tint, colour, fail, paint, say, say_json, span};
use crate::actors::status::{ActorStatus, ProviderStatus, Status};
use crate::runtime::clock;

/// What `status` takes.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct StatusArgs {
    #[command(flatten)]
    daemon: DaemonArgs,
    /// As JSON, as GET /status tells it; with --watch one line each time
    #[arg(long)]
    json: bool,
    /// Show it again and again, until Ctrl-C
    #[arg(long, short)]
    watch: bool,
    /// The time between two looks, in seconds
    #[arg(long, value_name = "S", default_value_t = 1.0, requires = "watch")]
    every: f64,
}

/// Shows the status. Exit status 1 if no daemon answers.
pub async fn run(args: StatusArgs) -> ExitCode {
    let client = match args.daemon.find().await {
        Ok(client) => client,
        Err(reason) => return fail(&reason),
    };
    if args.watch {
        let every = Duration::from_secs_f64(args.every.clamp(0.1, 3600.0));
        return watch(&client, every, args.json).await;
    }
    match client.status().await {
        Ok(status) if args.json => say_json(&status),
        Ok(status) => say(&text(&status, colour())),
        Err(reason) => fail(&reason),
    }
}

/// Shows it until Ctrl-C: over the whole screen on a terminal, one after the other in a pipe.
async fn watch(client: &Client, every: Duration, json: bool) -> ExitCode {
    let screen = colour() && !json;
    if screen {
        say("\u{1b}[?1049h\u{1b}[?25l"); // the other screen, no cursor
    }
    let shown = tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => Ok(()),
        result = looks(client, every, json, screen) => result,
    };
    if screen {
        say("\u{1b}[?25h\u{1b}[?1049l");
    }
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => fail(&reason),
    }
}

async fn looks(client: &Client, every: Duration, json: bool, screen: bool) -> Result<(), String> {
    let mut before: Option<(u64, std::time::Instant)> = None;
    loop {
        let status = client.status().await;
        let text = match &status {
            Ok(status) if json => {
                let line = serde_json::to_string(status).map_err(|error| error.to_string())?;
                format!("{line}\n")
            }
            Ok(status) => {
                let now = clock::now();
                let rate = before.map(|(count, at)| {
                    status.requests.saturating_sub(count) as f64 / (now - at).as_secs_f64().max(0.001)
                });
                before = Some((status.requests, now));
                let mut text = text(status, screen);
                if let Some(rate) = rate {
                    let _ = writeln!(text, "{}", paint(&format!("{rate:.1} requests/s"), Tint::Dim, screen));
                }
                text
            }
            // It may be restarting.
            Err(reason) if json => format!("{}\n", serde_json::json!({ "error": reason })),
            Err(reason) => format!("{}; trying again\n", paint(reason, Tint::Bad, screen)),
        };
        if screen {
            let (rows, _) = process::terminal_size();
            let lines: Vec<&str> = text.lines().take(rows.saturating_sub(1)).collect();
            // Each line wipes what stood to its right, the last what stood below.
            say(&format!("\u{1b}[H{}\u{1b}[K\u{1b}[J", lines.join("\u{1b}[K\n")));
        } else {
            say(&text);
            if std::io::Write::write_all(&mut std::io::stdout(), if json { b"" } else { b"\n" }).is_err() {
                return Ok(()); // the reader has gone
            }
        }
        tokio::time::sleep(every).await;
    }
}

/// The status for people.
pub fn text(status: &Status, colour: bool) -> String {
    let mut out = String::new();
    let head = |name: &str| paint(name, Tint::Bold, colour);
    let state = paint(&status.state, tint_of(&status.state), colour);
    let _ = writeln!(
        out,
        "{} {state} at {}, up {}, process {}",
        head(&format!("cproxy {}", status.version)),
        status.address,
        span(status.uptime_s),
        status.pid
    );
    let reload = match status.config.last_reload.as_str() {
        "ok" => String::new(),
        refused => {
            let first = refused.lines().next().unwrap_or_default();
            format!("; {}", paint(&format!("the last change was refused: {first}"), Tint::Bad, colour))
        }
    };
    let _ = writeln!(
        out,
        "config {} (generation {}){reload}",
        paint(&status.config.source, Tint::Plain, colour),
        status.config.generation
    );
    let faults = status.faults.map(|count| format!(", {count} faults injected")).unwrap_or_default();
    let _ = writeln!(
        out,
        "requests {}, {} open, {} failed, {} saved by another attempt{faults}\n",
        status.requests, status.open_requests, status.errors, status.failovers
    );
    let mut table = Table::new(&[
        "PROVIDER", "KIND", "STATE", "HEALTH", "OPEN", "WAITING", "LATENCY", "ERRORS", "ATTEMPTS", "LIMITS",
        "NOTES",
    ]);
    for provider in &status.providers {
        table.row(provider_row(provider));
    }
    out.push_str(&table.render(0, colour));
    out.push('\n');
    let mut table = Table::new(&["ACTOR", "STATE", "RESTARTS", "MAILBOX", "LAST FAILURE"]);
    for actor in &status.actors {
        table.row(actor_row(actor));
    }
    out.push_str(&table.render(0, colour));
    if !status.fault_rules.is_empty() {
        let _ = write!(out, "\n{}\n{}", head("FAULTS"), super::fault::table(&status.fault_rules));
    }
    for warning in &status.warnings {
        let _ = writeln!(out, "\n{}", paint(&format!("warning: {warning}"), Tint::Warn, colour));
    }
    out
}

fn provider_row(provider: &ProviderStatus) -> Vec<Cell> {
    let idle = provider.attempts == 0;
    let open = match provider.max_concurrent {
        Some(limit) => format!("{}/{limit}", provider.open),
        None if provider.open == 0 => String::new(),
        None => provider.open.to_string(),
    };
    let limits: Vec<String> = provider
        .buckets
        .iter()
        .map(|bucket| format!("{} {:.0}/{:.0}", bucket.name, bucket.level.max(0.0), bucket.size))
        .collect();
    let mut notes: Vec<String> = provider.breakers.iter().map(|text| format!("breaker {text}")).collect();
    notes.extend(provider.embargo_s.map(|left| format!("asked to wait {left} s")));
    // What a health check found may be long: it stands among the notes.
    let health = match provider.health.as_str() {
        short @ ("ok" | "unknown" | "") => short,
        found => {
            notes.push(format!("health check: {found}"));
            "failing"
        }
    };
    let keys = provider.keys.iter().filter(|key| key.state != "ready");
    notes.extend(keys.map(|key| format!("key {}: {}", key.name, key.state)));
    notes.extend(provider.learned.iter().map(|limit| {
        let of = if limit.key.is_empty() { String::new() } else { format!(" of {}", limit.key) };
        format!("upstream's {}{of}: {:.0}/{:.0}", limit.name, limit.level.max(0.0), limit.size)
    }));
    let errors = format!("{:.1} %", provider.error_rate * 100.0);
    vec![
        Cell::new(provider.name.as_str(), Tint::Bold),
        provider.kind.as_str().into(),
        Cell::new(provider.state.as_str(), tint_of(&provider.state)),
        Cell::new(health, tint_of(health)),
        open.into(),
        (if provider.waiting == 0 { String::new() } else { provider.waiting.to_string() }).into(),
        provider.latency_ms.map(|ms| format!("{ms} ms")).unwrap_or_default().into(),
        match idle {
            true => "".into(),
            false => Cell::new(errors, if provider.error_rate > 0.1 { Tint::Warn } else { Tint::Plain }),
        },
        (if idle { String::new() } else { format!("{} ({} failed)", provider.attempts, provider.failures) })
            .into(),
        limits.join(", ").into(),
        Cell::new(notes.join("; "), Tint::Warn),
    ]
}

fn actor_row(actor: &ActorStatus) -> Vec<Cell> {
    let depth = actor.path.matches('/').count();
    let name = actor.path.rsplit('/').next().unwrap_or_default();
    let count = |count: u64, tint: Tint| match count {
        0 => Cell::from(""),
        count => Cell::new(count.to_string(), tint),
    };
    vec![
        Cell::from(format!("{}{name}", "  ".repeat(depth))),
        Cell::new(actor.state.as_str(), tint_of(&actor.state)),
        count(actor.restarts, Tint::Warn),
        count(actor.mailbox, Tint::Plain),
        Cell::new(actor.last_failure.as_deref().unwrap_or_default(), Tint::Dim),
    ]
}

/// How a state stands out.
pub fn tint_of(state: &str) -> Tint {
    match state {
        "ready" | "ok" | "running" | "serving" | "works" => Tint::Good,
        "no key" | "disabled" | "unknown" | "stopped" | "idle" => Tint::Dim,
        "draining" | "restarting" => Tint::Warn,
        _ => Tint::Bad,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::status::{BucketStatus, KeyStatus, LearnedStatus};
    use crate::faults::{RuleText, Shown};

    #[test]
    fn the_status_shows_what_needs_a_look() {
        let status = Status {
            version: "2.0.0".into(),
            state: "serving".into(),
            uptime_s: 61,
            actors: vec![
                ActorStatus { path: "root".into(), state: "running".into(), ..ActorStatus::default() },
                ActorStatus {
                    path: "root/providers".into(),
                    state: "restarting".into(),
                    restarts: 3,
                    last_failure: Some("boom".into()),
                    ..ActorStatus::default()
                },
            ],
            providers: vec![ProviderStatus {
                name: "a".into(),
                state: "ready".into(),
                open: 2,
                max_concurrent: Some(4),
                attempts: 10,
                failures: 2,
                error_rate: 0.2,
                breakers: vec!["m: open for 12s".into()],
                buckets: vec![BucketStatus { name: "requests/min".into(), level: 3.0, size: 60.0 }],
                keys: vec![KeyStatus { name: "K".into(), state: "refused by the provider".into() }],
                learned: vec![LearnedStatus {
                    key: "K".into(),
                    name: "tokens/min".into(),
                    level: 70.0,
                    size: 80.0,
                }],
                ..ProviderStatus::default()
            }],
            fault_rules: vec![Shown {
                id: 7,
                rule: RuleText { fault: "refuse".into(), ..RuleText::default() },
                hits: 5,
                fired: 4,
                active: true,
            }],
            ..Status::default()
        };
        let text = text(&status, false);
        for part in [
            "up 1m 1s",
            "2/4",
            "20.0 %",
            "10 (2 failed)",
            "requests/min 3/60",
            "breaker m: open for 12s",
            "key K: refused by the provider",
            "upstream's tokens/min of K: 70/80",
            "7  armed  refuse",
            "5 hits, 4 fired",
            "  providers  restarting  3",
            "boom",
        ] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
        assert!(!text.contains('\u{1b}'));
    }
}
