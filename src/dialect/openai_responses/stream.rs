//! Responses events, read into parts. Whole answers go the same way: as their last event.
//!
//! Items come one after another, so that each part goes on as soon as its item is done; text and reasoning go on
//! as they come. An answer ends well only with `response.completed` or `response.incomplete`.
//!
//! Source: OpenAI API reference, "Responses", "Streaming events".

mod items;

use std::borrow::Cow;
use std::collections::HashMap;

use super::types::{Event, Response};
use crate::dialect::carrier::Carrier;
use crate::dialect::citation::Citations;
use crate::dialect::openai_chat::reasoning::ThinkTags;
use crate::dialect::openai_chat::{Context, error};
use crate::dialect::part::Flow;
use crate::dialect::stops::Stops;
use crate::dialect::{Fault, Part, Sink, Source, Stop, Usage, sse};

/// Reads one answer.
#[derive(Debug)]
pub struct Reader {
    context: Context,
    is_started: bool,
    is_done: bool,
    id: String,
    /// What is known of the items that are not done.
    open: HashMap<u64, Open>,
    /// Items that are done: nothing of them is taken again.
    done: Vec<u64>,
    given_ids: Vec<String>,
    has_content: bool,
    has_calls: bool,
    refusal: Option<String>,
    stops: Option<Stops>,
    /// Reasoning that a server without a parser for it leaves in the text.
    tags: Option<ThinkTags>,
    /// Reasoning was found there, and lacks its signature.
    thinks: bool,
    /// The stop string that was met: the answer is over.
    met: Option<String>,
    output_bytes: usize,
}

/// An item in progress.
#[derive(Debug, Default)]
struct Open {
    id: String,
    name: String,
    /// Arguments of a call, or the input of a custom one.
    arguments: String,
    /// Whether text or reasoning was given.
    has_given: bool,
    /// What backs the text.
    citations: Citations,
    /// The last part of a summary that was seen.
    summary: Option<u64>,
    /// Whether the reasoning comes as a summary (or in full); the other is then a repetition.
    is_summary: Option<bool>,
}

/// More items than this at once are nonsense.
const MAX_OPEN: usize = 1024;
/// Most bytes of one call's arguments.
const MAX_ARGUMENTS: usize = 32 << 20;

// === impl Reader ===

impl Reader {
    /// A reader at the start of an answer.
    pub fn new(context: Context) -> Reader {
        let stops = Stops::new(&context.stops);
        let tags = context.variant.think_tags.then(ThinkTags::default);
        Reader {
            context,
            is_started: false,
            is_done: false,
            id: String::new(),
            open: HashMap::new(),
            done: Vec::new(),
            given_ids: Vec::new(),
            has_content: false,
            has_calls: false,
            refusal: None,
            stops,
            tags,
            thinks: false,
            met: None,
            output_bytes: 0,
        }
    }

    fn start(&mut self, response: Option<&Response<'_>>, sink: &mut dyn Sink) {
        if self.is_started {
            return;
        }
        self.is_started = true;
        self.id = response.and_then(|response| response.id.as_deref()).unwrap_or_default().to_owned();
        let model = response.and_then(|response| response.model.as_deref()).unwrap_or_default();
        let usage =
            Usage { input: self.context.input_estimate, output: 1, estimated: true, ..Usage::default() };
        sink.part(Part::Start {
            id: Cow::Borrowed(&self.id),
            model: Cow::Borrowed(model),
            usage: Some(usage),
        });
    }

    fn item(&mut self, event: &Event<'_>) -> Result<&mut Open, Fault> {
        if self.open.len() >= MAX_OPEN {
            return Err(Fault::protocol(format!(
                "the upstream's answer has more than {MAX_OPEN} open items"
            )));
        }
        Ok(self.open.entry(event.output_index.0.unwrap_or(0)).or_default())
    }

