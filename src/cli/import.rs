//! `cproxy import ccr FILE`: the config of claude-code-router, read into ours.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::terminal::{clean, fail, say, say_json};
use crate::config::{self, Environment, Overrides, Source, import, source};

/// Whose config is read.
#[derive(Debug, clap::Subcommand)]
pub enum ImportCommand {
    /// claude-code-router's config.json (version 2)
    Ccr {
        /// The file, usually ~/.claude-code-router/config.json
        file: PathBuf,
        /// Where the config goes; without it, to stdout
        #[arg(long, short, value_name = "FILE")]
        out: Option<PathBuf>,
        /// As JSON: the config's text and the notes
        #[arg(long, conflicts_with = "out")]
        json: bool,
    },
}

/// Reads it. The config goes to stdout or to a new file, what needs a hand to stderr.
pub fn run(from: ImportCommand) -> ExitCode {
    let ImportCommand::Ccr { file, out, json } = from;
    let text = match source::read_file(&file).map(|file| String::from_utf8(file.bytes)) {
        Ok(Ok(text)) => text,
        Ok(Err(_)) => return fail(&format!("{} is not UTF-8", file.display())),
        Err(error) => return fail(&format!("{} can't be read: {error}", file.display())),
    };
    let imported = match import::from_ccr(&text) {
        Ok(imported) => imported,
        Err(error) => return fail(&format!("{}: {error}", file.display())),
    };
    if json {
        return say_json(&serde_json::json!({ "config": imported.toml, "notes": imported.notes }));
    }
    let mut err = std::io::stderr().lock();
    for note in &imported.notes {
        let _ = writeln!(err, "note: {}", clean(note));
    }
    // What we wrote must be what we take; a name of theirs may still be none of ours.
    let environment = Environment::of_process();
    let own = Source::Text(imported.toml.clone(), PathBuf::from("."));
    if let Err(error) = config::load(&own, &environment, &Overrides::default()) {
        let _ = writeln!(err, "the result needs a hand:\n{error}");
    }
    match out {
        None => say(&imported.toml),
        Some(out) => match write_new(&out, &imported.toml) {
            Ok(()) => say(&format!("{} is written; `cproxy check --config {0}` checks it\n", out.display())),
            Err(reason) => fail(&reason),
        },
    }
}

/// Writes a file for its owner alone, in a folder that is made if it is not there. What is there is never replaced.
pub fn write_new(path: &Path, text: &str) -> Result<(), String> {
    let at = path.display();
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .map_err(|error| format!("{} can't be made: {error}", folder.display()))?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            format!("{at} is there already and was left alone; move it away first")
        }
        _ => format!("{at} can't be written: {error}"),
    })?;
    file.write_all(text.as_bytes()).map_err(|error| format!("{at} can't be written: {error}"))
}
