//! What backs a text, from every dialect to every other: the same pages, for the same words.

use bytes::Bytes;
use cproxy::dialect::anthropic::{MessageBuilder, StreamWriter};
use cproxy::dialect::citation::Citation;
use cproxy::dialect::openai_chat::{self, Context};
use cproxy::dialect::part::{Sink, Source};
use cproxy::dialect::{Part, Stop, Usage, anthropic, gemini, openai_responses, table};
use serde_json::{Value, json};

use crate::support::grammar;
use crate::support::recordings::recordings;
use crate::support::relay::relay;

fn context(row: &str) -> Context {
    Context::new(table::by_name(row).unwrap(), "asked")
}

/// The parts of one of our own streams.
fn parts(source: &mut dyn Source, provider: &str, name: &str) -> Vec<Part<'static>> {
    let (_, body) = recordings(provider, name).into_iter().find(|(found, _)| found == name).unwrap();
    let outcome = relay(source, [Bytes::from(body)]);
    outcome.result.unwrap();
    outcome.parts
}

fn cited() -> Vec<Part<'static>> {
    parts(&mut anthropic::Reader::new(), "anthropic", "own_citations_stream.response.sse")
}

fn give(parts: &[Part<'static>], sink: &mut dyn Sink) {
    parts.iter().for_each(|part| sink.part(part.clone()));
}

/// The data of each event.
fn events(bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).unwrap();
    text.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect()
}

/// The words that an annotation backs, by its page.
fn backed(text: &str, annotations: &[Value]) -> Vec<(String, String)> {
    let characters: Vec<char> = text.chars().collect();
    let place = |annotation: &Value| {
        let page =
            if annotation["url_citation"].is_object() { &annotation["url_citation"] } else { annotation };
        let at = |name: &str| page[name].as_u64().unwrap() as usize;
        let words: String = characters[at("start_index")..at("end_index")].iter().collect();
        (page["url"].as_str().unwrap().to_owned(), words)
    };
    annotations.iter().map(place).collect()
}

/// What the own stream says; a place in a document has no page.
fn wanted() -> Vec<(String, String)> {
    [
        ("https://example.org/himmel", "der Himmel ist blau 🌤"),
        ("https://example.org/gras", "und das Gras grün"),
    ]
    .map(|(url, words)| (url.to_owned(), words.to_owned()))
    .to_vec()
}

const TEXT: &str = "Kurz gesagt: der Himmel ist blau 🌤\n\nund das Gras grün.";

#[test]
fn anthropics_citations_become_annotations_of_chat_streamed_and_whole() {
    let mut writer = openai_chat::answer::StreamWriter::new(openai_chat::answer::Heading::default());
    give(&cited(), &mut writer);
    let chunks = events(&writer.take());
    let deltas = || chunks.iter().filter_map(|chunk| chunk["choices"].get(0)).map(|choice| &choice["delta"]);
    let text: String = deltas().filter_map(|delta| delta["content"].as_str()).collect();
    let annotations: Vec<Value> =
        deltas().flat_map(|delta| delta["annotations"].as_array().cloned().unwrap_or_default()).collect();
    assert_eq!(text, TEXT);
    assert_eq!(backed(&text, &annotations), wanted());
    assert_eq!(annotations[0]["url_citation"]["content"], "Der Himmel ist blau.");

    let mut builder = openai_chat::answer::CompletionBuilder::new(openai_chat::answer::Heading::default());
    give(&cited(), &mut builder);
    let whole: Value = serde_json::from_slice(&builder.finish().unwrap()).unwrap();
    let message = &whole["choices"][0]["message"];
    assert_eq!(message["content"], TEXT);
    assert_eq!(message["annotations"], Value::from(annotations), "the same as the stream");
}

#[test]
fn anthropics_citations_become_annotations_of_responses_streamed_and_whole() {
    let mut writer = openai_responses::answer::Writer::new(openai_responses::answer::Heading::default());
    give(&cited(), &mut writer);
    let events = events(&writer.take());
    let added: Vec<Value> = events
        .iter()
        .filter(|event| event["type"] == "response.output_text.annotation.added")
        .map(|event| event["annotation"].clone())
        .collect();
    let whole: Value = serde_json::from_slice(&writer.finish().unwrap()).unwrap();
    let part = &whole["output"][0]["content"][0];
    assert_eq!(part["text"], TEXT);
    assert_eq!(backed(TEXT, &added), wanted());
    assert_eq!(part["annotations"], Value::from(added), "the whole item says what the events said");
}

