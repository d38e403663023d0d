//! OpenAI Responses. Sources: OpenAI API reference, "Create a model response"; wordings that users quoted in
//! public issues.

use std::collections::HashSet;

use serde_json::Value;

use super::is_name;
use crate::simulator::ask::list;
use crate::simulator::errors::Refusal;
use crate::simulator::reply::SIGNATURE;

type Check = Result<(), Refusal>;

/// Fields of other dialects, with where they went.
const MOVED: [(&str, &str); 6] = [
    ("messages", "input"),
    ("max_tokens", "max_output_tokens"),
    ("max_completion_tokens", "max_output_tokens"),
    ("response_format", "text.format"),
    ("reasoning_effort", "reasoning.effort"),
    ("system", "instructions"),
];

pub(super) fn check(body: &Value, counting: bool) -> Check {
    for (field, moved) in MOVED {
        if body.get(field).is_some() {
            let text = format!(
                "Unsupported parameter: '{field}'. In the Responses API, this parameter has moved to '{moved}'."
            );
            return refuse(text, field, Some("unsupported_parameter"));
        }
    }
    if body["input"].is_null() {
        let text = "Missing required parameter: 'input'.";
        return refuse(text, "input", Some("missing_required_parameter"));
    }
    if !counting && let Some(limit) = body["max_output_tokens"].as_u64().filter(|limit| *limit < 16) {
        let text = format!(
            "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16, but got {limit} \
             instead."
        );
        return refuse(text, "max_output_tokens", Some("integer_below_min_value"));
    }
    for (at, tool) in list(body, "tools").iter().enumerate() {
        if tool["type"] == "function" && !tool["name"].as_str().is_some_and(|name| is_name(name, 64)) {
            let param = format!("tools[{at}].name");
            let text = format!("Invalid '{param}': string does not match pattern '^[a-zA-Z0-9_-]+$'.");
            return refuse(text, param, Some("invalid_value"));
        }
    }
    items(list(body, "input"))
}

fn items(items: &[Value]) -> Check {
    let mut open: HashSet<&str> = HashSet::new();
    for (at, item) in items.iter().enumerate() {
        let id = item["call_id"].as_str().unwrap_or_default();
        match item["type"].as_str().unwrap_or("message") {
            "function_call" => {
                if !item["arguments"].is_string() {
                    let param = format!("input[{at}].arguments");
                    let text = format!("Invalid type for '{param}': expected a string.");
                    return refuse(text, param, Some("invalid_type"));
                }
                open.insert(id);
            }
            "function_call_output" if !open.remove(id) => {
                let text = format!("No tool call found for function call output with call_id {id}.");
                return refuse(text, "input", None);
            }
            "reasoning" => {
                let sealed = item["encrypted_content"].as_str();
                if sealed.is_some_and(|sealed| !sealed.starts_with(SIGNATURE)) {
                    let text = format!(
                        "The encrypted content for item {} could not be verified.",
                        item["id"].as_str().unwrap_or_default()
                    );
                    return refuse(text, "input", Some("invalid_encrypted_content"));
                }
                let followed = items.get(at + 1).is_some_and(|next| {
                    next["role"] == "assistant"
                        || matches!(
                            next["type"].as_str(),
                            Some("function_call" | "custom_tool_call" | "reasoning")
                        )
                });
                if !followed {
                    let text = format!(
                        "Item '{}' of type 'reasoning' was provided without its required following item.",
                        item["id"].as_str().unwrap_or_default()
                    );
                    return refuse(text, "input", None);
                }
            }
            _ => {}
        }
    }
    match items.iter().filter_map(|item| item["call_id"].as_str()).find(|id| open.contains(id)) {
        Some(id) => refuse(format!("No tool output found for function call {id}."), "input", None),
        None => Ok(()),
    }
}

fn refuse(message: impl Into<String>, param: impl Into<String>, code: Option<&'static str>) -> Check {
    Err(Refusal::with(message, param, code))
}
