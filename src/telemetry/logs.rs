//! Logs: to stderr, and to a file if one is named. Lines are written by threads of their own, so that no request
//! waits for a disk; when such a thread falls behind, lines are dropped and counted, not requests.

use std::io;
use std::sync::{Mutex, OnceLock, PoisonError};

use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use super::bodies::{self, What};
use super::lines::{Lines, Writing};
use super::panics;
use super::rotate::{self, Rotating};
use crate::config::{LogFormat, Logging};

/// Libraries whose spans and events would cost time on a request's path.
const LIBRARIES: [&str; 8] = ["ractor", "hyper", "hyper_util", "reqwest", "rustls", "rmcp", "h2", "tower"];

/// Libraries of which nothing below a warning is written, whatever the level. `rmcp` logs whole calls and results,
/// prompts and answers among them. `notify` logs each change in the folders that it watches, and the log may be in one
/// of them: each line would bring forth the next.
const HUSHED: [&str; 2] = ["rmcp", "notify"];

/// Keeps the writing threads; dropping it writes what is left.
pub struct Logs {
    _threads: Vec<Writing>,
}

/// What can be changed while the process logs.
struct Running {
    filter: reload::Handle<EnvFilter, Registry>,
    lines: Vec<Lines>,
    config: Mutex<Logging>,
}

static RUNNING: OnceLock<Running> = OnceLock::new();

/// Starts logging, and logs panics from then on. Does nothing if this process logs already (a test).
pub fn init(config: &Logging) -> Logs {
    let (mut lines, mut threads) = (Vec::new(), Vec::new());
    let mut thread = |started: io::Result<(Lines, Writing)>| match started {
        Ok((to, thread)) => {
            lines.push(to.clone());
            threads.push(thread);
            Some(to)
        }
        Err(error) => {
            eprintln!("cproxy: no thread for the log: {error}");
            None
        }
    };
    let terminal = thread(Lines::start(io::stderr())).map(|to| layer(config.format, to, is_terminal()));
    let file = config.file.as_ref().and_then(|path| {
        match Rotating::open(path, config.max_size.0, config.max_files) {
            Ok(file) => thread(Lines::start(file)).map(|to| layer(config.format, to, false)),
            Err(error) => {
                eprintln!("cproxy: logging.file = {}: {error}; logging to stderr only", path.display());
                None
            }
        }
    });
    let filter = filter(config).unwrap_or_else(|error| {
        eprintln!("cproxy: logging.level = \"{}\": {error}; logging at info", config.level);
        EnvFilter::new("info,ractor=warn,hyper=warn,reqwest=warn,rmcp=warn")
    });
    let (filter, handle) = reload::Layer::new(filter);
    let hushed = filter_fn(may_be_written);
    if tracing_subscriber::registry().with(filter).with(hushed).with(terminal).with(file).try_init().is_ok() {
        let running = Running { filter: handle, lines, config: Mutex::new(config.clone()) };
        let _ = RUNNING.set(running); // once in a process, as the line above
        panics::install();
        bodies::set(What::Request, config.request_bodies);
        bodies::set(What::Answer, config.responses);
    }
    Logs { _threads: threads }
}

/// Another level, or filter such as `info,cproxy::exchange=debug`, from now on. On error the present one stays.
pub fn set_level(level: &str) -> Result<(), String> {
    change(|config| level.clone_into(&mut config.level))
}

/// Takes up what of a changed config needs no restart: level, lines of requests, bodies.
pub fn reconfigure(new: &Logging) -> Result<(), String> {
    let Some(running) = RUNNING.get() else { return Ok(()) };
    let before = running.config.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for (what, before, new) in [
        (What::Request, before.request_bodies, new.request_bodies),
        (What::Answer, before.responses, new.responses),
    ] {
        if before != new {
            bodies::set(what, new);
        }
    }
    change(|config| config.clone_from(new))
}

fn change(change: impl FnOnce(&mut Logging)) -> Result<(), String> {
    let Some(running) = RUNNING.get() else {
        return Err("this process does not log".to_owned());
    };
    let mut config = running.config.lock().unwrap_or_else(PoisonError::into_inner);
    let mut changed = config.clone();
    change(&mut changed);
    let new = filter(&changed)
        .map_err(|error| format!("\"{}\" is neither a level nor a filter: {error}", changed.level))?;
    running.filter.reload(new).map_err(|error| error.to_string())?;
    *config = changed;
    Ok(())
}

/// Whatever deserves a person's attention.
pub fn warnings() -> Vec<String> {
    let mut warnings = Vec::new();
    let failed = rotate::FAILED.load(std::sync::atomic::Ordering::Relaxed);
    if failed > 0 {
        warnings.push(format!("{failed} lines could not be written to the log file (is the disk full?)"));
    }
    let dropped: usize = RUNNING.get().map_or(0, |running| running.lines.iter().map(Lines::dropped).sum());
    if dropped > 0 {
        warnings.push(format!("{dropped} lines of the log were dropped, since writing them was too slow"));
    }
    warnings
}

/// Whether a line may be written at all, whatever level is asked for.
fn may_be_written(line: &tracing::Metadata<'_>) -> bool {
    *line.level() <= tracing::Level::WARN || !HUSHED.iter().any(|library| line.target().starts_with(library))
}

/// How lines look.
fn layer<S>(format: LogFormat, writer: Lines, colour: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    match format {
        LogFormat::Pretty => fmt::layer().with_writer(writer).with_target(false).with_ansi(colour).boxed(),
        LogFormat::Json => fmt::layer().json().flatten_event(true).with_writer(writer).boxed(),
    }
}

/// The level, with those of the libraries held down.
fn filter(config: &Logging) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    let mut level = config.level.clone();
    if !level.contains(super::requests::TARGET) && !config.requests {
        level.push_str(&format!(",{}=off", super::requests::TARGET));
    }
    for library in LIBRARIES {
        if !level.contains(library) {
            level.push_str(&format!(",{library}=warn"));
        }
    }
    EnvFilter::try_new(&level)
}

fn is_terminal() -> bool {
    io::IsTerminal::is_terminal(&io::stderr())
}

/// The n-th file that was set aside for a log file: `FILE.1` is the youngest.
pub fn rotated(path: &std::path::Path, n: u32) -> std::path::PathBuf {
    rotate::numbered(path, n)
}
