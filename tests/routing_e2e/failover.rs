//! The faults of FailoverBench and their kin: which upstream got which attempt, and what the caller sees.

use std::time::{Duration, Instant};

use cproxy::simulator::{Ended, Script};
use serde_json::json;

use crate::inside::{Daemon, asked, in_order, message, pass, provider, says, streamed, upstream, upstreams};

/// Two providers: the first goes by this rule and then says "from a", the second says "from b".
async fn two(rule: &str, rest: &str) -> (Vec<cproxy::simulator::Running>, Daemon) {
    let up =
        upstreams(&[&format!("{rule}\n{}", says("from a, in a few words")), &says("from b, in a few words")])
            .await;
    let daemon = Daemon::start(&in_order(&up, rest)).await;
    (up, daemon)
}

/// Asks both ways, each of a daemon of its own, and wants `whole`'s text back, with these attempts at a and b.
async fn both_ways(rule: &str, rest: &str, text: &str, attempts: (usize, usize)) {
    for body in [message("hello"), streamed("hello")] {
        let (up, daemon) = two(rule, rest).await;
        let began = Instant::now();
        let reply = daemon.ask(&body).await;
        assert!(reply.ended_well(), "{rule}: {reply:?}");
        assert_eq!(reply.text(), text, "{rule}");
        assert_eq!((asked(&up[0]), asked(&up[1])), attempts, "{rule}: {}", reply.header("x-cproxy-route"));
        assert_eq!(reply.header("x-cproxy-attempts"), (attempts.0 + attempts.1).to_string());
        assert!(began.elapsed() < Duration::from_secs(5), "{rule}");
        assert!(daemon.comes_to_rest(Duration::from_secs(1)).await);
    }
}

const A: &str = "from a, in a few words";
const B: &str = "from b, in a few words";
const ROUTING: &str = "[routing]\nretry_delay = \"10ms\"\n";

#[tokio::test]
async fn a_rate_limit_with_retry_after_moves_on_at_once() {
    let rule = "[[rule]]\ntimes = 1\nanswer = { fail = { status = 429, retry_after = 1 } }";
    both_ways(rule, "", B, (1, 1)).await;
}

#[tokio::test]
async fn a_rate_limit_with_nobody_else_is_waited_for() {
    let rule = "[[rule]]\ntimes = 1\nanswer = { fail = { status = 429, retry_after = 1 } }\n";
    let up = upstreams(&[&format!("{rule}{}", says(A))]).await;
    let daemon = Daemon::start(&in_order(&up, "")).await;
    let began = Instant::now();
    let reply = daemon.ask(&streamed("hello")).await;
    assert_eq!(reply.text(), A, "{reply:?}");
    assert!(began.elapsed() >= Duration::from_secs(1), "the upstream's wish is kept");
    assert_eq!(asked(&up[0]), 2);
}

#[tokio::test]
async fn a_provider_that_asked_to_be_left_alone_is_left_alone() {
    let (up, daemon) = two("[[rule]]\nanswer = { fail = { status = 429, retry_after = 60 } }", "").await;
    for _ in 0..3 {
        assert_eq!(daemon.ask(&message("hello")).await.text(), B);
    }
    assert_eq!((asked(&up[0]), asked(&up[1])), (1, 3));
}

#[tokio::test]
async fn a_rate_limit_everywhere_is_told_with_the_time_to_come_again() {
    let limited = "[[rule]]\nanswer = { fail = { status = 429, retry_after = 300 } }";
    let up = upstreams(&[limited, limited]).await;
    let daemon = Daemon::start(&in_order(&up, "")).await;
    for body in [message("hello"), streamed("hello")] {
        let reply = daemon.ask(&body).await;
        assert_eq!((reply.status, reply.error().as_str()), (429, "rate_limit_error"));
        let seconds: u64 = reply.header("retry-after").parse().unwrap();
        assert!((200..=300).contains(&seconds), "{seconds}");
        for name in ["a/claude-x", "b/claude-x"] {
            let route = reply.header("x-cproxy-route");
            assert!(reply.body.contains(name) || route.contains(name), "{name}: {reply:?}");
        }
    }
    assert_eq!((asked(&up[0]), asked(&up[1])), (1, 1));
}

