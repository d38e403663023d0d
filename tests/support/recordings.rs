//! The recorded bodies of real providers: read in place, never copied into the project.

use std::path::{Path, PathBuf};

/// The files of one provider whose names end so, sorted: name and content. Says so and gives none where the
/// recordings aren't there. They are looked for in `CPROXY_FIXTURES`, else beside the project.
pub fn recordings(provider: &str, ending: &str) -> Vec<(String, Vec<u8>)> {
    let Some(folder) = folder() else { return Vec::new() };
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder.join(provider))
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

fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("CPROXY_FIXTURES")
        .map(PathBuf::from)
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures"));
    if folder.is_dir() {
        return Some(folder);
    }
    println!("NOT RUN: no recordings in {} (set CPROXY_FIXTURES)", folder.display());
    None
}
