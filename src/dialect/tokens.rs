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

use super::anthropic::compose::generation;
use super::head;

/// Text and what stands beside it, added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    weight: Weight,
    /// Bytes of text so far.
    text: usize,
    /// Text that is not yet counted, behind the two bytes before it: short pieces share a pass.
    waiting: [u8; BLOCK + 2],
    /// How many bytes wait.
    filled: usize,
}

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

/// Models that count alike: by their vendor's tokenizer, and by how the vendor writes a request out for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// Anthropic's, up to 4.5.
    ClaudeTo45,
    /// Anthropic's 4.6.
    Claude46,
    /// Anthropic's newer ones: the most costly, and so what a model is taken for of which nothing is known.
    #[default]
    Claude,
    /// OpenAI's.
    OpenAi,
    /// Google's.
    Gemini,
    /// Others, as they are run by many: Qwen, Llama, DeepSeek, Mistral.
    Open,
}

/// How a family counts.
struct Scale {
    /// A text, in hundredths of what we say.
    text: u64,
    /// Characters outside ASCII, likewise.
    foreign: u64,
    /// What describes tools, likewise: some vendors write it out shorter than it came.
    tool_text: u64,
    /// A request beside its messages.
    request: u64,
    /// A message (and the system prompt) beside its content.
    message: u64,
    /// Offering any tools at all: the vendor's own prompt about them.
    first_tool: u64,
    /// A tool beside its text.
    tool: u64,
    /// A call or a result beside its content.
    call: u64,
    /// Whether the vendor's own tools are there, with the prompts that the vendor adds for them.
    is_vendor: bool,
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
/// Bytes of text up to which all of it is counted.
const EXACT: usize = 8_192;
/// Bytes that are counted in one go.
const BLOCK: usize = 64;
/// The vendor refuses longer documents.
const MOST_PAGES: u64 = 600;

/// What the kinds of characters cost, in hundredths of a token: fitted to OpenAI's o200k on prose, code, JSON and
/// configuration, each kind within 6 % of its true count.
mod weight {
    /// A run of letters begins.
    pub const WORD: u64 = 99;
    /// A letter.
    pub const LETTER: u64 = 3;
    /// An upper-case letter after a lower-case one: `camelCase` is several words.
    pub const HUMP: u64 = 104;
    /// A digit.
    pub const DIGIT: u64 = 75;
    /// A sign; signs that stand together share tokens.
    pub const SIGN: u64 = 48;
    /// A blank after a blank (a single one belongs to the word after it).
    pub const BLANK: u64 = 7;
    /// What an escape (a line end, a quote) costs less than two signs.
    pub const ESCAPED: u64 = 31;
    /// What a character that is escaped by its number costs less than its six signs, digits and letters.
    pub const NUMBERED: u64 = 330;
    /// A character of two bytes: accented letters, Greek, Cyrillic, Hebrew, Arabic.
    pub const TWO_BYTES: u64 = 33;
    /// A character of three bytes: mostly Chinese, Japanese, Korean.
    pub const THREE_BYTES: u64 = 69;
    /// A character of four bytes: emoji.
    pub const FOUR_BYTES: u64 = 200;
}

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

// === impl Family ===

impl Family {
    /// The family of a model, by its name (`claude-opus-4-8`, `openai/gpt-5.2`).
    pub fn of(model: &str) -> Family {
        let name = model.rsplit_once('/').map_or(model, |(_, name)| name).to_ascii_lowercase();
        let begins = |names: &[&str]| names.iter().any(|begin| name.starts_with(begin));
        match () {
            () if name.contains("claude") => match generation(&name) {
                Some(generation) if generation <= (4, 5) => Family::ClaudeTo45,
                Some((4, 6)) => Family::Claude46,
                _ => Family::Claude,
            },
            () if begins(&["gemini", "gemma"]) => Family::Gemini,
            () if begins(&["gpt-", "chatgpt", "codex", "o1", "o3", "o4"]) => Family::OpenAi,
            () if begins(OPEN) => Family::Open,
            () => Family::Claude,
        }
    }

