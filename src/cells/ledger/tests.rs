#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::{Duration, SystemTime};

use super::*;
use crate::config::{Budget, ProviderKind};
use crate::dialect::Usage;
use crate::ledger::{Attempt, Ended, Outcome};

fn record(id: &str) -> Record {
    let usage = Usage { input: 100, output: 10, ..Usage::default() };
    Record {
        id: id.into(),
        began: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        front: "messages",
        session: Some("session".into()),
        agent: None,
        model: "client says \"what\" it likes\n".into(),
        outcome: Outcome::Ok,
        fault: None,
        cached: false,
        attempts: vec![Attempt {
            provider: "local".into(),
            kind: ProviderKind::Local,
            model: "client-model".into(),
            ended: Ended::Ok,
            usage: Some(usage),
            at: Duration::ZERO,
            took: Duration::from_millis(70),
        }],
        route: String::new(),
        healed: Vec::new(),
        queue: Duration::ZERO,
        connect: None,
        first_byte: None,
        first_output: Some(Duration::from_millis(50)),
        total: Duration::from_millis(80),
        overhead: Some(Duration::from_micros(120)),
    }
}

fn cell(path: Option<PathBuf>) -> LedgerCell {
    LedgerCell::new(path, &Config::default())
}

#[test]
fn a_record_reaches_the_store_the_metrics_and_the_recent_ones() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let cell = cell(Some(path.clone()));
    cell.record(record("r1"));
    cell.record(record("r2"));
    assert!(!path.exists(), "the path of a request touches no file");
    assert_eq!(cell.fold(), 2);
    cell.write().unwrap();
    assert_eq!(cell.fold(), 0);
    assert_eq!(cell.report(Query::default()).unwrap().total.requests, 2);
    let recent: Vec<String> = cell.recent(10).into_iter().map(|recent| recent.id).collect();
    assert_eq!(recent, ["r2", "r1"]);
    let mut page = Page::default();
    cell.render(&mut page);
    let text = page.into_text();
    assert!(text.contains("cproxy_requests_total{front=\"messages\",outcome=\"ok\"} 2"), "{text}");
    assert_eq!(cell.warnings(), Vec::<String>::new());
}

#[test]
fn nothing_that_a_client_sends_becomes_a_label() {
    let cell = cell(None);
    cell.record(record("r1"));
    let mut page = Page::default();
    cell.render(&mut page);
    let text = page.into_text();
    assert!(!text.contains("client") || !text.contains("client-model") && !text.contains("likes"), "{text}");
    assert!(text.contains("gen_ai_request_model=\"other\""), "{text}");
}

#[test]
fn a_model_that_the_config_names_is_a_label() {
    let config: Config = toml::from_str("[models]\nx = [\"local/client-model\"]").unwrap();
    let cell = LedgerCell::new(None, &config);
    cell.record(record("r1"));
    let mut page = Page::default();
    cell.render(&mut page);
    assert!(page.into_text().contains("gen_ai_request_model=\"client-model\""));
}

#[test]
fn a_corrupt_ledger_is_set_aside_and_no_new_record_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    std::fs::write(&path, "garbage ".repeat(1000)).unwrap();
    let cell = cell(Some(path.clone()));
    cell.record(record("r1"));
    cell.fold();
    cell.write().unwrap();
    assert_eq!(cell.report(Query::default()).unwrap().total.requests, 1);
    let warning = cell.warnings().join("\n");
    assert!(warning.contains("corrupt") && warning.contains("set aside"), "{warning}");
    let names: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().any(|name| name.to_string_lossy().contains(".corrupt-")), "{names:?}");
}

#[test]
fn a_ledger_that_goes_bad_while_it_is_open_is_set_aside_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let cell = cell(Some(path.clone()));
    for n in 0..500 {
        cell.record(record(&format!("r{n}")));
    }
    cell.fold();
    cell.write().unwrap();
    // The schema's page and the log, overwritten by something else.
    std::fs::write(&path, vec![0x5a; 64 << 10]).unwrap();
    std::fs::write(dir.path().join("ledger-wal"), vec![0x5a; 4096]).unwrap();
    for n in 0..3 {
        cell.record(record(&format!("later{n}")));
        cell.fold();
        let _ = cell.write();
    }
    *lock(&cell.store) = None; // as after any failure, or at the next start
    cell.record(record("last"));
    cell.fold();
    cell.write().unwrap();
    assert!(cell.recent(1).first().is_some_and(|recent| recent.id == "last"));
    assert!(cell.report(Query::default()).unwrap().total.requests >= 1);
    assert!(cell.warnings().join("\n").contains("set aside"), "{:?}", cell.warnings());
}

