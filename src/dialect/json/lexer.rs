//! The grammar of JSON over bytes, without values: what a value is and where it ends.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use super::block::{self, Marks};

/// A place in a JSON text, which is valid UTF-8.
pub(crate) struct Lexer<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) at: usize,
    /// How many characters were escaped by their numbers (`\u0041`) so far, up to the end of the present block.
    pub(crate) numbered: u64,
    /// The block in which the end of a string was last looked for. `usize::MAX` - 1 is none.
    block: usize,
    /// Where a string ends that stands in that block, well or not: at quotes that no backslash goes before, at control
    /// characters, and at escapes that are none.
    stops: u64,
    backslashes: u64,
    /// The first byte of the next block belongs to a backslash at the end of this one.
    carry: bool,
}

/// A string: its inside, and whether that holds escapes.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    pub(crate) inside: Range<usize>,
    pub(crate) escaped: bool,
}

/// What a value is, by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Object,
    Array,
    String,
    Number,
    True,
    False,
    Null,
}

/// Why a text is not JSON that we take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// What is wrong, where, and whether that is the end of the text.
    NotJson { what: &'static str, at: usize, is_end: bool },
    /// Nested deeper than [`MAX_DEPTH`].
    TooDeep,
}

/// Nesting beyond this is refused: no real text comes near it.
pub(crate) const MAX_DEPTH: usize = 128;

pub(crate) type Result<T> = std::result::Result<T, Malformed>;

