//! Logs: to stderr, and to a file if one is named. Lines are formatted where they arise and written by a thread of
//! their own, so that no request waits for a disk; when that thread falls behind, lines are dropped, not requests.

use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::config::{LogFormat, Logging};

/// Keeps the writing threads; dropping it writes what is left.
pub struct Logs {
    _guards: Vec<WorkerGuard>,
}

/// Starts logging. Does nothing if this process logs already (a test).
pub fn init(config: &Logging) -> Logs {
    let (stderr, guard) = tracing_appender::non_blocking(std::io::stderr());
    let mut guards = vec![guard];
    let terminal = match config.format {
        LogFormat::Pretty => {
            fmt::layer().with_writer(stderr).with_target(false).with_ansi(is_terminal()).boxed()
        }
        LogFormat::Json => fmt::layer().json().with_writer(stderr).boxed(),
    };
    let file = config.file.as_ref().and_then(|path| match open(path) {
        Ok(file) => {
            let (writer, guard) = tracing_appender::non_blocking(file);
            guards.push(guard);
            Some(match config.format {
                LogFormat::Pretty => fmt::layer().with_writer(writer).with_ansi(false).boxed(),
                LogFormat::Json => fmt::layer().json().with_writer(writer).boxed(),
            })
        }
        Err(error) => {
            eprintln!("cproxy: logging.file = {}: {error}; logging to stderr only", path.display());
            None
        }
    });
    let _ = tracing_subscriber::registry().with(filter(config)).with(terminal).with(file).try_init();
    Logs { _guards: guards }
}

/// The level, with those of the libraries held down: their spans cost time on a request's path.
fn filter(config: &Logging) -> EnvFilter {
    let mut level = config.level.clone();
    if !level.contains("cproxy::request") && !config.requests {
        level.push_str(",cproxy::request=off");
    }
    for library in ["ractor", "hyper", "hyper_util", "reqwest", "rustls", "rmcp", "h2", "tower"] {
        if !level.contains(library) {
            level.push_str(&format!(",{library}=warn"));
        }
    }
    EnvFilter::try_new(&level).unwrap_or_else(|error| {
        eprintln!("cproxy: logging.level = \"{}\": {error}; logging at info", config.level);
        EnvFilter::new("info,ractor=warn,hyper=warn,reqwest=warn,rmcp=warn")
    })
}

/// Opens the log for its owner alone.
fn open(path: &std::path::Path) -> std::io::Result<std::fs::File> {
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn is_terminal() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stderr())
}
