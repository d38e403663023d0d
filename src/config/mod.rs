//! What a user may write: the schema, its loading in layers, its validation, and what changed between two.
//!
//! Nothing here watches files or knows an actor: `actors::config` does.

pub mod schema;
pub mod secret;

pub use schema::*;
