//! Server-sent events, read from bytes that may be cut anywhere.
//!
//! Source: WHATWG HTML, "Server-sent events", 9.2.6 (interpreting an event stream). Two deviations: an event
//! that still lacks its blank line when the stream ends is given all the same ([`Reader::finish`]), since
//! servers close without it; and bytes that are no UTF-8 are a fault, not replacement characters.

mod frames;

pub use frames::Frames;

use std::cell::Cell;
use std::ops::Range;

use bytes::Bytes;

use super::Fault;

/// One event. Both fields borrow from the reader's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The event's name; empty if it has none.
    pub name: &'a str,
    /// The data lines, joined with line feeds.
    pub data: &'a str,
}

/// Splits a stream of bytes into events: push bytes, then take events until there is none.
///
/// Memory stays within [`MAX_EVENT`] and the pushed chunk, as long as the events are taken after each push.
#[derive(Debug, Default)]
pub struct Reader {
    /// Bytes not yet given out. Before `start`: done with.
    buffer: Vec<u8>,
    /// Where the event in progress begins.
    start: usize,
    /// Where the line in progress begins.
    line: usize,
    /// Up to where the line in progress was searched for its end.
    searched: usize,
    /// The last line ended with CR at the end of the buffer: an LF that follows belongs to it.
    after_cr: bool,
    /// The byte order mark was looked for.
    past_bom: bool,
    /// The value of the last `event` line.
    name: Option<Range<usize>>,
    /// The data lines so far.
    data: Data,
    /// More than one data line, joined.
    joined: Vec<u8>,
    /// Why the stream can't be read any further.
    broken: Cell<Option<&'static str>>,
}

/// Most bytes of one event.
pub const MAX_EVENT: usize = 32 << 20;

/// The data lines of the event in progress. One line (the rule) stays where it is.
#[derive(Clone, Debug, Default)]
enum Data {
    #[default]
    None,
    One(Range<usize>),
    Joined,
}

/// What a dispatched event consists of.
struct Whole {
    name: Option<Range<usize>>,
    data: Data,
}

const TOO_LARGE: &str = "the stream holds an event that is too large";
const NOT_UTF8: &str = "the stream holds an event that is not valid UTF-8";
const BOM: &[u8] = b"\xEF\xBB\xBF";

// === impl Reader ===

impl Reader {
    /// A reader at the start of a stream.
    pub fn new() -> Reader {
        Reader::default()
    }

    /// Takes the next bytes, cut anywhere.
    pub fn push(&mut self, bytes: &Bytes) {
        if self.broken.get().is_some() {
            return;
        }
        self.compact();
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole event, if there is one. A fault if an event grows past [`MAX_EVENT`] or is no UTF-8;
    /// the same fault from then on.
    #[allow(clippy::should_implement_trait)] // it lends from the reader, which an iterator can't
    pub fn next(&mut self) -> Result<Option<Event<'_>>, Fault> {
        let whole = self.advance()?;
        self.lend(whole)
    }

