#![allow(clippy::unwrap_used, clippy::expect_used)]

mod blocks;
mod hosts;

use serde_json::{Value, json};

use super::*;
use crate::dialect::carrier::Carrier;
use crate::dialect::table::by_name;

/// What goes to the upstream; the same whether the body's grammar is checked or known.
fn written(body: &[u8], target: &Target<'_>) -> Translated {
    let [checked, known] =
        [from_messages(body, target), from_known(body, target)].map(|it| match it.unwrap() {
            Translation::Send(translated) => *translated,
            Translation::Answer(parts) => panic!("answered locally: {parts:?}"),
        });
    let [ours, theirs] =
        [&known, &checked].map(|it| serde_json::from_slice::<Value>(&it.body).unwrap().to_string());
    assert_eq!(ours, theirs);
    assert_eq!((known.dropped, known.healed), (checked.dropped.clone(), checked.healed.clone()));
    checked
}

fn send(body: &Value, target: &Target<'_>) -> Translated {
    written(body.to_string().as_bytes(), target)
}

fn sent(body: &Value, target: &Target<'_>) -> Value {
    serde_json::from_slice(&send(body, target).body).unwrap()
}

fn target(variant: &str) -> Target<'static> {
    Target::new("model-x", by_name(variant).unwrap())
}

fn messages(messages: &Value, variant: &str) -> Value {
    let body = json!({"model": "m", "max_tokens": 100, "messages": messages});
    sent(&body, &target(variant))["messages"].clone()
}

fn error(body: &Value, variant: &str) -> String {
    let (body, target) = (body.to_string(), target(variant));
    let error = from_messages(body.as_bytes(), &target).unwrap_err().to_string();
    assert_eq!(from_known(body.as_bytes(), &target).unwrap_err().to_string(), error);
    error
}

fn call(id: &str) -> Value {
    json!({"type": "tool_use", "id": id, "name": "Read", "input": {"path": "a b"}})
}

fn result(id: &str, content: &Value) -> Value {
    json!({"type": "tool_result", "tool_use_id": id, "content": content})
}

// === a whole session ===

#[test]
fn a_claude_code_request_becomes_a_chat_request() {
    let body = include_bytes!("../../../../tests/fixtures/chat/claude_code.request.json");
    for variant in ["openai", "openrouter", "deepseek", "llamacpp", "gemini", "mistral", "generic"] {
        let model = if variant == "openai" { "gpt-5.1" } else { "model-x" };
        let target = Target { session: Some("session-1"), ..Target::new(model, by_name(variant).unwrap()) };
        let translated = written(body, &target);
        let value: Value = serde_json::from_slice(&translated.body).unwrap();
        insta::assert_json_snapshot!(format!("claude_code_for_{variant}"), value);
        let again = from_messages(body, &target).unwrap();
        let Translation::Send(again) = again else { panic!() };
        assert_eq!(translated.body, again.body, "the same request gives the same bytes");
    }
}

#[test]
fn a_growing_conversation_keeps_its_beginning() {
    let mut history = vec![json!({"role": "user", "content": [{"type": "text", "text": "one"}]})];
    let turn = |id: &str| {
        vec![
            json!({"role": "assistant", "content": [{"type": "text", "text": "t"}, call(id)]}),
            json!({"role": "user", "content": [result(id, &json!("r")), {"type": "text", "text": "next"}]}),
        ]
    };
    for variant in ["openai", "mistral", "deepseek", "generic"] {
        let mut before = Vec::new();
        for nth in 0..4 {
            history.extend(turn(&format!("toolu_{nth}")));
            let body = json!({"model": "m", "max_tokens": 9, "messages": history});
            let body = send(&body, &target(variant)).body;
            let text = body.strip_suffix(b"]}").unwrap();
            assert!(text.starts_with(&before), "{variant}");
            before = text.to_vec();
        }
        history.truncate(1);
    }
}

// === system ===

