//! Blocks and fields that few conversations have.

use super::*;

fn history(blocks: Value) -> Value {
    json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": blocks}, {"role": "user", "content": "on"}])
}

#[test]
fn remote_tools_compactions_and_what_nobody_knows_become_text_or_are_left_out() {
    let said = |blocks: Value| messages(&history(blocks), "openai");
    let remote = said(json!([
        {"type": "mcp_tool_use", "id": "m", "name": "find", "server_name": "docs", "input": {"a": 1}},
        {"type": "mcp_tool_result", "tool_use_id": "m", "content": [{"type": "text", "text": "found"}]},
        {"type": "text", "text": "So."}]));
    assert_eq!(remote[1]["content"], "[mcp docs/find {\"a\":1}]\n[result: found]\n\nSo.");
    let unknown = said(json!([{"type": "hologram", "text": "seen"}, {"type": "text", "text": "b"}]));
    assert_eq!(unknown[1]["content"], "seen\n\nb");

    let body = |blocks: Value| json!({"model": "m", "max_tokens": 9, "messages": history(blocks)});
    let gone = json!([{"type": "container_upload", "file_id": "f"}, {"type": "fallback", "from": "a", "to": "b"},
        {"type": "mcp_tool_listing", "server_name": "docs"}, {"type": "redacted_thinking", "data": "SECRET"},
        {"type": "text", "text": "b"}]);
    let translated = send(&body(gone), &target("openai"));
    let text = String::from_utf8_lossy(&translated.body).into_owned();
    assert_eq!(translated.dropped, ["content block", "redacted_thinking"]);
    assert!(!text.contains("SECRET") && text.contains("\"b\""), "{text}");

    let compacted = json!([
        {"role": "assistant", "content": [{"type": "compaction", "content": "We fixed it.", "encrypted_content": "SECRET"}]},
        {"role": "user", "content": "on"}]);
    let out = messages(&compacted, "openai");
    assert_eq!(out, json!([{"role": "user", "content": "We fixed it.\n\non"}]));
    let sealed = json!([{"role": "user", "content": [{"type": "compaction", "content": null, "encrypted_content": "SECRET"},
        {"type": "text", "text": "on"}]}]);
    assert_eq!(messages(&sealed, "openai"), json!([{"role": "user", "content": "on"}]));
}

#[test]
fn a_result_may_hold_documents_and_its_marker_goes_with_its_text() {
    let content = json!([{"type": "document", "title": "a \"b\"", "source": {"type": "content", "content": [{"type": "text", "text": "x"}]}},
        {"type": "text", "text": "y"}]);
    let mut block = result("a", &content);
    block["cache_control"] = json!({"type": "ephemeral", "ttl": "1h"});
    let history =
        json!([{"role": "assistant", "content": [call("a")]}, {"role": "user", "content": [block]}]);
    assert_eq!(messages(&history, "openai")[1]["content"], "<document title=\"a 'b'\">\nx\n</document>\ny");
    let marked = messages(&history, "openrouter")[1]["content"].clone();
    assert_eq!(marked[0]["cache_control"], json!({"type": "ephemeral", "ttl": "1h"}));
}

