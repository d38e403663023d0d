//! The command line: one file for each subcommand. Nothing else reads arguments or prints.

mod check;
mod embedded;
mod fault;
mod logs;
mod mcp;
mod run;
mod serve;
mod simulate;
mod token;
mod usage;

pub use serve::Running;

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// One local daemon between Claude Code and every model that you can reach.
///
/// Without a subcommand it serves: it prints its address, the state of each provider, and the lines to paste for
/// Claude Code. Without any key in the environment it serves from an embedded simulator, so that everything can be
/// tried at once.
#[derive(Debug, Parser)]
#[command(name = "cproxy", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
    /// The same as `cproxy mcp`; kept from cproxy 1.x.
    #[arg(long, hide = true)]
    mcp: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve both fronts (the default).
    Serve(ServeArgs),
    /// Speak MCP over stdio: joins the running daemon if there is one, else serves by itself.
    Mcp(mcp::McpArgs),
    /// Check a config file: prints what is wrong, with line and key, and exits 1; or says what is in it.
    Check {
        /// The config file.
        #[arg(long, short, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Print the JSON Schema of the config, or the config that comes with cproxy.
    Config {
        #[command(subcommand)]
        what: ConfigCommand,
    },
    /// Start another program with the right environment for the running daemon, starting one if none runs.
    Run(run::RunArgs),
    /// Inject faults into the running daemon, list them, or clear them ([faults] enabled = true).
    Fault(fault::FaultArgs),
    /// Run the embedded upstream by itself: it speaks Anthropic Messages and Chat Completions from a script.
    Simulate(simulate::SimulateArgs),
    /// Show tokens and cost, by day, provider, model, session or agent.
    Usage(usage::UsageArgs),
    /// Show the log file; -f goes on with what comes.
    Logs(logs::LogsArgs),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// The JSON Schema, for editors.
    Schema,
    /// The commented config that comes with cproxy.
    Example,
}

/// What `serve` takes.
#[derive(Clone, Debug, Default, Args)]
pub struct ServeArgs {
    /// The config file [default: config.toml here, else the one in the user's config folder]
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The address to listen on [default: 127.0.0.1]
    #[arg(long, value_name = "H")]
    pub host: Option<IpAddr>,
    /// The port; 0 takes a free one and says which [default: 3000]
    #[arg(long, short, value_name = "N")]
    pub port: Option<u16>,
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let as_mcp = cli.mcp || std::env::var("MCP_MODE").is_ok_and(|value| matches!(&*value, "1" | "true"));
    match cli.command {
        None if as_mcp => mcp::run(mcp::McpArgs { config: cli.serve.config, ..mcp::McpArgs::default() }),
        None => serve::run(cli.serve),
        Some(Command::Serve(args)) => serve::run(args),
        Some(Command::Mcp(args)) => mcp::run(args),
        Some(Command::Check { config }) => check::run(config.as_deref()),
        Some(Command::Config { what: ConfigCommand::Schema }) => {
            say(&format!("{:#}\n", crate::config::show::json_schema()))
        }
        Some(Command::Config { what: ConfigCommand::Example }) => say(crate::config::source::BUILT_IN),
        Some(Command::Run(args)) => run::run(args),
        Some(Command::Fault(args)) => block_on(fault::run(args)),
        Some(Command::Simulate(args)) => block_on(simulate::run(args)),
        Some(Command::Usage(args)) => usage::run(&args),
        Some(Command::Logs(args)) => logs::run(&args),
    }
}

/// Prints to stdout; a reader that has gone is no error.
fn say(text: &str) -> ExitCode {
    use std::io::Write;
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// Runs a future on a runtime of its own.
fn block_on(future: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_multi_thread().worker_threads(workers()).enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(future);
            runtime.shutdown_timeout(std::time::Duration::from_secs(1));
            code
        }
        Err(error) => {
            eprintln!("cproxy: the runtime did not start: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Worker threads: two suffice for one user's machine, and keep a request's hops close together.
fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(2)
}
