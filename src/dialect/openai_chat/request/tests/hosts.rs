//! Hosts of many models, and answers that are begun.

use super::*;

#[test]
fn each_host_is_asked_in_its_own_words() {
    let body = json!({"model": "m", "max_tokens": 900, "temperature": 0.5, "top_k": 3, "stop_sequences": ["a", "b"],
        "stream": true, "metadata": {"user_id": "me"}, "thinking": {"type": "adaptive"}, "output_config": {"effort": "max"},
        "messages": [{"role": "user", "content": "x"}, {"role": "system", "content": "S"},
            {"role": "assistant", "content": [call("a")]}, {"role": "user", "content": [result("a", &json!("r"))]}],
        "tools": [{"name": "Read", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": true}});
    let ask = |row: &str| sent(&body, &Target { session: Some("s"), ..target(row) });
    let told = send(&body, &target("xai"));
    assert_eq!(told.stops.len(), 2, "its models that reason refuse `stop`: the reader looks for the strings");

    let xai = ask("xai");
    assert_eq!(
        (&xai["max_completion_tokens"], &xai["reasoning_effort"], &xai["prompt_cache_key"], &xai["user"]),
        (&json!(900), &json!("high"), &json!("s"), &json!("me"))
    );
    assert!(xai.get("stop").is_none() && xai.get("top_k").is_none(), "{xai}");
    assert_eq!((&xai["tool_choice"], &xai["parallel_tool_calls"]), (&json!("required"), &json!(false)));
    assert_eq!(xai["messages"][1], json!({"role": "system", "content": "S"}), "roles come in any order");

    let moonshot = ask("moonshot");
    assert_eq!(moonshot["thinking"], json!({"type": "enabled"}));
    assert_eq!(moonshot["tool_choice"], "auto", "no tool can be demanded while the model thinks");
    assert_eq!(
        moonshot["messages"][1]["reasoning_content"], "",
        "wanted with each call, also where it is lost"
    );
    assert_eq!((&moonshot["prompt_cache_key"], &moonshot["safety_identifier"]), (&json!("s"), &json!("me")));
    assert!(moonshot.get("temperature").is_none() && moonshot.get("parallel_tool_calls").is_none());

    let zai = ask("zai");
    assert_eq!(
        (&zai["stop"], &zai["tool_choice"], &zai["max_tokens"]),
        (&json!(["a"]), &json!("auto"), &json!(900))
    );
    assert!(
        zai.get("stream_options").is_none()
            && zai.get("user").is_none()
            && zai.get("prompt_cache_key").is_none()
    );

    let together = ask("together");
    assert_eq!((&together["reasoning_effort"], &together["top_k"]), (&json!("high"), &json!(3)));
    assert!(together.get("reasoning").is_none(), "{together}");

    let fireworks = ask("fireworks");
    assert_eq!((&fireworks["reasoning_effort"], &fireworks["user"]), (&json!("high"), &json!("me")));
    let cerebras = ask("cerebras");
    assert_eq!(
        (&cerebras["max_completion_tokens"], &cerebras["reasoning_effort"]),
        (&json!(900), &json!("high"))
    );
    for (row, out) in [("fireworks", &fireworks), ("cerebras", &cerebras)] {
        // A field that they don't know is refused.
        for unknown in ["parallel_tool_calls", "prompt_cache_key", "service_tier", "reasoning", "thinking"] {
            assert!(out.get(unknown).is_none(), "{row}: {unknown}");
        }
        assert!(!out["messages"].to_string().contains("reasoning_content"), "{row}");
    }
    assert!(fireworks.get("stream_options").is_none() && cerebras.get("stream_options").is_some());
}

#[test]
fn a_host_that_takes_no_choice_of_tools_gets_none_where_none_may_be_called() {
    let body = |choice: Value| {
        json!({"model": "m", "max_tokens": 9, "tool_choice": choice, "messages": [{"role": "user", "content": "x"}],
            "tools": [{"name": "A", "input_schema": {"type": "object"}}]})
    };
    let none = sent(&body(json!({"type": "none"})), &target("zai"));
    assert!(none.get("tools").is_none() && none.get("tool_choice").is_none(), "{none}");
    let named = send(&body(json!({"type": "tool", "name": "A"})), &target("zai"));
    assert_eq!(named.dropped, ["tool_choice"]);
    let named: Value = serde_json::from_slice(&named.body).unwrap();
    assert_eq!((&named["tool_choice"], named["tools"].as_array().unwrap().len()), (&json!("auto"), 1));
}

#[test]
fn a_host_whose_models_switch_their_reasoning_is_told_so_where_no_level_is_wished() {
    let with = |thinking: Value| {
        let body = json!({"model": "m", "max_tokens": 9, "thinking": thinking, "messages": [{"role": "user", "content": "x"}]});
        sent(&body, &target("together"))
    };
    assert_eq!(with(json!({"type": "disabled"}))["reasoning"], json!({"enabled": false}));
    assert_eq!(with(json!({"type": "adaptive"}))["reasoning"], json!({"enabled": true}));
    let budget = with(json!({"type": "enabled", "budget_tokens": 2000}));
    assert_eq!((&budget["reasoning_effort"], budget.get("reasoning")), (&json!("low"), None));
    let unsaid = with(Value::Null);
    assert!(unsaid.get("reasoning").is_none() && unsaid.get("reasoning_effort").is_none());
}

#[test]
fn an_answer_that_is_begun_goes_on_where_the_server_has_a_word_for_it() {
    let history = json!([{"role": "user", "content": "Count."}, {"role": "assistant", "content": "one, "}]);
    let body = json!({"model": "m", "max_tokens": 9, "messages": history});
    for row in crate::dialect::table::NAMES {
        let out = sent(&body, &target(row));
        let last = &out["messages"][1];
        assert_eq!(last["role"], "assistant", "{row}");
        let says = |value: &Value| value == "one, " || value[0]["text"] == "one, ";
        assert!(says(&last["content"]), "{row}: no byte of what is begun is lost: {last}");
        assert_eq!(last["prefix"] == true, *row == "mistral", "{row}");
        assert_eq!(last["partial"] == true, *row == "moonshot", "{row}");
        let goes_on = out["continue_final_message"] == true && out["add_generation_prompt"] == false;
        assert_eq!(goes_on, *row == "vllm", "{row}");
    }
    // A call is nothing begun, and neither is a turn that the user has answered.
    let calls = json!([{"role": "user", "content": "x"}, {"role": "assistant", "content": [call("a")]}]);
    assert_eq!(messages(&calls, "mistral").to_string().matches("prefix").count(), 0);
    let answered = json!([{"role": "assistant", "content": "one"}, {"role": "user", "content": "more"}]);
    let body = json!({"model": "m", "max_tokens": 9, "messages": answered});
    assert!(sent(&body, &target("vllm")).get("continue_final_message").is_none());
}