#[tokio::test]
async fn a_single_500_is_retried_where_it_happened() {
    both_ways("[[rule]]\ntimes = 1\nanswer = { fail = { status = 500 } }", "", A, (2, 0)).await;
}

#[tokio::test]
async fn a_persistent_503_moves_on_and_opens_the_breaker() {
    let (up, daemon) = two("[[rule]]\nanswer = { fail = { status = 503 } }", "").await;
    assert_eq!(daemon.ask(&message("hello")).await.text(), B);
    assert_eq!((asked(&up[0]), asked(&up[1])), (3, 1), "two retries, then the next");
    for _ in 0..5 {
        assert_eq!(daemon.ask(&streamed("hello")).await.text(), B);
    }
    assert_eq!(asked(&up[0]), 3, "three failures in a row open the breaker: nobody asks any more");
}

#[tokio::test]
async fn a_reset_connection_is_retried_and_moved_from() {
    both_ways("[[rule]]\ntimes = 1\nanswer = { fault = \"refuse\" }", "", A, (2, 0)).await;
    both_ways("[[rule]]\nanswer = { fault = \"refuse\" }", "", B, (3, 1)).await;
}

#[tokio::test]
async fn a_provider_that_is_not_there_is_moved_from() {
    let up = upstreams(&[&says(A), &says(B)]).await;
    let config = in_order(&up, "");
    let mut up = up.into_iter();
    up.next().unwrap().stop().await;
    let daemon = Daemon::start(&config).await;
    let reply = daemon.ask(&streamed("hello")).await;
    assert_eq!(reply.text(), B);
    assert!(reply.header("x-cproxy-route").starts_with("a/claude-x: network"), "{reply:?}");
}

/// Short deadlines for the first of two providers.
async fn impatient(rule: &str) -> (Vec<cproxy::simulator::Running>, Daemon) {
    let up = upstreams(&[rule, &says(B)]).await;
    let timeouts = "timeouts = { connect = \"250ms\", first_byte = \"300ms\", idle = \"300ms\", total = \"2s\" }\npriority = 1";
    let config =
        ROUTING.to_owned() + &provider("a", &up[0], timeouts) + &provider("b", &up[1], "priority = 2");
    let daemon = Daemon::start(&config).await;
    (up, daemon)
}

#[tokio::test]
async fn silence_is_moved_from_within_the_deadline() {
    let (up, daemon) = impatient("[[rule]]\nanswer = { fault = \"silence\" }").await;
    let began = Instant::now();
    let reply = daemon.ask(&streamed("hello")).await;
    assert_eq!(reply.text(), B);
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!((asked(&up[0]), asked(&up[1])), (1, 1), "a deadline that passed is not tried again");
    let left = |handle: &cproxy::simulator::Handle| handle.requests()[0].ended == Ended::Left;
    assert!(up[0].handle().wait_until(Duration::from_secs(1), left).await, "the lost call is cancelled");
    let reply = daemon.ask(&message("hello")).await;
    assert_eq!(reply.text(), B, "one that does not stream waits for the whole answer: {reply:?}");
}

#[tokio::test]
async fn a_slow_first_output_is_moved_from_although_headers_came() {
    let (up, daemon) = impatient("[[rule]]\nanswer = { pace = { first = \"20s\", ping = \"50ms\" } }").await;
    let began = Instant::now();
    let reply = daemon.ask(&streamed("hello")).await;
    assert_eq!(reply.text(), B);
    assert_eq!(reply.kinds().iter().filter(|kind| *kind == "message_start").count(), 1);
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!((asked(&up[0]), asked(&up[1])), (1, 1));
}

