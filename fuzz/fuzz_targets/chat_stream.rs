//! Chat Completions, as a stream and as a whole answer. The second byte chooses the row of the table.
#![no_main]

use bytes::Bytes;
use cproxy::dialect::openai_chat::{Context, Reader, response};
use cproxy::dialect::{Part, table};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((row, data)) = data.split_first() else { return };
    let name = table::NAMES[usize::from(*row) % table::NAMES.len()];
    let context = || Context::new(table::by_name(name).unwrap(), "asked");
    cproxy_fuzz::same_however_cut(|| Reader::new(context()), data);
    let mut parts: Vec<Part<'static>> = Vec::new();
    let result = response::read_any(&Bytes::copy_from_slice(data), context(), &mut parts);
    assert_eq!(result.is_ok(), matches!(parts.last(), Some(Part::End { .. })));
});
