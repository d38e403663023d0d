//! Whole events of a stream that is passed on as it is.

use bytes::Bytes;

/// Cuts a stream of bytes where its [`Reader`](super::Reader) stands: what it gives holds whole events, all bytes
/// unchanged; the cut tail is held back until its blank line comes.
#[derive(Debug, Default)]
pub struct Frames {
    /// The bytes of an event that is not yet whole.
    tail: Vec<u8>,
}

// === impl Frames ===

impl Frames {
    /// At the start of a stream.
    pub fn new() -> Frames {
        Frames::default()
    }

    /// Takes the next bytes, after the reader, which holds the last `held` bytes of the stream back
    /// ([`Reader::held`](super::Reader::held)); gives those before them, which may be none. Copies only where an event
    /// came in several pieces.
    pub fn push(&mut self, mut chunk: Bytes, held: usize) -> Bytes {
        let whole = chunk.len().saturating_sub(held);
        if whole == 0 {
            self.tail.extend_from_slice(&chunk);
            return Bytes::new();
        }
        let ready = chunk.split_to(whole);
        let ready = if self.tail.is_empty() { ready } else { [&*self.tail, &*ready].concat().into() };
        self.tail.clear();
        self.tail.extend_from_slice(&chunk);
        ready
    }

    /// The stream has ended: the bytes held back. Passing them on is right only if they are a whole event
    /// but for the blank line; then add it.
    pub fn finish(self) -> Bytes {
        self.tail.into()
    }
}
