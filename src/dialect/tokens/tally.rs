//! The cost of a text, by the kinds of its characters.

use super::Weight;

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
    /// Characters that were escaped by their numbers.
    numbered: u64,
}

/// Bytes of text up to which all of it is counted.
pub(super) const EXACT: usize = 4_096;
/// Of what is longer one block in so many is counted, spread evenly; odd, since what repeats in a text often does so
/// after a power of two.
const SAMPLED: usize = 9;
/// Bytes that are counted in one go.
const BLOCK: usize = 64;

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
            if self.text < EXACT {
                self.cost(block, 1);
            } else if (self.text / BLOCK).is_multiple_of(SAMPLED) {
                self.cost(block, SAMPLED as u64);
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

    /// So many characters of the text were escaped by their numbers.
    pub fn numbered(&mut self, characters: u64) {
        self.numbered += characters;
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
        self.weight.text = self.weight.text.saturating_sub(self.numbered * weight::NUMBERED);
        self.weight
    }
}

impl Default for Tally {
    fn default() -> Tally {
        Tally { weight: Weight::default(), text: 0, waiting: [b' '; BLOCK + 2], filled: 0, numbered: 0 }
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
