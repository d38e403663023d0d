//! The conversation as Chat Completions orders it: turns of the assistant and of the user in alternation, with
//! the results of the calls between them.

use std::borrow::Cow;

use super::content::{self, Notes, Piece};
use super::{Rectify, RequestError, Target};
use crate::dialect::anthropic::types::{Block, Content, Message, MessagesRequest};
use crate::dialect::carrier::Carrier;
use crate::dialect::json::{Raw, Text};
use crate::dialect::table::{MidSystem, Replay};

/// The conversation.
#[derive(Debug, Default)]
pub(in crate::dialect) struct Conversation<'a> {
    pub(in crate::dialect) turns: Vec<Turn<'a>>,
    /// Tools that something referred to, in the order of their first mention.
    pub(in crate::dialect) loaded: Vec<Cow<'a, str>>,
    /// Tools that were taken away.
    pub(in crate::dialect) removed: Vec<String>,
    /// Tools that were called.
    pub(in crate::dialect) called_names: Vec<&'a str>,
    /// The ids of all calls.
    pub(in crate::dialect) call_ids: Vec<&'a str>,
}

/// A turn.
#[derive(Debug)]
pub(in crate::dialect) enum Turn<'a> {
    Assistant(Assistant<'a>),
    User(User<'a>),
}

/// A turn of the assistant.
#[derive(Debug, Default)]
pub(in crate::dialect) struct Assistant<'a> {
    pub(in crate::dialect) texts: Vec<Said<'a>>,
    pub(in crate::dialect) calls: Vec<Call<'a>>,
    /// Visible reasoning that goes back.
    pub(in crate::dialect) thoughts: Vec<Cow<'a, str>>,
    /// OpenRouter's details that go back, each list with the text of its block.
    pub(in crate::dialect) details: Vec<(Box<serde_json::value::RawValue>, Cow<'a, str>)>,
    /// Google's signatures that go back, by the id of the call.
    pub(in crate::dialect) signatures: Vec<(String, String)>,
}

/// A piece of the assistant's text.
#[derive(Debug)]
pub(in crate::dialect) struct Said<'a> {
    /// What stands between it and the one before.
    pub(in crate::dialect) glue: &'static str,
    pub(in crate::dialect) text: Text<'a>,
    pub(in crate::dialect) cache: Option<Raw<'a>>,
}

/// A call.
#[derive(Debug)]
pub(in crate::dialect) struct Call<'a> {
    pub(in crate::dialect) id: &'a str,
    pub(in crate::dialect) name: &'a str,
    pub(in crate::dialect) input: &'a str,
}

/// A turn of the user: the results of calls, and all else.
#[derive(Debug, Default)]
pub(in crate::dialect) struct User<'a> {
    pub(in crate::dialect) results: Vec<Result_<'a>>,
    pub(in crate::dialect) pieces: Vec<Piece<'a>>,
}

/// The result of a call.
#[derive(Debug)]
pub(in crate::dialect) struct Result_<'a> {
    pub(in crate::dialect) id: &'a str,
    pub(in crate::dialect) output: content::ToolOutput<'a>,
    pub(in crate::dialect) cache: Option<Raw<'a>>,
}

/// Reads the messages into turns.
pub(in crate::dialect) fn read<'a>(
    request: &'a MessagesRequest<'a>,
    target: &Target<'_>,
    notes: &mut Notes,
) -> Result<Conversation<'a>, RequestError> {
    let last_user = request.messages.iter().rposition(|message| message.role == "user").unwrap_or(0);
    let mut conversation = Conversation::default();
    for (at, message) in request.messages.iter().enumerate() {
        match message.role.as_ref() {
            "assistant" => conversation.assistant(at, message, target, notes)?,
            "user" => conversation.user(at, message, target, notes)?,
            "system" => {
                let is_over = message.clear_at.as_deref() == Some("next_user_message") && at < last_user;
                conversation.system(message, target, is_over);
            }
            other => {
                return Err(RequestError::Field {
                    path: format!("messages.{at}.role"),
                    message: format!("Input should be 'user', 'assistant' or 'system', not '{other}'"),
                });
            }
        }
    }
    conversation.settle(notes);
    Ok(conversation)
}

// === impl Conversation ===

