//! Anthropic Messages. Sources: Anthropic API reference, "Messages" and "Errors"; "Extended thinking" and
//! "Tool use" guides; wordings that users quoted in public issues.

use std::collections::HashSet;

use http::HeaderMap;
use serde_json::Value;

use super::is_name;
use crate::simulator::ask::list;
use crate::simulator::errors::Refusal;
use crate::simulator::reply::{SIGNATURE, is_signed};

type Check = Result<(), Refusal>;

/// Blocks that a request may hold.
const BLOCKS: [&str; 26] = [
    "text",
    "image",
    "document",
    "search_result",
    "thinking",
    "redacted_thinking",
    "tool_use",
    "tool_result",
    "server_tool_use",
    "web_search_tool_result",
    "web_fetch_tool_result",
    "code_execution_tool_result",
    "bash_code_execution_tool_result",
    "text_editor_code_execution_tool_result",
    "tool_search_tool_result",
    "advisor_tool_result",
    "mcp_tool_use",
    "mcp_tool_result",
    "mcp_tool_listing",
    "container_upload",
    "compaction",
    "tool_addition",
    "tool_removal",
    "fallback",
    "tool_reference",
    "browser_state",
];

/// Fields of other dialects: a translation that let one slip is refused.
const FOREIGN: [&str; 12] = [
    "max_completion_tokens",
    "stream_options",
    "reasoning_effort",
    "reasoning",
    "response_format",
    "stop",
    "n",
    "functions",
    "parallel_tool_calls",
    "frequency_penalty",
    "presence_penalty",
    "input",
];

/// Fields that need a beta header, with the start of its value.
const BETA: [(&str, &str); 2] =
    [("context_management", "context-management-"), ("mcp_servers", "mcp-client-")];

pub(super) fn check(headers: &HeaderMap, body: &Value, counting: bool) -> Check {
    if !headers.contains_key("anthropic-version") {
        return refuse("anthropic-version: header is required");
    }
    if !body["model"].is_string() {
        return refuse("model: Field required");
    }
    if !counting && !body["max_tokens"].is_u64() {
        return refuse("max_tokens: Field required");
    }
    if !body["messages"].is_array() {
        return refuse("messages: Field required");
    }
    if let Some(field) = FOREIGN.iter().find(|field| body.get(**field).is_some()) {
        return refuse(format!("{field}: Extra inputs are not permitted"));
    }
    let betas: Vec<&str> =
        headers.get_all("anthropic-beta").iter().filter_map(|value| value.to_str().ok()).collect();
    for (field, beta) in BETA {
        if body.get(field).is_some() && !betas.iter().any(|value| value.contains(beta)) {
            return refuse(format!("{field}: Extra inputs are not permitted"));
        }
    }
    if body["temperature"].as_f64().is_some_and(|value| !(0.0..=1.0).contains(&value)) {
        return refuse("temperature: range: 0..1");
    }
    thinking(body)?;
    tools(body)?;
    cache_controls(body)?;
    for (at, block) in list(body, "system").iter().enumerate() {
        if block["text"].as_str().is_none_or(str::is_empty) {
            return refuse(format!("system.{at}.text: text content blocks must be non-empty"));
        }
    }
    messages(body)
}

fn thinking(body: &Value) -> Check {
    let budget = &body["thinking"]["budget_tokens"];
    if body["thinking"]["type"] != "enabled" {
        return Ok(());
    }
    let Some(budget) = budget.as_u64() else {
        return refuse("thinking.enabled.budget_tokens: Field required");
    };
    if budget < 1024 {
        return refuse("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024");
    }
    if body["max_tokens"].as_u64().is_some_and(|max| max <= budget) {
        return refuse("`max_tokens` must be greater than `thinking.budget_tokens`");
    }
    if matches!(body["tool_choice"]["type"].as_str(), Some("any" | "tool")) {
        return refuse("Thinking may not be enabled when tool_choice forces tool use.");
    }
    Ok(())
}

