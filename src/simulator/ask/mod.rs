//! What a request asks for, read from any dialect: as much as rules, the polite model and the writers need.
//!
//! Reading is lenient: what a real API would refuse is the business of [`super::strict`].

mod anthropic;
mod chat;
mod gemini;
mod responses;

use serde_json::Value;

use super::program;
use crate::dialect::Dialect;

/// A request for an answer of a model.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub dialect: Dialect,
    /// The path is one of OpenRouter's, which writes Chat Completions in its own way.
    pub openrouter: bool,
    pub model: String,
    pub stream: bool,
    pub max_tokens: Option<u64>,
    /// Names of the tools that are offered.
    pub tools: Vec<String>,
    /// Reasoning is wanted.
    pub thinking: bool,
    /// Reasoning may be seen, not just its signature.
    pub thinking_shown: bool,
    /// Chat Completions: a chunk with the usage is wanted.
    pub include_usage: bool,
    pub system: String,
    pub stop: Vec<String>,
    /// The JSON Schema that the answer must match.
    pub schema: Option<Value>,
    pub turns: Vec<Turn>,
}

/// A step of the conversation so far.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Turn {
    /// Text blocks from the user's side.
    User(Vec<String>),
    /// Results of tools, as text.
    Results(Vec<String>),
    /// The model spoke, and called so many tools.
    Model { calls: usize },
}

/// What a person asked last, and what was done about it since.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Prompt {
    /// The text, without the reminders that clients add.
    pub text: String,
    /// Turns of the model with calls since then.
    pub done: usize,
    /// The results that this request brings.
    pub results: Vec<String>,
}

/// Reads the body of a request; `model` comes from the path where the dialect puts it there.
pub(super) fn read(dialect: Dialect, openrouter: bool, body: &Value, path_model: Option<&str>) -> Ask {
    let mut ask = Ask {
        dialect,
        openrouter,
        model: path_model.map_or_else(|| text(body, "model"), String::from),
        stream: body["stream"].as_bool().unwrap_or(false),
        max_tokens: None,
        tools: Vec::new(),
        thinking: false,
        thinking_shown: true,
        include_usage: false,
        system: String::new(),
        stop: Vec::new(),
        schema: None,
        turns: Vec::new(),
    };
    match dialect {
        Dialect::Anthropic => anthropic::read(body, &mut ask),
        Dialect::OpenAiChat => chat::read(body, &mut ask),
        Dialect::OpenAiResponses => responses::read(body, &mut ask),
        Dialect::Gemini => gemini::read(body, &mut ask),
    }
    ask
}

// === impl Ask ===

impl Ask {
    /// The last thing a person said. Texts that stand beside results of tools are reminders of the client's,
    /// unless they hold lines of a program.
    pub fn prompt(&self) -> Prompt {
        let mut prompt = Prompt::default();
        for turn in self.last_run() {
            if let Turn::Results(results) = turn {
                prompt.results.extend(results.iter().cloned());
            }
        }
        let mut end = self.turns.len();
        loop {
            let start = self.turns[..end]
                .iter()
                .rposition(|turn| matches!(turn, Turn::Model { .. }))
                .map_or(0, |at| at + 1);
            let run = &self.turns[start..end];
            let said = human_text(run);
            let has_results = run.iter().any(|turn| matches!(turn, Turn::Results(_)));
            if (!has_results && !said.trim().is_empty()) || program::has_lines(&said) {
                prompt.text = said;
                return prompt;
            }
            // The turn before this run is the model's: one more thing done, if it called tools.
            let Some(before) = start.checked_sub(1) else { return prompt };
            if matches!(self.turns[before], Turn::Model { calls } if calls > 0) {
                prompt.done += 1;
            }
            end = before;
        }
    }

    /// What the user's side says in this request, results of tools and reminders left out.
    pub fn last_words(&self) -> String {
        human_text(self.last_run())
    }

    /// Whether the conversation ends with words of the model.
    pub fn is_prefill(&self) -> bool {
        matches!(self.turns.last(), Some(Turn::Model { .. }))
    }

    /// Whether the request brings results of tools.
    pub fn has_results(&self) -> bool {
        self.last_run().iter().any(|turn| matches!(turn, Turn::Results(_)))
    }

    /// The turns since the model spoke last.
    fn last_run(&self) -> &[Turn] {
        self.turns.rsplit(|turn| matches!(turn, Turn::Model { .. })).next().unwrap_or_default()
    }
}

fn human_text(run: &[Turn]) -> String {
    let mut said = String::new();
    for turn in run {
        let Turn::User(blocks) = turn else { continue };
        for block in blocks {
            let block = without_reminders(block);
            if !block.trim().is_empty() {
                if !said.is_empty() {
                    said.push('\n');
                }
                said.push_str(block.trim());
            }
        }
    }
    said
}

/// Drops `<system-reminder>…</system-reminder>`, which clients put into the user's turn for the model.
fn without_reminders(text: &str) -> String {
    const OPEN: &str = "<system-reminder>";
    const CLOSE: &str = "</system-reminder>";
    let mut kept = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(OPEN) {
        kept.push_str(before);
        rest = after.split_once(CLOSE).map_or("", |(_, after)| after);
    }
    kept.push_str(rest);
    kept
}

/// A member as text; empty if it is none.
pub(super) fn text(value: &Value, member: &str) -> String {
    value[member].as_str().unwrap_or_default().to_owned()
}

/// A member as a list; empty if it is none.
pub(super) fn list<'v>(value: &'v Value, member: &str) -> &'v [Value] {
    value[member].as_array().map_or(&[], Vec::as_slice)
}

/// The texts of a content that is a string or a list of blocks with `text`.
fn texts(content: &Value) -> Vec<String> {
    match content {
        Value::String(text) => vec![text.clone()],
        Value::Array(blocks) => {
            blocks.iter().filter_map(|block| block["text"].as_str()).map(String::from).collect()
        }
        _ => Vec::new(),
    }
}

fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::String(one) => vec![one.clone()],
        Value::Array(many) => many.iter().filter_map(Value::as_str).map(String::from).collect(),
        _ => Vec::new(),
    }
}

/// Adds a turn of the model; adjacent ones are one.
fn push_model(turns: &mut Vec<Turn>, more: usize) {
    if let Some(Turn::Model { calls }) = turns.last_mut() {
        *calls += more;
    } else {
        turns.push(Turn::Model { calls: more });
    }
}
