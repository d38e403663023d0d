//! Looks at a Chat Completions stream that is passed on as it is: what the commit gate, the settlement and the
//! ledger must know of it.
//!
//! Source: OpenAI API reference, "Chat", "Streaming".

use super::error;
use super::stream::is_truthy;
use super::types::{Chunk, Piece};
use crate::dialect::json::Raw;
use crate::dialect::sse::Event;
use crate::dialect::table::Variant;
use crate::dialect::{Fault, Stop, Usage};

/// What is known of a stream so far.
#[derive(Clone, Debug)]
pub struct Watch {
    variant: &'static Variant,
    estimate: u64,
    started: bool,
    output: bool,
    calls: bool,
    done: bool,
    finish: Option<String>,
    usage: Option<Usage>,
    /// Bytes of output, for upstreams that give no figures.
    written: u64,
}

// === impl Watch ===

impl Watch {
    /// At the start of a stream. `estimate`: input tokens, where the upstream will not say.
    pub fn new(variant: &'static Variant, estimate: u64) -> Watch {
        Watch {
            variant,
            estimate,
            started: false,
            output: false,
            calls: false,
            done: false,
            finish: None,
            usage: None,
            written: 0,
        }
    }

    /// Takes the next event. An error item, or one that is no chunk, is a fault, unless the answer is whole.
    pub fn event(&mut self, event: Event<'_>) -> Result<(), Fault> {
        let data = event.data.trim();
        if self.done {
            return Ok(());
        }
        if data == "[DONE]" {
            if !self.started {
                return Err(Fault::protocol("the upstream's stream holds no answer"));
            }
            self.done = true;
            return Ok(());
        }
        if event.name == "error" && !data.is_empty() && self.finish.is_none() {
            return Err(error::in_body(data.as_bytes(), self.variant));
        }
        if !data.starts_with(['{', '[']) {
            return Ok(());
        }
        let chunk: Chunk<'_> = match serde_json::from_str(data) {
            Ok(chunk) => chunk,
            Err(_) if data.starts_with('[') => return Err(error::in_body(data.as_bytes(), self.variant)),
            Err(cause) => {
                return Err(Fault::protocol(format!(
                    "the upstream sent a chunk that can't be read: {cause}"
                )));
            }
        };
        self.chunk(&chunk, data)
    }

    fn chunk(&mut self, chunk: &Chunk<'_>, data: &str) -> Result<(), Fault> {
        if let Some(usage) = chunk.usage() {
            self.usage = Some(usage);
        }
        let choice_error = chunk.choices.iter().find_map(|choice| choice.error.filter(|raw| is_truthy(*raw)));
        let fails = chunk.error.is_some_and(is_truthy)
            || chunk.object.as_deref() == Some("error")
            || choice_error.is_some();
        if fails && self.finish.is_none() {
            let said = choice_error.map_or(data, Raw::get);
            return Err(error::in_body(said.as_bytes(), self.variant));
        }
        for choice in &chunk.choices {
            self.started = true;
            if let Some(delta) = choice.delta.as_ref().or(choice.message.as_ref()) {
                let texts = delta.content.0.iter().map(|piece| match piece {
                    Piece::Text(text) | Piece::Thinking(text) => text.len(),
                });
                let reasoning = delta.reasoning.as_ref().or(delta.reasoning_content.as_ref());
                let others = [reasoning, delta.refusal.as_ref()].into_iter().flatten().map(|text| text.len());
                let arguments = delta.tool_calls.iter().filter_map(|call| call.function.as_ref());
                let arguments = arguments.map(|function| function.arguments.map_or(1, |raw| raw.get().len()));
                let bytes: usize = texts.chain(others).chain(arguments).sum();
                self.calls |= !delta.tool_calls.is_empty() || delta.function_call.is_some();
                self.written += bytes as u64;
                self.output |=
                    bytes > 0 || self.calls || !delta.reasoning_details.is_empty() || delta.audio.is_some();
            }
            let reason = choice.finish_reason.as_deref().filter(|reason| !reason.is_empty());
            if let Some(reason) = reason {
                // Some say `error` here before, or in place of, an error item.
                if reason == "error" {
                    return Err(Fault::protocol("the upstream ended its answer with `error`"));
                }
                self.finish.get_or_insert_with(|| reason.to_owned());
                self.output = true;
            }
        }
        Ok(())
    }

    /// The stream has ended: a fault unless it ended well.
    pub fn end(&self) -> Result<(), Fault> {
        if self.done || self.finish.is_some() {
            return Ok(());
        }
        let mut fault = Fault::protocol("the upstream closed the stream early");
        fault.ambiguous = true;
        Err(fault)
    }

    /// Whether output has begun. A role without text is none.
    pub fn has_output(&self) -> bool {
        self.output || self.done
    }

    /// Whether `[DONE]` was seen.
    pub fn ended_well(&self) -> bool {
        self.done
    }

    /// The upstream's figures, or an estimate.
    pub fn usage(&self) -> Option<Usage> {
        let output = (self.written * 5).div_ceil(18); // 3.6 bytes to a token
        let estimated = Usage { input: self.estimate, output, estimated: true, ..Usage::default() };
        self.usage.or_else(|| self.started.then_some(estimated))
    }

    /// Why the answer ended, once that is known.
    pub fn stop(&self) -> Option<Stop> {
        Some(match self.finish.as_deref()? {
            "length" | "model_length" => Stop::MaxTokens,
            "tool_calls" | "function_call" => Stop::ToolUse,
            "content_filter" => Stop::Refusal(None),
            "stop" if self.calls => Stop::ToolUse,
            "stop" => Stop::EndTurn,
            other => Stop::Other(other.to_owned()),
        })
    }
}

/// What is known of a whole completion that is passed on: its usage, and why it ended. A fault if a body that
/// came with a status of success is no completion.
pub fn usage_of(
    body: &[u8],
    variant: &'static Variant,
    estimate: u64,
) -> Result<(Option<Usage>, Option<Stop>), Fault> {
    let text = std::str::from_utf8(body).map_err(|_| Fault::protocol("the upstream's answer is no UTF-8"))?;
    let text = text.trim_start_matches('\u{feff}').trim();
    if !text.starts_with('{') {
        return Err(Fault::protocol("the upstream answered with something that is no JSON object"));
    }
    let mut watch = Watch::new(variant, estimate);
    watch.event(Event { name: "", data: text })?;
    if !watch.started {
        return Err(Fault::protocol("the upstream's answer has no choices"));
    }
    Ok((watch.usage(), watch.stop()))
}
