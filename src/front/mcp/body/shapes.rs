//! The shapes that models write: those of the Messages dialect pass, those of Chat Completions become ours.
//!
//! Sources: Anthropic API reference, "Messages"; OpenAI API reference, "Chat Completions".

use serde_json::{Map, Value, json};

use crate::front::mcp::args::{BadArgs, wrong};

/// Whether a list is one of messages.
pub(super) fn is_messages(list: &[Value]) -> bool {
    !list.is_empty() && list.iter().all(|message| message.get("role").is_some())
}

/// Content as a list of blocks.
pub(super) fn into_list(content: Value) -> Vec<Value> {
    match content {
        Value::Array(blocks) => blocks,
        Value::String(text) if text.is_empty() => Vec::new(),
        Value::String(text) => vec![json!({ "type": "text", "text": text })],
        _ => Vec::new(),
    }
}

/// Whether a message holds a block of this kind.
pub(super) fn has_block(message: &Value, kind: &str) -> bool {
    let Some(Value::Array(blocks)) = message.get("content") else { return false };
    blocks.iter().any(|block| block.get("type").and_then(Value::as_str) == Some(kind))
}

/// System text: text, or blocks of it.
pub(super) fn system_text(system: Option<Value>) -> Result<Option<String>, BadArgs> {
    match system {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
        Some(Value::Array(blocks)) => {
            let texts: Option<Vec<&str>> = blocks
                .iter()
                .map(|block| block.as_str().or_else(|| block.get("text").and_then(Value::as_str)))
                .collect();
            match texts {
                Some(texts) => Ok(Some(texts.join("\n\n")).filter(|text| !text.is_empty())),
                None => Err(BadArgs("`system` must be text, or a list of text blocks".into())),
            }
        }
        Some(other) => Err(wrong("system", "text", &other)),
    }
}

/// Content of a message: text stays text; blocks of the other dialect become ours.
pub(super) fn blocks(content: Value, role: &str) -> Result<Value, BadArgs> {
    match content {
        Value::Null => Ok(Value::Array(Vec::new())),
        Value::String(text) => Ok(Value::String(text)),
        Value::Array(list) => list.into_iter().map(block).collect::<Result<Vec<_>, _>>().map(Value::Array),
        one @ Value::Object(_) => Ok(Value::Array(vec![block(one)?])),
        other => {
            Err(wrong(&format!("content of a {role} message"), "text or a list of content blocks", &other))
        }
    }
}

fn block(block: Value) -> Result<Value, BadArgs> {
    match &block {
        Value::String(text) => Ok(json!({ "type": "text", "text": text })),
        Value::Object(fields) => match fields.get("type").and_then(Value::as_str) {
            Some("image_url") => {
                let url = fields.get("image_url");
                let url = url.and_then(|image| image.as_str().or_else(|| image.get("url")?.as_str()));
                image(url.ok_or_else(|| BadArgs("an `image_url` block needs a url".into()))?)
            }
            Some("input_text" | "output_text") => Ok(json!({ "type": "text", "text": fields.get("text") })),
            Some(_) => Ok(block),
            None => Err(wrong("a content block", "an object with a `type`", &block)),
        },
        other => Err(wrong("a content block", "text or an object with a `type`", other)),
    }
}

/// An image block from a URL, `data:` or `http(s):`.
pub(crate) fn image(url: &str) -> Result<Value, BadArgs> {
    if let Some(data) = url.strip_prefix("data:") {
        let Some((kind, data)) = data.split_once(";base64,") else {
            return Err(BadArgs("a data: URL of an image must be base64: data:image/png;base64,…".into()));
        };
        return Ok(
            json!({ "type": "image", "source": { "type": "base64", "media_type": kind, "data": data } }),
        );
    }
    if url.starts_with("https://") || url.starts_with("http://") {
        return Ok(json!({ "type": "image", "source": { "type": "url", "url": url } }));
    }
    Err(BadArgs("the URL of an image must begin with https:, http: or data:".into()))
}

/// A tool of either dialect as one of ours.
pub(super) fn tool(tool: Value) -> Result<Value, BadArgs> {
    const EXPECTED: &str = "a list of {name, description, input_schema} or OpenAI functions";
    let function = match tool.get("function") {
        Some(function) => function,
        // A server tool of the Messages dialect, or a tool of it.
        None if tool.get("input_schema").is_some() => return Ok(tool),
        None if tool.get("type").is_some_and(|kind| kind != "function" && kind != "custom") => {
            return Ok(tool);
        }
        None => &tool,
    };
    let Some(name) = function.get("name").and_then(Value::as_str) else {
        return Err(wrong("tools", EXPECTED, &tool));
    };
    let mut ours = Map::new();
    ours.insert("name".into(), name.into());
    if let Some(description) = function.get("description").filter(|text| text.is_string()) {
        ours.insert("description".into(), description.clone());
    }
    let schema = function.get("parameters").filter(|schema| schema.is_object());
    ours.insert("input_schema".into(), schema.cloned().unwrap_or_else(|| json!({ "type": "object" })));
    Ok(Value::Object(ours))
}

/// A choice of tools of either dialect as one of ours.
pub(super) fn tool_choice(choice: Value) -> Result<Value, BadArgs> {
    match &choice {
        Value::String(text) => Ok(match text.as_str() {
            "auto" | "none" | "any" => json!({ "type": text }),
            "required" => json!({ "type": "any" }),
            name if name.trim_start().starts_with('{') => {
                return match serde_json::from_str::<Value>(name) {
                    Ok(object @ Value::Object(_)) => tool_choice(object),
                    _ => Err(wrong("tool_choice", "auto, none, required or a tool's name", &choice)),
                };
            }
            name => json!({ "type": "tool", "name": name }),
        }),
        Value::Object(fields) => match fields.get("type").and_then(Value::as_str) {
            Some("function") => {
                let name = choice.pointer("/function/name").or_else(|| fields.get("name"));
                match name.and_then(Value::as_str) {
                    Some(name) => Ok(json!({ "type": "tool", "name": name })),
                    None => Err(wrong("tool_choice", "{type: \"function\", function: {name}}", &choice)),
                }
            }
            Some(_) => Ok(choice),
            None => Err(wrong("tool_choice", "auto, none, required or a tool's name", &choice)),
        },
        _ => Err(wrong("tool_choice", "auto, none, required or a tool's name", &choice)),
    }
}

/// A tool call of the other dialect as a block of ours.
pub(super) fn tool_use(call: &Value) -> Result<Value, BadArgs> {
    let expected = || wrong("tool_calls", "a list of {id, function: {name, arguments}}", call);
    let function = call.get("function").unwrap_or(call);
    let id = call.get("id").and_then(Value::as_str).ok_or_else(expected)?;
    let name = function.get("name").and_then(Value::as_str).ok_or_else(expected)?;
    let input = match function.get("arguments") {
        None | Some(Value::Null) => json!({}),
        Some(Value::String(text)) if text.trim().is_empty() => json!({}),
        Some(Value::String(text)) => serde_json::from_str(text).map_err(|_| expected())?,
        Some(object) => object.clone(),
    };
    Ok(json!({ "type": "tool_use", "id": id, "name": name, "input": input }))
}
