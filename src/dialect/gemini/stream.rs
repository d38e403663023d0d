//! generateContent chunks, read into parts. Whole answers go the same way: as one chunk.
//!
//! Calls come whole. The signature that a call must carry when it comes back goes before it, in a carrier of
//! ours; that of a text is left out, since it is optional, and a block after the text would end the answer with
//! reasoning. An answer ends well only with a finish reason.
//!
//! Sources: Gemini API reference, "Generating content"; Google's guide "Thought signatures".

use std::borrow::Cow;

use super::error;
use super::types::{Candidate, Chunk, FunctionCall, PartJson, WebPage};
use crate::dialect::carrier::Carrier;
use crate::dialect::citation::{Citation, Citations};
use crate::dialect::json::Raw;
use crate::dialect::openai_chat::Context;
use crate::dialect::openai_chat::arguments::{Healed, heal};
use crate::dialect::openai_chat::calls::{id_hash, legal_id};
use crate::dialect::part::Flow;
use crate::dialect::{Fault, FaultKind, Part, Sink, Source, Stop, Usage, served, sse};

/// Reads one answer.
#[derive(Debug)]
pub struct Reader {
    context: Context,
    is_started: bool,
    is_done: bool,
    id: String,
    /// A reasoning block was given and lacks its signature.
    thinks: bool,
    has_content: bool,
    /// The last part was text.
    said: bool,
    citations: Citations,
    /// How often the server has run code.
    runs: u64,
    /// The ids of the calls given.
    calls: Vec<String>,
    finish: Option<String>,
    explanation: Option<String>,
    usage: Option<Usage>,
    /// Bytes of output, for the estimate.
    output_bytes: usize,
}

/// More calls than this in one answer are nonsense.
const MAX_CALLS: usize = 1024;

// === impl Reader ===

impl Reader {
    /// A reader at the start of an answer.
    pub fn new(context: Context) -> Reader {
        Reader {
            context,
            is_started: false,
            is_done: false,
            id: String::new(),
            thinks: false,
            has_content: false,
            said: false,
            citations: Citations::default(),
            runs: 0,
            calls: Vec::new(),
            finish: None,
            explanation: None,
            usage: None,
            output_bytes: 0,
        }
    }

