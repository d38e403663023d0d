//! The MCP front as a client sees it, over a pipe in this process and over HTTP, with a daemon played by the
//! test.

#![allow(clippy::unwrap_used, clippy::expect_used, deprecated)]

#[path = "mcp_front/fake.rs"]
mod fake;
#[path = "mcp_front/http.rs"]
mod http;
#[path = "mcp_front/protocol.rs"]
mod protocol;
#[path = "mcp_front/user.rs"]
mod user;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fake::Fake;
use rmcp::model::*;
use rmcp::service::PeerRequestOptions;
use serde_json::{Value, json};
use user::{Windows, call, connect, connect_with, object};

fn structured(result: &CallToolResult) -> &Value {
    result.structured_content.as_ref().expect("structured content")
}

#[tokio::test]
async fn a_question_is_answered_with_a_result_that_is_complete_by_itself() {
    let client = connect(Fake::new()).await;
    let result = call(&client, "proxy_completion", json!({ "messages": "hello", "model": "echo" })).await;
    assert_eq!(result.is_error, Some(false));
    let content = structured(&result);
    assert_eq!(content["text"], "hello");
    assert_eq!(content["model"], "echo-1");
    assert_eq!(content["provider"], "fake");
    assert_eq!(content["finish_reason"], "end_turn");
    assert_eq!(content["usage"], json!({ "input_tokens": 3, "output_tokens": 5, "cache_read_tokens": 2 }));
    assert!(content["conversation_id"].as_str().unwrap().starts_with("conv_"));
    assert_eq!(result.content[0].as_text().unwrap().text, "hello");
}

#[tokio::test]
async fn tools_of_either_shape_go_through_and_calls_come_back() {
    let fake = Fake::new();
    let client = connect(fake.clone()).await;
    let tools =
        json!([{ "type": "function", "function": { "name": "f", "parameters": { "type": "object" } } }]);
    let arguments = json!({ "messages": "go", "model": "calls", "tools": tools, "max_tokens": "77" });
    let result = call(&client, "proxy_completion", arguments).await;
    assert_eq!(
        structured(&result)["tool_calls"],
        json!([{ "id": "t1", "name": "f", "arguments": { "a": 1 } }])
    );
    let sent = fake.last_body();
    assert_eq!(sent["tools"][0]["input_schema"], json!({ "type": "object" }));
    assert_eq!(sent["max_tokens"], 77);
    assert_eq!(sent["stream"], true);
}

#[tokio::test]
async fn failures_are_tool_errors_that_say_what_to_do() {
    let client = connect(Fake::new()).await;
    let limited = call(&client, "proxy_completion", json!({ "messages": "x", "model": "limited" })).await;
    assert_eq!(limited.is_error, Some(true));
    let error = &structured(&limited)["error"];
    assert_eq!(error["type"], "rate_limit_error");
    assert_eq!((error["status"].as_u64(), error["retry_after_s"].as_u64()), (Some(429), Some(7)));
    assert!(error["advice"].as_str().unwrap().contains("cproxy://health"));
    let shown = &limited.content[0].as_text().unwrap().text;
    assert!(shown.contains("429") && shown.contains("slow down") && shown.contains("wait 7 s"), "{shown}");

    let cut = call(&client, "proxy_completion", json!({ "messages": "x", "model": "cut" })).await;
    assert_eq!(cut.is_error, Some(true), "a cut stream is no answer");
    assert_eq!(structured(&cut)["text"], "half an ans");
}

#[tokio::test]
async fn wrong_arguments_are_tool_errors_and_unknown_tools_protocol_errors() {
    let client = connect(Fake::new()).await;
    for (arguments, says) in [
        (json!({}), "`messages` is missing"),
        (json!({ "messages": 7 }), "`messages` must be"),
        (json!({ "messages": "x", "model": ["a"] }), "`model` must be text"),
        (json!({ "messages": "x", "max_tokens": "many" }), "`max_tokens` must be a whole number"),
        (json!({ "messages": "x", "modle": "y" }), "unknown argument `modle`"),
        (json!({ "messages": "x", "provider": "nobody" }), "no model of provider \"nobody\""),
        (json!({ "messages": "x", "conversation_id": "conv_gone" }), "no conversation \"conv_gone\""),
        (json!({ "messages": "x", "files": ["a.txt"] }), "names no roots"),
    ] {
        let result = call(&client, "proxy_completion", arguments.clone()).await;
        assert_eq!(result.is_error, Some(true), "{arguments}");
        let message = structured(&result)["error"]["message"].as_str().unwrap();
        assert!(message.contains(says), "{arguments}: {message}");
    }
    let unknown = client.call_tool(CallToolRequestParams::new("proxy_dance")).await.unwrap_err();
    assert!(unknown.to_string().contains("unknown tool \"proxy_dance\""), "{unknown}");
    assert_eq!(call(&client, "proxy_completion", json!({ "messages": "x" })).await.is_error, Some(false));
}

