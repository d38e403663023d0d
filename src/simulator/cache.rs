//! A prompt cache as the providers have one: prefixes that were seen before count as read.
//!
//! Anthropic writes to its cache only where a `cache_control` stands, and finds what was written at any
//! earlier block; the others remember every prefix. `cache_control` itself is not part of a prefix.

use std::collections::{HashSet, VecDeque};

use serde_json::Value;

use super::ask::list;
use crate::dialect::Dialect;

/// How many prefixes are remembered.
const REMEMBERED: usize = 8192;

/// The prefixes seen so far, oldest first.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    known: HashSet<u64>,
    order: VecDeque<u64>,
}

/// How the input of a request splits, in tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hit {
    pub input: u64,
    pub read: u64,
    pub written: u64,
}

/// The end of a block: the prefix up to it.
#[derive(Clone, Copy, Debug)]
struct Mark {
    hash: u64,
    bytes: u64,
    /// A `cache_control` stands here, or the dialect needs none.
    stored: bool,
}

// === impl Prefixes ===

impl Prefixes {
    /// Looks a prompt up, remembers it, and says how its input splits.
    pub fn see(&mut self, dialect: Dialect, model: &str, body: &Value, body_bytes: usize) -> Hit {
        let marks = marks(dialect, model, body);
        let total = (body_bytes as u64).div_ceil(4);
        let read = marks.iter().rev().find(|mark| self.known.contains(&mark.hash)).map_or(0, |m| m.bytes / 4);
        let read = read.min(total);
        let stored = marks.iter().rev().find(|mark| mark.stored).map_or(0, |mark| mark.bytes / 4).min(total);
        for mark in marks.iter().filter(|mark| mark.stored) {
            self.remember(mark.hash);
        }
        // Only Anthropic bills what it writes.
        let written = if dialect == Dialect::Anthropic { stored.saturating_sub(read) } else { 0 };
        Hit { input: total - read - written, read, written }
    }

    fn remember(&mut self, hash: u64) {
        if self.known.insert(hash) {
            self.order.push_back(hash);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

fn marks(dialect: Dialect, model: &str, body: &Value) -> Vec<Mark> {
    let explicit = dialect == Dialect::Anthropic;
    let mut hash = Hasher::default();
    hash.bytes(model.as_bytes());
    hash.length = 0;
    let mut marks = Vec::new();
    let mut add = |label: &str, block: &Value| {
        hash.bytes(label.as_bytes());
        hash.value(block);
        let stored = !explicit || block.get("cache_control").is_some_and(|control| !control.is_null());
        marks.push(Mark { hash: hash.state, bytes: hash.length, stored });
    };
    for tool in list(body, "tools") {
        add("tool", tool);
    }
    for system in ["system", "instructions", "systemInstruction"] {
        match &body[system] {
            Value::Null => {}
            Value::Array(blocks) => blocks.iter().for_each(|block| add(system, block)),
            whole => add(system, whole),
        }
    }
    for messages in ["messages", "input", "contents"] {
        for message in list(body, messages) {
            let role = message["role"].as_str().unwrap_or_default();
            match &message["content"] {
                Value::Array(blocks) => blocks.iter().for_each(|block| add(role, block)),
                // A text is the same prompt as one block with that text.
                Value::String(text) => {
                    add(role, &serde_json::json!({"type": "text", "text": text}));
                }
                _ => add(role, message),
            }
            if !message["tool_calls"].is_null() {
                add(role, &message["tool_calls"]);
            }
        }
    }
    // A marker at the top level stands for one on the last block.
    if explicit
        && body["cache_control"].is_object()
        && let Some(last) = marks.last_mut()
    {
        last.stored = true;
    }
    marks
}

/// FNV-1a over values, which counts what it took.
struct Hasher {
    state: u64,
    length: u64,
}

// === impl Hasher ===

impl Default for Hasher {
    fn default() -> Hasher {
        Hasher { state: 0xcbf2_9ce4_8422_2325, length: 0 }
    }
}

impl Hasher {
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.state = (self.state ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self.length += bytes.len() as u64;
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.bytes(b"null"),
            Value::Bool(true) => self.bytes(b"true"),
            Value::Bool(false) => self.bytes(b"false"),
            Value::Number(number) => self.bytes(number.to_string().as_bytes()),
            Value::String(text) => {
                self.bytes(b"\"");
                self.bytes(text.as_bytes());
                self.bytes(b"\"");
            }
            Value::Array(items) => {
                self.bytes(b"[");
                for item in items {
                    self.value(item);
                }
                self.bytes(b"]");
            }
            Value::Object(members) => {
                self.bytes(b"{");
                for (name, member) in members.iter().filter(|(name, _)| *name != "cache_control") {
                    self.bytes(name.as_bytes());
                    self.bytes(b":");
                    self.value(member);
                }
                self.bytes(b"}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn turn(text: &str, marked: bool) -> Value {
        if marked {
            json!({"role": "user", "content": [
                {"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}]})
        } else {
            json!({"role": "user", "content": [{"type": "text", "text": text}]})
        }
    }

    #[test]
    fn a_marker_that_moves_on_still_finds_what_it_wrote() {
        let mut prefixes = Prefixes::default();
        let long = "x".repeat(400);
        let first = json!({"messages": [turn(&long, true)]});
        let hit = prefixes.see(Dialect::Anthropic, "m", &first, 600);
        assert_eq!(hit.read, 0);
        assert!(hit.written >= 100);
        let second = json!({"messages": [turn(&long, false), turn("more", true)]});
        let next = prefixes.see(Dialect::Anthropic, "m", &second, 700);
        assert_eq!(next.read, hit.written);
        assert_eq!(prefixes.see(Dialect::Anthropic, "other", &second, 700).read, 0);
    }

    #[test]
    fn nothing_is_written_without_a_marker() {
        let mut prefixes = Prefixes::default();
        let body = json!({"messages": [turn("hello", false)]});
        prefixes.see(Dialect::Anthropic, "m", &body, 100);
        assert_eq!(prefixes.see(Dialect::Anthropic, "m", &body, 100), Hit { input: 25, read: 0, written: 0 });
        prefixes.see(Dialect::OpenAiChat, "m", &body, 100);
        assert!(prefixes.see(Dialect::OpenAiChat, "m", &body, 100).read > 0);
    }
}
