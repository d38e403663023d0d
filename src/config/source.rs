//! Where a configuration comes from: the file, the environment, the command line. The process's own are read
//! here and nowhere else in this room; tests hand in their own.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// The file that the repository carries and the binary holds: what is in force when there is no other.
pub const BUILT_IN: &str = include_str!("../../config.toml");

/// The largest config or key file that is read, in bytes.
pub const MAX_FILE: u64 = 1 << 20;

/// Where the config's text comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file that must be there.
    File(PathBuf),
    /// The file at the default place; if it is absent, [`BUILT_IN`] is in force.
    Default(PathBuf),
    /// A text at hand; relative paths in it are relative to the second field.
    Text(String, PathBuf),
}

/// The environment as a value, so that loading depends on nothing that a test can't make.
pub struct Environment<'a> {
    /// The variables.
    pub variables: BTreeMap<String, String>,
    /// Reads a file.
    pub read: &'a (dyn Fn(&Path) -> io::Result<FileText> + Send + Sync),
}

/// A file as read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileText {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its Unix permission bits, where the platform has them.
    pub mode: Option<u32>,
}

/// What the command line sets; wins over all else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--host`.
    pub host: Option<IpAddr>,
    /// `--port`.
    pub port: Option<u16>,
}

// === impl Source ===

impl Source {
    /// The source for a command line that named `file`, or none.
    ///
    /// Without a file, in this order: the variable `CPROXY_CONFIG`; `config.toml` in the working directory, but
    /// only when the binary was built there or cargo runs it there (a checkout of this project); `cproxy/config.toml`
    /// in the user's configuration directory (`XDG_CONFIG_HOME`, else `~/.config`).
    ///
    /// The binary's place matters since MCP clients start `cproxy mcp` inside whatever project is open: a
    /// `config.toml` that came with a stranger's project must not decide where keys are sent.
    pub fn find(
        file: Option<&Path>,
        variables: &BTreeMap<String, String>,
        working_dir: Option<&Path>,
        binary: Option<&Path>,
    ) -> Source {
        if let Some(file) = file {
            return Source::File(file.to_path_buf());
        }
        if let Some(file) = variables.get("CPROXY_CONFIG").filter(|file| !file.is_empty()) {
            return Source::File(expand(file, variables));
        }
        if let Some(dir) = working_dir {
            let built_here = binary.is_some_and(|binary| binary.starts_with(dir.join("target")));
            let variable = |name: &str| variables.get(name).map(String::as_str);
            let run_by_cargo = variable("CARGO_PKG_NAME") == Some("cproxy")
                && variable("CARGO_MANIFEST_DIR").is_some_and(|manifest| Path::new(manifest) == dir);
            if built_here || run_by_cargo {
                return Source::Default(dir.join("config.toml"));
            }
        }
        let base = match variables.get("XDG_CONFIG_HOME").filter(|dir| Path::new(dir).is_absolute()) {
            Some(dir) => PathBuf::from(dir),
            None => expand("~/.config", variables),
        };
        Source::Default(base.join("cproxy").join("config.toml"))
    }

    /// [`Source::find`] with the working directory and the binary of this process.
    pub fn of_process(file: Option<&Path>, environment: &Environment<'_>) -> Source {
        let working_dir = std::env::current_dir().ok();
        let binary = std::env::current_exe().ok();
        Source::find(file, &environment.variables, working_dir.as_deref(), binary.as_deref())
    }

    /// The file, if there is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Source::File(path) | Source::Default(path) => Some(path),
            Source::Text(..) => None,
        }
    }
}

// === impl Environment ===

impl Environment<'static> {
    /// The environment of this process. Variables that are not UTF-8 are left out.
    pub fn of_process() -> Environment<'static> {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Environment { variables, read: &read_file }
    }
}

impl Environment<'_> {
    /// A variable that is set to something.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.trim().is_empty())
    }
}

impl std::fmt::Debug for Environment<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Names only: values are keys.
        f.debug_struct("Environment").field("variables", &self.variables.keys()).finish_non_exhaustive()
    }
}

/// A path as written, with `~/` replaced by the home directory.
pub fn expand(path: &str, variables: &BTreeMap<String, String>) -> PathBuf {
    let home = variables.get("HOME").or_else(|| variables.get("USERPROFILE")).filter(|home| !home.is_empty());
    match (path.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => Path::new(home).join(rest),
        _ => PathBuf::from(path),
    }
}

/// The folder for what the daemon keeps between its runs, `cproxy` in `XDG_STATE_HOME`, else in `~/.local/state`;
/// `None` if the environment names no home. Source: XDG Base Directory Specification (a relative path is ignored).
pub fn state_dir(variables: &BTreeMap<String, String>) -> Option<PathBuf> {
    let named = variables.get("XDG_STATE_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
    let base = named.or_else(|| {
        let path = expand("~/.local/state", variables);
        (!path.starts_with("~")).then_some(path)
    })?;
    Some(base.join("cproxy"))
}

/// A path of the config: `~/` expanded, a relative one taken from the config's directory.
pub fn resolve(path: &Path, dir: &Path, variables: &BTreeMap<String, String>) -> PathBuf {
    match path.to_str() {
        Some(text) => dir.join(expand(text, variables)),
        None => dir.join(path),
    }
}

/// Reads a regular file of at most [`MAX_FILE`] bytes. Pipes and devices are refused, since they can block.
pub fn read_file(path: &Path) -> io::Result<FileText> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let file = std::fs::File::open(path)?;
    let mode = mode(&file.metadata()?);
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 1 MiB"));
    }
    Ok(FileText { bytes, mode })
}

#[cfg(unix)]
fn mode(metadata: &std::fs::Metadata) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    Some(metadata.permissions().mode() & 0o7777)
}

#[cfg(not(unix))]
fn mode(_: &std::fs::Metadata) -> Option<u32> {
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_file_is_read_with_its_mode_and_what_could_block_is_not_read() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        std::fs::write(&file, "k").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(read_file(&file).unwrap(), FileText { bytes: b"k".to_vec(), mode: Some(0o640) });
        for no_file in [dir.path(), Path::new("/dev/zero")] {
            assert!(read_file(no_file).unwrap_err().to_string().contains("not a regular file"));
        }
        std::fs::write(&file, vec![b'x'; MAX_FILE as usize + 1]).unwrap();
        assert!(read_file(&file).unwrap_err().to_string().contains("larger than 1 MiB"));
    }

    #[test]
    fn what_is_kept_goes_where_xdg_says_else_into_the_home() {
        let dir = |pairs: &[(&str, &str)]| {
            state_dir(&pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
        };
        let home = ("HOME", "/home/u");
        assert_eq!(dir(&[home]), Some("/home/u/.local/state/cproxy".into()));
        assert_eq!(dir(&[home, ("XDG_STATE_HOME", "/s")]), Some("/s/cproxy".into()));
        assert_eq!(dir(&[home, ("XDG_STATE_HOME", "relative")]), Some("/home/u/.local/state/cproxy".into()));
        assert_eq!(dir(&[]), None);
    }

    #[test]
    fn the_home_directory_stands_for_a_tilde() {
        let variables = BTreeMap::from([("HOME".to_owned(), "/home/me".to_owned())]);
        let dir = Path::new("/etc/cproxy");
        assert_eq!(resolve(Path::new("~/k"), dir, &variables), Path::new("/home/me/k"));
        assert_eq!(resolve(Path::new("k"), dir, &variables), Path::new("/etc/cproxy/k"));
        assert_eq!(resolve(Path::new("/k"), dir, &variables), Path::new("/k"));
    }
}
