//! The root of the tree: which actors there are, in which order they start, and what happens when one dies.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorCell};

use super::Directory;
use super::config::{self, ConfigActor};
use super::faults::Faults;
use super::http_front::{self, HttpFront, HttpFrontMessage};
use super::ledger::{Ledger, LedgerMessage};
use super::mcp_front::{self, McpFront};
use super::otlp::{Exporter, OtlpMessage};
use super::providers::Providers;
use super::router::Router;
use super::simulator::Embedded;
use crate::runtime::supervisor::{
    Beyond, Changes, ChildSpec, Overseer, Policy, Supervisor, SupervisorMessage,
};
use crate::runtime::{Backoff, ask, ask_again, clock};

/// When an actor of the root dies: back at once the first time, then with a growing wait; more than that, and the
/// root gives up, and with it the process, since then nothing that we can do helps.
const POLICY: Policy = Policy {
    intensity: 10,
    period: Duration::from_secs(30),
    backoff: Backoff { base: Duration::from_millis(20), max: Duration::from_secs(2) },
    beyond: Beyond::Escalate,
};

/// The providers' supervisor dies only of a bug; it takes its children with it and starts them again.
const PROVIDERS: Policy = Policy { intensity: 20, period: Duration::from_secs(60), ..POLICY };

/// The running tree.
pub struct Tree {
    directory: Arc<Directory>,
    root: ActorCell,
}

/// What is handed in from above: what serves connections, what reads the config.
#[derive(Clone)]
pub struct Hands {
    /// Reads the config again.
    pub config: config::Load,
    /// The HTTP front's seat.
    pub http: http_front::Seat,
    /// The MCP front's seat.
    pub mcp: mcp_front::Seat,
    /// Where the embedded simulator listens, if there is one.
    pub simulator: Option<SocketAddr>,
}

/// The root's overseer.
struct Root {
    directory: Arc<Directory>,
    hands: Hands,
}

// === impl Tree ===

impl Tree {
    /// Starts the tree from the root down.
    pub async fn start(directory: Arc<Directory>, hands: Hands) -> Result<Tree, String> {
        let overseer = Root { directory: directory.clone(), hands };
        let supervisor = Supervisor::new(overseer, directory.root.clone(), directory.random.clone());
        match Actor::spawn(None, supervisor, ()).await {
            Ok((root, _)) => Ok(Tree { directory, root: root.get_cell() }),
            Err(error) => Err(format!("the actors did not start: {error}")),
        }
    }

    /// Resolves with the reason when the root has given up.
    pub async fn failed(&self) -> String {
        let _ = self.root.wait(None).await; // without a timeout the wait can't fail
        let places = self.directory.places();
        let reasons = places.iter().filter_map(|place| {
            let vitals = place.vitals();
            (vitals.state() == crate::runtime::State::Stopped)
                .then(|| vitals.last_failure().map(|reason| format!("{}: {reason}", vitals.path())))
                .flatten()
        });
        let reasons: Vec<String> = reasons.collect();
        if reasons.is_empty() { "the root actor ended".to_owned() } else { reasons.join("; ") }
    }

    /// Ends what is open with an error, for a process that is about to end since the root has given up.
    pub async fn give_up(self) {
        let listener = &self.directory.listener;
        listener.connections().close();
        listener.stop().cancel();
        self.directory.requests.end_all();
        let ended = async {
            self.directory.requests.idle().await;
            listener.connections().wait().await;
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), ended).await;
    }

    /// Stops: no new connections, open requests finish within `limit`, then the actors from the leaves up.
    pub async fn stop(self, limit: Duration) {
        let deadline = clock::now() + limit;
        self.directory.http.cast(HttpFrontMessage::Close);
        let listener = &self.directory.listener;
        listener.connections().close();
        // Requests that are open may finish; connections without one close at once.
        listener.stop().cancel();
        let drained = async {
            self.directory.requests.idle().await;
            listener.connections().wait().await;
        };
        if tokio::time::timeout_at(deadline.into(), drained).await.is_err() {
            tracing::warn!(open = self.directory.requests.open(), "some requests did not finish in time");
            self.directory.requests.end_all();
            let _ = tokio::time::timeout(Duration::from_secs(1), self.directory.requests.idle()).await;
        }
        let step = Duration::from_secs(2);
        if ask_again(&self.directory.ledger, clock::now() + step, LedgerMessage::Flush).await.is_err() {
            tracing::warn!("the ledger was not written in time; the last requests may be missing in it");
        }
        if ask_again(&self.directory.otlp, clock::now() + step, OtlpMessage::Flush).await.is_err() {
            tracing::warn!("the last metrics and traces were not exported in time");
        }
        let stopped = ask(&self.directory.root, clock::now() + step * 5, |reply| {
            SupervisorMessage::StopChildren(step, reply)
        });
        if let Err(error) = stopped.await {
            tracing::warn!(%error, "the actors did not stop in order");
        }
        if self.root.stop_and_wait(None, Some(step)).await.is_err() {
            self.root.kill();
        }
    }
}

// === impl Root ===

impl Overseer for Root {
    type Message = ();

    fn children(&self) -> Vec<ChildSpec> {
        let here = &self.directory;
        let interrupt = || here.interrupt.clone();
        let config = config::Seat { directory: here.clone(), load: self.hands.config.clone() };
        let for_providers = here.clone();
        let mut children = vec![
            ChildSpec::worker::<ConfigActor>("config", here.config.clone(), config, POLICY, interrupt()),
            ChildSpec::worker::<Ledger>(
                "ledger",
                here.ledger.clone(),
                here.ledger_cell.clone(),
                POLICY,
                interrupt(),
            ),
            ChildSpec::worker::<Exporter>("otlp", here.otlp.clone(), here.clone(), POLICY, interrupt()),
            ChildSpec::supervisor(
                "providers",
                here.providers.clone(),
                move || Providers::new(for_providers.clone()),
                PROVIDERS,
                here.random.clone(),
                interrupt(),
            ),
            ChildSpec::worker::<Router>("router", here.router.clone(), here.clone(), POLICY, interrupt()),
            ChildSpec::worker::<McpFront>(
                "mcp",
                here.mcp.clone(),
                self.hands.mcp.clone(),
                POLICY,
                interrupt(),
            ),
            ChildSpec::worker::<HttpFront>(
                "http",
                here.http.clone(),
                self.hands.http.clone(),
                POLICY,
                interrupt(),
            ),
        ];
        if here.injector.is_some() {
            // No plan interrupts the one that can clear it.
            let faults =
                ChildSpec::worker::<Faults>("faults", here.faults.clone(), here.clone(), POLICY, None);
            children.insert(2, faults);
        }
        if let Some(address) = self.hands.simulator {
            let simulator = ChildSpec::worker::<Embedded>(
                "simulator",
                here.simulator.clone(),
                address,
                POLICY,
                interrupt(),
            );
            children.insert(0, simulator);
        }
        children
    }

    fn handle(&self, (): ()) -> Changes {
        Changes::default()
    }

    fn name((): &()) -> &'static str {
        "Tell"
    }
}
