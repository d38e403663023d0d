//! Reads a request's body within its limits of size and time.

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body_util::BodyExt;

use super::{MAX_BODY, READ_LIMIT};

/// Why a body could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Larger than [`MAX_BODY`].
    #[error("Request exceeds the maximum size of {} MiB", MAX_BODY >> 20)]
    TooLarge,
    /// It came too slowly.
    #[error("the request body did not arrive within {} seconds", READ_LIMIT.as_secs())]
    TooSlow,
    /// The caller broke off.
    #[error("the request body broke off")]
    Broken,
    /// It is compressed, and we do not decompress what others send.
    #[error("request bodies must not be compressed; send them without Content-Encoding")]
    Encoded,
}

impl ReadError {
    /// The status and Anthropic's error type.
    pub fn status(&self) -> (StatusCode, &'static str) {
        match self {
            ReadError::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "request_too_large"),
            ReadError::TooSlow => (StatusCode::REQUEST_TIMEOUT, "timeout_error"),
            ReadError::Broken => (StatusCode::BAD_REQUEST, "invalid_request_error"),
            ReadError::Encoded => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request_error"),
        }
    }
}

/// Reads the whole body.
pub async fn read(headers: &http::HeaderMap, body: Body) -> Result<Bytes, ReadError> {
    if headers.get(http::header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(ReadError::Encoded);
    }
    let announced = headers.get(http::header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    let announced: usize = announced.and_then(|length| length.parse().ok()).unwrap_or(0);
    if announced > MAX_BODY {
        return Err(ReadError::TooLarge);
    }
    match tokio::time::timeout(READ_LIMIT, collect(body, announced)).await {
        Ok(read) => read,
        Err(_) => Err(ReadError::TooSlow),
    }
}

/// Joins the frames; a body that came in one frame is not copied.
async fn collect(mut body: Body, announced: usize) -> Result<Bytes, ReadError> {
    let mut first: Option<Bytes> = None;
    let mut joined = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| ReadError::Broken)?.into_data() else { continue };
        if joined.len() + first.as_ref().map_or(0, Bytes::len) + data.len() > MAX_BODY {
            return Err(ReadError::TooLarge);
        }
        match first.take() {
            None if joined.is_empty() => first = Some(data),
            None => joined.extend_from_slice(&data),
            Some(start) => {
                joined.reserve(announced.max(start.len() + data.len()));
                joined.extend_from_slice(&start);
                joined.extend_from_slice(&data);
            }
        }
    }
    Ok(first.unwrap_or_else(|| joined.freeze()))
}
