//! Room: faults.
