//! Looks at a stream that is passed on as it is: what the commit gate, the settlement and the ledger must know
//! of it. That an event is JSON is seen to; what it says is not read.

use serde::de::IgnoredAny;

use super::error;
use super::events::{MessageDelta, StartedMessage, event_type, parse};
use super::stream::cut_short;
use crate::dialect::sse::Event;
use crate::dialect::{Fault, Stop, Usage, json};

/// What is known of a stream so far. Of content nothing is kept.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    started: bool,
    output: bool,
    ended: bool,
    open: u32,
    id: String,
    model: String,
    stop: Option<Stop>,
    usage: Option<Usage>,
}

/// What an event is to someone who passes it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Something without output: the start, a ping, usage.
    Nothing,
    /// Output: from here on the answer is committed.
    Output,
    /// The answer has ended well; what follows is of no interest.
    End,
}

#[derive(serde::Deserialize)]
struct Start<'a> {
    #[serde(borrow)]
    message: StartedMessage<'a>,
}

#[derive(serde::Deserialize)]
struct BlockStart<'a> {
    #[serde(borrow, default)]
    content_block: Block<'a>,
}

#[derive(Default, serde::Deserialize)]
struct Block<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<std::borrow::Cow<'a, str>>,
}

/// A fault unless an event's data is JSON, which a cut or garbled one is not.
fn is_json(data: &str) -> Result<(), Fault> {
    match json::is_json(data) {
        true => Ok(()),
        false => parse::<IgnoredAny>(data).map(drop), // says what is wrong
    }
}

// === impl Watch ===

impl Watch {
    /// At the start of a stream.
    pub fn new() -> Watch {
        Watch::default()
    }

    /// Takes the next event. An error event, or one that breaks the dialect, is a fault: the answer will not
    /// end well.
    pub fn event(&mut self, event: Event<'_>) -> Result<Seen, Fault> {
        Ok(match &*event_type(event)? {
            "content_block_delta" => {
                is_json(event.data)?;
                self.output = true;
                Seen::Output
            }
            "message_start" => {
                let Start { message } = parse(event.data)?;
                self.started = true;
                self.open = 0; // a second start voids what was in progress
                if self.id.is_empty() {
                    self.id = message.id.map(|id| id.0.into_owned()).unwrap_or_default();
                    self.model = message.model.map(|model| model.0.into_owned()).unwrap_or_default();
                }
                if let Some(usage) = message.usage {
                    usage.apply(&mut self.usage);
                }
                Seen::Nothing
            }
            "content_block_start" => {
                let BlockStart { content_block } = parse(event.data)?;
                self.open = self.open.saturating_add(1);
                // These begin empty, and an upstream may fall silent right after; all others begin with content.
                let kind = content_block.kind.as_deref();
                if matches!(kind, Some("text" | "thinking" | "tool_use" | "server_tool_use")) {
                    return Ok(Seen::Nothing);
                }
                self.output = true;
                Seen::Output
            }
            "content_block_stop" => {
                is_json(event.data)?;
                self.output = true;
                self.open = self.open.saturating_sub(1);
                Seen::Output
            }
            "message_delta" => {
                let MessageDelta { delta, usage } = parse(event.data)?;
                if let Some(stop) = delta.and_then(|delta| delta.stop()) {
                    self.stop = Some(stop);
                }
                if let Some(usage) = usage {
                    usage.apply(&mut self.usage);
                }
                Seen::Nothing
            }
            "message_stop" => {
                is_json(event.data)?; // a cut one is none
                if !self.started {
                    return Err(cut_short(false));
                }
                self.ended = true;
                Seen::End
            }
            "error" => return Err(error::in_stream(event.data)),
            _ => Seen::Nothing,
        })
    }

    /// The stream has ended: a fault unless it ended well.
    pub fn end(&self) -> Result<(), Fault> {
        if self.ended { Ok(()) } else { Err(cut_short(self.started)) }
    }

    /// Whether output has begun. Pings and the start are none.
    pub fn has_output(&self) -> bool {
        self.output
    }

    /// Whether `message_stop` was seen.
    pub fn ended_well(&self) -> bool {
        self.ended
    }

    /// Whether a content block is open.
    pub fn block_open(&self) -> bool {
        self.open > 0
    }

    /// The usage so far, if the upstream said anything of it.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// Why the answer ended, once that is known.
    pub fn stop(&self) -> Option<&Stop> {
        self.stop.as_ref()
    }

    /// The upstream's id of the answer; empty until known.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The model that the upstream says it runs; empty until known.
    pub fn model(&self) -> &str {
        &self.model
    }
}
