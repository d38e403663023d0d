//! The answer as chunks, written straight into one buffer.

use bytes::{Bytes, BytesMut};

use super::{
    Heading, Ruler, error, finish_reason, free_text, write_annotation, write_encrypted, write_signed,
    write_usage,
};
use crate::dialect::json::{write_escaped, write_str, write_u64};
use crate::dialect::part::Sink;
use crate::dialect::{Fault, Part, Stop, Usage};

/// Writes an answer as chunks. Feed it parts, and take the bytes whenever there are some.
#[derive(Debug)]
pub struct StreamWriter {
    heading: Heading,
    buffer: BytesMut,
    /// Every chunk up to its delta.
    opening: Vec<u8>,
    state: State,
    calls: u64,
    details: u64,
    ruler: Ruler,
    written: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Fresh,
    Started,
    Ended,
}

/// The most of a call's arguments that goes into one chunk, in bytes.
const PIECE: usize = 4096;

/// A sign of life: a comment, which clients skip.
pub fn keep_alive() -> Bytes {
    Bytes::from_static(b": keep-alive\n\n")
}

/// An error inside a stream: its end, and no good one. `[DONE]` never follows it.
pub fn error_event(fault: &Fault) -> Bytes {
    let mut out = BytesMut::from(&b"data: "[..]);
    error::write_body(&mut out, fault);
    out.extend_from_slice(b"\n\n");
    out.freeze()
}

// === impl StreamWriter ===

impl StreamWriter {
    /// An answer under this heading.
    pub fn new(heading: Heading) -> StreamWriter {
        StreamWriter {
            heading,
            buffer: BytesMut::new(),
            opening: Vec::new(),
            state: State::Fresh,
            calls: 0,
            details: 0,
            ruler: Ruler::default(),
            written: 0,
        }
    }

    /// The bytes written since the last time: whole events.
    pub fn take(&mut self) -> Bytes {
        self.buffer.split().freeze()
    }

    fn put(&mut self, text: &str) {
        self.buffer.extend_from_slice(text.as_bytes());
    }

    fn start(&mut self, upstream_id: &str) {
        if self.state != State::Fresh {
            return;
        }
        self.state = State::Started;
        let mut opening = BytesMut::from(&b"data: {\"id\":"[..]);
        write_str(&mut opening, &self.heading.answer_id(upstream_id));
        opening.extend_from_slice(b",\"object\":\"chat.completion.chunk\",\"created\":");
        write_u64(&mut opening, self.heading.created);
        opening.extend_from_slice(b",\"model\":");
        write_str(&mut opening, &self.heading.model);
        opening.extend_from_slice(b",\"system_fingerprint\":null,");
        self.opening = opening.to_vec();
        self.open();
        self.put("\"role\":\"assistant\",\"content\":\"\"");
        self.close(None);
    }

    /// Begins a chunk, up to the inside of its delta.
    fn open(&mut self) {
        self.buffer.extend_from_slice(&self.opening);
        self.put("\"choices\":[{\"index\":0,\"delta\":{");
    }

    fn close(&mut self, finish: Option<&str>) {
        self.put("},\"logprobs\":null,\"finish_reason\":");
        match finish {
            Some(reason) => write_str(&mut self.buffer, reason),
            None => self.put("null"),
        }
        self.put("}]");
        if self.heading.include_usage {
            self.put(",\"usage\":null");
        }
        self.put("}\n\n");
    }

    fn thought(&mut self, text: &str) {
        self.written += text.len() as u64;
        self.open();
        self.put("\"reasoning_content\":\"");
        write_escaped(&mut self.buffer, text);
        self.put("\",\"reasoning\":\"");
        write_escaped(&mut self.buffer, text);
        // Whoever sends reasoning back puts these together, up to the one with the signature.
        self.put("\",\"reasoning_details\":[{\"type\":\"reasoning.text\",\"text\":\"");
        write_escaped(&mut self.buffer, text);
        self.put("\",\"index\":");
        write_u64(&mut self.buffer, self.details);
        self.put("}]");
        self.close(None);
    }

