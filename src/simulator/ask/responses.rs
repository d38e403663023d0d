//! OpenAI Responses. Source: OpenAI API reference, "Responses".

use serde_json::Value;

use super::{Ask, Turn, list, push_model, text, texts};

pub(super) fn read(body: &Value, ask: &mut Ask) {
    ask.max_tokens = body["max_output_tokens"].as_u64();
    ask.tools = list(body, "tools").iter().map(|tool| text(tool, "name")).collect();
    let reasoning = &body["reasoning"];
    ask.thinking = reasoning["effort"].as_str().is_some_and(|effort| effort != "none");
    ask.thinking_shown = reasoning["summary"].is_string();
    ask.system = text(body, "instructions");
    ask.schema = Some(body["text"]["format"]["schema"].clone()).filter(Value::is_object);
    if let Some(input) = body["input"].as_str() {
        ask.turns.push(Turn::User(vec![input.to_owned()]));
    }
    for item in list(body, "input") {
        match (item["type"].as_str().unwrap_or("message"), item["role"].as_str()) {
            ("function_call" | "custom_tool_call", _) => push_model(&mut ask.turns, 1),
            ("reasoning", _) | ("message", Some("assistant")) => push_model(&mut ask.turns, 0),
            ("function_call_output" | "custom_tool_call_output", _) => {
                ask.turns.push(Turn::Results(vec![texts(&item["output"]).join("\n")]));
            }
            ("message", Some("user")) => ask.turns.push(Turn::User(texts(&item["content"]))),
            ("message", Some("system" | "developer")) => {
                ask.system.push('\n');
                ask.system.push_str(&texts(&item["content"]).join("\n"));
            }
            _ => {}
        }
    }
}
