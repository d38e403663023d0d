//! The daemons that run for this user: each leaves a file that says where it is, and holds a lock on it for as long
//! as it lives. A file without a lock is what a killed daemon left behind; the number of a process alone would say
//! nothing, since the system gives it to others.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ServeArgs;
use crate::config::Environment;
use crate::config::source::expand;

/// One running daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its process.
    pub pid: u32,
    /// Where it listens, as `http://host:port`.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// Its version.
    pub version: String,
    /// Where its config came from, for people.
    pub config: String,
    /// Where its output goes, if it was started in the background.
    pub log: Option<PathBuf>,
    /// How long its open requests may take when it stops, in seconds.
    pub drain_s: u64,
    /// What it was started with.
    pub flags: ServeArgs,
}

/// The mark that this process leaves; gone when dropped.
#[derive(Debug)]
pub struct Mark {
    path: PathBuf,
    _lock: File,
}

/// Where the marks are: below `XDG_RUNTIME_DIR`, else below the state folder (XDG Base Directory Specification).
/// `None` for a user without a home.
pub fn run_folder(environment: &Environment<'_>) -> Option<PathBuf> {
    match environment.get("XDG_RUNTIME_DIR").map(Path::new).filter(|dir| dir.is_absolute()) {
        Some(dir) => Some(dir.join("cproxy")),
        None => Some(state_folder(environment)?.join("run")),
    }
}

/// What is kept between runs: `cproxy` below `XDG_STATE_HOME`, by itself `~/.local/state`. `None` for a user without
/// a home.
pub fn state_folder(environment: &Environment<'_>) -> Option<PathBuf> {
    let base = match environment.get("XDG_STATE_HOME").map(Path::new).filter(|dir| dir.is_absolute()) {
        Some(dir) => dir.to_path_buf(),
        None => expand("~/.local/state", &environment.variables),
    };
    base.is_absolute().then(|| base.join("cproxy"))
}

/// Every daemon of this user that lives.
pub fn of_this_user() -> Vec<Instance> {
    run_folder(&Environment::of_process()).map(|folder| all(&folder)).unwrap_or_default()
}

/// The daemon of this user on this port, if it lives.
pub fn of_this_user_on(port: u16) -> Option<Instance> {
    living(&path_of(&run_folder(&Environment::of_process())?, port))
}

/// Makes a folder that only its owner can look into.
pub fn make_folder(path: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Every daemon that lives. Files of dead ones are removed on the way.
fn all(folder: &Path) -> Vec<Instance> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<Instance> = entries.flatten().filter_map(|entry| living(&entry.path())).collect();
    found.sort_by_key(|instance| instance.port);
    found
}

/// The program that listens on this port of this machine: its process and name, where `/proc` tells (Linux).
pub fn who_listens(port: u16) -> Option<(u32, String)> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .flat_map(|table| listening_inodes(&table, port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    if inodes.is_empty() {
        return None;
    }
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let Ok(pid) = process.file_name().to_string_lossy().parse::<u32>() else { continue };
        let Ok(open) = std::fs::read_dir(process.path().join("fd")) else { continue };
        let holds = open.flatten().filter_map(|fd| std::fs::read_link(fd.path()).ok());
        if holds.into_iter().any(|link| inodes.iter().any(|inode| link.as_os_str() == inode.as_str())) {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some((pid, name.trim().to_owned()));
        }
    }
    None
}

/// The sockets that listen on the port. Source: proc(5), "/proc/net/tcp": the second column is the address in hex,
/// the fourth the state (0A: listen), the tenth the inode.
fn listening_inodes(table: &str, port: u16) -> Vec<String> {
    let wanted = format!(":{port:04X}");
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row.get(1).is_some_and(|at| at.ends_with(&wanted)) && row.get(3) == Some(&"0A"))
        .filter_map(|row| row.get(9).map(ToString::to_string))
        .collect()
}

/// Reads a mark; removes it if its daemon is dead.
fn living(path: &Path) -> Option<Instance> {
    if path.extension().is_none_or(|extension| extension != "json") {
        return None;
    }
    let file = File::open(path).ok()?;
    match file.try_lock_shared() {
        // Nobody holds it: its daemon was killed.
        Ok(()) => {
            let _ = std::fs::remove_file(path);
            None
        }
        Err(_) => serde_json::from_reader(file).ok(),
    }
}

fn path_of(folder: &Path, port: u16) -> PathBuf {
    folder.join(format!("{port}.json"))
}

// === impl Mark ===

impl Mark {
    /// Leaves the mark of this process. It is locked before it can be seen, so nobody takes it for a dead one's.
    pub fn leave(folder: &Path, instance: &Instance) -> std::io::Result<Mark> {
        make_folder(folder)?;
        let path = path_of(folder, instance.port);
        let draft = folder.join(format!("{}.{}.new", instance.port, instance.pid));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&draft)?;
        file.lock()?;
        file.write_all(&serde_json::to_vec(instance)?)?;
        std::fs::rename(&draft, &path)?;
        Ok(Mark { path, _lock: file })
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path); // a mark without its lock counts as none
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn instance(port: u16) -> Instance {
        Instance {
            pid: std::process::id(),
            address: format!("http://127.0.0.1:{port}"),
            port,
            version: "2".into(),
            config: "c".into(),
            log: None,
            drain_s: 30,
            flags: ServeArgs::default(),
        }
    }

    #[test]
    fn a_mark_is_seen_while_its_daemon_lives_and_no_longer() {
        let folder = tempfile::tempdir().unwrap();
        let mark = Mark::leave(folder.path(), &instance(4000)).unwrap();
        assert_eq!(all(folder.path()), [instance(4000)]);
        drop(mark);
        assert_eq!(all(folder.path()), []);
    }

    #[test]
    fn what_a_killed_daemon_left_is_no_daemon_and_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("4000.json");
        std::fs::write(&path, serde_json::to_vec(&instance(4000)).unwrap()).unwrap();
        assert_eq!(all(folder.path()), []);
        assert!(!path.exists());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_program_on_a_port_is_named() {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let (pid, name) = who_listens(listener.local_addr().unwrap().port()).unwrap();
        assert_eq!(pid, std::process::id());
        assert!(!name.is_empty());
    }
}
