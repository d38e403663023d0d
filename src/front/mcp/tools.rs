//! The tools as clients see them. The schemas are written by hand, since every user pays for their tokens in
//! every conversation; a test holds them under 2,000 tokens together.
//!
//! Source: Model Context Protocol specification, "Tools".

use std::sync::Arc;

use rmcp::model::{JsonObject, MetaObject, Tool, ToolAnnotations};
use serde_json::{Value, json};

use super::Settings;

/// The names of the tools.
pub(crate) const COMPLETION: &str = "proxy_completion";
pub(crate) const COMPARE: &str = "proxy_compare";
pub(crate) const CONFIG: &str = "proxy_config";
pub(crate) const EXPLAIN: &str = "explain_route";
pub(crate) const FAULT: &str = "inject_fault";

/// Claude Code keeps results of up to this many characters in the conversation.
const RESULT_CHARS: u64 = 200_000;

/// The tools, as the config in force allows.
pub(crate) fn all(settings: &Settings) -> Vec<Tool> {
    let mut tools = vec![completion(), compare(), config(settings.allow_changes), explain()];
    if settings.faults_enabled {
        tools.push(fault());
    }
    tools
}

fn completion() -> Tool {
    let input = json!({
        "messages": { "type": ["string", "array"], "description": "Question, or list of {role, content}" },
        "model": { "type": "string", "description": "From cproxy://models" },
        "provider": { "type": "string" },
        "system": { "type": "string" },
        "tools": { "type": "array", "items": {}, "description": "Anthropic or OpenAI shape" },
        "tool_choice": { "description": "auto, none, required, or a tool's name" },
        "max_tokens": { "type": "integer" },
        "temperature": { "type": "number" },
        "reasoning_effort": { "enum": ["none", "low", "medium", "high", "xhigh", "max"] },
        "response_format": { "description": "\"json\", or a JSON Schema" },
        "images": { "type": "array", "items": {}, "description": "URLs, data: URLs or paths" },
        "files": {
            "type": "array", "items": { "type": "string" },
            "description": "Paths inside the workspace; read and sent along"
        },
        "cache": { "enum": ["on", "refresh", "off"], "description": "Cache of answers, where enabled" },
        "conversation_id": { "type": "string", "description": "From an earlier result: continue it, with any model" },
        "stream": { "type": "boolean", "description": "Show text as it comes (default true)" },
        "timeout": { "type": ["number", "string"], "description": "Seconds" }
    });
    let mut output = outcome();
    if let Value::Object(fields) = &mut output {
        for (name, schema) in [
            ("request_id", json!({ "type": "string" })),
            ("route", json!({})),
            ("conversation_id", json!({ "type": "string" })),
            ("rest", json!({ "type": "string", "description": "Resource with the rest of a long text" })),
        ] {
            fields.insert(name.into(), schema);
        }
    }
    tool(
        COMPLETION,
        "Ask another AI model (any provider of this proxy) and get its answer: a second opinion, another \
         model's strengths, or a cheaper one for bulk work.",
        object(input, &[]),
        Some(object(output, &["text"])),
        ToolAnnotations::new().read_only(true).open_world(true),
    )
}

fn compare() -> Tool {
    let input = json!({
        "messages": { "type": ["string", "array"] },
        "models": { "type": "array", "items": { "type": "string" }, "description": "2 to 8" },
        "system": { "type": "string" },
        "max_tokens": { "type": "integer" },
        "temperature": { "type": "number" },
        "reasoning_effort": { "type": "string" },
        "timeout": { "type": ["number", "string"] }
    });
    let output = json!({ "answers": { "type": "array", "items": { "type": "object" } } });
    tool(
        COMPARE,
        "Ask several models the same question at once; gives their answers side by side, with time, tokens \
         and failures.",
        object(input, &["messages", "models"]),
        Some(object(output, &["answers"])),
        ToolAnnotations::new().read_only(true).open_world(true),
    )
}

fn config(allow_changes: bool) -> Tool {
    let (actions, description): (&[&str], _) = if allow_changes {
        (
            &["get", "validate", "reload", "enable", "disable", "strategy", "clear_cache"],
            "Read or change the proxy's configuration. Switches last until the next start.",
        )
    } else {
        (&["get", "validate"], "Read or check the proxy's configuration.")
    };
    let mut input = json!({ "action": { "enum": actions } });
    if let (true, Value::Object(fields)) = (allow_changes, &mut input) {
        fields.insert("provider".into(), json!({ "type": "string", "description": "To enable or disable" }));
        fields.insert("strategy".into(), json!({ "enum": super::manage::STRATEGIES }));
    }
    tool(
        CONFIG,
        description,
        object(input, &["action"]),
        None,
        ToolAnnotations::new().read_only(!allow_changes).destructive(allow_changes).open_world(false),
    )
}

fn explain() -> Tool {
    let input = json!({
        "model": { "type": "string" },
        "provider": { "type": "string" },
        "messages": { "type": ["string", "array"] },
        "tools": { "type": "array", "items": {} },
        "reasoning_effort": { "type": "string" }
    });
    tool(
        EXPLAIN,
        "Show which providers a request would try, in which order and why, without sending it.",
        object(input, &[]),
        None,
        ToolAnnotations::new().read_only(true).open_world(false),
    )
}

fn fault() -> Tool {
    let input = json!({
        "fault": {
            "type": "string",
            "description": "Actors: kill, panic, hang, delay, drop-reply. Upstreams: refuse, status, reset, stall, \
                            cut, corrupt, slow. \"off\" disarms all"
        },
        "target": { "type": "string", "description": "Actor's path or provider, * allowed" },
        "times": { "type": "integer" },
        "probability": { "type": "number" },
        "status": { "type": "integer", "description": "For status" },
        "after_events": { "type": "integer", "description": "For cut, corrupt, reset" },
        "delay": { "type": "string", "description": "For delay, slow: 500ms" },
        "for": { "type": "string", "description": "Disarm after: 10m" }
    });
    tool(
        FAULT,
        "Break something on purpose, to see how the proxy copes.",
        object(input, &["fault"]),
        None,
        ToolAnnotations::new().read_only(false).destructive(true).open_world(false),
    )
}

/// What one question gives back.
fn outcome() -> Value {
    json!({
        "text": { "type": "string" },
        "tool_calls": { "type": "array", "items": { "type": "object" } },
        "model": { "type": "string" },
        "provider": { "type": "string" },
        "finish_reason": { "type": "string" },
        "usage": { "type": "object", "additionalProperties": { "type": "integer" } },
        "cost_usd": { "type": "number" },
        "seconds": { "type": "number" },
        "error": {
            "type": "object",
            "properties": {
                "type": { "type": "string" },
                "message": { "type": "string" },
                "advice": { "type": "string" }
            }
        }
    })
}

fn object(properties: Value, required: &[&str]) -> JsonObject {
    let mut schema = JsonObject::new();
    schema.insert("type".into(), "object".into());
    schema.insert("properties".into(), properties);
    if !required.is_empty() {
        schema.insert("required".into(), json!(required));
    }
    schema
}

fn tool(
    name: &'static str,
    description: &'static str,
    input: JsonObject,
    output: Option<JsonObject>,
    annotations: ToolAnnotations,
) -> Tool {
    let mut tool = Tool::new(name, description, Arc::new(input)).with_annotations(annotations);
    if let Some(output) = output {
        let mut meta = MetaObject::new();
        meta.0.insert("anthropic/maxResultSizeChars".into(), RESULT_CHARS.into());
        tool = tool.with_raw_output_schema(Arc::new(output)).with_meta(meta);
    }
    tool
}
