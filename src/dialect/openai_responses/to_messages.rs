//! Responses requests of callers, read into Messages requests. Nothing is stored: what a caller refers to by id
//! can't be had, and is refused.
//!
//! Source: OpenAI API reference, "Create a model response"; its guides to function calling and reasoning.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;

use super::answer::{ANTHROPIC, REDACTED};
use crate::dialect::anthropic::compose::{Conversation, Destination, Effort, Invalid, Settings, Tool};
use crate::dialect::anthropic::types::{flag, locate, nullable, text};
use crate::dialect::carrier;
use crate::dialect::json::Raw;
use crate::dialect::openai_chat::to_messages::types::{Content, Part, Reasoning};
use crate::dialect::openai_chat::to_messages::{choose, free_text, input, media};
use crate::dialect::openai_chat::types::Number;
use crate::dialect::openai_chat::write::Json;

/// A request. The input is read on its own, since it may be a string.
#[derive(Debug, Deserialize)]
struct ResponsesRequest<'a> {
    #[serde(borrow)]
    input: Raw<'a>,
    #[serde(borrow, default, deserialize_with = "text")]
    instructions: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "flag")]
    stream: bool,
    #[serde(default)]
    max_output_tokens: Number,
    #[serde(borrow, default)]
    temperature: Option<Raw<'a>>,
    #[serde(borrow, default)]
    top_p: Option<Raw<'a>>,
    #[serde(borrow, default, deserialize_with = "nullable")]
    tools: Vec<ToolJson<'a>>,
    #[serde(borrow, default)]
    tool_choice: Option<Raw<'a>>,
    #[serde(default)]
    parallel_tool_calls: Option<bool>,
    #[serde(borrow, default)]
    reasoning: Option<Reasoning<'a>>,
    #[serde(borrow, default)]
    text: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "text")]
    user: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    safety_identifier: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    previous_response_id: Option<Raw<'a>>,
    #[serde(borrow, default)]
    conversation: Option<Raw<'a>>,
    #[serde(borrow, default)]
    prompt: Option<Raw<'a>>,
    #[serde(default, deserialize_with = "flag")]
    background: bool,
}

/// An item of the input: the fields of all types together.
#[derive(Debug, Default, Deserialize)]
struct Item<'a> {
    #[serde(borrow, rename = "type", default, deserialize_with = "text")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    role: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    content: Content<'a>,
    #[serde(borrow, default, deserialize_with = "text")]
    call_id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    namespace: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    arguments: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    input: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    output: Content<'a>,
    #[serde(borrow, default, deserialize_with = "nullable")]
    summary: Vec<Part<'a>>,
    #[serde(borrow, default, deserialize_with = "text")]
    encrypted_content: Option<Cow<'a, str>>,
}

#[derive(Debug, Deserialize)]
struct ToolJson<'a> {
    #[serde(borrow, rename = "type", default, deserialize_with = "text")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    description: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    parameters: Option<Raw<'a>>,
    #[serde(default, deserialize_with = "flag")]
    strict: bool,
    /// Of a namespace.
    #[serde(borrow, default, deserialize_with = "nullable")]
    tools: Vec<ToolJson<'a>>,
}

#[derive(Debug, Deserialize)]
struct Text<'a> {
    #[serde(borrow, default)]
    format: Option<Format<'a>>,
}

#[derive(Debug, Deserialize)]
struct Format<'a> {
    #[serde(borrow, rename = "type", default, deserialize_with = "text")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    schema: Option<Raw<'a>>,
}

/// The Messages request that asks the same.
pub fn to_messages(body: &[u8], to: &Destination<'_>) -> Result<Bytes, Invalid> {
    let located = |error: serde_json::Error| {
        let error = locate(body, &error);
        Invalid::new(error.path, error.message)
    };
    let request: ResponsesRequest<'_> = serde_json::from_slice(body).map_err(located)?;
    refuse_what_is_stored(&request)?;
    let mut conversation = Conversation::default();
    if let Some(instructions) = request.instructions.as_deref() {
        conversation.instruct(Cow::Borrowed(instructions), None, to);
    }
    let items: Vec<Item<'_>>;
    let whole: Cow<'_, str>;
    if request.input.get().starts_with('"') {
        whole = serde_json::from_str::<String>(request.input.get()).map_err(located)?.into();
        conversation.user_text(Cow::Borrowed(&whole), None);
    } else {
        items = serde_json::from_str(request.input.get()).map_err(|error| {
            let error = locate(request.input.get().as_bytes(), &error);
            Invalid::new(format!("input.{}", error.path).trim_end_matches('.'), error.message)
        })?;
        for (at, item) in items.iter().enumerate() {
            take(item, at, &mut conversation, to)?;
        }
    }
    if !conversation.has_begun() {
        return Err(Invalid::new("input", "at least one message of the user is needed"));
    }
    Ok(settings(&request)?.compose(conversation, to))
}

