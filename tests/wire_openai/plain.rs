//! Plain readers of each dialect, which share no code with the crate.

use cproxy::dialect::Part;
use serde_json::Value;

/// What an answer says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Said {
    pub text: String,
    pub thinking: String,
    /// Id, name, arguments.
    pub calls: Vec<(String, String, Value)>,
    /// `stop`, `calls`, `length`, `refusal`; empty if the answer has no end.
    pub stop: &'static str,
    pub input: u64,
    pub cached: u64,
    pub output: u64,
}

impl Said {
    /// Without what it cost and why it ended.
    pub fn talk(&self) -> (String, String, Vec<(String, String, Value)>) {
        (self.text.clone(), self.thinking.clone(), self.calls.clone())
    }
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn parsed(text: &str) -> Value {
    if text.is_empty() { Value::Object(Default::default()) } else { serde_json::from_str(text).unwrap() }
}

/// The data of each event that is whole.
fn events(stream: &str) -> Vec<Value> {
    let stream = stream.replace("\r\n", "\n").replace('\r', "\n");
    let whole = stream.rsplit_once("\n\n").map_or("", |(whole, _)| whole);
    let data =
        |event: &str| -> String { event.lines().filter_map(|line| line.strip_prefix("data:")).collect() };
    whole.split("\n\n").filter_map(|event| serde_json::from_str(data(event).trim()).ok()).collect()
}

pub fn of_anthropic(stream: &str) -> Said {
    let mut said = Said::default();
    let mut created = 0;
    let mut uncached = 0;
    let mut open = (Value::Null, String::new());
    for data in events(stream) {
        let usage = if data["type"] == "message_start" { &data["message"]["usage"] } else { &data["usage"] };
        for (field, into) in [
            ("input_tokens", &mut uncached),
            ("cache_read_input_tokens", &mut said.cached),
            ("cache_creation_input_tokens", &mut created),
            ("output_tokens", &mut said.output),
        ] {
            *into = usage[field].as_u64().unwrap_or(*into);
        }
        let delta = &data["delta"];
        match data["type"].as_str().unwrap_or_default() {
            "content_block_start" => open = (data["content_block"].clone(), String::new()),
            "content_block_delta" => match delta["type"].as_str().unwrap() {
                "text_delta" => said.text.push_str(delta["text"].as_str().unwrap()),
                "thinking_delta" => said.thinking.push_str(delta["thinking"].as_str().unwrap()),
                "input_json_delta" => open.1.push_str(delta["partial_json"].as_str().unwrap()),
                _ => {}
            },
            "content_block_stop" if open.0["type"] == "tool_use" => {
                // The limit may have cut it.
                let whole = open.1.is_empty() || serde_json::from_str::<Value>(&open.1).is_ok();
                if whole {
                    said.calls.push((string(&open.0["id"]), string(&open.0["name"]), parsed(&open.1)));
                }
            }
            "message_delta" => {
                said.stop = match delta["stop_reason"].as_str().unwrap_or_default() {
                    "tool_use" => "calls",
                    "max_tokens" | "model_context_window_exceeded" => "length",
                    "refusal" => "refusal",
                    _ => "stop",
                };
            }
            _ => {}
        }
    }
    said.input = uncached + created + said.cached;
    said
}

fn chat_stop(reason: &Value) -> Option<&'static str> {
    Some(match reason.as_str()? {
        "tool_calls" => "calls",
        "length" => "length",
        "content_filter" => "refusal",
        "" => return None,
        _ => "stop",
    })
}

fn chat_usage(said: &mut Said, usage: &Value) {
    if usage.is_object() {
        said.input = number(&usage["prompt_tokens"]);
        said.cached = number(&usage["prompt_tokens_details"]["cached_tokens"]);
        said.output = number(&usage["completion_tokens"]);
    }
}

