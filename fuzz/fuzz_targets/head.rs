//! The scan of a request's head, against a full reader: whoever disagrees is wrong.
#![no_main]

use cproxy::dialect::{anthropic, head};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(head) = head::scan(data) else { return };
    let json: serde_json::Value = match serde_json::from_slice(data) {
        Ok(json) => json,
        // A scan need not see what is wrong inside a value; the upstream will.
        Err(_) => return,
    };
    assert!(json.is_object());
    let span = data.get(head.model_span.clone()).expect("the span lies in the body");
    let named: String = serde_json::from_slice(span).expect("the span is a string");
    assert_eq!(named, head.model);
    let spliced =
        head::splice_model(&bytes::Bytes::copy_from_slice(data), &head.model_span, "other \"model\"");
    let again = head::scan(&spliced).expect("a spliced body is still one");
    assert_eq!(again.model, "other \"model\"");
    assert_eq!((again.stream, again.tools, again.images), (head.stream, head.tools, head.images));
    let _ = anthropic::own::without_ours(data);
});
