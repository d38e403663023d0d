//! What a user may write: the schema, its loading in layers, its validation, and what changed between two.
//!
//! Nothing here watches files or knows an actor: `actors::config` does.

pub mod address;
mod aliases;
pub mod diff;
mod document;
mod environment;
pub mod error;
pub mod import;
pub mod keys;
pub mod load;
pub mod schema;
pub mod secret;
pub mod show;
pub mod source;
mod suggest;
mod validate;

pub use diff::{Change, Changes, diff};
pub use error::{ConfigError, Problem};
pub use keys::Keys;
pub use load::{Loaded, load};
pub use schema::*;
pub use source::{Environment, FileText, Overrides, Source};
pub use validate::VARIANTS;