pub fn of_chat_stream(stream: &str) -> Said {
    let mut said = Said::default();
    let mut calls: Vec<(String, String, String)> = Vec::new();
    for data in events(stream) {
        chat_usage(&mut said, &data["usage"]);
        let choice = &data["choices"][0];
        let delta = &choice["delta"];
        said.text.push_str(delta["content"].as_str().unwrap_or_default());
        said.thinking.push_str(delta["reasoning_content"].as_str().unwrap_or_default());
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            let index = call["index"].as_u64().unwrap_or(0) as usize;
            if calls.len() <= index {
                calls.resize(index + 1, Default::default());
            }
            let slot = &mut calls[index];
            slot.0.push_str(call["id"].as_str().unwrap_or_default());
            slot.1.push_str(call["function"]["name"].as_str().unwrap_or_default());
            slot.2.push_str(call["function"]["arguments"].as_str().unwrap_or_default());
        }
        said.stop = chat_stop(&choice["finish_reason"]).unwrap_or(said.stop);
    }
    let whole = |(id, name, text): (String, String, String)| {
        let arguments = serde_json::from_str(&text).unwrap_or(Value::Null);
        (id, name, arguments)
    };
    said.calls = calls.into_iter().map(whole).collect();
    said
}

pub fn of_chat_whole(body: &Value) -> Said {
    let message = &body["choices"][0]["message"];
    let calls = message["tool_calls"].as_array().cloned().unwrap_or_default();
    let mut said = Said {
        text: string(&message["content"]),
        thinking: string(&message["reasoning_content"]),
        calls: calls
            .iter()
            .map(|call| {
                let function = &call["function"];
                (
                    string(&call["id"]),
                    string(&function["name"]),
                    parsed(function["arguments"].as_str().unwrap()),
                )
            })
            .collect(),
        stop: chat_stop(&body["choices"][0]["finish_reason"]).unwrap_or_default(),
        ..Said::default()
    };
    chat_usage(&mut said, &body["usage"]);
    said
}

/// Follows the events and checks that each item and the last object say the same as the deltas did.
pub fn of_response_stream(stream: &str) -> Said {
    let (mut text, mut thinking, mut arguments) = (String::new(), String::new(), String::new());
    let mut last = Value::Null;
    let mut items = Vec::new();
    for (nth, data) in events(stream).into_iter().enumerate() {
        assert_eq!(data["sequence_number"], nth, "events are counted");
        let delta = data["delta"].as_str().unwrap_or_default();
        match data["type"].as_str().unwrap() {
            "response.output_text.delta" => text.push_str(delta),
            "response.reasoning_summary_text.delta" => thinking.push_str(delta),
            "response.function_call_arguments.delta" => arguments.push_str(delta),
            "response.output_item.added" => {
                assert_eq!(data["output_index"], items.len(), "items come one after the other");
                arguments.clear();
            }
            "response.output_item.done" => {
                let item = data["item"].clone();
                if item["type"] == "function_call" {
                    assert_eq!(item["arguments"], arguments.as_str());
                }
                items.push(item);
            }
            "response.completed" | "response.incomplete" => last = data["response"].clone(),
            _ => {}
        }
    }
    assert_eq!(last["output"], Value::Array(items));
    let said = of_response(&last);
    assert_eq!((&said.text, &said.thinking), (&text, &thinking));
    said
}

pub fn of_response(response: &Value) -> Said {
    let mut said = Said::default();
    for item in response["output"].as_array().unwrap() {
        match item["type"].as_str().unwrap() {
            "message" => {
                for part in item["content"].as_array().unwrap() {
                    said.text.push_str(part["text"].as_str().unwrap_or_default());
                    if part["type"] == "refusal" {
                        said.stop = "refusal";
                    }
                }
            }
            "reasoning" => {
                for part in item["summary"].as_array().unwrap() {
                    said.thinking.push_str(part["text"].as_str().unwrap());
                }
            }
            "function_call" => {
                let arguments = parsed(item["arguments"].as_str().unwrap());
                said.calls.push((string(&item["call_id"]), string(&item["name"]), arguments));
            }
            other => panic!("an item of type {other}"),
        }
    }
    if said.stop.is_empty() {
        said.stop = match response["status"].as_str().unwrap() {
            "incomplete" => "length",
            _ if !said.calls.is_empty() => "calls",
            _ => "stop",
        };
    }
    said.input = number(&response["usage"]["input_tokens"]);
    said.cached = number(&response["usage"]["input_tokens_details"]["cached_tokens"]);
    said.output = number(&response["usage"]["output_tokens"]);
    said
}

pub fn of_parts(parts: &[Part<'static>]) -> Said {
    let mut said = Said::default();
    for part in parts {
        match part {
            Part::Text(text) => said.text.push_str(text),
            Part::Thinking(text) => said.thinking.push_str(text),
            Part::Call { id, name, arguments } => {
                said.calls.push((id.to_string(), name.to_string(), parsed(arguments)));
            }
            _ => {}
        }
    }
    said
}
