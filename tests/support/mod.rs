//! What the integration tests share.

pub mod grammar;
pub mod recordings;
pub mod recut;
pub mod relay;
