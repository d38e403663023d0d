//! Pipes: an upstream's bytes go in, the caller's bytes come out. Values; the relay drives them.

use bytes::Bytes;

use super::caller::Writer;
use super::so_far::{SoFar, Written};
use crate::dialect::sse::{self, Frames};
use crate::dialect::{
    Fault, Part, Sink, Source, Stop, Usage, anthropic, openai_chat, openai_responses, part::Flow,
};

/// Turns an upstream's stream into the caller's.
pub trait Pipe: Send {
    /// Takes a chunk, cut anywhere; adds what it gives to `out`. After a fault or `Done` nothing may be fed.
    fn push(&mut self, chunk: Bytes, out: &mut Vec<Bytes>) -> Result<Flow, Fault>;

    /// The upstream closed the stream: a fault, unless it had ended its answer.
    fn end(&mut self, out: &mut Vec<Bytes>) -> Result<(), Fault>;

    /// Whether real output has begun.
    fn begun(&self) -> bool;

    /// Whether all of the answer is there, though the upstream has not ended it: [`end`](Pipe::end) gives the rest.
    fn is_whole(&self) -> bool {
        false
    }

    /// What is known of the answer so far.
    fn report(&self) -> Report;

    /// Counts what the upstream has said apart from pings.
    fn progress(&self) -> u64;

    /// A sign of life, where it depends on what was written.
    fn ping(&mut self) -> Option<Bytes> {
        None
    }

    /// An error that ends the stream, where it depends on what was written.
    fn fail(&mut self, _fault: &Fault) -> Option<Bytes> {
        None
    }

    /// What the caller has got, for somebody who continues it; `None` if nobody can. Nothing may be asked of the
    /// pipe after that but its report.
    fn so_far(&mut self) -> Option<SoFar> {
        None
    }
}

/// What is known of an answer.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Tokens, as far as the upstream has said.
    pub usage: Option<Usage>,
    /// Why it ended, if it has ended well.
    pub stop: Option<Stop>,
}

/// The same dialect on both sides: whole events go on as the bytes that came.
pub struct PassThrough<W> {
    frames: Frames,
    reader: sse::Reader,
    watch: W,
    progress: u64,
}

/// From the upstream's dialect, by parts, to the caller's.
pub struct Translate {
    reader: sse::Reader,
    source: Box<dyn Source>,
    sink: Noted,
    progress: u64,
}

/// The writer, and what passed through it.
struct Noted {
    writer: Box<dyn Writer>,
    begun: bool,
    report: Report,
    /// What the caller has got, where it may have to be continued.
    written: Option<Written>,
}

/// Stands where a writer was.
struct Nobody;

/// Looks at the events of a stream that is passed on as it is.
pub trait Watch: Send {
    /// Takes the next event: a fault if the answer can't end well any more.
    fn event(&mut self, event: sse::Event<'_>) -> Result<(), Fault>;

    /// The stream has ended: a fault unless it ended well.
    fn end(&self) -> Result<(), Fault>;

    /// Whether output has begun.
    fn has_output(&self) -> bool;

    /// Whether the end of the answer was seen; what follows is of no interest.
    fn ended_well(&self) -> bool;

    /// What is known of the answer so far.
    fn report(&self) -> Report;
}

// === impl PassThrough ===

impl<W: Watch> PassThrough<W> {
    /// A pipe at the start of a stream at which `watch` looks.
    pub fn new(watch: W) -> PassThrough<W> {
        PassThrough { frames: Frames::new(), reader: sse::Reader::new(), watch, progress: 0 }
    }

    fn look(&mut self) -> Result<Flow, Fault> {
        while let Some(event) = self.reader.next()? {
            self.progress += u64::from(event.name != "ping");
            self.watch.event(event)?;
        }
        Ok(if self.watch.ended_well() { Flow::Done } else { Flow::More })
    }
}

impl<W: Watch> Pipe for PassThrough<W> {
    fn push(&mut self, chunk: Bytes, out: &mut Vec<Bytes>) -> Result<Flow, Fault> {
        self.reader.push(&chunk);
        let flow = self.look()?;
        // A cut event must not reach the caller: it would run into the error event that follows it.
        let whole = self.frames.push(chunk, self.reader.held());
        if !whole.is_empty() {
            out.push(whole);
        }
        Ok(flow)
    }

    fn end(&mut self, out: &mut Vec<Bytes>) -> Result<(), Fault> {
        if let Some(event) = self.reader.finish()? {
            self.watch.event(event)?;
        }
        self.watch.end()?;
        let tail = std::mem::take(&mut self.frames).finish();
        if !tail.is_empty() {
            out.push(tail); // the last event lacked its blank line
            out.push(Bytes::from_static(b"\n\n"));
        }
        Ok(())
    }

    fn begun(&self) -> bool {
        self.watch.has_output()
    }

    fn report(&self) -> Report {
        self.watch.report()
    }

