//! The running daemon, as the other subcommands see it: where it is, and what it answers.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};

use super::{instance, token};
use crate::actors::status::Status;
use crate::config::secret::Key;
use crate::config::{ConfigError, Environment, Loaded, Overrides, Source};

/// How long the daemon may take to answer.
const LIMIT: Duration = Duration::from_secs(5);

/// Most bytes of an answer that are read.
const MAX_ANSWER: usize = 16 << 20;

/// Which daemon a command speaks to.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct DaemonArgs {
    /// The config file, which names the daemon's port and token
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The port of the daemon [default: that of the config, else the only daemon that runs]
    #[arg(long, short, value_name = "N")]
    pub port: Option<u16>,
    /// The address of the daemon, such as http://127.0.0.1:3000
    #[arg(long, value_name = "URL", conflicts_with = "port")]
    pub connect: Option<String>,
}

/// A way to one daemon.
pub struct Client {
    http: reqwest::Client,
    address: String,
    token: Option<Key>,
}

/// Whether something answers there, and what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Daemon,
    Other,
    Nobody,
}

// === impl DaemonArgs ===

impl DaemonArgs {
    /// The config that these arguments name.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let environment = Environment::of_process();
        let file = self.config.clone().or_else(|| self.of_the_running(&environment));
        let source = Source::of_process(file.as_deref(), &environment);
        crate::config::load(&source, &environment, &Overrides { host: None, port: self.port })
    }

    /// Where nobody says which daemon is meant, it is the only one that runs, with the config that it was started with.
    fn of_the_running(&self, environment: &Environment<'_>) -> Option<PathBuf> {
        if self.port.is_some() || self.connect.is_some() || environment.get("CPROXY_CONFIG").is_some() {
            return None;
        }
        match instance::of_this_user().as_slice() {
            [only] => only.flags.config.clone(),
            _ => None,
        }
    }

    /// The daemon: the one that is named, else the one on the config's port, else the only one that runs.
    ///
    /// # Errors
    ///
    /// In words: none runs, several do, or something else has the port.
    pub async fn find(&self) -> Result<Client, String> {
        let loaded = self.load();
        let server = loaded.as_ref().ok().map(|loaded| &loaded.config.server);
        // The daemon may well run while its config on disk is broken; then no token is known.
        let token = match server.map(token::read).transpose() {
            Ok(token) => token.flatten(),
            Err(reason) => return Err(reason),
        };
        let client = Client::new(String::new(), token)?;
        if let Some(url) = &self.connect {
            let address = url.trim_end_matches('/').to_owned();
            return match client.probe(&address).await {
                Found::Daemon => Ok(Client { address, ..client }),
                Found::Other => Err(format!("what answers at {address} is no cproxy")),
                Found::Nobody => Err(format!("nothing answers at {address}")),
            };
        }
        let local = std::net::Ipv4Addr::LOCALHOST.into();
        let (host, port) = match (server, self.port) {
            (Some(server), _) => (reachable(server.host), server.port),
            (None, Some(port)) => (local, port),
            // The config that may name the port is refused: the user's own daemon is meant, if there is one.
            (None, None) => match instance::of_this_user().as_slice() {
                [only] => (local, only.port),
                _ => (local, 3000),
            },
        };
        let address = format!("http://{}", std::net::SocketAddr::from((host, port)));
        let found = client.probe(&address).await;
        if found == Found::Daemon {
            return Ok(Client { address, ..client });
        }
        let others = instance::of_this_user();
        match others.as_slice() {
            [only] if self.port.is_none() => {
                let address = only.address.clone();
                match client.probe(&address).await {
                    Found::Daemon => Ok(Client { address, ..client }),
                    _ => Err(format!(
                        "the daemon at {address} (process {}) does not answer; `cproxy restart` starts it anew",
                        only.pid
                    )),
                }
            }
            [] if loaded.is_err() && self.port.is_none() => Err(format!(
                "no daemon was found, and the config that may name its port is refused (--port N does without):\n{}",
                loaded.err().map(|error| error.to_string()).unwrap_or_default()
            )),
            [] if found == Found::Other => {
                Err(format!("no cproxy runs: what answers at {address} is another program"))
            }
            [] => Err(format!("no cproxy runs at {address}; `cproxy start` starts one")),
            several => {
                let list: Vec<&str> = several.iter().map(|other| other.address.as_str()).collect();
                Err(format!("no cproxy runs at {address}, but at {}; choose with --port N", list.join(", ")))
            }
        }
    }
}

/// The address by which a listener is reached: one that listens everywhere is reached on this machine.
pub fn reachable(host: std::net::IpAddr) -> std::net::IpAddr {
    match host {
        host if !host.is_unspecified() => host,
        std::net::IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
        std::net::IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
    }
}

// === impl Client ===

impl Client {
    /// A way to the daemon at this address.
    pub fn new(address: String, token: Option<Key>) -> Result<Client, String> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(LIMIT)
            .build()
            .map_err(|error| format!("no HTTP client: {error}"))?;
        Ok(Client { http, address, token })
    }

    /// Where the daemon is.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The status.
    pub async fn status(&self) -> Result<Status, String> {
        let body = self.send(Method::GET, "/status", &[], Bytes::new()).await?;
        serde_json::from_slice(&body).map_err(|error| {
            format!(
                "the daemon at {} tells its status in another way than cproxy {} reads it ({error}); \
                 `cproxy restart` brings both to one version",
                self.address,
                env!("CARGO_PKG_VERSION")
            )
        })
    }

    /// Asks, and gives back the body of a good answer.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(String, String)],
        body: Bytes,
    ) -> Result<Bytes, String> {
        let mut request = self.http.request(method, format!("{}{path}", self.address)).body(body);
        if let Some(token) = &self.token {
            request = request.header("x-cproxy-token", token.expose());
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let mut response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            if bytes.len() + chunk.len() > MAX_ANSWER {
                return Err(format!("the answer of {}{path} is too long", self.address));
            }
            bytes.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return Ok(bytes.into());
        }
        let text: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let message = text["error"]["message"].as_str().unwrap_or("no reason given");
        if status == StatusCode::UNAUTHORIZED {
            return Err(format!(
                "the daemon at {} asks for its token; name the config that has its server.token_file with --config",
                self.address
            ));
        }
        Err(format!("the daemon at {} answered {}: {message}", self.address, status.as_u16()))
    }

    fn unreachable(&self, error: &reqwest::Error) -> String {
        let why = if error.is_timeout() { "does not answer in time" } else { "can't be reached" };
        format!("the daemon at {} {why}", self.address)
    }

    /// What answers at an address. No token is shown to it: it may be anybody.
    async fn probe(&self, address: &str) -> Found {
        let request = self.http.get(format!("{address}/health")).timeout(Duration::from_secs(1));
        match request.send().await {
            Ok(response) if response.headers().contains_key("x-cproxy-version") => Found::Daemon,
            Ok(_) => Found::Other,
            Err(error) if error.is_connect() => Found::Nobody,
            Err(_) => Found::Other,
        }
    }
}
