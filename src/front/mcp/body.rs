//! Builds a request of the Messages dialect from what a tool call says.
//!
//! Sources: Anthropic API reference, "Messages" (`output_config`, `thinking`, `tool_choice`); OpenAI API
//! reference, "Chat Completions" (`tools`, `tool_choice`, `tool_calls`, `response_format`), since models that
//! call this tool write either shape.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use serde_json::{Map, Value, json};

use crate::config::ProviderId;
use crate::dialect::{Dialect, Head};
use crate::exchange::{CacheWish, Credential, Front, Request, RequestId};
use crate::routing::Facts;

use super::args::{Args, BadArgs, wrong};

mod shapes;

pub(crate) use shapes::image;
use shapes::{blocks, has_block, into_list, is_messages, system_text, tool, tool_choice, tool_use};

/// Output tokens when the call names no limit.
const MAX_TOKENS: u64 = 8_192;
/// The same when the model is asked to reason, which counts as output.
const MAX_TOKENS_REASONING: u64 = 32_000;

/// What is asked of a model, apart from which one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Question {
    /// Messages of the Messages dialect.
    pub messages: Vec<Value>,
    /// System text.
    pub system: Option<String>,
    /// Tools of the Messages dialect.
    pub tools: Vec<Value>,
    /// Its choice of tools.
    pub tool_choice: Option<Value>,
    /// The limit on output.
    pub max_tokens: Option<u64>,
    /// Temperature.
    pub temperature: Option<f64>,
    /// `low`, `medium`, `high`, `xhigh`, `max`, or `none`.
    pub effort: Option<String>,
    /// The schema that the answer must follow.
    pub schema: Option<Value>,
    /// What is wanted of the cache of answers.
    pub cache: CacheWish,
}

// === reading ===

impl Question {
    /// Takes the arguments that make up a question.
    pub fn take(args: &mut Args) -> Result<Question, BadArgs> {
        let mut question = Question::default();
        let messages = args.value("messages");
        question.system = system_text(args.value("system"))?;
        question.read_messages(messages)?;
        question.tools = args.list("tools").into_iter().map(tool).collect::<Result<_, _>>()?;
        question.tool_choice = args.value("tool_choice").map(tool_choice).transpose()?;
        question.max_tokens = args.whole("max_tokens")?;
        if question.max_tokens == Some(0) {
            return Err(BadArgs("`max_tokens` must be at least 1".into()));
        }
        question.temperature = args.number("temperature")?;
        question.effort = args.text("reasoning_effort")?.map(effort).transpose()?;
        question.cache = args.text("cache")?.map(cache).transpose()?.unwrap_or_default();
        if let Some(format) = args.value("response_format") {
            question.response_format(format)?;
        }
        Ok(question)
    }

    fn read_messages(&mut self, messages: Option<Value>) -> Result<(), BadArgs> {
        const EXPECTED: &str = "text, or a list of {role, content}";
        let messages = match messages {
            None => return Ok(()),
            Some(Value::String(text)) => match serde_json::from_str::<Value>(&text) {
                Ok(Value::Array(list)) if is_messages(&list) => list,
                _ if text.trim().is_empty() => return Err(BadArgs("`messages` is empty".into())),
                _ => vec![json!({ "role": "user", "content": text })],
            },
            Some(Value::Array(list)) => list,
            Some(one @ Value::Object(_)) => vec![one],
            Some(other) => return Err(wrong("messages", EXPECTED, &other)),
        };
        for message in messages {
            match message {
                Value::String(text) => self.messages.push(json!({ "role": "user", "content": text })),
                Value::Object(message) => self.read_message(message)?,
                other => return Err(wrong("messages", EXPECTED, &other)),
            }
        }
        Ok(())
    }

