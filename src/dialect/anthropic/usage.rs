//! The `usage` and stop fields of messages and stream events, as servers really send them.
//!
//! Source: Anthropic API reference, "Messages", objects `usage` and `stop_details`.

use serde::Deserialize;

use crate::dialect::json::{Count, Str};
use crate::dialect::{Stop, Usage};

/// A `usage` object. Every field may be missing or `null`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct UsageJson {
    input_tokens: Option<Count>,
    cache_read_input_tokens: Option<Count>,
    cache_creation_input_tokens: Option<Count>,
    output_tokens: Option<Count>,
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct OutputDetails {
    thinking_tokens: Option<Count>,
}

/// Why an answer ended, as it stands in a message or in the `delta` of a `message_delta`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct StopJson<'a> {
    #[serde(borrow)]
    stop_reason: Option<Str<'a>>,
    #[serde(borrow)]
    stop_sequence: Option<Str<'a>>,
    #[serde(borrow)]
    stop_details: Option<StopDetails<'a>>,
}

#[derive(Debug, Default, Deserialize)]
struct StopDetails<'a> {
    #[serde(borrow)]
    explanation: Option<Str<'a>>,
}

// === impl UsageJson ===

impl UsageJson {
    /// Counts in a stream are totals so far: each one that is given replaces the one before.
    pub(super) fn apply(&self, usage: &mut Option<Usage>) {
        let counts = [
            self.input_tokens,
            self.cache_read_input_tokens,
            self.cache_creation_input_tokens,
            self.output_tokens,
        ];
        if counts.iter().all(Option::is_none) {
            return;
        }
        let usage = usage.get_or_insert_default();
        let set = |into: &mut u64, count: Option<Count>| *into = count.map_or(*into, |Count(count)| count);
        set(&mut usage.input, self.input_tokens);
        set(&mut usage.cache_read, self.cache_read_input_tokens);
        set(&mut usage.cache_creation, self.cache_creation_input_tokens);
        set(&mut usage.output, self.output_tokens);
        if let Some(Count(thinking)) = self.output_tokens_details.and_then(|details| details.thinking_tokens)
        {
            usage.thinking = Some(thinking);
        }
    }
}

// === impl StopJson ===

impl StopJson<'_> {
    /// The reason, if there is one yet.
    pub(super) fn stop(&self) -> Option<Stop> {
        let owned = |text: &Option<Str<'_>>| text.as_ref().map(|text| text.to_string());
        Some(match &**self.stop_reason.as_ref()? {
            "end_turn" => Stop::EndTurn,
            "tool_use" => Stop::ToolUse,
            "max_tokens" => Stop::MaxTokens,
            "stop_sequence" => Stop::StopSequence(owned(&self.stop_sequence)),
            "refusal" => {
                Stop::Refusal(self.stop_details.as_ref().and_then(|details| owned(&details.explanation)))
            }
            "pause_turn" => Stop::PauseTurn,
            "model_context_window_exceeded" => Stop::ContextWindow,
            other => Stop::Other(other.to_owned()),
        })
    }
}
