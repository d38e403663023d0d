//! Composes Messages requests from what callers of other dialects ask.
//!
//! A front's reader says what it finds, in the order in which it finds it; the rules of Messages are kept
//! here: alternating turns, the results of calls in the very next message and first in it, no empty text, ids
//! and names that are legal. The same conversation gives the same bytes.
//!
//! Sources: Anthropic API reference, "Messages"; Anthropic's guides "Tool use" (results come first in the next
//! message), "Extended thinking" and "Effort"; Anthropic's page on OpenAI SDK compatibility.

mod models;
mod settings;

pub(in crate::dialect) use models::generation;
pub use settings::{Choice, Effort, FREE_TEXT, Settings, Tool};

use std::borrow::Cow;

use crate::dialect::json::Raw;
use crate::dialect::names;
use crate::dialect::openai_chat::write::Json;

/// Whom a request is composed for.
#[derive(Clone, Copy, Debug)]
pub struct Destination<'a> {
    /// The model, as the upstream calls it.
    pub model: &'a str,
    /// Whether the request goes to an Anthropic upstream as it is; else it is translated once more.
    pub is_anthropic: bool,
    /// The model's limit on output, where it is known.
    pub max_output_tokens: Option<u64>,
    /// Whether the upstream was told of `strict` before and refused.
    pub is_strict_refused: bool,
}

impl<'a> Destination<'a> {
    /// A destination of which nothing else is known.
    pub fn new(model: &'a str, is_anthropic: bool) -> Destination<'a> {
        Destination { model, is_anthropic, max_output_tokens: None, is_strict_refused: false }
    }
}

/// What is wrong with a caller's request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", if param.is_empty() { String::new() } else { format!("{param}: ") })]
pub struct Invalid {
    /// The field's path in the caller's dialect; empty for the whole body.
    pub param: String,
    /// What is wrong.
    pub message: String,
}

/// A conversation under construction.
#[derive(Debug, Default)]
pub struct Conversation<'a> {
    system: Vec<(Cow<'a, str>, Option<Raw<'a>>)>,
    turns: Vec<Turn<'a>>,
}

