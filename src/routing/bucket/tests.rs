#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use proptest::prelude::*;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn it_fills_up_evenly() {
    let now = Instant::now();
    let mut bucket = Bucket::new(Some(60), MINUTE, now);
    assert_eq!(bucket.reserve(now, 60), Some(60));
    assert_eq!(bucket.reserve(now, 1), None);
    let ready = bucket.ready_at(now, 10).unwrap();
    assert!(ready > now + Duration::from_secs(9) && ready < now + Duration::from_secs(11));
    assert_eq!(bucket.reserve(ready, 10), Some(10));
}

#[test]
fn an_estimate_is_settled_with_what_was_used_and_may_leave_a_debt() {
    let now = Instant::now();
    let mut bucket = Bucket::new(Some(1000), MINUTE, now);
    bucket.reserve(now, 600);
    bucket.settle(now, 600, 100);
    assert_eq!(bucket.level(now), 900.0);
    bucket.reserve(now, 900);
    bucket.settle(now, 900, 1500);
    assert_eq!(bucket.level(now), -600.0);
    bucket.settle(now, 0, u64::MAX);
    assert_eq!(bucket.level(now), -1000.0, "a debt is bounded");
    assert!(bucket.ready_at(now, 1).is_some());
}

#[test]
fn what_is_larger_than_the_bucket_takes_all_of_it() {
    let now = Instant::now();
    let mut bucket = Bucket::new(Some(100), MINUTE, now);
    assert_eq!(bucket.reserve(now, 5000), Some(100));
    let ready = bucket.ready_at(now, 5000).unwrap();
    assert_eq!(bucket.reserve(ready, 5000), Some(100));
}

#[test]
fn without_a_limit_it_is_endless_and_with_none_it_is_shut() {
    let now = Instant::now();
    let mut endless = Bucket::new(None, MINUTE, now);
    assert_eq!(endless.reserve(now, u64::MAX), Some(u64::MAX));
    endless.settle(now, 5, 10);
    assert_eq!(endless.reserve(now, 1), Some(1));
    let mut shut = Bucket::new(Some(0), MINUTE, now);
    assert_eq!(shut.ready_at(now, 1), None);
    assert_eq!(shut.reserve(now, 1), None);
}

#[test]
fn what_the_upstream_says_only_lowers_and_only_for_a_while() {
    let now = Instant::now();
    let until = now + MINUTE;
    let mut bucket = Bucket::new(Some(100), MINUTE, now);
    bucket.learn(now, Some(1000), Some(900), until);
    assert_eq!((bucket.size(now), bucket.level(now)), (100.0, 100.0));
    bucket.learn(now, Some(50), Some(3), until);
    assert_eq!((bucket.size(now), bucket.level(now)), (50.0, 3.0));
    assert_eq!(bucket.size(until), 100.0);

    let mut unlimited = Bucket::new(None, MINUTE, now);
    unlimited.learn(now, None, Some(0), until);
    assert_eq!(unlimited.reserve(now, 1), Some(1), "without a limit nothing would fill it again");
    unlimited.learn(now, Some(60), Some(0), until);
    assert_eq!(unlimited.reserve(now, 1), None);
    assert_eq!(unlimited.reserve(until, 1_000_000), Some(1_000_000));
}

#[test]
fn another_size_keeps_what_was_used() {
    let now = Instant::now();
    let mut bucket = Bucket::new(Some(100), MINUTE, now);
    bucket.reserve(now, 80);
    bucket.resize(now, Some(200));
    assert_eq!(bucket.level(now), 120.0);
    bucket.resize(now, Some(10));
    assert_eq!(bucket.level(now), -10.0);
    bucket.resize(now, None);
    assert_eq!(bucket.reserve(now, 1_000), Some(1_000));
    bucket.resize(now, Some(10));
    assert_eq!(bucket.level(now), 10.0);
}

proptest! {
    /// Over any stretch of time no more is taken than one bucketful and what flowed in since; what is said to
    /// be ready then is; and it behaves as the plain sum.
    #[test]
    fn no_stretch_of_time_gives_more_than_the_limit(
        size in 1..1000u64,
        steps in proptest::collection::vec((0..10_000u64, 0..1500u64, 0..4u8), 1..200),
    ) {
        let start = Instant::now();
        let mut now = start;
        let mut bucket = Bucket::new(Some(size), MINUTE, now);
        let mut level = size as f64;
        let mut taken = 0.0;
        for (wait, amount, what) in steps {
            now += Duration::from_millis(wait);
            level = (level + size as f64 * wait as f64 / 60_000.0).min(size as f64);
            match what {
                0..=1 => {
                    let need = amount.min(size);
                    match bucket.reserve(now, amount) {
                        Some(got) => {
                            prop_assert_eq!(got, need);
                            level -= got as f64;
                            taken += got as f64;
                            let flowed = size as f64 * (1.0 + (now - start).as_secs_f64() / 60.0);
                            prop_assert!(taken <= flowed + 1e-3);
                        }
                        None => prop_assert!((need as f64) > level - 1e-6),
                    }
                }
                2 => {
                    // Used more than reserved.
                    bucket.settle(now, 0, amount);
                    level = (level - amount as f64).max(-(size as f64));
                }
                _ => {
                    let ready = bucket.ready_at(now, amount).unwrap();
                    prop_assert!(bucket.clone().reserve(ready, amount).is_some());
                }
            }
            prop_assert!((bucket.level(now) - level).abs() < 1e-3, "{} {}", bucket.level(now), level);
        }
    }
}
