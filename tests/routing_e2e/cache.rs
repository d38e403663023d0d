//! The cache of answers.

use std::sync::Arc;
use std::time::Duration;

use cproxy::simulator::{self, Script};
use serde_json::{Value, json};

use crate::inside::{
    Daemon, Reply, asked, in_order, message, pass, provider, says, streamed, upstream, upstreams,
};

const ON: &str = "[cache]\nenabled = true\nttl = \"60s\"\n";

async fn one(script: &str) -> (simulator::Running, Daemon) {
    let up = upstream(script).await;
    let daemon = Daemon::start(&format!("{ON}{}", provider("a", &up, ""))).await;
    (up, daemon)
}

/// Asks, and lets what is to be kept be kept.
async fn ask(daemon: &Daemon, body: &Value) -> Reply {
    let reply = daemon.ask(body).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    reply
}

async fn ask_with(daemon: &Daemon, body: &Value, header: (&str, &str)) -> Reply {
    let reply = Reply::read(daemon.request(body.to_string()).header(header.0, header.1)).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    reply
}

#[tokio::test]
async fn response_caching_is_off_unless_asked_for() {
    let up = upstream(&says("yes")).await;
    let daemon = Daemon::start(&provider("a", &up, "")).await;
    for _ in 0..2 {
        let reply = ask_with(&daemon, &message("hello"), ("x-cproxy-cache", "on")).await;
        assert_eq!(reply.header("x-cproxy-cache"), "");
    }
    assert_eq!(asked(&up), 2);
}

#[tokio::test]
async fn response_caching_gives_a_kept_answer_to_either_kind_of_caller() {
    for (first, second) in [(message("hello"), streamed("hello")), (streamed("hello"), message("hello"))] {
        let (up, daemon) = one(&says("an answer of some length, in pieces")).await;
        let fresh = ask(&daemon, &first).await;
        assert_eq!(fresh.header("x-cproxy-cache"), "MISS");
        let again = ask(&daemon, &first).await;
        assert_eq!(again.header("x-cproxy-cache"), "HIT", "{again:?}");
        assert_eq!(again.body, fresh.body, "the same form: the same bytes");
        pass(Duration::from_secs(3)).await;
        let other = ask(&daemon, &second).await;
        assert_eq!(other.header("x-cproxy-cache"), "HIT", "{other:?}");
        assert_eq!(other.header("age"), "3");
        assert_eq!(other.header("x-cproxy-provider"), "a");
        assert!(other.ended_well(), "{other:?}");
        assert_eq!(other.text(), "an answer of some length, in pieces");
        let is_stream = other.header("content-type").starts_with("text/event-stream");
        assert_eq!(is_stream, second["stream"] == true);
        assert_eq!(asked(&up), 1);
    }
}

#[tokio::test]
async fn an_answer_serves_its_own_request_only() {
    let (up, daemon) = one(&says("yes")).await;
    let base = message("hello");
    ask(&daemon, &base).await;
    let mut count = 1;
    for (field, value) in [
        ("max_tokens", json!(1025)),
        ("temperature", json!(0.5)),
        ("system", json!("be brief")),
        ("stop_sequences", json!(["x"])),
        ("messages", json!([{ "role": "user", "content": "hello " }])),
        ("thinking", json!({ "type": "enabled", "budget_tokens": 1024 })),
    ] {
        let mut body = base.clone();
        body["max_tokens"] = json!(2048);
        body[field] = value;
        let reply = ask(&daemon, &body).await;
        assert_eq!(reply.header("x-cproxy-cache"), "MISS", "{field}: {reply:?}");
        count += 1;
    }
    let beta = ask_with(&daemon, &base, ("anthropic-beta", "something-2025-01-01")).await;
    assert_eq!(beta.header("x-cproxy-cache"), "MISS");
    let stranger = ask_with(&daemon, &base, ("authorization", "Bearer somebody-else")).await;
    assert_eq!(stranger.header("x-cproxy-cache"), "MISS", "another caller's credential");
    assert_eq!(asked(&up), count + 2);
    let mut same = base.clone();
    same["metadata"] = json!({ "user_id": "another session" });
    assert_eq!(ask(&daemon, &same).await.header("x-cproxy-cache"), "HIT");
    let spaced = base.to_string().replace("\":", "\" : ");
    assert_eq!(Reply::read(daemon.request(spaced)).await.header("x-cproxy-cache"), "HIT");
}

#[tokio::test]
async fn an_answer_of_the_fallback_does_not_stand_for_the_first() {
    let up = upstreams(&["[[rule]]\nanswer = { fail = { status = 404 } }", &says("from b")]).await;
    let daemon = Daemon::start(&in_order(&up, ON)).await;
    assert_eq!(ask(&daemon, &message("hello")).await.text(), "from b");
    let again = ask(&daemon, &message("hello")).await;
    assert_eq!(
        (again.text().as_str(), again.header("x-cproxy-cache")),
        ("from b", "HIT"),
        "while the first fails"
    );
    assert_eq!((asked(&up[0]), asked(&up[1])), (2, 1));
    up[0].handle().set_script(Script::parse(&says("from a")).unwrap());
    assert_eq!(ask(&daemon, &message("hello")).await.text(), "from a");
}