#[test]
fn only_a_leading_attribution_line_is_taken_out() {
    let system = json!([
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1;"},
        {"type": "text", "text": "You are helpful.", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "x-anthropic-billing-header: quoted"}
    ]);
    let body = json!({"model": "m", "max_tokens": 9, "system": system, "messages": [{"role": "user", "content": "hi"}]});
    let wanted =
        json!({"role": "system", "content": "You are helpful.\n\nx-anthropic-billing-header: quoted"});
    assert_eq!(sent(&body, &target("openai"))["messages"][0], wanted);
    let parts = sent(&body, &target("openrouter"))["messages"][0]["content"].clone();
    assert_eq!(parts[0]["cache_control"], json!({"type": "ephemeral"}));
    assert_eq!(parts.as_array().unwrap().len(), 2);
}

#[test]
fn a_system_message_within_stays_or_becomes_user_text_after_all_results() {
    let history = json!([
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": [call("a"), call("b")]},
        {"role": "user", "content": [result("b", &json!("B"))]},
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [result("a", &json!("A")), {"type": "text", "text": "more"}]},
    ]);
    let strict = messages(&history, "generic");
    assert_eq!(strict[2], json!({"role": "tool", "tool_call_id": "a", "content": "A"}));
    assert_eq!(strict[3], json!({"role": "tool", "tool_call_id": "b", "content": "B"}));
    let text = "<system-reminder>\nbe brief\n</system-reminder>\n\nmore";
    assert_eq!(strict[4], json!({"role": "user", "content": text}));
    let open = messages(&history, "openai");
    assert_eq!(open[4], json!({"role": "system", "content": "be brief"}));
    assert_eq!(open[5], json!({"role": "user", "content": "more"}));
}

#[test]
fn a_system_message_that_is_over_is_left_out() {
    let over = |clear: &str| {
        let history = json!([{"role": "user", "content": "a"}, {"role": "system", "content": "S", "clear_at": clear},
            {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]);
        messages(&history, "openai").to_string().contains("\"S\"")
    };
    assert!(!over("next_user_message"));
    assert!(over("never"));
}

// === calls and results ===

#[test]
fn every_call_gets_exactly_one_result_and_no_result_is_lost() {
    let history = json!([
        {"role": "user", "content": [result("ghost", &json!("boo"))]},
        {"role": "assistant", "content": [call("a"), call("b")]},
        {"role": "user", "content": [result("a", &json!("first")), result("a", &json!("second"))]},
    ]);
    let out = messages(&history, "openai");
    assert_eq!(out[0], json!({"role": "user", "content": "[result of tool ghost] boo"}));
    assert_eq!(out[1]["content"], Value::Null);
    assert_eq!(out[1]["tool_calls"][0]["function"]["arguments"], r#"{"path":"a b"}"#);
    assert_eq!(out[2], json!({"role": "tool", "tool_call_id": "a", "content": "first"}));
    assert_eq!(
        out[3],
        json!({"role": "tool", "tool_call_id": "b", "content": "[tool call was interrupted; no result]"})
    );
    assert_eq!(out[4], json!({"role": "user", "content": "[result of tool a] second"}));
}

#[test]
fn results_keep_their_kind() {
    let content = |content: Value| {
        let history = json!([{"role": "assistant", "content": [call("a")]}, {"role": "user", "content": [result("a", &content)]}]);
        messages(&history, "openai")[1]["content"].clone()
    };
    assert_eq!(content(json!([])), "");
    assert_eq!(content(json!([{"type": "text", "text": "x"}, {"type": "text", "text": "y"}])), "x\ny");
    assert_eq!(
        content(json!([{"type": "tool_reference", "tool_name": "Grep"}])),
        "Tool Grep is now available."
    );
    assert_eq!(
        content(
            json!([{"type": "search_result", "title": "T", "source": "S", "content": [{"type": "text", "text": "x"}]}])
        ),
        "T\nS\nx"
    );
    let failed = |text: &str| {
        let block = json!({"type": "tool_result", "tool_use_id": "a", "content": text, "is_error": true});
        let history =
            json!([{"role": "assistant", "content": [call("a")]}, {"role": "user", "content": [block]}]);
        messages(&history, "openai")[1]["content"].clone()
    };
    assert_eq!(failed("no file"), "Error: no file");
    assert_eq!(failed("ERROR: x"), "ERROR: x");
    assert_eq!(failed("<tool_use_error>x"), "<tool_use_error>x");
    assert_eq!(failed("é"), "Error: é");
}

#[test]
fn images_of_results_come_in_one_message_after_them() {
    let image =
        json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}});
    let history = json!([
        {"role": "assistant", "content": [call("a"), call("b")]},
        {"role": "user", "content": [result("a", &json!([{"type": "text", "text": "see"}, image])), result("b", &json!([image]))]},
    ]);
    let out = messages(&history, "openai");
    assert_eq!(out[1]["content"], "see\n[image 1 attached below]");
    assert_eq!(out[2]["content"], "[image 2 attached below]");
    let parts = out[3]["content"].as_array().unwrap();
    assert_eq!(parts[0], json!({"type": "text", "text": "Image 1 from tool result a:"}));
    assert_eq!(parts[1], json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}));
    assert_eq!(parts.len(), 4);
    let local = messages(&history, "llamacpp");
    assert_eq!(local[1]["content"][1]["type"], "image_url");
    assert_eq!(local.as_array().unwrap().len(), 3);
    let blind = messages(&history, "deepseek");
    assert!(blind[2]["content"].as_str().unwrap().contains("image omitted"));
}

