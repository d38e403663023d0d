#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::report::{self, By, Query};
use super::store::{MIGRATIONS, Store, StoreError, set_aside};
use super::*;
use crate::config::ProviderKind;
use crate::dialect::{FaultKind, Phase, Usage};
use crate::routing::price::{Price, Prices};

fn noon(day: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs((20_000 + day) * 86_400 + 43_200)
}

fn attempt(provider: &str, model: &str, ended: Ended, usage: Option<Usage>) -> Attempt {
    let took = Duration::from_millis(900);
    Attempt {
        provider: provider.into(),
        kind: ProviderKind::Openai,
        model: model.into(),
        ended,
        usage,
        at: Duration::ZERO,
        took,
    }
}

fn record(id: &str, began: SystemTime, attempts: Vec<Attempt>) -> Record {
    let outcome = match attempts.last().map(|last| last.ended) {
        Some(Ended::Ok) => Outcome::Ok,
        Some(Ended::Left) => Outcome::Left,
        _ => Outcome::Failed,
    };
    Record {
        id: id.into(),
        began,
        front: "messages",
        session: Some("s1".into()),
        agent: None,
        model: "sonnet".into(),
        outcome,
        fault: None,
        cached: false,
        attempts,
        route: String::new(),
        healed: Vec::new(),
        queue: Duration::from_micros(1500),
        connect: None,
        first_byte: None,
        first_output: Some(Duration::from_millis(300)),
        total: Duration::from_secs(1),
        overhead: None,
    }
}

fn usage(input: u64, output: u64) -> Option<Usage> {
    Some(Usage { input, output, ..Usage::default() })
}

fn prices() -> Prices {
    let mut prices = Prices::default();
    prices.set("a", "known", Price { input: 1.0, output: 10.0, ..Price::default() });
    prices.set("a", "free", Price::default());
    prices
}

fn write(path: &Path, records: Vec<Record>) {
    let priced: Vec<Arc<Priced>> =
        records.into_iter().map(|record| Arc::new(record.price(&prices()))).collect();
    Store::open(path).unwrap().write(&priced).unwrap();
}

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn usage_is_added_up_by_provider_and_by_day() {
    let dir = dir();
    let path = dir.path().join("deep/er/ledger.sqlite3");
    let failed_over = vec![
        attempt("b", "unknown", Ended::NotAdmitted("denied"), None),
        attempt("b", "unknown", Ended::Fault(FaultKind::RateLimited), None),
        attempt("a", "known", Ended::Ok, usage(1_000_000, 100_000)),
    ];
    write(&path, vec![record("r1", noon(0), failed_over)]);
    write(&path, vec![record("r2", noon(1), vec![attempt("a", "known", Ended::Ok, usage(1_000_000, 0))])]);

    let by_provider = report::read(&path, Query { by: By::Provider, ..Query::default() }).unwrap();
    let [a, b] = &by_provider.lines[..] else { panic!("{by_provider:?}") };
    assert_eq!(
        (a.key.as_deref(), a.requests, a.attempts, a.input, a.output),
        (Some("a"), 2, 2, 2_000_000, 100_000)
    );
    assert_eq!((a.cost_usd, a.cost_unknown), (Some(3.0), 0));
    assert_eq!((b.key.as_deref(), b.requests, b.attempts, b.failures), (Some("b"), 1, 1, 1));
    assert_eq!(by_provider.total.requests, 2);

    let by_day = report::read(&path, Query { since: Some(noon(1)), ..Query::default() }).unwrap();
    assert_eq!(by_day.lines.len(), 1);
    assert_eq!(by_day.lines[0].cost_usd, Some(1.0));
    let days = report::read(&path, Query::default()).unwrap().lines;
    assert!(days[0].key < days[1].key && days[0].key.as_deref() == Some("2024-10-04"), "{days:?}");
}

