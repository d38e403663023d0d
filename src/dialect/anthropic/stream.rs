//! Reads the stream of an Anthropic upstream into parts.
//!
//! Source: Anthropic documentation, "Streaming messages". What real servers add to it and is tolerated here:
//! a second `message_start`, `null` in `usage`, unknown events and deltas, a closing `event: data` / `[DONE]`,
//! deltas of blocks that are open at the same time.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::error;
use super::usage::{StopJson, UsageJson};
use crate::dialect::citation::{Citation, Citations};
use crate::dialect::json::{Str, is_object};
use crate::dialect::part::{Flow, Sink, Source};
use crate::dialect::sse::{Event, MAX_EVENT};
use crate::dialect::{Fault, Part, Stop, Usage, names};

/// Reads events into parts. Text and reasoning are handed on as they come; tool calls once they are whole.
#[derive(Debug, Default)]
pub struct Reader {
    started: bool,
    ended: bool,
    /// The blocks that are open; nearly always at most one.
    open: Vec<(u64, Open)>,
    /// A call whose arguments are no object: cut by `max_tokens`, if nothing follows it.
    cut: Option<Call>,
    content: bool,
    calls: bool,
    /// The last part was text.
    said: bool,
    stop: Option<Stop>,
    usage: Option<Usage>,
}

/// A block in progress.
#[derive(Debug)]
enum Open {
    Text(Citations),
    Thinking {
        /// Whether it has text.
        text: bool,
        signature: String,
    },
    Call(Call),
    /// A block that has no counterpart in other dialects, and the deltas that complete it.
    Block {
        json: String,
        input: String,
        compaction: Option<String>,
    },
    /// Given when it began; nothing may follow.
    Whole,
}

#[derive(Debug)]
struct Call {
    id: String,
    name: String,
    arguments: String,
}

/// The type of an event or a block.
#[derive(Deserialize)]
pub(super) struct Kind<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Option<Str<'a>>,
    /// Of a call: the tool's name.
    #[serde(borrow, default)]
    pub(super) name: Option<Str<'a>>,
}

#[derive(Deserialize)]
struct MessageStart<'a> {
    #[serde(borrow)]
    message: StartedMessage<'a>,
}

/// The message with which a stream starts.
#[derive(Deserialize)]
pub(super) struct StartedMessage<'a> {
    #[serde(borrow)]
    pub(super) id: Option<Str<'a>>,
    #[serde(borrow)]
    pub(super) model: Option<Str<'a>>,
    pub(super) usage: Option<UsageJson>,
}

#[derive(Deserialize)]
struct BlockStart<'a> {
    index: u64,
    #[serde(borrow)]
    content_block: &'a RawValue,
}

/// A content block, in a message or where a stream starts it.
#[derive(Deserialize)]
pub(super) struct Block<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Str<'a>,
    #[serde(borrow)]
    pub(super) text: Option<Str<'a>>,
    #[serde(borrow)]
    pub(super) thinking: Option<Str<'a>>,
    #[serde(borrow)]
    pub(super) signature: Option<Str<'a>>,
    #[serde(borrow)]
    pub(super) data: Option<Str<'a>>,
    #[serde(borrow)]
    pub(super) id: Option<Str<'a>>,
    #[serde(borrow)]
    pub(super) name: Option<Str<'a>>,
    #[serde(borrow)]
    pub(super) input: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) citations: Option<&'a RawValue>,
}

/// Id and name of a call. Nobody can answer one without a name; an id can be made up.
pub(super) fn call_of(block: &Block<'_>, index: u64) -> Result<(String, String), Fault> {
    let text = |text: &Option<Str<'_>>| text.as_deref().unwrap_or_default().to_owned();
    let (id, name) = (text(&block.id), text(&block.name));
    if name.is_empty() {
        return Err(Fault::protocol("the upstream's answer has a tool call without a name"));
    }
    let made_up = || format!("toolu_{}", names::hash(&[&name, &index.to_string()], 24));
    let id = if id.is_empty() { made_up() } else { id };
    Ok((id, name))
}

/// The citations of a whole text block.
pub(super) fn citations(given: Option<&RawValue>) -> Citations {
    let list: Option<Vec<&RawValue>> = given.and_then(|list| serde_json::from_str(list.get()).ok());
    let mut citations = Citations::default();
    list.into_iter()
        .flatten()
        .filter_map(|one| Citation::given(one.get()))
        .for_each(|one| citations.add(one));
    citations
}

