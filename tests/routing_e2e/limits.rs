//! Keys, places, queues.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::inside::{Daemon, asked, in_order, message, provider, says, streamed, upstream, upstreams};

/// Two keys; the first is refused so.
async fn with_a_bad_key(fail: &str) {
    let script = format!(
        "[[rule]]\nwhen = {{ headers = {{ x-api-key = \"sk-a\" }} }}\nanswer = {{ fail = {fail} }}\n{}",
        says("with the other key")
    );
    let up = upstream(&script).await;
    let config = provider("a", &up, "api_keys_env = [\"KEY_A\", \"KEY_A2\"]");
    let daemon = Daemon::start(&config).await;
    for n in 0..6 {
        let reply = daemon
            .ask_in(&format!("session-{n}"), &if n % 2 == 0 { message("hello") } else { streamed("hello") })
            .await;
        assert_eq!(reply.text(), "with the other key", "{fail}: {reply:?}");
    }
    let with = |key: &str| up.handle().requests().iter().filter(|request| request.has_key(key)).count();
    assert_eq!((with("sk-a"), with("sk-a2")), (1, 6), "{fail}: the refused key is left out");
}

#[tokio::test]
async fn a_refused_key_is_left_out_and_the_next_one_serves() {
    with_a_bad_key("{ status = 401 }").await;
    with_a_bad_key("{ kind = \"billing\" }").await;
    with_a_bad_key("{ status = 429, retry_after = 120 }").await;
}

#[tokio::test]
async fn keys_of_a_pool_share_the_load_and_a_session_keeps_its_key() {
    let up = upstream(&says("yes")).await;
    let daemon = Daemon::start(&provider("a", &up, "api_keys_env = [\"KEY_A\", \"KEY_A2\"]")).await;
    for _ in 0..8 {
        daemon.ask(&message("hello")).await;
    }
    let with = |key: &str| up.handle().requests().iter().filter(|request| request.has_key(key)).count();
    assert!(with("sk-a") >= 2 && with("sk-a2") >= 2, "{} {}", with("sk-a"), with("sk-a2"));
    up.handle().forget();
    for _ in 0..6 {
        daemon.ask_in("one", &message("hello")).await;
    }
    assert!(with("sk-a") == 6 || with("sk-a2") == 6);
}

#[tokio::test]
async fn with_no_key_left_the_error_says_so_and_the_next_provider_serves() {
    let refuse = "[[rule]]\nanswer = { fail = { status = 401 } }";
    let up = upstreams(&[refuse, &says("from b")]).await;
    let daemon = Daemon::start(&in_order(&up, "")).await;
    assert_eq!(daemon.ask(&message("hello")).await.text(), "from b");
    let alone = Daemon::start(&provider("a", &up[0], "")).await;
    for _ in 0..2 {
        let reply = alone.ask(&message("hello")).await;
        assert!((400..600).contains(&reply.status), "{reply:?}");
        assert!(reply.body.contains("key"), "{}", reply.body);
        assert!(!reply.body.contains("sk-a"), "{}", reply.body);
    }
}

/// Asks `n` times at once.
async fn at_once(daemon: &Arc<Daemon>, n: usize) -> Vec<crate::inside::Reply> {
    let asks = (0..n).map(|_| {
        let daemon = daemon.clone();
        tokio::spawn(async move { daemon.ask(&streamed("hello")).await })
    });
    let mut replies = Vec::new();
    for ask in asks.collect::<Vec<_>>() {
        replies.push(ask.await.unwrap());
    }
    replies
}

const SLOW: &str = "[[rule]]\nanswer = { parts = [{ text = \"slowly\" }], pace = { first = \"300ms\" } }";

#[tokio::test]
async fn with_three_places_and_ten_callers_exactly_three_are_admitted() {
    let up = upstream(SLOW).await;
    let config = "[routing]\nmax_wait = \"0s\"\n".to_owned()
        + &provider("a", &up, "limits = { max_concurrent = 3, max_waiting = 0 }");
    let daemon = Arc::new(Daemon::start(&config).await);
    let replies = at_once(&daemon, 10).await;
    assert_eq!(replies.iter().filter(|reply| reply.ended_well()).count(), 3);
    assert_eq!(asked(&up), 3);
    for refused in replies.iter().filter(|reply| reply.status != 200) {
        assert_eq!((refused.status, refused.error().as_str()), (429, "rate_limit_error"), "{refused:?}");
        assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
        assert!(refused.body.contains("places are taken"), "{}", refused.body);
    }
    assert!(daemon.comes_to_rest(Duration::from_secs(1)).await);
    assert!(daemon.ask(&streamed("hello")).await.ended_well(), "the places are free again");
}

#[tokio::test]
async fn who_finds_no_place_waits_for_one() {
    let up = upstream(SLOW).await;
    let daemon = Arc::new(Daemon::start(&provider("a", &up, "limits = { max_concurrent = 2 }")).await);
    let watch = {
        let handle = up.handle().clone();
        tokio::spawn(async move {
            let mut most = 0;
            for _ in 0..200 {
                most = most.max(handle.open().answers);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            most
        })
    };
    let began = Instant::now();
    let replies = at_once(&daemon, 6).await;
    assert!(replies.iter().all(crate::inside::Reply::ended_well), "{replies:?}");
    assert!(began.elapsed() >= Duration::from_millis(850), "three rounds of two");
    assert_eq!(watch.await.unwrap(), 2);
}

#[tokio::test]
async fn who_finds_no_place_goes_to_the_next_provider_that_has_one() {
    let up = upstreams(&[SLOW, &says("from b")]).await;
    let config = provider("a", &up[0], "limits = { max_concurrent = 1 }\npriority = 1")
        + &provider("b", &up[1], "priority = 2");
    let daemon = Arc::new(Daemon::start(&config).await);
    let began = Instant::now();
    let replies = at_once(&daemon, 4).await;
    assert!(replies.iter().all(crate::inside::Reply::ended_well));
    assert_eq!((asked(&up[0]), asked(&up[1])), (1, 3));
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn rate_limits_keep_to_the_requests_per_minute() {
    let up = upstream(&says("yes")).await;
    let config = "[routing]\nmax_wait = \"0s\"\n".to_owned()
        + &provider("a", &up, "limits = { requests_per_minute = 5 }");
    let daemon = Arc::new(Daemon::start(&config).await);
    let replies = at_once(&daemon, 12).await;
    assert_eq!(replies.iter().filter(|reply| reply.ended_well()).count(), 5);
    let refused = replies.iter().find(|reply| reply.status != 200).unwrap();
    assert_eq!((refused.status, refused.error().as_str()), (429, "rate_limit_error"), "{refused:?}");
    assert!((1..=60).contains(&refused.header("retry-after").parse::<u64>().unwrap()));
}

#[tokio::test]
async fn more_requests_than_the_daemon_may_hold_are_refused_at_once() {
    let up = upstream(SLOW).await;
    let config = "[server]\nmax_requests = 2\n".to_owned() + &provider("a", &up, "");
    let daemon = Arc::new(Daemon::start(&config).await);
    let replies = at_once(&daemon, 5).await;
    assert_eq!(replies.iter().filter(|reply| reply.ended_well()).count(), 2);
    for refused in replies.iter().filter(|reply| reply.status != 200) {
        assert_eq!((refused.status, refused.error().as_str()), (529, "overloaded_error"));
        assert_eq!(refused.header("retry-after"), "1");
    }
}