    fn progress(&self) -> u64 {
        self.progress
    }
}

// === watches ===

impl Watch for anthropic::Watch {
    fn event(&mut self, event: sse::Event<'_>) -> Result<(), Fault> {
        anthropic::Watch::event(self, event).map(|_| ())
    }

    fn end(&self) -> Result<(), Fault> {
        anthropic::Watch::end(self)
    }

    fn has_output(&self) -> bool {
        anthropic::Watch::has_output(self)
    }

    fn ended_well(&self) -> bool {
        anthropic::Watch::ended_well(self)
    }

    fn report(&self) -> Report {
        Report { usage: self.usage(), stop: self.stop().cloned() }
    }
}

impl Watch for openai_chat::watch::Watch {
    fn event(&mut self, event: sse::Event<'_>) -> Result<(), Fault> {
        openai_chat::watch::Watch::event(self, event)
    }

    fn end(&self) -> Result<(), Fault> {
        openai_chat::watch::Watch::end(self)
    }

    fn has_output(&self) -> bool {
        openai_chat::watch::Watch::has_output(self)
    }

    fn ended_well(&self) -> bool {
        openai_chat::watch::Watch::ended_well(self)
    }

    fn report(&self) -> Report {
        Report { usage: self.usage(), stop: self.stop() }
    }
}

impl Watch for openai_responses::watch::Watch {
    fn event(&mut self, event: sse::Event<'_>) -> Result<(), Fault> {
        openai_responses::watch::Watch::event(self, event)
    }

    fn end(&self) -> Result<(), Fault> {
        openai_responses::watch::Watch::end(self)
    }

    fn has_output(&self) -> bool {
        openai_responses::watch::Watch::has_output(self)
    }

    fn ended_well(&self) -> bool {
        openai_responses::watch::Watch::ended_well(self)
    }

    fn report(&self) -> Report {
        Report { usage: self.usage(), stop: self.stop() }
    }
}

// === impl Translate ===

impl Translate {
    /// A pipe that reads with `source` and writes with `writer`.
    pub fn new(source: Box<dyn Source>, writer: Box<dyn Writer>) -> Translate {
        let sink = Noted { writer, begun: false, report: Report::default(), written: None };
        Translate { reader: sse::Reader::new(), source, sink, progress: 0 }
    }

    /// The same, but what is written can be continued by others. `written` is what the caller has already.
    pub fn noting(mut self, written: Written) -> Translate {
        self.sink.written = Some(written);
        self
    }

    /// Reads the events that are whole.
    fn read(&mut self) -> Result<Flow, Fault> {
        while let Some(event) = self.reader.next()? {
            self.progress += 1; // comments are no events
            if self.source.event(event, &mut self.sink)? == Flow::Done {
                return Ok(Flow::Done);
            }
        }
        Ok(Flow::More)
    }

    fn take(&mut self, out: &mut Vec<Bytes>) {
        let bytes = self.sink.writer.take();
        if !bytes.is_empty() {
            out.push(bytes);
        }
    }
}

impl Pipe for Translate {
    fn push(&mut self, chunk: Bytes, out: &mut Vec<Bytes>) -> Result<Flow, Fault> {
        self.reader.push(&chunk);
        let result = self.read();
        self.take(out); // what came before a fault was real
        result
    }

    fn end(&mut self, out: &mut Vec<Bytes>) -> Result<(), Fault> {
        if let Some(event) = self.reader.finish()?
            && self.source.event(event, &mut self.sink)? == Flow::Done
        {
            self.take(out);
            return Ok(());
        }
        let result = self.source.end(&mut self.sink);
        self.take(out);
        result
    }

    fn begun(&self) -> bool {
        self.sink.begun
    }

    fn is_whole(&self) -> bool {
        self.source.is_whole()
    }

    fn report(&self) -> Report {
        self.sink.report.clone()
    }

    fn progress(&self) -> u64 {
        self.progress
    }

    fn ping(&mut self) -> Option<Bytes> {
        self.sink.writer.ping()
    }

    fn fail(&mut self, fault: &Fault) -> Option<Bytes> {
        self.sink.writer.fail(fault)
    }

    fn so_far(&mut self) -> Option<SoFar> {
        let (text, own) = self.sink.written.as_mut()?.take()?;
        let writer = std::mem::replace(&mut self.sink.writer, Box::new(Nobody));
        Some(SoFar::new(text, own, &self.sink.report, writer))
    }
}

impl Sink for Nobody {
    fn part(&mut self, _part: Part<'_>) {}
}

impl Writer for Nobody {
    fn take(&mut self) -> Bytes {
        Bytes::new()
    }
}

// === impl Noted ===

impl Sink for Noted {
    fn part(&mut self, part: Part<'_>) {
        match &part {
            Part::Start { usage, .. } => self.report.usage = *usage,
            Part::End { stop, usage } => {
                self.report = Report { usage: usage.or(self.report.usage), stop: Some(stop.clone()) };
                self.begun = true;
            }
            _ => self.begun = true,
        }
        if let Some(written) = &mut self.written {
            written.part(&part);
        }
        self.writer.part(part);
    }
}
