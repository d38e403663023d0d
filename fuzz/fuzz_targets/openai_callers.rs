//! Chat and Responses requests of callers, read into Messages requests. The first byte chooses dialect and
//! destination.
#![no_main]

use cproxy::dialect::anthropic::compose::Destination;
use cproxy::dialect::{Dialect, anthropic, head, openai_chat, openai_responses};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((choice, body)) = data.split_first() else { return };
    let (is_chat, is_anthropic) = (choice & 1 == 0, choice & 2 == 0);
    let to = Destination::new("claude-opus-4-8", is_anthropic);
    let (dialect, read) = match is_chat {
        true => (Dialect::OpenAiChat, openai_chat::to_messages::to_messages(body, &to)),
        false => (Dialect::OpenAiResponses, openai_responses::to_messages::to_messages(body, &to)),
    };
    let _ = head::scan_as(body, dialect);
    match read {
        Ok(request) => {
            let messages = cproxy_fuzz::items(&cproxy_fuzz::fields(&request)["messages"]);
            assert_eq!(cproxy_fuzz::fields(messages[0].get().as_bytes())["role"].get(), "\"user\"");
            anthropic::types::MessagesRequest::parse(&request).expect("what is made is a Messages request");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