fn tools(body: &Value) -> Check {
    let tools = list(body, "tools");
    if tools.is_empty() && matches!(body["tool_choice"]["type"].as_str(), Some("auto" | "any" | "tool")) {
        return refuse("tool_choice: may only be specified while providing tools");
    }
    let mut names = HashSet::new();
    for (at, tool) in tools.iter().enumerate() {
        let custom = tool["type"].as_str().is_none_or(|kind| kind == "custom");
        let Some(name) = tool["name"].as_str() else {
            if custom {
                return refuse(format!("tools.{at}.custom.name: Field required"));
            }
            continue;
        };
        if custom && !is_name(name, 128) {
            return refuse(format!(
                "tools.{at}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'"
            ));
        }
        if !names.insert(name) {
            return refuse("tools: Tool names must be unique.");
        }
        if custom && !tool["input_schema"].is_object() {
            return refuse(format!("tools.{at}.custom.input_schema: Field required"));
        }
        if custom && tool["input_schema"]["type"] != "object" {
            return refuse(format!("tools.{at}.custom.input_schema.type: Input should be 'object'"));
        }
    }
    match body["tool_choice"]["name"].as_str() {
        Some(name) if !names.contains(name) => {
            refuse(format!("tool_choice: Tool '{name}' not found in provided tools"))
        }
        _ => Ok(()),
    }
}

fn cache_controls(body: &Value) -> Check {
    fn count(value: &Value) -> usize {
        match value {
            Value::Array(items) => items.iter().map(count).sum(),
            Value::Object(members) => {
                let own = usize::from(members.get("cache_control").is_some_and(Value::is_object));
                // What tools take and return is not the API's to read.
                let inner = members.iter().filter(|(name, _)| *name != "input" && *name != "input_schema");
                own + inner.map(|(_, member)| count(member)).sum::<usize>()
            }
            _ => 0,
        }
    }
    let found: usize = ["tools", "system", "messages"].iter().map(|part| count(&body[*part])).sum();
    if found > 4 {
        return refuse(format!("A maximum of 4 blocks with cache_control may be provided. Found {found}."));
    }
    Ok(())
}

fn messages(body: &Value) -> Check {
    let messages = list(body, "messages");
    if messages.is_empty() {
        return refuse("messages: at least one message is required");
    }
    if messages[0]["role"] != "user" {
        return refuse("messages: first message must use the \"user\" role");
    }
    for (at, message) in messages.iter().enumerate() {
        let role = message["role"].as_str().unwrap_or_default();
        if !matches!(role, "user" | "assistant" | "system") {
            return refuse(format!("messages.{at}.role: Input should be 'user' or 'assistant'"));
        }
        let last = at + 1 == messages.len();
        match &message["content"] {
            Value::String(text) if text.is_empty() && !(last && role == "assistant") => {
                return all_non_empty(at);
            }
            Value::Array(blocks) if blocks.is_empty() && !(last && role == "assistant") => {
                return all_non_empty(at);
            }
            Value::String(_) => {}
            Value::Array(blocks) => {
                for (place, block) in blocks.iter().enumerate() {
                    check_block(&format!("messages.{at}.content.{place}"), role, block)?;
                }
            }
            Value::Null if role == "system" => {}
            _ => return refuse(format!("messages.{at}.content: Input should be a valid list")),
        }
    }
    calls_and_results(messages)
}

fn all_non_empty(at: usize) -> Check {
    refuse(format!(
        "messages.{at}: all messages must have non-empty content except for the optional final assistant message"
    ))
}

