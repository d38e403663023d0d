//! What a request says beside its conversation.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::{Conversation, Destination, legal_name, models};
use crate::dialect::json::Raw;
use crate::dialect::openai_chat::write::Json;
use crate::dialect::schema;

/// What a caller of another dialect asks, apart from the conversation.
#[derive(Debug, Default)]
pub struct Settings<'a> {
    /// Whether it wants a stream.
    pub stream: bool,
    /// Its limit on output.
    pub max_tokens: Option<u64>,
    /// As written.
    pub temperature: Option<Raw<'a>>,
    /// As written.
    pub top_p: Option<Raw<'a>>,
    /// As written.
    pub top_k: Option<Raw<'a>>,
    /// Strings that end the answer.
    pub stop: Vec<Cow<'a, str>>,
    /// Its tools.
    pub tools: Vec<Tool<'a>>,
    /// Whether it offers a web search by the server.
    pub web_search: bool,
    /// Whether and which tool must be called.
    pub choice: Option<Choice<'a>>,
    /// One call at most.
    pub one_call: bool,
    /// How much the model shall reason.
    pub effort: Option<Effort<'a>>,
    /// The schema that the answer must follow.
    pub schema: Option<Raw<'a>>,
    /// Whether the answer must be a JSON object of any kind.
    pub json_object: bool,
    /// Who asks.
    pub user: Option<Cow<'a, str>>,
}

/// A tool of the caller's.
#[derive(Debug, Default)]
pub struct Tool<'a> {
    /// Its name.
    pub name: Cow<'a, str>,
    /// What it does.
    pub description: Option<Cow<'a, str>>,
    /// The schema of its arguments, as written.
    pub schema: Option<Raw<'a>>,
    /// Whether arguments must match the schema exactly.
    pub strict: bool,
    /// A cache marker, as written.
    pub cache: Option<Raw<'a>>,
}

/// Whether and which tool must be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice<'a> {
    /// As the model sees fit.
    Auto,
    /// Some tool.
    Any,
    /// No tool.
    None,
    /// This tool.
    Named(Cow<'a, str>),
}

/// How much the model shall reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effort<'a> {
    /// Not at all.
    Off,
    /// As it sees fit.
    On,
    /// By level, in OpenAI's words.
    Level(Cow<'a, str>),
    /// At most so many tokens.
    Budget(u64),
}

/// The schema of a tool that takes free text.
pub const FREE_TEXT: &str =
    r#"{"type":"object","properties":{"input":{"type":"string"}},"required":["input"]}"#;
/// What is said where an answer must be JSON without a schema.
const JSON_ONLY: &str = "Answer with one JSON object only.";
/// The least budget that Anthropic takes.
const LEAST_BUDGET: u64 = 1024;
/// Room for the answer beside the reasoning.
const ROOM: u64 = 4096;

// === impl Settings ===

