//! What the fuzz targets share: streams that arrive in pieces, and what must hold of all that is made of them.

use std::collections::BTreeMap;

use bytes::Bytes;
use cproxy::dialect::Part;
use cproxy::dialect::part::Source;
use serde_json::value::RawValue;

#[path = "../../tests/support/grammar.rs"]
pub mod grammar;
#[path = "../../tests/support/relay.rs"]
pub mod relay;

/// The members of an object. Values stay text: a number of a caller's may be larger than any that Rust has.
pub fn fields(json: &[u8]) -> BTreeMap<String, Box<RawValue>> {
    serde_json::from_slice(json).expect("what is made is an object")
}

/// The items of a list.
pub fn items(json: &RawValue) -> Vec<Box<RawValue>> {
    serde_json::from_str(json.get()).expect("what is made is a list")
}

/// The first byte says how large the pieces are; the rest is the stream.
pub fn pieces(data: &[u8]) -> impl Iterator<Item = Bytes> {
    let (size, body) = data.split_first().map_or((1, data), |(first, rest)| (usize::from(*first) + 1, rest));
    body.chunks(size).map(Bytes::copy_from_slice)
}

/// However a stream is cut, the same comes of it: the parts, and whether it ended well.
pub fn same_however_cut<S: Source>(source: impl Fn() -> S, data: &[u8]) {
    let outcome = |pieces: Vec<Bytes>| -> (Vec<Part<'static>>, bool) {
        let outcome = relay::relay(&mut source(), pieces);
        (outcome.parts, outcome.result.is_ok())
    };
    let body = data.get(1..).unwrap_or_default();
    let whole = outcome(vec![Bytes::copy_from_slice(body)]);
    let cut = outcome(pieces(data).collect());
    assert_eq!(whole, cut);
}
