//! Where time comes from: tokio's clock, so that tests can pause it.

use std::time::{Instant, SystemTime};

/// Now, as the pure rooms take it.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The wall clock: for people and for the ledger, never for decisions about durations.
pub fn wall() -> SystemTime {
    #[allow(clippy::disallowed_methods)] // the one place
    SystemTime::now()
}

/// Seconds since 1970.
pub fn unix() -> u64 {
    wall().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
