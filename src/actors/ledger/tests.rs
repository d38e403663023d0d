#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ractor::Actor;

use super::*;
use crate::config::Config;
use crate::ledger::report::{self, Query};
use crate::ledger::{Outcome, Record};
use crate::runtime::supervisor::{Beyond, Changes, ChildSpec, Overseer, Policy, Supervisor};
use crate::runtime::{Backoff, Random, Slot, ask, ask_again, clock};

struct Root(Arc<Slot<LedgerMessage>>, Arc<LedgerCell>);

impl Overseer for Root {
    type Message = ();

    fn children(&self) -> Vec<ChildSpec> {
        let policy = Policy {
            intensity: 100,
            period: Duration::from_secs(1),
            backoff: Backoff { base: Duration::from_millis(1), max: Duration::from_millis(2) },
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

async fn start(path: PathBuf) -> (Arc<Slot<LedgerMessage>>, Arc<LedgerCell>) {
    let slot = Slot::new("root/ledger");
    let cell = Arc::new(LedgerCell::new(Some(path), &Config::default()));
    let supervisor =
        Supervisor::new(Root(slot.clone(), cell.clone()), Slot::new("root"), Arc::new(Random::seeded(1)));
    Actor::spawn(None, supervisor, ()).await.unwrap();
    (slot, cell)
}

fn record(id: &str) -> Record {
    Record {
        id: id.into(),
        began: SystemTime::UNIX_EPOCH,
        front: "mcp",
        session: None,
        agent: None,
        model: "m".into(),
        outcome: Outcome::Failed,
        fault: None,
        cached: false,
        attempts: Vec::new(),
        route: String::new(),
        healed: Vec::new(),
        queue: Duration::ZERO,
        connect: None,
        first_byte: None,
        first_output: None,
        total: Duration::ZERO,
        overhead: None,
    }
}

fn written(path: &Path) -> u64 {
    report::read(path, Query::default()).unwrap().total.requests
}

async fn flush(slot: &Slot<LedgerMessage>) {
    ask_again(slot, clock::now() + Duration::from_secs(10), LedgerMessage::Flush).await.unwrap();
}

#[tokio::test]
async fn a_flush_answers_when_all_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("l");
    let (slot, cell) = start(path.clone()).await;
    for round in 1..=3u64 {
        for n in 0..10 {
            cell.record(record(&format!("{round}-{n}")));
        }
        tokio::join!(flush(&slot), flush(&slot));
        assert_eq!(written(&path), round * 10);
    }
}

#[tokio::test]
async fn a_flush_answers_even_if_nothing_can_be_written() {
    let (slot, cell) = start("/dev/null/l".into()).await;
    cell.record(record("r"));
    flush(&slot).await;
    assert_eq!(cell.warnings().len(), 1);
}

#[tokio::test]
async fn records_are_written_within_a_second_without_being_asked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("l");
    let (_slot, cell) = start(path.clone()).await;
    cell.record(record("r"));
    tokio::time::sleep(Duration::from_millis(950)).await;
    assert_eq!(written(&path), 1);
    // And again, after it has slept.
    cell.record(record("s"));
    tokio::time::sleep(Duration::from_millis(950)).await;
    assert_eq!(written(&path), 2);
}

#[tokio::test]
async fn no_record_is_lost_with_an_incarnation() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("l");
    let (slot, cell) = start(path.clone()).await;
    for n in 0..300u64 {
        cell.record(record(&n.to_string()));
        match n % 5 {
            0 => {
                if let Some(address) = slot.get() {
                    address.kill();
                }
            }
            1 => {
                // It may die on the way: what counts is that nothing is lost.
                let _ = ask(&slot, clock::now() + Duration::from_millis(50), LedgerMessage::Flush).await;
            }
            _ => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
    flush(&slot).await;
    assert_eq!(written(&path), 300);
    assert_eq!(cell.warnings(), Vec::<String>::new());
}
