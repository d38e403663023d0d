//! Mends, answers in another form than asked for, hedging, held answers, counts, news while one waits.

use std::time::{Duration, Instant};

use cproxy::simulator::Ended;
use serde_json::{Value, json};

use crate::inside::{
    Daemon, Reply, asked, in_order, message, pass, provider, says, streamed, upstream, upstreams,
};

const OPENAI: &str = "kind = \"openai\"\nmodels = [\"claude-x\"]";

#[tokio::test]
async fn a_refused_field_is_mended_and_remembered() {
    let refuses = r#"strict = false
[[rule]]
times = 1
answer = { fail = { status = 400, body = '''{"error":{"message":"Unsupported value: 'temperature' does not support 0.5 with this model.","type":"invalid_request_error","param":"temperature","code":"unsupported_value"}}''' } }
"#;
    let up = upstream(&format!("{refuses}{}", says("yes"))).await;
    let daemon = Daemon::start(&provider("a", &up, OPENAI)).await;
    let mut body = streamed("hello");
    body["temperature"] = json!(0.5);
    let reply = daemon.ask(&body).await;
    assert_eq!(reply.text(), "yes", "{reply:?}");
    assert!(!reply.header("x-cproxy-healed").is_empty(), "{reply:?}");
    assert_eq!(asked(&up), 2);
    assert_eq!(daemon.ask(&body).await.text(), "yes");
    let seen: Vec<Value> = up.handle().requests().iter().map(cproxy::simulator::Recorded::json).collect();
    let with: Vec<bool> = seen.iter().map(|body| body.get("temperature").is_some()).collect();
    assert_eq!(with, [true, false, false], "the second request knows");
}

#[tokio::test]
async fn a_request_for_no_output_needs_no_upstream() {
    let up = upstream(&says("never")).await;
    let daemon = Daemon::start(&provider("a", &up, OPENAI)).await;
    for mut body in [message("hello"), streamed("hello")] {
        body["max_tokens"] = json!(0);
        let reply = daemon.ask(&body).await;
        assert!(reply.ended_well(), "{reply:?}");
        assert_eq!(reply.text(), "");
    }
    assert_eq!(asked(&up), 0);
    assert!(daemon.comes_to_rest(Duration::from_secs(1)).await);
}

#[tokio::test]
async fn a_json_answer_to_a_stream_is_streamed() {
    let anthropic = r#"{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"all at once"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":3,"output_tokens":2}}"#;
    let chat = r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"all at once"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#;
    for (kind, body) in [("", anthropic), (OPENAI, chat)] {
        let up =
            upstream(&format!("[[rule]]\nanswer = {{ fail = {{ status = 200, body = '{body}' }} }}")).await;
        let daemon = Daemon::start(&provider("a", &up, kind)).await;
        let reply = daemon.ask(&streamed("hello")).await;
        assert!(reply.ended_well(), "{reply:?}");
        assert!(reply.header("content-type").starts_with("text/event-stream"));
        assert_eq!(reply.text(), "all at once");
        assert_eq!(reply.kinds().first().map(String::as_str), Some("message_start"));
    }
}

const HEDGE: &str =
    "[routing]\nhedge = { enabled = true, min_delay = \"50ms\", max_delay = \"150ms\", budget = 0.5 }\n";

#[tokio::test]
async fn hedging_asks_a_second_provider_when_the_first_is_slow() {
    let slow = "[[rule]]\nanswer = { parts = [{ text = \"slow\" }], pace = { first = \"20s\" } }";
    let up = upstreams(&[slow, &says("quick")]).await;
    let daemon = Daemon::start(&in_order(&up, HEDGE)).await;
    let began = Instant::now();
    let reply = daemon.ask(&streamed("hello")).await;
    assert_eq!(reply.text(), "quick");
    assert!(began.elapsed() >= Duration::from_millis(150) && began.elapsed() < Duration::from_secs(1));
    assert_eq!(
        reply.header("x-cproxy-route"),
        "a/claude-x: outrun, b/claude-x: ok (lists the model; tier 2)"
    );
    let left = |up: &cproxy::simulator::Handle| up.requests()[0].ended == Ended::Left;
    assert!(up[0].handle().wait_until(Duration::from_millis(500), left).await, "the loser is cancelled");
    assert!(daemon.comes_to_rest(Duration::from_secs(1)).await);

    // Whoever does not stream is not hedged, and the quick are never asked twice.
    let up = upstreams(&[&says("quick"), &says("other")]).await;
    let daemon = Daemon::start(&in_order(&up, HEDGE)).await;
    for _ in 0..5 {
        assert_eq!(daemon.ask(&streamed("hello")).await.text(), "quick");
    }
    assert_eq!(asked(&up[1]), 0);
}

