//! What the fuzz targets share: streams that arrive in pieces, and what must hold of all that is made of them.

use bytes::Bytes;
use cproxy::dialect::anthropic::StreamWriter;
use cproxy::dialect::part::{Flow, Sink, Source};
use cproxy::dialect::{Fault, Part, sse};

#[path = "../../tests/support/grammar.rs"]
pub mod grammar;

/// The first byte says how large the pieces are; the rest is the stream.
pub fn pieces(data: &[u8]) -> impl Iterator<Item = Bytes> {
    let (size, body) = data.split_first().map_or((1, data), |(first, rest)| (usize::from(*first) + 1, rest));
    body.chunks(size).map(Bytes::copy_from_slice)
}

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

/// Reads a stream that arrives in pieces, and checks what comes of it: the order of the parts, and the grammar of
/// what is written for the caller.
pub fn relay(mut source: impl Source, pieces: impl Iterator<Item = Bytes>) -> (Vec<Part<'static>>, bool) {
    let mut events = sse::Reader::new();
    let mut sink = Tee { parts: Vec::new(), writer: StreamWriter::new("asked", "msg_ours", 7) };
    let result = (|| -> Result<(), Fault> {
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
    let written = sink.writer.take();
    let summary = grammar::check(&written).unwrap_or_else(|what| panic!("{what}"));
    assert_eq!(result.is_ok(), summary.ended_well);
    assert_eq!(result.is_err(), summary.error.is_some());
    let is_end = |part: &Part<'_>| matches!(part, Part::End { .. });
    let is_start = |part: &Part<'_>| matches!(part, Part::Start { .. });
    assert_eq!(sink.parts.iter().any(is_end), result.is_ok(), "an end says that all is well");
    assert!(sink.parts.iter().skip(1).all(|part| !is_start(part)), "one start, first");
    assert!(sink.parts.iter().rev().skip(1).all(|part| !is_end(part)), "one end, last");
    for part in &sink.parts {
        if let Part::Call { id, name, arguments } = part {
            assert!(!id.is_empty() && !name.is_empty());
            let arguments: serde_json::Value = serde_json::from_str(arguments).expect("arguments are JSON");
            assert!(arguments.is_object(), "arguments are an object");
        }
    }
    (sink.parts, result.is_ok())
}

/// However a stream is cut, the same comes of it.
pub fn same_however_cut<S: Source>(source: impl Fn() -> S, data: &[u8]) {
    let body = data.get(1..).unwrap_or_default();
    let whole = relay(source(), std::iter::once(Bytes::copy_from_slice(body)));
    let cut = relay(source(), pieces(data));
    assert_eq!(whole, cut);
}
