//! How an answer ends: well, with an error, or because its model is stuck.

use std::borrow::Cow;

use super::super::calls::Calls;
use super::super::error;
use super::super::types::{CallPiece, Chunk, Function};
use super::Reader;
use crate::dialect::json::Raw;
use crate::dialect::part::Flow;
use crate::dialect::stops::Stops;
use crate::dialect::{Fault, FaultKind, Part, Sink, Stop, Usage};

// === impl Reader ===

impl Reader {
    /// An error item. After a finish reason it is of no interest: the answer is whole.
    pub(super) fn failed(&mut self, data: &str, sink: &mut dyn Sink) -> Result<Flow, Fault> {
        if self.finish.is_some() {
            return Ok(Flow::More);
        }
        let fault = error::in_body(data.as_bytes(), self.context.variant);
        // Groq says which call it refused: the client tells the model better than we can.
        if let Some((name, arguments)) = error::failed_generation(data) {
            let piece = CallPiece {
                function: Some(Function { name: Some(name.into()), arguments: Some(Raw::from(&*arguments)) }),
                ..Default::default()
            };
            self.calls = Calls::default();
            self.calls.add(&piece)?;
            self.finish = Some("tool_calls".to_owned());
            if !self.is_started {
                self.start(&Chunk::default(), sink);
            }
            self.finish(sink)?;
            return Ok(Flow::Done);
        }
        Err(fault)
    }

    /// The model writes white space without end. If the call before it is whole, that is the answer.
    pub(super) fn stuck(&mut self, sink: &mut dyn Sink) -> Result<Flow, Fault> {
        if !self.calls.last_is_whole() {
            return Err(Fault::protocol("the model writes white space without end into a tool call"));
        }
        self.finish = Some("tool_calls".to_owned());
        self.finish(sink)?;
        Ok(Flow::Done)
    }

    /// Ends the answer: what was held back, and why it ended.
    pub(in crate::dialect::openai_chat) fn finish(&mut self, sink: &mut dyn Sink) -> Result<(), Fault> {
        self.is_done = true;
        if let Some(mut tags) = self.tags.take() {
            let mut outcome = Ok(());
            tags.finish(&mut |is_reasoning, piece| {
                if is_reasoning {
                    outcome = self.thought(piece, sink);
                } else {
                    self.text(piece, sink);
                }
            });
            outcome?;
        }
        if let Some(rest) = self.stops.as_mut().map(Stops::rest) {
            self.say(&rest, sink);
        }
        let mut reason = self.finish.take().unwrap_or_default();
        if self.is_stopped {
            // What comes behind the string is not part of the answer.
            self.calls = Calls::default();
            reason = "stop".to_owned();
        }
        let is_cut = matches!(reason.as_str(), "length" | "model_length" | "max_tokens");
        let calls = std::mem::take(&mut self.calls);
        self.output_bytes += calls.bytes();
        let mut calls = calls.ready(&self.id, &self.context.used_ids, &self.context.names, is_cut)?;
        if self.context.one_call {
            calls.truncate(1);
        }
        let has_content = self.has_text || self.has_thought || !calls.is_empty();
        let stop = match reason.as_str() {
            "error" | "abort" | "network_error" => {
                return Err(Fault::new(
                    FaultKind::ServerError,
                    format!("the upstream ended its answer with `{reason}`"),
                ));
            }
            "insufficient_system_resource" => {
                return Err(Fault::new(FaultKind::Overloaded, "the upstream ran out of resources"));
            }
            _ if is_cut => Stop::MaxTokens,
            "content_filter" | "sensitive" => Stop::Refusal(self.refusal.take()),
            _ if self.refusal.is_some() => Stop::Refusal(self.refusal.take()),
            _ if !calls.is_empty() => Stop::ToolUse,
            _ if !has_content && !self.is_stopped => {
                return Err(Fault::protocol("the upstream's answer is empty"));
            }
            "stop" => match self.stop_string.take() {
                Some(met) => Stop::StopSequence(Some(met)),
                None => Stop::EndTurn,
            },
            _ => Stop::EndTurn,
        };
        let signatures = calls
            .iter()
            .filter_map(|call| Some((call.id.clone(), call.signature.clone()?)))
            .collect::<Vec<_>>();
        if self.has_text && !self.citations.is_empty() {
            sink.part(Part::Citations(self.citations.take()));
        }
        if !self.late.is_empty() {
            let late = std::mem::take(&mut self.late);
            self.shown.clone_from(&late);
            self.thinks = true;
            sink.part(Part::Thinking(Cow::Owned(late)));
        }
        self.sign(signatures, sink);
        for call in &calls {
            call.give(sink);
        }
        let usage = self.usage.unwrap_or_else(|| self.estimate());
        sink.part(Part::End { stop, usage: Some(usage) });
        Ok(())
    }

    /// Figures for an upstream that gives none: better than zeros.
    fn estimate(&self) -> Usage {
        let output = u64::try_from(self.output_bytes).unwrap_or(u64::MAX).saturating_mul(10) / 36 + 1;
        Usage { input: self.context.input_estimate, output, estimated: true, ..Usage::default() }
    }
}