#[test]
fn documents_become_files_text_or_a_note() {
    let pdf = json!({"type": "document", "title": "a.pdf", "source": {"type": "base64", "media_type": "application/pdf", "data": "QQ=="}});
    let text =
        json!({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "body"}});
    let history = json!([{"role": "user", "content": [pdf, text]}]);
    let out = messages(&history, "openai");
    assert_eq!(
        out[0]["content"][0]["file"],
        json!({"filename": "a.pdf", "file_data": "data:application/pdf;base64,QQ=="})
    );
    assert_eq!(out[0]["content"][1]["text"], "<document>\nbody\n</document>");
    assert!(messages(&history, "groq")[0]["content"].as_str().unwrap().starts_with("[document omitted"));
    let file = json!({"model": "m", "messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}]}]});
    assert!(error(&file, "openai").starts_with("messages.0.content.0.source: "));
}

#[test]
fn ids_and_names_fit_the_upstream_on_both_sides() {
    let long = "mcp__".to_owned() + &"x".repeat(80);
    let history = json!([
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": long, "input": {}}]},
        {"role": "user", "content": [result("toolu_1", &json!("ok"))]},
    ]);
    let body = json!({"model": "m", "max_tokens": 9, "messages": history,
        "tools": [{"name": long, "input_schema": {"type": "object", "properties": {}}}],
        "tool_choice": {"type": "tool", "name": long}});
    let translated = send(&body, &target("mistral"));
    let out: Value = serde_json::from_slice(&translated.body).unwrap();
    let id = out["messages"][0]["tool_calls"][0]["id"].as_str().unwrap();
    assert_eq!(id.len(), 9);
    assert_eq!(out["messages"][1]["tool_call_id"], id);
    let name = out["tools"][0]["function"]["name"].as_str().unwrap();
    assert!(name.len() <= 64);
    assert_eq!(out["messages"][0]["tool_calls"][0]["function"]["name"], name);
    assert_eq!(out["tool_choice"]["function"]["name"], name);
    assert_eq!(translated.names.given(name), long);
}

#[test]
fn same_roles_are_merged_and_empty_messages_go() {
    let history = json!([
        {"role": "user", "content": "a"}, {"role": "user", "content": [{"type": "text", "text": "b"}]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "EqX"}]},
        {"role": "user", "content": [{"type": "text", "text": ""}]},
        {"role": "assistant", "content": "c"}, {"role": "assistant", "content": [{"type": "text", "text": "d"}, {"type": "text", "text": "e"}]},
        {"role": "user", "content": "f"},
    ]);
    let wanted = json!([{"role": "user", "content": "a\n\nb"}, {"role": "assistant", "content": "c\n\nde"}, {"role": "user", "content": "f"}]);
    assert_eq!(messages(&history, "openai"), wanted);
}

