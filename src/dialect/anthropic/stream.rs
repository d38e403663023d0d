//! Reads the stream of an Anthropic upstream into parts.
//!
//! Source: Anthropic documentation, "Streaming messages". What real servers add to it and is tolerated here:
//! a second `message_start`, `null` in `usage`, unknown events and deltas, a closing `event: data` / `[DONE]`,
//! deltas of blocks that are open at the same time.

use std::borrow::Cow;

use super::error;
use super::events::{
    Block, BlockDelta, BlockStart, BlockStop, Kind, MessageDelta, MessageStart, arguments, call_of,
    citations, event_type, parse,
};
use crate::dialect::citation::{Citation, Citations};
use crate::dialect::json::Raw;
use crate::dialect::json::{Str, is_object};
use crate::dialect::part::{Flow, Sink, Source};
use crate::dialect::sse::{Event, MAX_EVENT};
use crate::dialect::{Fault, Part, Stop, Usage};

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
                let arguments = match block.input.map(Raw::get) {
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
