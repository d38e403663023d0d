//! The commit gate: holds an answer back until its first real output, so that an error inside a 200 can still
//! be met with the next candidate. A value: pieces go in, and come out once the gate is open.

use bytes::Bytes;

/// Most bytes held back. An upstream that sends more before any output is taken at its word.
pub const MAX_HELD: usize = 256 << 10;

/// Holds back what is not yet committed.
#[derive(Debug)]
pub struct Gate {
    open: bool,
    most: usize,
    held: Vec<Bytes>,
    size: usize,
}

impl Default for Gate {
    fn default() -> Gate {
        Gate::holding(MAX_HELD)
    }
}

impl Gate {
    /// A gate that holds back at most so many bytes.
    pub fn holding(most: usize) -> Gate {
        Gate { open: false, most, held: Vec::new(), size: 0 }
    }

    /// Takes the pieces that an upstream's chunk gave, and whether real output has begun. Gives back what may
    /// go to the caller now.
    pub fn pass(&mut self, pieces: &mut Vec<Bytes>, begun: bool) -> Vec<Bytes> {
        if self.open {
            return std::mem::take(pieces);
        }
        self.size += pieces.iter().map(Bytes::len).sum::<usize>();
        self.held.append(pieces);
        self.open = begun || self.size > self.most;
        if self.open { std::mem::take(&mut self.held) } else { Vec::new() }
    }

    /// Whether the answer is committed to this attempt: from here on nothing is replayed or taken back.
    pub fn is_open(&self) -> bool {
        self.open
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nothing_leaves_before_the_first_output_and_nothing_is_lost_after_it(
            sizes in proptest::collection::vec(0usize..2000, 1..40),
            first in 0usize..40,
        ) {
            let mut gate = Gate::default();
            let (mut sent, mut seen) = (Vec::new(), Vec::new());
            for (n, size) in sizes.iter().enumerate() {
                let piece = Bytes::from(vec![u8::try_from(n).unwrap_or(0); *size]);
                sent.extend_from_slice(&piece);
                let out = gate.pass(&mut vec![piece], n >= first);
                if n < first && !gate.is_open() {
                    prop_assert!(out.is_empty());
                }
                for piece in out {
                    seen.extend_from_slice(&piece);
                }
            }
            if first < sizes.len() {
                prop_assert_eq!(sent, seen);
            } else {
                prop_assert!(seen.is_empty());
            }
        }
    }

    #[test]
    fn an_upstream_that_talks_without_output_is_not_held_for_ever() {
        let mut gate = Gate::default();
        let mut out = 0;
        for _ in 0..=(MAX_HELD / 1024) {
            out += gate.pass(&mut vec![Bytes::from(vec![b' '; 1024])], false).len();
        }
        assert!(gate.is_open() && out > 0);
    }
}