/// The name of a tool in a namespace: these tools have one name each elsewhere.
pub(super) fn flat(namespace: &str, name: &str) -> String {
    if namespace.ends_with("__") { format!("{namespace}{name}") } else { format!("{namespace}__{name}") }
}

fn refuse_what_is_stored(request: &ResponsesRequest<'_>) -> Result<(), Invalid> {
    let is_there = |value: Option<Raw<'_>>| value.is_some_and(|raw| raw.get() != "null");
    for (param, is_there) in [
        ("previous_response_id", is_there(request.previous_response_id)),
        ("conversation", is_there(request.conversation)),
        ("prompt", is_there(request.prompt)),
        ("background", request.background),
    ] {
        if is_there {
            let message = "nothing is stored here; send the whole conversation as input, with store: false";
            return Err(Invalid::new(param, message));
        }
    }
    Ok(())
}

fn take<'a>(
    item: &'a Item<'a>,
    at: usize,
    conversation: &mut Conversation<'a>,
    to: &Destination<'_>,
) -> Result<(), Invalid> {
    let required = |field: &'a Option<Cow<'a, str>>, name: &str| {
        field.as_deref().ok_or_else(|| Invalid::new(format!("input.{at}.{name}"), "Field required"))
    };
    match item.kind.as_deref().unwrap_or("message") {
        "message" => message(item, at, conversation, to)?,
        "function_call" => {
            let name = required(&item.name, "name")?;
            let arguments = input(item.arguments.as_deref().unwrap_or_default());
            let name =
                item.namespace.as_deref().map_or(Cow::Borrowed(name), |space| flat(space, name).into());
            conversation.call(required(&item.call_id, "call_id")?, &name, &arguments);
        }
        "custom_tool_call" => {
            let mut json = Json::default();
            json.object(|json| json.key("input").string(item.input.as_deref().unwrap_or_default()));
            let name = required(&item.name, "name")?;
            conversation.call(required(&item.call_id, "call_id")?, name, &json.finish_string());
        }
        "function_call_output" | "custom_tool_call_output" => {
            output(item, required(&item.call_id, "call_id")?, at, conversation, to)?;
        }
        "reasoning" => reasoning(item, conversation, to),
        "item_reference" => {
            let message = "nothing is stored here; send the item itself";
            return Err(Invalid::new(format!("input.{at}"), message));
        }
        // Calls of tools that OpenAI runs, and what is yet to come.
        _ => {}
    }
    Ok(())
}

fn message<'a>(
    item: &'a Item<'a>,
    at: usize,
    conversation: &mut Conversation<'a>,
    to: &Destination<'_>,
) -> Result<(), Invalid> {
    match item.role.as_deref().unwrap_or("user") {
        "system" | "developer" => {
            for (text, cache) in item.content.texts() {
                conversation.instruct(Cow::Borrowed(text), cache, to);
            }
        }
        "assistant" => {
            for (text, cache) in item.content.texts() {
                conversation.assistant_text(Cow::Borrowed(text), cache);
            }
        }
        "user" => {
            if let Content::Text(text) = &item.content {
                conversation.user_text(Cow::Borrowed(text), None);
            }
            for (nth, part) in item.content.parts().iter().enumerate() {
                let path = format!("input.{at}.content.{nth}");
                if part.is_media() {
                    conversation.user_json(media::block(part, &path, to)?);
                } else if let Some(text) = part.text.as_deref() {
                    conversation.user_text(Cow::Borrowed(text), part.cache_control);
                } else {
                    let kind = part.kind.as_deref().unwrap_or_default();
                    let message = format!("content of type '{kind}' can't be sent to the chosen model");
                    return Err(Invalid::new(path, message));
                }
            }
        }
        other => {
            let message = format!("must be user, assistant, system or developer, not '{other}'");
            return Err(Invalid::new(format!("input.{at}.role"), message));
        }
    }
    Ok(())
}

