//! Between a client's stdout and rmcp: one line is one message. A line that is too long, or nested so deep
//! that no parser takes it, is replaced by one that the server answers with an error, so that the client need
//! not wait for an answer that never comes.
//!
//! Source: Model Context Protocol specification, "Transports", stdio.

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader, DuplexStream};

/// Most bytes of one message.
pub(crate) const MOST: usize = 32 << 20;
/// Deepest nesting of one message; serde_json gives up beyond it.
const DEPTH: usize = 120;
/// The method that stands for a message that was refused.
pub(crate) const REFUSED: &str = "cproxy/refused";
/// In how much of a message's beginning and of its end its id is looked for: clients write it first or last.
const EDGE: usize = 4096;

/// The same lines, with those that can't be served replaced. Must be called in a runtime; the task ends with
/// either side.
pub(crate) fn checked(input: impl AsyncRead + Send + Unpin + 'static) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    tokio::spawn(async move {
        if let Err(error) = copy(input, ours, MOST).await {
            tracing::debug!(%error, "the client's input ended");
        }
    });
    theirs
}

async fn copy(input: impl AsyncRead + Unpin, mut output: DuplexStream, most: usize) -> std::io::Result<()> {
    let mut input = BufReader::with_capacity(1 << 16, input);
    let mut line = Vec::new();
    let mut end_of_long = Vec::new();
    let mut length = 0;
    loop {
        let available = input.fill_buf().await?;
        if available.is_empty() {
            // A last line without an end is no message.
            return Ok(());
        }
        let end = memchr::memchr(b'\n', available);
        let take = end.map_or(available.len(), |end| end + 1);
        let part = available.get(..take).unwrap_or_default();
        length += take;
        if length <= most {
            line.extend_from_slice(part);
        } else {
            // Of a line that is refused only its edges are of use.
            let fresh = if end_of_long.is_empty() { line.as_slice() } else { &[] };
            let joined = [&end_of_long, last(fresh, EDGE), last(part, EDGE)].concat();
            end_of_long = last(&joined, EDGE).to_vec();
            line.extend_from_slice(part.get(..EDGE).unwrap_or(part));
            line.truncate(EDGE);
        }
        input.consume(take);
        if end.is_none() {
            continue;
        }
        let refusal = if length > most {
            Some(format!("the message has {length} bytes, more than the {most} that are allowed"))
        } else if too_deep(&line) {
            Some(format!("the message is nested deeper than {DEPTH} levels"))
        } else {
            None
        };
        match refusal {
            None => output.write_all(&line).await?,
            Some(why) => {
                tracing::warn!(why, "a message of the MCP client was refused");
                let end = if end_of_long.is_empty() { last(&line, EDGE) } else { &end_of_long };
                output.write_all(stand_in(&line, end, &why).as_bytes()).await?;
            }
        }
        end_of_long.clear();
        line.clear();
        line.shrink_to(1 << 20);
        length = 0;
    }
}

/// At most the last `most` bytes.
fn last(bytes: &[u8], most: usize) -> &[u8] {
    bytes.get(bytes.len().saturating_sub(most)..).unwrap_or(bytes)
}

/// A message with the id of the refused one, which the server answers with an error.
fn stand_in(head: &[u8], end: &[u8], why: &str) -> String {
    let mut message = match id_ahead(head.get(..EDGE).unwrap_or(head)).or_else(|| id_behind(end)) {
        Some(id) => json!({ "jsonrpc": "2.0", "id": id, "method": REFUSED, "params": { "why": why } }),
        // Answered as an invalid request without an id.
        None => json!({ "jsonrpc": "2.0", "refused": why }),
    }
    .to_string();
    message.push('\n');
    message
}

/// The id of a message, if it stands at its top level before anything nested.
fn id_ahead(head: &[u8]) -> Option<serde_json::Value> {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(head.get(..error.valid_up_to())?).ok()?,
    };
    let mut rest = text.trim_start().strip_prefix('{')?;
    loop {
        let (key, after) = value(rest)?;
        let (found, after) = value(after.trim_start().strip_prefix(':')?)?;
        if key == "id" {
            return is_id(found);
        }
        rest = after.trim_start().strip_prefix(',')?;
    }
}

