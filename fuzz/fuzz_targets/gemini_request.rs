//! Messages requests, written for Gemini.
#![no_main]

use cproxy::dialect::openai_chat::{Target, Translation};
use cproxy::dialect::{gemini, table};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let target = Target::new("gemini-3-pro", table::by_name("gemini").unwrap());
    match gemini::from_messages(body, &target) {
        Ok(Translation::Send(sent)) => {
            let contents = cproxy_fuzz::items(&cproxy_fuzz::fields(&sent.body)["contents"]);
            for content in contents {
                let content = cproxy_fuzz::fields(content.get().as_bytes());
                assert!(!cproxy_fuzz::items(&content["parts"]).is_empty());
            }
        }
        Ok(Translation::Answer(parts)) => assert!(parts.len() > 1),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
