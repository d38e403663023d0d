//! Reads a whole Anthropic message.
//!
//! Source: Anthropic API reference, "Messages", response.

use std::borrow::Cow;

use serde::Deserialize;

use super::error;
use super::events::{Block, arguments, call_of, citations, parse};
use super::usage::{StopJson, UsageJson};
use crate::dialect::json::Raw;
use crate::dialect::json::Str;
use crate::dialect::part::Sink;
use crate::dialect::{Fault, Part, Stop, Usage};

/// What is known of a message that is passed on as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The upstream's id of the answer; may be empty.
    pub id: String,
    /// The model that the upstream says it ran; may be empty.
    pub model: String,
    /// What it cost; `None` if the upstream did not say.
    pub usage: Option<Usage>,
    /// Why it ended; `None` if the upstream did not say.
    pub stop: Option<Stop>,
    /// How many content blocks it holds.
    pub blocks: usize,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<Str<'a>>,
    #[serde(borrow)]
    model: Option<Str<'a>>,
    #[serde(borrow)]
    content: Option<Vec<Raw<'a>>>,
    usage: Option<UsageJson>,
    #[serde(borrow)]
    error: Option<Raw<'a>>,
}

/// Reads a message into parts. A fault, and no part, if the body is no message.
pub fn read(body: &[u8], sink: &mut dyn Sink) -> Result<(), Fault> {
    let (message, content, stop) = message(body)?;
    let blocks = content.iter().zip(0u64..).map(|(raw, index)| {
        let block = parse::<Block<'_>>(raw.get())?;
        let call = if &*block.kind == "tool_use" { call_of(&block, index)? } else { Default::default() };
        Ok((block, call, *raw))
    });
    let blocks = blocks.collect::<Result<Vec<_>, Fault>>()?;
    let usage = usage(&message);
    let borrow = |text: Option<Str<'_>>| Cow::Owned(text.map(|text| text.0.into_owned()).unwrap_or_default());
    sink.part(Part::Start { id: borrow(message.id), model: borrow(message.model), usage });
    let mut calls = false;
    let mut any = false;
    let mut said = false; // the last part was text
    for (block, (id, name), raw) in blocks {
        let nothing_yet = std::mem::replace(&mut any, true);
        said &= &*block.kind == "text";
        match &*block.kind {
            "text" => match block.text {
                Some(text) if !text.is_empty() => {
                    if std::mem::replace(&mut said, true) {
                        sink.part(Part::Citations(Vec::new()));
                    }
                    sink.part(Part::Text(text.0));
                    let mut citations = citations(block.citations);
                    if !citations.is_empty() {
                        said = false;
                        sink.part(Part::Citations(citations.take()));
                    }
                }
                _ => any = nothing_yet,
            },
            "thinking" => {
                let text = block.thinking.unwrap_or_default();
                if !text.is_empty() {
                    sink.part(Part::Thinking(text.0));
                }
                sink.part(Part::Signature(block.signature.unwrap_or_default().0));
            }
            "redacted_thinking" => sink.part(Part::RedactedThinking(block.data.unwrap_or_default().0)),
            "tool_use" => {
                calls = true;
                sink.part(Part::Call {
                    id: Cow::Owned(id),
                    name: Cow::Owned(name),
                    arguments: match block.input.map(Raw::get) {
                        None | Some("null") => Cow::Borrowed("{}"),
                        Some(input) => arguments(input),
                    },
                });
            }
            _ => sink.part(Part::Block(Cow::Borrowed(raw.get()))),
        }
    }
    let stop = match stop {
        Some(stop) => stop,
        None if calls => Stop::ToolUse,
        None => Stop::EndTurn,
    };
    sink.part(Part::End { stop, usage });
    Ok(())
}

/// What is known of a message that is passed on. A fault if a body that came with a status of success is no
/// message: an error object, a page of HTML, cut off.
pub fn usage_of(body: &[u8]) -> Result<Summary, Fault> {
    let (message, content, stop) = message(body)?;
    let usage = usage(&message);
    let own = |text: Option<Str<'_>>| text.map(|text| text.0.into_owned()).unwrap_or_default();
    Ok(Summary { id: own(message.id), model: own(message.model), usage, stop, blocks: content.len() })
}

type Parsed<'a> = (Message<'a>, Vec<Raw<'a>>, Option<Stop>);