    fn take(&mut self, event: &Event<'_>, data: &str, sink: &mut dyn Sink) -> Result<Flow, Fault> {
        let kind = event.kind.as_deref().unwrap_or_default();
        if matches!(kind, "error" | "response.failed") {
            return Err(error::in_body(data.as_bytes(), self.context.variant));
        }
        if kind.starts_with("response.") {
            self.start(event.response.as_ref(), sink);
        }
        let is_done = event.output_index.0.is_some_and(|index| self.done.contains(&index));
        let delta = event.delta.as_deref().unwrap_or_default();
        self.output_bytes += delta.len();
        match kind {
            "response.completed" | "response.incomplete" => {
                let response = event.response.as_ref();
                self.finish(response.unwrap_or(&Response::default()), kind == "response.incomplete", sink)?;
                return Ok(Flow::Done);
            }
            _ if is_done => {}
            "response.output_item.added" => {
                if let Some(item) = &event.item {
                    let open = self.item(event)?;
                    open.id = item.call_id.as_deref().unwrap_or_default().to_owned();
                    open.name = item.name.as_deref().unwrap_or_default().to_owned();
                }
            }
            "response.output_text.delta" | "response.refusal.delta" => {
                if kind == "response.refusal.delta" {
                    self.refusal.get_or_insert_default().push_str(delta);
                }
                if !delta.is_empty() {
                    self.item(event)?.has_given = true;
                    self.text(delta, sink);
                }
            }
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                let is_summary = kind == "response.reasoning_summary_text.delta";
                let open = self.item(event)?;
                if *open.is_summary.get_or_insert(is_summary) != is_summary || delta.is_empty() {
                    return Ok(Flow::More);
                }
                let index = event.summary_index.0.unwrap_or(0);
                let next = is_summary && open.summary.is_some_and(|last| last != index);
                open.summary = Some(index);
                open.has_given = true;
                self.has_content = true;
                if next {
                    sink.part(Part::Thinking(Cow::Borrowed("\n\n")));
                }
                sink.part(Part::Thinking(Cow::Borrowed(delta)));
            }
            "response.output_text.annotation.added" => {
                if let Some(annotation) = event.annotation {
                    self.item(event)?.citations.add_annotations(annotation, 0);
                }
            }
            "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta" => {
                let open = self.item(event)?;
                open.arguments.push_str(delta);
                if open.arguments.len() > MAX_ARGUMENTS {
                    return Err(Fault::protocol(format!(
                        "the upstream's tool call exceeds {MAX_ARGUMENTS} bytes"
                    )));
                }
            }
            "response.function_call_arguments.done" | "response.custom_tool_call_input.done" => {
                if let Some(whole) = event.arguments.as_deref().or(event.input.as_deref()) {
                    self.item(event)?.arguments = whole.to_owned();
                }
            }
            "response.output_item.done" => {
                if let Some(item) = &event.item {
                    let index = event.output_index.0.unwrap_or(0);
                    let open = self.open.remove(&index).unwrap_or_default();
                    self.done.push(index);
                    self.whole(item, open, sink)?;
                }
            }
            _ => {}
        }
        if self.met.is_some() {
            self.finish(&Response::default(), false, sink)?;
            return Ok(Flow::Done);
        }
        Ok(Flow::More)
    }

    /// Text as it comes.
    fn text(&mut self, text: &str, sink: &mut dyn Sink) {
        let Some(mut tags) = self.tags.take() else { return self.say(text, sink) };
        tags.feed(text, &mut |is_reasoning, piece| self.think_or_say(is_reasoning, piece, sink));
        self.tags = Some(tags);
    }

    fn think_or_say(&mut self, is_reasoning: bool, piece: &str, sink: &mut dyn Sink) {
        if is_reasoning && !piece.is_empty() {
            (self.thinks, self.has_content) = (true, true);
            sink.part(Part::Thinking(Cow::Borrowed(piece)));
        } else if !is_reasoning {
            self.say(piece, sink);
        }
    }

    /// Ends reasoning that was found in the text.
    fn sign(&mut self, sink: &mut dyn Sink) {
        if std::mem::take(&mut self.thinks) {
            let carrier = Carrier {
                dialect: self.context.variant.name.to_owned(),
                model: self.context.model.clone(),
                ..Carrier::default()
            };
            sink.part(Part::Signature(Cow::Owned(carrier.write())));
        }
    }

    /// Text up to a stop string, of which the upstream knows nothing.
    fn say(&mut self, text: &str, sink: &mut dyn Sink) {
        if self.met.is_some() || text.is_empty() {
            return;
        }
        self.sign(sink);
        self.has_content = true;
        match &mut self.stops {
            None => sink.part(Part::Text(Cow::Borrowed(text))),
            Some(stops) => {
                self.met = stops.feed(text, &mut |piece| sink.part(Part::Text(Cow::Borrowed(piece))));
            }
        }
    }

    /// The text of an item has ended: what was held back.
    fn rest(&mut self, sink: &mut dyn Sink) {
        if let Some(mut tags) = self.tags.take() {
            tags.finish(&mut |is_reasoning, piece| self.think_or_say(is_reasoning, piece, sink));
        }
        self.sign(sink);
        let rest = self.stops.as_mut().map(Stops::rest).unwrap_or_default();
        if !rest.is_empty() {
            sink.part(Part::Text(Cow::Owned(rest)));
        }
    }

    /// Ends the answer. What the stream left out is taken from the whole answer at its end.
    fn finish(
        &mut self,
        response: &Response<'_>,
        is_incomplete: bool,
        sink: &mut dyn Sink,
    ) -> Result<(), Fault> {
        self.is_done = true;
        for (index, item) in response.output.iter().enumerate() {
            let index = u64::try_from(index).unwrap_or(u64::MAX);
            if !self.done.contains(&index) && self.met.is_none() {
                let open = self.open.remove(&index).unwrap_or_default();
                self.done.push(index);
                self.whole(item, open, sink)?;
            }
        }
        self.rest(sink);
        let incomplete = response.incomplete_details.as_ref().and_then(|details| details.reason.as_deref());
        let is_incomplete = is_incomplete || response.status.as_deref() == Some("incomplete");
        let stop = match (is_incomplete, incomplete) {
            _ if self.met.is_some() => Stop::StopSequence(self.met.take()),
            (true, Some("content_filter")) => Stop::Refusal(self.refusal.take()),
            (true, _) => Stop::MaxTokens,
            _ if self.refusal.is_some() => Stop::Refusal(self.refusal.take()),
            _ if self.has_calls => Stop::ToolUse,
            _ if !self.has_content => return Err(Fault::protocol("the upstream's answer is empty")),
            _ => Stop::EndTurn,
        };
        let usage = response.usage.as_ref().and_then(|figures| figures.usage()).unwrap_or_else(|| {
            let output = u64::try_from(self.output_bytes).unwrap_or(u64::MAX).saturating_mul(10) / 36 + 1;
            Usage { input: self.context.input_estimate, output, estimated: true, ..Usage::default() }
        });
        sink.part(Part::End { stop, usage: Some(usage) });
        Ok(())
    }

    /// Takes a whole answer.
    pub(super) fn answer(&mut self, body: &str, sink: &mut dyn Sink) -> Result<(), Fault> {
        let unreadable = |cause| Fault::protocol(format!("the upstream's answer can't be read: {cause}"));
        let response: Response<'_> = serde_json::from_str(body).map_err(unreadable)?;
        let is_failed = response.status.as_deref() == Some("failed");
        if is_failed || response.error.is_some_and(|error| error.get() != "null") {
            return Err(error::in_body(body.as_bytes(), self.context.variant));
        }
        if response.status.is_none() && response.output.is_empty() {
            return Err(Fault::protocol("the upstream's answer has no output"));
        }
        self.start(Some(&response), sink);
        self.finish(&response, false, sink)
    }
}

impl Source for Reader {
    fn event(&mut self, event: sse::Event<'_>, sink: &mut dyn Sink) -> Result<Flow, Fault> {
        if self.is_done {
            return Ok(Flow::Done);
        }
        let data = event.data.trim();
        if !data.starts_with('{') {
            return if data.starts_with('[') && data != "[DONE]" {
                Err(error::in_body(data.as_bytes(), self.context.variant))
            } else {
                Ok(Flow::More)
            };
        }
        let mut read: Event<'_> = serde_json::from_str(data).map_err(|cause| {
            Fault::protocol(format!("the upstream sent an event that can't be read: {cause}"))
        })?;
        if read.kind.is_none() {
            read.kind = Some(Cow::Borrowed(if event.name.is_empty() { "error" } else { event.name }));
        }
        self.take(&read, data, sink)
    }

    fn end(&mut self, _sink: &mut dyn Sink) -> Result<(), Fault> {
        if self.is_done {
            return Ok(());
        }
        let mut fault = Fault::protocol("the upstream closed the stream early");
        fault.ambiguous = true;
        Err(fault)
    }
}

#[cfg(test)]
mod tests;
