//! `cproxy mcp`: MCP over stdio. Joins the running daemon by relaying to it, so that all windows share limits, health
//! and keys; without one it serves by itself. stdout carries the protocol and nothing else.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use super::ServeArgs;
use super::run::is_cproxy;
use super::serve::{Running, loader};
use crate::front::mcp;
use crate::telemetry;

/// What `mcp` takes.
#[derive(Debug, Default, clap::Args)]
pub struct McpArgs {
    /// The config file
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Never join a running daemon
    #[arg(long, conflicts_with = "connect")]
    pub standalone: bool,
    /// Join the daemon at this address, and fail without it
    #[arg(long, value_name = "URL")]
    pub connect: Option<String>,
}

/// Serves MCP over stdio until stdin ends.
pub async fn run(args: McpArgs) -> ExitCode {
    let serve_args = ServeArgs { config: args.config.clone(), ..ServeArgs::default() };
    let load = loader(&serve_args);
    let loaded = match load() {
        Ok(loaded) => loaded,
        Err(reason) => {
            eprintln!("{reason}");
            return ExitCode::FAILURE;
        }
    };
    let _logs = telemetry::logs::init(&loaded.config.logging);
    let _ = rustls::crypto::ring::default_provider().install_default();
    let at = match args.connect {
        Some(url) => Some(url.trim_end_matches('/').to_owned()),
        None if args.standalone => None,
        None => {
            let host = super::client::reachable(loaded.config.server.host);
            let address = std::net::SocketAddr::from((host, loaded.config.server.port));
            let address = format!("http://{address}");
            is_cproxy(&address).await.then_some(address)
        }
    };
    let result = match at {
        Some(address) => {
            // A daemon with a token of this config's asks for it here, too.
            let token = super::token::read(&loaded.config.server).ok().flatten();
            let token = token.map(|token| token.expose().to_owned());
            let upstream = mcp::Upstream { url: format!("{address}/mcp"), token };
            mcp::bridge_stdio(upstream).await.map_err(|error| error.to_string())
        }
        None => match Running::start(loaded, load, None).await {
            Ok(running) => {
                let daemon = Arc::new(running.daemon().clone());
                let served = mcp::serve_stdio(
                    daemon,
                    running.sessions().clone(),
                    running.daemon().directory().listener.stop().clone(),
                )
                .await;
                running.stop(Duration::from_secs(2)).await;
                served.map_err(|error| error.to_string())
            }
            Err(reason) => Err(reason),
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("cproxy mcp: {reason}");
            ExitCode::FAILURE
        }
    }
}
