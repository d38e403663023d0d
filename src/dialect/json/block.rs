//! What stands where in 64 bytes of JSON text: a bit for each byte.

use wide::u8x16;

/// Bytes that are looked at in one go: as many as a word has bits.
pub(super) const SIZE: usize = 64;

/// Where the bytes stand that mean something inside of a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marks {
    /// What a string can't hold as it is: quotes, backslashes, control characters.
    pub(super) specials: u64,
    /// The backslashes among them.
    pub(super) backslashes: u64,
}

// === impl Marks ===

impl Marks {
    /// Of the first [`SIZE`] bytes, or of all if they are fewer.
    #[inline]
    pub(super) fn of(bytes: &[u8]) -> Marks {
        match bytes.first_chunk() {
            Some(block) => Marks::of_block(block),
            None => {
                let mut padded = [b' '; SIZE];
                padded[..bytes.len()].copy_from_slice(bytes);
                Marks::of_block(&padded)
            }
        }
    }

    /// By sixteen bytes: each is compared with all sixteen in one instruction, and another gathers sixteen bits.
    #[inline]
    fn of_block(block: &[u8; SIZE]) -> Marks {
        let (quote, backslash) = (u8x16::splat(b'"'), u8x16::splat(b'\\'));
        let control = u8x16::splat(0x1F);
        let mut marks = Marks { specials: 0, backslashes: 0 };
        for (n, sixteen) in block.as_chunks::<16>().0.iter().enumerate() {
            let bytes = u8x16::new(*sixteen);
            let backslashes = bytes.simd_eq(backslash);
            let specials = backslashes | bytes.simd_eq(quote) | bytes.min(control).simd_eq(bytes);
            marks.backslashes |= u64::from(backslashes.to_bitmask()) << (16 * n);
            marks.specials |= u64::from(specials.to_bitmask()) << (16 * n);
        }
        marks
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_special_byte_is_marked_and_no_other(
            bytes in proptest::collection::vec(any::<u8>(), 0..=SIZE),
        ) {
            let marked = |is: fn(u8) -> bool| {
                bytes.iter().enumerate().fold(0u64, |bits, (n, &byte)| bits | u64::from(is(byte)) << n)
            };
            let marks = Marks {
                specials: marked(|byte| byte == b'"' || byte == b'\\' || byte < 0x20),
                backslashes: marked(|byte| byte == b'\\'),
            };
            prop_assert_eq!(Marks::of(&bytes), marks);
        }
    }
}
