#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use ractor::{Actor, ActorCell};

use super::supervisor::{Beyond, Changes, ChildSpec, Overseer, Policy, Supervisor, SupervisorMessage};
use super::*;

/// What the actor of these tests is told.
#[derive(Debug)]
enum Word {
    Echo(u64, Reply<u64>),
    /// Keeps the reply and never answers.
    Swallow(Reply<u64>),
    Panic,
    /// Ends itself with a reason.
    Fail,
    /// Leaves a task behind that counts as long as it lives.
    Tick,
    /// A task that panics.
    TaskPanic,
}

#[derive(Clone, Default)]
struct Seat {
    starts: Arc<AtomicUsize>,
    ticks: Arc<AtomicU64>,
    /// Starts from this one on fail.
    broken_from: Option<usize>,
}

struct Echo {
    seat: Seat,
    swallowed: Vec<Reply<u64>>,
}

impl Worker for Echo {
    type Message = Word;
    type Seat = Seat;

    fn start(seat: &Seat, _: &mut Me<Word>) -> Result<Echo, String> {
        let starts = seat.starts.fetch_add(1, Ordering::SeqCst) + 1;
        if seat.broken_from.is_some_and(|from| starts >= from) {
            return Err("no luck".to_owned());
        }
        Ok(Echo { seat: seat.clone(), swallowed: Vec::new() })
    }

    fn handle(&mut self, word: Word, me: &mut Me<Word>) {
        match word {
            Word::Echo(number, reply) => drop(reply.send(number)),
            Word::Swallow(reply) => self.swallowed.push(reply),
            Word::Panic => panic!("on purpose"),
            Word::Fail => me.fail("had enough"),
            Word::Tick => {
                let ticks = self.seat.ticks.clone();
                me.spawn(async move {
                    loop {
                        ticks.fetch_add(1, Ordering::SeqCst);
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                });
            }
            Word::TaskPanic => me.spawn(async { panic!("in a task") }),
        }
    }

    fn name(word: &Word) -> &'static str {
        match word {
            Word::Echo(..) => "Echo",
            Word::Swallow(_) => "Swallow",
            Word::Panic => "Panic",
            Word::Fail => "Fail",
            Word::Tick => "Tick",
            Word::TaskPanic => "TaskPanic",
        }
    }
}

/// One child of the overseer.
type Child = (Arc<Slot<Word>>, Seat, Policy, Option<Arc<dyn Interrupt>>);

/// An overseer of echoes.
struct Echoes(Vec<Child>);

impl Overseer for Echoes {
    type Message = ();

    fn children(&self) -> Vec<ChildSpec> {
        let spec = |(slot, seat, policy, interrupt): &Child| {
            let name = slot.vitals().path().clone();
            ChildSpec::worker::<Echo>(name, slot.clone(), seat.clone(), *policy, Clone::clone(interrupt))
        };
        self.0.iter().map(spec).collect()
    }

    fn handle(&self, (): ()) -> Changes {
        Changes::default()
    }

    fn name((): &()) -> &'static str {
        "Tell"
    }
}

const BASE: Duration = Duration::from_millis(100);

const POLICY: Policy = Policy {
    intensity: 3,
    period: Duration::from_secs(10),
    backoff: Backoff { base: BASE, max: Duration::from_secs(1) },
    beyond: Beyond::Escalate,
};

const HARDY: Policy = Policy {
    intensity: u32::MAX,
    period: Duration::from_millis(1),
    backoff: Backoff { base: Duration::from_micros(1), max: Duration::from_micros(1) },
    beyond: Beyond::Escalate,
};

struct Tree {
    slot: Arc<Slot<Word>>,
    seat: Seat,
    root: ActorCell,
}

async fn tree_with(policy: Policy, seat: Seat, interrupt: Option<Arc<dyn Interrupt>>) -> Tree {
    let slot = Slot::new("root/echo");
    let overseer = Echoes(vec![(slot.clone(), seat.clone(), policy, interrupt)]);
    let supervisor = Supervisor::new(overseer, Slot::new("root"), Arc::new(Random::seeded(1)));
    let (root, _) = Actor::spawn(None, supervisor, ()).await.unwrap();
    Tree { slot, seat, root: root.get_cell() }
}

