//! Whole events of a stream that is passed on as it is.

use bytes::{Bytes, BytesMut};

use super::{Fault, MAX_EVENT, TOO_LARGE};

/// Cuts a stream of bytes behind blank lines: what it gives holds whole events, all bytes unchanged; the cut
/// tail is held back until its blank line comes. Comments and pings count as events.
#[derive(Debug, Default)]
pub struct Frames {
    /// The bytes after the last blank line.
    tail: BytesMut,
    /// The line in progress holds something.
    in_line: bool,
    /// The last byte was a CR: an LF that follows belongs to it.
    after_cr: bool,
    /// The last line was blank.
    blank: bool,
}

// === impl Frames ===

impl Frames {
    /// At the start of a stream.
    pub fn new() -> Frames {
        Frames::default()
    }

    /// Takes the next bytes and gives those that complete events; may be empty. Copies only where an event
    /// came in several pieces. A fault if an event grows past [`MAX_EVENT`].
    pub fn push(&mut self, mut chunk: Bytes) -> Result<Bytes, Fault> {
        let whole = self.whole(&chunk);
        if whole == 0 {
            if self.tail.len() + chunk.len() > MAX_EVENT {
                return Err(Fault::protocol(TOO_LARGE));
            }
            self.tail.extend_from_slice(&chunk);
            return Ok(Bytes::new());
        }
        let ready = chunk.split_to(whole);
        let ready = if self.tail.is_empty() {
            ready
        } else {
            self.tail.extend_from_slice(&ready);
            self.tail.split().freeze()
        };
        self.tail.extend_from_slice(&chunk);
        Ok(ready)
    }

    /// The bytes held back: an event that lacks its blank line.
    pub fn tail(&self) -> &[u8] {
        &self.tail
    }

    /// The stream has ended: the bytes held back. Passing them on is right only if they are a whole event
    /// but for the blank line; then add it.
    pub fn finish(self) -> Bytes {
        self.tail.freeze()
    }

    /// How many leading bytes of `chunk` reach up to and with the last blank line.
    fn whole(&mut self, chunk: &[u8]) -> usize {
        let mut whole = 0;
        let mut at = 0;
        while let Some(rest) = chunk.get(at..).filter(|rest| !rest.is_empty()) {
            if std::mem::take(&mut self.after_cr) && rest.first() == Some(&b'\n') {
                at += 1;
                if self.blank {
                    whole = at; // the LF of the CRLF that ended a blank line
                }
                continue;
            }
            let Some(offset) = memchr::memchr2(b'\n', b'\r', rest) else {
                self.in_line = true;
                break;
            };
            self.after_cr = rest.get(offset) == Some(&b'\r');
            at += offset + 1;
            self.blank = offset == 0 && !self.in_line;
            if self.blank {
                whole = at;
            }
            self.in_line = false;
        }
        whole
    }
}