#[tokio::test]
async fn a_panic_in_the_daemon_is_answered_and_the_server_lives_on() {
    let client = connect(Fake::new()).await;
    for tool in ["proxy_completion", "explain_route"] {
        let result = call(&client, tool, json!({ "messages": "x", "model": "panic" })).await;
        assert_eq!(structured(&result)["error"]["type"], "internal_error", "{tool}");
    }
    let read = client.read_resource(ReadResourceRequestParams::new("cproxy://usage")).await;
    assert!(read.unwrap_err().to_string().contains("internal error"));
    assert_eq!(call(&client, "proxy_completion", json!({ "messages": "x" })).await.is_error, Some(false));
}

#[tokio::test]
async fn a_timeout_ends_the_call_and_its_upstream() {
    let fake = Fake::new();
    let client = connect(fake.clone()).await;
    let result =
        call(&client, "proxy_completion", json!({ "messages": "x", "model": "stalled", "timeout": 0.05 }))
            .await;
    assert_eq!(structured(&result)["error"]["type"], "timeout");
    assert_eq!(fake.closed.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn text_comes_as_progress_in_pieces_that_make_up_the_answer() {
    let window = Windows::default();
    let client = connect_with(Fake::new(), window.clone()).await;
    let arguments = object(json!({ "messages": "x", "model": "steps" }));
    let request = ClientRequest::CallToolRequest(CallToolRequest::new(
        CallToolRequestParams::new("proxy_completion").with_arguments(arguments),
    ));
    let handle = client.send_cancellable_request(request, PeerRequestOptions::no_options()).await.unwrap();
    let ServerResult::CallToolResult(result) = handle.await_response().await.unwrap() else {
        panic!("no result")
    };
    let pieces = window.progress.lock().unwrap().clone();
    assert!(pieces.windows(2).all(|pair| pair[0].0 < pair[1].0), "progress grows");
    assert!(pieces.iter().any(|(_, message)| message == "trying fake"), "notes of the exchange come too");
    let text: String = pieces
        .iter()
        .filter(|(_, message)| message != "trying fake")
        .map(|(_, piece)| piece.as_str())
        .collect();
    assert_eq!(text, structured(&result)["text"].as_str().unwrap());
    let tokens = fake::STEPS * 4;
    assert!((2..tokens / 4).contains(&pieces.len()), "{} pieces of {tokens} tokens", pieces.len());
}

#[tokio::test]
async fn cancelling_a_call_closes_its_answer_within_100_ms() {
    let fake = Fake::new();
    let client = connect(fake.clone()).await;
    for model in ["stalled", "never-answers"] {
        let before = fake.closed.load(Ordering::SeqCst);
        let arguments = object(json!({ "messages": "x", "model": model }));
        let request = ClientRequest::CallToolRequest(CallToolRequest::new(
            CallToolRequestParams::new("proxy_completion").with_arguments(arguments),
        ));
        let handle =
            client.send_cancellable_request(request, PeerRequestOptions::no_options()).await.unwrap();
        fake.wait_open(1).await;
        handle.cancel(Some("enough".into())).await.unwrap();
        tokio::time::timeout(Duration::from_millis(100), fake.wait_open(0)).await.expect("closed in time");
        assert_eq!(fake.closed.load(Ordering::SeqCst), before + 1);
    }
}

#[tokio::test]
async fn of_64_calls_a_stalled_one_delays_none() {
    let fake = Fake::new();
    let client = Arc::new(connect(fake.clone()).await);
    let stalled = {
        let client = client.clone();
        tokio::spawn(async move {
            call(&client, "proxy_completion", json!({ "messages": "x", "model": "stalled" })).await
        })
    };
    fake.wait_open(1).await;
    let others = (0..63).map(|n| {
        let client = client.clone();
        tokio::spawn(async move {
            let result =
                call(&client, "proxy_completion", json!({ "messages": format!("n{n}"), "model": "echo" }))
                    .await;
            assert_eq!(structured(&result)["text"], format!("n{n}"));
        })
    });
    let others = futures_util::future::join_all(others.collect::<Vec<_>>());
    for other in tokio::time::timeout(Duration::from_secs(5), others).await.expect("undelayed") {
        other.unwrap();
    }
    assert!(!stalled.is_finished());
    stalled.abort();
}

#[tokio::test]
async fn a_conversation_goes_on_with_another_model_and_outlives_the_front() {
    let fake = Fake::new();
    let sessions = Arc::new(cproxy::front::mcp::Sessions::new());
    let first = user::connect_to(fake.clone(), sessions.clone(), Windows::default()).await;
    let result =
        call(&first, "proxy_completion", json!({ "messages": "one", "model": "echo", "system": "s" })).await;
    let id = structured(&result)["conversation_id"].clone();
    first.cancel().await.unwrap();

    let second = user::connect_to(fake.clone(), sessions, Windows::default()).await;
    let arguments = json!({ "messages": "two", "model": "other", "conversation_id": id });
    let result = call(&second, "proxy_completion", arguments).await;
    assert_eq!(structured(&result)["conversation_id"], id);
    let sent = fake.last_body();
    assert_eq!(sent["system"], "s");
    assert_eq!(
        sent["messages"],
        json!([
            { "role": "user", "content": "one" },
            { "role": "assistant", "content": [{ "type": "text", "text": "one" }] },
            { "role": "user", "content": "two" }
        ])
    );
}

#[tokio::test]
async fn a_long_answer_is_cut_and_its_rest_can_be_read() {
    let client = connect(Fake::new()).await;
    let result = call(&client, "proxy_completion", json!({ "messages": "x", "model": "long" })).await;
    let content = structured(&result);
    let mut text = content["text"].as_str().unwrap().strip_suffix("\n[…]").unwrap().to_owned();
    assert!(text.len() < 100_000);
    assert!(result.content.iter().any(|block| block.as_resource_link().is_some()));
    let mut next = Some(content["rest"].as_str().unwrap().to_owned());
    while let Some(uri) = next {
        let piece = user::read(&client, &uri).await;
        text.push_str(piece["text"].as_str().unwrap());
        next = piece["next"].as_str().map(str::to_owned);
    }
    assert_eq!(text, fake::long());
}

#[tokio::test]
async fn files_are_read_below_the_clients_roots_and_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("notes.txt"), "the secret is 42").unwrap();
    let fake = Fake::new();
    let window = Windows { root: Some(format!("file://{}", dir.path().display())), ..Windows::default() };
    let client = connect_with(fake.clone(), window).await;
    let arguments = json!({ "messages": "what?", "files": ["notes.txt"] });
    let result = call(&client, "proxy_completion", arguments).await;
    assert_eq!(result.is_error, Some(false), "{result:?}");
    let sent = fake.last_body().to_string();
    assert!(sent.contains("the secret is 42"), "{sent}");

    let outside =
        call(&client, "proxy_completion", json!({ "messages": "x", "files": ["/etc/hostname"] })).await;
    assert!(structured(&outside)["error"]["message"].as_str().unwrap().contains("outside"));
}