    fn read_message(&mut self, mut message: Map<String, Value>) -> Result<(), BadArgs> {
        let role = message.get("role").and_then(Value::as_str).unwrap_or("user").to_owned();
        let content = message.remove("content").unwrap_or(Value::Null);
        match role.as_str() {
            "system" | "developer" => {
                if let Some(text) = system_text(Some(content))? {
                    self.add_system(&text);
                }
            }
            "user" => self.messages.push(json!({ "role": "user", "content": blocks(content, "user")? })),
            "assistant" => {
                let calls = message.remove("tool_calls").unwrap_or(Value::Null);
                let mut content = blocks(content, "assistant")?;
                if let Value::Array(calls) = calls {
                    let mut all = into_list(content);
                    for call in calls {
                        all.push(tool_use(&call)?);
                    }
                    content = Value::Array(all);
                }
                self.messages.push(json!({ "role": "assistant", "content": content }));
            }
            "tool" => {
                let id = message.get("tool_call_id").or_else(|| message.get("tool_use_id"));
                let Some(id) = id.and_then(Value::as_str) else {
                    return Err(BadArgs("a message with role \"tool\" needs `tool_call_id`".into()));
                };
                let result =
                    json!({ "type": "tool_result", "tool_use_id": id, "content": blocks(content, "tool")? });
                self.messages.push(json!({ "role": "user", "content": [result] }));
            }
            other => {
                return Err(BadArgs(format!(
                    "`role` must be user, assistant, system or tool, not \"{}\"",
                    other.chars().take(30).collect::<String>()
                )));
            }
        }
        Ok(())
    }

    fn response_format(&mut self, format: Value) -> Result<(), BadArgs> {
        const EXPECTED: &str = "\"json\", {type: \"json_schema\", json_schema: {schema}} or a JSON Schema";
        let format = match format {
            Value::String(text) if text.trim_start().starts_with('{') => serde_json::from_str(&text)
                .map_err(|error| BadArgs(format!("`response_format` is not valid JSON: {error}")))?,
            other => other,
        };
        let kind = format.as_str().or_else(|| format.get("type").and_then(Value::as_str)).map(str::to_owned);
        match kind.as_deref() {
            Some("text") => {}
            Some("json" | "json_object") => self.add_system("Answer with one JSON object only."),
            Some("json_schema") => {
                let schema = format.pointer("/json_schema/schema").or_else(|| format.get("schema"));
                self.schema =
                    Some(schema.cloned().ok_or_else(|| wrong("response_format", EXPECTED, &format))?);
            }
            Some("object") => self.schema = Some(format),
            _ => return Err(wrong("response_format", EXPECTED, &format)),
        }
        Ok(())
    }

    fn add_system(&mut self, text: &str) {
        match &mut self.system {
            Some(system) => {
                system.push_str("\n\n");
                system.push_str(text);
            }
            None => self.system = Some(text.to_owned()),
        }
    }

    /// Puts content blocks before what the last message of the user says.
    pub fn attach(&mut self, attached: Vec<Value>) {
        if attached.is_empty() {
            return;
        }
        match self.messages.last_mut() {
            Some(Value::Object(message)) if message.get("role").and_then(Value::as_str) == Some("user") => {
                let said = message.remove("content").unwrap_or(Value::Null);
                let mut content = attached;
                let said = into_list(said);
                // Results of tools come first in a message, by the rule of the dialect.
                let at = said
                    .iter()
                    .take_while(|block| block.get("type").and_then(Value::as_str) == Some("tool_result"))
                    .count();
                let mut said = said.into_iter();
                let mut all: Vec<Value> = said.by_ref().take(at).collect();
                all.append(&mut content);
                all.extend(said);
                message.insert("content".to_owned(), Value::Array(all));
            }
            _ => self.messages.push(json!({ "role": "user", "content": attached })),
        }
    }
}

// === writing ===

