//! The command line: one file for each subcommand. Nothing else reads arguments or prints.

mod background;
mod check;
mod client;
mod config;
mod doctor;
mod drill;
mod embedded;
mod explain;
mod fault;
mod import;
mod init;
mod instance;
mod logs;
mod mcp;
mod models;
mod process;
mod run;
mod serve;
mod service;
mod simulate;
mod status;
mod terminal;
mod token;
mod usage;

pub use serve::Running;

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use serde::{Deserialize, Serialize};

const EXAMPLES: &str = "\
First steps:
  cproxy                              serve here, until Ctrl-C; without a key, from the embedded simulator
  cproxy init                         write a config for the keys and local servers that are found
  cproxy run claude                   Claude Code over the daemon; no settings file is touched

Every day:
  cproxy start | stop | restart       the daemon in the background
  cproxy status --watch               providers, limits, requests, actors, live
  cproxy explain --model claude-opus-4-5 --tokens 180000
                                      who would be asked for such a request, and why
  cproxy doctor --provider openrouter what works with a provider, and what cproxy does about the rest

The config is found in this order: --config FILE, the variable CPROXY_CONFIG, config.toml in a checkout of cproxy,
~/.config/cproxy/config.toml, built-in defaults. `cproxy config example` prints one with every key explained.";

/// One local daemon between Claude Code and every model that you can reach.
///
/// Without a subcommand it serves: it prints its address, the state of each provider, and the lines to paste for
/// Claude Code. Without any key in the environment it serves from an embedded simulator, so that everything can be
/// tried at once.
#[derive(Debug, Parser)]
#[command(name = "cproxy", version, args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
    /// The same as `cproxy mcp`; kept from cproxy 1.x
    #[arg(long, hide = true)]
    mcp: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve both fronts until Ctrl-C (the default)
    Serve(ServeArgs),
    /// Start the daemon in the background, and say where it is
    Start(background::StartArgs),
    /// Stop the daemon; open requests may finish
    Stop(background::StopArgs),
    /// Stop the daemon and start it again
    Restart(background::RestartArgs),
    /// Show how the daemon is: providers, limits, requests, actors
    Status(status::StatusArgs),
    /// List what can be asked for, and who serves it
    Models(models::ModelsArgs),
    /// Say who would be asked for a request, in which order and why; nothing is sent
    Explain(explain::ExplainArgs),
    /// Start Claude Code (or another program) with its environment pointed at the daemon
    Run(run::RunArgs),
    /// Speak MCP over stdio: joins the running daemon if there is one, else serves by itself
    Mcp(mcp::McpArgs),
    /// Write a config for the keys and local servers that are found; shown before it is written
    Init(init::InitArgs),
    /// Check a config file: what is wrong, with line and key (exit 1), or what is in it
    Check {
        /// The config file
        #[arg(long, short, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Show the config in force, an example, or its JSON Schema
    Config {
        #[command(subcommand)]
        what: config::ConfigCommand,
    },
    /// Take over the config of another program
    Import {
        #[command(subcommand)]
        from: import::ImportCommand,
    },
    /// Try what works: config, keys, network, and with your consent a few small requests
    Doctor(doctor::DoctorArgs),
    /// Run the daemon as a service of your user (systemd or launchd)
    Service {
        #[command(subcommand)]
        what: service::ServiceCommand,
    },
    /// Play outages on simulated providers, and see what they would do to you.
    Drill(drill::DrillArgs),
    /// Inject faults into the running daemon, list them, or clear them ([faults] enabled = true)
    Fault(fault::FaultArgs),
    /// Run the embedded upstream by itself: it speaks the vendors' dialects from a script
    Simulate(simulate::SimulateArgs),
    /// Print completions for a shell, such as: cproxy completions bash > ~/.local/share/bash-completion/completions/cproxy
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Show tokens and cost, by day, provider, model, session or agent
    Usage(usage::UsageArgs),
    /// Show the log file; -f goes on with what comes
    Logs(logs::LogsArgs),
}