fn message(body: &[u8]) -> Result<Parsed<'_>, Fault> {
    let no_message = |what: &str| Fault {
        ambiguous: true,
        ..Fault::protocol(format!("the upstream answered with {what} instead of a message"))
    };
    let Ok(text) = std::str::from_utf8(body) else { return Err(no_message("bytes that are no text")) };
    match text.trim_start().as_bytes().first() {
        None => return Err(no_message("an empty body")),
        Some(b'{') => {}
        Some(b'<') => return Err(no_message("a page of HTML")),
        Some(_) => return Err(no_message("something that is no JSON object")),
    }
    let mut message: Message<'_> =
        serde_json::from_str(text).map_err(|_| no_message("JSON that is cut or malformed"))?;
    let Some(content) = message.content.take() else {
        return Err(match message.error {
            Some(error) if error.get() != "null" => error::in_stream(text),
            _ => no_message("JSON without content"),
        });
    };
    let stop: StopJson<'_> = parse(text)?;
    Ok((message, content, stop.stop()))
}

fn usage(message: &Message<'_>) -> Option<Usage> {
    let mut usage = None;
    if let Some(json) = message.usage {
        json.apply(&mut usage);
    }
    usage
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
    use crate::dialect::FaultKind;

    #[test]
    fn a_message_is_read_in_the_order_of_its_blocks() {
        let body = br#"{"type":"message","id":"msg_1","model":"m","content":[
            {"type":"thinking","thinking":"hm","signature":"s"},{"type":"text","text":"A\nb"},{"type":"text","text":""},
            {"type":"tool_use","id":"t1","name":"go","input":{"x": 1.50}},
            {"type":"server_tool_use","id":"s1","name":"web_search","input":{"query":"q"}}],
            "stop_reason":"tool_use","usage":{"input_tokens":3,"output_tokens":7,"cache_read_input_tokens":null}}"#;
        let mut parts = Vec::new();
        read(body, &mut parts).unwrap();
        let usage = Some(Usage { input: 3, output: 7, ..Usage::default() });
        assert_eq!(
            parts,
            [
                Part::Start { id: "msg_1".into(), model: "m".into(), usage },
                Part::Thinking("hm".into()),
                Part::Signature("s".into()),
                Part::Text("A\nb".into()),
                Part::Call { id: "t1".into(), name: "go".into(), arguments: r#"{"x": 1.50}"#.into() },
                Part::Block(
                    r#"{"type":"server_tool_use","id":"s1","name":"web_search","input":{"query":"q"}}"#
                        .into()
                ),
                Part::End { stop: Stop::ToolUse, usage },
            ]
        );
        let summary = usage_of(body).unwrap();
        assert_eq!((summary.usage, summary.stop, summary.blocks), (usage, Some(Stop::ToolUse), 5));
    }

    #[test]
    fn an_empty_message_is_a_message() {
        let mut parts = Vec::new();
        read(br#"{"content":[],"stop_reason":"end_turn"}"#, &mut parts).unwrap();
        assert_eq!(parts.last(), Some(&Part::End { stop: Stop::EndTurn, usage: None }));
    }

    #[test]
    fn a_body_that_is_no_message_is_a_fault_and_gives_no_part() {
        for body in [
            &b""[..],
            b"  ",
            b"<html>busy</html>",
            b"[]",
            b"null",
            b"\xFF\xFE",
            b"{}",
            br#"{"id":"msg_1","content":[{"type":"text","te"#,
            br#"{"content":[{"text":"a block without a type"}]}"#,
            br#"{"content":[7]}"#,
            br#"{"content":[{"type":"text","text":"a"},{"type":"tool_use","id":"t","input":{}}]}"#,
            br#"{"content":"text"}"#,
        ] {
            let mut parts = Vec::new();
            let fault = read(body, &mut parts).unwrap_err();
            assert_eq!(fault.kind, FaultKind::Protocol, "{}", String::from_utf8_lossy(body));
            assert!(parts.is_empty());
        }
        assert!(usage_of(b"<html>").is_err() && usage_of(b"{\"content\":[").is_err());
    }

    #[test]
    fn an_error_object_with_a_status_of_success_is_the_fault_that_it_names() {
        let body = br#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
        assert_eq!(usage_of(body).unwrap_err().kind, FaultKind::Overloaded);
    }
}
