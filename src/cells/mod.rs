//! Room: cells.
