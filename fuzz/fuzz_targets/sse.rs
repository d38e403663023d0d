//! The reader of event streams, and the splitter of those that are passed on.
#![no_main]

use bytes::Bytes;
use cproxy::dialect::sse;
use libfuzzer_sys::fuzz_target;

fn events(pieces: impl Iterator<Item = Bytes>) -> Result<Vec<(String, String)>, ()> {
    let mut reader = sse::Reader::new();
    let mut all = Vec::new();
    for piece in pieces {
        reader.push(&piece);
        while let Some(event) = reader.next().map_err(drop)? {
            all.push((event.name.to_owned(), event.data.to_owned()));
        }
    }
    if let Some(event) = reader.finish().map_err(drop)? {
        all.push((event.name.to_owned(), event.data.to_owned()));
    }
    Ok(all)
}

fuzz_target!(|data: &[u8]| {
    let body = data.get(1..).unwrap_or_default();
    let whole = events(std::iter::once(Bytes::copy_from_slice(body)));
    assert_eq!(whole, events(cproxy_fuzz::pieces(data)), "however it is cut");
    // What is passed on is the stream's beginning, byte for byte.
    let (mut reader, mut frames) = (sse::Reader::new(), sse::Frames::new());
    let mut passed = Vec::new();
    for piece in cproxy_fuzz::pieces(data) {
        reader.push(&piece);
        loop {
            match reader.next() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
        passed.extend_from_slice(&frames.push(piece, reader.held()));
    }
    assert!(body.starts_with(&passed));
    passed.extend_from_slice(&frames.finish());
    assert_eq!(body, passed, "what is held back is the rest");
});
