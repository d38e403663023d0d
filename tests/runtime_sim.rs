//! The whole daemon on simulated time: tree, fronts, admission, exchange, health checks, reloads, with seeded deaths and
//! faults. Hours pass in seconds; the same seed gives the same trace; a seed that fails is printed.
//!
//! In CI some seeds, each twice. The campaign of a million requests:
//!
//!     cargo test --profile bench-quick --test runtime_sim a_million -- --ignored --nocapture
//!
//! One seed again: `CPROXY_SEED=17 cargo test --test runtime_sim whatever`, of the campaign with `a_million` and
//! `--ignored`. More seeds in the short form: `CPROXY_SEEDS=1000`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

#[path = "support/panics.rs"]
mod panics;
#[path = "support/simulation.rs"]
mod simulation;
#[path = "support/bench.rs"]
#[allow(dead_code)]
mod support;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cproxy::actors::config::ConfigMessage;
use cproxy::actors::faults;
use cproxy::actors::provider::ProviderMessage;
use cproxy::drill::{Front, Where};
use cproxy::faults::invariants;
use cproxy::runtime::{self, MAILBOX, Place, State, clock};
use cproxy::simulator;
use simulation::{Outcome, Shape, run};
use support::{TEXT, TWO, always, daemon, paced};

/// In CI.
const SHORT: Shape = Shape { requests: 300, every: 60, deaths: 1000, storms: 1 };

/// In the campaign: a little more than a death for each twenty requests, and two quarantines a seed.
const LONG: Shape = Shape { requests: 2000, every: 100, deaths: 2200, storms: 3 };

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn whatever_dies_everybody_is_answered_once_and_a_seed_replays() {
    panics::quiet();
    let seeds = match number("CPROXY_SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..number("CPROXY_SEEDS").unwrap_or(6) + 1,
    };
    let mut sum = Outcome::default();
    for seed in seeds {
        let (outcome, again) = (run(seed, SHORT), run(seed, SHORT));
        assert!(
            outcome.wrong.is_empty(),
            "seed {seed}: {:#?}\nrun it again with CPROXY_SEED={seed}",
            outcome.wrong
        );
        assert_eq!(outcome, again, "seed {seed} does not replay");
        sum.add(outcome);
    }
    println!("each seed twice: {sum}");
    assert!(sum.kills > 0 && sum.faults > 0 && sum.left > 0 && sum.supervisors > 0);
    // A single seed may break both providers for most of its minute; over all of them most requests are served.
    assert!(sum.well * 4 > sum.requests * 3, "{} of {} were served", sum.well, sum.requests);
}

#[test]
#[ignore = "a minute with an optimized build; run by hand and before releases"]
fn a_million_requests_under_kills_and_quarantines_lose_none() {
    panics::quiet();
    let only = number("CPROXY_SEED");
    let seeds = number("CPROXY_REQUESTS").unwrap_or(1_000_000).div_ceil(LONG.requests);
    let (next, sum) = (AtomicU64::new(1), Mutex::new(Outcome::default()));
    #[allow(clippy::disallowed_methods)] // what it costs in real time is a result
    let began = std::time::Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let seed = match only {
                        Some(only) if seed == 1 => only,
                        None if seed <= seeds => seed,
                        _ => return,
                    };
                    let mut outcome = run(seed, LONG);
                    outcome.wrong.iter_mut().for_each(|wrong| *wrong = format!("seed {seed}: {wrong}"));
                    sum.lock().unwrap().add(outcome);
                }
            });
        }
    });
    let sum = sum.into_inner().unwrap();
    println!("{sum}\nin {:?} of real time", began.elapsed());
    let first: Vec<&String> = sum.wrong.iter().take(20).collect();
    assert!(sum.wrong.is_empty(), "{} violations, the first of them {first:#?}", sum.wrong.len());
    assert_eq!(sum.well + sum.failed + sum.left, sum.requests);
    assert!(sum.kills * 20 >= sum.requests, "too few deaths to mean anything: {}", sum.kills);
    assert!(sum.quarantines * 1000 >= sum.requests, "too few quarantines: {}", sum.quarantines);
    assert!(sum.well * 4 > sum.requests * 3, "{} of {} were served", sum.well, sum.requests);
}

#[tokio::test(start_paused = true)]
async fn a_provider_whose_mailbox_is_full_is_overloaded_and_memory_does_not_grow() {
    let text = "[providers.a]\nkind = \"anthropic\"\napi_key_env = \"A_KEY\"\nmodels = [\"*\"]\n\
                health = { interval = \"0s\" }\n[faults]\nenabled = true\n";
    let bench = daemon(text, Where::Memory, |_| always(paced(0, 0, 0))).await;
    let hang = r#"{"fault":"hang","target":"a","message":"Updated","delay_ms":86400000,"times":1}"#;
    faults::arm(bench.directory(), vec![serde_json::from_str(hang).unwrap()]).await.unwrap();
    let slot = bench.directory().entries.load()["a"].slot.clone();
    assert!(slot.cast(ProviderMessage::Updated));
    tokio::time::sleep(Duration::from_millis(1)).await;
    let before = runtime::shed();
    let taken = (0..2 * MAILBOX).filter(|_| slot.cast(ProviderMessage::Updated)).count();
    assert_eq!((taken as u64, runtime::shed() - before), (MAILBOX, MAILBOX));
    let shown = bench.running().daemon().status();
    let shown = shown.actors.iter().find(|actor| actor.path == "root/providers/a").unwrap();
    assert_eq!(shown.mailbox, MAILBOX);
    for front in [Front::Whole, Front::Streamed] {
        let answered = bench.ask(front, "m", "hello").await;
        assert_eq!(answered.error(), Some("overloaded_error"), "{answered:?}");
        assert!(answered.headers.contains_key("retry-after"), "{answered:?}");
        assert!(answered.total < Duration::from_secs(1), "refused at once: {answered:?}");
    }
    assert!(bench.kill("root/providers/a").await);
    assert_eq!(bench.recover(Duration::from_secs(5)).await, Vec::<String>::new());
    assert_eq!(bench.ask(Front::Streamed, "m", "hello").await.text(), Some(TEXT));
    assert_eq!(slot.vitals().mailbox(), 0);
}

