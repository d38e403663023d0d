//! Chat Completions as OpenAI takes them; on OpenRouter's paths, without the rules that only OpenAI has.
//!
//! Sources: OpenAI API reference, "Create chat completion"; wordings that users quoted in public issues.

use std::collections::HashSet;

use serde_json::Value;

use super::is_name;
use crate::simulator::ask::list;
use crate::simulator::errors::Refusal;

type Check = Result<(), Refusal>;

/// Fields of Anthropic's: a translation that let one slip is refused.
const FOREIGN: [&str; 7] = [
    "system",
    "stop_sequences",
    "context_management",
    "output_config",
    "output_format",
    "anthropic_version",
    "mcp_servers",
];

const MOST_TOOLS: usize = 128;

pub(super) fn check(body: &Value, openrouter: bool) -> Check {
    if !body["model"].is_string() {
        return refuse("you must provide a model parameter", "model", None);
    }
    if list(body, "messages").is_empty() {
        let text = "Missing required parameter: 'messages'.";
        return refuse(text, "messages", Some("missing_required_parameter"));
    }
    if let Some(field) = FOREIGN.iter().find(|field| body.get(**field).is_some()) {
        return unknown(field);
    }
    if !openrouter && body.get("top_k").is_some() {
        return unknown("top_k");
    }
    if !openrouter && !body["max_tokens"].is_null() && !body["max_completion_tokens"].is_null() {
        let text = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.";
        return refuse(text, "max_tokens", Some("invalid_parameter_combination"));
    }
    if !body["stream_options"].is_null() && body["stream"] != true {
        let text = "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
        return refuse(text, "stream_options", None);
    }
    if list(body, "stop").len() > 4 {
        let text = "Invalid 'stop': array too long. Expected an array with maximum length 4.";
        return refuse(text, "stop", Some("array_above_max_length"));
    }
    tools(body, openrouter)?;
    messages(body, openrouter)
}

fn tools(body: &Value, openrouter: bool) -> Check {
    let Some(tools) = body["tools"].as_array() else {
        return match &body["tool_choice"] {
            Value::Null => Ok(()),
            _ => refuse(
                "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified.",
                "tool_choice",
                None,
            ),
        };
    };
    if tools.is_empty() {
        let text = "Invalid 'tools': empty array. Expected an array with minimum length 1, but got an empty \
                    array instead.";
        return refuse(text, "tools", Some("empty_array"));
    }
    if tools.len() > MOST_TOOLS {
        let text = format!(
            "Invalid 'tools': array too long. Expected an array with maximum length {MOST_TOOLS}, but got an \
             array with length {} instead.",
            tools.len()
        );
        return refuse(text, "tools", Some("array_above_max_length"));
    }
    for (at, tool) in tools.iter().enumerate() {
        if tool["type"] != "function" {
            let text = format!("Invalid value for 'tools[{at}].type': expected 'function'.");
            return refuse(text, format!("tools[{at}].type"), Some("invalid_value"));
        }
        name(&tool["function"]["name"], &format!("tools[{at}].function.name"))?;
        let parameters = &tool["function"]["parameters"];
        if !parameters.is_null() && parameters["type"] != "object" {
            let text = format!(
                "Invalid schema for function '{}': schema must be a JSON Schema of 'type: \"object\"', got \
                 'type: {}'.",
                tool["function"]["name"].as_str().unwrap_or_default(),
                parameters["type"]
            );
            let param = format!("tools[{at}].function.parameters");
            return refuse(text, param, Some("invalid_function_parameters"));
        }
        if !openrouter && tool.get("cache_control").is_some() {
            return unknown(&format!("tools[{at}].cache_control"));
        }
    }
    let chosen = &body["tool_choice"]["function"]["name"];
    let offered = |tool: &Value| tool["function"]["name"] == *chosen;
    if chosen.is_string() && !tools.iter().any(offered) {
        let text = format!("Tool choice {chosen} not found in 'tools' parameter.");
        return refuse(text, "tool_choice", None);
    }
    Ok(())
}

fn name(name: &Value, param: &str) -> Check {
    let Some(name) = name.as_str() else {
        let text = format!("Missing required parameter: '{param}'.");
        return refuse(text, param, Some("missing_required_parameter"));
    };
    if name.len() > 64 {
        let text = format!(
            "Invalid '{param}': string too long. Expected a string with maximum length 64, but got a string \
             with length {} instead.",
            name.len()
        );
        return refuse(text, param, Some("string_above_max_length"));
    }
    if !is_name(name, 64) {
        let text = format!(
            "Invalid '{param}': string does not match pattern. Expected a string that matches the pattern \
             '^[a-zA-Z0-9_-]+$'."
        );
        return refuse(text, param, Some("invalid_value"));
    }
    Ok(())
}