    /// Takes the text of one chunk, or of a whole answer.
    pub(super) fn chunk(&mut self, data: &str, sink: &mut dyn Sink) -> Result<(), Fault> {
        let chunk: Chunk<'_> = match serde_json::from_str(data) {
            Ok(chunk) => chunk,
            Err(_) if data.starts_with('[') => {
                return Err(error::in_body(data.as_bytes(), self.context.variant));
            }
            Err(cause) => {
                return Err(Fault::protocol(format!(
                    "the upstream sent a chunk that can't be read: {cause}"
                )));
            }
        };
        if let Some(usage) = chunk.usage_metadata.as_ref().and_then(|figures| figures.usage()) {
            self.usage = Some(usage);
        }
        if chunk.error.is_some_and(|error| error.get() != "null") {
            // After a finish reason it is of no interest: the answer is whole.
            return match self.finish {
                Some(_) => Ok(()),
                None => Err(error::in_body(data.as_bytes(), self.context.variant)),
            };
        }
        let blocked = chunk.prompt_feedback.as_ref().and_then(|feedback| feedback.block_reason.as_deref());
        let candidate = chunk.candidates.iter().find(|candidate| candidate.index.0.unwrap_or(0) == 0);
        if candidate.is_some() || blocked.is_some() {
            self.start(&chunk, sink);
        }
        if let Some(reason) = blocked.filter(|_| candidate.is_none()) {
            self.finish = Some("BLOCKED".to_owned());
            self.explanation = Some(format!("Google blocked the prompt: {reason}"));
        }
        match candidate {
            Some(candidate) => self.candidate(candidate, sink),
            None => Ok(()),
        }
    }

    fn start(&mut self, chunk: &Chunk<'_>, sink: &mut dyn Sink) {
        if std::mem::replace(&mut self.is_started, true) {
            return;
        }
        self.id = chunk.response_id.as_deref().unwrap_or_default().to_owned();
        let usage =
            Usage { input: self.context.input_estimate, output: 1, estimated: true, ..Usage::default() };
        sink.part(Part::Start {
            id: Cow::Borrowed(&self.id),
            model: Cow::Borrowed(chunk.model_version.as_deref().unwrap_or_default()),
            usage: Some(usage),
        });
    }

    fn candidate(&mut self, candidate: &Candidate<'_>, sink: &mut dyn Sink) -> Result<(), Fault> {
        for part in candidate.content.iter().flat_map(|content| &content.parts) {
            self.part(part, sink)?;
        }
        let grounding = candidate.grounding_metadata.iter().flat_map(|found| &found.grounding_chunks);
        let grounding = grounding.filter_map(|chunk| chunk.web.as_ref().or(chunk.retrieved_context.as_ref()));
        let works = candidate.citation_metadata.iter().flat_map(|found| &found.citation_sources);
        for WebPage { uri, title } in grounding.chain(works) {
            if let Some(uri) = uri.as_deref().filter(|uri| uri.starts_with("http")) {
                self.citations.add(Citation::page(uri, title.as_deref(), "", None));
            }
        }
        if let Some(reason) = candidate.finish_reason.as_deref().filter(|reason| !reason.is_empty()) {
            self.finish.get_or_insert_with(|| reason.to_owned());
            self.explanation = candidate.finish_message.as_deref().map(str::to_owned);
        }
        Ok(())
    }

    fn part(&mut self, part: &PartJson<'_>, sink: &mut dyn Sink) -> Result<(), Fault> {
        let signature = part.thought_signature.as_deref().filter(|signature| !signature.is_empty());
        if let Some(call) = &part.function_call {
            return self.call(call, signature, sink);
        }
        if let Some(code) = &part.executable_code {
            self.runs += 1;
            self.serve(sink);
            served::code(&self.run(), code.code.as_deref().unwrap_or_default(), sink);
        }
        if let Some(result) = &part.code_execution_result {
            self.serve(sink);
            let output = result.output.as_deref().unwrap_or_default();
            let is_well = result.outcome.as_deref().is_none_or(|outcome| outcome == "OUTCOME_OK");
            let (stdout, stderr) = if is_well { (output, "") } else { ("", output) };
            served::code_result(&self.run(), stdout, stderr, sink);
        }
        let Some(text) = part.text.as_deref().filter(|text| !text.is_empty()) else { return Ok(()) };
        self.output_bytes += text.len();
        self.has_content = true;
        if part.thought {
            (self.thinks, self.said) = (true, false);
            sink.part(Part::Thinking(Cow::Borrowed(text)));
        } else {
            self.sign(Vec::new(), sink);
            self.said = true;
            sink.part(Part::Text(Cow::Borrowed(text)));
        }
        Ok(())
    }

    /// Something comes that the server did with a tool of its own.
    fn serve(&mut self, sink: &mut dyn Sink) {
        self.sign(Vec::new(), sink);
        (self.has_content, self.said) = (true, false);
    }

    /// What tells a run of code from the others.
    fn run(&self) -> String {
        format!("{} {}", self.id, self.runs)
    }

    fn call(
        &mut self,
        call: &FunctionCall<'_>,
        signature: Option<&str>,
        sink: &mut dyn Sink,
    ) -> Result<(), Fault> {
        let Some(sent) = call.name.as_deref().filter(|name| !name.is_empty()) else {
            return Err(Fault::protocol("the upstream's answer has a tool call without a name"));
        };
        if self.context.one_call && !self.calls.is_empty() {
            return Ok(());
        }
        if self.calls.len() >= MAX_CALLS {
            return Err(Fault::protocol(format!(
                "the upstream's answer has more than {MAX_CALLS} tool calls"
            )));
        }
        let raw = call.args.map_or("{}", Raw::get);
        let arguments = match heal(raw) {
            Healed::Object(text) => text,
            Healed::Wrapped(text) => Cow::Owned(text),
        };
        let nth = self.calls.len().to_string();
        let given = call.id.as_deref().unwrap_or_default().to_owned();
        let used = &self.context.used_ids;
        let taken = |id: &str| used.contains(&id_hash(id)) || self.calls.iter().any(|known| known == id);
        let id = legal_id(given, &[&self.id, &nth, sent, raw], used.len(), taken);
        self.sign(signature.map(|signature| (id.clone(), signature.to_owned())).into_iter().collect(), sink);
        (self.has_content, self.said) = (true, false);
        self.output_bytes += sent.len() + raw.len();
        sink.part(Part::Call {
            id: Cow::Borrowed(&id),
            name: Cow::Borrowed(self.context.names.given(sent)),
            arguments,
        });
        self.calls.push(id);
        Ok(())
    }

    /// Ends the reasoning block with our carrier, if there is a block or something to carry.
    fn sign(&mut self, signatures: Vec<(String, String)>, sink: &mut dyn Sink) {
        if !std::mem::take(&mut self.thinks) && signatures.is_empty() {
            return;
        }
        let carrier = Carrier {
            dialect: self.context.variant.name.to_owned(),
            model: self.context.model.clone(),
            signatures,
            ..Carrier::default()
        };
        sink.part(Part::Signature(Cow::Owned(carrier.write())));
    }

    /// Ends the answer.
    pub(super) fn finish(&mut self, sink: &mut dyn Sink) -> Result<(), Fault> {
        let Some(reason) = self.finish.take() else {
            let mut fault = Fault::protocol("the upstream closed the stream early");
            fault.ambiguous = true;
            return Err(fault);
        };
        self.is_done = true;
        let stop = match reason.as_str() {
            "MAX_TOKENS" => Stop::MaxTokens,
            image if image.starts_with("IMAGE_") => Stop::Refusal(self.explanation.take()),
            "SAFETY" | "RECITATION" | "LANGUAGE" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII"
            | "MODEL_ARMOR" | "BLOCKED" => Stop::Refusal(self.explanation.take()),
            _ if !self.has_content => {
                let message = match (reason.as_str(), self.explanation.take()) {
                    ("STOP", _) => "the upstream's answer is empty".to_owned(),
                    (reason, Some(why)) => format!("the upstream ended without an answer: {reason}: {why}"),
                    (reason, None) => format!("the upstream ended without an answer: {reason}"),
                };
                let kind = if reason == "STOP" { FaultKind::Protocol } else { FaultKind::ServerError };
                return Err(Fault::new(kind, message));
            }
            _ if !self.calls.is_empty() => Stop::ToolUse,
            _ => Stop::EndTurn,
        };
        self.sign(Vec::new(), sink);
        if self.said && !self.citations.is_empty() {
            sink.part(Part::Citations(self.citations.take()));
        }
        let output = u64::try_from(self.output_bytes).unwrap_or(u64::MAX).saturating_mul(10) / 36 + 1;
        let estimated =
            Usage { input: self.context.input_estimate, output, estimated: true, ..Usage::default() };
        sink.part(Part::End { stop, usage: Some(self.usage.unwrap_or(estimated)) });
        Ok(())
    }

    pub(super) fn has_started(&self) -> bool {
        self.is_started
    }
}

impl Source for Reader {
    fn event(&mut self, event: sse::Event<'_>, sink: &mut dyn Sink) -> Result<Flow, Fault> {
        let data = event.data.trim();
        if self.is_done {
            return Ok(Flow::Done);
        }
        // Servers that resemble Google's end their streams like OpenAI's.
        if data == "[DONE]" {
            self.finish(sink)?;
            return Ok(Flow::Done);
        }
        if !data.starts_with(['{', '[']) {
            return Ok(Flow::More);
        }
        self.chunk(data, sink)?;
        Ok(Flow::More)
    }

    fn end(&mut self, sink: &mut dyn Sink) -> Result<(), Fault> {
        if self.is_done { Ok(()) } else { self.finish(sink) }
    }
}
