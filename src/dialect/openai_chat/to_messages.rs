//! Chat Completions requests of callers, read into Messages requests.
//!
//! Sources: OpenAI API reference, "Create chat completion"; OpenRouter's guide to reasoning tokens
//! (`reasoning`, `reasoning_details`); Anthropic's page on OpenAI SDK compatibility (which fields it ignores).

pub(crate) mod media;
pub(crate) mod types;

use std::borrow::Cow;

use bytes::Bytes;

use crate::dialect::anthropic::compose::{
    Choice, Conversation, Destination, Effort, Invalid, Settings, Tool,
};
use crate::dialect::anthropic::types::locate;
use crate::dialect::json::Raw;
use crate::dialect::{carrier, json};
use types::{ChatRequest, Content, Detail, Message, Part, ToolChoice};

/// The `format` of reasoning that Anthropic signed, in `reasoning_details`.
pub const ANTHROPIC_FORMAT: &str = "anthropic-claude-v1";

/// The Messages request that asks the same.
pub fn to_messages(body: &[u8], to: &Destination<'_>) -> Result<Bytes, Invalid> {
    let request: ChatRequest<'_> = serde_json::from_slice(body).map_err(|error| {
        let error = locate(body, &error);
        Invalid::new(error.path, error.message)
    })?;
    if request.n.0.is_some_and(|n| n > 1) {
        return Err(Invalid::new("n", "only one answer at a time can be had from the chosen model"));
    }
    let mut conversation = Conversation::default();
    for (at, message) in request.messages.iter().enumerate() {
        take(message, at, &mut conversation, to)?;
    }
    if !conversation.has_begun() {
        return Err(Invalid::new("messages", "at least one message of the user is needed"));
    }
    Ok(settings(&request)?.compose(conversation, to))
}

fn take<'a>(
    message: &'a Message<'a>,
    at: usize,
    conversation: &mut Conversation<'a>,
    to: &Destination<'_>,
) -> Result<(), Invalid> {
    let path = || format!("messages.{at}.content");
    match message.role.as_ref() {
        "system" | "developer" => {
            for (text, cache) in message.content.texts() {
                conversation.instruct(Cow::Borrowed(text), cache, to);
            }
        }
        "user" => match &message.content {
            Content::None => {}
            Content::Text(text) => conversation.user_text(Cow::Borrowed(text), None),
            Content::Parts(parts) => {
                for (nth, part) in parts.iter().enumerate() {
                    user_part(part, &format!("{}.{nth}", path()), conversation, to)?;
                }
            }
        },
        "assistant" => assistant(message, at, conversation, to)?,
        "tool" | "function" => {
            let id = message.tool_call_id.as_deref().or(message.name.as_deref()).ok_or_else(|| {
                Invalid::new(format!("messages.{at}.tool_call_id"), "a tool's message must name its call")
            })?;
            let text: Vec<&str> = message.content.texts().map(|(text, _)| text).collect();
            let text = text.join("\n");
            let images: Vec<&Part<'_>> =
                message.content.parts().iter().filter(|part| part.is_media()).collect();
            if images.is_empty() {
                conversation.result(id, text.clone(), false, |json| json.string(&text));
                return Ok(());
            }
            let mut blocks = Vec::new();
            for part in images {
                let block = media::block(part, &path(), to)?;
                blocks.push(block);
            }
            conversation.result(id, text.clone(), false, |json| {
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
        }
        other => {
            let message = format!(
                "Invalid value: '{other}'. Supported values are: 'system', 'developer', 'assistant', 'user', and 'tool'."
            );
            return Err(Invalid::new(format!("messages.{at}.role"), message));
        }
    }
    Ok(())
}

fn user_part<'a>(
    part: &'a Part<'a>,
    path: &str,
    conversation: &mut Conversation<'a>,
    to: &Destination<'_>,
) -> Result<(), Invalid> {
    match part.kind.as_deref().unwrap_or("text") {
        "text" | "input_text" => {
            let text =
                part.text.as_deref().ok_or_else(|| Invalid::new(format!("{path}.text"), "Field required"))?;
            conversation.user_text(Cow::Borrowed(text), part.cache_control);
        }
        _ if part.is_media() => {
            let block = media::block(part, path, to)?;
            conversation.user_json(block);
        }
        kind => {
            let message = format!("content parts of type '{kind}' can't be sent to the chosen model");
            return Err(Invalid::new(format!("{path}.type"), message));
        }
    }
    Ok(())
}

fn assistant<'a>(
    message: &'a Message<'a>,
    at: usize,
    conversation: &mut Conversation<'a>,
    to: &Destination<'_>,
) -> Result<(), Invalid> {
    let shown = message.reasoning_content.as_deref().or(message.reasoning.as_deref()).unwrap_or_default();
    // Clients that put a stream together may leave its pieces side by side.
    let mut thought = String::new();
    for detail in &message.reasoning_details {
        thought.push_str(detail.text.as_deref().unwrap_or_default());
        if detail.signature.is_some() || detail.data.is_some() {
            let thought = std::mem::take(&mut thought);
            let thought = if thought.is_empty() && detail.text.is_none() { shown } else { &thought };
            reasoning(detail, thought, conversation, to);
        }
    }
    for (text, cache) in message.content.texts() {
        conversation.assistant_text(Cow::Borrowed(text), cache);
    }
    if let Some(refusal) = message.refusal.as_deref() {
        conversation.assistant_text(Cow::Borrowed(refusal), None);
    }
    for (nth, call) in message.tool_calls.iter().enumerate() {
        let path = || format!("messages.{at}.tool_calls.{nth}");
        let id =
            call.id.as_deref().ok_or_else(|| Invalid::new(format!("{}.id", path()), "Field required"))?;
        if let Some(custom) = &call.custom {
            let mut input = super::write::Json::default();
            input.object(|json| json.key("input").string(custom.input.as_deref().unwrap_or_default()));
            conversation.call(id, custom.name.as_deref().unwrap_or_default(), &input.finish_string());
            continue;
        }
        let function = call
            .function
            .as_ref()
            .ok_or_else(|| Invalid::new(format!("{}.function", path()), "Field required"))?;
        let name = function
            .name
            .as_deref()
            .ok_or_else(|| Invalid::new(format!("{}.function.name", path()), "Field required"))?;
        conversation.call(id, name, &input(function.arguments.as_deref().unwrap_or_default()));
    }
    if let Some(function) = message.function_call.as_ref().filter(|_| message.tool_calls.is_empty()) {
        // The form before `tool_calls` has no ids: its result names the function.
        let name = function.name.as_deref().unwrap_or_default();
        conversation.call(name, name, &input(function.arguments.as_deref().unwrap_or_default()));
    }
    Ok(())
}