    /// The stream has ended: an event that still lacks its blank line, if there is one. Take all events with
    /// [`Reader::next`] first.
    pub fn finish(&mut self) -> Result<Option<Event<'_>>, Fault> {
        self.past_bom = true;
        let mut whole = self.advance()?;
        if whole.is_none() {
            if self.line < self.buffer.len() {
                let line = self.line..self.buffer.len();
                self.line = line.end;
                self.searched = line.end;
                self.field(line);
            }
            whole = self.dispatch();
        }
        self.lend(whole)
    }

    /// How many of the last bytes belong to an event that is not yet whole.
    pub fn held(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// Drops what was given out, once that is worth a move.
    fn compact(&mut self) {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            // One huge event must not hold its memory for the rest of the stream.
            if self.buffer.capacity() > (1 << 20) {
                self.buffer = Vec::new();
            }
        } else if self.start > self.buffer.len() / 2 {
            self.buffer.drain(..self.start);
        } else {
            return;
        }
        let gone = self.start;
        self.start = 0;
        self.line -= gone;
        self.searched -= gone;
        let shift = |range: &mut Range<usize>| *range = range.start - gone..range.end - gone;
        if let Some(name) = &mut self.name {
            shift(name);
        }
        if let Data::One(line) = &mut self.data {
            shift(line);
        }
    }

    /// Reads lines until an event is whole or the bytes run out.
    fn advance(&mut self) -> Result<Option<Whole>, Fault> {
        if let Some(why) = self.broken.get() {
            return Err(Fault::protocol(why));
        }
        if !self.past_bom {
            let head = self.buffer.get(..BOM.len().min(self.buffer.len())).unwrap_or_default();
            if head.len() < BOM.len() && BOM.starts_with(head) {
                return Ok(None);
            }
            if head == BOM {
                (self.line, self.searched) = (BOM.len(), BOM.len());
            }
            self.past_bom = true;
        }
        loop {
            if self.after_cr && self.line < self.buffer.len() {
                self.after_cr = false;
                if self.buffer.get(self.line) == Some(&b'\n') {
                    self.line += 1;
                    self.searched = self.line;
                    self.forget_if_empty();
                }
            }
            let rest = self.buffer.get(self.searched..).unwrap_or_default();
            let end_of_line = match rest.first() {
                Some(b'\n' | b'\r') => Some(0), // the blank line of each event
                _ => memchr::memchr2(b'\n', b'\r', rest),
            };
            let Some(offset) = end_of_line else {
                self.searched = self.buffer.len();
                if self.buffer.len() - self.start > MAX_EVENT {
                    return Err(self.fail(TOO_LARGE));
                }
                return Ok(None);
            };
            let end = self.searched + offset;
            self.after_cr = self.buffer.get(end) == Some(&b'\r');
            let line = self.line..end;
            self.line = end + 1;
            self.searched = self.line;
            if self.line - self.start > MAX_EVENT {
                return Err(self.fail(TOO_LARGE));
            }
            if !line.is_empty() {
                self.field(line);
                self.forget_if_empty();
            } else if let Some(whole) = self.dispatch() {
                return Ok(Some(whole));
            }
        }
    }

    /// Nothing of the event is there yet: what was read (comments, blanks) need not be kept.
    fn forget_if_empty(&mut self) {
        if self.name.is_none() && matches!(self.data, Data::None) {
            self.start = self.line;
        }
    }

    /// Takes one line that is not empty.
    fn field(&mut self, line: Range<usize>) {
        let bytes = self.buffer.get(line.clone()).unwrap_or_default();
        if let Some(from) = value_of(bytes, b"data") {
            let value = line.start + from..line.end;
            match std::mem::take(&mut self.data) {
                Data::None => self.data = Data::One(value),
                Data::One(first) => {
                    self.joined.clear();
                    self.joined.extend_from_slice(self.buffer.get(first).unwrap_or_default());
                    self.join(value);
                }
                Data::Joined => self.join(value),
            }
        } else if let Some(from) = value_of(bytes, b"event") {
            self.name = Some(line.start + from..line.end);
        }
        // Else a comment, `id`, `retry`, or a field that nobody knows.
    }

    fn join(&mut self, value: Range<usize>) {
        self.joined.push(b'\n');
        self.joined.extend_from_slice(self.buffer.get(value).unwrap_or_default());
        self.data = Data::Joined;
    }

    /// The blank line came. An event without data is none.
    fn dispatch(&mut self) -> Option<Whole> {
        self.start = self.line;
        let name = self.name.take();
        match std::mem::take(&mut self.data) {
            Data::None => None,
            data => Some(Whole { name, data }),
        }
    }

    fn fail(&mut self, why: &'static str) -> Fault {
        self.broken.set(Some(why));
        self.buffer = Vec::new();
        self.joined = Vec::new();
        Fault::protocol(why)
    }

    fn lend(&self, whole: Option<Whole>) -> Result<Option<Event<'_>>, Fault> {
        let Some(Whole { name, data }) = whole else { return Ok(None) };
        let name = name.unwrap_or_default();
        let (name, data) = self.slices(&name, &data);
        match (std::str::from_utf8(name), std::str::from_utf8(data)) {
            (Ok(name), Ok(data)) => Ok(Some(Event { name, data })),
            _ => {
                self.broken.set(Some(NOT_UTF8));
                Err(Fault::protocol(NOT_UTF8))
            }
        }
    }

    fn slices(&self, name: &Range<usize>, data: &Data) -> (&[u8], &[u8]) {
        let name = self.buffer.get(name.clone()).unwrap_or_default();
        let data = match data {
            Data::None => &[],
            Data::One(line) => self.buffer.get(line.clone()).unwrap_or_default(),
            Data::Joined => self.joined.as_slice(),
        };
        (name, data)
    }
}

/// Where a line's value begins, if it is the field of this name.
fn value_of(line: &[u8], name: &[u8]) -> Option<usize> {
    match line.strip_prefix(name)? {
        [b':', b' ', ..] => Some(name.len() + 2),
        [b':', ..] => Some(name.len() + 1),
        [] => Some(name.len()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