#[tokio::test]
async fn hedging_keeps_to_its_budget_and_survives_failures_of_either() {
    let slow = "[[rule]]\nanswer = { parts = [{ text = \"slow\" }], pace = { first = \"400ms\" } }";
    let up = upstreams(&[slow, "[[rule]]\nanswer = { fail = { status = 404 } }"]).await;
    let config = in_order(&up, &HEDGE.replace("0.5", "0.25"));
    let daemon = Daemon::start(&config).await;
    for _ in 0..8 {
        assert_eq!(daemon.ask(&streamed("hello")).await.text(), "slow", "the second attempt failed");
    }
    assert!((2..=3).contains(&asked(&up[1])), "{} for 8 requests", asked(&up[1]));

    let fails_late = "[[rule]]\nanswer = { pace = { headers = \"300ms\" }, fail = { status = 404 } }";
    let second = "[[rule]]\nanswer = { parts = [{ text = \"second\" }], pace = { first = \"400ms\" } }";
    let up = upstreams(&[fails_late, second]).await;
    let daemon = Daemon::start(&in_order(&up, HEDGE)).await;
    assert_eq!(daemon.ask(&streamed("hello")).await.text(), "second");
    assert_eq!((asked(&up[0]), asked(&up[1])), (1, 1));
    assert!(daemon.comes_to_rest(Duration::from_secs(1)).await);
}

#[tokio::test]
async fn a_held_answer_fails_over_after_its_first_output() {
    let breaks = "[[rule]]\nanswer = { parts = [{ text = \"one two three four five six\" }], fault = { cut = { after_outputs = 2 } } }";
    let rule = "[routing]\n[[routing.rules]]\nname = \"careful\"\nheader = { x-careful = \"*\" }\nafter_output = \"buffer\"\n";
    for (rest, careful) in [("[routing]\nafter_output = \"buffer\"\n", false), (rule, true)] {
        let up = upstreams(&[breaks, &says("whole")]).await;
        let daemon = Daemon::start(&in_order(&up, rest)).await;
        let mut request = daemon.request(streamed("hello").to_string());
        if careful {
            request = request.header("x-careful", "yes");
        }
        let reply = Reply::read(request).await;
        assert!(reply.ended_well(), "{reply:?}");
        assert_eq!(reply.text(), "whole");
        assert_eq!(reply.kinds().iter().filter(|kind| *kind == "message_start").count(), 1);
        if careful {
            let plain = daemon.ask(&streamed("hello")).await;
            assert_eq!(plain.error(), "api_error", "others are streamed, and break: {plain:?}");
        }
    }
}

#[tokio::test]
async fn tokens_are_counted_by_the_provider_that_can() {
    let count = async |daemon: &Daemon| {
        let request = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = request.post(format!("{}/v1/messages/count_tokens", daemon.url));
        let mut body = message("hello");
        body.as_object_mut().unwrap().remove("max_tokens");
        Reply::read(request.header("x-api-key", "k").body(body.to_string())).await
    };
    let counts = "[[rule]]\nwhen = { path = \"/v1/messages/count_tokens\" }\nanswer = { fail = { status = 200, body = '{\"input_tokens\":4711}' } }";
    let up = upstream(counts).await;
    let daemon = Daemon::start(&provider("a", &up, "limits = { max_concurrent = 1 }")).await;
    let reply = count(&daemon).await;
    assert_eq!((reply.status, reply.json()), (200, json!({ "input_tokens": 4711 })));
    assert_eq!(reply.header("x-cproxy-count"), "upstream");
    assert!(up.handle().requests()[0].has_key("sk-a"));

    for rule in ["answer = { fail = { status = 500 } }", "answer = { fault = \"silence\" }"] {
        let up =
            upstream(&format!("[[rule]]\nwhen = {{ path = \"/v1/messages/count_tokens\" }}\n{rule}")).await;
        let daemon = Daemon::start(&provider("a", &up, "")).await;
        let counting = count(&daemon);
        tokio::pin!(counting);
        let reply = tokio::select! {
            biased;
            reply = &mut counting => reply,
            () = async {
                up.handle().wait_until(Duration::from_secs(2), |up| !up.requests().is_empty()).await;
                pass(Duration::from_secs(6)).await;
                std::future::pending::<()>().await;
            } => unreachable!(),
        };
        assert_eq!(reply.header("x-cproxy-count"), "estimate", "{rule}");
        assert!(reply.json()["input_tokens"].as_u64().unwrap() >= 1);
    }
    let up = upstream("").await;
    let daemon =
        Daemon::start(&provider("a", &up, "kind = \"local\"\nmodels = [\"claude-x\"]\nauth = \"key\"")).await;
    assert_eq!(count(&daemon).await.header("x-cproxy-count"), "estimate");
}

#[tokio::test]
async fn a_caller_that_waits_is_told_what_happens() {
    let silent = "[[rule]]\nanswer = { fault = \"silence\" }";
    let up = upstreams(&[silent, &says("at last")]).await;
    let daemon = Daemon::start(&in_order(&up, "")).await;
    let reply = tokio::spawn(Reply::read(daemon.request(streamed("hello").to_string())));
    assert!(up[0].handle().wait_until(Duration::from_secs(2), |up| !up.requests().is_empty()).await);
    pass(Duration::from_secs(11)).await;
    pass(Duration::from_secs(50)).await;
    let reply = tokio::time::timeout(Duration::from_secs(2), reply).await.unwrap().unwrap();
    assert!(reply.ended_well(), "{reply:?}");
    assert_eq!(reply.text(), "at last");
    let told = reply.body.lines().find(|line| line.starts_with(": ")).unwrap_or_default();
    assert!(told.contains("a/claude-x: timeout") && told.contains("trying b/claude-x"), "{}", reply.body);
}