/// Gives reasoning back to those who wrote it.
fn reasoning(detail: &Detail<'_>, text: &str, conversation: &mut Conversation<'_>, to: &Destination<'_>) {
    let signature = detail.signature.as_deref().unwrap_or_default();
    let is_anthropics = detail.format.as_deref().is_none_or(|format| format == ANTHROPIC_FORMAT);
    // Ours mean nothing to Anthropic, and Anthropic's nothing to others.
    let is_theirs = match to.is_anthropic {
        true => is_anthropics && !signature.is_empty() && !carrier::is_ours(signature),
        false => carrier::is_ours(signature),
    };
    match detail.kind.as_deref() {
        Some("reasoning.text") if is_theirs => conversation.thinking(text, signature),
        Some("reasoning.encrypted") if to.is_anthropic && is_anthropics => {
            if let Some(data) = detail.data.as_deref() {
                conversation.redacted_thinking(data);
            }
        }
        _ => {}
    }
}

/// Arguments as the text of one object; what is none is handed on so that it can be seen.
pub(crate) fn input(arguments: &str) -> Cow<'_, str> {
    if arguments.trim().is_empty() {
        return Cow::Borrowed("{}");
    }
    if json::is_object(arguments) {
        return Cow::Borrowed(arguments);
    }
    let mut raw = super::write::Json::default();
    raw.object(|json| json.key("_raw").string(arguments));
    Cow::Owned(raw.finish_string())
}