#[test]
fn an_unknown_cost_is_unknown_and_not_nothing() {
    let dir = dir();
    let path = dir.path().join("l");
    write(
        &path,
        vec![
            record("r1", noon(0), vec![attempt("b", "m", Ended::Ok, usage(10, 10))]),
            record("r2", noon(0), vec![attempt("a", "known", Ended::Ok, None)]),
            record(
                "r3",
                noon(0),
                vec![attempt("a", "known", Ended::Fault(FaultKind::Timeout(Phase::Headers)), None)],
            ),
            record("r4", noon(0), vec![attempt("a", "known", Ended::Fault(FaultKind::Overloaded), None)]),
            record("r5", noon(0), vec![attempt("a", "free", Ended::Left, None)]),
        ],
    );
    let report = report::read(&path, Query { by: By::Model, ..Query::default() }).unwrap();
    let line = |key: &str| report.lines.iter().find(|line| line.key.as_deref() == Some(key)).unwrap();
    assert_eq!((line("m").cost_usd, line("m").cost_unknown, line("m").cost()), (None, 1, "?".to_owned()));
    // Refused is free; lost on the way, or without figures, is unknown.
    assert_eq!((line("known").cost_usd, line("known").cost_unknown), (Some(0.0), 2));
    assert_eq!(line("known").cost(), "?");
    assert_eq!((line("free").cost_usd, line("free").cost_unknown), (Some(0.0), 0));
    assert_eq!(report.total.cost_unknown, 3);
}

#[test]
fn a_record_that_is_written_twice_stands_there_once() {
    let dir = dir();
    let path = dir.path().join("l");
    let one = || record("r1", noon(0), vec![attempt("a", "known", Ended::Ok, usage(5, 5))]);
    write(&path, vec![one()]);
    write(&path, vec![one(), record("r2", noon(0), Vec::new())]);
    let total = report::read(&path, Query::default()).unwrap().total;
    assert_eq!((total.requests, total.attempts, total.input), (2, 1, 5));
}

#[test]
fn no_database_yet_is_an_empty_report_and_reading_makes_none() {
    let dir = dir();
    let path = dir.path().join("l");
    assert_eq!(report::read(&path, Query::default()).unwrap().lines, Vec::new());
    assert!(!path.exists());
}

#[test]
fn a_database_of_a_later_version_is_left_alone() {
    let dir = dir();
    let path = dir.path().join("l");
    write(&path, Vec::new());
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(Store::open(&path).unwrap_err(), StoreError::Newer { found: 99, .. }));
    assert!(matches!(report::read(&path, Query::default()).unwrap_err(), StoreError::Newer { .. }));
}

#[test]
fn garbage_is_told_from_a_lack_of_permission() {
    let dir = dir();
    let garbage = dir.path().join("garbage");
    std::fs::write(&garbage, "this is no database, and long enough to have a header ".repeat(100)).unwrap();
    assert!(Store::open(&garbage).unwrap_err().is_corrupt());
    let aside = set_aside(&garbage, noon(0)).unwrap();
    assert!(
        !garbage.exists() && aside.to_string_lossy().ends_with("garbage.corrupt-20241004T120000Z"),
        "{aside:?}"
    );
    std::fs::write(&garbage, "again").unwrap();
    assert_ne!(set_aside(&garbage, noon(0)).unwrap(), aside);

    let below_a_file = aside.join("ledger");
    let error = Store::open(&below_a_file).unwrap_err();
    assert!(!error.is_corrupt() && error.to_string().contains("ledger"), "{error}");
}