/// The request that asks `question` of `model`.
pub(crate) fn request(
    id: RequestId,
    question: &Question,
    model: &str,
    provider: Option<&str>,
    session: Option<&str>,
) -> Request {
    let (body, model_span) = body(question, model);
    let has = |kind: &str| question.messages.iter().any(|message| has_block(message, kind));
    let head = Head {
        dialect: Some(Dialect::Anthropic),
        model: model.to_owned(),
        model_span,
        stream: true,
        max_tokens: Some(limit(question)),
        tools: u32::try_from(question.tools.len()).unwrap_or(u32::MAX),
        images: has("image"),
        documents: has("document"),
        thinking: question.effort.as_deref().is_some_and(|effort| effort != "none"),
        web_search: question.tools.iter().any(|tool| {
            tool.get("type").and_then(Value::as_str).is_some_and(|kind| kind.starts_with("web_search"))
        }),
        // Four bytes to a token, the usual rule of thumb.
        estimated_tokens: body.len() as u64 / 4,
        weight: Default::default(),
        session: None,
    };
    let mut headers = HeaderMap::new();
    headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
    Request {
        id,
        front: Front::Mcp,
        dialect: Dialect::Anthropic,
        body,
        facts: Facts {
            head,
            provider: provider.map(ProviderId::from),
            session: session.map(Arc::from),
            agent: None,
            client: Some(Arc::from(Front::Mcp.as_str())),
            headers: Vec::new(),
            over_budget: false,
        },
        headers,
        credential: Credential::default(),
        timeout: None,
        cache: question.cache,
        unseen: true,
        progress: None,
    }
}

fn limit(question: &Question) -> u64 {
    let reasons = question.effort.as_deref().is_some_and(|effort| effort != "none");
    question.max_tokens.unwrap_or(if reasons { MAX_TOKENS_REASONING } else { MAX_TOKENS })
}

fn body(question: &Question, model: &str) -> (Bytes, Range<usize>) {
    let mut rest = Map::new();
    rest.insert("messages".into(), Value::Array(question.messages.clone()));
    rest.insert("max_tokens".into(), limit(question).into());
    rest.insert("stream".into(), true.into());
    if let Some(system) = &question.system {
        rest.insert("system".into(), system.as_str().into());
    }
    if !question.tools.is_empty() {
        rest.insert("tools".into(), Value::Array(question.tools.clone()));
    }
    if let Some(choice) = &question.tool_choice {
        rest.insert("tool_choice".into(), choice.clone());
    }
    if let Some(temperature) = question.temperature {
        rest.insert("temperature".into(), temperature.into());
    }
    let mut output = Map::new();
    match question.effort.as_deref() {
        Some("none") => {
            rest.insert("thinking".into(), json!({ "type": "disabled" }));
        }
        Some(effort) => {
            rest.insert("thinking".into(), json!({ "type": "adaptive" }));
            output.insert("effort".into(), effort.into());
        }
        None => {}
    }
    if let Some(schema) = &question.schema {
        output.insert("format".into(), json!({ "type": "json_schema", "schema": schema }));
    }
    if !output.is_empty() {
        rest.insert("output_config".into(), Value::Object(output));
    }
    // The model stands first, so that its place is known without a scan.
    let rest = Value::Object(rest).to_string();
    let model = Value::from(model).to_string();
    let start = "{\"model\":".len();
    let text = format!("{{\"model\":{model},{}", rest.get(1..).unwrap_or("}"));
    (Bytes::from(text), start..start + model.len())
}

// === words ===

fn cache(wish: String) -> Result<CacheWish, BadArgs> {
    CacheWish::parse(&wish)
        .ok_or_else(|| wrong("cache", "\"on\", \"refresh\" or \"off\"", &Value::String(wish)))
}

fn effort(effort: String) -> Result<String, BadArgs> {
    match effort.as_str() {
        "none" | "low" | "medium" | "high" | "xhigh" | "max" => Ok(effort),
        "minimal" => Ok("low".into()),
        other => Err(BadArgs(format!(
            "`reasoning_effort` must be none, low, medium, high, xhigh or max, not \"{}\"",
            other.chars().take(30).collect::<String>()
        ))),
    }
}

#[cfg(test)]
mod tests;