/// A fault after output has begun: the caller keeps what it got, then gets an error, and never a good end.
async fn breaks_honestly(fault: &str) {
    let text = "one two three four five six seven eight nine ten eleven twelve";
    // Apart in time: what breaks in the same breath as the first output is still met with the next candidate.
    let pace = "pace = { between = \"10ms\" }";
    let rule = format!("[[rule]]\nanswer = {{ parts = [{{ text = \"{text}\" }}], {pace}, fault = {fault} }}");
    let (up, daemon) = impatient(&rule).await;
    let began = Instant::now();
    let reply = daemon.ask(&streamed("hello")).await;
    assert_eq!(reply.status, 200);
    assert!(!reply.broken, "{fault}: the stream itself ends in order");
    let kinds = reply.kinds();
    assert_eq!(kinds.last().map(String::as_str), Some("error"), "{fault}: {kinds:?}");
    assert!(!kinds.iter().any(|kind| kind == "message_stop"), "{fault}: {kinds:?}");
    assert_eq!(kinds.iter().filter(|kind| *kind == "error").count(), 1);
    assert!(!reply.text().is_empty() && text.starts_with(&reply.text()), "{fault}: {}", reply.text());
    assert!(began.elapsed() < Duration::from_millis(1500), "{fault}: {:?}", began.elapsed());
    assert_eq!((asked(&up[0]), asked(&up[1])), (1, 0), "{fault}: nothing is replayed");
    assert!(daemon.comes_to_rest(Duration::from_secs(1)).await);
}

#[tokio::test]
async fn a_stream_that_breaks_after_output_ends_with_an_error() {
    for fault in [
        "{ cut = { after_outputs = 2 } }",
        "{ hang_up = { after_outputs = 2 } }",
        "{ reset = { after_outputs = 2 } }",
        "{ stall = { after_outputs = 2 } }",
        "{ corrupt = { after_outputs = 2 } }",
        "{ error = { at = { after_outputs = 2 }, fail = { kind = \"overloaded\" } } }",
        "\"no_terminator\"",
        "{ cut = { before_end = true } }",
    ] {
        breaks_honestly(fault).await;
    }
}

