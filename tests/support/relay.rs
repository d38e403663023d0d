//! One stream through its reader, and on to the caller.

use bytes::Bytes;
use cproxy::dialect::anthropic::StreamWriter;
use cproxy::dialect::part::{Flow, Sink, Source};
use cproxy::dialect::{Fault, Part, sse};

use super::grammar::{self, Summary};

/// What came of a stream.
pub struct Outcome {
    pub parts: Vec<Part<'static>>,
    pub result: Result<(), Fault>,
    pub summary: Summary,
}

/// Parts as values, and as a stream for the caller.
struct Tee {
    parts: Vec<Part<'static>>,
    writer: StreamWriter,
}

impl Sink for Tee {
    fn part(&mut self, part: Part<'_>) {
        self.parts.push(part.clone().into_owned());
        self.writer.part(part);
    }
}

/// Reads a stream as it arrives in these pieces, and writes it for a caller. What must hold of every stream is
/// checked: the grammar of what is written, the order of the parts, and that it either ends well or fails.
pub fn relay(source: &mut dyn Source, pieces: impl IntoIterator<Item = Bytes>) -> Outcome {
    let mut events = sse::Reader::new();
    let mut sink = Tee { parts: Vec::new(), writer: StreamWriter::new("asked", "msg_ours", 7) };
    let result = (|| {
        for piece in pieces {
            events.push(&piece);
            while let Some(event) = events.next()? {
                if source.event(event, &mut sink)? == Flow::Done {
                    return Ok(());
                }
            }
        }
        if let Some(event) = events.finish()?
            && source.event(event, &mut sink)? == Flow::Done
        {
            return Ok(());
        }
        source.end(&mut sink)
    })();
    if let Err(fault) = &result {
        sink.writer.fail(fault, "req_1");
    }
    let summary = grammar::check(&sink.writer.take()).unwrap_or_else(|what| panic!("{what}"));
    assert_eq!(result.is_ok(), summary.ended_well, "an end and a failure exclude each other");
    assert_eq!(result.is_err(), summary.error.is_some(), "a failure is told");
    let is_end = |part: &Part<'_>| matches!(part, Part::End { .. });
    let is_start = |part: &Part<'_>| matches!(part, Part::Start { .. });
    assert_eq!(sink.parts.iter().any(is_end), result.is_ok(), "an end says that all is well");
    assert!(!sink.parts.iter().skip(1).any(is_start), "one start, first");
    assert!(!sink.parts.iter().rev().skip(1).any(is_end), "one end, last");
    for part in &sink.parts {
        if let Part::Call { id, name, arguments } = part {
            assert!(!id.is_empty() && !name.is_empty(), "a call has an id and a name");
            let arguments: serde_json::Value = serde_json::from_str(arguments).expect("arguments are JSON");
            assert!(arguments.is_object(), "arguments are an object");
        }
    }
    Outcome { parts: sink.parts, result, summary }
}
