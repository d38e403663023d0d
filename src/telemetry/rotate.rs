//! A log file of bounded size: when it is full it becomes `FILE.1`, the one before that `FILE.2`, and so on; the
//! last is removed. For its owner alone (mode 0600).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Lines that could not be written since the start, of all files: a full disk stops logs, not requests.
pub static FAILED: AtomicU64 = AtomicU64::new(0);

/// A file that makes way for the next when it is full.
#[derive(Debug)]
pub struct Rotating {
    path: PathBuf,
    file: Option<File>,
    size: u64,
    max_size: u64,
    max_files: u32,
}

// === impl Rotating ===

impl Rotating {
    /// Opens the file, and makes its folder if need be.
    pub fn open(path: &Path, max_size: u64, max_files: u32) -> io::Result<Rotating> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)?;
        }
        let mut rotating =
            Rotating { path: path.to_owned(), file: None, size: 0, max_size, max_files: max_files.max(1) };
        rotating.begin()?;
        Ok(rotating)
    }

    fn begin(&mut self) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.create(true).append(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&self.path)?;
        self.size = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    /// Moves all files on by one place.
    fn rotate(&mut self) -> io::Result<()> {
        self.file = None;
        if self.max_files == 1 {
            std::fs::remove_file(&self.path)?;
        }
        for n in (1..self.max_files).rev() {
            let from = if n == 1 { self.path.clone() } else { numbered(&self.path, n - 1) };
            match std::fs::rename(from, numbered(&self.path, n)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes whole lines, each into a file that has room for it, and takes what is written off `lines`.
    fn put(&mut self, lines: &mut &[u8]) -> io::Result<()> {
        while !lines.is_empty() {
            if self.file.is_none() {
                self.begin()?;
            }
            let room = usize::try_from(self.max_size.saturating_sub(self.size)).unwrap_or(usize::MAX);
            let line_end = |byte: &u8| *byte == b'\n';
            let fitting = match lines.get(..room) {
                Some(fitting) => fitting.iter().rposition(line_end).map_or(0, |end| end + 1),
                None => lines.len(),
            };
            if fitting == 0 && self.size > 0 {
                // If files can't be moved, a log that grows is better than none; the next line tries again.
                let _ = self.rotate();
            }
            let first = lines.iter().position(line_end).map_or(lines.len(), |end| end + 1);
            if self.file.is_none() {
                self.begin()?;
            }
            let (now, later) = lines.split_at(fitting.max(first));
            if let Some(file) = &mut self.file {
                file.write_all(now)?;
                self.size = self.size.saturating_add(u64::try_from(now.len()).unwrap_or(u64::MAX));
            }
            *lines = later;
        }
        Ok(())
    }
}

impl Write for Rotating {
    /// Takes lines whole. What can't be written is dropped and counted, since nobody could do better.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let mut left = lines;
        if self.put(&mut left).is_err() {
            let lost = left.iter().filter(|byte| **byte == b'\n').count();
            FAILED.fetch_add(u64::try_from(lost).unwrap_or(u64::MAX), Ordering::Relaxed);
            self.file = None; // opened anew for the next line
        }
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(()) // nothing is held back
    }
}

/// `FILE.n`.
pub fn numbered(path: &Path, n: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn files_are_bounded_in_size_and_number_and_the_newest_lines_are_kept() {
        for at_once in [1, 7, 100] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("deep/cproxy.log");
            let mut log = Rotating::open(&path, 100, 3).unwrap();
            let all: Vec<String> = (0..100).map(|n| format!("line {n:03} ..................\n")).collect();
            for some in all.chunks(at_once) {
                log.write_all(some.concat().as_bytes()).unwrap();
            }
            let mut lines = String::new();
            for file in [numbered(&path, 2), numbered(&path, 1), path.clone()] {
                let text = std::fs::read_to_string(file).unwrap();
                assert!(text.len() <= 100 && text.ends_with('\n'));
                lines.push_str(&text);
            }
            assert!(all.concat().ends_with(&lines) && lines.len() > 180, "{lines}");
            assert!(!numbered(&path, 3).exists());
            assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 3);
        }
    }

    #[test]
    fn a_log_goes_on_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l");
        Rotating::open(&path, 100, 1).unwrap().write_all(&[b'a'; 60]).unwrap();
        let mut again = Rotating::open(&path, 100, 1).unwrap();
        again.write_all(&[b'b'; 30]).unwrap();
        assert_eq!(path.metadata().unwrap().len(), 90);
        again.write_all(&[b'c'; 30]).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), [b'c'; 30]);
    }

    #[test]
    fn what_can_not_be_written_is_counted_and_harms_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("f");
        let path = folder.join("l");
        let mut log = Rotating::open(&path, 10, 2).unwrap();
        log.write_all(b"1234567\n").unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        let before = FAILED.load(Ordering::Relaxed);
        log.write_all(b"1234567\n").unwrap();
        assert!(FAILED.load(Ordering::Relaxed) > before);
        std::fs::create_dir(&folder).unwrap();
        log.write_all(b"1234567\n").unwrap();
        assert!(path.exists());
    }

    #[cfg(unix)]
    #[test]
    fn logs_are_for_their_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l");
        let mut log = Rotating::open(&path, 10, 3).unwrap();
        for _ in 0..4 {
            log.write_all(b"1234567\n").unwrap();
        }
        for file in [path.clone(), numbered(&path, 1), numbered(&path, 2)] {
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}
