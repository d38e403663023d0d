//! Answers and errors of servers that speak Chat Completions.

use bytes::Bytes;
use cproxy::dialect::openai_chat::{Context, Reader, error, response};
use cproxy::dialect::part::{Flow, Part, Source as _, Stop};
use cproxy::dialect::{Fault, FaultKind, sse, table};
use http::HeaderMap;
use serde_json::Value;

use crate::support::recordings::recordings;

/// The providers' folders and their rows.
const PROVIDERS: &[(&str, &str)] = &[
    ("openai_chat", "openai"),
    ("openrouter", "openrouter"),
    ("deepseek", "deepseek"),
    ("groq", "groq"),
    ("mistral", "mistral"),
    ("llamacpp", "llamacpp"),
    ("ollama", "ollama"),
    ("perplexity", "perplexity"),
    ("gemini_openai", "gemini"),
    ("xai", "xai"),
    ("moonshot", "moonshot"),
    ("zai", "zai"),
    ("cerebras", "cerebras"),
];

/// What an answer says.
#[derive(Debug, Default, PartialEq)]
struct Said {
    text: String,
    reasoning: String,
    calls: Vec<(String, Value)>,
    /// The addresses of the pages that back the text.
    pages: Vec<String>,
    stop: String,
    /// Input in all, output.
    usage: Option<(u64, u64)>,
}

/// A recorded answer.
struct Recording {
    name: String,
    variant: &'static str,
    body: Vec<u8>,
}

fn answers(ending: &str) -> Vec<Recording> {
    let all = PROVIDERS.iter().flat_map(|(folder, variant)| {
        recordings(folder, ending).into_iter().map(move |(name, body)| Recording {
            name: format!("{folder}/{name}"),
            variant,
            body,
        })
    });
    let is_chat = |name: &str| {
        !["error", "models_list", "tool_use_failed", "responses_"].iter().any(|other| name.contains(other))
    };
    all.filter(|recording| is_chat(&recording.name) || recording.name.contains("mid_stream_error")).collect()
}

fn context(variant: &str) -> Context {
    Context::new(table::by_name(variant).unwrap(), "asked")
}

/// Reads a stream that arrives in these pieces.
fn read<'b>(variant: &str, pieces: impl Iterator<Item = &'b [u8]>) -> Result<Vec<Part<'static>>, Fault> {
    let mut events = sse::Reader::new();
    let mut reader = Reader::new(context(variant));
    let mut parts = Vec::new();
    for piece in pieces {
        events.push(&Bytes::copy_from_slice(piece));
        while let Some(event) = events.next()? {
            if reader.event(event, &mut parts)? == Flow::Done {
                return Ok(parts);
            }
        }
    }
    if let Some(event) = events.finish()?
        && reader.event(event, &mut parts)? == Flow::Done
    {
        return Ok(parts);
    }
    reader.end(&mut parts)?;
    Ok(parts)
}

