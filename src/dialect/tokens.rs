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

use super::head;

/// Tokens, added up in hundredths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    hundredths: u64,
    /// Bytes of text so far.
    text: usize,
    /// Text that is not yet counted, behind the two bytes before it: short pieces share a pass.
    waiting: [u8; BLOCK + 2],
    /// How many bytes wait.
    filled: usize,
}

/// What a message costs beside its content.
pub const PER_MESSAGE: u64 = 4;
/// What a request costs beside its messages.
pub const PER_REQUEST: u64 = 4;
/// What a tool call or its result costs beside its content: ids and framing.
pub const PER_CALL: u64 = 15;
/// What offering any tools at all costs: the vendor's own prompt about them.
pub const FIRST_TOOL: u64 = 500;
/// What each tool costs beside its text.
pub const PER_TOOL: u64 = 20;
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

/// What the kinds of characters cost, in hundredths of a token.
mod weight {
    /// A run of letters begins.
    pub const WORD: u64 = 78;
    /// A letter.
    pub const LETTER: u64 = 10;
    /// An upper-case letter after a lower-case one: `camelCase` is several words.
    pub const HUMP: u64 = 45;
    /// A digit.
    pub const DIGIT: u64 = 45;
    /// A sign; signs that stand together share tokens.
    pub const SIGN: u64 = 48;
    /// A blank after a blank (a single one belongs to the word after it).
    pub const BLANK: u64 = 14;
    /// What an escape (a line end, a quote) costs less than two signs.
    pub const ESCAPED: u64 = 31;
    /// What a character that is escaped by its number costs less than its six signs, digits and letters.
    pub const NUMBERED: u64 = 130;
    /// A character of two bytes: accented letters, Greek, Cyrillic, Hebrew, Arabic.
    pub const TWO_BYTES: u64 = 62;
    /// A character of three bytes: mostly Chinese, Japanese, Korean.
    pub const THREE_BYTES: u64 = 115;
    /// A character of four bytes: emoji.
    pub const FOUR_BYTES: u64 = 230;
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
    tally.tokens()
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
                self.hundredths += cost(block);
            } else if self.text & 0x300 == 0 {
                self.hundredths += cost(block) * 4;
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
        self.hundredths += cost(&self.waiting);
        self.waiting.copy_within(self.filled..self.filled + 2, 0);
        self.filled = 0;
    }

    /// A character that was or will be counted is escaped by its number.
    pub fn numbered(&mut self) {
        self.hundredths = self.hundredths.saturating_sub(weight::NUMBERED);
    }

    /// Adds tokens.
    pub fn add(&mut self, tokens: u64) {
        self.hundredths = self.hundredths.saturating_add(tokens.saturating_mul(100));
    }

    /// The sum, rounded up.
    pub fn tokens(mut self) -> u64 {
        // Zero is of no kind: what the text doesn't fill counts nothing.
        self.waiting[self.filled + 2..].fill(0);
        self.count();
        self.hundredths.div_ceil(100)
    }
}

impl Default for Tally {
    fn default() -> Tally {
        Tally { hundredths: 0, text: 0, waiting: [b' '; BLOCK + 2], filled: 0 }
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
    let mut sum = n(letters) * weight::LETTER
        + n(words) * weight::WORD
        + n(humps) * weight::HUMP
        + n(digits) * weight::DIGIT
        + n(signs) * weight::SIGN
        + n(blanks) * weight::BLANK;
    sum = sum.saturating_sub(n(escapes) * weight::ESCAPED);
    if !block.is_ascii() {
        let count = |is: fn(u8) -> bool| n(block[2..].iter().map(|&b| u8::from(is(b))).sum::<u8>());
        sum += count(|b| (0xC0..0xE0).contains(&b)) * weight::TWO_BYTES
            + count(|b| (0xE0..0xF0).contains(&b)) * weight::THREE_BYTES
            + count(|b| b >= 0xF0) * weight::FOUR_BYTES;
    }
    sum
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
    fn scripts_outside_ascii_cost_about_a_token_a_character() {
        assert!((8..=16).contains(&of_text("模型的回答来得很慢吗")));
        assert!(of_text("Привет, мир") >= 5);
        assert!(of_text("😀") >= 1);
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