#[test]
fn server_tools_in_the_history_become_text_without_encrypted_content() {
    let history = json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": [
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "rust"}},
        {"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"type": "web_search_result", "title": "T", "url": "https://u", "encrypted_content": "SECRET"}]},
        {"type": "text", "text": "found"}]}]);
    let out = messages(&history, "openai");
    assert_eq!(out[1]["content"], "[web_search: rust]\n- T (https://u)\n\nfound");
}

// === tools ===

#[test]
fn deferred_tools_come_once_something_refers_to_them_and_last() {
    let tool = |name: &str, deferred: bool| json!({"name": name, "defer_loading": deferred, "input_schema": {"type": "object"}});
    let names = |history: &Value| -> Vec<String> {
        let body = json!({"model": "m", "max_tokens": 9, "messages": history,
            "tools": [tool("Hidden", true), tool("Open", false), tool("Found", true)]});
        let out = sent(&body, &target("openai"));
        let list = out["tools"].as_array().unwrap();
        list.iter().map(|tool| tool["function"]["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&json!([{"role": "user", "content": "x"}])), ["Open"]);
    let found = json!([{"role": "assistant", "content": [call("a")]},
        {"role": "user", "content": [result("a", &json!([{"type": "tool_reference", "tool_name": "Found"}]))]}]);
    assert_eq!(names(&found), ["Open", "Found"]);
}

#[test]
fn a_tool_choice_never_stands_without_its_tool() {
    let body = |choice: Value| {
        json!({"model": "m", "max_tokens": 9, "tool_choice": choice, "messages": [{"role": "user", "content": "x"}],
        "tools": [{"name": "A", "input_schema": {"type": "object"}}, {"name": "B", "input_schema": {"type": "object"}}]})
    };
    let choice = |wanted: Value, variant: &str| sent(&body(wanted), &target(variant))["tool_choice"].clone();
    assert_eq!(choice(json!({"type": "any"}), "openai"), "required");
    assert_eq!(choice(json!({"type": "none"}), "openai"), "none");
    assert_eq!(choice(json!({"type": "tool", "name": "Z"}), "openai"), Value::Null);
    let only = sent(&body(json!({"type": "tool", "name": "B"})), &target("llamacpp"));
    assert_eq!(
        (only["tool_choice"].clone(), only["tools"].as_array().unwrap().len()),
        (json!("required"), 1)
    );
    let mut thinking = body(json!({"type": "any"}));
    thinking["thinking"] = json!({"type": "adaptive"});
    assert_eq!(sent(&thinking, &target("deepseek"))["tool_choice"], "auto");
    let mut alone = body(json!({"type": "auto", "disable_parallel_tool_use": true}));
    assert_eq!(sent(&alone, &target("openai"))["parallel_tool_calls"], false);
    alone["tools"] = json!([]);
    let bare = sent(&alone, &target("openai"));
    assert!(
        bare.get("tool_choice").is_none()
            && bare.get("tools").is_none()
            && bare.get("parallel_tool_calls").is_none()
    );
}

#[test]
fn anthropics_client_tools_get_a_schema_and_server_tools_go() {
    let body = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}], "tools": [
        {"type": "bash_20990101", "name": "bash"}, {"type": "code_execution_20250522", "name": "code_execution"},
        {"type": "custom", "name": "C", "input_schema": {"type": "object"}}]});
    let translated = send(&body, &target("openai"));
    let out: Value = serde_json::from_slice(&translated.body).unwrap();
    assert_eq!(out["tools"].as_array().unwrap().len(), 2);
    assert_eq!(out["tools"][0]["function"]["parameters"]["properties"]["command"]["type"], "string");
    assert_eq!(translated.dropped, ["server tool"]);
    let computer =
        json!({"model": "m", "messages": [], "tools": [{"type": "computer_20250124", "name": "computer"}]});
    assert!(error(&computer, "openai").starts_with("tools.0.type: "));
}

