//! Where everybody lives: the slots of the tree's roles and the cells that survive them. Made before the tree,
//! shared by all; holds no logic.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;

use super::config::ConfigMessage;
use super::faults::FaultsMessage;
use super::http_front::HttpFrontMessage;
use super::ledger::LedgerMessage;
use super::mcp_front::McpFrontMessage;
use super::otlp::OtlpMessage;
use super::provider::ProviderMessage;
use super::providers::{Connect, ProvidersMessage};
use super::router::RouterMessage;
use super::simulator::SimulatorMessage;
use crate::cells::prompt_caches::PromptCaches;
use crate::cells::{ConfigCell, LedgerCell, ListenerCell, ProviderCell, Requests, RoutesCell};
use crate::config::{Loaded, ProviderId};
use crate::faults::Injector;
use crate::routing::{Table, Vital};
use crate::runtime::supervisor::SupervisorMessage;
use crate::runtime::{Interrupt, Place, Random, Slot, State, clock};

/// All slots and cells of one daemon.
pub struct Directory {
    /// The root supervisor.
    pub root: Arc<Slot<SupervisorMessage<()>>>,
    /// The config actor.
    pub config: Arc<Slot<ConfigMessage>>,
    /// The ledger.
    pub ledger: Arc<Slot<LedgerMessage>>,
    /// The faults actor.
    pub faults: Arc<Slot<FaultsMessage>>,
    /// The exporter of metrics and traces.
    pub otlp: Arc<Slot<OtlpMessage>>,
    /// The supervisor of the providers.
    pub providers: Arc<Slot<SupervisorMessage<ProvidersMessage>>>,
    /// The router.
    pub router: Arc<Slot<RouterMessage>>,
    /// The HTTP front.
    pub http: Arc<Slot<HttpFrontMessage>>,
    /// The MCP front.
    pub mcp: Arc<Slot<McpFrontMessage>>,
    /// The embedded simulator.
    pub simulator: Arc<Slot<SimulatorMessage>>,
    /// The config in force.
    pub config_cell: ConfigCell,
    /// What requests leave behind.
    pub ledger_cell: Arc<LedgerCell>,
    /// The providers that there are, by name. Written by the supervisor of the providers.
    pub entries: ArcSwap<BTreeMap<ProviderId, Arc<Entry>>>,
    /// What the router published last, with the providers in the order of the table's rows.
    pub published: ArcSwap<Published>,
    /// The listening socket.
    pub listener: ListenerCell,
    /// Affinity, turns and overrides: what the router keeps beside its table.
    pub routes: RoutesCell,
    /// Whole answers that may be given again.
    pub answers: Arc<crate::cells::cache::AnswerCache>,
    /// What upstreams' prompt caches do for each session.
    pub prompt_caches: PromptCaches,
    /// Makes a provider's way to the network.
    pub connect: Connect,
    /// Open requests, and counts.
    pub requests: Arc<Requests>,
    /// Randomness.
    pub random: Arc<Random>,
    /// What injects faults, if that is enabled; fixed for the life of the process.
    pub injector: Option<Arc<Injector>>,
    /// The same, as actors see it.
    pub interrupt: Option<Arc<dyn Interrupt>>,
    /// When the daemon started.
    pub started: Instant,
}

/// One provider: where its actor lives, and what survives it.
pub struct Entry {
    /// Where its actor lives.
    pub slot: Arc<Slot<ProviderMessage>>,
    /// What survives it.
    pub cell: Arc<ProviderCell>,
}

/// The router's table, and the providers in the order of its rows.
#[derive(Default)]
pub struct Published {
    /// The table.
    pub table: Table,
    /// The providers of its rows.
    pub entries: Vec<Arc<Entry>>,
}

// === impl Directory ===

impl Directory {
    /// The directory of a daemon that is about to start: empty slots, cells with the first config. If that enables
    /// faults, the way to the network is wrapped, and actors can be interrupted.
    pub fn new(loaded: Loaded, listener: ListenerCell, connect: Connect, random: Random) -> Directory {
        let faults = &loaded.config.faults;
        let injector = faults.enabled.then(|| Arc::new(Injector::new(faults.seed)));
        let connect = match &injector {
            Some(injector) => crate::faults::wrap(connect, injector.clone()),
            None => connect,
        };
        let directory = Directory {
            root: Slot::new("root"),
            config: Slot::new("root/config"),
            ledger: Slot::new("root/ledger"),
            faults: Slot::new("root/faults"),
            otlp: Slot::new("root/otlp"),
            providers: Slot::new("root/providers"),
            router: Slot::new("root/router"),
            http: Slot::new("root/http"),
            mcp: Slot::new("root/mcp"),
            simulator: Slot::new("root/simulator"),
            ledger_cell: Arc::new(LedgerCell::of(&loaded.config)),
            config_cell: ConfigCell::new(loaded),
            entries: ArcSwap::default(),
            published: ArcSwap::default(),
            routes: RoutesCell::new(clock::now()),
            answers: Arc::default(),
            prompt_caches: PromptCaches::default(),
            listener,
            requests: Arc::default(),
            random: Arc::new(random),
            connect,
            interrupt: injector.clone().map(|injector| injector as Arc<dyn Interrupt>),
            injector,
            started: clock::now(),
        };
        // Made here, so that requests are served from the first moment.
        super::providers::apply(&directory);
        super::router::publish(&directory);
        directory
    }

    /// The places of all actors, from the root down, in the order in which they start.
    pub fn places(&self) -> Vec<Arc<dyn Place>> {
        let mut places: Vec<Arc<dyn Place>> = vec![self.root.clone()];
        if self.simulator.vitals().incarnation() > 0 {
            places.push(self.simulator.clone());
        }
        places.push(self.config.clone());
        places.push(self.ledger.clone());
        if self.injector.is_some() {
            places.push(self.faults.clone());
        }
        places.push(self.otlp.clone());
        places.push(self.providers.clone());
        places.extend(self.entries.load().values().map(|entry| entry.slot.clone() as Arc<dyn Place>));
        places.push(self.router.clone());
        places.push(self.mcp.clone());
        places.push(self.http.clone());
        places
    }
}

impl Directory {
    /// Whether this provider is the embedded simulator: what it serves costs nothing, whatever the model is called.
    pub fn is_embedded(&self, provider: &ProviderId) -> bool {
        provider.as_str() == super::simulator::NAME && self.simulator.vitals().incarnation() > 0
    }
}

// === impl Entry ===

impl Entry {
    /// What routing knows of the provider, for one model.
    pub fn vital(&self, model: &str, now: Instant) -> Vital {
        let alive = matches!(self.slot.vitals().state(), State::Running | State::Restarting);
        self.cell.vital(model, alive, now)
    }
}