fn check_block(place: &str, role: &str, block: &Value) -> Check {
    let kind = block["type"].as_str().unwrap_or_default();
    if !BLOCKS.contains(&kind) {
        return refuse(format!(
            "{place}: Input tag '{kind}' found using 'type' does not match any of the expected tags: 'text', \
             'image', 'document', 'thinking', 'redacted_thinking', 'tool_use', 'tool_result'"
        ));
    }
    match kind {
        "text" if block["text"].as_str().is_none_or(str::is_empty) => {
            refuse("messages: text content blocks must be non-empty")
        }
        "thinking" | "redacted_thinking" | "tool_use" if role != "assistant" => {
            refuse(format!("{place}: `{kind}` blocks can only be in `assistant` messages"))
        }
        "tool_result" if role != "user" => {
            refuse(format!("{place}: `tool_result` blocks can only be in `user` messages"))
        }
        "thinking" => {
            let text = block["thinking"].as_str();
            let signature = block["signature"].as_str();
            match (text, signature) {
                (None, _) => refuse(format!("{place}.thinking.thinking: Field required")),
                (_, None) => refuse(format!("{place}.thinking.signature: Field required")),
                (Some(text), Some(signature)) if !is_signed(text, signature) => {
                    refuse(format!("{place}: Invalid `signature` in `thinking` block"))
                }
                _ => Ok(()),
            }
        }
        "redacted_thinking" if !block["data"].as_str().is_some_and(|data| data.starts_with(SIGNATURE)) => {
            refuse(format!("{place}: Invalid `data` in `redacted_thinking` block"))
        }
        "tool_use" if !block["input"].is_object() => {
            refuse(format!("{place}.tool_use.input: Input should be a valid dictionary"))
        }
        "tool_use" if !block["id"].as_str().is_some_and(|id| is_name(id, usize::MAX)) => {
            refuse(format!("{place}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'"))
        }
        "tool_use" if !block["name"].as_str().is_some_and(|name| is_name(name, 200)) => {
            refuse(format!("{place}.tool_use.name: String should match pattern '^[a-zA-Z0-9_-]{{1,200}}$'"))
        }
        "tool_result" => {
            for (at, inner) in list(block, "content").iter().enumerate() {
                if inner["type"] == "text" && inner["text"].as_str().is_none_or(str::is_empty) {
                    return refuse("messages: text content blocks must be non-empty");
                }
                if !inner["type"].as_str().is_some_and(|kind| BLOCKS.contains(&kind)) {
                    return refuse(format!("{place}.tool_result.content.{at}: Input tag not expected"));
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Each call is answered in the next turn of the user, once; each result answers a call of the turn before.
fn calls_and_results(messages: &[Value]) -> Check {
    let mut seen = HashSet::new();
    let mut waiting: Option<(usize, Vec<&str>)> = None;
    let mut at = 0;
    while at < messages.len() {
        // Adjacent messages of one side are one turn; a system message is part of the user's side.
        let assistant = messages[at]["role"] == "assistant";
        let end = messages[at..]
            .iter()
            .position(|message| (message["role"] == "assistant") != assistant)
            .map_or(messages.len(), |length| at + length);
        let turn = &messages[at..end];
        if assistant {
            let ids: Vec<&str> = blocks(turn, "tool_use").filter_map(|(_, _, b)| b["id"].as_str()).collect();
            if !ids.iter().all(|id| seen.insert(*id)) {
                return refuse("messages: `tool_use` ids must be unique");
            }
            waiting = (!ids.is_empty()).then_some((end - 1, ids));
        } else {
            let (asked_at, asked) = waiting.take().unwrap_or_default();
            let mut given = HashSet::new();
            for (message, place, block) in blocks(turn, "tool_result") {
                let id = block["tool_use_id"].as_str().unwrap_or_default();
                if !asked.contains(&id) {
                    return refuse(format!(
                        "messages.{}.content.{place}: unexpected `tool_use_id` found in `tool_result` blocks: \
                         {id}. Each `tool_result` block must have a corresponding `tool_use` block in the \
                         previous message.",
                        at + message
                    ));
                }
                if !given.insert(id) {
                    return refuse(format!(
                        "messages.{}.content.{place}: each tool_use must have a single result. Found multiple \
                         `tool_result` blocks with id: {id}",
                        at + message
                    ));
                }
            }
            unanswered(asked_at, asked.into_iter().filter(|id| !given.contains(id)).collect())?;
        }
        at = end;
    }
    match waiting {
        Some((at, ids)) => unanswered(at, ids),
        None => Ok(()),
    }
}

fn unanswered(at: usize, ids: Vec<&str>) -> Check {
    if ids.is_empty() {
        return Ok(());
    }
    refuse(format!(
        "messages.{at}: `tool_use` ids were found without `tool_result` blocks immediately after: {}. Each \
         `tool_use` block must have a corresponding `tool_result` block in the next message.",
        ids.join(", ")
    ))
}

/// The blocks of a kind, with the places of their message in the turn and their own in it.
fn blocks<'v>(turn: &'v [Value], kind: &'v str) -> impl Iterator<Item = (usize, usize, &'v Value)> {
    turn.iter().enumerate().flat_map(move |(message, value)| {
        let blocks = list(value, "content").iter().enumerate();
        blocks
            .filter(move |(_, block)| block["type"] == kind)
            .map(move |(place, block)| (message, place, block))
    })
}

fn refuse(message: impl Into<String>) -> Check {
    Err(Refusal::new(message))
}
