//! Gemini, as a stream and as a whole answer.
#![no_main]

use cproxy::dialect::gemini::{Reader, response};
use cproxy::dialect::openai_chat::Context;
use cproxy::dialect::{Part, table};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let context = || Context::new(table::by_name("gemini").unwrap(), "gemini-3-pro");
    cproxy_fuzz::same_however_cut(|| Reader::new(context()), data);
    let mut parts: Vec<Part<'static>> = Vec::new();
    let result = response::read(data, context(), &mut parts);
    assert_eq!(result.is_ok(), matches!(parts.last(), Some(Part::End { .. })));
});
