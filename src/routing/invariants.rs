//! What must hold of limits and leases at any moment (promise 5): checked by simulation and tests, asserted by cells and
//! actors in debug builds. The checks that look at a whole daemon, or at answers, stand above, with the faults.
//!
//! A check gives back what is wrong, in words; only `assert` panics.

use crate::config::ProviderId;

/// In debug builds, ends whoever finds that a check fails: an actor, or a request. Nothing is checked in others.
///
/// # Panics
/// With what is wrong.
#[track_caller]
pub fn assert(check: impl FnOnce() -> Option<String>) {
    if cfg!(debug_assertions) {
        let wrong = check();
        debug_assert!(wrong.is_none(), "{}", wrong.unwrap_or_default());
    }
}

/// What must hold whenever a place was given away: no more are taken than there are. A provider's cell asserts it.
pub fn places(id: &ProviderId, open: u32, most: Option<u32>) -> Option<String> {
    let most = most.filter(|most| open > *most)?;
    Some(format!("{id}: {open} leases are open, and {most} are allowed"))
}

/// What must hold of a lease that comes back: it was open until now. A provider's cell asserts it.
pub fn settled(id: &ProviderId, lease: u64, open: bool) -> Option<String> {
    (!open).then(|| format!("{id}: lease {lease} came back, and was not open"))
}

/// What must hold of a provider's buckets (name, level, size), whoever died: none holds more than it has room for. Its
/// actor asserts it.
pub fn buckets(id: &ProviderId, buckets: Vec<(&str, f64, f64)>) -> Option<String> {
    let (bucket, level, size) = buckets.into_iter().find(|(_, level, size)| *level > *size + 1e-6)?;
    Some(format!("{id}: the bucket {bucket} holds {level} of {size}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_too_many_is_seen() {
        let a = ProviderId::from("a");
        assert_eq!((places(&a, 2, Some(2)), places(&a, 9, None)), (None, None));
        assert!(places(&a, 3, Some(2)).is_some());
    }
}
