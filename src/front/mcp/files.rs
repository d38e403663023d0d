//! Files that a call names: read only below the client's roots, by their real path, and only so large.
//!
//! Source: Model Context Protocol specification, "Roots".

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rmcp::service::RequestContext;
use rmcp::{Peer, RoleServer};
use serde_json::{Value, json};
use std::io::Read;

/// Most files of one call.
const MOST_FILES: usize = 50;
/// Bytes of one file of text.
const TEXT_BYTES: u64 = 1 << 20;
/// Bytes of one image or PDF.
const BINARY_BYTES: u64 = 5 << 20;
/// Bytes of all files of one call.
const ALL_BYTES: u64 = 16 << 20;
/// How long the client may take to name its roots.
const ROOTS_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a file was not read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum FileError {
    #[error(
        "the client names no roots, so no file may be read; put the text into `messages`, \
         or use a client that supports MCP roots"
    )]
    NoRoots,
    #[error("the client did not name its roots: {0}; put the text into `messages`")]
    Roots(String),
    #[error("\"{0}\" does not exist below the client's roots ({1})")]
    Missing(String, String),
    #[error("\"{0}\" is outside the client's roots ({1}) and was not read")]
    Outside(String, String),
    #[error("\"{0}\" is not a regular file")]
    NotAFile(String),
    #[error("\"{0}\" has {1} bytes, more than the {2} that are allowed; send a part of it in `messages`")]
    TooLarge(String, u64, u64),
    #[error("\"{0}\" is neither text nor an image (PNG, JPEG, GIF, WebP) nor a PDF")]
    Binary(String),
    #[error("\"{0}\" is no image (PNG, JPEG, GIF, WebP)")]
    NotAnImage(String),
    #[error("\"{0}\" could not be read: {1}")]
    Io(String, String),
    #[error("too many files: at most {MOST_FILES} in one call")]
    TooMany,
    #[error("the files have more than {ALL_BYTES} bytes together; send fewer")]
    TooMuch,
}

/// What the client lets us read.
#[derive(Debug, Clone)]
pub(crate) struct Roots(Vec<PathBuf>);

// === reading ===

/// Reads files into content blocks. With `images`, each must be an image.
pub(crate) async fn read(
    context: &RequestContext<RoleServer>,
    paths: Vec<String>,
    images: bool,
) -> Result<Vec<Value>, FileError> {
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    if paths.len() > MOST_FILES {
        return Err(FileError::TooMany);
    }
    if context.client_capabilities().is_none_or(|capabilities| capabilities.roots.is_none()) {
        return Err(FileError::NoRoots);
    }
    let uris = ask(&context.peer).await?;
    tokio::task::spawn_blocking(move || Roots::new(&uris).read_all(&paths, images))
        .await
        .map_err(|error| FileError::Io("files".into(), error.to_string()))?
}

#[allow(deprecated, reason = "roots are what the clients of today offer")]
async fn ask(peer: &Peer<RoleServer>) -> Result<Vec<String>, FileError> {
    match tokio::time::timeout(ROOTS_TIMEOUT, peer.list_roots()).await {
        Err(_) => Err(FileError::Roots("no answer within 10 s".into())),
        Ok(Err(error)) => Err(FileError::Roots(error.to_string())),
        Ok(Ok(result)) => Ok(result.roots.into_iter().map(|root| root.uri).collect()),
    }
}

// === impl Roots ===

impl Roots {
    /// The real directories behind `file:` URIs; others, and those that are gone, are left out.
    pub fn new(uris: &[String]) -> Roots {
        Roots(uris.iter().filter_map(|uri| from_uri(uri)?.canonicalize().ok()).collect())
    }

    fn read_all(&self, paths: &[String], images: bool) -> Result<Vec<Value>, FileError> {
        if self.0.is_empty() {
            return Err(FileError::NoRoots);
        }
        let mut left = ALL_BYTES;
        paths.iter().map(|path| self.read_one(path, images, &mut left)).collect()
    }

