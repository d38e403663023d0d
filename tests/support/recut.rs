//! The ways in which one body may arrive.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// Randomness from `CPROXY_SEED`, else fresh; the seed is printed, for whoever must repeat a failure.
pub fn random() -> StdRng {
    let seed =
        std::env::var("CPROXY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("CPROXY_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// The body in pieces, in many ways: byte by byte (so inside characters, and between CR and LF); cut only there;
/// and at random places.
pub fn ways<'b>(body: &'b [u8], random: &mut StdRng) -> Vec<Vec<&'b [u8]>> {
    let inside = |at: &usize| {
        let (before, after) = (body[at - 1], body[*at]);
        after & 0xc0 == 0x80 || (before == b'\r' && after == b'\n')
    };
    let mut ways =
        vec![cut(body, (0..body.len()).collect()), cut(body, (1..body.len()).filter(inside).collect())];
    for _ in 0..8 {
        let count = random.random_range(1..60);
        ways.push(cut(body, (0..count).map(|_| random.random_range(0..=body.len())).collect()));
    }
    ways
}

fn cut(body: &[u8], mut at: Vec<usize>) -> Vec<&[u8]> {
    at.extend([0, body.len()]);
    at.sort_unstable();
    at.windows(2).map(|two| &body[two[0]..two[1]]).collect()
}

/// Where a stream may break off: behind each event, in the middle of each, and before its blank line.
pub fn ends(body: &[u8]) -> Vec<usize> {
    let mut ends = vec![0];
    let mut start = 0;
    for at in 1..=body.len() {
        let seen = &body[start..at];
        if seen.ends_with(b"\n\n") || seen.ends_with(b"\n\r\n") || seen.ends_with(b"\r\r") {
            ends.extend([start + (at - start) / 2, at - 1, at]);
            start = at;
        }
    }
    ends.sort_unstable();
    ends.dedup();
    ends
}

/// The stream with other line ends.
pub fn with_line_ends(body: &[u8], end: &str) -> Vec<u8> {
    let text = std::str::from_utf8(body).unwrap();
    text.replace("\r\n", "\n").replace('\r', "\n").replace('\n', end).into_bytes()
}
