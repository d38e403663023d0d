//! What is asked of the operating system about processes and the terminal.

/// Asks a process to end (SIGTERM).
pub fn terminate(pid: u32) -> Result<(), String> {
    send(pid, Signal::Term)
}

/// Ends a process at once (SIGKILL).
pub fn kill(pid: u32) -> Result<(), String> {
    send(pid, Signal::Kill)
}

enum Signal {
    Term,
    Kill,
}

#[cfg(unix)]
fn send(pid: u32, signal: Signal) -> Result<(), String> {
    use rustix::process::{Pid, Signal as Unix, kill_process};
    let known = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(format!("{pid} is no process"))?;
    let signal = match signal {
        Signal::Term => Unix::TERM,
        Signal::Kill => Unix::KILL,
    };
    kill_process(known, signal).map_err(|error| format!("process {pid} can't be stopped: {error}"))
}

#[cfg(not(unix))]
fn send(pid: u32, _: Signal) -> Result<(), String> {
    Err(format!("stopping a daemon from here works on Unix only; end process {pid} yourself"))
}

/// Leaves the terminal that this process was started from, so that its end is not ours (setsid(2)).
pub fn detach() {
    #[cfg(unix)]
    let _ = rustix::process::setsid(); // fails for a leader of its group, which is detached already
}

/// From now on stdout and stderr go nowhere: the log has a file of its own, which is kept small.
pub fn silence() {
    #[cfg(unix)]
    if let Ok(nowhere) = std::fs::File::options().write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(&nowhere).and_then(|()| rustix::stdio::dup2_stderr(&nowhere)); // then they stay
    }
}

/// Rows and columns of the terminal.
pub fn terminal_size() -> (usize, usize) {
    #[cfg(unix)]
    if let Ok(size) = rustix::termios::tcgetwinsize(std::io::stdout())
        && size.ws_row > 0
    {
        return (usize::from(size.ws_row), usize::from(size.ws_col));
    }
    (24, 80)
}

/// The user's number, for places that are named by it.
pub fn user() -> Option<u32> {
    #[cfg(unix)]
    return Some(rustix::process::getuid().as_raw());
    #[cfg(not(unix))]
    None
}
