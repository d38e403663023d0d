//! Runs so many requests of 75 kB, each with a streamed answer of 200 tokens, through the whole daemon but for its
//! sockets, for a profiler that counts instructions. See benches/callgrind.sh.
//!
//! `count pass-through 10` or `count translated 10`.
#![allow(missing_docs, clippy::print_stderr, clippy::unwrap_used)]

mod work;

use std::process::ExitCode;
use std::time::Duration;

use work::daemon::{Daemon, Lane};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let times = arguments.get(2).and_then(|times| times.parse::<u32>().ok());
    let Some(times) = times else {
        return ExitCode::SUCCESS; // `cargo bench` and `cargo test` start every bench without our arguments
    };
    let Some(lane) = arguments.get(1).and_then(|name| Lane::named(name)) else {
        eprintln!("count: no such lane {:?}", arguments.get(1));
        return ExitCode::FAILURE;
    };
    // One thread and a clock that stands still until nothing is left to do: the same work in the same order each time.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let daemon = Daemon::start().await;
        let request = lane.request();
        for _ in 0..times {
            daemon.ask(request.clone()).await;
        }
        // What is left for later (log line, metrics) is part of the work.
        tokio::time::sleep(Duration::from_secs(1)).await;
    });
    ExitCode::SUCCESS
}