impl Settings<'_> {
    /// The body of the Messages request.
    pub fn compose(&self, conversation: Conversation<'_>, to: &Destination<'_>) -> Bytes {
        let mut json = Json::with_capacity(1024);
        json.object(|json| {
            json.key("model").string(to.model);
            let (budget, max_tokens) = self.limits(to);
            if let Some(most) = max_tokens {
                json.key("max_tokens").number(most);
            }
            if self.stream {
                json.key("stream").boolean(true);
            }
            self.sampling(json, to);
            self.reasoning(json, to, budget);
            self.tools(json, to);
            if let Some(user) = &self.user {
                json.key("metadata").object(|json| json.key("user_id").string(user));
            }
            let wants_json = self.json_object && self.schema.is_none();
            conversation.write(json, wants_json.then_some(JSON_ONLY), to);
        });
        Bytes::from(json.finish())
    }

    /// Whether the model will reason.
    fn reasons(&self, to: &Destination<'_>) -> bool {
        let wished = match &self.effort {
            None | Some(Effort::Off) => false,
            Some(Effort::Level(level)) => level != "none",
            Some(Effort::On | Effort::Budget(_)) => true,
        };
        wished && (!to.is_anthropic || models::reasons(to.model))
    }

    /// The budget for reasoning, for models that want one, and the limit on output.
    fn limits(&self, to: &Destination<'_>) -> (Option<u64>, Option<u64>) {
        let most = to.max_output_tokens.unwrap_or(u64::MAX);
        if !to.is_anthropic {
            return (self.budget(), self.max_tokens.map(|asked| asked.min(most)));
        }
        let asked = self.max_tokens.unwrap_or_else(|| models::default_output(to.model, self.stream));
        let wants_budget = self.reasons(to) && !models::is_adaptive(to.model);
        if !wants_budget {
            return (None, Some(asked.min(most)));
        }
        let budget = self.budget().unwrap_or(8192).max(LEAST_BUDGET);
        // The limit counts reasoning; a caller of OpenAI's means it so, too, but may have left no room for it.
        let max_tokens = if asked > budget { asked } else { budget.saturating_add(ROOM) }.min(most);
        let budget = budget.min(max_tokens.saturating_sub(1));
        (Some(budget), Some(max_tokens))
    }

    /// The wish as a number of tokens.
    fn budget(&self) -> Option<u64> {
        match self.effort.as_ref()? {
            Effort::Budget(tokens) => Some(*tokens),
            Effort::Level(level) => Some(match level.as_ref() {
                "minimal" | "low" => 2048,
                "medium" => 8192,
                _ => 16384,
            }),
            Effort::Off | Effort::On => None,
        }
    }

    fn sampling(&self, json: &mut Json, to: &Destination<'_>) {
        if !self.stop.is_empty() {
            // Anthropic refuses sequences of white space alone.
            let stops = self.stop.iter().filter(|stop| !to.is_anthropic || !stop.trim().is_empty());
            let stops: Vec<_> = stops.collect();
            if !stops.is_empty() {
                json.key("stop_sequences").array(|json| stops.iter().for_each(|stop| json.string(stop)));
            }
        }
        let one = to.is_anthropic && models::takes_one_of_two(to.model);
        if to.is_anthropic && (!models::takes_sampling(to.model) || self.reasons(to)) {
            return;
        }
        if let Some(temperature) = self.temperature.filter(|raw| raw.get() != "null") {
            // OpenAI's range ends at 2, Anthropic's at 1.
            let is_hot = temperature.get().parse::<f64>().is_ok_and(|value| value > 1.0);
            if to.is_anthropic && is_hot {
                json.key("temperature").number(1);
            } else {
                json.key("temperature").raw(temperature);
            }
        }
        let top_p = self.top_p.filter(|raw| raw.get() != "null");
        if let Some(top_p) = top_p.filter(|_| !one || self.temperature.is_none()) {
            json.key("top_p").raw(top_p);
        }
        if let Some(top_k) = self.top_k.filter(|raw| raw.get() != "null") {
            json.key("top_k").raw(top_k);
        }
    }

    fn reasoning(&self, json: &mut Json, to: &Destination<'_>, budget: Option<u64>) {
        let mut level = None;
        match &self.effort {
            None => {}
            Some(Effort::Off) => off(json, to),
            Some(Effort::Level(name)) if name == "none" => off(json, to),
            Some(_) if !self.reasons(to) => {}
            Some(effort) => {
                let is_adaptive = !to.is_anthropic || models::is_adaptive(to.model);
                // A level is passed on as one where it can be; a budget only where it is understood.
                let is_budget = to.is_anthropic || matches!(effort, Effort::Budget(_));
                json.key("thinking").object(|json| match budget.filter(|_| is_budget) {
                    Some(budget) => {
                        json.key("type").string("enabled");
                        json.key("budget_tokens").number(budget);
                    }
                    None => {
                        json.key("type").string("adaptive");
                        json.key("display").string("summarized");
                    }
                });
                if is_adaptive && let Effort::Level(name) = effort {
                    level = Some(if name == "minimal" { "low" } else { name.as_ref() });
                }
            }
        }
        if level.is_none() && self.schema.is_none() {
            return;
        }
        json.key("output_config").object(|json| {
            if let Some(level) = level {
                json.key("effort").string(level);
            }
            if let Some(schema) = self.schema {
                json.key("format").object(|json| {
                    json.key("type").string("json_schema");
                    json.key("schema").raw(schema);
                });
            }
        });
    }

    fn tools(&self, json: &mut Json, to: &Destination<'_>) {
        if self.tools.is_empty() && !self.web_search {
            return;
        }
        json.key("tools").array(|json| {
            for tool in &self.tools {
                json.object(|json| {
                    json.key("name").string(&legal_name(&tool.name));
                    if let Some(description) = &tool.description {
                        json.key("description").string(description);
                    }
                    json.key("input_schema").json(&input_schema(tool.schema));
                    if tool.strict && !to.is_strict_refused {
                        json.key("strict").boolean(true);
                    }
                    if let Some(cache) = tool.cache {
                        json.key("cache_control").raw(cache);
                    }
                });
            }
            if self.web_search {
                json.object(|json| {
                    json.key("type").string("web_search_20250305");
                    json.key("name").string("web_search");
                });
            }
        });
        // Anthropic refuses a forced call from a model that reasons.
        let forced = matches!(self.choice, Some(Choice::Any | Choice::Named(_)));
        let choice = match &self.choice {
            Some(_) if forced && to.is_anthropic && self.reasons(to) => Some(&Choice::Auto),
            None if self.one_call => Some(&Choice::Auto),
            choice => choice.as_ref(),
        };
        let Some(choice) = choice else { return };
        json.key("tool_choice").object(|json| {
            let kind = match choice {
                Choice::Auto => "auto",
                Choice::Any => "any",
                Choice::None => "none",
                Choice::Named(_) => "tool",
            };
            json.key("type").string(kind);
            if let Choice::Named(name) = choice {
                json.key("name").string(&legal_name(name));
            }
            if self.one_call && *choice != Choice::None {
                json.key("disable_parallel_tool_use").boolean(true);
            }
        });
    }
}