#[test]
fn a_search_alone_is_answered_without_inventing() {
    let body = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Perform a web search for: rust"}],
        "tools": [{"type": "web_search_20250305", "name": "web_search"}], "tool_choice": {"type": "tool", "name": "web_search"}});
    let answer = from_messages(body.to_string().as_bytes(), &target("openai")).unwrap();
    let Translation::Answer(parts) = answer else { panic!() };
    let blocks: Vec<Value> = parts
        .iter()
        .filter_map(|part| match part {
            Part::Block(json) => serde_json::from_str(json).ok(),
            _ => None,
        })
        .collect();
    assert_eq!(blocks[0]["id"], blocks[1]["tool_use_id"]);
    assert_eq!(blocks[1]["content"]["error_code"], "unavailable");
    let out = sent(&body, &target("openrouter"));
    assert_eq!(out["plugins"], json!([{"id": "web"}]));
    assert!(out.get("tool_choice").is_none());
}

#[test]
fn nothing_to_generate_needs_no_upstream() {
    let body = json!({"model": "m", "max_tokens": 0, "messages": [{"role": "user", "content": "x"}]});
    let answer =
        from_messages(body.to_string().as_bytes(), &Target { input_estimate: 7, ..target("openai") })
            .unwrap();
    let Translation::Answer(parts) = answer else { panic!() };
    assert!(
        matches!(&parts[1], Part::End { stop: crate::dialect::Stop::MaxTokens, usage: Some(usage) } if usage.input == 7)
    );
}

// === reasoning ===

#[test]
fn reasoning_is_asked_for_in_each_upstreams_words() {
    let with = |thinking: Value, effort: Option<&str>, variant: &str, model: &str| {
        let mut body = json!({"model": "m", "max_tokens": 4000, "messages": [{"role": "user", "content": "x"}], "thinking": thinking});
        if let Some(effort) = effort {
            body["output_config"] = json!({"effort": effort});
        }
        sent(&body, &Target::new(model, by_name(variant).unwrap()))
    };
    let adaptive = || json!({"type": "adaptive"});
    assert_eq!(with(adaptive(), Some("max"), "openai", "gpt-5.2")["reasoning_effort"], "xhigh");
    assert_eq!(with(adaptive(), Some("max"), "openai", "o3")["reasoning_effort"], "high");
    assert!(with(adaptive(), None, "openai", "gpt-5.2").get("reasoning_effort").is_none());
    assert!(with(adaptive(), Some("high"), "openai", "gpt-4o").get("reasoning_effort").is_none());
    assert_eq!(
        with(json!({"type": "disabled"}), Some("high"), "openai", "gpt-5")["reasoning_effort"],
        "minimal"
    );
    let budget = json!({"type": "enabled", "budget_tokens": 9000});
    assert_eq!(with(budget.clone(), None, "openai", "gpt-5")["reasoning_effort"], "high");
    assert_eq!(with(budget, None, "openrouter", "a/b")["reasoning"], json!({"max_tokens": 3999}));
    assert_eq!(with(adaptive(), Some("max"), "openrouter", "a/b")["reasoning"], json!({"effort": "xhigh"}));
    assert_eq!(with(adaptive(), None, "openrouter", "a/b")["reasoning"], json!({"enabled": true}));
    assert_eq!(with(adaptive(), None, "deepseek", "d")["thinking"], json!({"type": "enabled"}));
    assert_eq!(
        with(json!({"type": "disabled"}), None, "vllm", "q")["chat_template_kwargs"],
        json!({"enable_thinking": false})
    );
    assert_eq!(with(json!({"type": "disabled"}), None, "ollama", "q")["reasoning_effort"], "none");
}

#[test]
fn tools_and_reasoning_do_not_meet_where_chat_refuses_both() {
    let body = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}], "output_config": {"effort": "high"},
        "tools": [{"name": "A", "input_schema": {"type": "object"}}]});
    let effort = |model: &str| {
        sent(&body, &Target::new(model, by_name("openai").unwrap()))["reasoning_effort"].clone()
    };
    assert_eq!(effort("gpt-5.4"), "none");
    assert_eq!(effort("gpt-5.1"), "high");
}

