//! The binary: hands the command line over to [`cproxy::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    cproxy::cli::main()
}
