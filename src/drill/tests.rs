//! FailoverBench, whole: each scenario, on each policy for answers that break, with providers of one dialect and of two.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use super::*;
use crate::config::{self, Environment, Loaded, Overrides, Source};

fn config(second: &str, policy: &str) -> Loaded {
    let text = format!(
        "[providers.a]\nkind = \"anthropic\"\napi_key_env = \"A\"\npriority = 1\n\
         [providers.b]\n{second}\napi_key_env = \"A\"\npriority = 2\n\
         [models]\nm = [\"a/claude-x\", \"b/m\"]\n[routing]\nafter_output = \"{policy}\"\n"
    );
    let variables = BTreeMap::from([("A".to_owned(), "secret".to_owned())]);
    let environment = Environment { variables, read: &|_| Err(std::io::ErrorKind::NotFound.into()) };
    config::load(&Source::Text(text, "/".into()), &environment, &Overrides::default()).unwrap()
}

fn drill(second: &str, policy: &str) -> Card {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let order = Order { seed: 1, only: vec!["S".to_owned()], model: Some("m".to_owned()) };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let card = runtime.block_on(run(config(second, policy), &order)).unwrap();
    assert_eq!(card.scenarios.len(), 16, "{card}");
    assert!(card.passed, "{second}, {policy}:\n{card}");
    card
}

const ANTHROPIC: &str = "kind = \"anthropic\"";
const CHAT: &str = "kind = \"openai\"\napi = \"chat\"";

fn score<'a>(card: &'a Card, name: &str) -> &'a Score {
    card.scenarios.iter().find(|score| score.name == name).unwrap()
}

#[test]
fn all_sixteen_scenarios_of_failoverbench_pass_and_say_who_was_asked() {
    for second in [ANTHROPIC, CHAT] {
        let card = drill(second, "error");
        for score in &card.scenarios {
            assert_eq!(score.routes.values().sum::<u64>(), score.requests, "{card}");
            let breaks = matches!(&*score.name, "S08" | "S09" | "S10" | "S11" | "S13");
            assert_eq!(score.answered == score.requests, !breaks, "{}: {card}", score.name);
        }
        assert_eq!(
            score(&card, "S13").answered,
            0,
            "what was refused for its content is not taken elsewhere"
        );
        let twelve = &score(&card, "S12").routes;
        assert_eq!(*twelve, BTreeMap::from([("a:4xx b:ok".to_owned(), 12)]), "{card}");
        // Asked to go on from words of the model, an Anthropic model refuses; others are asked by a turn at once.
        let refused = score(&card, "S14").routes.keys().any(|route| route.contains("b:4xx b:ok"));
        assert_eq!(refused, second == ANTHROPIC, "{card}");
    }
}

#[test]
fn with_answers_continued_nobody_sees_that_one_broke() {
    for second in [ANTHROPIC, CHAT] {
        let card = drill(second, "continue");
        for name in ["S08", "S09", "S10", "S14"] {
            assert_eq!(score(&card, name).errors, 0, "{name}: {card}");
        }
    }
}

#[test]
fn with_answers_held_nobody_sees_that_one_broke() {
    let card = drill(CHAT, "buffer");
    for name in ["S08", "S09", "S10", "S11"] {
        assert_eq!(score(&card, name).errors, 0, "{name}: {card}");
    }
}

fn start(second: &str, policy: &str) -> impl Future<Output = Bench> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut loaded = config(second, policy);
    loaded.config.ledger.enabled = false;
    async move { Bench::start(loaded, Where::Memory, |_| scenarios::status(503)).await.unwrap() }
}

/// Promise: an outage is no storm. Each request is sent once; all beyond that comes out of the daemon's budget.
#[tokio::test(start_paused = true)]
async fn a_total_outage_costs_one_attempt_a_request_and_the_retry_budget() {
    let bench = std::sync::Arc::new(start(ANTHROPIC, "error").await);
    let began = crate::runtime::clock::now();
    let mut asks = tokio::task::JoinSet::new();
    let requests: u32 = 2_000;
    for n in 0..requests {
        let bench = bench.clone();
        let front = if n % 2 == 0 { Front::Whole } else { Front::Streamed };
        asks.spawn(async move { bench.ask(front, "m", "hello").await });
        if n % 50 == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }
    let mut answered = 0;
    while let Some(asked) = asks.join_next().await {
        let asked = asked.unwrap();
        answered += 1;
        assert!(asked.error().is_some(), "{asked:?}");
    }
    assert_eq!(answered, requests);
    let seconds = (crate::runtime::clock::now() - began).as_secs_f64();
    let attempts: usize = bench.simulators().map(|(_, simulator)| simulator.requests().len()).sum();
    let budget = f64::from(requests) * 0.2 + 100.0 + 10.0 * seconds;
    assert!(
        attempts as f64 <= f64::from(requests) + budget + 1.0,
        "{attempts} attempts, a budget of {budget}"
    );
    assert!(attempts as f64 >= f64::from(requests), "each is asked for once at least: {attempts}");
    assert_eq!(bench.rest(std::time::Duration::from_secs(5)).await, Vec::<String>::new());
}

/// Each provider is ill half of the time, for minutes: breakers open and close, and whoever can be served is.
#[tokio::test(start_paused = true)]
async fn as_long_as_one_provider_is_well_those_who_ask_are_served_whatever_the_breakers_say() {
    use crate::simulator::Script;
    let bench = start(CHAT, "error").await;
    let random = crate::runtime::Random::seeded(11);
    let (mut served, mut possible) = (0, 0);
    for _ in 0..400 {
        let mut well = 0;
        for (_, simulator) in bench.simulators() {
            let ill = random.draw().is_multiple_of(2);
            let script: Script = if ill { scenarios::status(500) } else { scenarios::polite() };
            simulator.set_script(script);
            well += u32::from(!ill);
        }
        possible += well.min(1);
        served += u32::from(bench.ask(Front::Streamed, "m", "hello").await.text().is_some());
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
    assert!(possible > 200);
    assert_eq!(served, possible);
}