/// What `serve` takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
pub struct ServeArgs {
    /// The config file [default: see `cproxy --help`]
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The address to listen on; any but this machine's own needs server.token_file [default: 127.0.0.1]
    #[arg(long, value_name = "H")]
    pub host: Option<IpAddr>,
    /// The port; 0 takes a free one and says which [default: 3000]
    #[arg(long, short, value_name = "N")]
    pub port: Option<u16>,
    /// Set by `cproxy start`: leave the terminal; the file has the output
    #[arg(long, hide = true, value_name = "LOG")]
    #[serde(skip)]
    pub detached: Option<PathBuf>,
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let as_mcp = cli.mcp || std::env::var("MCP_MODE").is_ok_and(|value| matches!(&*value, "1" | "true"));
    match cli.command {
        None if as_mcp => {
            block_on(mcp::run(mcp::McpArgs { config: cli.serve.config, ..mcp::McpArgs::default() }))
        }
        None => block_on(serve::run(cli.serve)),
        Some(Command::Serve(args)) => block_on(serve::run(args)),
        Some(Command::Start(args)) => block_on(background::start(args)),
        Some(Command::Stop(args)) => block_on(background::stop(args)),
        Some(Command::Restart(args)) => block_on(background::restart(args)),
        Some(Command::Status(args)) => block_on(status::run(args)),
        Some(Command::Models(args)) => block_on(models::run(args)),
        Some(Command::Explain(args)) => block_on(explain::run(args)),
        Some(Command::Run(args)) => block_on(run::run(args)),
        Some(Command::Mcp(args)) => block_on(mcp::run(args)),
        Some(Command::Init(args)) => block_on(init::run(args)),
        Some(Command::Check { config }) => check::run(config.as_deref()),
        Some(Command::Config { what }) => config::run(what),
        Some(Command::Import { from }) => import::run(from),
        Some(Command::Doctor(args)) => block_on(doctor::run(args)),
        Some(Command::Service { what }) => service::run(what),
        Some(Command::Drill(args)) => drill::run(args),
        Some(Command::Fault(args)) => block_on(fault::run(args)),
        Some(Command::Simulate(args)) => block_on(simulate::run(args)),
        Some(Command::Completions { shell }) => completions(shell),
        Some(Command::Usage(args)) => usage::run(&args),
        Some(Command::Logs(args)) => logs::run(&args),
    }
}

/// Prints the completions of a shell.
fn completions(shell: clap_complete::Shell) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "cproxy", &mut text);
    terminal::say(&String::from_utf8_lossy(&text))
}

/// What to paste to use the daemon at this address.
fn paste_lines(address: &str) -> String {
    format!(
        "Claude Code over cproxy:\n  ANTHROPIC_BASE_URL={address} claude\n\
         other models as a tool in Claude Code:\n  \
         claude mcp add --transport http cproxy {address}/mcp\n"
    )
}

// === impl ServeArgs ===

impl ServeArgs {
    /// The flags as they are written on a command line.
    fn as_flags(&self) -> Vec<std::ffi::OsString> {
        let mut flags: Vec<std::ffi::OsString> = Vec::new();
        if let Some(config) = &self.config {
            flags.extend(["--config".into(), config.into()]);
        }
        if let Some(host) = self.host {
            flags.extend(["--host".into(), host.to_string().into()]);
        }
        if let Some(port) = self.port {
            flags.extend(["--port".into(), port.to_string().into()]);
        }
        flags
    }
}

/// Runs a future on a runtime of its own.
///
/// With one worker thread, by measurement (benches/README.md): a request goes back and forth between its connection,
/// the provider's actor and the upstream, and each hop that wakes another thread costs more than the work behind it.
/// One thread carries thousands of requests a second; what blocks (files, the ledger, names) has threads of its own.
fn block_on(future: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
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