#[derive(Deserialize)]
struct BlockDelta<'a> {
    index: u64,
    #[serde(borrow)]
    delta: Delta<'a>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, rename = "type")]
    kind: Str<'a>,
    #[serde(borrow)]
    text: Option<Str<'a>>,
    #[serde(borrow)]
    thinking: Option<Str<'a>>,
    #[serde(borrow)]
    signature: Option<Str<'a>>,
    #[serde(borrow)]
    partial_json: Option<Str<'a>>,
    /// Of a `compaction_delta`.
    #[serde(borrow)]
    content: Option<Str<'a>>,
    #[serde(borrow)]
    citation: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct BlockStop {
    index: u64,
}

#[derive(Deserialize)]
pub(super) struct MessageDelta<'a> {
    #[serde(borrow)]
    pub(super) delta: Option<StopJson<'a>>,
    pub(super) usage: Option<UsageJson>,
}

/// The type of an event: its name, or where that says nothing (`data`, or no name) the `type` in its data.
pub(super) fn event_type<'a>(event: Event<'a>) -> Result<Cow<'a, str>, Fault> {
    match event.name {
        "message_start"
        | "content_block_start"
        | "content_block_delta"
        | "content_block_stop"
        | "message_delta"
        | "message_stop"
        | "ping"
        | "error" => Ok(Cow::Borrowed(event.name)),
        name => {
            let data = event.data.trim_start();
            if !data.starts_with('{') {
                return Ok(Cow::Borrowed(name)); // `[DONE]` and the like
            }
            let kind: Kind<'a> = parse(event.data)?;
            Ok(kind.kind.map_or(Cow::Borrowed(name), |kind| kind.0))
        }
    }
}

pub(super) fn parse<'a, T: Deserialize<'a>>(data: &'a str) -> Result<T, Fault> {
    // What the parser says of the data's values is left out: it may quote them.
    serde_json::from_str(data).map_err(|error| {
        Fault::protocol(format!(
            "the upstream sent an event that is no Anthropic event (line {} column {}, {:?} error)",
            error.line(),
            error.column(),
            error.classify()
        ))
    })
}

/// The arguments of a call, as the text of one object: an empty text is the empty object, and what is no object
/// is wrapped, so that the caller's own schema check reports it to the model.
pub(super) fn arguments(text: &str) -> Cow<'_, str> {
    if text.trim().is_empty() {
        return Cow::Borrowed("{}");
    }
    if is_object(text) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(serde_json::json!({ "_unparsed_arguments": text }).to_string())
}

// === impl Reader ===

impl Reader {
    /// At the start of a stream.
    pub fn new() -> Reader {
        Reader::default()
    }

    fn open_block(&mut self, data: &str, sink: &mut dyn Sink) -> Result<(), Fault> {
        let start: BlockStart<'_> = parse(data)?;
        self.begin(sink);
        self.give_cut_call(sink);
        let block: Block<'_> = parse(start.content_block.get())?;
        self.said &= &*block.kind == "text";
        let open = match &*block.kind {
            "text" => {
                // Two texts stay two: the citations of one say nothing of the other.
                if std::mem::take(&mut self.said) {
                    sink.part(Part::Citations(Vec::new()));
                }
                self.text(block.text.as_deref(), sink);
                Open::Text(citations(block.citations))
            }
            "thinking" => {
                let text = self.thinking(block.thinking.as_deref(), sink);
                Open::Thinking {
                    text,
                    signature: block.signature.map(|s| s.0.into_owned()).unwrap_or_default(),
                }
            }
            "redacted_thinking" => {
                self.content = true;
                sink.part(Part::RedactedThinking(block.data.unwrap_or_default().0));
                Open::Whole
            }
            "tool_use" => {
                let (id, name) = call_of(&block, start.index)?;
                // Some servers give the input here, without deltas.
                let arguments = match block.input.map(RawValue::get) {
                    None | Some("{}" | "null" | "\"\"") => String::new(),
                    Some(input) => input.to_owned(),
                };
                Open::Call(Call { id, name, arguments })
            }
            _ => Open::Block {
                json: start.content_block.get().to_owned(),
                input: String::new(),
                compaction: None,
            },
        };
        self.close(start.index, sink); // an index that is used again ends its block
        self.open.push((start.index, open));
        Ok(())
    }

