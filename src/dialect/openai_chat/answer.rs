//! Answers in the Chat Completions dialect: as a stream of chunks, or as one completion; and errors.
//!
//! Reasoning goes in the fields that clients of this dialect read (`reasoning_content`, `reasoning`), and once
//! more with its signature in `reasoning_details`, so that they can send it back. Server tools of Anthropic's
//! have no counterpart and are left out.
//!
//! Sources: OpenAI API reference, "Chat", objects `chat.completion` and `chat.completion.chunk`; OpenRouter's
//! guide to reasoning tokens.

pub mod error;
mod stream;
mod whole;

pub use stream::{StreamWriter, error_event, keep_alive};
pub use whole::CompletionBuilder;

use bytes::BytesMut;

use super::to_messages::ANTHROPIC_FORMAT;
use crate::dialect::citation::{Citation, Page};
use crate::dialect::json::{write_str, write_u64};
use crate::dialect::{Stop, Usage, carrier};

/// What a writer knows of the answer before it begins.
#[derive(Clone, Debug, Default)]
pub struct Heading {
    /// The model as the caller named it.
    pub model: String,
    /// Our id, for upstreams that give none: without `chatcmpl-`.
    pub id: String,
    /// Now, in seconds since 1970.
    pub created: u64,
    /// Input tokens as we estimate them.
    pub estimate: u64,
    /// Whether the caller wants the usage of a stream.
    pub include_usage: bool,
    /// The names of tools that take free text.
    pub custom: Vec<String>,
}

/// The `format` of reasoning that we carry for other upstreams.
const OUR_FORMAT: &str = "cproxy-v1";

// === impl Heading ===

impl Heading {
    /// Reads of a Chat request what its answer depends on. `model`, `id`, `created` and `estimate` stay to be set.
    pub fn read(body: &[u8]) -> Heading {
        #[derive(Default, serde::Deserialize)]
        #[serde(default)]
        struct Asked {
            stream_options: Option<Options>,
            tools: Option<Vec<Tool>>,
        }
        #[derive(Default, serde::Deserialize)]
        #[serde(default)]
        struct Options {
            include_usage: Option<bool>,
        }
        #[derive(serde::Deserialize)]
        struct Tool {
            custom: Option<Named>,
        }
        #[derive(serde::Deserialize)]
        struct Named {
            name: String,
        }
        let asked: Asked = serde_json::from_slice(body).unwrap_or_default();
        let custom = asked.tools.unwrap_or_default().into_iter().filter_map(|tool| Some(tool.custom?.name));
        Heading {
            include_usage: asked.stream_options.and_then(|options| options.include_usage).unwrap_or(false),
            custom: custom.collect(),
            ..Heading::default()
        }
    }

    /// The answer's id: the upstream's, in the form that callers know, or ours.
    fn answer_id(&self, upstream: &str) -> String {
        let kept: String = upstream
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
            .take(200)
            .collect();
        match kept.as_str() {
            "" => format!("chatcmpl-{}", self.id),
            id if id.starts_with("chatcmpl-") => kept,
            id => format!("chatcmpl-{id}"),
        }
    }

    /// The upstream's figures; ours where it gave none. `written`: bytes of output.
    fn usage(&self, usage: Option<Usage>, written: u64) -> Usage {
        let mut usage = usage.unwrap_or_default();
        if usage.total_input() == 0 {
            usage.input = self.estimate.max(1);
            usage.estimated = true;
        }
        if usage.output == 0 && written > 0 {
            usage.output = (written * 5).div_ceil(18); // 3.6 bytes to a token
            usage.estimated = true;
        }
        usage
    }
}

fn finish_reason(stop: &Stop) -> &'static str {
    match stop {
        Stop::EndTurn | Stop::StopSequence(_) | Stop::PauseTurn | Stop::Other(_) => "stop",
        Stop::ToolUse => "tool_calls",
        Stop::MaxTokens | Stop::ContextWindow => "length",
        Stop::Refusal(_) => "content_filter",
    }
}

