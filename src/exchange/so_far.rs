//! What a caller has got of an answer that breaks, so that another upstream can write the rest of it.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde::Deserialize;

use super::caller::{self, Writer};
use super::pipe::{PassThrough, Pipe, Report};
use super::request::Request;
use crate::dialect::anthropic::{self, StreamWriter};
use crate::dialect::part::Flow;
use crate::dialect::{Fault, Part, Sink, Usage, sse, tokens};

/// Text that comes again is looked for in so much of the continuation, in bytes.
const OVERLAP: usize = 160;

/// A repetition shorter than this may be chance.
const LEAST_OVERLAP: usize = 12;

/// What a caller has got of an answer.
pub struct SoFar {
    /// All its text. Not empty.
    pub text: String,
    /// What it cost, the output as far as it came.
    pub usage: Usage,
    /// Writes the rest.
    writer: Arc<Mutex<Box<dyn Writer>>>,
}

/// The text of an answer as it goes out, and whether there is anything else in it.
#[derive(Debug, Default)]
pub struct Written {
    text: String,
    /// Where this attempt's part of it begins.
    own: usize,
    /// Something that nobody else can continue: a call, a search, an end.
    beyond: bool,
}

/// Writes the continuation of an answer behind what there is of it.
struct Onward {
    writer: Arc<Mutex<Box<dyn Writer>>>,
    /// The end of what there is.
    before: String,
    usage: Usage,
    /// The beginning of the continuation, until it is known how much of it is repetition.
    held: String,
    joined: bool,
    /// Bytes of text, to estimate its tokens where the upstream does not count them.
    bytes: u64,
}

/// An Anthropic stream that is passed on as it is, and looked at as the caller sees it.
pub struct Traced {
    inner: PassThrough<anthropic::Watch>,
    events: sse::Reader,
    written: Written,
    next_index: u64,
    text_is_open: bool,
    model: String,
    estimate: u64,
}

// === impl SoFar ===

impl SoFar {
    /// Of an answer of which the caller has got `text`, from byte `own` on by the attempt that broke.
    pub fn new(text: String, own: usize, report: &Report, writer: Box<dyn Writer>) -> SoFar {
        let known = report.usage.unwrap_or(Usage { estimated: true, ..Usage::default() });
        let came = tokens::of_text(text.get(own..).unwrap_or_default());
        let usage = Usage { output: known.output.max(came), ..known };
        SoFar { text, usage, writer: Arc::new(Mutex::new(writer)) }
    }

    /// A writer for the continuation: it begins no second answer, leaves out what comes again, and adds up what
    /// both cost.
    pub fn onward(&self) -> Box<dyn Writer> {
        let start = self.text.ceil_char_boundary(self.text.len().saturating_sub(OVERLAP));
        Box::new(Onward {
            writer: Arc::clone(&self.writer),
            before: self.text[start..].to_owned(),
            usage: self.usage,
            held: String::new(),
            joined: false,
            bytes: 0,
        })
    }

    /// The error that ends the answer after all.
    pub fn fail(&self, request: &Request, fault: &Fault) -> Bytes {
        let mut writer = lock(&self.writer);
        writer.fail(fault).unwrap_or_else(|| caller::error_event(request.dialect, fault, &request.id.0))
    }
}

// === impl Written ===

impl Written {
    /// An answer of which this is there already.
    pub fn after(so_far: &SoFar) -> Written {
        Written { text: so_far.text.clone(), own: so_far.text.len(), beyond: false }
    }

    /// Notes a part that goes to the caller.
    pub fn part(&mut self, part: &Part<'_>) {
        match part {
            Part::Text(text) => self.text.push_str(text),
            Part::Start { .. } | Part::Thinking(_) | Part::Signature(_) | Part::RedactedThinking(_) => {}
            Part::Citations(_) | Part::Call { .. } | Part::Block(_) | Part::End { .. } => self.beyond = true,
        }
    }

    /// The text, if it can be continued, and where this attempt's part of it begins.
    pub fn take(&mut self) -> Option<(String, usize)> {
        let can = !self.beyond && !self.text.trim().is_empty();
        can.then(|| (std::mem::take(&mut self.text), self.own))
    }
}

// === impl Onward ===

impl Onward {
    /// How the continuation meets what there is, or `None` while that can't be told.
    fn join(&mut self, last: bool) {
        if self.joined || (!last && self.held.len() < OVERLAP) {
            return;
        }
        self.joined = true;
        let held = std::mem::take(&mut self.held);
        let rest = &held[repeated(&self.before, &held)..];
        if !rest.is_empty() {
            lock(&self.writer).part(Part::Text(rest.into()));
        }
    }
}

