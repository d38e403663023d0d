//! The grammar of JSON over bytes, without values: what a value is and where it ends.

use std::borrow::Cow;
use std::ops::Range;

use super::{BodyError, MAX_DEPTH};
use crate::dialect::tokens::Tally;

/// A place in a JSON text, and the tokens counted on the way there.
pub(super) struct Lexer<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
    pub(super) tally: Tally,
    /// The block in which the search for special bytes goes on, and the special bytes in it: one bit for each.
    block: usize,
    specials: u64,
}

/// A string: its inside, and whether that holds escapes.
#[derive(Clone, Debug)]
pub(super) struct Text {
    pub(super) inside: Range<usize>,
    pub(super) escaped: bool,
}

/// What a value is, by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    Array,
    String,
    Number,
    True,
    False,
    Null,
}

/// Bytes that are searched in one go: as many as a word has bits.
const BLOCK: usize = 64;

/// The special bytes among the first [`BLOCK`], a bit for each. In two steps, each of which compiles to few
/// instructions: a byte of 0 or 1 for each, then the bits of eight bytes gathered by one multiplication.
fn specials(bytes: &[u8]) -> u64 {
    let mut padded = [b' '; BLOCK];
    let block = bytes.first_chunk::<BLOCK>().unwrap_or_else(|| {
        padded[..bytes.len()].copy_from_slice(bytes);
        &padded
    });
    let special = block.map(|byte| u8::from((byte == b'"') | (byte == b'\\') | (byte < 0x20)));
    let mut bits = 0;
    for (n, eight) in special.as_chunks::<8>().0.iter().enumerate() {
        bits |= (u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * n);
    }
    bits
}

/// Which bytes are among these.
const fn table(bytes: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut n = 0;
    while n < bytes.len() {
        table[bytes[n] as usize] = true;
        n += 1;
    }
    table
}

type Result<T> = std::result::Result<T, BodyError>;

// === impl Lexer ===

