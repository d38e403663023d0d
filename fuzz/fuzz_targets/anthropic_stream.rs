//! Streams of Anthropic upstreams: read and written again, and watched while they are passed on.
#![no_main]

use cproxy::dialect::{anthropic, sse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    cproxy_fuzz::same_however_cut(anthropic::Reader::new, data);
    let mut events = sse::Reader::new();
    let mut watch = anthropic::Watch::new();
    for piece in cproxy_fuzz::pieces(data) {
        events.push(&piece);
        while let Ok(Some(event)) = events.next() {
            if watch.event(event).is_err() {
                return;
            }
        }
    }
    assert_eq!(watch.end().is_ok(), watch.ended_well());
});
