//! `after_output = "continue"`: another upstream writes the rest of an answer that broke.

use std::time::Duration;

use cproxy::simulator::Recorded;
use serde_json::{Value, json};

use crate::inside::{Daemon, Reply, asked, in_order, message, provider, says, streamed, upstreams};

const ON: &str = "[routing]\nretry_delay = \"10ms\"\nafter_output = \"continue\"\n";
const TEXT: &str =
    "One two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen.";

/// Says the text as far as its end, then goes wrong.
fn breaks(fault: &str) -> String {
    let usage = "usage = { input = 100, output = 40 }";
    let pace = "pace = { between = \"50ms\" }"; // apart in time, also on a busy machine
    format!("[[rule]]\nanswer = {{ parts = [{{ text = \"{TEXT}\" }}], {usage}, {pace}, fault = {fault} }}\n")
}

/// Goes on from words of the model with `rest`; asked by a turn of the user, begins all over.
fn goes_on(rest: &str) -> String {
    format!(
        "[[rule]]\nwhen = {{ prefill = true }}\nanswer = {{ parts = [{{ text = \"{rest}\" }}], usage = {{ input = 150, output = 9 }} }}\n\
         [[rule]]\nanswer = {{ parts = [{{ thinking = \"where was I\" }}, {{ text = \"{TEXT}\" }}], usage = {{ input = 150, output = 9 }} }}\n"
    )
}

/// One answer as the caller's own client reads it: one start, blocks one after another, one end.
fn is_one_answer(reply: &Reply) {
    assert!(reply.ended_well(), "{reply:?}");
    let events = reply.events();
    let count = |kind: &str| events.iter().filter(|event| event["type"] == kind).count();
    assert_eq!(
        (count("message_start"), count("message_delta"), count("message_stop")),
        (1, 1, 1),
        "{reply:?}"
    );
    let (mut open, mut next) = (Value::Null, 0);
    for event in &events {
        match event["type"].as_str().unwrap() {
            "content_block_start" => {
                assert!(open.is_null() && event["index"] == next, "{reply:?}");
                (open, next) = (json!(next), next + 1);
            }
            "content_block_delta" => assert_eq!(event["index"], open, "{reply:?}"),
            "content_block_stop" => assert_eq!(event["index"], open.take(), "{reply:?}"),
            _ => {}
        }
    }
}

fn turns(request: &Recorded) -> Vec<Value> {
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    body["messages"].as_array().unwrap().clone()
}

#[tokio::test]
async fn an_answer_that_breaks_is_written_to_its_end_by_the_next() {
    for fault in [
        "{ cut = { after_outputs = 3 } }",
        "{ hang_up = { after_outputs = 3 } }",
        "{ reset = { after_outputs = 3 } }",
        "{ corrupt = { after_outputs = 3 } }",
        "{ error = { at = { after_outputs = 3 }, fail = { kind = \"overloaded\" } } }",
    ] {
        let up = upstreams(&[&breaks(fault), &goes_on(TEXT)]).await;
        let daemon = Daemon::start(&in_order(&up, ON)).await;
        let reply = daemon.ask(&streamed("hello")).await;
        is_one_answer(&reply);
        assert_eq!(reply.text(), TEXT, "{fault}");
        assert_eq!(reply.header("x-cproxy-after-output"), "continue");
        let told = reply.body.lines().find(|line| line.starts_with(": ")).unwrap_or_default();
        assert!(told.contains("a/claude-x") && told.contains("b/claude-x goes on"), "{}", reply.body);
        assert_eq!((asked(&up[0]), asked(&up[1])), (1, 1));
        let turns = turns(&up[1].handle().requests()[0]);
        let last = turns.last().unwrap();
        assert_eq!(last["role"], "assistant", "it goes on from what there is");
        let there = last["content"].as_str().unwrap();
        assert!(there.starts_with("One two three") && TEXT.starts_with(there), "{there}");
        let usage = reply.events().iter().rev().find_map(|event| event.get("usage").cloned()).unwrap();
        assert_eq!(usage["input_tokens"], 250, "both are counted: {usage}");
        assert!(usage["output_tokens"].as_u64().unwrap() > 9, "{usage}");
        assert!(daemon.comes_to_rest(Duration::from_secs(1)).await);
    }
}

#[tokio::test]
async fn a_model_that_takes_no_prefill_is_asked_by_a_turn_of_the_user() {
    let refuses = "[[rule]]\nwhen = { prefill = true }\nanswer = { fail = { kind = \"bad_request\", message = \"This model does not support assistant message prefill.\" } }\n";
    let chat = "kind = \"openrouter\"\npriority = 2\nmodels = [\"claude-x\"]";
    for (next, script, body, attempts) in [
        ("priority = 2", format!("{refuses}{}", goes_on("")), streamed("hello"), 2),
        (chat, goes_on(""), streamed("hello"), 1),
        ("priority = 2", goes_on(""), thinking(), 1),
    ] {
        let up = upstreams(&[&breaks("{ cut = { after_outputs = 3 } }"), &script]).await;
        let config = ON.to_owned() + &provider("a", &up[0], "priority = 1") + &provider("b", &up[1], next);
        let daemon = Daemon::start(&config).await;
        let reply = daemon.ask(&body).await;
        is_one_answer(&reply);
        assert_eq!(reply.text(), TEXT, "what comes again is left out: {reply:?}");
        assert!(!reply.body.contains("where was I"), "another model's reasoning has no place in a text");
        assert_eq!(asked(&up[1]), attempts);
        let requests = up[1].handle().requests();
        let last = turns(requests.last().unwrap());
        assert_eq!(last.last().unwrap()["role"], "user");
        assert!(last.last().unwrap().to_string().contains("cut off"));
        assert!(last[last.len() - 2].to_string().contains("One two three"));
    }
}

