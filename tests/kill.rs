//! Any actor may be killed at any moment of a request: the caller is answered once, streams flow on, limits hold, and
//! nothing leaks. With real sockets on both sides.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::print_stdout)] // what a run did is its result

#[path = "kill/campaign.rs"]
mod campaign;
#[path = "support/panics.rs"]
mod panics;
#[path = "support/bench.rs"]
#[allow(dead_code)]
mod support;

use std::sync::Arc;
use std::time::Duration;

use cproxy::drill::{Answered, Front, Where};
use cproxy::faults::invariants::End;
use cproxy::runtime::clock;
use cproxy::simulator::Script;
use cproxy::simulator::script::{Answer, Trouble};
use support::{TEXT, TWO, always, daemon, first, paced};

/// Every actor whose death must not be noticed. The root's death is the daemon's.
const ACTORS: [&str; 10] = [
    "root/config",
    "root/ledger",
    "root/faults",
    "root/otlp",
    "root/providers",
    "root/providers/a",
    "root/providers/b",
    "root/router",
    "root/mcp",
    "root/http",
];

/// With it, all of them are there.
const FAULTS: &str = "[faults]\nenabled = true\n";

/// How long something may take that takes milliseconds on a machine with nothing else to do.
const SOON: Duration = Duration::from_secs(20);

/// When, in the life of a request, an actor dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    BeforeRoute,
    InAdmission,
    BeforeHeaders,
    BeforeFirstOutput,
    InStream,
    AtSettlement,
}

const PHASES: [Phase; 6] = [
    Phase::BeforeRoute,
    Phase::InAdmission,
    Phase::BeforeHeaders,
    Phase::BeforeFirstOutput,
    Phase::InStream,
    Phase::AtSettlement,
];

/// Runs one request, and kills the actor at the phase.
async fn dies_at(actor: &str, phase: Phase, front: Front) -> Answered {
    // One place: a second request waits in admission until the first is through.
    let text = TWO.replace("priority = 1", "priority = 1\nlimits = { max_concurrent = 1 }") + FAULTS;
    let pace = match phase {
        Phase::BeforeHeaders => paced(120, 0, 0),
        Phase::BeforeFirstOutput => paced(0, 120, 0),
        Phase::InStream => paced(0, 0, 10),
        Phase::InAdmission => paced(300, 0, 0),
        Phase::BeforeRoute | Phase::AtSettlement => paced(0, 0, 0),
    };
    let bench = Arc::new(daemon(&text, Where::Sockets, |_| always(pace.clone())).await);
    let simulator = bench.simulator("a").unwrap().clone();
    let answered = match phase {
        Phase::BeforeRoute => {
            assert!(bench.kill(actor).await);
            bench.ask(front, "m", "hello").await
        }
        Phase::InAdmission => {
            let holder = tokio::spawn({
                let bench = bench.clone();
                async move { bench.ask(Front::Whole, "a/claude-x", "first").await }
            });
            assert!(simulator.wait_until(SOON, |at| at.open().answers == 1).await);
            let waiter = tokio::spawn({
                let bench = bench.clone();
                async move { bench.ask(front, "a/claude-x", "second").await }
            });
            let entry = bench.directory().entries.load().get("a").unwrap().clone();
            while entry.cell.waiting() == 0 && !waiter.is_finished() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            assert!(!waiter.is_finished(), "it did not wait: {:?}", waiter.await);
            assert!(bench.kill(actor).await);
            assert_eq!(holder.await.unwrap().text(), Some(TEXT), "the one that holds the place");
            waiter.await.unwrap()
        }
        Phase::BeforeHeaders | Phase::BeforeFirstOutput => {
            let asked = tokio::spawn({
                let bench = bench.clone();
                async move { bench.ask(front, "m", "hello").await }
            });
            let sent = phase == Phase::BeforeFirstOutput;
            let there = |at: &cproxy::simulator::Handle| {
                at.requests().iter().any(|request| !sent || request.status.is_some())
            };
            assert!(simulator.wait_until(SOON, there).await);
            assert!(bench.kill(actor).await);
            asked.await.unwrap()
        }
        Phase::InStream | Phase::AtSettlement => {
            let mut begun = bench.begin(front, "m", "hello").await.unwrap();
            let seen = if phase == Phase::InStream { "One" } else { "fifteen" };
            if front == Front::Streamed {
                assert!(begun.until(seen).await.unwrap());
            }
            assert!(bench.kill(actor).await);
            begun.finish().await
        }
    };
    let served: usize = simulator.requests().len();
    let most = if phase == Phase::InAdmission { 2 } else { 1 };
    assert!(served <= most, "{actor} at {phase:?}: {served} attempts where {most} were needed");
    assert_eq!(bench.recover(SOON).await, Vec::<String>::new(), "{actor} at {phase:?}");
    assert_eq!(bench.rest(SOON).await, Vec::<String>::new(), "{actor} at {phase:?}");
    let next = bench.ask(Front::Whole, "m", "next").await;
    assert_eq!(next.text(), Some(TEXT), "{actor} at {phase:?}: the next request: {next:?}");
    assert_eq!(simulator.open().answers, 0, "{actor} at {phase:?}: an upstream call is left open");
    Arc::into_inner(bench).unwrap().stop().await;
    answered
}