impl<'a> Lexer<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Lexer<'a> {
        Lexer { bytes, at: 0, tally: Tally::default(), block: usize::MAX, specials: 0 }
    }

    /// Where the next byte stands that a string can't hold as it is: a quote, a backslash, a control character.
    ///
    /// They stand close together (in keys, at line ends of prose), so a whole block is looked at in one go and its
    /// findings are kept: that costs a third of a search for each.
    #[inline]
    fn next_special(&mut self) -> usize {
        let mut at = self.at;
        while at < self.bytes.len() {
            let block = at / BLOCK;
            if block != self.block {
                self.block = block;
                self.specials = specials(self.bytes.get(block * BLOCK..).unwrap_or_default());
            }
            let ahead = self.specials >> (at % BLOCK);
            if ahead != 0 {
                return at + ahead.trailing_zeros() as usize;
            }
            at = (block + 1) * BLOCK;
        }
        self.bytes.len()
    }

    pub(super) fn error<T>(&self, what: &str) -> Result<T> {
        Err(BodyError::NotJson(match self.bytes.get(self.at) {
            Some(_) => format!("{what} at byte {}", self.at),
            None => format!("{what}, but the body ends at byte {}", self.at),
        }))
    }

    /// The next byte that is no white space, not taken.
    #[inline]
    pub(super) fn peek(&mut self) -> Option<u8> {
        loop {
            match self.bytes.get(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                other => return other.copied(),
            }
        }
    }

    /// Takes the next byte that is no white space if it is this one.
    #[inline]
    pub(super) fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// What the next value is, not taken.
    pub(super) fn kind(&mut self) -> Result<Kind> {
        Ok(match self.peek() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b'"') => Kind::String,
            Some(b'-' | b'0'..=b'9') => Kind::Number,
            Some(b't') => Kind::True,
            Some(b'f') => Kind::False,
            Some(b'n') => Kind::Null,
            _ => return self.error("expected a value"),
        })
    }

    /// Nothing but white space follows.
    pub(super) fn end(&mut self) -> Result<()> {
        match self.peek() {
            None => Ok(()),
            Some(_) => self.error("expected the end of the body"),
        }
    }

    /// Takes a string.
    pub(super) fn string(&mut self) -> Result<Text> {
        if !self.eat(b'"') {
            return self.error("expected a string");
        }
        let start = self.at;
        let mut escaped = false;
        loop {
            let end = self.next_special();
            self.at = end;
            match self.bytes.get(end) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Text { inside: start..end, escaped });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return self.error("a control character in a string"),
                None => return self.error("expected the end of a string"),
            }
        }
    }

    fn escape(&mut self) -> Result<()> {
        let Some(&kind) = self.bytes.get(self.at + 1) else {
            self.at = self.bytes.len();
            return self.error("expected the end of an escape");
        };
        // By a table: which escape comes next can't be predicted, that it is one of the short ones can.
        const SHORT: [bool; 256] = table(b"\"\\/bfnrt");
        let length = match kind {
            kind if SHORT[usize::from(kind)] => 2,
            b'u' => {
                let digits = self.bytes.get(self.at + 2..self.at + 6).unwrap_or_default();
                if digits.len() != 4 || !digits.iter().all(u8::is_ascii_hexdigit) {
                    return self.error("an escape that is none");
                }
                self.tally.numbered();
                6
            }
            _ => return self.error("an escape that is none"),
        };
        self.at += length;
        Ok(())
    }

    fn literal(&mut self, word: &'static [u8]) -> Result<()> {
        if self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            self.at += word.len();
            Ok(())
        } else {
            self.error("expected a value")
        }
    }

    /// Takes a number.
    pub(super) fn number(&mut self) -> Result<Range<usize>> {
        let start = self.at;
        if self.bytes.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        if self.bytes.get(self.at) == Some(&b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.bytes.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.bytes.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(start..self.at)
    }

    /// One digit or more.
    fn digits(&mut self) -> Result<()> {
        let start = self.at;
        while matches!(self.bytes.get(self.at), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { self.error("expected a digit") } else { Ok(()) }
    }

    /// Takes a value that holds no other.
    pub(super) fn scalar(&mut self, kind: Kind) -> Result<()> {
        match kind {
            Kind::String => {
                self.string()?;
            }
            Kind::Number => {
                self.number()?;
            }
            Kind::True => self.literal(b"true")?,
            Kind::False => self.literal(b"false")?,
            Kind::Null => self.literal(b"null")?,
            Kind::Object | Kind::Array => return self.error("expected a plain value"),
        }
        Ok(())
    }

    /// Takes a string, and counts its tokens.
    pub(super) fn counted_string(&mut self) -> Result<Text> {
        let text = self.string()?;
        self.tally.text(self.bytes.get(text.inside.clone()).unwrap_or_default());
        Ok(text)
    }

    /// Takes any value, and counts the tokens of its JSON text.
    pub(super) fn counted(&mut self, depth: usize) -> Result<()> {
        self.peek();
        let start = self.at;
        self.skip(depth)?;
        self.tally.text(self.bytes.get(start..self.at).unwrap_or_default());
        Ok(())
    }

    /// Takes any value. `depth` containers are open around it. A loop, so that hostile nesting costs no stack.
    pub(super) fn skip(&mut self, depth: usize) -> Result<()> {
        // Bit n: whether the container n levels up is an object.
        let mut objects: u128 = 0;
        let mut open = 0usize;
        loop {
            // A value begins here.
            match self.kind()? {
                kind @ (Kind::Object | Kind::Array) => {
                    let object = kind == Kind::Object;
                    self.at += 1;
                    if depth + open >= MAX_DEPTH {
                        return Err(BodyError::TooDeep);
                    }
                    if !self.eat(if object { b'}' } else { b']' }) {
                        objects = objects << 1 | u128::from(object);
                        open += 1;
                        if object {
                            self.key()?;
                        }
                        continue;
                    }
                }
                kind => self.scalar(kind)?,
            }
            // A value has ended: close what ends with it.
            loop {
                if open == 0 {
                    return Ok(());
                }
                let object = objects & 1 == 1;
                if self.eat(b',') {
                    if object {
                        self.key()?;
                    }
                    break;
                }
                if !self.eat(if object { b'}' } else { b']' }) {
                    return self.error(if object { "expected `,` or `}`" } else { "expected `,` or `]`" });
                }
                objects >>= 1;
                open -= 1;
            }
        }
    }

    /// Takes a key and its colon.
    pub(super) fn key(&mut self) -> Result<Text> {
        let key = match self.peek() {
            Some(b'"') => self.string()?,
            _ => return self.error("expected a key"),
        };
        if !self.eat(b':') {
            return self.error("expected `:`");
        }
        Ok(key)
    }

    /// The text of a string, unescaped; `None` if its escapes are no text (half a surrogate pair).
    pub(super) fn text(&self, text: &Text) -> Option<Cow<'a, str>> {
        if text.escaped {
            let quoted = self.bytes.get(text.inside.start.checked_sub(1)?..text.inside.end + 1)?;
            serde_json::from_slice::<String>(quoted).ok().map(Cow::Owned)
        } else {
            std::str::from_utf8(self.bytes.get(text.inside.clone())?).ok().map(Cow::Borrowed)
        }
    }
}