    fn delta(&mut self, data: &str, sink: &mut dyn Sink) -> Result<(), Fault> {
        let BlockDelta { index, delta } = parse(data)?;
        let open = self.open.iter_mut().find(|(at, _)| *at == index).map(|(_, open)| open);
        match (&*delta.kind, open) {
            ("citations_delta", Some(Open::Text(citations))) => {
                let citation = delta.citation.and_then(|citation| Citation::given(citation.get()));
                citation.into_iter().for_each(|citation| citations.add(citation));
            }
            ("text_delta", _) => {
                self.begin(sink);
                self.text(delta.text.as_deref(), sink);
            }
            ("thinking_delta", Some(Open::Thinking { text, .. })) => {
                let piece = delta.thinking.as_deref().unwrap_or_default();
                if !piece.is_empty() {
                    *text = true;
                    self.content = true;
                    sink.part(Part::Thinking(Cow::Borrowed(piece)));
                }
            }
            ("signature_delta", Some(Open::Thinking { signature, .. })) => {
                // Comes whole; one that comes again replaces it, as in the vendor's clients.
                *signature = delta.signature.map(|signature| signature.0.into_owned()).unwrap_or_default();
            }
            (
                "input_json_delta",
                Some(Open::Call(Call { arguments: into, .. }) | Open::Block { input: into, .. }),
            ) => {
                append(into, delta.partial_json.as_deref().unwrap_or_default())?;
            }
            ("compaction_delta", Some(Open::Block { compaction, .. })) => {
                append(compaction.get_or_insert_default(), delta.content.as_deref().unwrap_or_default())?;
            }
            ("thinking_delta" | "signature_delta" | "input_json_delta", _) => {
                return Err(Fault::protocol(format!(
                    "the upstream sent a {} for a block that is not open",
                    &*delta.kind
                )));
            }
            _ => {} // what comes in future
        }
        Ok(())
    }

    fn text(&mut self, text: Option<&str>, sink: &mut dyn Sink) {
        let text = text.unwrap_or_default();
        if !text.is_empty() {
            (self.content, self.said) = (true, true);
            sink.part(Part::Text(Cow::Borrowed(text)));
        }
    }

    fn thinking(&mut self, text: Option<&str>, sink: &mut dyn Sink) -> bool {
        let text = text.unwrap_or_default();
        if text.is_empty() {
            return false;
        }
        self.content = true;
        sink.part(Part::Thinking(Cow::Borrowed(text)));
        true
    }

    /// The block at this index is complete.
    fn close(&mut self, index: u64, sink: &mut dyn Sink) {
        let Some(at) = self.open.iter().position(|(open, _)| *open == index) else { return };
        match self.open.remove(at).1 {
            Open::Whole => {}
            Open::Text(mut citations) => {
                if self.said && !citations.is_empty() {
                    self.said = false;
                    sink.part(Part::Citations(citations.take()));
                }
            }
            Open::Thinking { text, signature } => {
                if text || !signature.is_empty() {
                    self.content = true;
                    sink.part(Part::Signature(Cow::Owned(signature)));
                }
            }
            Open::Call(call) => {
                self.give_cut_call(sink);
                // Nothing at all stands for the empty object, or was cut before its first byte.
                if is_object(&call.arguments) {
                    self.give(call, sink);
                } else {
                    self.cut = Some(call);
                }
            }
            Open::Block { json, input, compaction } => {
                self.content = true;
                sink.part(Part::Block(Cow::Owned(complete(json, &input, compaction))));
            }
        }
    }

    fn give(&mut self, call: Call, sink: &mut dyn Sink) {
        (self.content, self.calls) = (true, true);
        let arguments = Cow::Owned(arguments(&call.arguments).into_owned());
        sink.part(Part::Call { id: Cow::Owned(call.id), name: Cow::Owned(call.name), arguments });
    }

    fn give_cut_call(&mut self, sink: &mut dyn Sink) {
        if let Some(call) = self.cut.take() {
            self.give(call, sink);
        }
    }