#[test]
fn carried_reasoning_goes_back_to_whom_it_belongs_and_to_nobody_else() {
    let details = r#"[{"type":"reasoning.text","signature":"s","index":0}]"#.to_owned();
    let carrier = |dialect: &str, model: &str| {
        Carrier {
            dialect: dialect.to_owned(),
            model: model.to_owned(),
            item: None,
            details: serde_json::value::RawValue::from_string(details.clone()).ok(),
            signatures: vec![("a".to_owned(), "google-sig".to_owned())],
        }
        .write()
    };
    let history = |signature: &str| {
        json!([
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm \"q\"", "signature": signature}, call("a")]},
            {"role": "user", "content": [result("a", &json!("r"))]},
        ])
    };
    let out = messages(&history(&carrier("openrouter", "model-x")), "openrouter");
    assert_eq!(
        out[1]["reasoning_details"],
        json!([{"type": "reasoning.text", "signature": "s", "index": 0, "text": "hm \"q\""}])
    );
    for foreign in [carrier("openrouter", "other"), carrier("deepseek", "model-x"), "EqXReal".to_owned()] {
        assert!(messages(&history(&foreign), "openrouter")[1].get("reasoning_details").is_none());
        assert!(messages(&history(&foreign), "openai")[1].get("reasoning_content").is_none());
        assert_eq!(messages(&history(&foreign), "deepseek")[1]["reasoning_content"], "hm \"q\"");
    }
    let google = |signature: &str| {
        messages(&history(signature), "gemini")[1]["tool_calls"][0]["extra_content"]["google"]["thought_signature"].clone()
    };
    assert_eq!(google(&carrier("gemini", "any")), "google-sig");
    assert_eq!(google("EqXReal"), "skip_thought_signature_validator");
    let damaged = json!({"model": "m", "messages": history("cp1.!!!")});
    assert_eq!(error(&damaged, "openai"), "messages.1.content.0: invalid signature in thinking block");
    let lost = json!([{"role": "assistant", "content": [call("a")]}]);
    assert_eq!(messages(&lost, "deepseek")[0]["reasoning_content"], "");
}

// === the rest ===

#[test]
fn fields_go_where_the_upstream_knows_them() {
    let body = json!({"model": "m", "max_tokens": 50_000, "temperature": 0.5, "top_k": 3, "stop_sequences": ["1", "2", "3", "4", "5"],
        "stream": true, "metadata": {"user_id": "{\"device_id\":\"secret\"}"}, "service_tier": "standard_only",
        "context_management": {"edits": []}, "messages": [{"role": "user", "content": "x"}]});
    let openai =
        sent(&body, &Target { max_output_tokens: Some(16_000), session: Some("s"), ..target("openai") });
    assert_eq!((openai["max_completion_tokens"].clone(), openai.get("max_tokens")), (json!(16_000), None));
    assert_eq!(openai["stop"], json!(["1", "2", "3", "4"]));
    assert_eq!(openai["prompt_cache_key"], "s");
    assert_eq!(openai["service_tier"], "default");
    assert_eq!(openai["safety_identifier"].as_str().unwrap().len(), 64);
    assert!(openai.get("top_k").is_none());
    let router = send(&body, &target("openrouter"));
    assert!(!String::from_utf8_lossy(&router.body).contains("secret"));
    assert_eq!(router.dropped, ["context_management"]);
    assert_eq!(*router.stops, ["5".to_owned()], "the reader looks for what the upstream isn't told");
    let all = send(&body, &Target::new("o3", by_name("openai").unwrap()));
    assert_eq!(all.stops.len(), 5);
    let reasoning = sent(&body, &Target::new("o3", by_name("openai").unwrap()));
    assert!(reasoning.get("temperature").is_none() && reasoning.get("stop").is_none());
    assert!(sent(&body, &target("mistral")).get("stream_options").is_none());
}