#[test]
fn annotations_of_chat_and_responses_become_anthropics_citations() {
    let chat = parts(
        &mut openai_chat::Reader::new(context("openai")),
        "openai_chat",
        "own_annotations_stream.response.sse",
    );
    let responses = parts(
        &mut openai_responses::Reader::new(context("openai")),
        "openai_responses",
        "own_served_tools_stream.response.sse",
    );
    let perplexity = parts(
        &mut openai_chat::Reader::new(context("perplexity")),
        "perplexity",
        "own_sources_stream.response.sse",
    );
    for (parts, pages) in [
        (
            chat,
            vec![
                ("https://example.org/rhein", "Rhein – Länge"),
                ("https://example.com/b", "https://example.com/b"),
            ],
        ),
        (responses, vec![("https://example.org/rust", "Rust 🦀")]),
        (perplexity, vec![("https://example.org/1", "Eins"), ("https://example.org/2", "Zwei")]),
    ] {
        let (mut stream, mut whole) =
            (StreamWriter::new("m", "msg_1", 1), MessageBuilder::new("m", "msg_1", 1));
        give(&parts, &mut stream);
        give(&parts, &mut whole);
        let summary = grammar::check(&stream.take()).unwrap();
        let citations: Vec<Value> = summary.citations.concat();
        let found: Vec<(&str, &str)> = citations
            .iter()
            .map(|citation| {
                assert_eq!(citation["type"], "web_search_result_location");
                assert!(citation["encrypted_index"].is_string() && citation["cited_text"].is_string());
                (citation["url"].as_str().unwrap(), citation["title"].as_str().unwrap())
            })
            .collect();
        assert_eq!(found, pages);
        let message: Value = serde_json::from_slice(&whole.finish().unwrap()).unwrap();
        let blocks = message["content"].as_array().unwrap();
        let text = blocks.iter().find(|block| block["citations"].is_array()).unwrap();
        assert_eq!(text["citations"], Value::from(citations));
    }
}

#[test]
fn what_responses_did_with_its_own_tools_has_anthropics_blocks() {
    let parts = parts(
        &mut openai_responses::Reader::new(context("openai")),
        "openai_responses",
        "own_served_tools_stream.response.sse",
    );
    let mut stream = StreamWriter::new("m", "msg_1", 1);
    give(&parts, &mut stream);
    let summary = grammar::check(&stream.take()).unwrap();
    let kinds: Vec<&str> = summary.blocks.iter().map(|block| block["type"].as_str().unwrap()).collect();
    let wanted = [
        "server_tool_use",
        "web_search_tool_result",
        "server_tool_use",
        "web_search_tool_result",
        "server_tool_use",
        "code_execution_tool_result",
        "mcp_tool_use",
        "mcp_tool_result",
    ];
    assert_eq!(kinds, wanted);
    for pair in summary.blocks.chunks(2) {
        assert_eq!(pair[0]["id"], pair[1]["tool_use_id"]);
    }
    assert_eq!(summary.blocks[0]["input"], json!({"query": "rust 漢"}));
    assert_eq!(summary.blocks[4]["input"], json!({"code": "print(1)\n"}));
    assert_eq!(summary.blocks[5]["content"]["stdout"], "1\n");
    assert_eq!(
        (&summary.blocks[6]["server_name"], &summary.blocks[6]["input"]),
        (&json!("docs"), &json!({"q": "a"}))
    );
    assert_eq!(summary.blocks[7]["content"][0]["text"], "says");
    assert_eq!(summary.usage["server_tool_use"], json!({"web_search_requests": 2, "web_fetch_requests": 0}));
    assert_eq!(summary.texts, ["Rust hält 🦀 fest."]);
}

#[test]
fn what_gemini_found_and_ran_has_its_blocks_and_citations() {
    let chunk =
        |candidate: Value| format!("data: {}\r\n\r\n", json!({"candidates": [candidate], "responseId": "r"}));
    let stream = [
        chunk(json!({"content": {"parts": [{"executableCode": {"language": "PYTHON", "code": "print(2)"}}]}})),
        chunk(json!({"content": {"parts": [{"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "2\n"}}]}})),
        chunk(json!({"content": {"parts": [{"text": "Es ist 2 – "}, {"inlineData": {"mimeType": "image/png", "data": "AA=="}}]}})),
        chunk(json!({"content": {"parts": [{"text": "sicher."}]}, "finishReason": "STOP", "safetyRatings": [],
            "groundingMetadata": {"webSearchQueries": ["2"], "searchEntryPoint": {"renderedContent": "<b>"},
                "groundingChunks": [{"web": {"uri": "https://example.org/2", "title": "zwei"}}, {"maps": {}}],
                "groundingSupports": [{"segment": {"endIndex": 5}, "groundingChunkIndices": [0]}]},
            "citationMetadata": {"citationSources": [{"uri": "https://example.org/buch", "startIndex": 0}, {"license": "x"}]}})),
    ]
    .concat();
    let outcome = relay(&mut gemini::Reader::new(context("gemini")), [Bytes::from(stream)]);
    outcome.result.unwrap();
    let summary = outcome.summary;
    assert_eq!(summary.texts, ["Es ist 2 – sicher."]);
    assert_eq!(summary.blocks[0]["input"]["code"], "print(2)");
    assert_eq!(summary.blocks[1]["tool_use_id"], summary.blocks[0]["id"]);
    assert_eq!(summary.blocks[1]["content"]["stdout"], "2\n");
    let urls: Vec<&Value> = summary.citations[0].iter().map(|citation| &citation["url"]).collect();
    assert_eq!(urls, ["https://example.org/2", "https://example.org/buch"]);
}

#[test]
fn citations_without_a_text_say_nothing() {
    let citation = Part::Citations(vec![Citation::page("https://example.org", None, "", None)]);
    let end = Part::End { stop: Stop::EndTurn, usage: Some(Usage::default()) };
    let parts = [citation.clone(), Part::Thinking("hm".into()), citation, end];
    let mut stream = StreamWriter::new("m", "msg_1", 1);
    give(&parts, &mut stream);
    let summary = grammar::check(&stream.take()).unwrap();
    assert!(summary.ended_well && summary.citations.is_empty());
}
