//! Names and ids that an upstream would refuse, and their way back.
//!
//! Both are pure functions of what they stand for, so that the same conversation gives the same bytes on every
//! turn (prompt caches depend on it). Source: OpenAI API reference, "Chat": function names are at most 64 of
//! `a-zA-Z0-9_-`; Anthropic's may have 128.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use sha2::{Digest, Sha256};

/// Most characters of a tool's name at OpenAI and its kin.
pub const MAX_NAME: usize = 64;
/// How much of a name stays when it is shortened; a hash follows.
const KEPT: usize = 52;

/// The names that had to be changed in a request, for the way back. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameMap {
    /// Pairs of (sent, given).
    changed: Option<Arc<Vec<(String, String)>>>,
}

/// What an upstream takes as the id of a tool call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdRule {
    /// Anything.
    Any,
    /// At most this many characters.
    AtMost(usize),
    /// Exactly nine of `a-zA-Z0-9` (Mistral).
    NineAlphanumeric,
}

// === impl NameMap ===

impl NameMap {
    /// The map of a request's tools.
    pub fn new<'a>(names: impl Iterator<Item = &'a str>) -> NameMap {
        let changed: Vec<_> = names
            .filter_map(|name| match wire_name(name) {
                Cow::Borrowed(_) => None,
                Cow::Owned(sent) => Some((sent, name.to_owned())),
            })
            .collect();
        NameMap { changed: (!changed.is_empty()).then(|| Arc::new(changed)) }
    }

    /// The caller's name for what the upstream calls `sent`.
    pub fn given<'a>(&'a self, sent: &'a str) -> &'a str {
        let changed = self.changed.iter().flat_map(|pairs| pairs.iter());
        changed.into_iter().find(|(wire, _)| wire == sent).map_or(sent, |(_, given)| given)
    }
}

/// The name that goes to the upstream: the same if it is legal there, else what is legal of it and a hash.
pub fn wire_name(name: &str) -> Cow<'_, str> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.len() <= MAX_NAME && name.chars().all(legal) {
        return Cow::Borrowed(name);
    }
    let mut sent: String = name.chars().filter(|&c| legal(c)).take(KEPT).collect();
    sent.push('_');
    sent.push_str(&hash(&[name], 8));
    Cow::Owned(sent)
}

/// The id that goes to the upstream.
pub fn wire_id(id: &str, rule: IdRule) -> Cow<'_, str> {
    match rule {
        IdRule::Any => Cow::Borrowed(id),
        IdRule::AtMost(most) if id.len() <= most => Cow::Borrowed(id),
        IdRule::AtMost(_) => Cow::Owned(format!("call_{}", hash(&[id], 32))),
        IdRule::NineAlphanumeric if id.len() == 9 && id.bytes().all(|b| b.is_ascii_alphanumeric()) => {
            Cow::Borrowed(id)
        }
        IdRule::NineAlphanumeric => {
            const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
            let digest = Sha256::digest(id.as_bytes());
            let digit = |byte: &u8| BASE62.get(usize::from(*byte) % 62).map_or('0', |b| char::from(*b));
            Cow::Owned(digest.iter().take(9).map(digit).collect())
        }
    }
}

/// The first `digits` hex digits of a SHA-256 over the pieces, each ended by a zero byte.
pub fn hash(pieces: &[&str], digits: usize) -> String {
    let mut hasher = Sha256::new();
    for piece in pieces {
        hasher.update(piece.as_bytes());
        hasher.update([0]);
    }
    let mut hex = String::with_capacity(64);
    for byte in hasher.finalize() {
        // Writing to a string can't fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex.truncate(digits);
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_or_odd_name_is_shortened_the_same_way_each_time_and_finds_its_way_back() {
        let long = format!("mcp__server__{}", "tool".repeat(20));
        let names = NameMap::new([long.as_str(), "Read", "sp ace"].into_iter());
        let sent = wire_name(&long).into_owned();
        assert!(sent.len() <= MAX_NAME && sent.starts_with("mcp__server__"));
        assert_eq!(sent, wire_name(&long));
        assert_eq!(names.given(&sent), long);
        assert_eq!(names.given("Read"), "Read");
        assert_eq!(names.given(&wire_name("sp ace")), "sp ace");
        assert!(matches!(wire_name("Read"), Cow::Borrowed("Read")));
    }

    #[test]
    fn ids_fit_the_rule_of_the_upstream() {
        let id = "toolu_01ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
        assert_eq!(wire_id(id, IdRule::Any), id);
        assert_eq!(wire_id(id, IdRule::AtMost(40)).len(), 37);
        let nine = wire_id(id, IdRule::NineAlphanumeric);
        assert!(nine.len() == 9 && nine.bytes().all(|b| b.is_ascii_alphanumeric()));
        assert_eq!(wire_id("abcDEF123", IdRule::NineAlphanumeric), "abcDEF123");
        assert_ne!(wire_id("a", IdRule::NineAlphanumeric), wire_id("b", IdRule::NineAlphanumeric));
    }
}
