//! An answer as a sequence of parts, independent of any dialect.
//!
//! A [`Source`] reads an upstream's answer into parts; a [`Sink`] writes parts in a caller's dialect. The
//! order of parts is the order of the answer: `Start`, then any number of content parts, then one `End`.
//! A source that can't end an answer well returns a fault instead of `End`; a sink never invents one.

use std::borrow::Cow;

use bytes::Bytes;

use super::citation::Citation;
use super::sse;
use super::{Fault, Usage};

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Part<'a> {
    /// The answer begins. Comes once, first.
    Start {
        /// The upstream's id of the answer; may be empty.
        id: Cow<'a, str>,
        /// The model that the upstream says it ran; may be empty.
        model: Cow<'a, str>,
        /// Usage as far as it is known at the start.
        usage: Option<Usage>,
    },
    /// Text that people read. Adjacent pieces belong to the same block.
    Text(Cow<'a, str>),
    /// The text before this ends, and these sources back it. Without a text before it, it means nothing.
    Citations(Vec<Citation>),
    /// Reasoning text. Adjacent pieces belong to the same block.
    Thinking(Cow<'a, str>),
    /// The reasoning block before this ends, and carries this signature (Anthropic's, or one of our
    /// carriers). Without a block before it, it is a block without text.
    Signature(Cow<'a, str>),
    /// Reasoning that is encrypted as a whole.
    RedactedThinking(Cow<'a, str>),
    /// A whole tool call. `arguments` is the text of one JSON object.
    Call {
        /// The id that the result will name.
        id: Cow<'a, str>,
        /// The tool, by the name that the caller gave it.
        name: Cow<'a, str>,
        /// The text of one JSON object.
        arguments: Cow<'a, str>,
    },
    /// A content block of the Anthropic dialect that has no counterpart elsewhere (server tools and their
    /// results), as JSON text.
    Block(Cow<'a, str>),
    /// The answer ends well. Comes once, last.
    End {
        /// Why it ended.
        stop: Stop,
        /// What it cost; `None` if the upstream did not say.
        usage: Option<Usage>,
    },
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The model was done.
    EndTurn,
    /// The model waits for the results of its calls.
    ToolUse,
    /// The limit on output was reached.
    MaxTokens,
    /// A stop sequence was met: which, if known.
    StopSequence(Option<String>),
    /// The model or its provider refused; with its explanation, if given.
    Refusal(Option<String>),
    /// The model paused a long turn and wants it sent back.
    PauseTurn,
    /// The context window is full.
    ContextWindow,
    /// Any other reason of Anthropic's, by its name.
    Other(String),
}

/// Writes parts in a caller's dialect.
pub trait Sink {
    /// Takes the next part.
    fn part(&mut self, part: Part<'_>);
}

/// Reads an upstream's stream into parts.
pub trait Source: Send {
    /// Takes one event of the stream. A fault ends the answer; nothing may be fed after it.
    fn event(&mut self, event: sse::Event<'_>, sink: &mut dyn Sink) -> Result<Flow, Fault>;

    /// The stream has ended. Gives the remaining parts, or the fault if it ended too early.
    fn end(&mut self, sink: &mut dyn Sink) -> Result<(), Fault>;

    /// Whether all of the answer is there, though the stream has not said its end: some servers leave their
    /// connection open. [`end`](Source::end) then gives the rest.
    fn is_whole(&self) -> bool {
        false
    }
}

/// Whether more of a stream is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// More may come.
    More,
    /// `End` was given; what follows is of no interest.
    Done,
}

/// Reads a whole body that is a stream of events.
pub(crate) fn read_events(body: &Bytes, source: &mut dyn Source, sink: &mut dyn Sink) -> Result<(), Fault> {
    let mut events = sse::Reader::new();
    events.push(body);
    while let Some(event) = events.next()? {
        if source.event(event, sink)? == Flow::Done {
            return Ok(());
        }
    }
    if let Some(event) = events.finish()?
        && source.event(event, sink)? == Flow::Done
    {
        return Ok(());
    }
    source.end(sink)
}

/// Whether a body of status 200 is a stream of events, whatever its content type says: neither JSON nor HTML.
pub(crate) fn is_events(body: &[u8]) -> bool {
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace() && !matches!(byte, 0xef | 0xbb | 0xbf));
    !matches!(first, None | Some(b'{' | b'[' | b'<'))
}

impl Part<'_> {
    /// Whether a reader would see something: what the commit gate waits for.
    pub fn is_output(&self) -> bool {
        !matches!(self, Part::Start { .. })
    }
}

/// Collects parts as they are: for tests, and for callers that want the answer as values.
impl Sink for Vec<Part<'static>> {
    fn part(&mut self, part: Part<'_>) {
        self.push(part.into_owned());
    }
}

impl Part<'_> {
    /// The same part, owning its text.
    pub fn into_owned(self) -> Part<'static> {
        fn own(text: Cow<'_, str>) -> Cow<'static, str> {
            Cow::Owned(text.into_owned())
        }
        match self {
            Part::Start { id, model, usage } => Part::Start { id: own(id), model: own(model), usage },
            Part::Text(text) => Part::Text(own(text)),
            Part::Citations(citations) => Part::Citations(citations),
            Part::Thinking(text) => Part::Thinking(own(text)),
            Part::Signature(text) => Part::Signature(own(text)),
            Part::RedactedThinking(data) => Part::RedactedThinking(own(data)),
            Part::Call { id, name, arguments } => {
                Part::Call { id: own(id), name: own(name), arguments: own(arguments) }
            }
            Part::Block(json) => Part::Block(own(json)),
            Part::End { stop, usage } => Part::End { stop, usage },
        }
    }
}
