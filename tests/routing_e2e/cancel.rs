//! Callers that leave: their upstream call ends at once, and nothing of them stays.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cproxy::simulator::Ended;

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

/// Callers that leave at any moment; `CPROXY_CANCELLATIONS` says how many (10000 for the long form).
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
    tokio::time::sleep(Duration::from_secs(16)).await; // breakers that the failing ones opened
    assert!(daemon.ask(&streamed("hello")).await.ended_well());
}
