//! Who is asked: by name, rule, alias and list; shares within a tier; sessions.

use serde_json::json;

use crate::inside::{
    Daemon, Reply, asked, in_order, message, provider, says, side_by_side, streamed, upstreams,
};

#[tokio::test]
async fn routing_finds_the_provider_that_lists_the_model() {
    let up = upstreams(&[&says("from a"), &says("from b")]).await;
    let config =
        provider("a", &up[0], "models = [\"claude-x\"]") + &provider("b", &up[1], "models = [\"glm-*\"]");
    let daemon = Daemon::start(&config).await;
    let mut body = message("hello");
    assert_eq!(daemon.ask(&body).await.text(), "from a");
    body["model"] = json!("glm-4.7");
    let reply = daemon.ask(&body).await;
    assert_eq!(reply.text(), "from b");
    assert_eq!(up[1].handle().requests()[0].model, "glm-4.7");
    assert_eq!(reply.header("x-cproxy-provider"), "b");
    assert_eq!(reply.header("x-cproxy-model"), "glm-4.7");
    assert_eq!(reply.header("x-cproxy-attempts"), "1");
    let route = reply.header("x-cproxy-route");
    assert!(route.starts_with("b/glm-4.7: ok (lists "), "what happened, and why there: {route}");
    assert!(reply.header("request-id").starts_with("req_"));
}

#[tokio::test]
async fn routing_follows_an_alias_and_asks_for_its_target() {
    let up = upstreams(&[&says("from a"), &says("from b")]).await;
    let config = side_by_side(&up, "[models]\nfast = [\"b/little-one\", \"a/claude-x\"]\n");
    let daemon = Daemon::start(&config).await;
    let mut body = message("hello");
    body["model"] = json!("fast");
    for _ in 0..3 {
        assert_eq!(daemon.ask(&body).await.text(), "from b");
    }
    assert_eq!(up[1].handle().requests()[0].model, "little-one");
    assert_eq!(asked(&up[0]), 0);
}

#[tokio::test]
async fn routing_goes_to_the_provider_that_the_caller_names() {
    let up = upstreams(&[&says("from a"), &says("from b")]).await;
    let daemon = Daemon::start(&in_order(&up, "")).await;
    let mut body = message("hello");
    body["model"] = json!("b/claude-x");
    assert_eq!(daemon.ask(&body).await.text(), "from b");
    assert_eq!(up[1].handle().requests()[0].model, "claude-x");
    let named = daemon.request(message("hello").to_string()).header("x-cproxy-provider", "b");
    assert_eq!(Reply::read(named).await.text(), "from b");
    assert_eq!(asked(&up[0]), 0);
}

#[tokio::test]
async fn routing_rules_match_headers_and_refuse() {
    let up = upstreams(&[&says("from a"), &says("from b")]).await;
    let rules = r#"
[routing]
[[routing.rules]]
name = "batch work"
header = { x-team = "batch-*" }
targets = ["b"]
[[routing.rules]]
model = "forbidden-*"
refuse = "not in this house"
"#;
    let daemon = Daemon::start(&in_order(&up, rules)).await;
    assert_eq!(daemon.ask(&message("hello")).await.text(), "from a");
    let batch = daemon.request(message("hello").to_string()).header("x-team", "batch-7");
    assert_eq!(Reply::read(batch).await.text(), "from b");
    let mut body = message("hello");
    body["model"] = json!("forbidden-fruit");
    let refused = daemon.ask(&body).await;
    assert_eq!((refused.status, refused.error().as_str()), (403, "permission_error"));
    assert!(refused.body.contains("not in this house"), "{}", refused.body);
    assert_eq!((asked(&up[0]), asked(&up[1])), (1, 1));
}

#[tokio::test]
async fn load_balancing_keeps_to_the_weights_exactly() {
    let up = upstreams(&[&says("from a"), &says("from b")]).await;
    let config = provider("a", &up[0], "weight = 3") + &provider("b", &up[1], "weight = 1");
    let daemon = Daemon::start(&config).await;
    for _ in 0..20 {
        assert_eq!(daemon.ask(&message("hello")).await.status, 200);
    }
    assert_eq!((asked(&up[0]), asked(&up[1])), (15, 5));
}

#[tokio::test]
async fn load_balancing_takes_turns() {
    let up = upstreams(&[&says("from a"), &says("from b"), &says("from c")]).await;
    let daemon = Daemon::start(&side_by_side(&up, "[routing]\nstrategy = \"round-robin\"\n")).await;
    for _ in 0..12 {
        daemon.ask(&streamed("hello")).await;
    }
    assert_eq!(up.iter().map(asked).collect::<Vec<_>>(), [4, 4, 4]);
}

#[tokio::test]
async fn a_session_stays_with_its_provider_until_that_fails() {
    let up = upstreams(&[&says("from a"), &says("from b")]).await;
    let daemon = Daemon::start(&side_by_side(&up, "[routing]\nretry_attempts = 0\n")).await;
    let first = daemon.ask_in("s-1", &message("hello")).await.text();
    for _ in 0..5 {
        assert_eq!(daemon.ask_in("s-1", &message("hello")).await.text(), first);
        daemon.ask(&message("somebody else")).await;
    }
    let (home, other) = if first == "from a" { (&up[0], "from b") } else { (&up[1], "from a") };
    let well = cproxy::simulator::Script::parse(&says(&first)).unwrap();
    home.handle().set_script(
        cproxy::simulator::Script::parse("[[rule]]\nanswer = { fail = { status = 500 } }").unwrap(),
    );
    assert_eq!(daemon.ask_in("s-1", &message("hello")).await.text(), other);
    home.handle().set_script(well);
    for _ in 0..4 {
        assert_eq!(daemon.ask_in("s-1", &message("hello")).await.text(), other, "it moved, and stays");
    }
}

#[tokio::test]
async fn a_request_that_nobody_can_serve_says_what_is_missing_at_each() {
    let up = upstreams(&[&says("from a"), &says("from b")]).await;
    let config = provider("a", &up[0], "capabilities = { images = false }")
        + &provider("b", &up[1], "models = [\"other\"]")
        + "[providers.c]\nkind = \"openai\"\napi_key_env = \"NOT_SET_ANYWHERE\"\nmodels = [\"claude-x\"]\n";
    let daemon = Daemon::start(&config).await;
    let mut body = message("");
    body["messages"][0]["content"] = json!([
        { "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "aGVsbG8=" } }
    ]);
    let reply = daemon.ask(&body).await;
    assert_eq!((reply.status, reply.error().as_str()), (404, "not_found_error"), "{}", reply.body);
    for part in ["a: ", "images", "b: ", "c: ", "NOT_SET_ANYWHERE"] {
        assert!(reply.body.contains(part), "{part}: {}", reply.body);
    }
}
