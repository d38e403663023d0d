//! Whole Chat Completions answers, read into parts.

use bytes::Bytes;

use super::stream::{Context, Reader};
use crate::dialect::part::{Flow, is_events, read_events};
use crate::dialect::{Fault, Sink};

/// Reads a whole answer. An error in a body of status 200 is a fault like any other.
pub fn read(body: &[u8], context: Context, sink: &mut dyn Sink) -> Result<(), Fault> {
    let body = std::str::from_utf8(body)
        .map_err(|_| Fault::protocol("the upstream's answer is no UTF-8"))?
        .trim_start_matches('\u{feff}')
        .trim();
    if !body.starts_with(['{', '[']) {
        return Err(Fault::protocol("the upstream's answer is no JSON"));
    }
    let mut reader = Reader::new(context);
    match reader.chunk(body, sink)? {
        Flow::Done => Ok(()),
        Flow::More if !reader.has_started() => Err(Fault::protocol("the upstream's answer has no choices")),
        Flow::More => reader.finish(sink),
    }
}

/// Reads a whole body, be it JSON or a stream of events, whatever its content type says.
pub fn read_any(body: &Bytes, context: Context, sink: &mut dyn Sink) -> Result<(), Fault> {
    if is_events(body) {
        read_events(body, &mut Reader::new(context), sink)
    } else {
        read(body, context, sink)
    }
}
