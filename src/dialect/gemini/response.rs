//! Whole generateContent answers, read into parts.

use super::stream::Reader;
use crate::dialect::openai_chat::Context;
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
    reader.chunk(body, sink)?;
    if !reader.has_started() {
        return Err(Fault::protocol("the upstream's answer has no candidates"));
    }
    reader.finish(sink)
}
