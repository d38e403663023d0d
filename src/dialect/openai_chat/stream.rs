//! Chat Completions chunks, read into parts. Whole answers go the same way: as one chunk.
//!
//! Text and reasoning go on as they come; tool calls are held until the answer ends, since their fragments may
//! be interleaved, their names late, and their arguments broken. An answer ends well only if the upstream gave a
//! finish reason or `[DONE]`.
//!
//! Source: OpenAI API reference, "Chat", "Streaming".

mod ending;
mod usual;

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::calls::{Calls, Taken};
use super::reasoning::{Details, ThinkTags};
use super::types::{Choice, Chunk, Delta, Piece};
use crate::dialect::carrier::Carrier;
use crate::dialect::citation::Citations;
use crate::dialect::json::Raw;
use crate::dialect::names::NameMap;
use crate::dialect::part::Flow;
use crate::dialect::stops::Stops;
use crate::dialect::table::{Replay, Variant};
use crate::dialect::{Fault, Part, Sink, Source, Usage, sse};
use usual::Usual;

/// What of the request a reader of the answer must know.
#[derive(Clone, Debug)]
pub struct Context {
    /// The upstream's row.
    pub variant: &'static Variant,
    /// The model that was asked, as the upstream calls it.
    pub model: String,
    /// The names that were changed.
    pub names: NameMap,
    /// The ids of calls that the conversation has used (hashes).
    pub used_ids: Arc<[u64]>,
    /// Whether the caller takes one call at most.
    pub one_call: bool,
    /// Input tokens, estimated, for upstreams that give no figures.
    pub input_estimate: u64,
    /// Strings that end the answer and that the upstream was not told of.
    pub stops: Arc<[String]>,
}

/// Reads one answer.
#[derive(Debug)]
pub struct Reader {
    context: Context,
    is_started: bool,
    is_done: bool,
    id: String,
    usual: Usual,
    calls: Calls,
    details: Details,
    tags: Option<ThinkTags>,
    /// White space before the first text: it opens no block.
    blanks: String,
    has_text: bool,
    /// A reasoning block is open, or was given and lacks its signature.
    thinks: bool,
    has_thought: bool,
    /// The reasoning given since the last signature, where a carrier may refer to it.
    shown: String,
    /// Reasoning that came after the text began.
    late: String,
    refusal: Option<String>,
    citations: Citations,
    finish: Option<String>,
    stop_string: Option<String>,
    stops: Option<Stops>,
    /// A stop string was met that the upstream doesn't know: the answer is over.
    is_stopped: bool,
    usage: Option<Usage>,
    /// Bytes of output, for the estimate.
    output_bytes: usize,
}

/// Most bytes of reasoning that are held back.
const MAX_HELD: usize = 16 << 20;

// === impl Context ===

impl Context {
    /// The context of a request that changed no names.
    pub fn new(variant: &'static Variant, model: &str) -> Context {
        Context {
            variant,
            model: model.to_owned(),
            names: NameMap::default(),
            used_ids: Arc::default(),
            one_call: false,
            input_estimate: 0,
            stops: Arc::default(),
        }
    }
}

// === impl Reader ===

impl Reader {
    /// A reader at the start of an answer.
    pub fn new(context: Context) -> Reader {
        let tags = context.variant.think_tags.then(ThinkTags::default);
        let stops = Stops::new(&context.stops);
        Reader {
            context,
            is_started: false,
            is_done: false,
            id: String::new(),
            usual: Usual::default(),
            calls: Calls::default(),
            details: Details::default(),
            tags,
            blanks: String::new(),
            has_text: false,
            thinks: false,
            has_thought: false,
            shown: String::new(),
            late: String::new(),
            refusal: None,
            citations: Citations::default(),
            finish: None,
            stop_string: None,
            stops,
            is_stopped: false,
            usage: None,
            output_bytes: 0,
        }
    }

    pub(super) fn has_started(&self) -> bool {
        self.is_started
    }

