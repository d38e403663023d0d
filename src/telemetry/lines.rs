//! A thread that writes lines of the log, so that nobody else waits for a disk or a terminal.
//!
//! Lines come in swarms: those of all requests that ended within 50 ms are made at once. So the thread lets what comes
//! gather for a moment and writes it in one go. Waking it for each line, and a system call for each, would cost more
//! than making the line.

use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Bytes that may wait for the thread; beyond it lines are dropped, and counted.
const MOST: usize = 4 << 20;

/// Bytes of memory that are kept for later lines.
const KEPT: usize = 64 << 10;

/// How long lines gather.
const GATHER: Duration = Duration::from_millis(5);

/// Takes lines for the thread.
#[derive(Clone, Debug, Default)]
pub struct Lines(Arc<Shared>);

/// Keeps the thread; dropping it writes what is left.
#[derive(Debug)]
pub struct Writing {
    lines: Lines,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    bell: Condvar,
    dropped: AtomicUsize,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Whole lines.
    bytes: Vec<u8>,
    /// No more will come.
    is_last: bool,
}

// === impl Lines ===

impl Lines {
    /// Starts a thread that writes to `to`, several lines at a time.
    pub fn start(mut to: impl Write + Send + 'static) -> io::Result<(Lines, Writing)> {
        let lines = Lines::default();
        let taking = lines.clone();
        let thread = std::thread::Builder::new().name("log".to_owned()).spawn(move || {
            let mut bytes = Vec::new();
            while taking.take(&mut bytes) {
                let _ = to.write_all(&bytes).and_then(|()| to.flush()); // there is nobody to tell
                bytes.clear();
                bytes.shrink_to(KEPT);
            }
        })?;
        Ok((lines.clone(), Writing { lines, thread: Some(thread) }))
    }

    /// How many lines were dropped.
    pub fn dropped(&self) -> usize {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Waits for lines, and moves them into an empty buffer. False: there are none, and none will come.
    fn take(&self, into: &mut Vec<u8>) -> bool {
        let mut waiting = self.lock();
        while waiting.bytes.is_empty() {
            if waiting.is_last {
                return false;
            }
            waiting = self.0.bell.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        let last = |waiting: &mut Waiting| !waiting.is_last;
        let gathered = self.0.bell.wait_timeout_while(waiting, GATHER, last);
        let (mut waiting, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut waiting.bytes, into);
        true
    }

    fn put(&self, line: &[u8]) {
        let mut waiting = self.lock();
        if waiting.bytes.len() + line.len() > MOST {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let first = waiting.bytes.is_empty();
        waiting.bytes.extend_from_slice(line);
        drop(waiting);
        if first {
            self.0.bell.notify_one();
        }
    }

    /// A holder that panicked left whole lines.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Lines {
    /// Takes a whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        self.clone()
    }
}

// === impl Writing ===

impl Drop for Writing {
    fn drop(&mut self) {
        self.lines.lock().is_last = true;
        self.lines.0.bell.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // it panicked: what it had is lost
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Remembers each write.
    #[derive(Clone, Default)]
    struct Writes(Arc<Mutex<Vec<Vec<u8>>>>);

    impl Write for Writes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().push(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn all_lines_are_written_in_order_and_few_at_a_time() {
        let writes = Writes::default();
        let (mut lines, writing) = Lines::start(writes.clone()).unwrap();
        let expected: Vec<u8> = (0..1000).flat_map(|n| format!("line {n}\n").into_bytes()).collect();
        expected.split_inclusive(|byte| *byte == b'\n').for_each(|line| lines.write_all(line).unwrap());
        drop(writing);
        let writes = writes.0.lock().unwrap();
        assert_eq!(writes.concat(), expected);
        assert!(writes.len() < 500, "{}", writes.len());
        assert_eq!(lines.dropped(), 0);
    }

    #[test]
    fn a_line_is_written_though_no_other_follows() {
        let writes = Writes::default();
        let (mut lines, _writing) = Lines::start(writes.clone()).unwrap();
        for turn in 1..=3 {
            lines.write_all(b"line\n").unwrap();
            while writes.0.lock().unwrap().concat() != b"line\n".repeat(turn) {
                std::thread::yield_now();
            }
        }
    }

    #[test]
    fn lines_that_nobody_can_write_are_dropped_and_counted_and_nobody_waits() {
        struct Stuck(std::sync::mpsc::Receiver<()>);
        impl Write for Stuck {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let _ = self.0.recv();
                Ok(bytes.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        let (stuck, receiver) = std::sync::mpsc::channel();
        let (mut lines, writing) = Lines::start(Stuck(receiver)).unwrap();
        let line = vec![b'x'; 1 << 10];
        (0..3 * MOST / line.len()).for_each(|_| lines.write_all(&line).unwrap());
        assert!(lines.dropped() >= MOST / line.len(), "{}", lines.dropped());
        drop(stuck);
        drop(writing);
    }
}
