//! Does the pure work of so many requests, for a profiler that counts instructions. See benches/callgrind.sh.
//!
//! `count pass-through 10` or `count translated 10`.
#![allow(missing_docs, clippy::print_stderr)]

mod work;

use std::hint::black_box;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let times = arguments.get(2).and_then(|times| times.parse::<u32>().ok());
    let Some(times) = times else {
        return ExitCode::SUCCESS; // `cargo bench` and `cargo test` start every bench without our arguments
    };
    let request = work::request();
    let anthropic = work::in_chunks(&work::anthropic_stream(200), 300);
    let chat = work::in_chunks(&work::chat_stream(200), 300);
    for _ in 0..times {
        match arguments.get(1).map(String::as_str) {
            Some("pass-through") => black_box(work::pass_through(black_box(&request), &anthropic)),
            Some("translated") => black_box(work::translated(black_box(&request), &chat)),
            other => {
                eprintln!("count: no such lane {other:?}");
                return ExitCode::FAILURE;
            }
        };
    }
    ExitCode::SUCCESS
}