/// The id of a message, if it stands at its top level behind all that is nested: then only plain members and one
/// closing brace follow it.
fn id_behind(end: &[u8]) -> Option<serde_json::Value> {
    const KEY: &str = "\"id\"";
    // The first bytes may be the rest of a character.
    let start = end.iter().position(|byte| byte & 0xc0 != 0x80)?;
    let text = std::str::from_utf8(end.get(start..)?).ok()?;
    let (found, mut rest) = value(text.get(text.rfind(KEY)? + KEY.len()..)?.trim_start().strip_prefix(':')?)?;
    loop {
        rest = rest.trim();
        if rest == "}" {
            return is_id(found);
        }
        let (_, after) = value(rest.strip_prefix(',')?)?;
        (_, rest) = value(after.trim_start().strip_prefix(':')?)?;
    }
}

fn is_id(found: serde_json::Value) -> Option<serde_json::Value> {
    (found.is_number() || found.is_string()).then_some(found)
}

/// One scalar of JSON and what follows; `None` for anything nested or cut.
fn value(text: &str) -> Option<(serde_json::Value, &str)> {
    let text = text.trim_start();
    if text.starts_with(['{', '[']) {
        return None;
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<serde_json::Value>();
    let value = values.next()?.ok()?;
    Some((value, text.get(values.byte_offset()..)?))
}

fn too_deep(line: &[u8]) -> bool {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in line {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                depth += 1;
                if depth > DEPTH {
                    return true;
                }
            }
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::io::AsyncReadExt;

    use super::*;

    async fn through(input: Vec<u8>, most: usize) -> String {
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        copy(&*input, ours, most).await.unwrap();
        let mut output = String::new();
        theirs.read_to_string(&mut output).await.unwrap();
        output
    }

    #[tokio::test]
    async fn what_can_be_served_passes_as_it_is() {
        let lines = "{\"id\":1}\n\n{\"a\":\"[[[\\\"[\"}\n";
        assert_eq!(through(lines.into(), 100).await, lines);
    }

    #[tokio::test]
    async fn a_line_too_long_becomes_a_refusal_under_its_id_and_the_next_passes() {
        let long =
            format!("{{\"jsonrpc\":\"2.0\",\"id\":\"x7\",\"params\":\"{}\"}}\n{{}}\n", "a".repeat(1000));
        let output = through(long.into(), 500).await;
        let (first, second) = output.split_once('\n').unwrap();
        let refusal: serde_json::Value = serde_json::from_str(first).unwrap();
        assert_eq!((refusal["id"].as_str(), refusal["method"].as_str()), (Some("x7"), Some(REFUSED)));
        assert_eq!(second, "{}\n");
    }

    #[tokio::test]
    async fn an_id_at_the_end_of_a_line_too_long_is_found_too() {
        for (end, id) in [
            ("}},\"jsonrpc\":\"2.0\",\"id\":7}", Some(serde_json::json!(7))),
            ("}} , \"id\" : \"x\" , \"jsonrpc\" : \"2.0\" }", Some(serde_json::json!("x"))),
            // Within the parameters it is another one's.
            (",\"id\":7}}}", None),
            ("\\\",\\\"id\\\":7}\"}}}", None),
        ] {
            for filler in [1_000, 100_000] {
                let long =
                    format!("{{\"method\":\"m\",\"params\":{{\"a\":{{\"t\":\"{}\"", "ü".repeat(filler));
                let output = through(format!("{long}{end}\n{{}}\n").into(), 500).await;
                let (first, second) = output.split_once('\n').unwrap();
                let refusal: serde_json::Value = serde_json::from_str(first).unwrap();
                assert_eq!(refusal.get("id"), id.as_ref(), "{end}");
                assert_eq!(second, "{}\n");
            }
        }
    }

    #[tokio::test]
    async fn nesting_without_end_becomes_a_refusal() {
        let deep = format!("{{\"method\":\"m\",\"id\":5,\"params\":{}}}\n", "[".repeat(100_000));
        assert!(through(deep.into(), 1 << 20).await.contains("\"id\":5"));
        assert!(through(format!("{}\n", "[".repeat(1000)).into(), 1 << 20).await.contains("refused"));
    }
}