    fn detail(&mut self, write: impl FnOnce(&mut BytesMut, u64)) {
        self.open();
        self.put("\"reasoning_details\":[");
        write(&mut self.buffer, self.details);
        self.put("]");
        self.close(None);
        self.details += 1;
    }

    fn call(&mut self, id: &str, name: &str, arguments: &str) {
        self.written += (name.len() + arguments.len()) as u64;
        let is_custom = self.heading.custom.iter().any(|custom| custom == name);
        let text = if is_custom { free_text(arguments) } else { String::new() };
        let (kind, field, text) =
            if is_custom { ("custom", "input", text.as_str()) } else { ("function", "arguments", arguments) };
        self.open();
        self.put("\"tool_calls\":[{\"index\":");
        write_u64(&mut self.buffer, self.calls);
        self.put(",\"id\":");
        write_str(&mut self.buffer, id);
        self.put(&format!(",\"type\":\"{kind}\",\"{kind}\":{{\"name\":"));
        write_str(&mut self.buffer, name);
        self.put(&format!(",\"{field}\":\"\"}}}}]"));
        self.close(None);
        for piece in pieces(text) {
            self.open();
            self.put("\"tool_calls\":[{\"index\":");
            write_u64(&mut self.buffer, self.calls);
            self.put(&format!(",\"{kind}\":{{\"{field}\":\""));
            write_escaped(&mut self.buffer, piece);
            self.put("\"}}]");
            self.close(None);
        }
        self.calls += 1;
    }

    fn end(&mut self, stop: &Stop, usage: Option<Usage>) {
        if let Stop::Refusal(explanation) = stop {
            self.open();
            self.put("\"refusal\":");
            write_str(&mut self.buffer, explanation.as_deref().unwrap_or("The model refused to answer."));
            self.close(None);
        }
        self.open();
        self.close(Some(finish_reason(stop)));
        if self.heading.include_usage {
            self.buffer.extend_from_slice(&self.opening);
            self.put("\"choices\":[],\"usage\":");
            let usage = self.heading.usage(usage, self.written);
            write_usage(&mut self.buffer, &usage);
            self.put("}\n\n");
        }
        self.put("data: [DONE]\n\n");
        self.state = State::Ended;
    }
}

impl Sink for StreamWriter {
    fn part(&mut self, part: Part<'_>) {
        if self.state == State::Ended {
            return;
        }
        if let Part::Start { id, .. } = &part {
            self.start(id);
            return;
        }
        self.start("");
        match part {
            Part::Start { .. } | Part::Block(_) => {}
            Part::Text(text) => {
                if !text.is_empty() {
                    self.written += text.len() as u64;
                    self.ruler.text(&text);
                    self.open();
                    self.put("\"content\":\"");
                    write_escaped(&mut self.buffer, &text);
                    self.put("\"");
                    self.close(None);
                }
            }
            Part::Citations(citations) => {
                let pages = self.ruler.cited(&citations);
                if !pages.is_empty() {
                    self.open();
                    self.put("\"annotations\":[");
                    for (nth, (page, from, to)) in pages.iter().enumerate() {
                        self.put(if nth > 0 { "," } else { "" });
                        write_annotation(&mut self.buffer, page, *from, *to);
                    }
                    self.put("]");
                    self.close(None);
                }
            }
            Part::Thinking(text) => {
                if !text.is_empty() {
                    self.thought(&text);
                }
            }
            Part::Signature(signature) => {
                if !signature.is_empty() {
                    self.detail(|out, index| write_signed(out, None, &signature, index));
                }
            }
            Part::RedactedThinking(data) => self.detail(|out, index| write_encrypted(out, &data, index)),
            Part::Call { id, name, arguments } => self.call(&id, &name, &arguments),
            Part::End { stop, usage } => self.end(&stop, usage),
        }
    }
}

/// A text in pieces of at most [`PIECE`] bytes, cut between characters; one empty piece never comes.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (piece, after) = rest.split_at(rest.floor_char_boundary(PIECE.min(rest.len())));
        rest = after;
        Some(piece)
    })
}
