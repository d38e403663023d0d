//! Seeded randomness without a lock: the n-th draw is a hash of the seed and n.

use std::sync::atomic::{AtomicU64, Ordering};

/// A source of random numbers; the same seed gives the same sequence.
#[derive(Debug)]
pub struct Random {
    seed: u64,
    drawn: AtomicU64,
}

impl Random {
    /// The sequence of this seed.
    pub fn seeded(seed: u64) -> Random {
        Random { seed, drawn: AtomicU64::new(0) }
    }

    /// A sequence that nobody can foresee.
    pub fn unforeseen() -> Random {
        Random::seeded(rand::random())
    }

    /// The next number.
    pub fn draw(&self) -> u64 {
        splitmix64(self.seed.wrapping_add(self.drawn.fetch_add(1, Ordering::Relaxed).wrapping_mul(GOLDEN)))
    }
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// One step of the splitmix64 generator (Steele, Lea, Flood: "Fast splittable pseudorandom number
/// generators", 2014).
pub fn splitmix64(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(GOLDEN);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