async fn dies_at_every_phase(actor: &str) {
    for phase in PHASES {
        for front in [Front::Streamed, Front::Whole] {
            let dies = tokio::time::timeout(4 * SOON, dies_at(actor, phase, front));
            let answered = dies.await.unwrap_or_else(|_| panic!("{actor} at {phase:?}, {front:?}: hangs"));
            assert_eq!(answered.text(), Some(TEXT), "{actor} at {phase:?}, {front:?}: {answered:?}");
            println!("{actor} at {phase:?}, {front:?}: {:?}", answered.total);
        }
    }
}

macro_rules! each_actor {
    ($($name:ident: $actor:literal;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            dies_at_every_phase($actor).await;
        }
    )*

    #[test]
    fn all_actors_are_tested() {
        let tested = [$($actor),*];
        assert_eq!(tested, ACTORS);
    }};
}

each_actor! {
    nobody_notices_the_death_of_config: "root/config";
    nobody_notices_the_death_of_the_ledger: "root/ledger";
    nobody_notices_the_death_of_the_faults_actor: "root/faults";
    nobody_notices_the_death_of_the_exporter: "root/otlp";
    nobody_notices_the_death_of_the_providers_supervisor: "root/providers";
    nobody_notices_the_death_of_the_provider_that_serves: "root/providers/a";
    nobody_notices_the_death_of_another_provider: "root/providers/b";
    nobody_notices_the_death_of_the_router: "root/router";
    nobody_notices_the_death_of_the_mcp_front: "root/mcp";
    nobody_notices_the_death_of_the_http_front: "root/http";
}

#[tokio::test]
async fn the_actors_of_the_tests_are_those_of_the_tree() {
    let bench = daemon(&format!("{TWO}{FAULTS}"), Where::Sockets, |_| Script::default()).await;
    let places = bench.directory().places();
    let mut paths: Vec<String> = places.iter().map(|place| place.vitals().path().to_string()).collect();
    paths.retain(|path| path != "root");
    let mut known = ACTORS.map(str::to_owned).to_vec();
    paths.sort();
    known.sort();
    assert_eq!(paths, known);
}

const LIMITED: &str = r#"
[providers.a]
kind = "anthropic"
api_key_env = "A_KEY"
models = ["*"]
health = { interval = "0s" }
limits = { LIMITS }