/// The checks of a daemon find what is wrong with one (those of answers and of what upstreams see are tested where they
/// stand).
#[tokio::test(start_paused = true)]
async fn each_check_of_a_daemon_can_fail() {
    let bench = daemon(TWO, Where::Memory, |_| always(paced(0, 0, 1000))).await;
    let directory = bench.directory().clone();
    let complains = |wrong: Vec<String>, what: &str| {
        assert!(wrong.iter().any(|wrong| wrong.contains(what)), "{what}: {wrong:?}");
    };
    let none = Vec::<String>::new();
    assert_eq!(
        (invariants::at_rest(&directory), invariants::alive(&directory)),
        (none.clone(), none.clone())
    );

    let mut begun = bench.begin(Front::Streamed, "m", "hello").await.unwrap();
    assert!(begun.until("One").await.unwrap());
    complains(invariants::at_rest(&directory), "1 requests are open");
    complains(invariants::at_rest(&directory), "a: 1 leases leaked");
    complains(invariants::at_rest(&directory), "a: 1 places are taken for ever");
    let second = bench.begin(Front::Streamed, "m", "hello").await.unwrap();
    let mut loaded = directory.config_cell.get().as_ref().clone();
    loaded.config.providers.get_mut("a").unwrap().limits.max_concurrent = Some(1);
    let read = runtime::ask(&directory.config, clock::now() + Duration::from_secs(1), |reply| {
        ConfigMessage::Read(Box::new(Ok(loaded)), Some(reply))
    });
    assert_eq!(read.await, Ok(Ok(2)));
    tokio::time::sleep(Duration::from_millis(1)).await;
    complains(invariants::always(&directory), "a: 2 leases are open, and 1 are allowed");
    drop((begun, second));
    assert_eq!(bench.rest(Duration::from_secs(1)).await, none);

    directory.router.kill();
    while directory.router.vitals().state() == State::Running && directory.router.vitals().failures() == 0 {
        tokio::task::yield_now().await;
    }
    directory.router.kill();
    while directory.router.vitals().failures() < 2 {
        tokio::time::sleep(Duration::from_micros(10)).await;
    }
    complains(invariants::alive(&directory), "root/router is restarting (killed)");
    assert_eq!(bench.recover(Duration::from_secs(5)).await, none);
}

/// Eight providers whose checks are all due at once when a machine wakes.
#[tokio::test(start_paused = true)]
async fn after_the_machine_slept_each_provider_is_checked_once_and_not_all_at_once() {
    let providers: String = (1..=8)
        .map(|n| {
            format!(
                "[providers.p{n}]\nkind = \"anthropic\"\napi_key_env = \"A_KEY\"\nmodels = [\"*\"]\n\
                 health = {{ interval = \"60s\", timeout = \"2s\" }}\n"
            )
        })
        .collect();
    let text = format!("{providers}[faults]\nenabled = true\nseed = 1\n");
    let bench = daemon(&text, Where::Memory, |_| always(paced(0, 0, 0))).await;
    tokio::time::sleep(Duration::from_secs(150)).await;
    // Two checks at least, each between 54 and 66 seconds after the one before it.
    let checked = |of: &simulator::Handle| -> Vec<Instant> {
        let checks = of.requests().into_iter().filter(|request| request.path == "/v1/models");
        checks.map(|request| request.at.into_std()).collect()
    };
    for (id, simulator) in bench.simulators() {
        assert_eq!(checked(simulator).len(), 2, "{id}");
        simulator.forget();
    }

    tokio::time::advance(Duration::from_secs(8 * 3600)).await;
    let woke = clock::now();
    tokio::time::sleep(Duration::from_secs(20)).await;
    let mut after = Vec::new();
    for (id, simulator) in bench.simulators() {
        let checks = checked(simulator);
        assert_eq!(checks.len(), 1, "{id}: one check, not one for each that was missed");
        after.push(checks[0] - woke);
    }
    after.sort();
    assert!(after[7] <= Duration::from_secs(11), "soon: {after:?}");
    let together =
        |one: &Duration| after.iter().filter(|other| one.abs_diff(**other) < Duration::from_secs(1)).count();
    assert!(after.iter().all(|one| together(one) <= 4), "spread: {after:?}");
    assert_eq!(bench.ask(Front::Streamed, "claude-x", "hello").await.text(), Some(TEXT));
}