/// How much of the continuation's beginning says again what stands before it.
fn repeated(before: &str, continuation: &str) -> usize {
    let ends = continuation.char_indices().map(|(at, c)| at + c.len_utf8()).rev();
    let repeated = ends
        .take_while(|end| *end >= LEAST_OVERLAP)
        .find(|end| before.ends_with(&continuation[..*end]))
        .unwrap_or(0);
    // White space at the seam comes once.
    match repeated == 0 && before.ends_with(char::is_whitespace) {
        true => continuation.len() - continuation.trim_start().len(),
        false => repeated,
    }
}

impl Sink for Onward {
    fn part(&mut self, part: Part<'_>) {
        match part {
            Part::Start { .. } => {}
            // What another model thought has no place in the middle of a text, and its signature is foreign.
            Part::Thinking(_) | Part::Signature(_) | Part::RedactedThinking(_) => {}
            Part::Text(text) => {
                self.bytes += text.len() as u64;
                if self.joined {
                    lock(&self.writer).part(Part::Text(text));
                } else {
                    self.held.push_str(&text);
                    self.join(false);
                }
            }
            Part::Citations(_) | Part::Call { .. } | Part::Block(_) => {
                self.join(true);
                lock(&self.writer).part(part);
            }
            Part::End { stop, usage } => {
                self.join(true);
                let uncounted = Usage { output: self.bytes * 5 / 18, estimated: true, ..Usage::default() };
                let usage = self.usage.plus(usage.unwrap_or(uncounted));
                lock(&self.writer).part(Part::End { stop, usage: Some(usage) });
            }
        }
    }
}

impl Writer for Onward {
    fn take(&mut self) -> Bytes {
        lock(&self.writer).take()
    }

    fn ping(&mut self) -> Option<Bytes> {
        lock(&self.writer).ping()
    }

    fn fail(&mut self, fault: &Fault) -> Option<Bytes> {
        lock(&self.writer).fail(fault)
    }
}

// === impl Traced ===

/// The fields of an event that say which block is where.
#[derive(Deserialize)]
struct BlockEvent<'a> {
    index: u64,
    #[serde(borrow)]
    content_block: Option<Typed<'a>>,
    #[serde(borrow)]
    delta: Option<Delta<'a>>,
}

#[derive(Deserialize)]
struct Typed<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow)]
    text: Option<std::borrow::Cow<'a, str>>,
}

impl Traced {
    /// A pipe at the start of a stream for this request.
    pub fn new(request: &Request) -> Traced {
        Traced {
            inner: PassThrough::new(anthropic::Watch::new()),
            events: sse::Reader::new(),
            written: Written::default(),
            next_index: 0,
            text_is_open: false,
            model: request.facts.head.model.clone(),
            estimate: request.facts.head.estimated_tokens,
        }
    }

    /// Looks at what the caller gets. What can't be read can't be continued, and does no other harm.
    fn trace(&mut self, out: &[Bytes]) {
        for piece in out {
            self.events.push(piece);
            loop {
                let event = match self.events.next() {
                    Ok(Some(event)) => event,
                    Ok(None) => break,
                    Err(_) => {
                        self.written.beyond = true;
                        return;
                    }
                };
                match event.name {
                    "message_delta" | "message_stop" | "error" => self.written.beyond = true,
                    "content_block_start" | "content_block_delta" | "content_block_stop" => {
                        let Ok(block) = serde_json::from_str::<BlockEvent<'_>>(event.data) else {
                            self.written.beyond = true;
                            return;
                        };
                        self.next_index = self.next_index.max(block.index + 1);
                        if let Some(started) = block.content_block {
                            self.text_is_open = started.kind == "text";
                            let reasoning = matches!(started.kind, "thinking" | "redacted_thinking");
                            self.written.beyond |= !self.text_is_open && !reasoning;
                        } else if let Some(delta) = block.delta {
                            self.written.text.push_str(&delta.text.unwrap_or_default());
                        } else {
                            self.text_is_open = false;
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}

impl Pipe for Traced {
    fn push(&mut self, chunk: Bytes, out: &mut Vec<Bytes>) -> Result<Flow, Fault> {
        let before = out.len();
        let pushed = self.inner.push(chunk, out);
        self.trace(out.get(before..).unwrap_or_default());
        pushed
    }

    fn end(&mut self, out: &mut Vec<Bytes>) -> Result<(), Fault> {
        self.inner.end(out)
    }

    fn begun(&self) -> bool {
        self.inner.begun()
    }

    fn report(&self) -> Report {
        self.inner.report()
    }

    fn progress(&self) -> u64 {
        self.inner.progress()
    }

    fn so_far(&mut self) -> Option<SoFar> {
        let (text, own) = self.written.take()?;
        let writer = StreamWriter::resumed(&self.model, self.estimate, self.next_index, self.text_is_open);
        Some(SoFar::new(text, own, &self.inner.report(), Box::new(writer)))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