/// The result of a call.
fn output(
    item: &Item<'_>,
    id: &str,
    at: usize,
    conversation: &mut Conversation<'_>,
    to: &Destination<'_>,
) -> Result<(), Invalid> {
    let texts: Vec<&str> = item.output.texts().map(|(text, _)| text).collect();
    let text = texts.join("\n");
    let mut blocks = Vec::new();
    for part in item.output.parts().iter().filter(|part| part.is_media()) {
        blocks.push(media::block(part, &format!("input.{at}.output"), to)?);
    }
    conversation.result(id, text.clone(), false, |json| {
        if blocks.is_empty() {
            return json.string(&text);
        }
        json.array(|json| {
            if !text.is_empty() {
                json.object(|json| {
                    json.key("type").string("text");
                    json.key("text").string(&text);
                });
            }
            blocks.iter().for_each(|block| json.json(block));
        });
    });
    Ok(())
}

/// Gives reasoning back to those who wrote it; what OpenAI encrypted means nothing to others.
fn reasoning(item: &Item<'_>, conversation: &mut Conversation<'_>, to: &Destination<'_>) {
    let Some(proof) = item.encrypted_content.as_deref() else { return };
    let texts: Vec<&str> = item.summary.iter().filter_map(|part| part.text.as_deref()).collect();
    match (proof.strip_prefix(ANTHROPIC), proof.strip_prefix(REDACTED)) {
        (Some(signature), _) if to.is_anthropic => conversation.thinking(&texts.join("\n\n"), signature),
        (_, Some(data)) if to.is_anthropic => conversation.redacted_thinking(data),
        _ if carrier::is_ours(proof) && !to.is_anthropic => conversation.thinking(&texts.join("\n\n"), proof),
        _ => {}
    }
}

fn settings<'a>(request: &'a ResponsesRequest<'a>) -> Result<Settings<'a>, Invalid> {
    let mut tools = Vec::with_capacity(request.tools.len());
    let mut web_search = false;
    for (nth, tool) in request.tools.iter().enumerate() {
        let named = |tool: &'a ToolJson<'a>| {
            tool.name.as_deref().ok_or_else(|| Invalid::new(format!("tools.{nth}.name"), "Field required"))
        };
        match tool.kind.as_deref().unwrap_or("function") {
            "function" => tools.push(function(tool, Cow::Borrowed(named(tool)?))),
            "custom" => {
                let name = Cow::Borrowed(named(tool)?);
                tools.push(Tool { name, ..free_text(tool.description.as_deref()) });
            }
            "namespace" => {
                let space = named(tool)?;
                for inner in &tool.tools {
                    tools.push(function(inner, flat(space, named(inner)?).into()));
                }
            }
            kind => web_search |= kind.starts_with("web_search"),
        }
    }
    let choice = request.tool_choice.filter(|raw| raw.get() != "null" && !request.tools.is_empty());
    let choice = choice.map(|raw| choose(raw, &mut tools)).transpose()?;
    let format = request.text.as_ref().and_then(|text| text.format.as_ref());
    let is = |kind: &str| format.is_some_and(|format| format.kind.as_deref() == Some(kind));
    let effort = request.reasoning.as_ref().and_then(|reasoning| reasoning.effort.as_deref());
    Ok(Settings {
        stream: request.stream,
        max_tokens: request.max_output_tokens.0,
        temperature: request.temperature,
        top_p: request.top_p,
        choice: choice.filter(|_| !tools.is_empty() || web_search),
        tools,
        web_search,
        one_call: request.parallel_tool_calls == Some(false),
        effort: effort.map(|level| Effort::Level(Cow::Borrowed(level))),
        schema: format.filter(|_| is("json_schema")).and_then(|format| format.schema),
        json_object: is("json_object"),
        user: request.user.as_deref().or(request.safety_identifier.as_deref()).map(Cow::Borrowed),
        ..Settings::default()
    })
}

fn function<'a>(tool: &'a ToolJson<'a>, name: Cow<'a, str>) -> Tool<'a> {
    Tool {
        name,
        description: tool.description.as_deref().map(Cow::Borrowed),
        schema: tool.parameters.filter(|raw| raw.get() != "null"),
        strict: tool.strict,
        cache: None,
    }
}

#[cfg(test)]
mod tests;