impl<'a> Conversation<'a> {
    /// The assistant's turn at the end, begun if there is none.
    fn assistant_turn(&mut self) -> &mut Assistant<'a> {
        if !matches!(self.turns.last(), Some(Turn::Assistant(_))) {
            self.turns.push(Turn::Assistant(Assistant::default()));
        }
        match self.turns.last_mut() {
            Some(Turn::Assistant(turn)) => turn,
            _ => unreachable!("an assistant's turn was pushed"),
        }
    }

    /// The user's turn at the end, begun if there is none.
    fn user_turn(&mut self) -> &mut User<'a> {
        if !matches!(self.turns.last(), Some(Turn::User(_))) {
            self.turns.push(Turn::User(User::default()));
        }
        match self.turns.last_mut() {
            Some(Turn::User(turn)) => turn,
            _ => unreachable!("a user's turn was pushed"),
        }
    }

    fn load(&mut self, name: Cow<'a, str>) {
        if !name.is_empty() && !self.loaded.contains(&name) {
            self.loaded.push(name);
        }
    }

    fn assistant(
        &mut self,
        at: usize,
        message: &'a Message<'a>,
        target: &Target<'_>,
        notes: &mut Notes,
    ) -> Result<(), RequestError> {
        // A turn that goes on in another message, and text after something else, begins a paragraph.
        let mut glue = "\n\n";
        if let Content::Text(text) = &message.content {
            self.assistant_turn().say(glue, text.borrowed(), None);
        }
        for (nth, block) in message.content.blocks().iter().enumerate() {
            let path = || format!("messages.{at}.content.{nth}");
            match block.kind() {
                "text" => {
                    let text = block.text.as_ref().ok_or_else(|| missing(&path, "text"))?;
                    self.assistant_turn().say(glue, text.borrowed(), block.cache_control);
                    glue = "";
                    continue;
                }
                "tool_use" => {
                    let id = required(&block.id, &path, "id")?;
                    let name = required(&block.name, &path, "name")?;
                    self.load(Cow::Borrowed(name));
                    self.call_ids.push(id);
                    if !self.called_names.contains(&name) {
                        self.called_names.push(name);
                    }
                    let input = block.input.map_or("{}", Raw::get);
                    self.assistant_turn().call(Call { id, name, input }, notes);
                }
                "thinking" => self.assistant_turn().think(block, &path, target, notes)?,
                "redacted_thinking" => notes.drop("redacted_thinking"),
                "compaction" => {
                    let text = content::texts(&block.content, "\n\n");
                    if !text.is_empty() {
                        self.user_turn().pieces.push(Piece::Text { text, cache: block.cache_control });
                    }
                }
                _ => {
                    self.references(block);
                    match content::server_tool(block).or_else(|| block.text.as_deref().map(str::to_owned)) {
                        Some(line) => self.assistant_turn().say("\n", line.into(), None),
                        None => notes.drop("content block"),
                    }
                }
            }
            glue = "\n\n";
        }
        Ok(())
    }

    fn user(
        &mut self,
        at: usize,
        message: &'a Message<'a>,
        target: &Target<'_>,
        notes: &mut Notes,
    ) -> Result<(), RequestError> {
        if let Content::Text(text) = &message.content
            && !text.is_empty()
        {
            self.user_turn().pieces.push(Piece::text(text.borrowed()));
        }
        for (nth, block) in message.content.blocks().iter().enumerate() {
            let path = || format!("messages.{at}.content.{nth}");
            let cache = block.cache_control;
            let piece = match block.kind() {
                "text" => {
                    let text = block.text.as_ref().ok_or_else(|| missing(&path, "text"))?;
                    (!text.is_empty()).then_some(Piece::Text { text: text.borrowed(), cache })
                }
                "tool_result" => {
                    let id = required(&block.tool_use_id, &path, "tool_use_id")?;
                    self.references(block);
                    let output = content::tool_output(block, &path, target, notes)?;
                    self.user_turn().results.push(Result_ { id, output, cache });
                    continue;
                }
                "image" => content::image(block, &path, target, notes)?,
                "document" => content::document(block, &path, target, notes)?,
                "compaction" => {
                    let text = content::texts(&block.content, "\n\n");
                    (!text.is_empty()).then_some(Piece::Text { text, cache })
                }
                _ => {
                    self.references(block);
                    let text =
                        content::server_tool(block).or_else(|| block.text.as_deref().map(str::to_owned));
                    if text.is_none() {
                        notes.drop("content block");
                    }
                    text.map(|text| Piece::Text { text: text.into(), cache })
                }
            };
            if let Some(piece) = piece {
                self.user_turn().pieces.push(piece);
            }
        }
        Ok(())
    }

    fn system(&mut self, message: &'a Message<'a>, target: &Target<'_>, is_over: bool) {
        for block in message.content.blocks() {
            match (block.kind(), tool_of(block)) {
                ("tool_addition", Some(name)) => {
                    self.removed.retain(|removed| *removed != name);
                    self.load(Cow::Owned(name));
                }
                ("tool_removal", Some(name)) => {
                    self.loaded.retain(|loaded| *loaded != name);
                    self.removed.push(name);
                }
                _ => {}
            }
        }
        let text = content::texts(&message.content, "\n\n");
        if is_over || text.is_empty() {
            return;
        }
        let in_place = match target.variant.mid_system {
            MidSystem::InPlace => true,
            MidSystem::InPlaceForOpenAi => target.model.starts_with("openai/"),
            MidSystem::UserText => false,
        };
        let piece = if in_place && !target.is_rectified(Rectify::SystemAsUserText) {
            Piece::System(text)
        } else {
            let cache = message.content.blocks().iter().rev().find_map(|block| block.cache_control);
            Piece::Text { text: format!("<system-reminder>\n{text}\n</system-reminder>").into(), cache }
        };
        self.user_turn().pieces.push(piece);
    }

    /// Notes the tools that a result refers to: they count as loaded from here on.
    fn references(&mut self, block: &'a Block<'a>) {
        for inner in block.content.blocks() {
            if let Some(name) = inner.tool_name.as_deref() {
                self.load(Cow::Borrowed(name));
            }
            self.references(inner);
        }
    }

    /// Takes out empty turns, and joins what then stands side by side.
    fn settle(&mut self, notes: &mut Notes) {
        let mut settled: Vec<Turn<'a>> = Vec::with_capacity(self.turns.len());
        for turn in self.turns.drain(..) {
            match (turn, settled.last_mut()) {
                (Turn::Assistant(turn), _) if turn.is_empty() => notes.heal("empty message"),
                (Turn::User(turn), _) if turn.pieces.is_empty() && turn.results.is_empty() => {
                    notes.heal("empty message");
                }
                (Turn::Assistant(turn), Some(Turn::Assistant(last))) => last.join(turn),
                (Turn::User(turn), Some(Turn::User(last))) => {
                    last.results.extend(turn.results);
                    last.pieces.extend(turn.pieces);
                }
                (turn, _) => settled.push(turn),
            }
        }
        self.turns = settled;
    }
}

