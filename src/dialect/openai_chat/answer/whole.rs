//! The answer as one completion.

use bytes::{Bytes, BytesMut};

use super::{
    Heading, Ruler, finish_reason, free_text, write_annotation, write_encrypted, write_signed, write_usage,
};
use crate::dialect::json::{write_str, write_u64};
use crate::dialect::part::Sink;
use crate::dialect::{Part, Stop, Usage};

/// Builds the JSON of a whole completion from parts.
#[derive(Debug)]
pub struct CompletionBuilder {
    heading: Heading,
    id: String,
    text: Option<String>,
    reasoning: String,
    /// The reasoning since the last signature.
    thought: String,
    details: BytesMut,
    n_details: u64,
    annotations: BytesMut,
    ruler: Ruler,
    calls: BytesMut,
    n_calls: u64,
    written: u64,
    end: Option<(Stop, Option<Usage>)>,
}

// === impl CompletionBuilder ===

impl CompletionBuilder {
    /// An answer under this heading.
    pub fn new(heading: Heading) -> CompletionBuilder {
        CompletionBuilder {
            heading,
            id: String::new(),
            text: None,
            reasoning: String::new(),
            thought: String::new(),
            details: BytesMut::new(),
            n_details: 0,
            annotations: BytesMut::new(),
            ruler: Ruler::default(),
            calls: BytesMut::new(),
            n_calls: 0,
            written: 0,
            end: None,
        }
    }

    /// The completion; `None` if the answer has not ended well.
    pub fn finish(self) -> Option<Bytes> {
        let (stop, usage) = self.end.as_ref()?;
        let mut out = BytesMut::with_capacity(512 + self.text.as_ref().map_or(0, String::len));
        out.extend_from_slice(b"{\"id\":");
        write_str(&mut out, &self.heading.answer_id(&self.id));
        out.extend_from_slice(b",\"object\":\"chat.completion\",\"created\":");
        write_u64(&mut out, self.heading.created);
        out.extend_from_slice(b",\"model\":");
        write_str(&mut out, &self.heading.model);
        out.extend_from_slice(b",\"system_fingerprint\":null,\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":");
        match &self.text {
            Some(text) => write_str(&mut out, text),
            None if self.n_calls == 0 && !matches!(stop, Stop::Refusal(_)) => write_str(&mut out, ""),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"refusal\":");
        match stop {
            Stop::Refusal(why) => {
                write_str(&mut out, why.as_deref().unwrap_or("The model refused to answer."))
            }
            _ => out.extend_from_slice(b"null"),
        }
        if !self.reasoning.is_empty() {
            for field in ["reasoning_content", "reasoning"] {
                out.extend_from_slice(b",");
                write_str(&mut out, field);
                out.extend_from_slice(b":");
                write_str(&mut out, &self.reasoning);
            }
        }
        if self.n_details > 0 {
            out.extend_from_slice(b",\"reasoning_details\":[");
            out.extend_from_slice(&self.details);
            out.extend_from_slice(b"]");
        }
        if !self.annotations.is_empty() {
            out.extend_from_slice(b",\"annotations\":[");
            out.extend_from_slice(&self.annotations);
            out.extend_from_slice(b"]");
        }
        if self.n_calls > 0 {
            out.extend_from_slice(b",\"tool_calls\":[");
            out.extend_from_slice(&self.calls);
            out.extend_from_slice(b"]");
        }
        out.extend_from_slice(b"},\"logprobs\":null,\"finish_reason\":");
        write_str(&mut out, finish_reason(stop));
        out.extend_from_slice(b"}],\"usage\":");
        write_usage(&mut out, &self.heading.usage(*usage, self.written));
        out.extend_from_slice(b"}");
        Some(out.freeze())
    }

    fn detail(&mut self, write: impl FnOnce(&mut BytesMut, u64)) {
        if self.n_details > 0 {
            self.details.extend_from_slice(b",");
        }
        write(&mut self.details, self.n_details);
        self.n_details += 1;
    }
}

impl Sink for CompletionBuilder {
    fn part(&mut self, part: Part<'_>) {
        if self.end.is_some() {
            return;
        }
        match part {
            Part::Start { id, .. } => {
                if self.id.is_empty() {
                    self.id = id.into_owned();
                }
            }
            Part::Block(_) => {}
            Part::Text(text) => {
                if !text.is_empty() {
                    self.written += text.len() as u64;
                    self.ruler.text(&text);
                    self.text.get_or_insert_default().push_str(&text);
                }
            }
            Part::Citations(citations) => {
                for (page, from, to) in self.ruler.cited(&citations) {
                    if !self.annotations.is_empty() {
                        self.annotations.extend_from_slice(b",");
                    }
                    write_annotation(&mut self.annotations, &page, from, to);
                }
            }
            Part::Thinking(text) => {
                self.written += text.len() as u64;
                self.reasoning.push_str(&text);
                self.thought.push_str(&text);
            }
            Part::Signature(signature) => {
                let thought = std::mem::take(&mut self.thought);
                if !signature.is_empty() {
                    self.detail(|out, index| write_signed(out, Some(&thought), &signature, index));
                }
            }
            Part::RedactedThinking(data) => self.detail(|out, index| write_encrypted(out, &data, index)),
            Part::Call { id, name, arguments } => {
                self.written += (name.len() + arguments.len()) as u64;
                if self.n_calls > 0 {
                    self.calls.extend_from_slice(b",");
                }
                self.n_calls += 1;
                let is_custom = self.heading.custom.iter().any(|custom| *custom == name);
                let text = if is_custom { free_text(&arguments) } else { arguments.into_owned() };
                let (kind, field) = if is_custom { ("custom", "input") } else { ("function", "arguments") };
                self.calls.extend_from_slice(b"{\"id\":");
                write_str(&mut self.calls, &id);
                self.calls
                    .extend_from_slice(format!(",\"type\":\"{kind}\",\"{kind}\":{{\"name\":").as_bytes());
                write_str(&mut self.calls, &name);
                self.calls.extend_from_slice(format!(",\"{field}\":").as_bytes());
                write_str(&mut self.calls, &text);
                self.calls.extend_from_slice(b"}}");
            }
            Part::End { stop, usage } => self.end = Some((stop, usage)),
        }
    }
}
