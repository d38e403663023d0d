//! One request over a connection of its own, with exactly these headers: what no client library would send.

#![allow(dead_code, reason = "each test target uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// An answer.
pub struct Got {
    /// The status.
    pub status: u16,
    /// The status line and the headers, in lower case.
    pub head: String,
    /// The body.
    pub body: String,
}

/// Sends a request and reads its answer up to the end of the connection.
pub fn ask(url: &str, method: &str, target: &str, headers: &[(&str, String)], body: &str) -> Got {
    try_ask(url, method, target, headers, body).unwrap()
}

/// Likewise, of a server that may be gone.
///
/// # Errors
/// When there is no connection, or what came is no HTTP answer.
pub fn try_ask(
    url: &str,
    method: &str,
    target: &str,
    headers: &[(&str, String)],
    body: &str,
) -> std::io::Result<Got> {
    let mut stream = TcpStream::connect(url.trim_start_matches("http://"))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut request = format!("{method} {target} HTTP/1.1\r\nconnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        request.push_str(&format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len()));
    }
    request.push_str(&format!("\r\n{body}"));
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    // A server that refuses early may reset what was not read; what came is what counts.
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let no_answer = || std::io::Error::other(format!("no HTTP answer: {answer:?}"));
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(no_answer)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(no_answer)?;
    Ok(Got { status, head: head.to_lowercase(), body: body.to_owned() })
}