    /// Takes the text of one chunk, or of a whole answer.
    pub(super) fn chunk(&mut self, data: &str, sink: &mut dyn Sink) -> Result<Flow, Fault> {
        if data.starts_with('[') {
            // Google's compatible endpoint sends its errors in a list.
            return self.failed(data, sink);
        }
        let is_within = self.is_started && self.finish.is_none();
        if is_within
            && let Some((kind, words)) = self.usual.words(data)
            && let Some(text) = words.text()
        {
            return self.words(kind, &text, sink);
        }
        let chunk: Chunk<'_> = serde_json::from_str(data).map_err(|cause| {
            Fault::protocol(format!("the upstream sent a chunk that can't be read: {cause}"))
        })?;
        if is_within {
            self.usual.learn(data);
        }
        if let Some(usage) = chunk.usage() {
            self.usage = Some(usage);
        }
        let fails = chunk.error.is_some_and(is_truthy) || chunk.object.as_deref() == Some("error");
        if fails {
            return self.failed(data, sink);
        }
        let is_last = |choice: &Choice<'_>| choice.finish_reason.as_ref().is_some_and(|why| !why.is_empty());
        if self.finish.is_some() || chunk.choices.iter().any(is_last) {
            let sources = chunk.search_results.filter(|list| list.get().len() > 4).or(chunk.citations);
            sources.into_iter().for_each(|list| self.citations.add_sources(list));
        }
        let Some(choice) = chunk.choices.iter().find(|choice| choice.index.0.unwrap_or(0) == 0) else {
            return Ok(Flow::More);
        };
        if choice.error.is_some_and(is_truthy) {
            return self.failed(choice.error.map(Raw::get).unwrap_or_default(), sink);
        }
        self.start(&chunk, sink);
        self.choice(choice, sink)
    }

    fn start(&mut self, chunk: &Chunk<'_>, sink: &mut dyn Sink) {
        if self.is_started {
            return;
        }
        self.is_started = true;
        self.id = chunk.id.as_deref().unwrap_or_default().to_owned();
        let usage =
            Usage { input: self.context.input_estimate, output: 1, estimated: true, ..Usage::default() };
        sink.part(Part::Start {
            id: Cow::Borrowed(&self.id),
            model: Cow::Borrowed(chunk.model.as_deref().unwrap_or_default()),
            usage: Some(usage),
        });
    }

    fn words(&mut self, kind: usual::Kind, text: &str, sink: &mut dyn Sink) -> Result<Flow, Fault> {
        match kind {
            usual::Kind::Thought => self.thought(text, sink)?,
            usual::Kind::Text if text.is_empty() => {}
            usual::Kind::Text => self.content(text, sink)?,
            usual::Kind::Arguments(index) => {
                if self.calls.add_arguments(index, text)? == Taken::Stuck {
                    return self.stuck(sink);
                }
            }
        }
        self.unless_stopped(sink)
    }

    /// More is wanted, unless a stop string was met: then the answer is over.
    fn unless_stopped(&mut self, sink: &mut dyn Sink) -> Result<Flow, Fault> {
        if !self.is_stopped || self.is_done {
            return Ok(Flow::More);
        }
        self.finish(sink)?;
        Ok(Flow::Done)
    }

    fn choice(&mut self, choice: &Choice<'_>, sink: &mut dyn Sink) -> Result<Flow, Fault> {
        let flow = match choice.delta.as_ref().or(choice.message.as_ref()) {
            Some(delta) => self.delta(delta, sink)?,
            None => Flow::More,
        };
        if self.unless_stopped(sink)? == Flow::Done {
            return Ok(Flow::Done);
        }
        if let Some(reason) = choice.finish_reason.as_deref().filter(|reason| !reason.is_empty()) {
            if self.finish.as_deref().is_none_or(|known| known == "stop") {
                self.finish = Some(reason.to_owned());
            }
            if let Some(stop) = choice.stop_reason.as_deref() {
                self.stop_string = Some(stop.to_owned());
            }
        }
        Ok(flow)
    }

    fn delta(&mut self, delta: &Delta<'_>, sink: &mut dyn Sink) -> Result<Flow, Fault> {
        self.reasoning_of(delta, sink)?;
        for piece in &delta.content.0 {
            match piece {
                Piece::Thinking(text) => self.thought(text, sink)?,
                Piece::Text(text) => self.content(text, sink)?,
            }
        }
        let transcript = delta.audio.as_ref().and_then(|audio| audio.transcript.as_deref());
        if let Some(transcript) = transcript.filter(|_| delta.content.0.is_empty()) {
            self.content(transcript, sink)?;
        }
        if let Some(refusal) = delta.refusal.as_deref().filter(|refusal| !refusal.is_empty()) {
            self.refusal.get_or_insert_default().push_str(refusal);
            self.text(refusal, sink);
        }
        if let Some(annotations) = delta.annotations {
            self.citations.add_annotations(annotations, 0);
        }
        for piece in &delta.tool_calls {
            if self.calls.add(piece)? == Taken::Stuck {
                return self.stuck(sink);
            }
        }
        if let Some(function) = &delta.function_call {
            let function =
                super::types::Function { name: function.name.clone(), arguments: function.arguments };
            let piece = super::types::CallPiece { function: Some(function), ..Default::default() };
            if self.calls.add(&piece)? == Taken::Stuck {
                return self.stuck(sink);
            }
        }
        let google = delta.extra_content.as_ref().and_then(|extra| extra.google.as_ref());
        if let Some(signature) = google.and_then(|google| google.thought_signature.as_deref()) {
            self.calls.sign_first(signature);
        }
        Ok(Flow::More)
    }

    /// The reasoning of a delta, from the first field that has any. Servers may say it in two at once.
    fn reasoning_of(&mut self, delta: &Delta<'_>, sink: &mut dyn Sink) -> Result<(), Fault> {
        let keeps = self.context.variant.replay == Replay::Details;
        let mut has_detail = false;
        for detail in &delta.reasoning_details {
            let text = detail.text.as_deref().or(detail.summary.as_deref()).unwrap_or_default();
            has_detail |= !text.is_empty();
            self.thought(text, sink)?;
            if keeps {
                self.details.add(detail);
            }
        }
        if self.details.bytes() > MAX_HELD {
            return Err(Fault::protocol(format!("the upstream's reasoning exceeds {MAX_HELD} bytes")));
        }
        if !has_detail {
            let fields = [&delta.reasoning_content, &delta.reasoning];
            let text = fields.into_iter().flatten().find(|text| !text.is_empty());
            self.thought(text.map(|text| text.as_ref()).unwrap_or_default(), sink)?;
        }
        Ok(())
    }

    fn thought(&mut self, text: &str, sink: &mut dyn Sink) -> Result<(), Fault> {
        if text.is_empty() {
            return Ok(());
        }
        self.output_bytes += text.len();
        self.has_thought = true;
        if self.has_text {
            // One block before the text and one after it; never a block between every two words.
            self.late.push_str(text);
            if self.late.len() > MAX_HELD {
                return Err(Fault::protocol(format!("the upstream's reasoning exceeds {MAX_HELD} bytes")));
            }
            return Ok(());
        }
        self.thinks = true;
        if self.context.variant.replay == Replay::Details && self.shown.len() < MAX_HELD {
            self.shown.push_str(text);
        }
        sink.part(Part::Thinking(Cow::Borrowed(text)));
        Ok(())
    }

    fn content(&mut self, text: &str, sink: &mut dyn Sink) -> Result<(), Fault> {
        let Some(mut tags) = self.tags.take() else {
            self.text(text, sink);
            return Ok(());
        };
        let mut outcome = Ok(());
        tags.feed(text, &mut |is_reasoning, piece| {
            if is_reasoning {
                let taken = self.thought(piece, sink);
                if outcome.is_ok() {
                    outcome = taken;
                }
            } else {
                self.text(piece, sink);
            }
        });
        self.tags = Some(tags);
        outcome
    }

    /// Text as it comes: up to a stop string.
    fn text(&mut self, text: &str, sink: &mut dyn Sink) {
        if self.is_stopped {
            return;
        }
        let Some(mut stops) = self.stops.take() else { return self.say(text, sink) };
        if let Some(met) = stops.feed(text, &mut |piece| self.say(piece, sink)) {
            self.is_stopped = true;
            self.stop_string = Some(met);
        }
        self.stops = Some(stops);
    }

    fn say(&mut self, text: &str, sink: &mut dyn Sink) {
        if text.is_empty() {
            return;
        }
        self.output_bytes += text.len();
        if !self.has_text {
            if text.trim().is_empty() && self.blanks.len() < 4096 {
                self.blanks.push_str(text);
                return;
            }
            self.sign(Vec::new(), sink);
            self.has_text = true;
            let blanks = std::mem::take(&mut self.blanks);
            if !blanks.is_empty() {
                sink.part(Part::Text(Cow::Owned(blanks)));
            }
        }
        sink.part(Part::Text(Cow::Borrowed(text)));
    }

    /// Ends the reasoning block with our carrier, if there is a block or something to carry.
    fn sign(&mut self, signatures: Vec<(String, String)>, sink: &mut dyn Sink) {
        if !self.thinks && self.details.is_empty() && signatures.is_empty() {
            return;
        }
        self.thinks = false;
        let shown = std::mem::take(&mut self.shown);
        let details = (!self.details.is_empty()).then(|| self.details.take_json(&shown));
        let carrier = Carrier {
            dialect: self.context.variant.name.to_owned(),
            model: self.context.model.clone(),
            details: details.and_then(|json| RawValue::from_string(json).ok()),
            signatures,
            item: None,
        };
        sink.part(Part::Signature(Cow::Owned(carrier.write())));
    }
}

