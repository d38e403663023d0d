//! Server-sent events, read from bytes that may be cut anywhere.
//!
//! Source: WHATWG HTML, "Server-sent events", 9.2.6 (interpreting an event stream).

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
#[derive(Debug, Default)]
pub struct Reader {}

/// Most bytes of one event.
pub const MAX_EVENT: usize = 32 << 20;

impl Reader {
    /// A reader at the start of a stream.
    pub fn new() -> Reader {
        Reader::default()
    }

    /// Takes the next bytes, cut anywhere.
    pub fn push(&mut self, _bytes: &Bytes) {
        todo!("room: dialect")
    }

    /// The next whole event, if there is one. A fault if an event grows past [`MAX_EVENT`] or is no UTF-8.
    pub fn next(&mut self) -> Result<Option<Event<'_>>, Fault> {
        todo!("room: dialect")
    }

    /// The stream has ended: an event that still lacks its blank line, if there is one.
    pub fn finish(&mut self) -> Result<Option<Event<'_>>, Fault> {
        todo!("room: dialect")
    }
}
