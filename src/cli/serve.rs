//! `cproxy serve`: starts the daemon, says where it is, and stops it when told.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;

use super::{ServeArgs, block_on, embedded, token};
use crate::actors::http_front::{Seat as HttpSeat, Serve};
use crate::actors::mcp_front::Seat as McpSeat;
use crate::actors::tree::Hands;
use crate::actors::{Directory, Tree};
use crate::cells::ListenerCell;
use crate::config::{Environment, Loaded, Overrides, Source};
use crate::front::{Daemon, http, mcp};
use crate::runtime::Random;
use crate::telemetry;

/// Runs the daemon until it is told to stop.
pub fn run(args: ServeArgs) -> ExitCode {
    block_on(serve(args))
}

async fn serve(args: ServeArgs) -> ExitCode {
    let load = loader(&args);
    let loaded = match load() {
        Ok(loaded) => loaded,
        Err(reason) => {
            eprintln!("{reason}");
            return ExitCode::FAILURE;
        }
    };
    let _logs = telemetry::logs::init(&loaded.config.logging);
    let address = (loaded.config.server.host, loaded.config.server.port);
    let listener = match TcpListener::bind(address).await {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("cproxy: {}", taken(&address.into(), &error));
            return ExitCode::FAILURE;
        }
    };
    match Running::start(loaded, load, Some(listener)).await {
        Ok(running) => {
            running.announce();
            running.until_stopped().await
        }
        Err(reason) => {
            eprintln!("cproxy: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// What to do about an address that can't be listened on.
fn taken(address: &std::net::SocketAddr, error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => format!(
            "{address} is in use by another program. Perhaps cproxy runs already (try http://{address}/status); \
             else choose another port with --port N, or --port 0 for a free one"
        ),
        std::io::ErrorKind::PermissionDenied => {
            format!("no permission to listen on {address}; choose a port above 1023 with --port N")
        }
        _ => format!("can't listen on {address}: {error}"),
    }
}

/// Reads the config of this command line, now and at each reload.
pub fn loader(args: &ServeArgs) -> crate::actors::config::Load {
    let overrides = Overrides { host: args.host, port: args.port };
    let file = args.config.clone();
    Arc::new(move || {
        let environment = Environment::of_process();
        let source = Source::of_process(file.as_deref(), &environment);
        crate::config::load(&source, &environment, &overrides).map_err(|error| error.to_string())
    })
}

/// A daemon that runs in this process.
pub struct Running {
    daemon: Arc<Daemon>,
    sessions: Arc<mcp::Sessions>,
    tree: Tree,
    routes: axum::Router,
    simulator: Option<std::net::SocketAddr>,
}

// === impl Running ===

impl Running {
    /// Starts the tree. Without a usable provider, the embedded simulator serves in its place.
    pub async fn start(
        loaded: Loaded,
        load: crate::actors::config::Load,
        listener: Option<TcpListener>,
    ) -> Result<Running, String> {
        // reqwest's TLS takes the process's provider of cryptography. Set already: then by a test, to the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Running::start_over(loaded, load, listener, crate::actors::providers::connect()).await
    }

    /// The same over another way to the network: for drills and simulations.
    pub async fn start_over(
        loaded: Loaded,
        load: crate::actors::config::Load,
        listener: Option<TcpListener>,
        connect: crate::actors::providers::Connect,
    ) -> Result<Running, String> {
        let (loaded, load, simulator) = match embedded::needed(&loaded) {
            false => (loaded, load, None),
            true => {
                let address = embedded::free_address()
                    .map_err(|error| format!("the embedded simulator did not start: {error}"))?;
                (embedded::with_simulator(loaded, address), embedded::wrap(load, address), Some(address))
            }
        };
        let server = loaded.config.server.clone();
        let token = token::of(&server)?;
        let cell = listener.map(ListenerCell::new).unwrap_or_default();
        let port = cell.address().map_or(server.port, |at| at.port());
        // A bench whose faults repeat should not differ in anything else.
        let faults = loaded.config.faults.clone();
        let random = if faults.enabled { Random::seeded(faults.seed) } else { Random::unforeseen() };
        let directory = Arc::new(Directory::new(loaded, cell, connect, random));
        crate::actors::faults::arm_file(&directory, &faults)?;
        let changes = Arc::new(watch::Sender::new(0));
        let daemon = Arc::new(Daemon::new(directory.clone(), changes.clone(), token));
        let sessions = Arc::new(mcp::Sessions::default());
        let stop = directory.listener.stop().clone();
        let mcp_service = mcp::http_service(
            Arc::new(daemon.clone()),
            sessions.clone(),
            port,
            &[server.host.to_string()],
            stop.clone(),
        );
        let routes =
            http::router(daemon.clone(), Some(axum::Router::new().nest_service("/mcp", mcp_service)));
        let served = routes.clone();
        let serve: Serve =
            Arc::new(move |stream| Box::pin(http::serve_connection(stream, served.clone(), stop.clone())));
        let places = Arc::new(tokio::sync::Semaphore::new(server.max_connections));
        let hands = Hands {
            config: load,
            http: HttpSeat { directory: directory.clone(), serve, places },
            mcp: McpSeat { directory: directory.clone(), changes },
            simulator,
        };
        let tree = Tree::start(directory, hands).await?;
        Ok(Running { daemon, sessions, tree, routes, simulator })
    }

    /// The daemon.
    pub fn daemon(&self) -> &Arc<Daemon> {
        &self.daemon
    }

    /// What outlives MCP connections.
    pub fn sessions(&self) -> &Arc<mcp::Sessions> {
        &self.sessions
    }

    /// The routes of the HTTP front, for callers in this process.
    pub fn routes(&self) -> &axum::Router {
        &self.routes
    }

    /// Resolves with the reason when the tree has given up.
    pub async fn failed(&self) -> String {
        self.tree.failed().await
    }

    /// Stops the tree.
    pub async fn stop(self, limit: std::time::Duration) {
        self.tree.stop(limit).await;
    }

    /// Says where the daemon is, how its providers are, and what to paste.
    fn announce(&self) {
        let status = self.daemon.status();
        let mut text = format!("cproxy {} listens on {}\n\n", status.version, status.address);
        text.push_str("providers\n");
        let width = status.providers.iter().map(|provider| provider.name.len()).max().unwrap_or(0);
        for provider in &status.providers {
            text.push_str(&format!("  {:width$}  {:10}  {}\n", provider.name, provider.kind, provider.state));
        }
        if self.simulator.is_some() {
            text.push_str(
                "\nNo provider can be used yet, so the embedded simulator answers. Set a key, for example\n\
                 ANTHROPIC_API_KEY or OPENROUTER_API_KEY, and start again.\n",
            );
        }
        for warning in &status.warnings {
            text.push_str(&format!("\nwarning: {warning}\n"));
        }
        text.push_str(&format!(
            "\nClaude Code over cproxy:\n  ANTHROPIC_BASE_URL={0} claude\nother models as a tool in Claude Code:\n  \
             claude mcp add --transport http cproxy {0}/mcp\n",
            status.address
        ));
        let mut out = std::io::stdout();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush()); // nobody reads: the daemon serves all the same
    }

    /// Serves until a signal, or until the tree gives up.
    async fn until_stopped(self) -> ExitCode {
        tokio::select! {
            biased;
            reason = self.tree.failed() => {
                tracing::error!(reason, "the daemon gives up");
                eprintln!("cproxy: gives up: {reason}");
                return ExitCode::from(70);
            }
            () = told_to_stop(self.daemon.directory()) => {}
        }
        eprintln!("cproxy: stopping; open requests may finish (once more to stop at once)");
        let limit = self.daemon.directory().config_cell.get().config.server.drain;
        tokio::select! {
            biased;
            () = self.tree.stop(limit) => ExitCode::SUCCESS,
            () = signalled() => ExitCode::from(130),
        }
    }
}

/// Resolves at SIGINT or SIGTERM; SIGHUP reloads the config.
async fn told_to_stop(directory: &Arc<Directory>) {
    #[cfg(unix)]
    if let Ok(mut hangup) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()) {
        loop {
            tokio::select! {
                biased;
                () = signalled() => return,
                received = hangup.recv() => match received {
                    Some(()) => { directory.config.cast(crate::actors::config::ConfigMessage::Reload(None)); }
                    None => break,
                },
            }
        }
    }
    signalled().await;
}

/// Resolves at SIGINT or SIGTERM.
async fn signalled() {
    #[cfg(unix)]
    if let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        tokio::select! {
            biased;
            _ = terminate.recv() => return,
            result = tokio::signal::ctrl_c() => if result.is_ok() { return },
        }
    }
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