fn messages(body: &Value, openrouter: bool) -> Check {
    // The calls that wait for their results, and where they were made.
    let mut waiting: Vec<&str> = Vec::new();
    let mut answered: HashSet<&str> = HashSet::new();
    for (at, message) in list(body, "messages").iter().enumerate() {
        let role = message["role"].as_str().unwrap_or_default();
        if role == "tool" {
            let id = message["tool_call_id"].as_str().unwrap_or_default();
            if !waiting.contains(&id) || !answered.insert(id) {
                let text = "Invalid parameter: messages with role 'tool' must be a response to a preceeding \
                            message with 'tool_calls'.";
                return refuse(text, format!("messages.[{at}].role"), None);
            }
        } else {
            all_answered(at, &waiting, &answered)?;
            waiting.clear();
            answered.clear();
        }
        if !matches!(role, "system" | "developer" | "user" | "assistant" | "tool" | "function") {
            let text = format!(
                "Invalid value: '{role}'. Supported values are: 'system', 'assistant', 'user', 'function', \
                 'tool', and 'developer'."
            );
            return refuse(text, format!("messages[{at}].role"), Some("invalid_value"));
        }
        content(&message["content"], at, role, openrouter, message["tool_calls"].is_array())?;
        if role == "assistant" {
            waiting = calls(message, at)?;
        }
    }
    all_answered(list(body, "messages").len(), &waiting, &answered)
}

fn all_answered(at: usize, waiting: &[&str], answered: &HashSet<&str>) -> Check {
    let missing: Vec<&str> = waiting.iter().filter(|id| !answered.contains(**id)).copied().collect();
    if missing.is_empty() {
        return Ok(());
    }
    let text = format!(
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each \
         'tool_call_id'. The following tool_call_ids did not have response messages: {}",
        missing.join(", ")
    );
    refuse(text, format!("messages.[{at}].role"), None)
}

fn calls(message: &Value, at: usize) -> Result<Vec<&str>, Refusal> {
    let mut ids = Vec::new();
    if message["tool_calls"].as_array().is_some_and(Vec::is_empty) {
        let param = format!("messages[{at}].tool_calls");
        let text = format!("Invalid '{param}': empty array. Expected an array with minimum length 1.");
        return Err(Refusal::with(text, param, Some("empty_array")));
    }
    for (place, call) in list(message, "tool_calls").iter().enumerate() {
        let param = format!("messages[{at}].tool_calls[{place}]");
        let Some(id) = call["id"].as_str().filter(|id| !id.is_empty()) else {
            let text = format!("Missing required parameter: '{param}.id'.");
            return Err(Refusal::with(text, param, Some("missing_required_parameter")));
        };
        if call["type"] != "function" {
            let text = format!("Missing required parameter: '{param}.type'.");
            return Err(Refusal::with(text, param, Some("missing_required_parameter")));
        }
        name(&call["function"]["name"], &format!("{param}.function.name"))?;
        if !call["function"]["arguments"].is_string() {
            let param = format!("{param}.function.arguments");
            let text = format!("Invalid type for '{param}': expected a string.");
            return Err(Refusal::with(text, param, Some("invalid_type")));
        }
        ids.push(id);
    }
    Ok(ids)
}

fn content(content: &Value, at: usize, role: &str, openrouter: bool, has_calls: bool) -> Check {
    let param = format!("messages[{at}].content");
    let parts = match content {
        Value::String(_) => return Ok(()),
        Value::Null if role == "assistant" && has_calls => return Ok(()),
        Value::Array(parts) => parts,
        _ => {
            let text = "Invalid value for 'content': expected a string, got null.";
            return refuse(text, format!("messages.[{at}].content"), None);
        }
    };
    let legal: &[&str] = match role {
        "user" => &["text", "image_url", "input_audio", "file"],
        "assistant" => &["text", "refusal"],
        _ => &["text"],
    };
    for (place, part) in parts.iter().enumerate() {
        let kind = part["type"].as_str().unwrap_or_default();
        if !legal.contains(&kind) {
            let text = format!("Invalid value: '{kind}'. Supported values are: '{}'.", legal.join("', '"));
            return refuse(text, format!("{param}[{place}].type"), Some("invalid_value"));
        }
        if kind == "text" && !part["text"].is_string() {
            let text = format!("Missing required parameter: '{param}[{place}].text'.");
            return refuse(text, format!("{param}[{place}].text"), Some("missing_required_parameter"));
        }
        if kind == "image_url" && !part["image_url"]["url"].is_string() {
            let text = format!("Missing required parameter: '{param}[{place}].image_url.url'.");
            return refuse(text, format!("{param}[{place}].image_url"), Some("missing_required_parameter"));
        }
        if !openrouter && part.get("cache_control").is_some() {
            return unknown(&format!("{param}[{place}].cache_control"));
        }
    }
    Ok(())
}

fn unknown(param: &str) -> Check {
    refuse(format!("Unknown parameter: '{param}'."), param, Some("unknown_parameter"))
}

fn refuse(message: impl Into<String>, param: impl Into<String>, code: Option<&'static str>) -> Check {
    Err(Refusal::with(message, param, code))
}
