//! Callers that leave: their upstream call ends at once, and nothing of them stays.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cproxy::config::{self, Environment, Overrides, Source};
use cproxy::drill::{Bench, Front, Where};
use cproxy::runtime::Random;
use cproxy::simulator::{self, Ended};

use crate::inside::{Daemon, asked, in_order, message, provider, says, streamed, upstream, upstreams};

#[tokio::test]
async fn a_caller_that_leaves_is_noticed_within_100_ms() {
    for (script, body) in [
        ("[[rule]]\nanswer = { fault = \"silence\" }", streamed("hello")),
        ("[[rule]]\nanswer = { fault = \"silence\" }", message("hello")),
        ("[[rule]]\nanswer = { pace = { first = \"60s\" } }", streamed("hello")),
        ("[[rule]]\nanswer = { fault = { stall = { after_outputs = 2 } } }", streamed("hello")),
        ("[[rule]]\nanswer = { fault = { stall = { after_events = 1 } } }", message("hello")),
    ] {
        let up = upstreams(&[script, &says("from b")]).await;
        let daemon = Daemon::start(&in_order(&up, "")).await;
        let caller = tokio::spawn(crate::inside::Reply::read(daemon.request(body.to_string())));
        let came = up[0].handle().wait_until(Duration::from_secs(2), |up| !up.requests().is_empty()).await;
        assert!(came);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(daemon.open_at("a"), 1);
        caller.abort();
        let began = Instant::now();
        let left = up[0]
            .handle()
            .wait_until(Duration::from_secs(2), |up| up.requests()[0].ended == Ended::Left)
            .await;
        assert!(left && began.elapsed() < Duration::from_millis(100), "{script}: {:?}", began.elapsed());
        assert!(daemon.comes_to_rest(Duration::from_millis(200)).await, "{script}");
        assert_eq!(asked(&up[1]), 0, "nothing more is tried");
    }
}

#[tokio::test]
async fn a_caller_that_leaves_the_queue_makes_room() {
    let up =
        upstream("[[rule]]\nanswer = { pace = { first = \"400ms\" }, parts = [{ text = \"yes\" }] }").await;
    let config = provider("a", &up, "limits = { max_concurrent = 1, max_waiting = 1 }");
    let daemon = Arc::new(Daemon::start(&config).await);
    let ask = || {
        let daemon = daemon.clone();
        tokio::spawn(async move { daemon.ask(&streamed("hello")).await })
    };
    let first = ask();
    assert!(up.handle().wait_until(Duration::from_secs(2), |up| !up.requests().is_empty()).await);
    let second = ask();
    tokio::time::sleep(Duration::from_millis(50)).await;
    second.abort();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let third = ask();
    assert!(first.await.unwrap().ended_well());
    assert!(third.await.unwrap().ended_well(), "the one who left holds nobody up");
    assert_eq!(asked(&up), 2);
}

/// Callers that leave at any moment, over sockets; `CPROXY_CANCELLATIONS` says how many (10000 for the long form).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_many_cancellations_nothing_is_left() {
    let many = std::env::var("CPROXY_CANCELLATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(300);
    let script = "[[rule]]\nwhen = { text = \"fails\" }\nanswer = { fail = { status = 503 } }\n\
                  [[rule]]\nanswer = { parts = [{ text = \"one two three four five six seven eight nine ten\" }], pace = { headers = \"3ms\", first = \"5ms\", between = \"3ms\" } }";
    let up = upstreams(&[script, script]).await;
    let limits = "limits = { max_concurrent = 8, max_waiting = 32, tokens_per_day = 10000000 }";
    let config = "[routing]\nretry_delay = \"2ms\"\nmax_wait = \"20ms\"\n".to_owned()
        + &provider("a", &up[0], &format!("priority = 1\n{limits}"))
        + &provider("b", &up[1], &format!("priority = 2\n{limits}"));
    let daemon = Arc::new(Daemon::start(&config).await);
    let mut seed = 7u64;
    let mut draw = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..many {
        let (leaves, kind) = (Duration::from_micros(draw(60_000)), draw(6));
        let daemon = daemon.clone();
        callers.spawn(async move {
            let body = match kind {
                0 => message("hello"),
                1 => streamed("fails"),
                _ => streamed("hello"),
            };
            let _ = tokio::time::timeout(leaves, daemon.ask(&body)).await;
        });
        if callers.len() >= 24 {
            callers.join_next().await;
        }
    }
    while callers.join_next().await.is_some() {}
    assert!(daemon.comes_to_rest(Duration::from_secs(2)).await, "requests or places are left");
    let rest = |up: &cproxy::simulator::Handle| up.open().answers == 0;
    for upstream in &up {
        assert!(
            upstream.handle().wait_until(Duration::from_secs(2), rest).await,
            "an upstream still answers"
        );
    }
    for name in ["a", "b"] {
        let entries = daemon.directory().entries.load_full();
        let cell = &entries.get(name).unwrap().cell;
        assert_eq!(cell.waiting(), 0);
    }
    // Breakers that the failing ones opened keep out nobody who has nowhere else to go.
    assert!(daemon.ask(&streamed("hello")).await.ended_well());
}