fn said(parts: &[Part<'_>]) -> Said {
    let mut said = Said::default();
    for part in parts {
        match part {
            Part::Text(text) => said.text.push_str(text),
            Part::Thinking(text) => said.reasoning.push_str(text),
            Part::Citations(citations) => {
                said.pages.extend(citations.iter().filter_map(|citation| Some(citation.of_page()?.url)));
            }
            Part::Call { name, arguments, .. } => {
                let arguments: Value = serde_json::from_str(arguments).unwrap();
                let is_wrapped = arguments.get("_unparsed_arguments").is_some();
                said.calls.push((name.to_string(), if is_wrapped { Value::Null } else { arguments }));
            }
            Part::End { stop, usage } => {
                said.stop = match stop {
                    Stop::EndTurn => "end_turn",
                    Stop::ToolUse => "tool_use",
                    Stop::MaxTokens => "max_tokens",
                    Stop::Refusal(_) => "refusal",
                    Stop::StopSequence(_) => "end_turn",
                    other => panic!("unexpected stop {other:?}"),
                }
                .to_owned();
                said.usage =
                    usage.filter(|usage| !usage.estimated).map(|usage| (usage.total_input(), usage.output));
            }
            _ => {}
        }
    }
    said
}

/// The plain reader: what the chunks (or the one whole answer) say, by the book.
fn plainly(chunks: &[Value]) -> Said {
    let mut said = Said::default();
    let mut calls: Vec<(u64, String, String)> = Vec::new();
    let mut ids: Vec<String> = Vec::new();
    let mut finish = String::new();
    let mut is_refused = false;
    for chunk in chunks {
        let beside = &chunk["usage"];
        let usage = if beside.is_object() { beside } else { &chunk["choices"][0]["usage"] };
        if let (Some(input), Some(output)) =
            (usage["prompt_tokens"].as_u64(), usage["completion_tokens"].as_u64())
            && input + output > 0
        {
            let total = usage["total_tokens"].as_u64().unwrap_or(0);
            said.usage = Some((input, output.max(total.saturating_sub(input))));
        }
        let mut choices = chunk["choices"].as_array().into_iter().flatten();
        let Some(choice) = choices.find(|choice| choice["index"].as_u64().unwrap_or(0) == 0) else {
            continue;
        };
        if finish.is_empty() {
            finish.push_str(choice["finish_reason"].as_str().unwrap_or_default());
        }
        let delta = if choice["delta"].is_object() { &choice["delta"] } else { &choice["message"] };
        match &delta["content"] {
            Value::String(text) => said.text.push_str(text),
            Value::Array(parts) => {
                for part in parts {
                    said.text.push_str(part["text"].as_str().unwrap_or_default());
                    for inner in part["thinking"].as_array().into_iter().flatten() {
                        said.reasoning.push_str(inner["text"].as_str().unwrap());
                    }
                }
            }
            _ => {}
        }
        let annotations = delta["annotations"].as_array().into_iter().flatten();
        let cited = annotations.filter_map(|annotation| annotation["url_citation"]["url"].as_str());
        let lists = [&chunk["search_results"], &chunk["citations"]];
        let list = lists.into_iter().find_map(|list| list.as_array().filter(|list| !list.is_empty()));
        let listed = list.into_iter().flatten().filter_map(|page| page["url"].as_str().or(page.as_str()));
        for url in cited.chain(listed.filter(|_| !finish.is_empty())) {
            if !said.pages.iter().any(|known| known == url) {
                said.pages.push(url.to_owned());
            }
        }
        if let Some(transcript) = delta["audio"]["transcript"].as_str() {
            said.text.push_str(transcript);
        }
        if let Some(refusal) = delta["refusal"].as_str().filter(|refusal| !refusal.is_empty()) {
            said.text.push_str(refusal);
            is_refused = true;
        }
        let reasoning = delta["reasoning_content"].as_str().or(delta["reasoning"].as_str());
        let details = delta["reasoning_details"].as_array().into_iter().flatten();
        let details: String =
            details.filter_map(|one| one["text"].as_str().or(one["summary"].as_str())).collect();
        said.reasoning.push_str(reasoning.filter(|text| !text.is_empty()).unwrap_or(&details));
        for (nth, call) in delta["tool_calls"].as_array().into_iter().flatten().enumerate() {
            let index = call["index"].as_u64().unwrap_or(nth as u64);
            let id = call["id"].as_str().unwrap_or_default().to_owned();
            let last = calls.iter().rposition(|call| call.0 == index);
            // Some servers give every call the same index.
            let known = last.filter(|at| id.is_empty() || ids[*at].is_empty() || ids[*at] == id);
            let at = known.unwrap_or_else(|| {
                calls.push((index, String::new(), String::new()));
                ids.push(id.clone());
                calls.len() - 1
            });
            let name = call["function"]["name"].as_str().unwrap_or_default();
            if calls[at].1 != name {
                calls[at].1.push_str(name);
            }
            match &call["function"]["arguments"] {
                Value::String(text) => calls[at].2.push_str(text),
                Value::Null => {}
                other => calls[at].2.push_str(&other.to_string()),
            }
        }
        let old = &delta["function_call"];
        if old.is_object() {
            if calls.is_empty() {
                calls.push((0, String::new(), String::new()));
                ids.push(String::new());
            }
            calls[0].1.push_str(old["name"].as_str().unwrap_or_default());
            calls[0].2.push_str(old["arguments"].as_str().unwrap_or_default());
        }
    }
    for (_, name, arguments) in calls {
        let arguments = if arguments == "null" || arguments.is_empty() { "{}" } else { &arguments };
        match serde_json::from_str(arguments) {
            Ok(arguments) => said.calls.push((name, arguments)),
            Err(_) if finish == "length" => {} // cut
            Err(_) => said.calls.push((name, Value::Null)),
        }
    }
    // Servers without a parser for it leave the reasoning in the text.
    if let Some(rest) = said.text.trim_start().strip_prefix("<think>") {
        let (reasoning, text) = rest.split_once("</think>").unwrap_or((rest, ""));
        said.reasoning.push_str(reasoning);
        said.text = text.to_owned();
    }
    said.stop = match finish.as_str() {
        "length" | "model_length" => "max_tokens",
        "content_filter" | "sensitive" => "refusal",
        _ if is_refused => "refusal",
        _ if !said.calls.is_empty() => "tool_use",
        _ => "end_turn",
    }
    .to_owned();
    said
}

/// The data of a stream's events, split by hand.
fn chunks(body: &[u8]) -> Vec<Value> {
    let text = String::from_utf8(body.to_vec()).unwrap().replace("\r\n", "\n");
    let lines = text.lines().filter_map(|line| line.strip_prefix("data:"));
    lines.filter_map(|data| serde_json::from_str(data.trim()).ok()).collect()
}

#[test]
fn every_stream_says_what_its_chunks_say() {
    let mut count = 0;
    for recording in answers(".sse") {
        let all = chunks(&recording.body);
        let is_finished =
            |chunk: &&Value| chunk["choices"][0]["finish_reason"].as_str().is_some_and(|why| !why.is_empty());
        let at = all.iter().position(|chunk| is_finished(&chunk)).unwrap_or(all.len());
        let fails = all[..at].iter().any(|chunk| chunk["error"].is_object() || chunk["error"].is_string());
        if fails || (at == all.len() && !recording.body.ends_with(b"[DONE]\n\n")) {
            let fault = read(recording.variant, std::iter::once(recording.body.as_slice()));
            assert!(fault.is_err(), "{}: an error, or no end", recording.name);
            continue;
        }
        let wanted = plainly(&all);
        let whole = read(recording.variant, std::iter::once(recording.body.as_slice())).unwrap();
        assert_eq!(said(&whole), wanted, "{}", recording.name);
        in_order(&whole, &recording.name);
        count += 1;
    }
    println!("{count} streams read");
}

/// Reasoning and text, then calls; a start before and an end after.
fn in_order(parts: &[Part<'_>], name: &str) {
    let rank = |part: &Part<'_>| match part {
        Part::Start { .. } => 0,
        Part::Thinking(_) | Part::Signature(_) | Part::RedactedThinking(_) => 1,
        Part::Text(_) | Part::Citations(_) => 1,
        Part::Call { .. } | Part::Block(_) => 3,
        Part::End { .. } => 4,
    };
    assert!(parts.is_sorted_by_key(rank), "{name}: {parts:?}");
    assert!(matches!(parts, [Part::Start { .. }, .., Part::End { .. }]), "{name}");
}

#[test]
fn every_recorded_whole_answer_says_what_it_says() {
    let mut count = 0;
    for recording in answers(".response.json") {
        let wanted = plainly(&[serde_json::from_slice(&recording.body).unwrap()]);
        let mut parts = Vec::new();
        response::read(&recording.body, context(recording.variant), &mut parts).unwrap();
        assert_eq!(said(&parts), wanted, "{}", recording.name);
        in_order(&parts, &recording.name);
        let mut any = Vec::new();
        response::read_any(&recording.body.into(), context(recording.variant), &mut any).unwrap();
        assert_eq!(any, parts);
        count += 1;
    }
    println!("{count} recorded whole answers read");
}

#[test]
fn the_call_that_groq_refused_reaches_the_client() {
    for (name, body) in recordings("groq", "tool_use_failed_stream_raw.response.sse") {
        let said = said(&read("groq", std::iter::once(body.as_slice())).unwrap());
        assert_eq!(said.stop, "tool_use", "{name}");
        assert_eq!(
            said.calls,
            [("get_something_by_name".to_owned(), serde_json::json!({"invalid_param": "value"}))]
        );
    }
}

#[test]
fn recorded_errors_are_what_they_mean() {
    for (folder, file, status, kind, words) in [
        ("openai_chat", "error_401", 401, FaultKind::Auth, "Incorrect API key"),
        ("openai_chat", "error_400_max_tokens", 400, FaultKind::Caller, "max_completion_tokens"),
        ("openai_chat", "error_404_model", 404, FaultKind::ModelNotFound, "gpt-5.2-proo"),
        ("openrouter", "error_429", 429, FaultKind::RateLimited, "temporarily rate-limited upstream"),
        ("openrouter", "error_400", 400, FaultKind::ModelNotFound, "not a valid model"),
        ("deepseek", "error_400_image", 400, FaultKind::Caller, "image_url"),
        ("deepseek", "error_400_tool_choice", 400, FaultKind::Caller, "tool_choice"),
        ("groq", "tool_use_failed_400", 400, FaultKind::Protocol, "did not match schema"),
        ("mistral", "error_400", 400, FaultKind::ModelNotFound, "Invalid model"),
        (
            "llamacpp",
            "error_context_overflow",
            400,
            FaultKind::ContextLength,
            "prompt is too long: 2009 tokens > 512 maximum",
        ),
        ("llamacpp", "error_tools_without_jinja", 500, FaultKind::Caller, "--jinja"),
        ("llamacpp", "error_image_no_mmproj", 500, FaultKind::Caller, "mmproj"),
    ] {
        for (name, body) in recordings(folder, &format!("{file}.response.json")) {
            let fault = error::read(status, &HeaderMap::new(), &body, table::by_name("generic").unwrap());
            assert_eq!(fault.kind, kind, "{folder}/{name}: {}", fault.message);
            assert!(fault.message.contains(words), "{folder}/{name}: {}", fault.message);
        }
    }
}

#[test]
fn reported_envelopes_are_what_they_mean() {
    let all =
        [("error_envelopes", "recorded_variants.json"), ("reported_errors", "reported_error_bodies.json")];
    for (folder, file) in all {
        for (_, body) in recordings(folder, file) {
            for entry in serde_json::from_slice::<Vec<Value>>(&body).unwrap() {
                let status = u16::try_from(entry["status"].as_u64().unwrap()).unwrap();
                let body = entry["body"].to_string();
                let fault = error::read(
                    status,
                    &HeaderMap::new(),
                    body.as_bytes(),
                    table::by_name("generic").unwrap(),
                );
                let text = body.to_lowercase();
                let overflow = ["prompt is too long", "exceed context limit", "context length of"];
                let wanted = match status {
                    _ if overflow.iter().any(|sign| text.contains(sign)) => FaultKind::ContextLength,
                    401 => FaultKind::Auth,
                    402 => FaultKind::Billing,
                    404 => FaultKind::ModelNotFound,
                    429 => FaultKind::RateLimited,
                    529 => FaultKind::Overloaded,
                    _ if text.contains("model not found") || text.contains("model identifier") => {
                        FaultKind::ModelNotFound
                    }
                    _ => FaultKind::Caller,
                };
                assert_eq!(fault.kind, wanted, "{body}");
                assert!(!fault.message.starts_with('{'), "{}", fault.message);
            }
        }
    }
}
