//! Reasoning that an upstream wants back, carried through the caller's history in a signature of our own.
//!
//! Callers keep thinking blocks and send them back byte for byte; their signature is a free string. Ours is a
//! prefix and base64url of a small JSON object. Towards Anthropic such blocks must be taken out again.
//!
//! Sources: Anthropic's guide to extended thinking (blocks go back unmodified), OpenRouter's guide to reasoning
//! tokens (`reasoning_details`), Google's guide to thought signatures, DeepSeek's guide to thinking mode.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What all our signatures begin with.
pub const PREFIX: &str = "cp1.";

/// The state of an upstream's reasoning.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Carrier {
    /// The variant of the upstream's dialect.
    #[serde(rename = "d")]
    pub dialect: String,
    /// The model that was asked.
    #[serde(rename = "m")]
    pub model: String,
    /// OpenRouter's `reasoning_details`. An entry of type `reasoning.text` without a text stands for the text
    /// of the block.
    #[serde(rename = "rd", default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<RawValue>>,
    /// Google's thought signatures: (id of the call, signature).
    #[serde(rename = "ts", default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<(String, String)>,
    /// A reasoning item of OpenAI's Responses.
    #[serde(rename = "enc", default, skip_serializing_if = "Option::is_none")]
    pub item: Option<Box<RawValue>>,
}

/// A signature with our prefix that we can't read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid signature in thinking block")]
pub struct Damaged;

// === impl Carrier ===

impl Carrier {
    /// The signature that carries this.
    pub fn write(&self) -> String {
        // Serializing strings and raw values can't fail; an empty carrier would be read as damaged.
        let json = serde_json::to_vec(self).unwrap_or_default();
        let mut signature = String::with_capacity(PREFIX.len() + json.len() * 4 / 3 + 4);
        signature.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(&json, &mut signature);
        signature
    }

    /// Reads a signature: `None` if it is not one of ours.
    pub fn read(signature: &str) -> Result<Option<Carrier>, Damaged> {
        let Some(encoded) = signature.strip_prefix(PREFIX) else { return Ok(None) };
        let json = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| Damaged)?;
        serde_json::from_slice(&json).map(Some).map_err(|_| Damaged)
    }
}

/// Whether a signature is one of ours.
pub fn is_ours(signature: &str) -> bool {
    signature.starts_with(PREFIX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_damage_is_seen() {
        let details =
            RawValue::from_string(r#"[{"type":"reasoning.encrypted","data":"x"}]"#.to_owned()).unwrap();
        let carrier = Carrier {
            dialect: "openrouter".to_owned(),
            model: "a/b".to_owned(),
            details: Some(details),
            signatures: vec![("call".to_owned(), "sig".to_owned())],
            item: None,
        };
        let signature = carrier.write();
        assert!(is_ours(&signature));
        let read = Carrier::read(&signature).unwrap().unwrap();
        assert_eq!((read.dialect.as_str(), read.model.as_str()), ("openrouter", "a/b"));
        assert_eq!(read.details.unwrap().get(), r#"[{"type":"reasoning.encrypted","data":"x"}]"#);
        assert_eq!(read.signatures, carrier.signatures);
        assert!(Carrier::read("EpQBCkYIBRgC").unwrap().is_none());
        assert!(matches!(Carrier::read(&signature[..signature.len() - 3]), Err(Damaged)));
    }
}
