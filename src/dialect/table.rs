//! What is peculiar to each server that speaks Chat Completions, as data: one row a variant.

use crate::config::ProviderKind;

/// The peculiarities of one variant of a dialect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// The name, as `variant` in the config.
    pub name: &'static str,
}

/// The row for a provider: by its `variant`, else by its kind and what its address shows.
pub fn variant(_kind: ProviderKind, _name: Option<&str>, _base_url: &str) -> &'static Variant {
    todo!("room: dialect")
}