#[tokio::test]
async fn only_whole_good_answers_are_kept() {
    for script in [
        "[[rule]]\nanswer = { fault = { cut = { after_outputs = 1 } } }",
        "[[rule]]\nanswer = { fail = { status = 400 } }",
        "[[rule]]\nanswer = { parts = [{ text = \"cut\" }], stop = \"max_tokens\" }",
    ] {
        let (up, daemon) = one(script).await;
        for n in 1..=2 {
            let reply = ask(&daemon, &streamed("hello")).await;
            assert_ne!(reply.header("x-cproxy-cache"), "HIT", "{script}");
            assert_eq!(asked(&up), n, "{script}");
        }
    }
    // A caller that leaves in the middle keeps nothing either.
    let (up, daemon) = one("[[rule]]\nanswer = { parts = [{ text = \"one two three four five six\" }], pace = { between = \"100ms\" } }").await;
    let mut response = daemon.request(streamed("hello").to_string()).send().await.unwrap();
    response.chunk().await.unwrap();
    drop(response);
    assert!(daemon.comes_to_rest(Duration::from_secs(1)).await);
    assert!(ask(&daemon, &streamed("hello")).await.ended_well());
    assert_eq!(asked(&up), 2);
}

#[tokio::test]
async fn response_caching_forgets_after_the_ttl_and_by_command() {
    let (up, daemon) = one(&says("yes")).await;
    ask(&daemon, &message("hello")).await;
    pass(Duration::from_secs(61)).await;
    assert_eq!(ask(&daemon, &message("hello")).await.header("x-cproxy-cache"), "MISS", "older than its ttl");
    assert_eq!(ask(&daemon, &message("hello")).await.header("x-cproxy-cache"), "HIT");
    use cproxy::front::mcp::{Command, Daemon as _};
    let cleared = daemon.front().command(Command::ClearCache).await.unwrap();
    assert_eq!(cleared["cleared"], 1);
    assert_eq!(ask(&daemon, &message("hello")).await.header("x-cproxy-cache"), "MISS");
    assert_eq!(asked(&up), 3);
}

#[tokio::test]
async fn callers_say_what_they_want_of_the_cache() {
    let (up, daemon) = one(&says("yes")).await;
    let body = message("hello");
    for header in [("cache-control", "no-store"), ("x-cproxy-cache", "off")] {
        assert_eq!(ask_with(&daemon, &body, header).await.header("x-cproxy-cache"), "BYPASS");
    }
    assert_eq!(ask(&daemon, &body).await.header("x-cproxy-cache"), "MISS", "nothing was kept");
    for header in [("cache-control", "no-cache"), ("x-cproxy-cache", "refresh")] {
        assert_eq!(ask_with(&daemon, &body, header).await.header("x-cproxy-cache"), "MISS");
    }
    assert_eq!(ask(&daemon, &body).await.header("x-cproxy-cache"), "HIT");
    assert_eq!(asked(&up), 5);
}

#[tokio::test]
async fn requests_with_tools_are_kept_only_if_asked() {
    let (up, daemon) = one(&says("yes")).await;
    let mut body = message("hello");
    body["tools"] = json!([{ "name": "rm", "description": "d", "input_schema": { "type": "object" } }]);
    for _ in 0..2 {
        assert_eq!(ask(&daemon, &body).await.header("x-cproxy-cache"), "BYPASS");
    }
    for wanted in ["MISS", "HIT"] {
        assert_eq!(ask_with(&daemon, &body, ("x-cproxy-cache", "on")).await.header("x-cproxy-cache"), wanted);
    }
    assert_eq!(asked(&up), 3);
}

#[tokio::test]
async fn the_same_question_at_once_is_asked_once() {
    let up =
        upstream("[[rule]]\nanswer = { parts = [{ text = \"yes\" }], pace = { first = \"200ms\" } }").await;
    let daemon = Arc::new(Daemon::start(&format!("{ON}{}", provider("a", &up, ""))).await);
    let mut asks = tokio::task::JoinSet::new();
    for n in 0..8 {
        let daemon = daemon.clone();
        asks.spawn(async move {
            daemon.ask(&if n % 2 == 0 { message("hello") } else { streamed("hello") }).await
        });
    }
    while let Some(reply) = asks.join_next().await {
        assert_eq!(reply.unwrap().text(), "yes");
    }
    assert_eq!(asked(&up), 1);
}

#[tokio::test]
async fn who_waits_for_anothers_answer_asks_itself_if_that_one_leaves() {
    let up =
        upstream("[[rule]]\nanswer = { parts = [{ text = \"yes\" }], pace = { first = \"200ms\" } }").await;
    let daemon = Arc::new(Daemon::start(&format!("{ON}{}", provider("a", &up, ""))).await);
    let ask = || {
        let daemon = daemon.clone();
        tokio::spawn(async move { daemon.ask(&streamed("hello")).await })
    };
    let first = ask();
    assert!(up.handle().wait_until(Duration::from_secs(2), |up| !up.requests().is_empty()).await);
    let second = ask();
    tokio::time::sleep(Duration::from_millis(30)).await;
    first.abort();
    assert_eq!(second.await.unwrap().text(), "yes");
    assert_eq!(asked(&up), 2);
}

#[tokio::test]
async fn the_cache_keeps_to_its_size() {
    let up =
        upstream(&format!("[[rule]]\nanswer = {{ parts = [{{ text = \"{}\" }}] }}", "word ".repeat(400)))
            .await;
    let config = "[cache]\nenabled = true\nmax_size = \"64KiB\"\n".to_owned() + &provider("a", &up, "");
    let daemon = Daemon::start(&config).await;
    for n in 0..80 {
        daemon.ask(&message(&format!("question {n}"))).await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let kept = daemon.directory().answers.clear().await;
    assert!((1..=32).contains(&kept), "{kept} answers of 2 KiB and more in 64 KiB");
}
