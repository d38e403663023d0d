//! `cproxy mcp`: MCP over stdio. Relays to the running daemon, so that all windows share limits, health, cache and
//! keys; while there is none, a daemon in this process stands in. stdout carries the protocol and nothing else.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::sync::Mutex;

use super::ServeArgs;
use super::run::is_cproxy;
use super::serve::{Running, loader};
use crate::actors::config::Load;
use crate::config::Loaded;
use crate::front::mcp::{self, Upstream};
use crate::runtime::clock;
use crate::telemetry;

/// How long a daemon that was there may take to come back before one in this process stands in. A restart takes
/// less, unless open requests hold it up.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long the daemon in this process may take to stop.
const STOP: Duration = Duration::from_secs(2);

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

/// Where the daemon is that this process relays to.
struct Finder {
    /// Where a daemon should be, as `http://host:port`.
    address: String,
    /// The token of this config, which the daemon asks for too.
    token: Option<String>,
    /// What a daemon in this process is made from; `None` if there may be none.
    load: Option<Load>,
    /// The daemon in this process, while it stands in.
    own: Option<Running>,
    /// Whether the daemon has been there.
    seen: bool,
    /// Since when it has been missed.
    missed: Option<std::time::Instant>,
}

/// Serves MCP over stdio until stdin ends.
pub async fn run(args: McpArgs) -> ExitCode {
    let load = loader(&ServeArgs { config: args.config.clone(), ..ServeArgs::default() });
    let loaded = match load() {
        Ok(loaded) => loaded,
        Err(reason) => {
            eprintln!("{reason}");
            return ExitCode::FAILURE;
        }
    };
    let _logs = telemetry::logs::init(&loaded.config.logging);
    let _ = rustls::crypto::ring::default_provider().install_default();
    let result =
        if args.standalone { alone(loaded, load).await } else { joined(args.connect, loaded, load).await };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("cproxy mcp: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// Serves from a daemon in this process that nobody else can reach.
async fn alone(loaded: Loaded, load: Load) -> Result<(), String> {
    let running = Running::start(loaded, load, None).await?;
    let daemon = Arc::new(running.daemon().clone());
    let stop = running.daemon().directory().listener.stop().clone();
    let served = mcp::serve_stdio(daemon, running.sessions().clone(), stop).await;
    running.stop(STOP).await;
    served.map_err(|error| error.to_string())
}

/// Relays to the daemon at `connect` and no other, or to that of the config and in its absence to one in this process.
async fn joined(connect: Option<String>, loaded: Loaded, load: Load) -> Result<(), String> {
    let token = super::token::read(&loaded.config.server)?.map(|token| token.expose().to_owned());
    let (address, load) = match connect {
        Some(url) => (url.trim_end_matches('/').to_owned(), None),
        None => {
            let host = super::client::reachable(loaded.config.server.host);
            let at = std::net::SocketAddr::from((host, loaded.config.server.port));
            (format!("http://{at}"), Some(load))
        }
    };
    let finder = Finder { address, token, load, own: None, seen: false, missed: None };
    let finder = Arc::new(Mutex::new(finder));
    let locate = {
        let finder = finder.clone();
        move || -> BoxFuture<'static, Result<Upstream, String>> {
            let finder = finder.clone();
            Box::pin(async move { finder.lock().await.find().await })
        }
    };
    let served = mcp::bridge_stdio(locate).await;
    if let Some(own) = finder.lock().await.own.take() {
        own.stop(STOP).await;
    }
    served.map_err(|error| error.to_string())
}

// === impl Finder ===

impl Finder {
    /// The daemon at the address; while there is none, the one in this process, which is started if need be.
    async fn find(&mut self) -> Result<Upstream, String> {
        if is_cproxy(&self.address).await {
            (self.seen, self.missed) = (true, None);
            if let Some(own) = self.own.take() {
                tracing::info!(address = self.address, "a daemon is there and takes over");
                own.stop(STOP).await;
            }
            return Ok(upstream(&self.address, self.token.clone(), false));
        }
        let Some(load) = &self.load else {
            return Err(format!("no cproxy answers at {}; start it with `cproxy serve`", self.address));
        };
        let now = clock::now();
        let missed = *self.missed.get_or_insert(now);
        if self.own.is_none() && self.seen && now.saturating_duration_since(missed) < PATIENCE {
            return Err(format!("the daemon at {} has gone", self.address));
        }
        if let Some(own) = self.own.take() {
            if is_cproxy(&own.daemon().status().address).await {
                let found = stand_in(&own);
                self.own = Some(own);
                return Ok(found);
            }
            own.stop(STOP).await;
        }
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(|error| error.to_string())?;
        let own = Running::start(load()?, load.clone(), Some(listener)).await?;
        tracing::info!(address = self.address, "no daemon is there; one in this process stands in");
        let found = stand_in(&own);
        self.own = Some(own);
        Ok(found)
    }
}

fn stand_in(own: &Running) -> Upstream {
    let token = own.daemon().token().map(|token| token.expose().to_owned());
    upstream(&own.daemon().status().address, token, true)
}

fn upstream(address: &str, token: Option<String>, interim: bool) -> Upstream {
    Upstream { url: format!("{address}/mcp"), token, interim }
}