#[cfg(unix)]
#[test]
fn the_database_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = dir();
    let path = dir.path().join("deep/l");
    let _open = Store::open(&path).unwrap();
    for entry in std::fs::read_dir(path.parent().unwrap()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{entry:?}");
    }
    assert_eq!(path.parent().unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn what_budgets_begin_with_is_what_was_spent_in_their_time() {
    let dir = dir();
    let path = dir.path().join("l");
    let dollar =
        |id: &str, day| record(id, noon(day), vec![attempt("a", "known", Ended::Ok, usage(1_000_000, 0))]);
    // The 4th, the 5th and the 30th of a month, and the 1st of the next.
    write(&path, vec![dollar("r1", 0), dollar("r2", 1), dollar("r3", 26), dollar("r4", 28)]);
    let spent = |before| {
        let spent = Store::open_to_read(&path).unwrap().unwrap().spent(before).unwrap();
        spent.into_iter().map(|spent| (spent.scope, spent.name, spent.cost)).collect::<Vec<_>>()
    };
    use super::budget::Scope;
    let a_moment = Duration::from_secs(1);
    let session = |cost| (Scope::Session, Some("s1".to_owned()), cost);
    assert_eq!(
        spent(noon(1) + a_moment),
        [(Scope::Day, None, 1_000_000), (Scope::Month, None, 2_000_000), session(2_000_000)]
    );
    assert_eq!(
        spent(noon(28) + a_moment),
        [(Scope::Day, None, 1_000_000), (Scope::Month, None, 1_000_000), session(4_000_000)]
    );
    assert_eq!(spent(noon(0)), []);
}

#[test]
fn old_requests_become_the_sums_of_their_days_and_no_figure_changes() {
    let dir = dir();
    let path = dir.path().join("l");
    let a = |n: u64| {
        attempt("a", if n.is_multiple_of(2) { "known" } else { "unknown" }, Ended::Ok, usage(n, 2 * n))
    };
    let b = |_| attempt("b", "x", Ended::Fault(FaultKind::Overloaded), None);
    let records = (0..40).map(|n| {
        let attempts = if n % 5 == 0 { vec![b(n), a(n)] } else { vec![a(n)] };
        record(&n.to_string(), noon(n / 10), attempts)
    });
    write(&path, records.collect());
    let all = [By::Day, By::Provider, By::Model];
    let reports = |since| all.map(|by| report::read(&path, Query { by, since, limit: 1000 }).unwrap());
    let before = (reports(None), reports(Some(noon(2) - Duration::from_secs(43_200))));
    assert!(before.0[0].total.cost_unknown > 0 && before.0[0].total.cost_usd.is_some());

    let mut store = Store::open(&path).unwrap();
    // Whole days alone: that of the moment itself stays.
    assert_eq!(store.sum_up_before(noon(3)).unwrap(), 3);
    assert_eq!(store.sum_up_before(noon(3)).unwrap(), 0);
    assert_eq!((reports(None), reports(Some(noon(2) - Duration::from_secs(43_200)))), before);
    let left = store.connection().query_row("SELECT COUNT(*) FROM requests", [], |row| row.get::<_, i64>(0));
    assert_eq!(left.unwrap(), 10);
    let of_sessions = report::read(&path, Query { by: By::Session, ..Query::default() }).unwrap();
    assert_eq!(of_sessions.total, before.0[0].total);
    assert_eq!(of_sessions.lines.iter().map(|line| line.requests).sum::<u64>(), 40);
    assert!(of_sessions.sums_until.is_some());

    // A clock that was set back brings another request for a day that is summed up.
    write(&path, vec![record("late", noon(1), vec![a(7)])]);
    store.sum_up_before(noon(3)).unwrap();
    assert_eq!(reports(None)[0].total.requests, 41);
    assert_eq!(reports(None)[0].lines.len(), 4);
}

#[test]
fn a_database_of_an_earlier_version_is_brought_to_the_present() {
    let dir = dir();
    for version in 1..MIGRATIONS.len() {
        let path = dir.path().join(version.to_string());
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.execute_batch(&MIGRATIONS[..version].concat()).unwrap();
        connection.pragma_update(None, "user_version", version).unwrap();
        connection
            .execute_batch(
                "INSERT INTO requests VALUES (7, 'old', 1, 'messages', NULL, NULL, 'm', 'ok', NULL, 0, 1, 0, 1, 1, 2);
                 INSERT INTO attempts VALUES (7, 1, 'a', 'm', 'ok', 1, 3, 0, 0, 4, NULL, 0, 5, 'v', 2)",
            )
            .unwrap();
        drop(connection);
        let total = report::read(&path, Query::default()).unwrap().total;
        assert_eq!((total.requests, total.attempts, total.input), (1, 1, 3), "version {version}");
        write(&path, vec![record("new", noon(0), vec![attempt("a", "known", Ended::Ok, usage(5, 5))])]);
        let total = report::read(&path, Query::default()).unwrap().total;
        assert_eq!((total.requests, total.attempts, total.input), (2, 2, 8), "version {version}");
    }
}