#[test]
fn four_cache_markers_are_kept_the_newest() {
    let mark = |text: &str| json!({"type": "text", "text": text, "cache_control": {"type": "ephemeral"}});
    let body = json!({"model": "m", "max_tokens": 9, "system": [mark("s1"), mark("s2")],
        "tools": [{"name": "A", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": [mark("u1")]}, {"role": "assistant", "content": [mark("a1")]}, {"role": "user", "content": [mark("u2")]}]});
    let out = sent(&body, &target("openrouter"));
    assert_eq!(out.to_string().matches("ephemeral").count(), 4);
    assert!(out["tools"][0].get("cache_control").is_none());
    assert!(out["messages"][0]["content"][0].get("cache_control").is_none());
    assert!(out["messages"][3]["content"][0].get("cache_control").is_some());
    assert_eq!(sent(&body, &target("openai")).to_string().matches("ephemeral").count(), 0);
}

#[test]
fn what_only_anthropic_can_do_is_refused_by_name() {
    let with = |field: &str, value: Value| {
        let mut body = json!({"model": "m", "max_tokens": 9, "messages": []});
        body[field] = value;
        error(&body, "openai")
    };
    assert!(with("thread", json!({"type": "continue", "previous_message_id": "x"})).starts_with("thread: "));
    assert!(with("compaction", json!({"type": "summarize"})).starts_with("compaction: "));
    let fault = Fault::from(RequestError::Signature { path: "p".to_owned() });
    assert_eq!((fault.kind, fault.status), (FaultKind::Caller, Some(400)));
}

#[test]
fn what_was_learned_is_heeded() {
    let long = "d".repeat(3000);
    let body = json!({"model": "m", "max_tokens": 5000, "temperature": 1, "messages": [{"role": "user", "content": "x"}],
        "tools": [{"name": "A", "description": long, "input_schema": {"type": "object"}}]});
    let learned = [
        Rectify::UseMaxField(MaxField::MaxTokens),
        Rectify::DropParam(Param::Temperature),
        Rectify::MaxTokens(700),
        Rectify::CutDescriptions,
    ];
    let out = sent(&body, &Target { rectified: &learned, ..target("openai") });
    assert_eq!(out["max_tokens"], 700);
    assert!(out.get("temperature").is_none());
    assert_eq!(out["tools"][0]["function"]["description"].as_str().unwrap().len(), 1024);
    assert_eq!(out["messages"][0]["content"], format!("## Tool A\n\n{long}"));
}

#[test]
fn an_image_by_its_address_is_a_note_where_the_server_fetches_none() {
    let image = json!([{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}}]}]);
    assert_eq!(
        messages(&image, "llamacpp")[0]["content"],
        "[image omitted: the selected server does not fetch images from the web: https://x.example/a.png]"
    );
    assert_eq!(messages(&image, "vllm")[0]["content"][0]["image_url"]["url"], "https://x.example/a.png");
    let body = json!({"model": "m", "max_tokens": 9, "messages": image});
    let learned = sent(&body, &Target { rectified: &[Rectify::DropImageUrls], ..target("vllm") });
    assert!(learned["messages"][0]["content"].is_string());
}

#[test]
fn a_server_that_wants_its_reasoning_back_gets_it_with_every_call_and_a_blank_where_it_is_lost() {
    let think = json!({"type": "thinking", "thinking": "hm", "signature": "EqX"});
    let history = json!([
        {"role": "user", "content": "q"}, {"role": "assistant", "content": [think, call("a")]},
        {"role": "user", "content": [result("a", &json!("1"))]}, {"role": "assistant", "content": [call("b")]},
        {"role": "user", "content": [result("b", &json!("2"))]}, {"role": "assistant", "content": "done"},
        {"role": "user", "content": "thanks"},
    ]);
    let body = json!({"model": "m", "max_tokens": 9, "messages": history});
    for row in ["generic", "deepseek"] {
        let out = sent(&body, &Target { rectified: &[Rectify::ReplayReasoning], ..target(row) });
        let of = |nth: usize| out["messages"][nth]["reasoning_content"].clone();
        assert_eq!((of(1), of(3), of(5)), (json!("hm"), json!(" "), Value::Null), "{row}");
    }
}

#[test]
fn fields_of_the_config_stand_in_the_body_in_place_of_ours() {
    let body = json!({"model": "m", "max_tokens": 9, "temperature": 0.5, "messages": [{"role": "user", "content": "q"}]});
    let extra: Extra = [
        ("provider".to_owned(), json!({"order": ["a"], "allow_fallbacks": false})),
        ("temperature".to_owned(), json!(0)),
    ]
    .into();
    let translated = send(&body, &Target { extra: Some(&extra), ..target("openrouter") });
    let text = String::from_utf8(translated.body.to_vec()).unwrap();
    assert_eq!(text.matches("\"temperature\"").count(), 1, "{text}");
    let out: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(out["provider"]["order"][0], "a");
    assert_eq!((&out["temperature"], &out["model"]), (&json!(0), &json!("model-x")));
}

#[test]
fn a_search_keeps_its_filters_where_the_server_has_words_for_them() {
    let body = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "q"}],
        "tools": [{"type": "web_search_20250305", "name": "web_search", "allowed_domains": ["a.example"],
            "blocked_domains": [], "user_location": {"type": "approximate", "city": "Bern"}}]});
    let out = sent(&body, &Target::new("m", by_name("openrouter").unwrap()));
    assert_eq!(out["plugins"], json!([{"id": "web", "include_domains": ["a.example"]}]));
    let out = sent(&body, &Target::new("gpt-4o-search-preview", by_name("openai").unwrap()));
    let place = json!({"type": "approximate", "approximate": {"type": "approximate", "city": "Bern"}});
    assert_eq!(out["web_search_options"], json!({"user_location": place}));
}