    /// Found by comparison with what the vendors counted.
    fn scale(self) -> Scale {
        let claude = Scale {
            text: 105,
            foreign: 150,
            tool_text: 105,
            request: 8,
            message: 3,
            first_tool: 500,
            tool: 20,
            call: 46,
            is_vendor: true,
        };
        match self {
            Family::ClaudeTo45 => Scale { first_tool: 340, ..claude },
            Family::Claude46 => claude,
            // A new tokenizer, which the vendor says to need up to a third more.
            Family::Claude => Scale { text: 120, tool_text: 120, ..claude },
            Family::OpenAi => Scale {
                text: 100,
                foreign: 100,
                tool_text: 55,
                request: 3,
                message: 4,
                first_tool: 8,
                tool: 4,
                call: 6,
                is_vendor: false,
            },
            Family::Gemini => Scale {
                text: 100,
                foreign: 100,
                tool_text: 80,
                request: 1,
                message: 2,
                first_tool: 0,
                tool: 5,
                call: 6,
                is_vendor: false,
            },
            Family::Open => Scale {
                text: 105,
                foreign: 115,
                tool_text: 110,
                request: 4,
                message: 5,
                first_tool: 120,
                tool: 12,
                call: 20,
                is_vendor: false,
            },
        }
    }
}

/// How the names of models begin whose weights are open.
const OPEN: &[&str] = &[
    "qwen",
    "qwq",
    "llama",
    "meta-llama",
    "deepseek",
    "mistral",
    "ministral",
    "mixtral",
    "codestral",
    "devstral",
    "magistral",
    "pixtral",
    "glm",
    "kimi",
    "phi",
    "granite",
    "minimax",
    "grok",
    "command",
    "nemotron",
    "sonar",
];

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

// === impl Tally ===

impl Tally {
    /// Adds JSON text: the inside of a string, or a whole value.
    pub fn text(&mut self, text: &[u8]) {
        self.begin_piece();
        let mut rest = text;
        // The beginning of a long text goes with what waits; then whole blocks are counted where they stand.
        let (start, _) = rest.split_at(rest.len().min(BLOCK));
        self.take(start);
        self.text += start.len();
        while let Some(block) = rest.get(BLOCK - 2..).and_then(|rest| rest.first_chunk::<{ BLOCK + 2 }>()) {
            rest = rest.get(BLOCK..).unwrap_or_default();
            // Of a long text a quarter is counted, spread evenly: a window of 256 bytes in each 1,024.
            if self.text < EXACT {
                self.cost(block, 1);
            } else if self.text & 0x300 == 0 {
                self.cost(block, 4);
            }
            self.text += BLOCK;
        }
        let end = rest.get(BLOCK..).unwrap_or_default();
        self.take(end);
        self.text += end.len();
    }

    /// A blank, which costs nothing, stands between a piece and the one before it.
    fn begin_piece(&mut self) {
        if self.waiting.get(self.filled + 1) != Some(&b' ') {
            self.take(b" ");
        }
    }

    /// Lets text wait, and counts what waits whenever that fills a block.
    fn take(&mut self, piece: &[u8]) {
        let (now, later) = piece.split_at(piece.len().min(BLOCK - self.filled));
        self.put(now);
        if self.filled == BLOCK {
            self.count();
            self.put(later);
        }
    }

    fn put(&mut self, piece: &[u8]) {
        let from = self.filled + 2;
        if let Some(space) = self.waiting.get_mut(from..from + piece.len()) {
            space.copy_from_slice(piece);
            self.filled += piece.len();
        }
    }

    /// Counts what waits.
    fn count(&mut self) {
        let waiting = self.waiting;
        self.cost(&waiting, 1);
        self.waiting.copy_within(self.filled..self.filled + 2, 0);
        self.filled = 0;
    }

    /// Adds a block, so many times.
    fn cost(&mut self, block: &[u8; BLOCK + 2], times: u64) {
        self.weight.text += cost(block) * times;
        if !block.is_ascii() {
            self.weight.foreign += foreign(block) * times;
        }
    }

