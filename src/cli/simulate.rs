//! `cproxy simulate`: the embedded upstream, alone.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::simulator::{Script, Simulator};

/// Runs the simulated upstream alone: a model that costs nothing and does what a script says.
#[derive(Clone, Debug, clap::Args)]
pub struct SimulateArgs {
    /// The port; 0 takes any free one
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    /// The address to listen at
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub host: IpAddr,
    /// What it answers, as TOML or JSON; without it, it is polite
    #[arg(long, value_name = "FILE")]
    pub script: Option<PathBuf>,
}

/// Serves until interrupted.
pub async fn run(args: SimulateArgs) -> ExitCode {
    match serve(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            let _ = writeln!(std::io::stderr(), "cproxy simulate: {message}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(args: SimulateArgs) -> Result<(), String> {
    let script = args.script.as_deref().map(read).transpose()?.unwrap_or_default();
    let addr = SocketAddr::from((args.host, args.port));
    let simulator =
        Simulator::bind(addr, script).await.map_err(|error| format!("can't listen at {addr}: {error}"))?;
    let _ = write!(std::io::stdout(), "{}", banner(simulator.addr()));
    let _ = std::io::stdout().flush();
    simulator
        .run(async {
            // Without a handler for it, the signal ends the process, which is as good.
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        })
        .await;
    Ok(())
}

fn read(path: &Path) -> Result<Script, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("can't read the script {}: {error}", path.display()))?;
    Script::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
}

fn banner(addr: SocketAddr) -> String {
    format!(
        "The simulator listens at http://{addr}\n\
         It speaks Anthropic Messages, Chat Completions, Responses and Gemini.\n\
         \n\
         Claude Code straight at it:\n\
         \x20 ANTHROPIC_BASE_URL=http://{addr} ANTHROPIC_API_KEY=any claude\n\
         \n\
         A daemon with it as a provider that needs no key, in config.toml:\n\
         \x20 [providers.simulated]\n\
         \x20 kind = \"local\"\n\
         \x20 base_url = \"http://{addr}/v1\"\n\
         \n\
         Press Ctrl-C to stop.\n"
    )
}