/// Says that the model shall not reason, where it may be told so.
fn off(json: &mut Json, to: &Destination<'_>) {
    if !to.is_anthropic || models::can_be_told_not_to(to.model) {
        json.key("thinking").object(|json| json.key("type").string("disabled"));
    }
}

/// A tool's schema as Anthropic takes it: its root is an object's, and no union.
fn input_schema(schema: Option<Raw<'_>>) -> Cow<'_, str> {
    let is_union = schema.is_some_and(|schema| {
        ["anyOf", "oneOf", "allOf"].iter().any(|key| schema.get().contains(&format!("\"{key}\"")))
    });
    if is_union
        && let Some(Ok(Value::Object(root))) = schema.map(|schema| serde_json::from_str(schema.get()))
        && ["anyOf", "oneOf", "allOf"].iter().any(|key| root.contains_key(*key))
    {
        let merged = Value::Object(merge(root)).to_string();
        return match serde_json::value::RawValue::from_string(merged) {
            Ok(raw) => Cow::Owned(schema::clean(Some(Raw::from(&*raw)), schema::Target::Plain).into_owned()),
            Err(_) => Cow::Borrowed(schema::EMPTY),
        };
    }
    schema::clean(schema, schema::Target::Plain)
}

/// One object in place of a union of objects: all their properties, and those required that every branch
/// requires (of `allOf`: that any does).
fn merge(mut root: Map<String, Value>) -> Map<String, Value> {
    let mut properties = match root.remove("properties") {
        Some(Value::Object(properties)) => properties,
        _ => Map::new(),
    };
    let required_of = |branch: &Value| -> Vec<String> {
        let list = branch.get("required").and_then(Value::as_array);
        list.into_iter().flatten().filter_map(|name| Some(name.as_str()?.to_owned())).collect()
    };
    let mut required = required_of(&Value::Object(root.clone()));
    for (key, all) in [("allOf", true), ("anyOf", false), ("oneOf", false)] {
        let Some(Value::Array(branches)) = root.remove(key) else { continue };
        let lists: Vec<Vec<String>> = branches.iter().map(required_of).collect();
        let names = lists.iter().flatten();
        let kept: Vec<String> =
            names.filter(|name| all || lists.iter().all(|list| list.contains(name))).cloned().collect();
        for name in kept {
            if !required.contains(&name) {
                required.push(name);
            }
        }
        for branch in branches {
            let Value::Object(mut branch) = branch else { continue };
            if let Some(Value::Object(more)) = branch.remove("properties") {
                for (name, schema) in more {
                    properties.entry(name).or_insert(schema);
                }
            }
        }
    }
    root.insert("type".to_owned(), "object".into());
    root.insert("properties".to_owned(), Value::Object(properties));
    if required.is_empty() {
        root.remove("required");
    } else {
        root.insert("required".to_owned(), required.into());
    }
    root
}
