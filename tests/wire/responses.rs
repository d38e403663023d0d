//! Answers of servers that speak Responses.

use bytes::Bytes;
use cproxy::dialect::openai_chat::Context;
use cproxy::dialect::openai_responses::{Reader, response};
use cproxy::dialect::part::{Flow, Part, Source as _, Stop};
use cproxy::dialect::{Fault, FaultKind, sse, table};
use serde_json::{Value, json};

use crate::support::recordings::recordings;

fn context() -> Context {
    Context::new(table::by_name("openai").unwrap(), "asked")
}

fn read(body: &[u8], size: usize) -> Result<Vec<Part<'static>>, Fault> {
    let mut events = sse::Reader::new();
    let mut reader = Reader::new(context());
    let mut parts = Vec::new();
    for piece in body.chunks(size.max(1)) {
        events.push(&Bytes::copy_from_slice(piece));
        while let Some(event) = events.next()? {
            if reader.event(event, &mut parts)? == Flow::Done {
                return Ok(parts);
            }
        }
    }
    reader.end(&mut parts)?;
    Ok(parts)
}

/// Text, calls and whether the answer asks for results: from the parts.
fn said(parts: &[Part<'_>]) -> (String, Vec<(String, Value)>) {
    let (mut text, mut calls) = (String::new(), Vec::new());
    for part in parts {
        match part {
            Part::Text(piece) => text.push_str(piece),
            Part::Call { name, arguments, .. } => {
                calls.push((name.to_string(), serde_json::from_str(arguments).unwrap()));
            }
            _ => {}
        }
    }
    (text, calls)
}

/// The addresses of the pages that back the text: from the parts.
fn pages(parts: &[Part<'_>]) -> Vec<String> {
    let lists = parts.iter().filter_map(|part| match part {
        Part::Citations(citations) => Some(citations),
        _ => None,
    });
    lists.flatten().filter_map(|citation| Some(citation.of_page()?.url)).collect()
}

/// The same from the items that the stream says are done.
fn plainly(items: &[Value]) -> (String, Vec<(String, Value)>) {
    let (mut text, mut calls) = (String::new(), Vec::new());
    for item in items {
        for part in item["content"].as_array().into_iter().flatten().filter(|_| item["type"] == "message") {
            text.push_str(part["text"].as_str().or(part["refusal"].as_str()).unwrap_or_default());
        }
        let name = item["name"].as_str().unwrap_or_default().to_owned();
        if item["type"] == "function_call" && item["status"] != "incomplete" {
            let arguments = item["arguments"].as_str().filter(|text| !text.is_empty()).unwrap_or("{}");
            calls.push((name, serde_json::from_str(arguments).unwrap()));
        } else if item["type"] == "custom_tool_call" {
            calls.push((name, json!({"input": item["input"]})));
        }
    }
    (text, calls)
}

fn streams() -> Vec<(String, Vec<u8>)> {
    let all = [
        ("openai_responses", "stream.response.sse"),
        ("openai_responses", "raw.response.sse"),
        ("lmstudio", ".sse"),
        ("openrouter", "responses_raw_cot_stream.response.sse"),
    ];
    let all = all.into_iter().flat_map(|(folder, ending)| recordings(folder, ending));
    all.filter(|(name, _)| !name.starts_with("error")).collect()
}

#[test]
fn every_recorded_stream_says_what_its_items_say() {
    for (name, body) in streams() {
        let text = String::from_utf8(body.clone()).unwrap();
        let events: Vec<Value> = text
            .lines()
            .filter_map(|line| serde_json::from_str(line.strip_prefix("data:")?.trim()).ok())
            .collect();
        let items: Vec<Value> = events
            .iter()
            .filter(|event| event["type"] == "response.output_item.done")
            .map(|event| event["item"].clone())
            .collect();
        let is_end = |event: &&Value| {
            matches!(event["type"].as_str(), Some("response.completed" | "response.incomplete"))
        };
        let Some(last) = events.iter().rfind(is_end) else {
            assert!(read(&body, body.len()).is_err(), "{name}: an error, or no end");
            continue;
        };
        let parts = read(&body, body.len()).unwrap_or_else(|fault| panic!("{name}: {fault:?}"));
        assert_eq!(said(&parts), plainly(&items), "{name}");
        let contents = items.iter().flat_map(|item| item["content"].as_array().into_iter().flatten());
        let annotations = contents.flat_map(|part| part["annotations"].as_array().into_iter().flatten());
        let wanted: Vec<&str> = annotations.filter_map(|annotation| annotation["url"].as_str()).collect();
        assert_eq!(pages(&parts), wanted, "{name}");
        let usage = &last["response"]["usage"];
        let Some(Part::End { stop, usage: Some(counted) }) = parts.last() else { panic!("{name}") };
        if !counted.estimated {
            assert_eq!(Some(counted.total_input()), usage["input_tokens"].as_u64(), "{name}");
            assert_eq!(Some(counted.output), usage["output_tokens"].as_u64(), "{name}");
        }
        let wanted = match last["type"].as_str().unwrap() {
            "response.incomplete"
                if last["response"]["incomplete_details"]["reason"] == "max_output_tokens" =>
            {
                Stop::MaxTokens
            }
            "response.incomplete" => Stop::Refusal(None),
            _ if text.contains("response.refusal.") => {
                assert!(matches!(stop, Stop::Refusal(Some(_))), "{name}");
                continue;
            }
            _ if !said(&parts).1.is_empty() => Stop::ToolUse,
            _ => Stop::EndTurn,
        };
        assert_eq!(*stop, wanted, "{name}");
    }
}

#[test]
fn a_recorded_failure_is_a_fault() {
    for (name, body) in recordings("openai_responses", "stream.response.sse")
        .into_iter()
        .filter(|(name, _)| name.starts_with("error"))
    {
        assert_eq!(read(&body, 50).unwrap_err().kind, FaultKind::Billing, "{name}");
    }
}

#[test]
fn the_recorded_whole_answer_is_read() {
    for (name, body) in recordings("vllm", ".response.json") {
        let mut parts = Vec::new();
        let context = Context::new(table::by_name("vllm").unwrap(), "asked");
        response::read(&body, context, &mut parts).unwrap();
        let whole: Value = serde_json::from_slice(&body).unwrap();
        let (mut text, calls) = plainly(whole["output"].as_array().unwrap());
        // Reasoning that the server left in the text.
        let left = text.trim_start().strip_prefix("<think>");
        if let Some(left) = left {
            let (reasoning, rest) = left.split_once("</think>").unwrap_or((left, ""));
            let thought = parts.iter().filter_map(|part| match part {
                Part::Thinking(text) => Some(text.as_ref()),
                _ => None,
            });
            assert_eq!(thought.collect::<String>(), reasoning, "{name}");
            text = rest.trim_start().to_owned();
        }
        assert_eq!(said(&parts), (text, calls), "{name}");
    }
}
