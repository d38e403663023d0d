//! `kill -9` in the middle of load: the ledger opens each time, and holds every request that was answered more than
//! a second before. Once with a child that writes as fast as it can (this test's own binary, run again with a variable),
//! once with the daemon itself, asked by several callers over HTTP.
//!
//! `CPROXY_TEST_KILLS=100 cargo test --test ledger_kill` for the long form.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, clippy::print_stdout)]

#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/ask.rs"]
mod http;

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use cproxy::actors::ledger::{Ledger, LedgerMessage};
use cproxy::cells::LedgerCell;
use cproxy::config::{Config, ProviderKind};
use cproxy::dialect::Usage;
use cproxy::ledger::{Attempt, Ended, Outcome, Record};
use cproxy::runtime::supervisor::{Beyond, Changes, ChildSpec, Overseer, Policy, Supervisor};
use cproxy::runtime::{Backoff, Random, Slot};
use ractor::Actor;

const CHILD: &str = "CPROXY_TEST_LEDGER_CHILD";

/// What may be lost: less than the last second.
const LOST_AT_MOST: Duration = Duration::from_secs(1);

struct Root(Arc<Slot<LedgerMessage>>, Arc<LedgerCell>);

impl Overseer for Root {
    type Message = ();

    fn children(&self) -> Vec<ChildSpec> {
        let policy = Policy {
            intensity: 1,
            period: Duration::from_secs(1),
            backoff: Backoff { base: Duration::from_millis(1), max: Duration::from_millis(1) },
            beyond: Beyond::Escalate,
        };
        vec![ChildSpec::worker::<Ledger>("ledger", self.0.clone(), self.1.clone(), policy, None)]
    }

    fn handle(&self, (): ()) -> Changes {
        Changes::default()
    }

    fn name((): &()) -> &'static str {
        "Tell"
    }
}

fn record(id: &str) -> Record {
    let attempt = Attempt {
        provider: "local".into(),
        kind: ProviderKind::Local,
        model: "m".into(),
        ended: Ended::Ok,
        usage: Some(Usage { input: 3, output: 4, ..Usage::default() }),
        at: Duration::ZERO,
        took: Duration::from_millis(1),
    };
    Record {
        id: id.into(),
        began: SystemTime::now(),
        front: "messages",
        session: None,
        agent: None,
        model: "m".into(),
        outcome: Outcome::Ok,
        fault: None,
        cached: false,
        attempts: vec![attempt],
        route: String::new(),
        healed: Vec::new(),
        queue: Duration::ZERO,
        connect: None,
        first_byte: None,
        first_output: None,
        total: Duration::from_millis(1),
        overhead: None,
    }
}

/// The child: records without end, and says after each what it has recorded.
fn write_until_killed(path: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let slot = Slot::new("root/ledger");
        let cell = Arc::new(LedgerCell::new(Some(path.into()), &Config::default()));
        let root = Root(slot, cell.clone());
        Actor::spawn(None, Supervisor::new(root, Slot::new("root"), Arc::new(Random::seeded(1))), ())
            .await
            .unwrap();
        let process = std::process::id();
        for n in 0u64.. {
            let id = format!("{process}-{n}");
            cell.record(record(&id));
            let mut out = std::io::stdout().lock();
            let _ = writeln!(out, "ack {id}").and_then(|()| out.flush());
            drop(out);
            if n % 8 == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
}

fn in_the_ledger(path: &Path) -> HashSet<String> {
    ids_in(path, "SELECT r.id FROM requests r JOIN attempts a ON a.request = r.key WHERE a.input = 3")
}

fn ids_in(path: &Path, sql: &str) -> HashSet<String> {
    let connection = rusqlite::Connection::open(path).unwrap();
    let check: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    connection.prepare(sql).unwrap().query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

fn kills(short: u64) -> u64 {
    std::env::var("CPROXY_TEST_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(short)
}

#[test]
fn a_daemon_that_is_killed_under_load_has_kept_what_it_answered() {
    let kills = kills(3);
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("ledger.sqlite3");
    let config = format!("[ledger]\nfile = \"{}\"\n", path.display());
    let body =
        r#"{"model":"claude-haiku-4-5","max_tokens":20,"messages":[{"role":"user","content":"hello"}]}"#;
    let mut checked = 0;
    for kill in 0..kills {
        let daemon = daemon::Daemon::start(&config);
        let answered = std::sync::Mutex::new(Vec::new());
        let killed = std::sync::OnceLock::new();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let host = daemon.url.trim_start_matches("http://").to_owned();
                    while killed.get().is_none() {
                        let headers = [("host", host.clone())];
                        // Refused or cut by the kill: no answer, and nothing that would have to be kept.
                        let asked = http::try_ask(&daemon.url, "POST", "/v1/messages", &headers, body);
                        let Ok(got) = asked else { break };
                        let id = got
                            .head
                            .split_once("request-id: ")
                            .and_then(|(_, rest)| rest.split_whitespace().next());
                        if let (200, Some(id)) = (got.status, id) {
                            answered
                                .lock()
                                .unwrap()
                                .push((Instant::now(), id.to_uppercase().replace("REQ_", "req_")));
                        }
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(1700 + kill * 97 % 500));
            daemon.kill();
            killed.set(Instant::now()).unwrap();
        });
        let killed = *killed.get().unwrap();
        let there = ids_in(&path, "SELECT id FROM requests");
        for (at, id) in answered.into_inner().unwrap().iter().filter(|(at, _)| *at + LOST_AT_MOST < killed) {
            checked += 1;
            assert!(there.contains(id), "{id}, answered {:?} before the kill, is lost", killed - *at);
        }
    }
    assert!(checked > kills * 3, "only {checked} requests were old enough to be asked for");
    println!("{kills} kills of a daemon, {checked} requests asked for");
}

#[test]
fn a_kill_loses_less_than_the_last_second() {
    if let Ok(path) = std::env::var(CHILD) {
        return write_until_killed(&path);
    }
    let kills = kills(4);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.sqlite3");
    let mut checked = 0;
    for kill in 0..kills {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_kill_loses_less_than_the_last_second", "--nocapture"])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let out = child.stdout.take().unwrap();
        let reader = std::thread::spawn(move || {
            let mut acknowledged = Vec::new();
            for line in BufReader::new(out).lines() {
                let Ok(line) = line else { break };
                if let Some(id) = line.strip_prefix("ack ") {
                    acknowledged.push((Instant::now(), id.to_owned()));
                }
            }
            acknowledged
        });
        // Different moments of the rhythm of 450 ms, late enough that something must be there.
        std::thread::sleep(Duration::from_millis(1300 + kill * 97 % 500));
        let killed = Instant::now();
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
        let acknowledged = reader.join().unwrap();
        let there = in_the_ledger(&path);
        let due = acknowledged.iter().filter(|(at, _)| *at + LOST_AT_MOST < killed);
        for (at, id) in due {
            checked += 1;
            assert!(there.contains(id), "{id}, acknowledged {:?} before the kill, is lost", killed - *at);
        }
    }
    assert!(checked > kills * 100, "only {checked} requests were old enough to be asked for");
    println!("{kills} kills, {checked} requests asked for");
}
