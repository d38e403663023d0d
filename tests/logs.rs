//! The log as it lies on disk: the line of a request, levels that change while it runs, panics, bodies; and that a
//! credential shows in none of it. One test, since a process logs once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cproxy::cells::LedgerCell;
use cproxy::config::{Config, LogFormat, Logging, ProviderKind};
use cproxy::dialect::{FaultKind, Usage};
use cproxy::ledger::{Attempt, Ended, Outcome, Record};
use cproxy::runtime::current;
use cproxy::telemetry::bodies::{self, What};
use cproxy::telemetry::{logs, panics};
use serde_json::{Value, json};

const CANARY: &str = "sk-ant-api03-c4n4ryQ7wE9rT2yU5iO8pA1sD3fG6hJ";

fn attempt(provider: &str, ended: Ended, usage: Option<Usage>) -> Attempt {
    let kind = ProviderKind::Anthropic;
    Attempt {
        provider: provider.into(),
        kind,
        model: "claude-opus-4-1".into(),
        ended,
        usage,
        at: Duration::ZERO,
        took: Duration::ZERO,
    }
}

fn record() -> Record {
    let usage = Usage {
        input: 1000,
        cache_read: 5,
        cache_creation: 6,
        output: 100,
        thinking: Some(7),
        estimated: false,
    };
    Record {
        id: "req_1".into(),
        began: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        front: "messages",
        session: Some("line\nbreak".into()),
        agent: None,
        model: "opus".into(),
        outcome: Outcome::Ok,
        fault: None,
        cached: false,
        attempts: vec![
            attempt("first", Ended::Fault(FaultKind::Overloaded), None),
            attempt("second", Ended::Ok, Some(usage)),
        ],
        route: "first/claude-opus-4-1: overloaded, second/claude-opus-4-1: ok".into(),
        healed: vec!["thinking", "tools"],
        queue: Duration::from_millis(3),
        connect: Some(Duration::from_millis(2)),
        first_byte: Some(Duration::from_millis(40)),
        first_output: Some(Duration::from_millis(50)),
        total: Duration::from_millis(800),
        overhead: Some(Duration::from_micros(95)),
    }
}

#[test]
fn the_log_tells_the_story_and_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log/cproxy.log");
    let logging =
        Logging { format: LogFormat::Json, file: Some(path.clone()), responses: true, ..Logging::default() };
    let running = logs::init(&logging);
    let cell = LedgerCell::new(None, &Config::default());
    cell.record(record());
    cell.fold();

    tracing::debug!("hidden at first");
    logs::set_level("debug").unwrap();
    tracing::debug!("shown now");
    logs::set_level("info").unwrap();
    tracing::debug!("hidden again");
    assert!(logs::set_level("no=such=filter").unwrap_err().contains("neither a level nor a filter"));

    let actor: Arc<str> = "root/router".into();
    let panicked =
        std::panic::catch_unwind(|| current::within(&actor, || panic!("could not read {CANARY}\nat all")));
    assert!(panicked.is_err() && panics::count() == 1);
    let _ = std::panic::catch_unwind(|| panic!("outside"));

    assert!(bodies::wanted(What::Answer) && !bodies::wanted(What::Request));
    bodies::log("req_1", What::Request, b"nobody asked for this");
    bodies::log("req_1", What::Answer, format!("{{\"text\":\"hello\",\"api_key\":\"{CANARY}\"}}").as_bytes());
    let mut tap = bodies::Tap::new(&"req_2".into(), What::Answer).unwrap();
    tap.push(&CANARY.as_bytes()[..20]);
    tap.push(&CANARY.as_bytes()[20..]);
    tap.push(&vec![b'x'; 100_000]);
    drop(tap);
    logs::reconfigure(&Logging { responses: false, requests: false, ..logging.clone() }).unwrap();
    assert!(!bodies::wanted(What::Answer) && bodies::Tap::new(&"req_3".into(), What::Answer).is_none());
    cell.record(record());
    cell.fold(); // lines of requests are off now
    assert_eq!(logs::warnings(), Vec::<String>::new());
    drop(running);

    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains("c4n4ry"), "{text}");
    assert!(text.len() < 20_000);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |target: &str| lines.iter().filter(|line| line["target"] == target).collect::<Vec<_>>();

    let [request] = of("cproxy::request")[..] else { panic!("{text}") };
    let expected = json!({
        "level": "INFO", "request": "req_1", "front": "messages", "session": "line\nbreak", "model": "opus",
        "provider": "second", "upstream_model": "claude-opus-4-1", "attempts": 2, "outcome": "ok",
        "route": "first/claude-opus-4-1: overloaded, second/claude-opus-4-1: ok", "queue_ms": 3, "connect_ms": 2, "first_byte_ms": 40,
        "first_output_ms": 50, "total_ms": 800, "healed": "thinking,tools", "overhead_us": 95, "input": 1000, "cache_read": 5,
        "cache_creation": 6, "output": 100, "thinking": 7, "began": "2023-11-14T22:13:20.000Z",
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(request[name], *value, "{name} in {request}");
    }
    assert!(request["cost_usd"].as_f64().is_some_and(|cost| cost > 0.02 && cost < 0.03), "{request}");
    assert!(request.get("agent").is_none() && request.get("fault").is_none());

    assert!(text.contains("shown now") && !text.contains("hidden"), "{text}");
    let panics = of("cproxy::panic");
    assert_eq!(panics.len(), 2);
    assert_eq!(panics[0]["actor"], "root/router");
    assert!(panics[0]["at"].as_str().unwrap().contains("logs.rs:"));
    assert_eq!(panics[0]["panic"], "could not read ••• at all");
    assert!(panics[1].get("actor").is_none() && panics[1]["panic"] == "outside");

    let bodies = of("cproxy::body");
    assert_eq!(bodies.len(), 2);
    assert_eq!(bodies[0]["body"], "{\"text\":\"hello\",\"api_key\":\"•••\"}");
    assert_eq!(bodies[1]["body"], "•••… (100044 bytes in all)");

    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}