/// The text of a free-text tool's call.
pub(crate) fn free_text(arguments: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Input {
        input: String,
    }
    serde_json::from_str::<Input>(arguments).map_or_else(|_| arguments.to_owned(), |input| input.input)
}

fn write_usage(out: &mut BytesMut, usage: &Usage) {
    out.extend_from_slice(b"{\"prompt_tokens\":");
    write_u64(out, usage.total_input());
    out.extend_from_slice(b",\"completion_tokens\":");
    write_u64(out, usage.output);
    out.extend_from_slice(b",\"total_tokens\":");
    write_u64(out, usage.total());
    out.extend_from_slice(b",\"prompt_tokens_details\":{\"cached_tokens\":");
    write_u64(out, usage.cache_read);
    out.extend_from_slice(b",\"cache_write_tokens\":");
    write_u64(out, usage.cache_creation);
    out.extend_from_slice(b"},\"completion_tokens_details\":{\"reasoning_tokens\":");
    write_u64(out, usage.thinking.unwrap_or(0));
    out.extend_from_slice(b"}}");
}

/// The characters of the text so far, and where its last block begins: citations tell places by them.
#[derive(Debug, Default)]
pub(in crate::dialect) struct Ruler {
    block: u64,
    end: u64,
}

impl Ruler {
    /// More text.
    pub(in crate::dialect) fn text(&mut self, text: &str) {
        self.end += text.chars().count() as u64;
    }

    /// The block ends: the pages that back it, each with the characters from and to.
    pub(in crate::dialect) fn cited(&mut self, citations: &[Citation]) -> Vec<(Page, u64, u64)> {
        let (start, length) = (self.block, self.end - self.block);
        self.block = self.end;
        let pages = citations.iter().filter_map(|citation| Some((citation, citation.of_page()?)));
        pages
            .map(|(citation, page)| {
                let (from, to) = citation.place(start, length);
                (page, from, to)
            })
            .collect()
    }
}

/// A page that backs the text between two characters.
fn write_annotation(out: &mut BytesMut, page: &Page, from: u64, to: u64) {
    out.extend_from_slice(b"{\"type\":\"url_citation\",\"url_citation\":{\"url\":");
    write_str(out, &page.url);
    out.extend_from_slice(b",\"title\":");
    write_str(out, &page.title);
    if !page.excerpt.is_empty() {
        out.extend_from_slice(b",\"content\":");
        write_str(out, &page.excerpt);
    }
    out.extend_from_slice(b",\"start_index\":");
    write_u64(out, from);
    out.extend_from_slice(b",\"end_index\":");
    write_u64(out, to);
    out.extend_from_slice(b"}}");
}

/// What proves a piece of reasoning, with its text where that was not said before.
fn write_signed(out: &mut BytesMut, text: Option<&str>, signature: &str, index: u64) {
    out.extend_from_slice(b"{\"type\":\"reasoning.text\"");
    if let Some(text) = text {
        out.extend_from_slice(b",\"text\":");
        write_str(out, text);
    }
    out.extend_from_slice(b",\"signature\":");
    write_str(out, signature);
    out.extend_from_slice(b",\"format\":");
    write_str(out, if carrier::is_ours(signature) { OUR_FORMAT } else { ANTHROPIC_FORMAT });
    out.extend_from_slice(b",\"index\":");
    write_u64(out, index);
    out.extend_from_slice(b"}");
}

fn write_encrypted(out: &mut BytesMut, data: &str, index: u64) {
    out.extend_from_slice(b"{\"type\":\"reasoning.encrypted\",\"data\":");
    write_str(out, data);
    out.extend_from_slice(b",\"format\":");
    write_str(out, ANTHROPIC_FORMAT);
    out.extend_from_slice(b",\"index\":");
    write_u64(out, index);
    out.extend_from_slice(b"}");
}
