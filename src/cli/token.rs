//! The token that callers must present (`server.token_file`): read, or made at the first start.

use std::io::Write;
use std::path::Path;

use base64::Engine;

use crate::config::Server;
use crate::config::secret::Key;

/// The token of this server; `None` if it asks for none. A file that is not there is made, for its owner alone.
pub fn of(server: &Server) -> Result<Option<Key>, String> {
    match (read(server)?, &server.token_file) {
        (None, Some(path)) => {
            let at = path.display();
            let text = make(path).map_err(|error| {
                format!(
                    "server.token_file = {at}: can't be made: {error}; make its folder writable or name another"
                )
            })?;
            Ok(Some(Key::new("server.token_file", text)))
        }
        (token, _) => Ok(token),
    }
}

/// The token of this server, if it asks for one and the file is there.
pub fn read(server: &Server) -> Result<Option<Key>, String> {
    let Some(path) = &server.token_file else { return Ok(None) };
    let at = path.display();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => {
            refuse_open(path)?;
            text.trim().to_owned()
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("server.token_file = {at}: {error}")),
    };
    if text.len() < 16 {
        return Err(format!(
            "server.token_file = {at}: holds fewer than 16 characters; remove it, and a new one is made"
        ));
    }
    Ok(Some(Key::new("server.token_file", text)))
}

/// Makes a file with a random token, readable by its owner alone.
fn make(path: &Path) -> std::io::Result<String> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let bytes: [u8; 32] = rand::random();
    let token = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(token.as_bytes())?;
    Ok(token)
}

/// A token that others can read is none.
fn refuse_open(path: &Path) -> Result<(), String> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let mode = std::fs::metadata(path).map(|found| found.mode()).unwrap_or(0);
        if mode & 0o077 != 0 {
            let at = path.display();
            return Err(format!(
                "server.token_file = {at}: others can read it (mode {:03o}); run: chmod 600 {at}",
                mode & 0o777
            ));
        }
    }
    Ok(())
}
