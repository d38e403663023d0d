//! Anthropic Messages. Source: Anthropic API reference, "Messages".

use serde_json::Value;

use super::{Ask, Turn, list, push_model, strings, text, texts};

pub(super) fn read(body: &Value, ask: &mut Ask) {
    ask.max_tokens = body["max_tokens"].as_u64();
    ask.tools = list(body, "tools").iter().map(|tool| text(tool, "name")).collect();
    ask.thinking = matches!(body["thinking"]["type"].as_str(), Some("enabled" | "adaptive"));
    ask.thinking_shown = body["thinking"]["display"].as_str() != Some("omitted");
    ask.system = texts(&body["system"]).join("\n");
    ask.stop = strings(&body["stop_sequences"]);
    let format =
        [&body["output_config"]["format"], &body["output_format"]].into_iter().find(|f| f.is_object());
    ask.schema = format.map(|format| format["schema"].clone()).filter(Value::is_object);
    for message in list(body, "messages") {
        match message["role"].as_str() {
            Some("assistant") => {
                let calls = list(message, "content").iter().filter(|block| block["type"] == "tool_use");
                push_model(&mut ask.turns, calls.count());
            }
            Some("user") => {
                let results: Vec<_> = list(message, "content")
                    .iter()
                    .filter(|block| block["type"] == "tool_result")
                    .map(|block| texts(&block["content"]).join("\n"))
                    .collect();
                if !results.is_empty() {
                    ask.turns.push(Turn::Results(results));
                }
                ask.turns.push(Turn::User(texts(&message["content"])));
            }
            _ => {}
        }
    }
}