#[test]
fn tools_come_and_go_with_the_systems_word_and_the_list_has_an_end() {
    let tool = |name: &str, deferred: bool| json!({"name": name, "defer_loading": deferred, "input_schema": {"type": "object"}});
    let with = |system: Value| {
        let body = json!({"model": "m", "max_tokens": 9, "tools": [tool("A", false), tool("B", true), tool("C", false)],
            "messages": [{"role": "user", "content": "x"}, {"role": "system", "content": system}]});
        let out = sent(&body, &target("openai"));
        let list = out["tools"].as_array().cloned().unwrap_or_default();
        list.iter().map(|tool| tool["function"]["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(with(json!([{"type": "tool_addition", "tool": {"name": "B"}}])), ["A", "C", "B"]);
    assert_eq!(with(json!([{"type": "tool_removal", "tool_name": "A"}])), ["C"]);
    let and_back =
        json!([{"type": "tool_removal", "tool_name": "A"}, {"type": "tool_addition", "tool_name": "A"}]);
    assert_eq!(with(and_back), ["A", "C"]);

    let many: Vec<Value> = (0..200).map(|nth| tool(&format!("T{nth}"), false)).collect();
    let body =
        json!({"model": "m", "max_tokens": 9, "tools": many, "messages": [{"role": "user", "content": "x"}]});
    let translated = send(&body, &target("openai"));
    let out: Value = serde_json::from_slice(&translated.body).unwrap();
    assert_eq!(out["tools"].as_array().unwrap().len(), 128);
    assert_eq!(translated.dropped, ["tools beyond the upstream's limit"]);
    assert_eq!(sent(&body, &target("openrouter"))["tools"].as_array().unwrap().len(), 200);
}

#[test]
fn the_last_word_on_effort_counts_and_reasoning_between_tools_alone_is_none() {
    let ask = |more: Value, effort: Option<&str>| {
        let mut body = json!({"model": "m", "max_tokens": 9, "output_config": {"effort": "low"}, "messages": [
            {"role": "user", "content": "x"}, {"role": "system", "content": "S", "output_config": {"effort": "medium"}},
            {"role": "assistant", "content": "y"}, {"role": "user", "content": "z"},
            {"role": "system", "content": "T", "output_config": {"effort": "high"}}]});
        for (key, value) in more.as_object().unwrap() {
            body[key] = value.clone();
        }
        let row = by_name("openai").unwrap();
        sent(&body, &Target { effort, ..Target::new("gpt-5.2", row) })["reasoning_effort"].clone()
    };
    assert_eq!(ask(json!({}), None), "high", "the conversation's last word comes before the request's");
    assert_eq!(ask(json!({}), Some("max")), "xhigh", "the config's comes before both");
    assert_eq!(ask(json!({"thinking": {"type": "between_tools"}}), None), "none");
    assert_eq!(ask(json!({"messages": [{"role": "user", "content": "x"}]}), None), "low");
}

#[test]
fn an_answer_in_a_schema_is_asked_for_as_the_server_knows_it() {
    let closed = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": false});
    let open = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    let ask = |field: &str, schema: &Value, row: &str| {
        let format = json!({"type": "json_schema", "schema": schema});
        let mut body = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]});
        body[field] = if field == "output_config" { json!({"format": format}) } else { format };
        sent(&body, &target(row))["response_format"].clone()
    };
    for field in ["output_config", "output_format"] {
        let strict = ask(field, &closed, "openai");
        let wanted = json!({"name": "output", "schema": closed, "strict": true});
        assert_eq!(strict, json!({"type": "json_schema", "json_schema": wanted}), "{field}");
    }
    assert_eq!(ask("output_config", &open, "vllm")["json_schema"]["strict"], false);
    for row in ["deepseek", "zai"] {
        assert_eq!(ask("output_config", &open, row), json!({"type": "json_object"}), "{row}");
    }
    let format = json!({"format": {"type": "json_schema", "schema": open}});
    let body = json!({"model": "m", "max_tokens": 9, "output_config": format, "messages": [{"role": "user", "content": "x"}]});
    let learned = [Rectify::DropParam(Param::ResponseFormat)];
    let translated = send(&body, &Target { rectified: &learned, ..target("openai") });
    assert_eq!(translated.dropped, ["output_config.format"]);
}

#[test]
fn the_marker_of_the_whole_request_goes_where_markers_are_known() {
    let body = json!({"model": "m", "max_tokens": 9, "cache_control": {"type": "ephemeral"}, "messages": [{"role": "user", "content": "x"}]});
    for row in crate::dialect::table::NAMES {
        let marked = sent(&body, &target(row)).to_string().contains("cache_control");
        assert_eq!(marked, *row == "openrouter", "{row}");
    }
}