// === impl Assistant ===

impl<'a> Assistant<'a> {
    fn is_empty(&self) -> bool {
        self.texts.is_empty() && self.calls.is_empty()
    }

    fn say(&mut self, glue: &'static str, text: Text<'a>, cache: Option<Raw<'a>>) {
        if !text.is_empty() {
            let glue = if self.texts.is_empty() { "" } else { glue };
            self.texts.push(Said { glue, text, cache });
        }
    }

    fn call(&mut self, call: Call<'a>, notes: &mut Notes) {
        if self.calls.iter().any(|known| known.id == call.id) {
            notes.heal("duplicate tool_use id");
        } else {
            self.calls.push(call);
        }
    }

    fn join(&mut self, other: Assistant<'a>) {
        for (nth, mut said) in other.texts.into_iter().enumerate() {
            if nth == 0 && !self.texts.is_empty() {
                said.glue = "\n\n";
            }
            self.texts.push(said);
        }
        self.calls.extend(other.calls);
        self.thoughts.extend(other.thoughts);
        self.details.extend(other.details);
        self.signatures.extend(other.signatures);
    }

    /// Takes of a thinking block what this upstream wants back.
    fn think(
        &mut self,
        block: &'a Block<'a>,
        path: &dyn Fn() -> String,
        target: &Target<'_>,
        notes: &mut Notes,
    ) -> Result<(), RequestError> {
        let text = block.thinking.as_deref().unwrap_or_default();
        let carrier = Carrier::read(block.signature.as_deref().unwrap_or_default())
            .map_err(|_| RequestError::Signature { path: path() })?;
        let ours = carrier.filter(|carrier| carrier.dialect == target.variant.name);
        let replays = target.is_rectified(Rectify::ReplayReasoning);
        match (target.variant.replay, ours) {
            _ if replays && !text.is_empty() => self.thoughts.push(Cow::Borrowed(text)),
            (Replay::ContentAlways, _) | (Replay::ContentOfOurs, Some(_)) => {
                if !text.is_empty() {
                    self.thoughts.push(Cow::Borrowed(text));
                }
            }
            // Signatures and encrypted reasoning belong to the model that wrote them.
            (Replay::Details, Some(Carrier { details: Some(details), model, .. }))
                if model == target.model =>
            {
                self.details.push((details, Cow::Borrowed(text)));
            }
            (Replay::ThoughtSignature, Some(carrier)) => self.signatures.extend(carrier.signatures),
            _ => notes.drop("thinking"),
        }
        Ok(())
    }
}

fn required<'b>(
    field: &'b Option<Cow<'_, str>>,
    path: &dyn Fn() -> String,
    name: &str,
) -> Result<&'b str, RequestError> {
    field.as_deref().ok_or_else(|| missing(path, name))
}

fn missing(path: &dyn Fn() -> String, name: &str) -> RequestError {
    RequestError::Field { path: format!("{}.{name}", path()), message: "Field required".to_owned() }
}

/// The tool that an addition or a removal names.
fn tool_of(block: &Block<'_>) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Named {
        name: String,
    }
    let named = block.tool.and_then(|tool| serde_json::from_str::<Named>(tool.get()).ok());
    named
        .map(|tool| tool.name)
        .or_else(|| Some(block.tool_name.as_deref().or(block.name.as_deref())?.to_owned()))
}