#[derive(Debug)]
enum Turn<'a> {
    Assistant { blocks: Vec<Block<'a>> },
    User { results: Vec<Answered>, blocks: Vec<Block<'a>> },
    System(Cow<'a, str>),
}

#[derive(Debug)]
enum Block<'a> {
    Text(Cow<'a, str>, Option<Raw<'a>>),
    Call {
        id: Cow<'a, str>,
        json: String,
    },
    /// Any other, as JSON.
    Other(String),
}

/// The result of a call.
#[derive(Debug)]
struct Answered {
    id: String,
    /// The members after the id: `"content":…`.
    rest: String,
    /// The same as text, for a result that no call asked for.
    text: String,
}

/// The answer to a call that never got one.
const NO_RESULT: &str = "[tool call was interrupted; no result]";

// === impl Invalid ===

impl Invalid {
    /// What is wrong with the field at `param`.
    pub fn new(param: impl Into<String>, message: impl Into<String>) -> Invalid {
        Invalid { param: param.into(), message: message.into() }
    }
}

impl From<Invalid> for crate::dialect::Fault {
    fn from(invalid: Invalid) -> crate::dialect::Fault {
        let fault = crate::dialect::Fault::new(crate::dialect::FaultKind::Caller, invalid.to_string());
        crate::dialect::Fault { status: Some(400), ..fault }
    }
}

// === impl Conversation ===

impl<'a> Conversation<'a> {
    /// Whether a turn was taken: after that, instructions no longer belong to the system prompt.
    pub fn has_begun(&self) -> bool {
        !self.turns.is_empty()
    }

    /// Instructions: part of the system prompt before the first turn, in their place after it.
    pub fn instruct(&mut self, text: Cow<'a, str>, cache: Option<Raw<'a>>, to: &Destination<'_>) {
        if text.trim().is_empty() {
            return;
        }
        if !self.has_begun() {
            self.system.push((text, cache));
        } else if to.is_anthropic {
            // A system message in mid-conversation needs a beta header and a recent model; this doesn't.
            let text = format!("<system-reminder>\n{text}\n</system-reminder>");
            self.user(Block::Text(text.into(), cache));
        } else {
            self.turns.push(Turn::System(text));
        }
    }

    /// A text of the user's.
    pub fn user_text(&mut self, text: Cow<'a, str>, cache: Option<Raw<'a>>) {
        if !text.trim().is_empty() {
            self.user(Block::Text(text, cache));
        }
    }

    /// Any other block of the user's, as JSON.
    pub fn user_json(&mut self, block: String) {
        self.user(Block::Other(block));
    }

    /// A text of the assistant's.
    pub fn assistant_text(&mut self, text: Cow<'a, str>, cache: Option<Raw<'a>>) {
        if !text.trim().is_empty() {
            self.assistant(Block::Text(text, cache));
        }
    }

    /// Reasoning of the assistant's, with its signature.
    pub fn thinking(&mut self, text: &str, signature: &str) {
        let mut json = Json::default();
        json.object(|json| {
            json.key("type").string("thinking");
            json.key("thinking").string(text);
            json.key("signature").string(signature);
        });
        self.assistant(Block::Other(json.finish_string()));
    }

    /// Encrypted reasoning of the assistant's.
    pub fn redacted_thinking(&mut self, data: &str) {
        let mut json = Json::default();
        json.object(|json| {
            json.key("type").string("redacted_thinking");
            json.key("data").string(data);
        });
        self.assistant(Block::Other(json.finish_string()));
    }

    /// A call of the assistant's. `input` is the text of one JSON object.
    pub fn call(&mut self, id: &'a str, name: &str, input: &str) {
        let id = legal_id(id);
        let mut json = Json::default();
        json.object(|json| {
            json.key("type").string("tool_use");
            json.key("id").string(&id);
            json.key("name").string(&legal_name(name));
            json.key("input").json(input);
        });
        self.assistant(Block::Call { id, json: json.finish_string() });
    }

    /// The result of a call. `content` writes the value of `content`; `text` is what it says.
    pub(crate) fn result(&mut self, id: &str, text: String, is_error: bool, content: impl FnOnce(&mut Json)) {
        let mut json = Json::default();
        content(json.key("content"));
        if is_error {
            json.key("is_error").boolean(true);
        }
        let answered = Answered { id: legal_id(id).into_owned(), rest: json.finish_string(), text };
        match self.turns.last_mut() {
            Some(Turn::User { results, .. }) => results.push(answered),
            _ => self.turns.push(Turn::User { results: vec![answered], blocks: Vec::new() }),
        }
    }

    fn user(&mut self, block: Block<'a>) {
        match self.turns.last_mut() {
            Some(Turn::User { blocks, .. }) => blocks.push(block),
            _ => self.turns.push(Turn::User { results: Vec::new(), blocks: vec![block] }),
        }
    }

    fn assistant(&mut self, block: Block<'a>) {
        match self.turns.last_mut() {
            Some(Turn::Assistant { blocks }) => blocks.push(block),
            _ => self.turns.push(Turn::Assistant { blocks: vec![block] }),
        }
    }

    /// Puts every result behind its call, and makes text of those that have none.
    fn settle(&mut self) {
        let mut settled: Vec<Turn<'a>> = Vec::with_capacity(self.turns.len() + 1);
        let mut turns = std::mem::take(&mut self.turns).into_iter().peekable();
        while turns.peek().is_some() {
            let asked = turns.next_if(|turn| matches!(turn, Turn::Assistant { .. }));
            let calls: Vec<String> = match &asked {
                Some(Turn::Assistant { blocks }) => blocks.iter().filter_map(Block::call_id).collect(),
                _ => Vec::new(),
            };
            settled.extend(asked);
            // All up to the assistant's next turn answers this one.
            let start = settled.len();
            let mut given = Vec::new();
            while let Some(turn) = turns.next_if(|turn| !matches!(turn, Turn::Assistant { .. })) {
                match turn {
                    Turn::User { results, blocks } => {
                        given.extend(results);
                        if !blocks.is_empty() {
                            settled.push(Turn::User { results: Vec::new(), blocks });
                        }
                    }
                    other => settled.push(other),
                }
            }
            let mut answers = Vec::with_capacity(calls.len());
            for id in &calls {
                match given.iter().position(|result: &Answered| result.id == *id) {
                    Some(at) => answers.push(given.remove(at)),
                    None => answers.push(Answered::none(id)),
                }
            }
            if answers.is_empty() && given.is_empty() {
                continue;
            }
            if !matches!(settled.get(start), Some(Turn::User { .. })) {
                settled.insert(start, Turn::User { results: Vec::new(), blocks: Vec::new() });
            }
            if let Some(Turn::User { results, blocks }) = settled.get_mut(start) {
                *results = answers;
                blocks.splice(0..0, given.into_iter().map(Answered::into_text));
            }
        }
        if !matches!(settled.first(), Some(Turn::User { .. })) {
            let text = Block::Text(".".into(), None);
            settled.insert(0, Turn::User { results: Vec::new(), blocks: vec![text] });
        }
        self.turns = settled;
    }

    /// Writes `system` and `messages`.
    fn write(mut self, json: &mut Json, extra_system: Option<&str>, to: &Destination<'_>) {
        self.settle();
        if !self.system.is_empty() || extra_system.is_some() {
            json.key("system").array(|json| {
                for (text, cache) in &self.system {
                    write_text(json, text, *cache);
                }
                if let Some(text) = extra_system {
                    write_text(json, text, None);
                }
            });
        }
        let last = self.turns.len().saturating_sub(1);
        json.key("messages").array(|json| {
            for (nth, turn) in self.turns.iter().enumerate() {
                json.object(|json| turn.write(json, to.is_anthropic && nth == last));
            }
        });
    }
}

// === impl Turn ===

impl Turn<'_> {
    fn write(&self, json: &mut Json, is_prefill: bool) {
        match self {
            Turn::System(text) => {
                json.key("role").string("system");
                json.key("content").string(text);
            }
            Turn::User { results, blocks } => {
                json.key("role").string("user");
                json.key("content").array(|json| {
                    for result in results {
                        json.object(|json| {
                            json.key("type").string("tool_result");
                            json.key("tool_use_id").string(&result.id);
                            json.json(&result.rest);
                        });
                    }
                    blocks.iter().for_each(|block| block.write(json));
                });
            }
            Turn::Assistant { blocks } => {
                json.key("role").string("assistant");
                json.key("content").array(|json| {
                    for (nth, block) in blocks.iter().enumerate() {
                        match block {
                            // Anthropic refuses a conversation that ends in blanks of the assistant's.
                            Block::Text(text, cache) if is_prefill && nth + 1 == blocks.len() => {
                                write_text(json, text.trim_end(), *cache);
                            }
                            other => other.write(json),
                        }
                    }
                });
            }
        }
    }
}