#[test]
fn only_the_models_made_for_it_search_the_web_at_openai() {
    let body = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "q"}],
        "tools": [{"type": "web_search_20250305", "name": "web_search"}]});
    let row = by_name("openai").unwrap();
    let out = sent(&body, &Target::new("gpt-4o-search-preview", row));
    assert_eq!(out["web_search_options"], json!({}));
    let other = from_messages(body.to_string().as_bytes(), &Target::new("gpt-4o", row)).unwrap();
    assert!(matches!(other, Translation::Answer(_)), "said at once, and nothing is invented");
}

#[test]
fn numbers_that_no_machine_holds_go_as_they_are_written() {
    let schema = r#"{"type":"object","properties":{"n":{"type":"number","maximum":8e88888808}}}"#;
    let body = format!(
        r#"{{"model":"m","max_tokens":9,"messages":[{{"role":"user","content":"q"}},
        {{"role":"assistant","content":[{{"type":"tool_use","id":"a","name":"f","input":{{"n":1e99999}}}}]}}],
        "tools":[{{"name":"f","input_schema":{schema}}}]}}"#
    );
    for row in crate::dialect::table::NAMES {
        let target = Target::new("m", by_name(row).unwrap());
        let Translation::Send(sent) = from_messages(body.as_bytes(), &target).unwrap() else { panic!() };
        serde_json::from_slice::<Box<serde_json::value::RawValue>>(&sent.body)
            .unwrap_or_else(|error| panic!("{row}: {error}"));
        let text = String::from_utf8_lossy(&sent.body).into_owned();
        assert!(text.contains("1e99999"), "{row}: {text}");
    }
}

#[test]
fn nulls_are_never_sent_and_a_turn_of_reasoning_alone_is_no_message() {
    let body = json!({"model": "m", "max_tokens": 9, "system": null, "temperature": null, "top_p": null, "top_k": null,
        "stop_sequences": null, "tools": null, "tool_choice": null, "metadata": null, "thinking": null,
        "output_config": null, "service_tier": null, "stream": null,
        "messages": [{"role": "user", "content": "a"},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}]},
            {"role": "user", "content": [{"type": "text", "text": ""}, {"type": "text", "text": "b", "cache_control": null}]}]});
    for row in crate::dialect::table::NAMES {
        let out = sent(&body, &Target::new("m", by_name(row).unwrap()));
        assert!(!out.to_string().contains("null"), "{row}: {out}");
        let messages = out["messages"].as_array().unwrap();
        assert_eq!(messages.len(), 1, "{row}: {out}");
        assert_eq!(messages[0]["role"], "user");
    }
}
