//! Messages requests, written for upstreams that speak Responses. The first byte chooses the row of the table.
#![no_main]

use cproxy::dialect::openai_chat::{Target, Translation};
use cproxy::dialect::{openai_responses, table};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((row, body)) = data.split_first() else { return };
    let name = table::NAMES[usize::from(*row) % table::NAMES.len()];
    let target = Target { session: Some("s"), ..Target::new("gpt-5.2", table::by_name(name).unwrap()) };
    match openai_responses::from_messages(body, &target) {
        Ok(Translation::Send(sent)) => {
            let fields = cproxy_fuzz::fields(&sent.body);
            assert_eq!(fields["model"].get(), "\"gpt-5.2\"");
            let Ok(Translation::Send(again)) = openai_responses::from_messages(body, &target) else {
                panic!("the same request, another outcome");
            };
            assert_eq!(sent.body, again.body, "the same request gives the same bytes");
        }
        Ok(Translation::Answer(parts)) => assert!(parts.len() > 1),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