// === impl Block ===

impl Block<'_> {
    fn call_id(&self) -> Option<String> {
        match self {
            Block::Call { id, .. } => Some(id.to_string()),
            Block::Text(..) | Block::Other(_) => None,
        }
    }

    fn write(&self, json: &mut Json) {
        match self {
            Block::Text(text, cache) => write_text(json, text, *cache),
            Block::Call { json: block, .. } | Block::Other(block) => json.json(block),
        }
    }
}

// === impl Answered ===

impl Answered {
    fn none(id: &str) -> Answered {
        let mut json = Json::default();
        json.key("content").string(NO_RESULT);
        json.key("is_error").boolean(true);
        Answered { id: id.to_owned(), rest: json.finish_string(), text: NO_RESULT.to_owned() }
    }

    /// A result that no call asked for.
    fn into_text<'b>(self) -> Block<'b> {
        Block::Text(format!("[result of tool {}] {}", self.id, self.text).into(), None)
    }
}

fn write_text(json: &mut Json, text: &str, cache: Option<Raw<'_>>) {
    json.object(|json| {
        json.key("type").string("text");
        json.key("text").string(text);
        if let Some(cache) = cache {
            json.key("cache_control").raw(cache);
        }
    });
}

/// An id that Messages takes (`^[a-zA-Z0-9_-]+$`): the same one for the same id, and no two alike.
fn legal_id(id: &str) -> Cow<'_, str> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !id.is_empty() && id.chars().all(legal) {
        return Cow::Borrowed(id);
    }
    let kept: String = id.chars().map(|c| if legal(c) { c } else { '_' }).take(40).collect();
    Cow::Owned(format!("{kept}_{}", names::hash(&[id], 8)))
}

/// A name that Messages takes: at most 128 of `a-zA-Z0-9_-`.
fn legal_name(name: &str) -> Cow<'_, str> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.len() <= 128 && name.chars().all(legal) {
        return Cow::Borrowed(name);
    }
    names::wire_name(name)
}