#[tokio::test]
async fn comparing_gives_every_answer_and_every_failure_side_by_side() {
    let client = connect(Fake::new()).await;
    let arguments =
        json!({ "messages": "q", "models": ["echo", "limited", "panic", "stalled"], "timeout": 0.3 });
    let result = call(&client, "proxy_compare", arguments).await;
    assert_eq!(result.is_error, Some(false));
    let answers = structured(&result)["answers"].as_array().unwrap();
    let kinds: Vec<_> = answers.iter().map(|answer| answer["error"]["type"].as_str()).collect();
    assert_eq!(kinds, [None, Some("rate_limit_error"), Some("internal_error"), Some("timeout")]);
    assert_eq!(answers[0]["text"], "q");
    assert!(answers[0]["seconds"].is_number());
    assert_eq!(answers[2]["asked"], "panic");
}

#[tokio::test]
async fn each_answer_of_a_comparison_is_told_as_it_arrives() {
    let window = Windows::default();
    let client = connect_with(Fake::new(), window.clone()).await;
    // The slow one is named first, and told last.
    let arguments = object(json!({ "messages": "hello there", "models": ["stalled", "echo"], "timeout": 1 }));
    let request = ClientRequest::CallToolRequest(CallToolRequest::new(
        CallToolRequestParams::new("proxy_compare").with_arguments(arguments),
    ));
    let handle = client.send_cancellable_request(request, PeerRequestOptions::no_options()).await.unwrap();
    fake::until(|| window.progress.lock().unwrap().len() == 1).await;
    let told = window.progress.lock().unwrap()[0].1.clone();
    assert!(
        told.contains("echo answered") && told.contains("(1 of 2)") && told.contains("hello there"),
        "{told}"
    );
    handle.await_response().await.unwrap();
    let told = window.progress.lock().unwrap()[1].1.clone();
    assert!(told.contains("stalled failed (2 of 2)"), "{told}");
}