[routing]
default_provider = "a"
fallback_provider = "a"
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_n_callers_at_once_exactly_k_are_admitted_also_when_the_provider_dies_meanwhile() {
    let (k, n) = (3, 24);
    let text = LIMITED.replace("LIMITS", "max_concurrent = 3, max_waiting = 0");
    let bench = Arc::new(daemon(&text, Where::Sockets, |_| always(paced(400, 0, 0))).await);
    let simulator = bench.simulator("a").unwrap().clone();
    let wave = |count: usize| {
        let callers = (0..count).map(|_| {
            let bench = bench.clone();
            tokio::spawn(async move { bench.ask(Front::Whole, "m", "hello").await })
        });
        callers.collect::<Vec<_>>()
    };
    let first = wave(n);
    assert!(simulator.wait_until(SOON, |at| at.open().answers == k).await);
    assert!(bench.kill("root/providers/a").await);
    let second = wave(n);
    let mut served = 0;
    for caller in first.into_iter().chain(second) {
        let answered = caller.await.unwrap();
        match answered.text() {
            Some(_) => served += 1,
            None => {
                // While its actor is away, a provider is overloaded; while its places are taken, rate limited.
                let kind = answered.error().unwrap_or_default();
                assert!(matches!(kind, "overloaded_error" | "rate_limit_error"), "{answered:?}");
                assert!(answered.headers.contains_key("retry-after"), "{answered:?}");
            }
        }
    }
    assert_eq!(served, k, "admitted");
    assert_eq!(simulator.requests().len(), k, "seen by the upstream");
    assert_eq!(bench.rest(SOON).await, Vec::<String>::new());
    for caller in wave(k) {
        assert_eq!(caller.await.unwrap().text(), Some(TEXT), "the places are free again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_does_not_fill_a_bucket() {
    let text = LIMITED.replace("LIMITS", "requests_per_minute = 5, max_waiting = 0");
    let bench = daemon(&text, Where::Sockets, |_| always(paced(0, 0, 0))).await;
    let (began, mut served) = (clock::now(), 0);
    for _ in 0..4 {
        for _ in 0..5 {
            let answered = bench.ask(Front::Whole, "m", "hello").await;
            served += u64::from(answered.text().is_some());
            if answered.text().is_none() {
                assert_eq!(answered.error(), Some("rate_limit_error"), "{answered:?}");
                assert!(answered.headers.contains_key("retry-after"), "{answered:?}");
            }
        }
        assert!(bench.kill("root/providers/a").await);
        assert_eq!(bench.recover(SOON).await, Vec::<String>::new());
    }
    // A busy machine takes its time, in which the bucket rightly fills.
    let most = 5 + (clock::now() - began).as_secs() / 12;
    assert!((5..=most).contains(&served), "{served} were admitted, where 5 a minute are allowed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncated_answer_never_ends_well_whoever_dies() {
    for trouble in [
        Trouble::Cut(cproxy::simulator::script::Place { after_outputs: Some(5), ..Default::default() }),
        Trouble::HangUp(cproxy::simulator::script::Place { after_outputs: Some(5), ..Default::default() }),
        Trouble::Reset(cproxy::simulator::script::Place { after_outputs: Some(5), ..Default::default() }),
        Trouble::NoTerminator,
    ] {
        for provider in ["a", "b"] {
            let answer = Answer { fault: Some(trouble.clone()), ..paced(0, 0, 5) };
            let bench = daemon(TWO, Where::Sockets, |_| always(answer.clone())).await;
            let mut begun = bench.begin(Front::Streamed, &format!("{provider}/x"), "hello").await.unwrap();
            assert!(begun.until("One").await.unwrap());
            assert!(bench.kill(&format!("root/providers/{provider}")).await);
            let answered = begun.finish().await;
            match &answered.end {
                // Chat Completions ends with a finish_reason; servers that forget `[DONE]` after it are many.
                Ok(End::Well(said)) if provider == "b" && matches!(trouble, Trouble::NoTerminator) => {
                    assert_eq!(said, TEXT);
                }
                Ok(End::Error(_, said)) => assert!(said.starts_with("One"), "{trouble:?}: {answered:?}"),
                other => panic!("{provider}, {trouble:?}: {other:?}"),
            }
            assert_eq!(bench.rest(SOON).await, Vec::<String>::new(), "{trouble:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_leaves_frees_its_place_although_the_provider_has_died() {
    let text = LIMITED.replace("LIMITS", "max_concurrent = 1");
    let bench = daemon(&text, Where::Sockets, |_| Script {
        rules: vec![first(1, paced(0, 0, 60_000)), first(9, paced(0, 0, 0))],
        ..Script::default()
    })
    .await;
    let mut begun = bench.begin(Front::Streamed, "m", "hello").await.unwrap();
    assert!(begun.until("One").await.unwrap());
    assert!(bench.kill("root/providers/a").await);
    drop(begun);
    let simulator = bench.simulator("a").unwrap();
    assert!(simulator.wait_until(SOON, |at| at.open().answers == 0).await, "the upstream call goes on");
    assert_eq!(bench.rest(SOON).await, Vec::<String>::new());
    assert_eq!(bench.ask(Front::Whole, "m", "next").await.text(), Some(TEXT));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_root_bears_no_more_the_daemon_ends_with_the_reason() {
    let bench = daemon(TWO, Where::Sockets, |_| Script::default()).await;
    let killer = async {
        loop {
            if let Some(place) = bench.place("root/router") {
                place.kill();
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::select! {
        biased;
        reason = bench.running().failed() => assert!(reason.contains("root/router"), "{reason}"),
        () = killer => {}
        () = tokio::time::sleep(Duration::from_secs(60)) => panic!("the root bears all"),
    }
}