async fn tree(policy: Policy) -> Tree {
    tree_with(policy, Seat::default(), None).await
}

impl Tree {
    async fn echo(&self, within: Duration) -> Result<u64, AskError> {
        ask_again(&self.slot, clock::now() + within, |reply| Word::Echo(7, reply)).await
    }

    /// Kills the living incarnation, and waits until its supervisor knows.
    async fn kill(&self) {
        let failures = self.slot.vitals().failures();
        assert!(self.slot.kill());
        while self.slot.vitals().failures() == failures {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_death_is_healed_at_once_and_the_next_within_the_back_off() {
    let tree = tree(POLICY).await;
    assert_eq!(tree.echo(BASE).await, Ok(7));
    for death in 0..3u32 {
        let killed = clock::now();
        tree.kill().await;
        assert_eq!(tree.echo(Duration::from_secs(5)).await, Ok(7));
        let away = clock::now() - killed;
        let most = if death == 0 { Duration::ZERO } else { BASE * 2u32.pow(death - 1) };
        assert!(tree.slot.vitals().away() <= most, "death {death}");
        assert!(away <= most + Duration::from_millis(5), "death {death}: away for {away:?}");
    }
    assert_eq!(tree.slot.vitals().incarnation(), 4);
    assert_eq!(tree.slot.vitals().failures(), 3);
    assert_eq!(tree.slot.vitals().last_failure().as_deref(), Some("killed"));
}

#[tokio::test(start_paused = true)]
async fn too_many_deaths_in_a_period_end_the_supervisor_with_the_reason() {
    let tree = tree(POLICY).await;
    for _ in 0..4 {
        let _ = tree.echo(Duration::from_secs(5)).await;
        if let Some(address) = tree.slot.get() {
            let _ = address.cast(Word::Panic);
        }
        tokio::time::sleep(Duration::from_millis(900)).await;
    }
    tree.root.wait(Some(Duration::from_secs(60))).await.unwrap();
    assert_eq!(tree.slot.vitals().state(), State::Stopped);
    assert_eq!(tree.slot.vitals().last_failure().as_deref(), Some("panicked in Panic: on purpose"));
    assert_eq!(tree.echo(Duration::from_millis(50)).await, Err(AskError::Down));
}

#[tokio::test(start_paused = true)]
async fn deaths_that_lie_apart_are_borne_for_ever() {
    let tree = tree(POLICY).await;
    for _ in 0..50 {
        tree.kill().await;
        assert_eq!(tree.echo(Duration::from_secs(5)).await, Ok(7));
        tokio::time::sleep(POLICY.period).await;
    }
    assert_eq!(tree.slot.vitals().failures(), 50);
}

#[tokio::test(start_paused = true)]
async fn a_quarantined_child_comes_back_after_its_time_and_its_sibling_notices_nothing() {
    let quarantine = Beyond::Quarantine { base: Duration::from_secs(30), max: Duration::from_secs(40) };
    let policy = Policy { beyond: quarantine, ..POLICY };
    let (ill, well) = (Slot::new("root/ill"), Slot::new("root/well"));
    let overseer = Echoes(vec![
        (ill.clone(), Seat::default(), policy, None),
        (well.clone(), Seat::default(), policy, None),
    ]);
    let supervisor = Supervisor::new(overseer, Slot::new("root"), Arc::new(Random::seeded(1)));
    let (root, _) = Actor::spawn(None, supervisor, ()).await.unwrap();
    let ill = Tree { slot: ill, seat: Seat::default(), root: root.get_cell() };
    for (round, secs) in [(0, 30), (1, 40)] {
        for _ in 0..4 {
            assert_eq!(ill.echo(Duration::from_secs(60)).await, Ok(7));
            ill.kill().await;
        }
        assert_eq!(ill.slot.vitals().state(), State::Quarantined, "round {round}");
        let since = clock::now();
        assert_eq!(ill.echo(Duration::from_secs(120)).await, Ok(7));
        let away = clock::now() - since;
        assert!(away.abs_diff(Duration::from_secs(secs)) < Duration::from_secs(1), "away for {away:?}");
    }
    assert_eq!(well.vitals().incarnation(), 1, "the sibling was not touched");
}

#[tokio::test(start_paused = true)]
async fn a_child_that_can_not_start_counts_as_one_that_died() {
    let seat = Seat { broken_from: Some(2), ..Seat::default() };
    let tree = tree_with(POLICY, seat, None).await;
    tree.kill().await;
    tree.root.wait(Some(Duration::from_secs(60))).await.unwrap();
    assert!(tree.slot.vitals().last_failure().unwrap().contains("no luck"));
    assert_eq!(tree.seat.starts.load(Ordering::SeqCst), 4, "one life and three tries");
}

#[tokio::test(start_paused = true)]
async fn a_panic_and_a_failure_are_contained_and_named() {
    let tree = tree(POLICY).await;
    tree.slot.cast(Word::Panic);
    assert_eq!(tree.echo(Duration::from_secs(5)).await, Ok(7));
    assert_eq!(tree.slot.vitals().last_failure().as_deref(), Some("panicked in Panic: on purpose"));
    tree.slot.cast(Word::Fail);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(tree.echo(Duration::from_secs(5)).await, Ok(7));
    assert_eq!(tree.slot.vitals().last_failure().as_deref(), Some("had enough"));
    tree.slot.cast(Word::TaskPanic);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(tree.echo(Duration::from_secs(5)).await, Ok(7));
    let reason = tree.slot.vitals().last_failure();
    assert_eq!(reason.as_deref(), Some("a task of TaskPanic panicked: in a task"));
    assert_eq!((tree.slot.vitals().failures(), tree.slot.vitals().incarnation()), (3, 4));
}

#[tokio::test(start_paused = true)]
async fn the_tasks_of_an_incarnation_end_with_it_however_it_ends() {
    for end in [Word::Panic, Word::Fail] {
        let tree = tree(POLICY).await;
        tree.slot.cast(Word::Tick);
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(tree.seat.ticks.load(Ordering::SeqCst) > 10);
        tree.slot.cast(end);
        tokio::time::sleep(Duration::from_millis(2)).await;
        let ticks = tree.seat.ticks.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(tree.seat.ticks.load(Ordering::SeqCst), ticks);
    }
    let tree = tree(POLICY).await;
    tree.slot.cast(Word::Tick);
    tokio::time::sleep(Duration::from_millis(20)).await;
    tree.kill().await;
    let ticks = tree.seat.ticks.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(tree.seat.ticks.load(Ordering::SeqCst), ticks);
}

/// Delays one message by name, for ever and a day.
struct Hang(&'static str);

impl Interrupt for Hang {
    fn before(&self, _: &str, message: &'static str) -> Option<Interruption> {
        (message == self.0).then_some(Interruption::Delay(Duration::from_secs(86_400)))
    }
}

#[tokio::test(start_paused = true)]
async fn a_mailbox_shows_its_depth_and_turns_away_what_is_too_much() {
    let tree = tree_with(POLICY, Seat::default(), Some(Arc::new(Hang("Tick")))).await;
    tree.slot.cast(Word::Tick);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(tree.slot.vitals().mailbox(), 0, "it is being handled, and waits no more");
    for _ in 0..100 {
        assert!(tree.slot.cast(Word::Tick));
    }
    assert_eq!(tree.slot.vitals().mailbox(), 100);
    for _ in 100..MAILBOX {
        assert!(tree.slot.cast(Word::Tick));
    }
    assert!(!tree.slot.cast(Word::Tick), "a full mailbox takes no more");
    let asked = ask(&tree.slot, clock::now() + BASE, |reply| Word::Echo(1, reply)).await;
    assert_eq!(asked, Err(AskError::Overloaded));
    tree.kill().await;
    assert_eq!(tree.echo(Duration::from_secs(5)).await, Ok(7));
    assert_eq!(tree.slot.vitals().mailbox(), 0, "the mailbox died with its incarnation");
}

#[tokio::test(start_paused = true)]
async fn an_ask_ends_at_its_deadline_or_with_the_actor_whatever_becomes_of_its_reply() {
    let tree = tree(POLICY).await;
    let asked = ask(&tree.slot, clock::now() + BASE, Word::Swallow).await;
    assert_eq!(asked, Err(AskError::Deadline));
    let (asked, ()) = tokio::join!(ask(&tree.slot, clock::now() + BASE * 100, Word::Swallow), async {
        tokio::time::sleep(BASE).await;
        tree.kill().await;
    });
    assert_eq!(asked, Err(AskError::Died));
}

/// Asks without a pause from eight tasks while the actor is ended as fast as it comes back; none may hang.
fn stress(asks: u64) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async move {
        let tree = tree(HARDY).await;
        let (done, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let mut askers = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (slot, done, failed) = (tree.slot.clone(), done.clone(), failed.clone());
            askers.spawn(async move {
                while done.fetch_add(1, Ordering::Relaxed) < asks {
                    // The deadline is there, but far: what reaches it has hung.
                    let limit = Duration::from_secs(20);
                    match ask(&slot, clock::now() + limit, |reply| Word::Echo(3, reply)).await {
                        Ok(answer) => assert_eq!(answer, 3),
                        Err(AskError::Deadline) => panic!("an ask hung"),
                        Err(_) => {
                            failed.fetch_add(1, Ordering::Relaxed);
                            tokio::task::yield_now().await;
                        }
                    }
                }
            });
        }
        let (slot, random) = (tree.slot.clone(), Random::seeded(7));
        let killer = tokio::spawn(async move {
            loop {
                if let Some(address) = slot.get() {
                    match random.draw() % 3 {
                        0 => address.kill(),
                        1 => drop(address.cast(Word::Panic)),
                        _ => drop(address.cast(Word::Fail)),
                    }
                }
                for _ in 0..random.draw() % 20 {
                    tokio::task::yield_now().await;
                }
            }
        });
        while let Some(asker) = askers.join_next().await {
            asker.unwrap();
        }
        killer.abort();
        let (deaths, failed) = (tree.slot.vitals().failures(), failed.load(Ordering::Relaxed));
        println!("{asks} asks over {deaths} deaths, {failed} of them failed, none hung");
        assert!(deaths > asks / 10_000, "too few deaths to mean anything: {deaths}");
        tree.root.stop(None);
    });
}

#[test]
fn no_ask_hangs_under_constant_kills() {
    quiet();
    stress(100_000);
}

/// The long form: `cargo test --release --lib ten_million_asks -- --ignored --nocapture`.
#[test]
#[ignore = "takes minutes; run by hand and before releases"]
fn no_ask_of_ten_million_asks_hangs_under_constant_kills() {
    quiet();
    stress(10_000_000);
}

/// Panics that are part of the test need not be printed.
fn quiet() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let text = panic_text(info.payload()).to_owned();
        if text != "on purpose" && text != "in a task" && !text.ends_with("injected") {
            usual(info);
        }
    }));
}

#[tokio::test(start_paused = true)]
async fn children_stop_from_the_last_to_the_first_and_stay_away() {
    let tree = tree(POLICY).await;
    let supervisor: Arc<Slot<SupervisorMessage<()>>> = Slot::new("root");
    let slots = [Slot::new("root/a"), Slot::new("root/b")];
    let overseer = Echoes(slots.iter().map(|slot| (slot.clone(), Seat::default(), POLICY, None)).collect());
    let root = Supervisor::new(overseer, supervisor.clone(), Arc::new(Random::seeded(1)));
    let (_root, _) = Actor::spawn(None, root, ()).await.unwrap();
    let stopped = ask(&supervisor, clock::now() + BASE, |reply| SupervisorMessage::StopChildren(BASE, reply));
    assert_eq!(stopped.await, Ok(()));
    for slot in &slots {
        assert_eq!(slot.vitals().state(), State::Stopped);
        assert!(slot.get().is_none());
        assert_eq!(slot.vitals().failures(), 0, "a wanted end is no failure");
    }
    drop(tree);
}
