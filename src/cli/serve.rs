//! `cproxy serve`: starts the daemon, says where it is, and stops it when told.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;

use super::instance::{self, Instance, Mark};
use super::terminal::{Cell, Table, Tint, colour, paint};
use super::{ServeArgs, embedded, token};
use crate::actors::config::ConfigMessage;
use crate::actors::http_front::{Seat as HttpSeat, Serve};
use crate::actors::mcp_front::Seat as McpSeat;
use crate::actors::tree::Hands;
use crate::actors::{Directory, Tree};
use crate::cells::ListenerCell;
use crate::config::{Environment, Loaded, Overrides, Source};
use crate::front::{Daemon, http, mcp};
use crate::runtime::{Random, ask_again, clock};
use crate::telemetry;

/// How long a reload on SIGHUP may take.
const RELOAD: std::time::Duration = std::time::Duration::from_secs(10);

/// Runs the daemon until it is told to stop.
pub async fn run(args: ServeArgs) -> ExitCode {
    if args.detached.is_some() {
        super::process::detach();
    }
    let load = loader(&args);
    let loaded = match load() {
        Ok(loaded) => loaded,
        Err(reason) => {
            eprintln!("{reason}");
            return ExitCode::FAILURE;
        }
    };
    let _logs = telemetry::logs::init(&loaded.config.logging);
    let loaded_logs_to_file = loaded.config.logging.file.is_some();
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
            let _mark = running.leave_mark(&args);
            running.announce();
            if args.detached.is_some() && loaded_logs_to_file {
                super::process::silence();
            }
            running.until_stopped().await
        }
        Err(reason) => {
            eprintln!("cproxy: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// What to do about an address that can't be listened on.
pub fn taken(address: &std::net::SocketAddr, error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            if let Some(own) = instance::of_this_user_on(address.port()) {
                return format!(
                    "cproxy runs already at {} (process {}); `cproxy status` shows it, `cproxy stop` stops it, and \
                     --port N starts another beside it",
                    own.address, own.pid
                );
            }
            let who = match instance::who_listens(address.port()) {
                Some((pid, name)) => format!("\"{}\" (process {pid})", super::terminal::clean(&name)),
                None => "another program".to_owned(),
            };
            format!(
                "{address} is in use by {who}; stop it, or choose another port with --port N (0: any free one)"
            )
        }
        std::io::ErrorKind::PermissionDenied => {
            format!("no permission to listen on {address}; choose a port above 1023 with --port N")
        }
        std::io::ErrorKind::AddrNotAvailable => {
            format!(
                "{address} is no address of this machine; 127.0.0.1 is the usual one (--host, server.host)"
            )
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
    routes: http::Routes,
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
    pub fn routes(&self) -> &http::Routes {
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

    /// Leaves the mark by which other commands find this daemon. Without a place for it the daemon serves all the
    /// same: it is found by its port.
    pub fn leave_mark(&self, args: &ServeArgs) -> Option<Mark> {
        let status = self.daemon.status();
        let config = self.daemon.directory().config_cell.get();
        let mut flags = args.clone();
        flags.config = flags.config.map(|path| std::path::absolute(&path).unwrap_or(path));
        let instance = Instance {
            pid: status.pid,
            port: self.daemon.directory().listener.address()?.port(),
            address: status.address,
            version: status.version,
            config: status.config.source,
            log: config.config.logging.file.clone().or(flags.detached.take()),
            drain_s: config.config.server.drain.as_secs(),
            flags,
        };
        for other in instance::of_this_user() {
            tracing::warn!(
                "another cproxy runs at {} (process {}): limits and health are not shared between the two",
                other.address,
                other.pid
            );
        }
        let folder = instance::run_folder(&Environment::of_process())?;
        match Mark::leave(&folder, &instance) {
            Ok(mark) => Some(mark),
            Err(error) => {
                tracing::warn!(
                    "{} can't be written ({error}): `cproxy status` and `stop` need --port {}",
                    folder.display(),
                    instance.port
                );
                None
            }
        }
    }

    /// Says where the daemon is, how its providers are, and what to paste.
    fn announce(&self) {
        let (status, colour) = (self.daemon.status(), colour());
        let mut text = format!(
            "cproxy {} listens on {}\n\n{}\n",
            status.version,
            paint(&status.address, Tint::Bold, colour),
            paint("providers", Tint::Bold, colour)
        );
        let config = self.daemon.directory().config_cell.get();
        let mut table = Table::new(&[]);
        for provider in &status.providers {
            let keys = config.keys.iter().find(|(id, _)| id.as_str() == provider.name).map(|(_, keys)| keys);
            let note = match keys {
                Some(crate::config::Keys::Missing(why)) if provider.state == "no key" => why.as_str(),
                _ => "",
            };
            table.row([
                provider.name.as_str().into(),
                provider.kind.as_str().into(),
                Cell::new(provider.state.as_str(), super::status::tint_of(&provider.state)),
                Cell::new(note, Tint::Dim),
            ]);
        }
        text.push_str(&table.render(2, colour));
        if self.simulator.is_some() {
            text.push_str(
                "\nNo provider can be used yet, so the embedded simulator answers. Set a key, for example\n\
                 ANTHROPIC_API_KEY or OPENROUTER_API_KEY, and start again; or let `cproxy init` write a config.\n",
            );
        }
        for warning in &status.warnings {
            text.push_str(&format!("\n{}\n", paint(&format!("warning: {warning}"), Tint::Warn, colour)));
        }
        text.push('\n');
        text.push_str(&super::paste_lines(&status.address));
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
                self.tree.give_up().await;
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
        let signalled = signalled();
        tokio::pin!(signalled);
        let mut reloads = tokio::task::JoinSet::new();
        let had_terminal = std::io::stderr().is_terminal();
        loop {
            tokio::select! {
                biased;
                () = &mut signalled => return,
                received = hangup.recv() => match received {
                    // Its window was closed: who looks after it has gone, and nobody sees that it still runs.
                    Some(()) if had_terminal && !std::io::stderr().is_terminal() => return,
                    Some(()) => {
                        while reloads.try_join_next().is_some() {}
                        reloads.spawn(reload(directory.clone()));
                    }
                    None => return signalled.await,
                },
            }
        }
    }
    signalled().await;
}

/// Has the config read again. Asked, not told, since its actor may just be away; what came of it stands in the log and in
/// the status.
async fn reload(directory: Arc<Directory>) {
    let until = clock::now() + RELOAD;
    let _ = ask_again(&directory.config, until, |reply| ConfigMessage::Reload(Some(reply))).await;
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