impl Source for Reader {
    fn event(&mut self, event: sse::Event<'_>, sink: &mut dyn Sink) -> Result<Flow, Fault> {
        if self.is_done {
            return Ok(Flow::Done);
        }
        let data = event.data.trim();
        if data == "[DONE]" {
            if !self.is_started {
                return Err(Fault::protocol("the upstream's stream holds no answer"));
            }
            self.finish(sink)?;
            return Ok(Flow::Done);
        }
        if event.name == "error" && !data.is_empty() {
            return self.failed(data, sink);
        }
        if !data.starts_with(['{', '[']) {
            return Ok(Flow::More);
        }
        self.chunk(data, sink)
    }

    fn end(&mut self, sink: &mut dyn Sink) -> Result<(), Fault> {
        if self.is_done {
            return Ok(());
        }
        if self.finish.is_none() {
            let mut fault = Fault::protocol("the upstream closed the stream early");
            fault.ambiguous = true;
            return Err(fault);
        }
        self.finish(sink)
    }

    /// The finish reason and the figures are there.
    fn is_whole(&self) -> bool {
        self.finish.is_some() && self.usage.is_some()
    }
}

/// Whether an `error` member says that there is one.
pub(super) fn is_truthy(error: Raw<'_>) -> bool {
    !matches!(error.get(), "null" | "false" | "\"\"" | "{}" | "0")
}

#[cfg(test)]
mod tests;
