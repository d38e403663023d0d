//! An answer, ready to be written in any dialect: what is said, with ids, signatures and usage.
//!
//! Everything in it follows from the request's bytes, so the same request gets the same answer.

use serde_json::Value;

use super::ask::Ask;
use super::cache::Hit;
use super::script::{Answer, Say};
use crate::dialect::{Dialect, Usage};

/// What a signature of the simulator's starts with. It accepts no other.
pub(super) const SIGNATURE: &str = "simsig1-";

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    /// The request's fingerprint, from which ids are made.
    pub fingerprint: u64,
    pub id: String,
    pub model: String,
    pub said: Vec<Said>,
    /// Why it ends, in Anthropic's words or the script's.
    pub stop: String,
    pub stop_sequence: Option<String>,
    /// `None`: the answer gives no usage.
    pub usage: Option<Usage>,
}

/// One thing that is said.
#[derive(Clone, Debug)]
pub(super) enum Said {
    Text(String),
    Thinking { text: String, signature: String },
    Redacted(String),
    Call { id: String, name: String, arguments: String },
    Refusal(String),
}

/// Makes the answer that a script, or the polite model, gives to a request.
pub(super) fn make(ask: &Ask, answer: &Answer, polite: Vec<Say>, fingerprint: u64, hit: Hit) -> Reply {
    let mut stop = answer.stop.clone();
    let mut stop_sequence = None;
    let mut parts = polite;
    if let Some(scripted) = &answer.parts {
        parts.clone_from(scripted);
    } else {
        // Only the polite model keeps to limits; a script says what it wants.
        let (cut_stop, sequence) = limit(&mut parts, ask);
        stop = stop.or(cut_stop);
        stop_sequence = sequence;
    }
    let said: Vec<Said> = parts
        .into_iter()
        .enumerate()
        .map(|(at, say)| match say {
            Say::Text(text) => Said::Text(text),
            Say::Thinking(text) => {
                let text = if ask.thinking_shown { text } else { String::new() };
                Said::Thinking { signature: sign(&text), text }
            }
            Say::Redacted(text) => Said::Redacted(sign(&text)),
            Say::Call(call) => Said::Call {
                id: call.id.unwrap_or_else(|| call_id(ask.dialect, fingerprint, at)),
                name: call.name,
                arguments: call.raw.unwrap_or_else(|| arguments(&call.arguments)),
            },
            Say::Refusal(text) => Said::Refusal(text),
        })
        .collect();
    let stop = stop.unwrap_or_else(|| natural_stop(&said).to_owned());
    let figures = &answer.usage;
    let thinking = figures.thinking.or_else(|| thinking_tokens(&said));
    let usage = Usage {
        input: figures.input.unwrap_or(hit.input),
        cache_read: figures.cache_read.unwrap_or(hit.read),
        cache_creation: figures.cache_creation.unwrap_or(hit.written),
        output: figures.output.unwrap_or_else(|| said.iter().map(Said::tokens).sum::<u64>().max(1)),
        thinking,
        estimated: false,
    };
    Reply {
        fingerprint,
        id: answer.id.clone().unwrap_or_else(|| answer_id(ask, fingerprint)),
        model: answer.model.clone().unwrap_or_else(|| ask.model.clone()),
        said,
        stop,
        stop_sequence,
        usage: (!figures.none).then_some(usage),
    }
}

/// The signature of a piece of reasoning.
pub(super) fn sign(text: &str) -> String {
    format!("{SIGNATURE}{:016x}", fnv(text.as_bytes()))
}

/// Whether a signature is the simulator's own, and of this text.
pub(super) fn is_signed(text: &str, signature: &str) -> bool {
    sign(text) == signature
}

/// FNV-1a: the same on every machine and in every version of Rust.
pub(super) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Tokens of a text: four bytes each.
pub(super) fn tokens(text: &str) -> u64 {
    (text.len() as u64).div_ceil(4)
}

// === impl Said ===

impl Said {
    fn tokens(&self) -> u64 {
        match self {
            Said::Text(text) | Said::Thinking { text, .. } | Said::Refusal(text) => tokens(text),
            Said::Redacted(data) => tokens(data),
            Said::Call { name, arguments, .. } => tokens(name) + tokens(arguments),
        }
    }
}

fn natural_stop(said: &[Said]) -> &'static str {
    if said.iter().any(|said| matches!(said, Said::Refusal(_))) {
        "refusal"
    } else if said.iter().any(|said| matches!(said, Said::Call { .. })) {
        "tool_use"
    } else {
        "end_turn"
    }
}

fn thinking_tokens(said: &[Said]) -> Option<u64> {
    let thinking = said.iter().filter(|said| matches!(said, Said::Thinking { .. } | Said::Redacted(_)));
    let tokens: u64 = thinking.map(Said::tokens).sum();
    (tokens > 0).then_some(tokens)
}

/// Cuts texts at a stop sequence, and all of it at the limit on output.
fn limit(parts: &mut Vec<Say>, ask: &Ask) -> (Option<String>, Option<String>) {
    for at in 0..parts.len() {
        let Say::Text(text) = &mut parts[at] else { continue };
        let found = ask.stop.iter().filter(|stop| !stop.is_empty());
        let found = found.filter_map(|stop| text.find(stop.as_str()).map(|place| (place, stop)));
        if let Some((place, stop)) = found.min_by_key(|(place, _)| *place) {
            text.truncate(place);
            let keep = if text.is_empty() { at } else { at + 1 };
            parts.truncate(keep);
            return (Some("stop_sequence".to_owned()), Some(stop.clone()));
        }
    }
    let Some(max) = ask.max_tokens else { return (None, None) };
    let mut left = max;
    for at in 0..parts.len() {
        let (Say::Text(text) | Say::Thinking(text)) = &mut parts[at] else { continue };
        let cost = tokens(text);
        if cost > left {
            let mut end = usize::try_from(left.saturating_mul(4)).unwrap_or(usize::MAX).min(text.len());
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
            let keep = if text.is_empty() { at } else { at + 1 };
            parts.truncate(keep);
            return (Some("max_tokens".to_owned()), None);
        }
        left -= cost;
    }
    (None, None)
}

fn arguments(value: &Value) -> String {
    if value.is_null() { "{}".to_owned() } else { value.to_string() }
}

fn answer_id(ask: &Ask, fingerprint: u64) -> String {
    match ask.dialect {
        Dialect::Anthropic => format!("msg_sim{fingerprint:016x}"),
        Dialect::OpenAiChat if ask.openrouter => format!("gen-sim-{fingerprint:016x}"),
        Dialect::OpenAiChat => format!("chatcmpl-sim{fingerprint:016x}"),
        Dialect::OpenAiResponses => format!("resp_sim{fingerprint:016x}"),
        Dialect::Gemini => format!("sim{fingerprint:016x}"),
    }
}

fn call_id(dialect: Dialect, fingerprint: u64, at: usize) -> String {
    match dialect {
        Dialect::Anthropic => format!("toolu_sim{fingerprint:016x}{at}"),
        _ => format!("call_sim{fingerprint:016x}{at}"),
    }
}
