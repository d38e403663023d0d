//! Looks at a Responses stream that is passed on as it is: what the commit gate, the settlement and the ledger
//! must know of it.
//!
//! Source: OpenAI API reference, "Responses", "Streaming events".

use serde::Deserialize;

use super::types::{Event as EventJson, Response};
use crate::dialect::json::Raw;
use crate::dialect::openai_chat::error;
use crate::dialect::sse::Event;
use crate::dialect::table::Variant;
use crate::dialect::{Fault, Stop, Usage};

/// What is known of a stream so far.
#[derive(Clone, Debug)]
pub struct Watch {
    variant: &'static Variant,
    output: bool,
    ended: bool,
    stop: Option<Stop>,
    usage: Option<Usage>,
}

/// Events that come before any output.
const OPENING: [&str; 4] = ["response.created", "response.in_progress", "response.queued", "keepalive"];

// === impl Watch ===

impl Watch {
    /// At the start of a stream.
    pub fn new(variant: &'static Variant) -> Watch {
        Watch { variant, output: false, ended: false, stop: None, usage: None }
    }

    /// Takes the next event. A failure, or what is no event, is a fault: the answer will not end well.
    pub fn event(&mut self, event: Event<'_>) -> Result<(), Fault> {
        #[derive(Deserialize)]
        struct Kind<'a> {
            #[serde(borrow, rename = "type", default)]
            kind: Option<std::borrow::Cow<'a, str>>,
            #[serde(borrow, default)]
            error: Option<Raw<'a>>,
        }
        let data = event.data.trim();
        if self.ended || !data.starts_with('{') {
            return Ok(());
        }
        let unread = |cause: serde_json::Error| {
            Fault::protocol(format!("the upstream sent an event that can't be read: {cause}"))
        };
        let Kind { kind, error } = serde_json::from_str(data).map_err(unread)?;
        match kind.as_deref().unwrap_or(event.name) {
            "response.completed" | "response.incomplete" => {
                let event: EventJson<'_> = serde_json::from_str(data).map_err(unread)?;
                self.finished(event.response.unwrap_or_default());
            }
            "response.failed" | "error" => return Err(error::in_body(data.as_bytes(), self.variant)),
            "" if error.is_some() => return Err(error::in_body(data.as_bytes(), self.variant)),
            kind => self.output |= !OPENING.contains(&kind),
        }
        Ok(())
    }

    fn finished(&mut self, response: Response<'_>) {
        self.ended = true;
        self.usage = response.usage.as_ref().and_then(|figures| figures.usage());
        let calls = response.output.iter().any(|item| item.call_id.is_some());
        self.stop = Some(match response.status.as_deref() {
            Some("incomplete") => Stop::MaxTokens,
            _ if calls => Stop::ToolUse,
            _ => Stop::EndTurn,
        });
    }

    /// The stream has ended: a fault unless it ended well.
    pub fn end(&self) -> Result<(), Fault> {
        if self.ended {
            return Ok(());
        }
        let mut fault = Fault::protocol("the upstream closed the stream early");
        fault.ambiguous = true;
        Err(fault)
    }

    /// Whether output has begun.
    pub fn has_output(&self) -> bool {
        self.output || self.ended
    }

    /// Whether the answer's last event was seen.
    pub fn ended_well(&self) -> bool {
        self.ended
    }

    /// The upstream's figures.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// Why the answer ended, once that is known.
    pub fn stop(&self) -> Option<Stop> {
        self.stop.clone()
    }
}

/// What is known of a whole response that is passed on. A fault if a body that came with a status of success is
/// no response, or a failed one.
pub fn usage_of(body: &[u8], variant: &'static Variant) -> Result<(Option<Usage>, Option<Stop>), Fault> {
    let text = std::str::from_utf8(body).map_err(|_| Fault::protocol("the upstream's answer is no UTF-8"))?;
    let response: Response<'_> = serde_json::from_str(text.trim_start_matches('\u{feff}'))
        .map_err(|_| Fault::protocol("the upstream answered with something that is no response"))?;
    if response.status.as_deref() == Some("failed")
        || response.error.is_some_and(|error| error.get() != "null")
    {
        return Err(error::in_body(body, variant));
    }
    if response.status.is_none() && response.output.is_empty() {
        return Err(Fault::protocol("the upstream answered with something that is no response"));
    }
    let mut watch = Watch::new(variant);
    watch.finished(response);
    Ok((watch.usage, watch.stop))
}