#[tokio::test]
async fn a_stream_that_breaks_before_output_is_never_seen() {
    for fault in [
        "{ cut = { after_events = 1 } }",
        "{ hang_up = { after_events = 1 } }",
        "{ reset = {} }",
        "{ stall = {} }",
        "{ corrupt = { after_events = 1 } }",
        "{ error = { at = { after_events = 1 }, fail = { kind = \"overloaded\" } } }",
        "{ error_body = { kind = \"overloaded\" } }",
    ] {
        let (up, daemon) = impatient(&format!("[[rule]]\nanswer = {{ fault = {fault} }}")).await;
        let reply = daemon.ask(&streamed("hello")).await;
        assert!(reply.ended_well(), "{fault}: {reply:?}");
        assert_eq!(reply.text(), B, "{fault}");
        assert_eq!(reply.kinds().iter().filter(|kind| *kind == "message_start").count(), 1, "{fault}");
        assert_eq!(asked(&up[1]), 1, "{fault}");
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_before_its_first_output_is_retried_there_where_nobody_else_is() {
    for fault in [
        "{ cut = { after_events = 1 } }",
        "{ hang_up = { after_events = 1 } }",
        "{ reset = { after_events = 1 } }",
        "{ corrupt = { after_events = 1 } }",
    ] {
        for (body, kind) in
            [(message("hello"), "anthropic"), (streamed("hello"), "anthropic"), (streamed("hello"), "openai")]
        {
            let breaks = |times: u32| {
                format!("[[rule]]\ntimes = {times}\nanswer = {{ fault = {fault} }}\n{}", says("whole"))
            };
            let alone = |up: &cproxy::simulator::Running| {
                format!(
                    "[routing]\nretry_delay = \"10ms\"\n{}",
                    provider("a", up, &format!("kind = \"{kind}\""))
                )
            };
            let up = upstream(&breaks(2)).await;
            let daemon = Daemon::start(&alone(&up)).await;
            let reply = daemon.ask(&body).await;
            assert!(reply.ended_well(), "{kind}, {fault}: {reply:?}");
            assert_eq!((reply.text().as_str(), asked(&up)), ("whole", 3), "{kind}, {fault}");
            assert!(daemon.comes_to_rest(Duration::from_secs(1)).await);

            // As often as `retry_attempts` allows, and then the caller is told.
            let up = upstream(&breaks(9)).await;
            let daemon = Daemon::start(&alone(&up)).await;
            let reply = daemon.ask(&body).await;
            assert!(!reply.ended_well(), "{kind}, {fault}: {reply:?}");
            assert_eq!(asked(&up), 3, "{kind}, {fault}");
        }
    }
}

#[tokio::test]
async fn for_who_does_not_stream_the_whole_answer_is_before_the_commit_point() {
    for fault in [
        "{ cut = { after_events = 1 } }",
        "{ hang_up = { after_events = 1 } }",
        "{ reset = { after_events = 1 } }",
        "{ stall = { after_events = 1 } }",
        "{ corrupt = { after_events = 1 } }",
        "{ error_body = { kind = \"overloaded\" } }",
    ] {
        let (up, daemon) = impatient(&format!("[[rule]]\nanswer = {{ fault = {fault} }}")).await;
        let reply = daemon.ask(&message("hello")).await;
        assert!(reply.ended_well(), "{fault}: {reply:?}");
        assert_eq!(reply.text(), B, "{fault}");
        assert_eq!(asked(&up[1]), 1, "{fault}");
    }
}

#[tokio::test]
async fn a_too_long_context_goes_only_to_a_larger_window() {
    let long = "[[rule]]\nanswer = { fail = { kind = \"context_length\" } }";
    for body in [message("hello"), streamed("hello")] {
        let up = upstreams(&[long, &says("from b"), &says("from c")]).await;
        let window = |tokens: u64, tier: u32| {
            format!("capabilities = {{ context_window = {tokens} }}\npriority = {tier}")
        };
        let config = ROUTING.to_owned()
            + &provider("a", &up[0], &window(200_000, 1))
            + &provider("b", &up[1], &window(200_000, 2))
            + &provider("c", &up[2], &window(1_000_000, 3));
        let daemon = Daemon::start(&config).await;
        assert_eq!(daemon.ask(&body).await.text(), "from c");
        assert_eq!(up.iter().map(asked).collect::<Vec<_>>(), [1, 0, 1]);
    }
    // With nobody larger the caller gets the upstream's own words, once.
    let (up, daemon) = two(long, "").await;
    let reply = daemon.ask(&message("hello")).await;
    assert_eq!((reply.status, reply.error().as_str()), (400, "invalid_request_error"));
    assert!(reply.body.contains("prompt is too long"), "{}", reply.body);
    assert_eq!((asked(&up[0]), asked(&up[1])), (1, 0));
}

#[tokio::test]
async fn a_refused_content_is_not_carried_elsewhere() {
    for body in [message("hello"), streamed("hello")] {
        let (up, daemon) = two("[[rule]]\nanswer = { fail = { kind = \"content_policy\" } }", "").await;
        let reply = daemon.ask(&body).await;
        assert_eq!((reply.status, reply.error().as_str()), (400, "invalid_request_error"), "{reply:?}");
        assert_eq!((asked(&up[0]), asked(&up[1])), (1, 0));
    }
}

#[tokio::test]
async fn a_callers_fault_is_answered_in_the_upstreams_words() {
    let (up, daemon) =
        two("[[rule]]\nanswer = { fail = { kind = \"bad_request\", message = \"tools.0: no\" } }", "").await;
    for _ in 0..4 {
        let reply = daemon.ask(&message("hello")).await;
        assert_eq!(reply.status, 400);
        assert!(reply.body.contains("tools.0: no"));
    }
    assert_eq!((asked(&up[0]), asked(&up[1])), (4, 0), "and it opens no breaker");
}

#[tokio::test]
async fn a_flapping_provider_loses_nothing() {
    let (up, daemon) = two("", "").await;
    let (well, ill) = (
        Script::parse(&says(A)).unwrap(),
        Script::parse("[[rule]]\nanswer = { fail = { status = 500 } }").unwrap(),
    );
    for n in 0..40 {
        if n % 4 == 0 {
            up[0].handle().set_script(if n % 8 == 0 { ill.clone() } else { well.clone() });
        }
        let body = if n % 2 == 0 { message("hello") } else { streamed("hello") };
        let reply = daemon.ask(&body).await;
        assert!(reply.ended_well(), "{n}: {reply:?}");
        if n % 10 == 9 {
            pass(Duration::from_secs(20)).await;
        }
    }
}

#[tokio::test]
async fn tokens_are_accounted_once_although_two_providers_were_asked() {
    let up = upstreams(&[
        "[[rule]]\nanswer = { fail = { status = 404 } }",
        "[[rule]]\nanswer = { parts = [{ text = \"yes\" }], usage = { input = 700, output = 50 } }",
    ])
    .await;
    let limits = |tier: u32| format!("limits = {{ tokens_per_day = 100000 }}\npriority = {tier}");
    let config = ROUTING.to_owned() + &provider("a", &up[0], &limits(1)) + &provider("b", &up[1], &limits(2));
    let daemon = Daemon::start(&config).await;
    for body in [message("hello"), streamed("hello")] {
        let reply = daemon.ask(&body).await;
        assert_eq!(reply.text(), "yes");
        let usage = match reply.body.starts_with('{') {
            true => reply.json()["usage"].clone(),
            false => reply.events().iter().rev().find_map(|event| event.get("usage")).unwrap().clone(),
        };
        assert_eq!(usage["output_tokens"], 50);
    }
    assert!(daemon.comes_to_rest(Duration::from_secs(1)).await);
    let level = |name: &str| {
        let entries = daemon.directory().entries.load_full();
        let cell = &entries.get(name).unwrap().cell;
        cell.settle_returned(cproxy::runtime::clock::now(), 0);
        let buckets = cell.view(cproxy::runtime::clock::now()).buckets;
        buckets.iter().find(|(name, _, _)| name.contains("token")).unwrap().1.round()
    };
    assert_eq!(level("a"), 100_000.0, "an attempt without an answer used nothing");
    assert!((98_500.0..98_502.5).contains(&level("b")), "{}", level("b"));
}

#[tokio::test]
async fn a_model_that_a_provider_does_not_know_is_asked_of_the_next_within_the_hops() {
    let unknown = "[[rule]]\nanswer = { fail = { status = 404 } }";
    let up = upstreams(&[unknown, unknown, unknown, &says("from d")]).await;
    let daemon = Daemon::start(&in_order(&up, "[routing]\nmax_hops = 2\n")).await;
    let reply = daemon.ask(&message("hello")).await;
    assert_eq!(reply.status, 404);
    assert_eq!(up.iter().map(asked).collect::<Vec<_>>(), [1, 1, 0, 0]);
    for name in ["a/claude-x", "b/claude-x"] {
        assert!(reply.header("x-cproxy-route").contains(name), "{reply:?}");
        assert!(reply.body.contains(name), "{}", reply.body);
    }
}

#[tokio::test]
async fn failover_crosses_dialects() {
    for body in [message("hello"), streamed("hello")] {
        let up =
            upstreams(&["[[rule]]\nanswer = { fail = { status = 529 } }", &says(B), &says("from c")]).await;
        let config = "[routing]\nretry_attempts = 0\n".to_owned()
            + &provider("a", &up[0], "priority = 1")
            + &provider("b", &up[1], "kind = \"openrouter\"\npriority = 2\nmodels = [\"claude-x\"]");
        let daemon = Daemon::start(&config).await;
        let reply = daemon.ask(&body).await;
        assert!(reply.ended_well(), "{reply:?}");
        assert_eq!(reply.text(), B);
        assert_eq!(up[1].handle().requests()[0].path, "/api/v1/chat/completions");
    }
}

#[tokio::test]
async fn a_total_outage_costs_each_request_one_attempt_and_the_daemon_its_retry_budget() {
    let dead = "[[rule]]\nanswer = { fail = { status = 503 } }";
    let up = upstreams(&[dead, dead]).await;
    let daemon = Daemon::start(&in_order(&up, "[routing]\nretry_delay = \"1ms\"\n")).await;
    let (requests, began) = (400, Instant::now());
    for n in 0..requests {
        let reply = daemon.ask(&json!({ "n": n, "model": "claude-x", "max_tokens": 9, "messages": [{ "role": "user", "content": "hi" }] })).await;
        assert!(reply.status >= 429, "{reply:?}");
        assert!(reply.body.contains("a/claude-x") || reply.header("x-cproxy-route").contains("a/claude-x"));
    }
    let attempts = asked(&up[0]) + asked(&up[1]);
    // A fifth of the requests, what ten seconds saved up, and ten a second.
    let budget = f64::from(requests) * 0.2 + 100.0 + 10.0 * began.elapsed().as_secs_f64();
    assert!(
        (attempts as f64) <= f64::from(requests) + budget + 1.0,
        "{attempts} attempts, a budget of {budget}"
    );
}

#[tokio::test]
async fn with_every_breaker_open_those_who_ask_are_served_as_soon_as_anybody_is_back() {
    let dead = "[[rule]]\nanswer = { fail = { status = 500 } }";
    for (alone, body) in [(true, message("hello")), (false, streamed("hello"))] {
        let up = upstreams(&[dead; 2][..if alone { 1 } else { 2 }]).await;
        let daemon = Daemon::start(&in_order(&up, "")).await;
        let open = |name: &str| {
            let now = cproxy::runtime::clock::now();
            let entries = daemon.directory().entries.load_full();
            let cell = &entries.get(name).unwrap().cell;
            cell.settle_returned(now, 0);
            cell.vital("claude-x", true, now).open_until.is_some()
        };
        let reply = daemon.ask(&body).await;
        assert_eq!(reply.error(), "api_error", "{reply:?}");
        assert!(open("a") && (alone || open("b")), "three failures in a row opened them");
        let before: usize = up.iter().map(asked).sum();
        let reply = daemon.ask(&body).await;
        assert!(!reply.ended_well());
        let tried: usize = up.iter().map(asked).sum::<usize>() - before;
        assert_eq!(tried, up.len(), "each once, and none of them again");
        for name in if alone { vec!["a/claude-x"] } else { vec!["a/claude-x", "b/claude-x"] } {
            assert!(reply.header("x-cproxy-route").contains(&format!("{name}: server_error")), "{reply:?}");
        }
        // The last of them is back, while its breaker is still open.
        let last = up.last().unwrap();
        last.handle().set_script(Script::parse(&says("back again")).unwrap());
        let name = crate::inside::name(up.len() - 1);
        assert!(open(&name));
        assert_eq!(daemon.ask(&body).await.text(), "back again");
        assert!(!open(&name), "that it served closed its breaker");
        let before = asked(last);
        assert_eq!(daemon.ask(&body).await.text(), "back again");
        assert_eq!(asked(last), before + 1);
    }
}

#[tokio::test]
async fn a_silent_upstream_is_moved_from_also_for_who_does_not_stream() {
    let up = upstreams(&["[[rule]]\nanswer = { fault = \"silence\" }", &says(B)]).await;
    let daemon = Daemon::start(&in_order(&up, "")).await;
    let ask = async |daemon: &Daemon, up: &cproxy::simulator::Running, seconds: u64| {
        let seen = asked(up) + 1;
        let reply = tokio::spawn(crate::inside::Reply::read(daemon.request(message("hello").to_string())));
        let came = move |up: &cproxy::simulator::Handle| up.requests().len() >= seen;
        assert!(up.handle().wait_until(Duration::from_secs(2), came).await);
        pass(Duration::from_secs(seconds)).await;
        tokio::time::timeout(Duration::from_millis(500), reply).await.ok().map(Result::unwrap)
    };
    // A minute for the first output, and 51 seconds in which 1024 tokens are written slowly.
    assert_eq!(ask(&daemon, &up[0], 112).await.unwrap().text(), B);
    // With nobody else it may take as long as it takes.
    let alone = upstreams(&["[[rule]]\nanswer = { fault = \"silence\" }"]).await;
    let daemon = Daemon::start(&in_order(&alone, "")).await;
    assert!(ask(&daemon, &alone[0], 112).await.is_none());
}
