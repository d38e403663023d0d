//! Takes out of a conversation what only other upstreams made: reasoning blocks whose signature is one of our
//! carriers. Anthropic's API refuses a signature that it did not make.

use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;

use crate::dialect::carrier;
use crate::dialect::json::Raw;
use crate::dialect::json::{Fields, Str};

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    content: Raw<'a>,
}

#[derive(Deserialize)]
struct Block<'a> {
    #[serde(borrow, default)]
    signature: Option<Str<'a>>,
    #[serde(borrow, default)]
    data: Option<Str<'a>>,
}

/// The body without our own reasoning blocks; `None` if it holds none, which one search tells. All other bytes
/// stay as they are.
pub fn without_ours(body: &[u8]) -> Option<Bytes> {
    memchr::memmem::find(body, carrier::PREFIX.as_bytes())?;
    let fields = serde_json::from_slice::<Fields<'_>>(body).ok()?;
    let mut out = BytesMut::with_capacity(body.len());
    let mut removed = false;
    out.put_u8(b'{');
    for (n, (key, value)) in fields.0.iter().enumerate() {
        if n > 0 {
            out.put_u8(b',');
        }
        out.put_slice(key.as_bytes());
        out.put_u8(b':');
        let messages = if *key == "\"messages\"" {
            serde_json::from_str::<Vec<Raw<'_>>>(value.get()).ok()
        } else {
            None
        };
        match messages {
            Some(messages) => removed |= write_messages(&messages, &mut out),
            None => out.put_slice(value.get().as_bytes()),
        }
    }
    out.put_u8(b'}');
    removed.then(|| out.freeze())
}

/// Writes the messages without our blocks; a message left empty is left out. True if anything was.
fn write_messages(messages: &[Raw<'_>], out: &mut BytesMut) -> bool {
    let mut removed = false;
    let mut first = true;
    out.put_u8(b'[');
    for message in messages {
        let blocks = serde_json::from_str::<Message<'_>>(message.get()).ok().and_then(|message| {
            serde_json::from_str::<Vec<Raw<'_>>>(message.content.get())
                .ok()
                .map(|blocks| (message.content, blocks))
        });
        let cleaned = blocks.and_then(|(content, blocks)| {
            let kept: Vec<&str> =
                blocks.iter().map(|block| block.get()).filter(|block| !is_ours(block)).collect();
            (kept.len() < blocks.len()).then(|| (content.get(), kept))
        });
        if cleaned.as_ref().is_some_and(|(_, kept)| kept.is_empty()) {
            removed = true;
            continue;
        }
        if !std::mem::take(&mut first) {
            out.put_u8(b',');
        }
        match cleaned {
            None => out.put_slice(message.get().as_bytes()),
            Some((content, kept)) => {
                removed = true;
                // The content stands in the message as one run of bytes, borrowed from it.
                let at = content.as_ptr() as usize - message.get().as_ptr() as usize;
                let (before, rest) = message.get().split_at(at);
                let after = &rest[content.len()..];
                out.put_slice(before.as_bytes());
                out.put_u8(b'[');
                out.put_slice(kept.join(",").as_bytes());
                out.put_u8(b']');
                out.put_slice(after.as_bytes());
            }
        }
    }
    out.put_u8(b']');
    removed
}

fn is_ours(block: &str) -> bool {
    serde_json::from_str::<Block<'_>>(block).is_ok_and(|block| {
        let ours = |text: &Option<Str<'_>>| text.as_ref().is_some_and(|text| carrier::is_ours(text));
        ours(&block.signature) || ours(&block.data)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn cleaned(body: &str) -> Option<String> {
        without_ours(body.as_bytes()).map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[test]
    fn a_conversation_without_our_reasoning_is_left_alone() {
        assert_eq!(cleaned(r#"{"model":"m","messages":[{"role":"user","content":"hello"}]}"#), None);
        // The words alone are no block.
        assert_eq!(
            cleaned(r#"{"messages":[{"role":"user","content":[{"type":"text","text":"cp1.abc"}]}]}"#),
            None
        );
    }

    #[test]
    fn our_reasoning_goes_and_all_else_stays_byte_for_byte() {
        let body = concat!(
            r#"{"model":"m", "n":1.50,"messages":[{"role":"user","content":"q"},"#,
            r#"{"role":"assistant", "content":[{"type":"thinking","thinking":"","signature":"cp1.e30"},{"type":"text", "text":"aä"}],"x":2},"#,
            r#"{"role":"assistant","content":[{"type":"thinking","thinking":"t","signature":"EqRk"}]}],"z":null}"#
        );
        let expected = concat!(
            r#"{"model":"m","n":1.50,"messages":[{"role":"user","content":"q"},"#,
            r#"{"role":"assistant", "content":[{"type":"text", "text":"aä"}],"x":2},"#,
            r#"{"role":"assistant","content":[{"type":"thinking","thinking":"t","signature":"EqRk"}]}],"z":null}"#
        );
        assert_eq!(cleaned(body).unwrap(), expected);
    }

    #[test]
    fn a_message_that_held_nothing_else_goes_with_it() {
        let body = r#"{"messages":[{"role":"assistant","content":[{"type":"thinking","thinking":"","signature":"cp1.e30"}]},{"role":"user","content":"q"}]}"#;
        assert_eq!(cleaned(body).unwrap(), r#"{"messages":[{"role":"user","content":"q"}]}"#);
    }
}