fn thinking() -> Value {
    let mut body = streamed("hello");
    body["thinking"] = json!({ "type": "enabled", "budget_tokens": 1024 });
    body["max_tokens"] = json!(4096);
    body
}

#[tokio::test]
async fn a_continuation_that_breaks_is_continued_and_with_nobody_left_the_error_is_honest() {
    let cut = breaks("{ cut = { after_outputs = 3 } }");
    let second = "[[rule]]\nanswer = { parts = [{ text = \"four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty, and more, and more, and more, and more, and more, and more, and more, and more\" }], pace = { between = \"10ms\" }, fault = { cut = { after_outputs = 11 } } }";
    let up = upstreams(&[&cut, second, &goes_on(" the end.")]).await;
    let daemon = Daemon::start(&in_order(&up, ON)).await;
    let reply = daemon.ask(&streamed("hello")).await;
    is_one_answer(&reply);
    assert!(reply.text().starts_with(&TEXT[..48]) && reply.text().ends_with("the end."), "{}", reply.text());
    assert_eq!(up.iter().map(asked).collect::<Vec<_>>(), [1, 1, 1]);

    let dead = "[[rule]]\nanswer = { fail = { status = 500 } }";
    let up =
        upstreams(&[&format!("{}{dead}", cut.replace("[[rule]]\n", "[[rule]]\ntimes = 1\n")), dead]).await;
    let daemon = Daemon::start(&in_order(&up, ON)).await;
    let reply = daemon.ask(&streamed("hello")).await;
    assert_eq!(reply.kinds().last().unwrap(), "error", "{reply:?}");
    assert!(!reply.body.contains("message_stop"));
    assert_eq!(reply.text(), TEXT[..48]);
    assert!(daemon.comes_to_rest(Duration::from_secs(1)).await);
}

#[tokio::test]
async fn the_one_that_broke_goes_on_itself_where_it_is_alone() {
    let once = breaks("{ reset = { after_outputs = 3 } }").replace("[[rule]]\n", "[[rule]]\ntimes = 1\n");
    let up = upstreams(&[&format!("{once}{}", goes_on(TEXT))]).await;
    let daemon = Daemon::start(&in_order(&up, ON)).await;
    let reply = daemon.ask(&streamed("hello")).await;
    is_one_answer(&reply);
    assert_eq!(reply.text(), TEXT);
    assert_eq!(asked(&up[0]), 2);
}

#[tokio::test]
async fn what_is_more_than_text_is_not_continued_and_without_the_policy_nothing_is() {
    let call = "[[rule]]\nanswer = { parts = [{ text = \"Let me look.\" }, { call = { name = \"ls\", arguments = { path = \"a long path to be listed by the tool\" } } }], pace = { between = \"10ms\" }, fault = { cut = { after_outputs = 4 } } }";
    let mut with_tools = streamed("hello");
    with_tools["tools"] = json!([{ "name": "ls", "input_schema": { "type": "object" } }]);
    for (config, script, body) in [
        (ON, call.to_owned(), with_tools),
        ("", breaks("{ cut = { after_outputs = 3 } }"), streamed("hello")),
    ] {
        let up = upstreams(&[&script, &says("no")]).await;
        let daemon = Daemon::start(&in_order(&up, config)).await;
        let reply = daemon.ask(&body).await;
        assert_eq!(reply.kinds().last().unwrap(), "error", "{reply:?}");
        assert_eq!(asked(&up[1]), 0);
    }
    // Who does not stream has the whole answer from the next, as ever.
    let up = upstreams(&[&breaks("{ hang_up = { after_events = 1 } }"), &says("whole")]).await;
    let daemon = Daemon::start(&in_order(&up, ON)).await;
    assert_eq!(daemon.ask(&message("hello")).await.text(), "whole");
}

#[tokio::test]
async fn a_caller_of_openais_dialect_is_continued_too() {
    let up = upstreams(&[&breaks("{ cut = { after_outputs = 3 } }"), &goes_on("")]).await;
    let chat = |name: &str, up, tier: u32| {
        provider(name, up, &format!("kind = \"openrouter\"\npriority = {tier}\nmodels = [\"claude-x\"]"))
    };
    let daemon = Daemon::start(&(ON.to_owned() + &chat("a", &up[0], 1) + &chat("b", &up[1], 2))).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let body =
        json!({ "model": "claude-x", "stream": true, "messages": [{ "role": "user", "content": "hello" }] });
    let request = client.post(format!("{}/v1/chat/completions", daemon.url)).body(body.to_string());
    let answer =
        request.header("content-type", "application/json").send().await.unwrap().text().await.unwrap();
    let chunks: Vec<Value> =
        answer.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect();
    let text: String =
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, TEXT, "{answer}");
    assert!(chunks.iter().all(|chunk| chunk["id"] == chunks[0]["id"]), "one answer has one id: {answer}");
    assert!(answer.trim_end().ends_with("data: [DONE]"), "{answer}");
}
