//! What an answer cost in tokens, in three disjoint input buckets as Anthropic counts them.
//!
//! Source: Anthropic API reference, "Messages", object `usage`.

use serde::Serialize;

/// Tokens of one answer. Total input is the sum of the three input buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Input that was neither read from nor written to a prompt cache.
    pub input: u64,
    /// Input read from the upstream's prompt cache.
    pub cache_read: u64,
    /// Input written to the upstream's prompt cache.
    pub cache_creation: u64,
    /// Output, reasoning included.
    pub output: u64,
    /// The part of the output that was reasoning, where the upstream says so.
    pub thinking: Option<u64>,
    /// True where the upstream gave no figures and these are ours.
    pub estimated: bool,
}

impl Usage {
    /// Both together: an estimate if one of them is.
    pub fn plus(self, other: Usage) -> Usage {
        Usage {
            input: self.input.saturating_add(other.input),
            cache_read: self.cache_read.saturating_add(other.cache_read),
            cache_creation: self.cache_creation.saturating_add(other.cache_creation),
            output: self.output.saturating_add(other.output),
            thinking: match (self.thinking, other.thinking) {
                (None, None) => None,
                (a, b) => Some(a.unwrap_or(0).saturating_add(b.unwrap_or(0))),
            },
            estimated: self.estimated || other.estimated,
        }
    }

    /// All input, whatever became of it.
    pub fn total_input(&self) -> u64 {
        self.input.saturating_add(self.cache_read).saturating_add(self.cache_creation)
    }

    /// Input and output together: what a tokens-per-minute limit counts.
    pub fn total(&self) -> u64 {
        self.total_input().saturating_add(self.output)
    }
}
