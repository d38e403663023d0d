//! The MCP front: other models as a tool, and the daemon's state as resources, over stdio and streamable HTTP.
//!
//! It turns a tool call into a request of the Messages dialect, has the daemon run it in this process, and
//! reads the answer. What it needs of the daemon is the trait [`Daemon`], and no more. It owns nothing that a
//! restart would lose: [`Sessions`] (HTTP sessions, conversations, long answers) comes from outside.
//!
//! Not here: routing, limits and upstreams (the exchange), and the protocol itself (rmcp).

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;

use crate::actors::status::Status;
use crate::config::{ProviderId, Strategy};
use crate::dialect::Usage;
use crate::exchange::{Answer, Request, RequestId};

mod args;
mod body;
mod bridge;
mod collect;
mod compare;
mod completion;
mod files;
mod guard;
mod ids;
mod lines;
mod manage;
mod news;
mod outcome;
mod progress;
mod prompts;
mod resources;
mod server;
mod sessions;
mod state;
mod tools;
mod transport;
mod watch_status;

pub use bridge::{BridgeError, Upstream, bridge, bridge_stdio};
pub use ids::HttpSessions;
pub use server::Server;
pub use sessions::Sessions;
pub use transport::{HttpService, ServeError, http_service, mount, serve_on, serve_stdio};

/// The name under which the server presents itself.
pub const SERVER_NAME: &str = "claude-code-proxy";

/// What the MCP front needs of the daemon.
pub trait Daemon: Send + Sync + 'static {
    /// Runs a request of the Messages dialect; the answer is in the Messages dialect too. Dropping the future
    /// or the answer's stream cancels the upstream call.
    fn run(&self, request: Request) -> BoxFuture<'static, Answer>;

    /// The daemon at this moment.
    fn status(&self) -> Status;

    /// Counts changes of the status and of the config. When the sender is gone it is asked for again.
    fn status_changes(&self) -> watch::Receiver<u64>;

    /// The models that can be asked for: aliases, those that providers list, and the globs that they list.
    fn models(&self) -> Vec<ModelInfo>;

    /// The plan for a request, without running it.
    fn explain(&self, request: &Request) -> Value;

    /// A fresh id.
    fn next_request_id(&self) -> RequestId;

    /// What the config in force says to this front.
    fn settings(&self) -> Settings;

    /// The config in force, with no secret in it.
    fn config_redacted(&self) -> Value;

    /// Carries out a command. The error says what happened, to what, and what to do.
    fn command(&self, command: Command) -> BoxFuture<'static, Result<Value, String>>;

    /// Usage and cost so far.
    fn usage(&self) -> BoxFuture<'static, Value> {
        Box::pin(std::future::ready(serde_json::json!({ "note": "usage is not kept by this daemon" })))
    }

    /// The last requests, newest first; no prompts, no answers.
    fn recent_requests(&self) -> Value {
        serde_json::json!({ "requests": [], "note": "recent requests are not kept by this daemon" })
    }

    /// What an answer cost in US dollars, if its price is known.
    fn cost(&self, _provider: &str, _model: &str, _usage: &Usage) -> Option<f64> {
        None
    }
}

/// One model that can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModelInfo {
    /// The name to ask for, or a glob that such names fit.
    pub id: String,
    /// The provider that serves it first.
    pub provider: String,
    /// How it comes to be there: `listed`, `pattern`, or the alias's targets.
    pub via: String,
}

impl ModelInfo {
    /// Whether it is a glob, which is no name to ask for.
    pub fn is_pattern(&self) -> bool {
        self.id.contains(['*', '?'])
    }
}

/// What the config says to this front.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `[mcp] allow_changes`.
    pub allow_changes: bool,
    /// `[mcp] default_model`.
    pub default_model: Option<String>,
    /// `[faults] enabled`.
    pub faults_enabled: bool,
}

/// What a tool may ask the daemon to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Check the config file, and say what would change; changes nothing.
    ValidateConfig,
    /// Take up the config file again.
    Reload,
    /// Switch a provider on or off until the next start.
    SetProviderEnabled(ProviderId, bool),
    /// Set the routing strategy until the next start.
    SetStrategy(Strategy),
    /// Forget all cached answers.
    ClearCache,
    /// Arm a fault (`{"target": …, "fault": …, "times": …}`), or with `{"fault": "off"}` disarm all.
    InjectFault(Value),
}

/// What all sessions of the front share; cheap to clone.
#[derive(Clone)]
pub(crate) struct Shared {
    pub daemon: Arc<dyn Daemon>,
    pub sessions: Arc<Sessions>,
}

/// The longest that any handler may take; a call with a `timeout` of its own may take less.
pub(crate) const HANDLER_LIMIT: Duration = Duration::from_secs(30 * 60);
