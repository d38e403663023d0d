//! How many tokens a request holds, estimated from its text: for routing, for `count_tokens` at upstreams that
//! have none, and for the usage with which a translated answer begins.
//!
//! No tokenizer: the cost of a text is a sum over what can be counted in vectorised passes (words, letters,
//! digits, signs, blanks, escapes, characters outside ASCII), with weights that fit the tokenizers of current
//! models on prose, code and JSON. What is counted is JSON text as it stands in the body: looking at each string
//! apart would cost several times as much. Where in doubt it counts too many rather than too few, since an estimate
//! that is too low lets a request run into the model's limit.
//!
//! What images and documents cost: Anthropic documentation, "Vision" (width × height / 750) and "PDF support"
//! (1,500 to 3,000 tokens a page). What offering tools costs: the same, "Tool use", pricing table.

mod family;
mod tally;

pub use family::Family;
pub use tally::Tally;

use super::head;

/// What a request weighs. How many tokens that is depends on who reads it: [`Weight::tokens`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// Text, in hundredths of a token of an average tokenizer.
    pub text: u64,
    /// The same of characters outside ASCII, in which tokenizers differ most.
    pub foreign: u64,
    /// The same of what describes tools.
    pub tool_text: u64,
    /// Images and documents, in tokens.
    pub media: u64,
    /// What Anthropic adds for tools of its own, in tokens.
    pub vendor: u64,
    /// Messages, the system prompt among them.
    pub messages: u64,
    /// Tools.
    pub tools: u64,
    /// Calls of tools, and their results.
    pub calls: u64,
}

/// Anthropic's prompt about its web search.
pub const WEB_SEARCH: u64 = 2_200;
/// Anthropic's prompt about citations.
pub const CITATIONS: u64 = 560;
/// Anthropic's prompt about a remote MCP server, with one tool.
pub const MCP_SERVER: u64 = 650;
/// An image of unknown size.
pub const IMAGE: u64 = 1_500;
/// The most that an image costs; larger ones are scaled down.
pub const LARGEST_IMAGE: u64 = 1_600;
/// A page of a PDF.
pub const PDF_PAGE: u64 = 2_000;

/// Bytes of a PDF that stand for a page, where its pages aren't known.
const BYTES_PER_PAGE: u64 = 50_000;
/// The vendor refuses longer documents.
const MOST_PAGES: u64 = 600;

/// The estimate for a Messages body, as [`head::scan`] gives it. Never 0. A body that is no request is counted
/// by its bytes.
pub fn estimate(body: &[u8]) -> u64 {
    head::count(body)
}

/// The estimate for a text. 0 only for an empty one.
pub fn of_text(text: &str) -> u64 {
    let mut json = bytes::BytesMut::with_capacity(text.len() + text.len() / 8);
    super::json::write_escaped(&mut json, text);
    let mut tally = Tally::default();
    tally.text(&json);
    let weight = tally.weight();
    (weight.text + weight.foreign).div_ceil(100)
}

/// The estimate for a body that can't be read.
pub(super) fn of_bytes(bytes: &[u8]) -> u64 {
    (bytes.len() as u64 / 3).max(1)
}

/// An image with known width and height.
pub(super) fn image(width: u64, height: u64) -> u64 {
    (width.saturating_mul(height) / 750).clamp(1, LARGEST_IMAGE)
}

/// A PDF of so many bytes.
pub(super) fn pdf(bytes: u64) -> u64 {
    bytes.div_ceil(BYTES_PER_PAGE).clamp(1, MOST_PAGES) * PDF_PAGE
}

// === impl Weight ===

impl Weight {
    /// How many tokens a model of this family counts. Never 0.
    pub fn tokens(&self, family: Family) -> u64 {
        let scale = family.scale();
        let times = |count: u64, each: u64| count.saturating_mul(each);
        let text =
            [(self.text, scale.text), (self.foreign, scale.foreign), (self.tool_text, scale.tool_text)];
        let text = text.into_iter().fold(0u64, |sum, (count, each)| sum.saturating_add(times(count, each)));
        [
            text.div_ceil(10_000),
            self.media,
            if scale.is_vendor { self.vendor } else { 0 },
            scale.request,
            times(self.messages, scale.message),
            if self.tools > 0 { scale.first_tool } else { 0 },
            times(self.tools, scale.tool),
            times(self.calls, scale.call),
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
        .max(1)
    }

    /// Both together.
    pub fn and(self, other: Weight) -> Weight {
        Weight {
            text: self.text.saturating_add(other.text),
            foreign: self.foreign.saturating_add(other.foreign),
            vendor: self.vendor.saturating_add(other.vendor),
            tool_text: self.tool_text.saturating_add(other.tool_text),
            media: self.media.saturating_add(other.media),
            messages: self.messages.saturating_add(other.messages),
            tools: self.tools.saturating_add(other.tools),
            calls: self.calls.saturating_add(other.calls),
        }
    }

    /// The same, as what describes tools.
    pub fn of_tools(self) -> Weight {
        Weight { text: 0, tool_text: self.tool_text.saturating_add(self.text), ..self }
    }
}

#[cfg(test)]
mod tests;