#[test]
fn without_permission_records_stay_in_memory_until_they_can_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let blocked = dir.path().join("folder");
    std::fs::write(&blocked, "a file where a folder should be: fails for root as well").unwrap();
    let cell = cell(Some(blocked.join("ledger")));
    cell.record(record("r1"));
    cell.fold();
    assert!(cell.write().is_err());
    let warning = cell.warnings().join("\n");
    assert!(warning.contains("can't be written") && warning.contains("1 requests are kept"), "{warning}");
    std::fs::remove_file(&blocked).unwrap();
    cell.record(record("r2"));
    cell.fold();
    cell.write().unwrap();
    assert_eq!(cell.warnings(), Vec::<String>::new());
    assert_eq!(cell.report(Query::default()).unwrap().total.requests, 2);
}

#[test]
fn what_waits_is_bounded_and_what_is_lost_is_counted() {
    let cell = cell(Some("/dev/null/ledger".into()));
    for n in 0..MAX_WAITING + 10 {
        cell.record(record(&n.to_string()));
        if n % 5000 == 0 {
            cell.fold();
        }
    }
    assert_eq!(cell.fold(), MAX_WAITING);
    assert!(cell.warnings().join("\n").contains("lost 10 requests"), "{:?}", cell.warnings());
}

#[test]
fn budgets_outlive_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let mut config = Config::default();
    config.budgets.day = Budget { warn: None, stop: Some(1.0) };
    let expensive = || {
        let mut expensive = record("r1");
        expensive.began = clock::wall() - Duration::from_millis(1500);
        for attempt in &mut expensive.attempts {
            attempt.kind = ProviderKind::Anthropic;
            attempt.model = "claude-opus-4-1".into();
            attempt.usage = Some(Usage { input: 50_000, ..Usage::default() });
        }
        expensive
    };
    let first = LedgerCell::new(Some(path.clone()), &config);
    first.record(expensive());
    first.fold();
    first.write().unwrap();
    let second = Arc::new(LedgerCell::new(Some(path), &config));
    let reserve = |estimate| second.reserve(None, None, estimate);
    assert!(reserve(900_000).unwrap().is_some()); // given back by its drop
    second.recall();
    second.recall(); // once is enough
    assert!(reserve(900_000).is_err());
    let reservation = reserve(200_000).unwrap().unwrap();
    assert!(reserve(200_000).is_err());
    reservation.settle(Some(0));
    assert!(reserve(200_000).is_ok());
}

#[test]
fn callers_at_once_pass_no_budget_together() {
    let mut config = Config::default();
    config.budgets.session = Budget { warn: None, stop: Some(1.0) };
    let cell = Arc::new(LedgerCell::new(None, &config));
    let session: Arc<str> = "s".into();
    let spent = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..200 {
                    if let Ok(Some(reservation)) = cell.reserve(Some(&session), None, 10_000) {
                        spent.fetch_add(10_000, Ordering::Relaxed);
                        std::thread::yield_now();
                        reservation.settle(Some(10_000));
                    }
                }
            });
        }
    });
    assert_eq!(spent.into_inner(), 1_000_000);
}

/// Not a test of time, since machines differ: prints what the request's path pays. `cargo test -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
#[allow(clippy::disallowed_methods, clippy::print_stdout)]
fn what_a_record_costs_on_the_path() {
    let cell = cell(None);
    let mut took = Duration::ZERO;
    for _ in 0..50 {
        let records: Vec<Record> = (0..1000).map(|_| record("r")).collect();
        let begin = std::time::Instant::now();
        for record in records {
            cell.record(record);
        }
        took += begin.elapsed();
        cell.fold();
    }
    println!("record: {} ns", took.as_nanos() / 50_000);
    let records: Vec<Record> = (0..10_000).map(|_| record("r")).collect();
    records.into_iter().for_each(|record| cell.record(record));
    let begin = std::time::Instant::now();
    cell.fold();
    println!("fold, without a log: {} ns a record", begin.elapsed().as_nanos() / 10_000);
}