fn settings<'a>(request: &'a ChatRequest<'a>) -> Result<Settings<'a>, Invalid> {
    let mut tools = Vec::with_capacity(request.tools.len());
    for (nth, tool) in request.tools.iter().enumerate() {
        let missing = |field: &str| Invalid::new(format!("tools.{nth}.{field}"), "Field required");
        if let Some(custom) = &tool.custom {
            let name = custom.name.as_deref().ok_or_else(|| missing("custom.name"))?;
            tools.push(Tool { name: Cow::Borrowed(name), ..free_text(custom.description.as_deref()) });
            continue;
        }
        let function = tool.function.as_ref().ok_or_else(|| missing("function"))?;
        let name = function.name.as_deref().ok_or_else(|| missing("function.name"))?;
        tools.push(Tool {
            name: Cow::Borrowed(name),
            description: function.description.as_deref().map(Cow::Borrowed),
            schema: function.parameters.filter(|raw| raw.get() != "null"),
            strict: function.strict,
            cache: tool.cache_control,
        });
    }
    for function in &request.functions {
        tools.push(Tool {
            name: Cow::Borrowed(function.name.as_deref().unwrap_or_default()),
            description: function.description.as_deref().map(Cow::Borrowed),
            schema: function.parameters,
            ..Tool::default()
        });
    }
    let mut choice = None;
    if let Some(raw) = request.tool_choice.filter(|raw| raw.get() != "null") {
        choice = Some(choose(raw, &mut tools)?);
    }
    if tools.is_empty() && request.web_search_options.is_none() {
        choice = None;
    }
    let format = request.response_format.as_ref();
    let is = |kind: &str| format.is_some_and(|format| format.kind.as_deref() == Some(kind));
    let reasoning = request.reasoning.as_ref();
    let effort = match (request.reasoning_effort.as_deref(), reasoning) {
        (Some(level), _) => Some(Effort::Level(Cow::Borrowed(level))),
        (None, Some(reasoning)) => {
            match (reasoning.enabled, reasoning.effort.as_deref(), reasoning.max_tokens.0) {
                (Some(false), ..) => Some(Effort::Off),
                (_, Some(level), _) => Some(Effort::Level(Cow::Borrowed(level))),
                (_, None, Some(tokens)) => Some(Effort::Budget(tokens)),
                (Some(true), None, None) => Some(Effort::On),
                (None, None, None) => None,
            }
        }
        (None, None) => None,
    };
    Ok(Settings {
        stream: request.stream,
        max_tokens: request.max_completion_tokens.0.or(request.max_tokens.0),
        temperature: request.temperature,
        top_p: request.top_p,
        top_k: request.top_k,
        stop: request.stop.0.iter().map(|stop| Cow::Borrowed(stop.as_ref())).collect(),
        tools,
        web_search: request.web_search_options.is_some(),
        choice,
        one_call: request.parallel_tool_calls == Some(false),
        effort,
        schema: format
            .filter(|_| is("json_schema"))
            .and_then(|format| format.json_schema.as_ref())
            .and_then(|wanted| wanted.schema),
        json_object: is("json_object"),
        user: request.user.as_deref().or(request.safety_identifier.as_deref()).map(Cow::Borrowed),
    })
}

/// A tool that takes free text.
pub(crate) fn free_text(description: Option<&str>) -> Tool<'_> {
    let schema: Option<Raw<'static>> =
        serde_json::from_str(crate::dialect::anthropic::compose::FREE_TEXT).ok();
    Tool { description: description.map(Cow::Borrowed), schema, ..Tool::default() }
}

/// Reads `tool_choice`; one that allows some tools only takes the others from the list.
pub(crate) fn choose<'a>(raw: Raw<'a>, tools: &mut Vec<Tool<'a>>) -> Result<Choice<'a>, Invalid> {
    let wrong =
        || Invalid::new("tool_choice", "must be 'none', 'auto', 'required', or name a tool of the list");
    let choice: ToolChoice<'a> = serde_json::from_str(raw.get()).map_err(|_| wrong())?;
    let mode = |mode: &str| match mode {
        "auto" => Some(Choice::Auto),
        "none" => Some(Choice::None),
        "required" | "any" => Some(Choice::Any),
        _ => None,
    };
    match choice {
        ToolChoice::Mode(name) => mode(&name).ok_or_else(wrong),
        ToolChoice::Object(object) => {
            if object.kind.as_deref() == Some("allowed_tools") {
                let allowed = object.allowed_tools.as_deref().unwrap_or(&object);
                let names: Vec<&str> = allowed.tools.iter().filter_map(|tool| tool.named()).collect();
                tools.retain(|tool| names.contains(&tool.name.as_ref()));
                return mode(allowed.mode.as_deref().unwrap_or("auto")).ok_or_else(wrong);
            }
            let Some(name) = object.named().map(str::to_owned) else {
                // A tool that OpenAI runs.
                return object.kind.is_some().then_some(Choice::Auto).ok_or_else(wrong);
            };
            if !tools.iter().any(|tool| tool.name == name) {
                return Err(wrong());
            }
            Ok(Choice::Named(name.into()))
        }
    }
}

#[cfg(test)]
mod tests;