    /// The answer begins, if it has not.
    fn begin(&mut self, sink: &mut dyn Sink) {
        if !std::mem::replace(&mut self.started, true) {
            sink.part(Part::Start { id: Cow::Borrowed(""), model: Cow::Borrowed(""), usage: None });
        }
    }

    fn message_start(&mut self, data: &str, sink: &mut dyn Sink) -> Result<(), Fault> {
        let MessageStart { message } = parse(data)?;
        // A gateway that tried again inside one stream starts over: calls in progress are void.
        self.open.clear();
        self.cut = None;
        if let Some(usage) = message.usage {
            usage.apply(&mut self.usage);
        }
        if !std::mem::replace(&mut self.started, true) {
            let text = |text: Option<Str<'_>>| Cow::Owned(text.map(|t| t.0.into_owned()).unwrap_or_default());
            sink.part(Part::Start { id: text(message.id), model: text(message.model), usage: self.usage });
        }
        Ok(())
    }

    fn message_stop(&mut self, sink: &mut dyn Sink) -> Result<(), Fault> {
        if !self.started {
            return Err(Fault::protocol("the upstream ended a message that it never started"));
        }
        while let Some(&(index, _)) = self.open.first() {
            self.close(index, sink);
        }
        let limited = matches!(self.stop, Some(Stop::MaxTokens | Stop::ContextWindow));
        if limited {
            self.cut = None; // the limit cut the call: nobody asked for what is left of it
        }
        self.give_cut_call(sink);
        let stop = match self.stop.take() {
            Some(stop) => stop,
            None if self.calls => Stop::ToolUse,
            None if self.content => Stop::EndTurn,
            None => return Err(Fault::protocol("the upstream's message ended without content or reason")),
        };
        self.ended = true;
        sink.part(Part::End { stop, usage: self.usage });
        Ok(())
    }
}

impl Source for Reader {
    fn event(&mut self, event: Event<'_>, sink: &mut dyn Sink) -> Result<Flow, Fault> {
        if self.ended {
            return Ok(Flow::Done);
        }
        match &*event_type(event)? {
            "message_start" => self.message_start(event.data, sink)?,
            "content_block_start" => self.open_block(event.data, sink)?,
            "content_block_delta" => self.delta(event.data, sink)?,
            "content_block_stop" => {
                let BlockStop { index } = parse(event.data)?;
                self.close(index, sink);
            }
            "message_delta" => {
                let MessageDelta { delta, usage } = parse(event.data)?;
                if let Some(stop) = delta.and_then(|delta| delta.stop()) {
                    self.stop = Some(stop);
                }
                if let Some(usage) = usage {
                    usage.apply(&mut self.usage);
                }
            }
            "message_stop" => {
                parse::<Kind<'_>>(event.data)?; // a cut one is none
                self.message_stop(sink)?;
                return Ok(Flow::Done);
            }
            "error" => return Err(error::in_stream(event.data)),
            _ => {}
        }
        Ok(Flow::More)
    }

    fn end(&mut self, _sink: &mut dyn Sink) -> Result<(), Fault> {
        if self.ended { Ok(()) } else { Err(cut_short(self.started)) }
    }
}

/// The fault of a stream that ended too early. It may have been billed.
pub(super) fn cut_short(started: bool) -> Fault {
    let message = match started {
        true => "the upstream closed the stream early",
        false => "the upstream's stream held no message",
    };
    Fault { ambiguous: true, ..Fault::protocol(message) }
}

fn append(into: &mut String, piece: &str) -> Result<(), Fault> {
    if into.len() + piece.len() > MAX_EVENT {
        return Err(Fault::protocol("the upstream sent a content block that is too large"));
    }
    into.push_str(piece);
    Ok(())
}

/// A block with what its deltas added.
fn complete(json: String, input: &str, compaction: Option<String>) -> String {
    if input.trim().is_empty() && compaction.is_none() {
        return json;
    }
    let Ok(serde_json::Value::Object(mut block)) = serde_json::from_str(&json) else { return json };
    if let Ok(input) = serde_json::from_str(input) {
        block.insert("input".to_owned(), input);
    }
    if let Some(content) = compaction {
        block.insert("content".to_owned(), content.into());
    }
    serde_json::Value::Object(block).to_string()
}

#[cfg(test)]
mod tests;