/// The same ten thousand times on simulated time, in every phase of a request: in the queue, before the headers, before
/// the first output, in the stream, between two attempts, while another one writes the rest.
#[tokio::test(start_paused = true)]
async fn ten_thousand_cancellations_leave_no_lease_no_wait_no_task_and_no_call() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let limits = "limits = { max_concurrent = 8, max_waiting = 32, requests_per_minute = 100000 }";
    let text = format!(
        "[providers.a]\nkind = \"anthropic\"\napi_key_env = \"KEY\"\npriority = 1\n{limits}\n\
         [providers.b]\nkind = \"openai\"\napi = \"chat\"\napi_key_env = \"KEY\"\npriority = 2\n{limits}\n\
         [models]\nm = [\"a/claude-x\", \"b/gpt-x\"]\n\
         [routing]\nretry_delay = \"20ms\"\nmax_wait = \"50ms\"\nafter_output = \"continue\"\n"
    );
    let environment = Environment {
        variables: [("KEY".to_owned(), "secret".to_owned())].into(),
        read: &|_| Err(std::io::ErrorKind::NotFound.into()),
    };
    let loaded = config::load(&Source::Text(text, "/".into()), &environment, &Overrides::default()).unwrap();
    let script = "[[rule]]\nwhen = { text = \"fails\" }\nanswer = { pace = { headers = \"20ms\" }, fail = { status = 503 } }\n\
        [[rule]]\nwhen = { text = \"breaks\" }\nanswer = { parts = [{ text = \"one two three four five six\" }], pace = { headers = \"20ms\", first = \"20ms\", between = \"20ms\" }, fault = { cut = { after_outputs = 1 } } }\n\
        [[rule]]\nanswer = { parts = [{ text = \"one two three four five six seven eight nine ten\" }], pace = { headers = \"20ms\", first = \"20ms\", between = \"20ms\" } }";
    let script = simulator::Script::parse(script).unwrap();
    let bench = Arc::new(Bench::start(loaded, Where::Memory, |_| script.clone()).await.unwrap());
    let random = Random::seeded(7);
    assert!(bench.ask(Front::Streamed, "m", "hello").await.text().is_some());
    tokio::time::sleep(Duration::from_secs(60)).await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();

    let mut callers = tokio::task::JoinSet::new();
    let mut left = 0;
    for _ in 0..10_000 {
        let stays = Duration::from_millis(random.draw() % 250);
        let front = if random.draw().is_multiple_of(3) { Front::Whole } else { Front::Streamed };
        let question = ["hello", "hello", "fails", "breaks"][(random.draw() % 4) as usize];
        let bench = bench.clone();
        callers.spawn(
            async move { tokio::time::timeout(stays, bench.ask(front, "m", question)).await.is_err() },
        );
        if callers.len() >= 48 {
            left += usize::from(callers.join_next().await.unwrap().unwrap());
        }
    }
    while let Some(has_left) = callers.join_next().await {
        left += usize::from(has_left.unwrap());
    }
    assert!(left > 4_000, "only {left} left before their answer");
    assert_eq!(bench.rest(Duration::from_secs(5)).await, Vec::<String>::new());
    for (id, simulator) in bench.simulators() {
        assert_eq!(simulator.open().answers, 0, "a call at {id} goes on");
        assert_eq!(bench.directory().entries.load().get(id.as_str()).unwrap().cell.waiting(), 0, "{id}");
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(tasks() <= before, "{} tasks, where {before} were before", tasks());
    // And the buckets are full again.
    for (id, entry) in bench.directory().entries.load().iter() {
        for (bucket, level, size) in entry.cell.view(cproxy::runtime::clock::now()).buckets {
            assert!(level > size - 1.0, "{id}: {bucket} holds {level} of {size}");
        }
    }
    assert!(bench.ask(Front::Streamed, "m", "hello").await.text().is_some());
}
