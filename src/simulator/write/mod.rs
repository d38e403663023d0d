//! Answers in each dialect: whole, or as the events of a stream.

mod anthropic;
mod chat;
mod gemini;
mod responses;

use serde::Serialize;
use serde_json::Value;

use super::ask::Ask;
use super::reply::Reply;
use crate::dialect::Dialect;

/// One event of a stream, as text with its closing blank line.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub text: String,
    pub kind: Kind,
}

/// What an event is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A sign of life, not counted.
    Alive,
    /// Opens or closes something.
    Frame,
    /// Carries output of the model.
    Output,
    /// Says that and why the answer ends.
    End,
    /// The last word of the stream.
    Terminator,
}

/// The answer as one JSON value.
pub(super) fn whole(ask: &Ask, reply: &Reply) -> Value {
    match ask.dialect {
        Dialect::Anthropic => anthropic::whole(reply),
        Dialect::OpenAiChat => chat::whole(ask, reply),
        Dialect::OpenAiResponses => responses::whole(reply),
        Dialect::Gemini => gemini::whole(reply),
    }
}

/// The answer as the events of a stream, each with so many tokens.
pub(super) fn events(ask: &Ask, reply: &Reply, tokens: usize) -> Vec<Event> {
    match ask.dialect {
        Dialect::Anthropic => anthropic::events(reply, tokens),
        Dialect::OpenAiChat => chat::events(ask, reply, tokens),
        Dialect::OpenAiResponses => responses::events(reply, tokens),
        Dialect::Gemini => gemini::events(reply, tokens),
    }
}

/// A sign of life between events.
pub(super) fn alive(dialect: Dialect, openrouter: bool) -> Event {
    let text = match dialect {
        Dialect::Anthropic => "event: ping\ndata: {\"type\": \"ping\"}\n\n",
        _ if openrouter => ": OPENROUTER PROCESSING\n\n",
        _ => ": keep-alive\n\n",
    };
    Event { text: text.to_owned(), kind: Kind::Alive }
}

/// An event with a name (Anthropic, Responses).
fn named(name: &str, kind: Kind, data: &impl Serialize) -> Event {
    Event { text: ["event: ", name, "\ndata: ", &json(data), "\n\n"].concat(), kind }
}

/// An event without a name (Chat Completions, Gemini).
fn unnamed(kind: Kind, data: &impl Serialize) -> Event {
    Event { text: ["data: ", &json(data), "\n\n"].concat(), kind }
}

/// As text. What is written here can be: its keys are strings.
fn json(data: &impl Serialize) -> String {
    serde_json::to_string(data).unwrap_or_default()
}

/// Cuts a text into pieces of so many tokens of four characters; an empty text is one empty piece.
fn pieces(text: &str, tokens: usize) -> Vec<&str> {
    let size = tokens.max(1).saturating_mul(4);
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((at, _)) = rest.char_indices().nth(size) {
        let (piece, after) = rest.split_at(at);
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    pieces
}

/// Arguments as a value, where the dialect wants one; text that is no JSON stays a string.
fn parsed(arguments: &str) -> Value {
    serde_json::from_str(arguments).unwrap_or_else(|_| Value::from(arguments))
}
