//! Chat Completions, OpenAI's and OpenRouter's. Sources: OpenAI API reference, "Chat"; OpenRouter docs,
//! "Reasoning tokens".

use serde_json::Value;

use super::{Ask, Turn, list, push_model, strings, text, texts};

pub(super) fn read(body: &Value, ask: &mut Ask) {
    ask.max_tokens = body["max_completion_tokens"].as_u64().or_else(|| body["max_tokens"].as_u64());
    ask.tools = list(body, "tools").iter().map(|tool| text(&tool["function"], "name")).collect();
    ask.thinking = wants_reasoning(body);
    ask.thinking_shown = body["reasoning"]["exclude"].as_bool() != Some(true);
    ask.include_usage = body["stream_options"]["include_usage"].as_bool().unwrap_or(false)
        || body["usage"]["include"].as_bool().unwrap_or(false);
    ask.stop = strings(&body["stop"]);
    ask.schema = Some(body["response_format"]["json_schema"]["schema"].clone()).filter(Value::is_object);
    for message in list(body, "messages") {
        match message["role"].as_str() {
            Some("system" | "developer") => {
                ask.system.push_str(&texts(&message["content"]).join("\n"));
                ask.system.push('\n');
            }
            Some("assistant") => push_model(&mut ask.turns, list(message, "tool_calls").len()),
            Some("tool" | "function") => {
                ask.turns.push(Turn::Results(vec![texts(&message["content"]).join("\n")]));
            }
            Some("user") => ask.turns.push(Turn::User(texts(&message["content"]))),
            _ => {}
        }
    }
}

fn wants_reasoning(body: &Value) -> bool {
    let effort = body["reasoning_effort"].as_str().is_some_and(|effort| effort != "none");
    let reasoning = &body["reasoning"];
    let openrouter = reasoning.is_object()
        && reasoning["enabled"].as_bool() != Some(false)
        && reasoning["effort"].as_str() != Some("none");
    effort || openrouter || body["thinking"]["type"].as_str() == Some("enabled")
}
