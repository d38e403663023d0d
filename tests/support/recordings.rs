//! Bodies of providers: our own small ones in `tests/fixtures`, and recorded ones, which are read in place and never
//! copied into the project.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Once;

/// The files of one provider whose names end so, our own first, then the recorded ones: name and content. The
/// recordings are looked for in `CPROXY_FIXTURES`, else beside the project.
pub fn recordings(provider: &str, ending: &str) -> Vec<(String, Vec<u8>)> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut files = files(&own.join(provider), ending);
    if let Some(folder) = folder() {
        files.extend(self::files(&folder.join(provider), ending));
    }
    files
}

/// The providers that there are recordings of.
pub fn folders() -> Vec<String> {
    let entries = folder().and_then(|folder| std::fs::read_dir(folder).ok());
    let mut names: Vec<String> = entries
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().filter(|entry| entry.path().is_dir())?.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

fn files(folder: &Path, ending: &str) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
        .unwrap_or_default();
    files.sort();
    files
        .into_iter()
        .filter_map(|path| {
            let name = path.file_name()?.to_str()?.to_owned();
            name.ends_with(ending).then(|| Some((name, std::fs::read(&path).ok()?))).flatten()
        })
        .collect()
}

/// The folder of the recordings. Says so where it isn't there: past the capture of the test's output, so that it
/// is seen in a run that passes.
fn folder() -> Option<PathBuf> {
    static SAID: Once = Once::new();
    let folder = std::env::var_os("CPROXY_FIXTURES")
        .map(PathBuf::from)
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures"));
    let is_there = folder.is_dir();
    SAID.call_once(|| {
        let folder = folder.display();
        let line = if is_there {
            format!("recordings: {folder}\n")
        } else {
            format!("RECORDINGS NOT RUN: {folder} is not there (CPROXY_FIXTURES names another); own fixtures only\n")
        };
        let _ = std::io::stderr().write_all(line.as_bytes());
    });
    is_there.then_some(folder)
}
