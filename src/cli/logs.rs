//! `cproxy logs`: the last lines of the log file, those of one request, and those that come.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::client::DaemonArgs;
use crate::config::Logging;
use crate::telemetry::logs::rotated;

/// How often a file is looked at for more.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What `logs` takes.
#[derive(Clone, Debug, Args)]
pub struct LogsArgs {
    /// Go on with the lines that come
    #[arg(long, short)]
    follow: bool,
    /// Only the lines of this request
    #[arg(long, value_name = "ID")]
    request: Option<String>,
    /// How many lines
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100)]
    lines: usize,
    /// The config file, which says where the log is
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Prints the log.
pub fn run(args: &LogsArgs) -> ExitCode {
    let daemon = DaemonArgs { config: args.config.clone(), ..DaemonArgs::default() };
    let logging = match daemon.load() {
        Ok(loaded) => loaded.config.logging,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    // A daemon in the background has a log even where the config names none.
    let running = || super::instance::of_this_user().into_iter().find_map(|instance| instance.log);
    let Some(path) = &logging.file.clone().or_else(running) else {
        eprintln!(
            "cproxy: there is no log file; name one in the config ([logging] file = \"~/.local/state/cproxy/cproxy.log\"). \
             Without one the log goes to stderr of the daemon"
        );
        return ExitCode::FAILURE;
    };
    match show(args, path, &logging, &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS, // a reader that has gone
        Err(error) => {
            eprintln!("cproxy: {}: {error}", path.display());
            ExitCode::FAILURE
        }
    }
}

fn show(args: &LogsArgs, path: &Path, logging: &Logging, out: &mut impl Write) -> io::Result<()> {
    let wanted = |line: &str| args.request.as_ref().is_none_or(|id| line.contains(id.as_str()));
    let mut last: VecDeque<String> = VecDeque::new();
    let mut keep = |line: String| {
        if wanted(&line) {
            if last.len() >= args.lines {
                last.pop_front();
            }
            last.push_back(line);
        }
    };
    for n in (1..logging.max_files).rev() {
        match File::open(rotated(path, n)) {
            Ok(file) => lines_of(file, &mut keep)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let mut tail = Tail::open(path)?;
    tail.more(&mut keep)?;
    for line in last {
        writeln!(out, "{line}")?;
    }
    out.flush()?;
    if !args.follow {
        return Ok(());
    }
    loop {
        #[allow(clippy::disallowed_methods)] // no runtime runs here
        std::thread::sleep(LOOK_EVERY);
        let mut written = Ok(());
        tail.more(&mut |line| {
            if wanted(&line) && written.is_ok() {
                written = writeln!(out, "{line}");
            }
        })?;
        written?;
        out.flush()?;
    }
}

/// Gives every line of a file. What is no UTF-8 in it is replaced.
fn lines_of(file: File, each: &mut impl FnMut(String)) -> io::Result<()> {
    for line in BufReader::new(file).split(b'\n') {
        each(String::from_utf8_lossy(&line?).into_owned());
    }
    Ok(())
}

/// A file that grows, and that may be set aside for another of the same name.
struct Tail {
    path: PathBuf,
    file: Option<File>,
    read: u64,
    rest: Vec<u8>,
}

// === impl Tail ===

impl Tail {
    /// A file that is not there yet may come.
    fn open(path: &Path) -> io::Result<Tail> {
        let file = match File::open(path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Tail { path: path.to_owned(), file, read: 0, rest: Vec::new() })
    }

    /// Gives the whole lines that have come.
    fn more(&mut self, each: &mut impl FnMut(String)) -> io::Result<()> {
        self.read_on(each)?;
        if !self.is_current()
            && let Ok(next) = File::open(&self.path)
        {
            self.read_on(each)?; // what came between the last look and the end of the old file
            *self =
                Tail { path: std::mem::take(&mut self.path), file: Some(next), read: 0, rest: Vec::new() };
            self.read_on(each)?;
        }
        Ok(())
    }

    fn read_on(&mut self, each: &mut impl FnMut(String)) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        if file.metadata()?.len() < self.read {
            file.seek(SeekFrom::Start(0))?; // cut short by somebody
            self.read = 0;
            self.rest.clear();
        }
        let mut piece = [0; 64 << 10];
        loop {
            let n = file.read(&mut piece)?;
            if n == 0 {
                return Ok(());
            }
            self.read = self.read.saturating_add(u64::try_from(n).unwrap_or(0));
            self.rest.extend_from_slice(piece.get(..n).unwrap_or_default());
            let Some(end) = memchr::memrchr(b'\n', &self.rest) else { continue };
            let whole: Vec<u8> = self.rest.drain(..=end).collect();
            for line in whole.strip_suffix(b"\n").unwrap_or(&whole).split(|byte| *byte == b'\n') {
                each(String::from_utf8_lossy(line).into_owned());
            }
        }
    }

    /// Whether the name still leads to the file that is open.
    fn is_current(&self) -> bool {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let open = self.file.as_ref().and_then(|file| file.metadata().ok());
            let named = std::fs::metadata(&self.path).ok();
            match (open, named) {
                (Some(open), Some(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
                (None, Some(_)) => false,
                (_, None) => true, // the next will come
            }
        }
        #[cfg(not(unix))]
        {
            self.file.is_some()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn args(request: Option<&str>, lines: usize) -> LogsArgs {
        LogsArgs { follow: false, request: request.map(str::to_owned), lines, config: None }
    }

    fn shown(args: &LogsArgs, path: &Path) -> String {
        let mut out = Vec::new();
        show(args, path, &Logging::default(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_last_lines_are_shown_across_files_that_were_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l");
        std::fs::write(rotated(&path, 2), "1 req_a\n2 req_b\n").unwrap();
        std::fs::write(rotated(&path, 1), "3 req_a\n").unwrap();
        std::fs::write(&path, "4 req_b\n5 req_a\nhalf").unwrap();
        assert_eq!(shown(&args(None, 3), &path), "3 req_a\n4 req_b\n5 req_a\n");
        assert_eq!(shown(&args(Some("req_a"), 100), &path), "1 req_a\n3 req_a\n5 req_a\n");
        assert_eq!(shown(&args(None, 3), &dir.path().join("none")), "");
    }

    #[test]
    fn whoever_follows_sees_each_line_once_though_files_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l");
        let append = |text: &str| {
            let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        let mut tail = Tail::open(&path).unwrap();
        let mut seen = Vec::new();
        for (text, rotate) in
            [("a\nb", false), ("c\n", false), ("d\n", true), ("e\n", true), ("f\ng\n", false)]
        {
            append(text);
            if rotate {
                std::fs::rename(&path, rotated(&path, 1)).unwrap();
                append("new\n");
            }
            tail.more(&mut |line| seen.push(line)).unwrap();
        }
        assert_eq!(seen, ["a", "bc", "d", "new", "e", "new", "f", "g"]);
    }
}