    fn read_one(&self, asked: &str, images: bool, left: &mut u64) -> Result<Value, FileError> {
        let io = |error: std::io::Error| FileError::Io(asked.to_owned(), error.kind().to_string());
        let real = self.resolve(asked)?;
        // Looked at before it is opened: opening a pipe would wait for its other end.
        if !std::fs::metadata(&real).map_err(io)?.is_file() {
            return Err(FileError::NotAFile(asked.to_owned()));
        }
        let file = std::fs::File::open(&real).map_err(io)?;
        self.still_inside(&file, &real).ok_or_else(|| self.outside(asked))?;
        let size = file.metadata().map_err(io)?.len();
        if size > *left {
            return Err(if size > BINARY_BYTES {
                FileError::TooLarge(asked.to_owned(), size, BINARY_BYTES)
            } else {
                FileError::TooMuch
            });
        }
        let mut bytes = Vec::new();
        file.take(BINARY_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
        let read = bytes.len() as u64;
        let kind = sniff(&bytes);
        let most = if kind.is_some() { BINARY_BYTES } else { TEXT_BYTES };
        if read > most {
            return Err(FileError::TooLarge(asked.to_owned(), size.max(read), most));
        }
        *left = left.saturating_sub(read);
        let source = |kind: &str| json!({ "type": "base64", "media_type": kind, "data": BASE64_STANDARD.encode(&bytes) });
        match kind {
            Some("application/pdf") if images => Err(FileError::NotAnImage(asked.to_owned())),
            Some(kind @ "application/pdf") => {
                Ok(json!({ "type": "document", "source": source(kind), "title": asked }))
            }
            Some(kind) => Ok(json!({ "type": "image", "source": source(kind) })),
            None if images => Err(FileError::NotAnImage(asked.to_owned())),
            None => match std::str::from_utf8(&bytes) {
                Ok(text) if !text.contains('\0') => Ok(json!({
                    "type": "text", "text": format!("File {asked}:\n\n{text}\n\n(End of file {asked}.)")
                })),
                _ => Err(FileError::Binary(asked.to_owned())),
            },
        }
    }

    /// The real path, if it is below a root.
    fn resolve(&self, asked: &str) -> Result<PathBuf, FileError> {
        let path = from_uri(asked).unwrap_or_else(|| PathBuf::from(asked));
        let mut outside = false;
        for root in &self.0 {
            // Joining an absolute path gives that path itself.
            if let Ok(real) = root.join(&path).canonicalize() {
                if self.0.iter().any(|root| real.starts_with(root)) {
                    return Ok(real);
                }
                outside = true;
            }
        }
        // Nothing outside is said to exist or not.
        if outside || path.is_absolute() && !self.0.iter().any(|root| path.starts_with(root)) {
            return Err(self.outside(asked));
        }
        Err(FileError::Missing(asked.to_owned(), self.names()))
    }

    /// Whether the open file is the one at `real`, and that still its real path: a link may have been put in
    /// its place between the check and the opening.
    fn still_inside(&self, file: &std::fs::File, real: &Path) -> Option<()> {
        if real.canonicalize().ok()? != real {
            return None;
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let (open, there) = (file.metadata().ok()?, std::fs::symlink_metadata(real).ok()?);
            if (open.dev(), open.ino()) != (there.dev(), there.ino()) {
                return None;
            }
        }
        #[cfg(not(unix))]
        let _ = file;
        Some(())
    }

    fn outside(&self, asked: &str) -> FileError {
        FileError::Outside(asked.to_owned(), self.names())
    }

    fn names(&self) -> String {
        self.0.iter().map(|root| root.display().to_string()).collect::<Vec<_>>().join(", ")
    }
}

/// The path of a `file:` URI of this machine.
fn from_uri(uri: &str) -> Option<PathBuf> {
    let rest = uri.strip_prefix("file://")?;
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if !path.starts_with('/') {
        return None;
    }
    let mut bytes = Vec::with_capacity(path.len());
    let mut left = path.bytes();
    while let Some(byte) = left.next() {
        if byte == b'%' {
            let high = char::from(left.next()?).to_digit(16)?;
            let low = char::from(left.next()?).to_digit(16)?;
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok().map(PathBuf::from)
}

/// The kind of a binary file, by how it begins.
fn sniff(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        [b'%', b'P', b'D', b'F', b'-', ..] => Some("application/pdf"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn roots(dir: &Path) -> Roots {
        Roots::new(&[format!("file://{}", dir.display().to_string().replace(' ', "%20"))])
    }

    fn read(roots: &Roots, path: &str) -> Result<Value, FileError> {
        roots.read_all(&[path.to_owned()], false).map(|mut all| all.remove(0))
    }

    #[test]
    fn files_below_a_root_are_read_by_relative_and_absolute_path_and_uri() {
        let dir = tempfile::Builder::new().prefix("with space").tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        std::fs::write(real.join("a.txt"), "hello").unwrap();
        std::fs::write(real.join("a.png"), [0x89, b'P', b'N', b'G', 0, 1]).unwrap();
        let roots = roots(&real);
        for path in ["a.txt", real.join("a.txt").to_str().unwrap()] {
            assert!(read(&roots, path).unwrap()["text"].as_str().unwrap().contains("hello"));
        }
        assert_eq!(read(&roots, "a.png").unwrap()["source"]["media_type"], "image/png");
    }

    #[cfg(unix)]
    #[test]
    fn nothing_outside_the_roots_is_read_by_whatever_way() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("inside");
        std::fs::create_dir(&inside).unwrap();
        std::fs::write(dir.path().join("secret"), "s3cret").unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret"), inside.join("link")).unwrap();
        std::os::unix::fs::symlink(dir.path(), inside.join("up")).unwrap();
        let roots = roots(&inside);
        for path in
            ["../secret", "link", "up/secret", "/etc/hostname", "/etc/no-such-file", "file:///etc/hostname"]
        {
            assert!(matches!(read(&roots, path), Err(FileError::Outside(..))), "{path}");
        }
        assert!(matches!(read(&roots, "none"), Err(FileError::Missing(..))));
        assert!(matches!(read(&roots, "."), Err(FileError::NotAFile(_))));
    }

    #[test]
    fn large_and_binary_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("big"), "x".repeat(TEXT_BYTES as usize + 1)).unwrap();
        std::fs::write(dir.path().join("bin"), [0, 159, 146, 150]).unwrap();
        let roots = roots(dir.path());
        assert!(matches!(read(&roots, "big"), Err(FileError::TooLarge(..))));
        assert!(matches!(read(&roots, "bin"), Err(FileError::Binary(_))));
    }
}