    /// A character that was or will be counted is escaped by its number.
    pub fn numbered(&mut self) {
        self.weight.text = self.weight.text.saturating_sub(weight::NUMBERED);
    }

    /// Adds an image or a document of so many tokens.
    pub fn media(&mut self, tokens: u64) {
        self.weight.media = self.weight.media.saturating_add(tokens);
    }

    /// Adds what Anthropic adds for a tool of its own.
    pub fn vendor(&mut self, tokens: u64) {
        self.weight.vendor = self.weight.vendor.saturating_add(tokens);
    }

    /// A message begins.
    pub fn message(&mut self) {
        self.weight.messages += 1;
    }

    /// A tool begins.
    pub fn tool(&mut self) {
        self.weight.tools += 1;
    }

    /// A call, or the result of one.
    pub fn call(&mut self) {
        self.weight.calls += 1;
    }

    /// What was added up.
    pub fn weight(mut self) -> Weight {
        // Zero is of no kind: what the text doesn't fill counts nothing.
        self.waiting[self.filled + 2..].fill(0);
        self.count();
        self.weight
    }
}

impl Default for Tally {
    fn default() -> Tally {
        Tally { weight: Weight::default(), text: 0, waiting: [b' '; BLOCK + 2], filled: 0 }
    }
}

/// What a block of text costs, behind the two bytes before it. A loop over arrays of fixed size, which compiles to
/// vector instructions; 64 keeps the counts within a byte.
fn cost(block: &[u8; BLOCK + 2]) -> u64 {
    let [mut letters, mut words, mut humps, mut digits, mut signs, mut blanks, mut escapes] = [0u8; 7];
    for at in 2..BLOCK + 2 {
        let (b, before, earlier) = (block[at], block[at - 1], block[at - 2]);
        let plain = before != b'\\'; // the letter of an escape belongs to no word
        let letter = is_letter(b) & plain;
        let in_word = is_letter(before) & (earlier != b'\\');
        letters += u8::from(letter);
        words += u8::from(letter & !in_word);
        humps += u8::from(is_upper(b) & is_lower(before));
        digits += u8::from(is_digit(b));
        signs += u8::from(is_visible(b) & !letter & !is_digit(b) & !((b == b'"') & plain));
        blanks += u8::from((b == b' ') & (before == b' '));
        escapes += u8::from(b == b'\\');
    }
    let n = u64::from;
    let sum = n(letters) * weight::LETTER
        + n(words) * weight::WORD
        + n(humps) * weight::HUMP
        + n(digits) * weight::DIGIT
        + n(signs) * weight::SIGN
        + n(blanks) * weight::BLANK;
    sum.saturating_sub(n(escapes) * weight::ESCAPED)
}

/// What the characters outside ASCII of a block cost.
fn foreign(block: &[u8; BLOCK + 2]) -> u64 {
    let count = |is: fn(u8) -> bool| u64::from(block[2..].iter().map(|&b| u8::from(is(b))).sum::<u8>());
    count(|b| (0xC0..0xE0).contains(&b)) * weight::TWO_BYTES
        + count(|b| (0xE0..0xF0).contains(&b)) * weight::THREE_BYTES
        + count(|b| b >= 0xF0) * weight::FOUR_BYTES
}

#[inline(always)]
fn is_letter(b: u8) -> bool {
    (b | 0x20).wrapping_sub(b'a') < 26
}

#[inline(always)]
fn is_upper(b: u8) -> bool {
    b.wrapping_sub(b'A') < 26
}

#[inline(always)]
fn is_lower(b: u8) -> bool {
    b.wrapping_sub(b'a') < 26
}

#[inline(always)]
fn is_digit(b: u8) -> bool {
    b.wrapping_sub(b'0') < 10
}

#[inline(always)]
fn is_visible(b: u8) -> bool {
    (b > b' ') & (b < 0x7F)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn english_prose_costs_about_one_token_for_four_characters() {
        let text = "The daemon stands between the client and every model that its user can reach. It reads the \
                    request once, decides where it should go, and hands the answer back unchanged. When a \
                    provider fails before anything was sent, the next one is asked, and nobody notices.";
        let per_token = text.len() as f64 / of_text(text) as f64;
        assert!((3.6..4.9).contains(&per_token), "{per_token}");
    }

    #[test]
    fn code_costs_more_per_character_than_prose() {
        let code = "    pub fn push(&mut self, bytes: &Bytes) -> Result<(), Fault> {\n        if self.broken.is_some() {\n            return Err(Fault::protocol(\"broken\"));\n        }\n        self.buffer.extend_from_slice(bytes);\n    }\n";
        let per_token = code.len() as f64 / of_text(code) as f64;
        assert!((2.5..4.2).contains(&per_token), "{per_token}");
    }

    #[test]
    fn scripts_outside_ascii_cost_more_a_character_than_prose() {
        assert!((6..=16).contains(&of_text("模型的回答来得很慢吗")));
        assert!(of_text("Привет, мир") >= 3);
        assert!(of_text("😀") >= 1);
    }

    #[test]
    fn each_family_counts_in_its_own_way() {
        for (model, family) in [
            ("claude-haiku-4-5-20251001", Family::ClaudeTo45),
            ("anthropic/claude-3.5-sonnet", Family::ClaudeTo45),
            ("claude-sonnet-4-6", Family::Claude46),
            ("claude-opus-4-8", Family::Claude),
            ("claude-fable-latest", Family::Claude),
            ("openai/gpt-5.2", Family::OpenAi),
            ("o3-mini", Family::OpenAi),
            ("google/gemini-3-pro", Family::Gemini),
            ("Qwen/Qwen3-Coder", Family::Open),
            ("deepseek-chat", Family::Open),
            ("a-model-of-mine", Family::Claude),
        ] {
            assert_eq!(Family::of(model), family, "{model}");
        }
        let text = Weight { text: 100_000, messages: 2, ..Weight::default() };
        let tools = Weight { tool_text: 20_000, tools: 3, calls: 2, vendor: WEB_SEARCH, ..text };
        assert!(text.tokens(Family::OpenAi) < text.tokens(Family::Claude));
        let costs = |family| tools.tokens(family) - text.tokens(family);
        assert!(
            costs(Family::Claude) > costs(Family::OpenAi) + WEB_SEARCH,
            "no other vendor adds its prompts"
        );
        let most = Weight { text: u64::MAX, media: u64::MAX, calls: u64::MAX, ..tools };
        assert_eq!(most.tokens(Family::Claude), u64::MAX, "nonsense saturates");
        assert_eq!(Weight::default().tokens(Family::Gemini), 1);
    }

    #[test]
    fn only_the_empty_text_costs_nothing() {
        assert_eq!(of_text(""), 0);
        for text in ["a", " x", "1", ".", "\n", "é"] {
            assert!(of_text(text) > 0, "{text:?}");
        }
    }

    #[test]
    fn the_sample_of_a_long_text_is_near_the_whole() {
        // Prose, code and Chinese in turns, so that a sample in the wrong places would show.
        let mut mixed = String::new();
        let mut exact = 0;
        for turn in 0..400 {
            let piece = match turn % 3 {
                0 => "The next provider is asked, and nobody notices anything of it at all. "
                    .repeat(turn % 7 + 1),
                1 => "if self.open[i] != Some(Kind::Text) { return Err(e); } ".repeat(turn % 5 + 1),
                _ => "模型的回答来得很慢".repeat(turn % 4 + 1),
            };
            exact += of_text(&piece);
            mixed.push_str(&piece);
        }
        assert!(mixed.len() > 4 * EXACT);
        let off = of_text(&mixed) as f64 / exact as f64 - 1.0;
        assert!(off.abs() < 0.06, "{off}");
    }

    #[test]
    fn a_long_text_costs_what_its_parts_cost() {
        let line = "All work and no play makes a dull day. ";
        let many = line.repeat(1000);
        let (one, all) = (of_text(line) as f64 * 1000.0, of_text(&many) as f64);
        assert!((all / one - 1.0).abs() < 0.1, "{one} {all}");
    }
}
