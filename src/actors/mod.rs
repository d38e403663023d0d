//! The tree of actors.

pub mod status;