/// Whether the text is one JSON value, and nothing else.
pub fn is_json(text: &str) -> bool {
    let mut lexer = Lexer::new(text.as_bytes());
    lexer.skip(0).and_then(|()| lexer.end()).is_ok()
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

// === impl Lexer ===

impl<'a> Lexer<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Lexer<'a> {
        let none = usize::MAX - 1;
        Lexer { bytes, at: 0, numbered: 0, block: none, stops: 0, backslashes: 0, carry: false }
    }

    /// Looks at a block in which a string goes on or begins. Quotes, escapes and line ends stand close together, so a
    /// whole block is looked at in one go and its findings are kept: that costs a third of a search for each.
    ///
    /// Backslashes that stand before the string are taken for its own; but there the text is not JSON anyway.
    #[inline(never)] // so that its registers need not be saved for each string
    fn enter(&mut self, block: usize) {
        let start = block * block::SIZE;
        let Marks { specials, backslashes } = Marks::of(self.bytes.get(start..).unwrap_or_default());
        // The first byte may belong to a backslash at the end of the block before.
        let carried = u64::from(self.carry && block == self.block + 1);
        let (mut escapes, mut wrong) = (0, 0);
        let mut rest = backslashes & !carried;
        while rest != 0 {
            let escape = rest & rest.wrapping_neg();
            if !self.is_escape(start + rest.trailing_zeros() as usize) {
                wrong |= escape;
            }
            escapes |= escape;
            rest &= !(escape | escape << 1); // a backslash that belongs to another begins no escape
        }
        let taken = escapes << 1 | carried;
        self.carry = escapes >> 63 != 0;
        self.block = block;
        self.backslashes = backslashes;
        self.stops = specials & !backslashes & !taken | wrong;
    }

    /// Whether an escape stands behind the backslash at this place.
    #[inline]
    fn is_escape(&mut self, at: usize) -> bool {
        // By a table: which escape comes next can't be predicted, that it is one of the short ones can.
        const SHORT: [bool; 256] = table(b"\"\\/bfnrt");
        match self.bytes.get(at + 1) {
            Some(&kind) if SHORT[usize::from(kind)] => true,
            Some(b'u') => {
                self.numbered += 1;
                let digits = self.bytes.get(at + 2..at + 6).unwrap_or_default();
                digits.len() == 4 && digits.iter().all(u8::is_ascii_hexdigit)
            }
            _ => false,
        }
    }

    pub(crate) fn error<T>(&self, what: &'static str) -> Result<T> {
        Err(Malformed::NotJson { what, at: self.at, is_end: self.at >= self.bytes.len() })
    }

    /// The next byte that is no white space, not taken.
    #[inline]
    pub(crate) fn peek(&mut self) -> Option<u8> {
        loop {
            match self.bytes.get(self.at) {
                Some(&byte) if byte > b' ' => return Some(byte),
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                other => return other.copied(),
            }
        }
    }

    /// Takes the next byte that is no white space if it is this one.
    #[inline]
    pub(crate) fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// What the next value is, not taken.
    #[inline]
    pub(crate) fn kind(&mut self) -> Result<Kind> {
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
    pub(crate) fn end(&mut self) -> Result<()> {
        match self.peek() {
            None => Ok(()),
            Some(_) => self.error("expected the end"),
        }
    }

    /// Takes a string.
    pub(crate) fn string(&mut self) -> Result<Text> {
        match self.peek() {
            Some(b'"') => self.quoted(),
            _ => self.error("expected a string"),
        }
    }

    /// Takes a string whose quote is the next byte. Always inlined: most strings are short keys, and what a call hands
    /// over would cost as much as finding their end.
    #[inline(always)]
    fn quoted(&mut self) -> Result<Text> {
        self.at += 1;
        let start = self.at;
        let mut escapes = 0;
        loop {
            let block = self.at / block::SIZE;
            if block != self.block {
                if self.at >= self.bytes.len() {
                    return self.error("expected the end of a string");
                }
                self.enter(block);
            }
            let past = self.at % block::SIZE;
            let (stops, backslashes) = (self.stops >> past, self.backslashes >> past);
            if stops != 0 {
                self.at += stops.trailing_zeros() as usize;
                let before = (stops & stops.wrapping_neg()) - 1;
                escapes |= backslashes & before;
                break;
            }
            escapes |= backslashes;
            self.at = (block + 1) * block::SIZE;
        }
        match self.bytes.get(self.at) {
            Some(b'"') => {
                self.at += 1;
                Ok(Text { inside: start..self.at - 1, escaped: escapes != 0 })
            }
            Some(b'\\') if self.at + 1 < self.bytes.len() => self.error("an escape that is none"),
            Some(b'\\') => {
                self.at += 1;
                self.error("expected the end of an escape")
            }
            _ => self.error("a control character in a string"),
        }
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
    pub(crate) fn number(&mut self) -> Result<Range<usize>> {
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

    /// Takes a value that holds no other, and is the next that stands there.
    #[inline(always)]
    pub(crate) fn scalar(&mut self, kind: Kind) -> Result<()> {
        match kind {
            Kind::String => {
                self.quoted()?;
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

    /// Takes any value. `depth` containers are open around it. A loop, so that hostile nesting costs no stack.
    pub(crate) fn skip(&mut self, depth: usize) -> Result<()> {
        // Bit n: whether the container n levels up is an object.
        let mut objects: u128 = 0;
        let mut open = 0usize;
        loop {
            if objects & 1 == 1 {
                self.key()?;
            }
            match self.kind()? {
                kind @ (Kind::Object | Kind::Array) => {
                    self.at += 1;
                    if depth + open >= MAX_DEPTH {
                        return Err(Malformed::TooDeep);
                    }
                    if !self.eat(kind.end()) {
                        objects = objects << 1 | u128::from(kind == Kind::Object);
                        open += 1;
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
                if self.eat(b',') {
                    break;
                }
                let around = if objects & 1 == 1 { Kind::Object } else { Kind::Array };
                if !self.eat(around.end()) {
                    return self.error(match around {
                        Kind::Object => "expected `,` or `}`",
                        _ => "expected `,` or `]`",
                    });
                }
                objects >>= 1;
                open -= 1;
            }
        }
    }

    /// Takes a key and its colon.
    #[inline(always)]
    pub(crate) fn key(&mut self) -> Result<Text> {
        let key = match self.peek() {
            Some(b'"') => self.quoted()?,
            _ => return self.error("expected a key"),
        };
        if !self.eat(b':') {
            return self.error("expected `:`");
        }
        Ok(key)
    }

    /// The text of a string, unescaped; `None` if its escapes are no text (half a surrogate pair).
    pub(crate) fn text(&self, text: &Text) -> Option<Cow<'a, str>> {
        if text.escaped {
            let quoted = self.bytes.get(text.inside.start.checked_sub(1)?..text.inside.end + 1)?;
            serde_json::from_slice::<String>(quoted).ok().map(Cow::Owned)
        } else {
            std::str::from_utf8(self.bytes.get(text.inside.clone())?).ok().map(Cow::Borrowed)
        }
    }
}

// === impl Kind ===

impl Kind {
    /// What ends a container.
    #[inline]
    fn end(self) -> u8 {
        if self == Kind::Object { b'}' } else { b']' }
    }
}

// === impl Malformed ===

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::NotJson { what, at, is_end: false } => write!(f, "{what} at byte {at}"),
            Malformed::NotJson { what, at, is_end: true } => {
                write!(f, "{what}, but the body ends at byte {at}")
            }
            Malformed::TooDeep => write!(f, "nested deeper than {MAX_DEPTH} levels"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    use super::*;

    /// Pieces of a string, whole and broken, so long that they stand across the ends of blocks.
    fn strings() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("\\\\".to_owned()),
            Just("\\\"".to_owned()),
            Just("\\n".to_owned()),
            Just("\\u00e9".to_owned()),
            Just("é".to_owned()),
            (0..70usize).prop_map(|n| "x".repeat(n)),
            (0..70usize).prop_map(|n| "\\\\".repeat(n)),
        ];
        let broken = prop_oneof![
            Just("\\".to_owned()),
            Just("\"".to_owned()),
            Just("\\u00".to_owned()),
            Just("\n".to_owned()),
        ];
        let pieces = proptest::collection::vec(prop_oneof![9 => piece, 1 => broken], 0..12);
        pieces.prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn a_string_ends_where_serde_json_says_wherever_it_stands_in_its_blocks(
            before in 0..70usize, string in strings(), after in 0..70usize,
        ) {
            let text = format!("[{}\"{string}\",\"{}\"]", " ".repeat(before), "y".repeat(after));
            prop_assert_eq!(is_json(&text), serde_json::from_str::<IgnoredAny>(&text).is_ok(), "{}", text);

            let mut lexer = Lexer::new(text.as_bytes());
            prop_assert!(lexer.eat(b'['));
            let rest = text.get(before + 1..).unwrap();
            let mut values = serde_json::Deserializer::from_str(rest).into_iter::<&serde_json::value::RawValue>();
            match (lexer.string(), values.next().unwrap()) {
                (Ok(found), Ok(value)) => {
                    let inside = value.get().get(1..value.get().len() - 1).unwrap();
                    prop_assert_eq!(text.get(found.inside.clone()).unwrap(), inside);
                    prop_assert_eq!(found.escaped, inside.contains('\\'));
                }
                (found, value) => prop_assert!(found.is_err() && value.is_err(), "{found:?} {value:?}"),
            }
        }
    }
}