#[tokio::test]
async fn images_come_as_urls_as_data_and_from_files() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.png"), [0x89, b'P', b'N', b'G', 0, 1]).unwrap();
    std::fs::write(dir.path().join("a.txt"), "text").unwrap();
    let fake = Fake::new();
    let window = Windows { root: Some(format!("file://{}", dir.path().display())), ..Windows::default() };
    let client = connect_with(fake.clone(), window).await;
    let images = json!([
        "https://example.com/a.jpg",
        "data:image/gif;base64,R0lG",
        { "data": "AAAA", "media_type": "image/webp" },
        "a.png"
    ]);
    let result = call(&client, "proxy_completion", json!({ "messages": "what?", "images": images })).await;
    assert_eq!(result.is_error, Some(false), "{result:?}");
    let content = fake.last_body()["messages"][0]["content"].clone();
    let sources: Vec<_> = content.as_array().unwrap().iter().map(|block| &block["source"]).collect();
    assert_eq!(sources[0]["url"], "https://example.com/a.jpg");
    let kinds: Vec<_> = sources[1..4].iter().map(|source| source["media_type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["image/gif", "image/webp", "image/png"]);
    assert_eq!(content[4]["text"], "what?");

    for (image, says) in
        [(json!("a.txt"), "is no image"), (json!("data:image/png,x"), "base64"), (json!(7), "must be")]
    {
        let result = call(&client, "proxy_completion", json!({ "messages": "x", "images": [image] })).await;
        let message = structured(&result)["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(says), "{message}");
    }
}

#[tokio::test]
async fn changes_need_leave_and_are_done_with_it() {
    let fake = Fake::new();
    let client = connect(fake.clone()).await;
    let arguments = json!({ "action": "disable", "provider": "fake" });
    let refused = call(&client, "proxy_config", arguments.clone()).await;
    assert_eq!(structured(&refused)["error"]["type"], "changes_not_allowed");
    assert!(fake.commands.lock().unwrap().is_empty());
    let shown = call(&client, "proxy_config", json!({ "action": "get" })).await;
    assert_eq!(structured(&shown)["config"]["server"]["port"], 3000);

    fake.allow(|settings| settings.allow_changes = true);
    assert_eq!(call(&client, "proxy_config", arguments).await.is_error, Some(false));
    call(&client, "proxy_config", json!({ "action": "strategy", "strategy": "least-connections" })).await;
    let commands = format!("{:?}", fake.commands.lock().unwrap());
    assert_eq!(commands, "[SetProviderEnabled(ProviderId(\"fake\"), false), SetStrategy(LeastConnections)]");
}

#[tokio::test]
async fn faults_are_listed_and_injected_only_when_enabled() {
    let fake = Fake::new();
    let client = connect(fake.clone()).await;
    let names = |tools: Vec<Tool>| tools.into_iter().map(|tool| tool.name.into_owned()).collect::<Vec<_>>();
    assert_eq!(
        names(client.list_all_tools().await.unwrap()),
        ["proxy_completion", "proxy_compare", "proxy_config", "explain_route"]
    );
    let fault = CallToolRequestParams::new("inject_fault").with_arguments(object(json!({ "fault": "kill" })));
    assert!(client.call_tool(fault.clone()).await.is_err());
    fake.allow(|settings| settings.faults_enabled = true);
    assert!(names(client.list_all_tools().await.unwrap()).contains(&"inject_fault".to_owned()));
    assert_eq!(client.call_tool(fault).await.unwrap().is_error, Some(false));
}

#[tokio::test]
async fn all_schemas_together_cost_less_than_2000_tokens() {
    let fake = Fake::new();
    fake.allow(|settings| {
        settings.allow_changes = true;
        settings.faults_enabled = true;
    });
    let client = connect(fake).await;
    let tools = client.list_all_tools().await.unwrap();
    let bytes = serde_json::to_vec(&tools).unwrap().len();
    assert!((bytes as f64) / 3.6 < 2000.0, "{bytes} bytes");
    for tool in &tools {
        assert!(!serde_json::to_string(&tool.input_schema).unwrap().contains("\"format\":\"uint"));
        assert!(tool.annotations.is_some());
    }
    let info = client.peer_info().unwrap();
    assert!(info.instructions.as_ref().unwrap().len() <= 2048);
    assert_eq!(info.server_info.as_ref().unwrap().name, "claude-code-proxy");
}

#[tokio::test]
async fn every_argument_that_a_schema_names_is_understood() {
    let fake = Fake::new();
    fake.allow(|settings| {
        settings.allow_changes = true;
        settings.faults_enabled = true;
    });
    let client = connect(fake).await;
    for tool in client.list_all_tools().await.unwrap() {
        for name in tool.input_schema["properties"].as_object().unwrap().keys() {
            // Never the right type, so that nothing is run; the complaint must not be that it is unknown.
            let mut arguments =
                object(json!({ "action": "get", "fault": "off", "messages": "x", "model": "limited" }));
            arguments.retain(|key, _| tool.input_schema["properties"].get(key).is_some());
            arguments.insert(name.clone(), json!({ "": [] }));
            let request = CallToolRequestParams::new(tool.name.clone()).with_arguments(arguments);
            let result = client.call_tool(request).await.unwrap();
            assert!(!format!("{result:?}").contains("unknown argument"), "{}: {name}", tool.name);
        }
    }
}

#[tokio::test]
async fn resources_are_listed_read_and_completed() {
    let client = connect(Fake::new()).await;
    let uris: Vec<String> =
        client.list_all_resources().await.unwrap().into_iter().map(|resource| resource.uri.clone()).collect();
    for uri in uris.iter().filter(|uri| *uri != "cproxy://usage") {
        let result = client.read_resource(ReadResourceRequestParams::new(uri.as_str())).await.unwrap();
        let ResourceContents::TextResourceContents { mime_type, text, .. } = &result.contents[0] else {
            panic!("{uri} is not text");
        };
        assert_eq!(mime_type.as_deref(), Some("application/json"));
        assert!(serde_json::from_str::<Value>(text).unwrap().is_object(), "{uri}");
    }
    assert_eq!(user::read(&client, "cproxy://health").await["ok"], true);
    assert_eq!(user::read(&client, "cproxy://models").await["models"][0]["id"], "echo");
    assert_eq!(user::read(&client, "cproxy://providers/fake").await["kind"], "local");
    assert_eq!(client.list_all_resource_templates().await.unwrap().len(), 4);
    assert_eq!(user::read(&client, "cproxy://models?from=1").await["models"][0]["id"], "stalled");
    for gone in [
        "cproxy://providers/none",
        "cproxy://answers/none",
        "cproxy://models?from=x",
        "cproxy://",
        "file:///etc/passwd",
    ] {
        let error = client.read_resource(ReadResourceRequestParams::new(gone)).await.unwrap_err();
        assert!(error.to_string().contains("no such resource"), "{error}");
    }
    let completed =
        client.complete_resource_argument("cproxy://providers/{id}", "id", "fa", None).await.unwrap();
    assert_eq!(completed.values, ["fake"]);
    let completed = client.complete_prompt_argument("consensus", "models", "echo,st", None).await.unwrap();
    assert_eq!(completed.values, ["echo,stalled", "echo,steps"]);
    let completed = client.complete_prompt_argument("status", "provider", "F", None).await.unwrap();
    assert_eq!(completed.values, ["fake"]);
}

#[tokio::test]
async fn prompts_are_listed_and_filled_in() {
    let client = connect(Fake::new()).await;
    let names: Vec<_> =
        client.list_all_prompts().await.unwrap().into_iter().map(|prompt| prompt.name).collect();
    assert_eq!(names, ["second_opinion", "consensus", "status"]);
    let arguments = object(json!({ "model": "echo", "question": "why?" }));
    let prompt = client
        .get_prompt(GetPromptRequestParams::new("second_opinion").with_arguments(arguments))
        .await
        .unwrap();
    let text = serde_json::to_string(&prompt.messages).unwrap();
    assert!(text.contains("echo") && text.contains("why?") && text.contains("proxy_completion"));
    let arguments = object(json!({ "provider": "fake" }));
    let prompt =
        client.get_prompt(GetPromptRequestParams::new("status").with_arguments(arguments)).await.unwrap();
    assert!(serde_json::to_string(&prompt.messages).unwrap().contains("cproxy://providers/fake"));
    assert!(client.get_prompt(GetPromptRequestParams::new("dance")).await.is_err());
}

#[tokio::test]
async fn subscribers_hear_once_of_what_reads_differently_and_of_nothing_else() {
    let (fake, window) = (Fake::new(), Windows::default());
    let client = connect_with(fake.clone(), window.clone()).await;
    for uri in ["cproxy://status", "cproxy://models"] {
        client.subscribe(SubscribeRequestParams::new(uri)).await.unwrap();
    }
    assert!(client.subscribe(SubscribeRequestParams::new("x".repeat(3000))).await.is_err());
    for requests in 1..=20 {
        fake.change(|status| status.requests = requests);
    }
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert_eq!(*window.updated.lock().unwrap(), ["cproxy://status"]);

    // Only the time has passed: nobody need be told.
    fake.change(|status| status.uptime_s += 1);
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(window.updated.lock().unwrap().len(), 1);

    client.unsubscribe(UnsubscribeRequestParams::new("cproxy://status")).await.unwrap();
    fake.change(|status| status.config.generation += 1);
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(window.updated.lock().unwrap().len(), 1);
    assert_eq!(window.lists_changed.load(Ordering::SeqCst), 2, "tools and resources may have changed");
}

#[tokio::test]
async fn log_messages_keep_to_the_level_that_the_client_set() {
    let window = Windows::default();
    let client = connect_with(Fake::new(), window.clone()).await;
    call(&client, "proxy_completion", json!({ "messages": "x", "model": "limited" })).await;
    fake::until(|| window.logs.load(Ordering::SeqCst) == 1).await;
    client.set_level(SetLevelRequestParams::new(LoggingLevel::Error)).await.unwrap();
    call(&client, "proxy_completion", json!({ "messages": "x", "model": "limited" })).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(window.logs.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_happens_to_the_daemon_is_told_at_its_level() {
    let (fake, window) = (Fake::new(), Windows::default());
    let client = connect_with(fake.clone(), window.clone()).await;
    client.set_level(SetLevelRequestParams::new(LoggingLevel::Info)).await.unwrap();
    call(&client, "proxy_completion", json!({ "messages": "x" })).await;
    fake::until(|| window.logs.load(Ordering::SeqCst) == 1).await;
    client.set_level(SetLevelRequestParams::new(LoggingLevel::Warning)).await.unwrap();
    fake.change(|status| status.config.generation += 1);
    fake::until(|| window.lists_changed.load(Ordering::SeqCst) == 2).await;
    fake.change(|status| status.providers[0].health = "timeout".into());
    fake::until(|| window.logs.load(Ordering::SeqCst) == 2).await;
}

#[tokio::test]
async fn a_conversation_that_has_grown_too_long_says_so() {
    let client = connect(Fake::new()).await;
    let result = call(&client, "proxy_completion", json!({ "messages": "x".repeat(5 << 20) })).await;
    let id = structured(&result)["conversation_id"].clone();
    let result = call(&client, "proxy_completion", json!({ "messages": "y", "conversation_id": id })).await;
    let error = &structured(&result)["error"];
    assert_eq!(error["type"], "conversation_too_long");
    assert!(error["advice"].as_str().unwrap().contains("Leave `conversation_id` out"), "{error}");
}

#[tokio::test]
async fn turns_of_one_conversation_come_one_after_another_and_none_is_lost() {
    let fake = Fake::new();
    let client = connect(fake.clone()).await;
    let result = call(&client, "proxy_completion", json!({ "messages": "first" })).await;
    let id = structured(&result)["conversation_id"].clone();
    let turn = |text: String| {
        call(&client, "proxy_completion", json!({ "messages": text, "conversation_id": id.clone() }))
    };
    futures_util::future::join_all((0..8).map(|n| turn(format!("turn {n}")))).await;
    turn("last".into()).await;
    let sent = fake.last_body();
    let said: Vec<_> = sent["messages"].as_array().unwrap().iter().map(|message| &message["role"]).collect();
    assert_eq!(said.len(), 2 * 9 + 1);
    assert!(
        said.chunks(2).all(|pair| pair[0] == "user" && pair.get(1).is_none_or(|role| *role == "assistant"))
    );
}
