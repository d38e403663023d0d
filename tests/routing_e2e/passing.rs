//! What goes through unchanged, what never does, and what a caller sees while it waits.

use std::time::Duration;

use crate::inside::{
    CALLER_KEY, Daemon, Reply, asked, in_order, message, pass, provider, says, streamed, upstream, upstreams,
};

/// JSON as nobody's serializer writes it.
const ODD: &str = "{ \"max_tokens\" : 64,\"stream\":STREAM,\n\t\"model\"  :\"claude-x\", \"unknown_field\": [1.0,2e3, \
                   12345678901234567890123], \"metadata\":{\"user_id\":\"u\\u00e9\"},\
                   \"messages\":[{\"role\":\"user\",\"content\":\"h\\u0069 \u{1F600}\"}] }\n";

#[tokio::test]
async fn requests_and_answers_of_the_same_dialect_pass_byte_for_byte() {
    for stream in ["true", "false"] {
        let up = upstream("strict = false").await;
        let daemon = Daemon::start(&provider("a", &up, "")).await;
        let body = ODD.replace("STREAM", stream);
        let request = daemon.request(body.clone()).header("anthropic-beta", "one-2025-01-01,two-2025-02-02");
        let request = request.header("anthropic-beta", "three").header("anthropic-version", "2023-01-01");
        let reply = Reply::read(request.header("anthropic-dangerous", "kept").header("x-other", "not")).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let seen = &up.handle().requests()[0];
        assert_eq!(std::str::from_utf8(&seen.body).unwrap(), body);
        let betas: Vec<_> = seen.headers.get_all("anthropic-beta").iter().collect();
        assert_eq!(betas, ["one-2025-01-01,two-2025-02-02", "three"]);
        assert_eq!(seen.header("anthropic-dangerous"), Some("kept"));
        assert_eq!(seen.header("x-other"), None);
        assert!(seen.headers.get_all("anthropic-version").iter().any(|version| version == "2023-01-01"));

        let direct = reqwest::Client::builder().no_proxy().build().unwrap();
        let direct = direct.post(format!("{}/v1/messages", up.url())).header("x-api-key", "k").body(body);
        let direct = Reply::read(direct.header("anthropic-version", "2023-06-01")).await;
        assert_eq!(reply.body, direct.body, "the answer's bytes are the upstream's");
    }
}

#[tokio::test]
async fn only_the_name_of_the_model_is_put_in_place() {
    let up = upstream("strict = false").await;
    let config =
        provider("a", &up, "models = [\"real-name\"]") + "[models]\n\"claude-x\" = \"a/real-name\"\n";
    let daemon = Daemon::start(&config).await;
    let body = ODD.replace("STREAM", "false");
    Reply::read(daemon.request(body.clone())).await;
    let seen = up.handle().requests();
    assert_eq!(std::str::from_utf8(&seen[0].body).unwrap(), body.replace("\"claude-x\"", "\"real-name\""));
}

#[tokio::test]
async fn a_key_reaches_only_its_own_provider() {
    let up = upstreams(&[
        "[[rule]]\nanswer = { fail = { status = 529 } }",
        "[[rule]]\nanswer = { fail = { status = 529 } }",
        &says("from c"),
    ])
    .await;
    let config = "[routing]\nretry_attempts = 0\n".to_owned()
        + &provider("a", &up[0], "priority = 1")
        + &provider("b", &up[1], "priority = 2\nkind = \"openrouter\"\nmodels = [\"claude-x\"]")
        + &provider("c", &up[2], "priority = 3\nauth = \"caller\"");
    let daemon = Daemon::start(&config).await;
    let request =
        daemon.request(message("hello").to_string()).header("authorization", "Bearer sk-oauth-of-caller");
    assert_eq!(Reply::read(request).await.text(), "from c");
    let seen = |n: usize| {
        format!(
            "{:?}",
            up[n].handle().requests()[0]
                .headers
                .iter()
                .map(|(name, value)| (name.clone(), value.as_bytes().to_vec()))
                .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(&value)))
                .collect::<Vec<_>>()
        )
    };
    assert!(seen(0).contains("x-api-key: sk-a\""), "{}", seen(0));
    assert!(seen(1).contains("authorization: Bearer sk-b\""), "{}", seen(1));
    for n in 0..2 {
        assert!(!seen(n).contains(CALLER_KEY) && !seen(n).contains("sk-oauth"), "{}", seen(n));
    }
    assert!(seen(2).contains(CALLER_KEY) && seen(2).contains("Bearer sk-oauth-of-caller"), "{}", seen(2));
    assert!(!seen(2).contains("sk-c"), "{}", seen(2));
}

#[tokio::test]
async fn what_an_upstream_says_of_its_limits_reaches_a_caller_of_its_dialect() {
    let up = upstream("[[rule]]\nanswer = { headers = { anthropic-ratelimit-requests-remaining = \"41\", set-cookie = \"x=1\" } }").await;
    let daemon = Daemon::start(&provider("a", &up, "")).await;
    let reply = daemon.ask(&streamed("hello")).await;
    assert_eq!(reply.header("anthropic-ratelimit-requests-remaining"), "41");
    assert_eq!(reply.header("set-cookie"), "");
}

#[tokio::test]
async fn a_caller_that_waits_long_gets_headers_and_signs_of_life_and_then_its_answer() {
    let up = upstreams(&["[[rule]]\nanswer = { fault = \"silence\" }", &says("late, but whole")]).await;
    let daemon = Daemon::start(&in_order(&up, "")).await;
    let request = daemon.request(streamed("hello").to_string());
    let response = tokio::spawn(request.send());
    assert!(up[0].handle().wait_until(Duration::from_secs(2), |up| !up.requests().is_empty()).await);
    pass(Duration::from_secs(11)).await;
    let mut response =
        tokio::time::timeout(Duration::from_secs(2), response).await.unwrap().unwrap().unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/event-stream"));
    let first = response.chunk().await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&first).contains("event: ping"), "{first:?}");
    pass(Duration::from_secs(16)).await;
    let second = response.chunk().await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&second).contains("event: ping"), "{second:?}");
    pass(Duration::from_secs(40)).await; // past the deadline of the first provider
    let rest = response.text().await.unwrap();
    assert!(rest.contains("message_stop"), "{rest}");
    assert_eq!((asked(&up[0]), asked(&up[1])), (1, 1));
}

#[tokio::test]
async fn an_error_after_a_long_wait_comes_as_an_event() {
    let up = upstream("[[rule]]\nanswer = { fault = \"silence\" }").await;
    let daemon = Daemon::start(&provider("a", &up, "")).await;
    let request = daemon.request(streamed("hello").to_string());
    let reply = tokio::spawn(Reply::read(request));
    assert!(up.handle().wait_until(Duration::from_secs(2), |up| !up.requests().is_empty()).await);
    pass(Duration::from_secs(11)).await;
    pass(Duration::from_secs(60)).await;
    let reply = tokio::time::timeout(Duration::from_secs(2), reply).await.unwrap().unwrap();
    assert_eq!(reply.status, 200);
    assert_eq!(reply.kinds(), ["error"], "{reply:?}");
    assert!(!reply.broken);
}
