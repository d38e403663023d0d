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
/// In how much of a message its id is looked for.
const HEAD: usize = 4096;

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
            // Of a line that is refused only its beginning is of use.
            line.extend_from_slice(part.get(..HEAD).unwrap_or(part));
            line.truncate(HEAD);
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
                output.write_all(stand_in(&line, &why).as_bytes()).await?;
            }
        }
        line.clear();
        line.shrink_to(1 << 20);
        length = 0;
    }
}

/// A message with the id of the refused one, which the server answers with an error.
fn stand_in(head: &[u8], why: &str) -> String {
    let mut message = match id(head.get(..HEAD).unwrap_or(head)) {
        Some(id) => json!({ "jsonrpc": "2.0", "id": id, "method": REFUSED, "params": { "why": why } }),
        // Answered as an invalid request without an id.
        None => json!({ "jsonrpc": "2.0", "refused": why }),
    }
    .to_string();
    message.push('\n');
    message
}

/// The id of a message, if it stands at its top level before anything nested.
fn id(head: &[u8]) -> Option<serde_json::Value> {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(head.get(..error.valid_up_to())?).ok()?,
    };
    let mut rest = text.trim_start().strip_prefix('{')?;
    loop {
        let (key, after) = value(rest)?;
        let (found, after) = value(after.trim_start().strip_prefix(':')?)?;
        if key == "id" {
            return (found.is_number() || found.is_string()).then_some(found);
        }
        rest = after.trim_start().strip_prefix(',')?;
    }
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
    async fn nesting_without_end_becomes_a_refusal() {
        let deep = format!("{{\"method\":\"m\",\"id\":5,\"params\":{}}}\n", "[".repeat(100_000));
        assert!(through(deep.into(), 1 << 20).await.contains("\"id\":5"));
        assert!(through(format!("{}\n", "[".repeat(1000)).into(), 1 << 20).await.contains("refused"));
    }
}
