//! Gemini generateContent. Source: Gemini API reference, "Generating content".

use serde_json::Value;

use super::{Ask, Turn, list, push_model, strings, text, texts};

pub(super) fn read(body: &Value, ask: &mut Ask) {
    let config = &body["generationConfig"];
    ask.max_tokens = config["maxOutputTokens"].as_u64();
    ask.tools = list(body, "tools")
        .iter()
        .flat_map(|tool| list(tool, "functionDeclarations"))
        .map(|function| text(function, "name"))
        .collect();
    let thinking = &config["thinkingConfig"];
    ask.thinking = thinking.is_object() && thinking["thinkingBudget"].as_i64() != Some(0);
    ask.thinking_shown = thinking["includeThoughts"].as_bool().unwrap_or(false);
    ask.system = texts(&body["systemInstruction"]["parts"]).join("\n");
    ask.stop = strings(&config["stopSequences"]);
    let schemas = [&config["responseJsonSchema"], &config["responseSchema"]];
    ask.schema = schemas.into_iter().find(|schema| schema.is_object()).cloned();
    for content in list(body, "contents") {
        let parts = list(content, "parts");
        if content["role"].as_str() == Some("model") {
            let calls = parts.iter().filter(|part| part["functionCall"].is_object());
            push_model(&mut ask.turns, calls.count());
            continue;
        }
        let results: Vec<_> = parts
            .iter()
            .filter(|part| part["functionResponse"].is_object())
            .map(|part| match &part["functionResponse"]["response"] {
                Value::Object(fields) if fields.len() == 1 => {
                    fields.values().next().map(plain).unwrap_or_default()
                }
                response => response.to_string(),
            })
            .collect();
        if !results.is_empty() {
            ask.turns.push(Turn::Results(results));
        }
        ask.turns.push(Turn::User(texts(&content["parts"])));
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), String::from)
}
