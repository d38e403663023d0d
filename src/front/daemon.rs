//! What both fronts share: the exchange, the status, and what callers may ask of the daemon itself.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::mcp;
use crate::actors::Directory;
use crate::actors::config::ConfigMessage;
use crate::actors::faults;
use crate::actors::status::Status;
use crate::config::secret::Key;
use crate::dialect::Usage;
use crate::exchange::{Answer, Exchange, Request, RequestId};
use crate::ledger::report::{By, Query};
use crate::runtime::{ask_again, clock};

/// How long a command may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(10);

/// Requests that are shown as recent.
const RECENT: usize = 50;

/// The running daemon, as its fronts see it.
pub struct Daemon {
    directory: Arc<Directory>,
    exchange: Exchange,
    changes: Arc<watch::Sender<u64>>,
    token: Option<Key>,
}

// === impl Daemon ===

impl Daemon {
    /// The daemon over this directory. Callers must present `token`, if there is one.
    pub fn new(directory: Arc<Directory>, changes: Arc<watch::Sender<u64>>, token: Option<Key>) -> Daemon {
        Daemon { exchange: Exchange::new(directory.clone()), directory, changes, token }
    }

    /// Runs requests.
    pub fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    /// Where everybody lives.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// The token that callers must present, if there is one.
    pub fn token(&self) -> Option<Key> {
        self.token.clone()
    }

    /// The daemon at this moment.
    pub fn status(&self) -> Status {
        Status::of(&self.directory)
    }

    /// The models that can be asked for: aliases without globs, then what providers list, then their defaults.
    pub fn models(&self) -> Vec<mcp::ModelInfo> {
        let published = self.directory.published.load();
        let mut models: Vec<mcp::ModelInfo> = Vec::new();
        let mut add = |id: &str, provider: &str, via: String| {
            let is_name = !id.is_empty() && !id.contains(['*', '?']);
            if is_name && !models.iter().any(|known| known.id == id) {
                models.push(mcp::ModelInfo { id: id.to_owned(), provider: provider.to_owned(), via });
            }
        };
        for alias in &published.table.aliases {
            if let Some(first) = alias.targets.first() {
                add(&alias.pattern, first.provider.as_str(), first.to_string());
            }
        }
        for row in &published.table.rows {
            if row.usable == crate::routing::table::Usable::Ready {
                for model in row.models.iter().chain(&row.default_model) {
                    add(model, row.id.as_str(), "listed".to_owned());
                }
            }
        }
        models
    }

    /// What providers list as globs: any name that fits one can be asked for.
    fn patterns(&self) -> Vec<mcp::ModelInfo> {
        let published = self.directory.published.load();
        let ready =
            published.table.rows.iter().filter(|row| row.usable == crate::routing::table::Usable::Ready);
        let listed = ready.flat_map(|row| row.models.iter().map(move |model| (model, &row.id)));
        listed
            .filter(|(model, _)| model.contains(['*', '?']))
            .map(|(model, id)| mcp::ModelInfo {
                id: model.clone(),
                provider: id.to_string(),
                via: "pattern".to_owned(),
            })
            .collect()
    }

    async fn reload(&self) -> Result<Value, String> {
        let until = clock::now() + COMMAND_LIMIT;
        match ask_again(&self.directory.config, until, |reply| ConfigMessage::Reload(Some(reply))).await {
            Ok(Ok(generation)) => Ok(json!({ "reloaded": true, "generation": generation })),
            Ok(Err(reason)) => Err(format!("the config was not taken up, the one in force stays:\n{reason}")),
            Err(error) => Err(format!("the config actor: {error}; try again")),
        }
    }

    /// What the ledger says of the last thirty days.
    async fn usage_of_late(&self) -> Value {
        let cell = self.directory.ledger_cell.clone();
        let since = clock::wall().checked_sub(Duration::from_secs(30 * 86_400));
        let read = move || -> Result<Value, String> {
            let report = |by| cell.report(Query { by, since, limit: 10 });
            let (days, providers, models) = (report(By::Day)?, report(By::Provider)?, report(By::Model)?);
            Ok(json!({
                "since": "30 days ago", "total": days.total, "by_day": days.lines, "by_provider": providers.lines,
                "by_model": models.lines, "more": "cproxy usage --by session --since 7d",
            }))
        };
        match tokio::task::spawn_blocking(read).await {
            Ok(Ok(usage)) => usage,
            Ok(Err(reason)) => json!({ "error": reason }),
            Err(error) => json!({ "error": format!("reading the ledger failed: {error}") }),
        }
    }

    async fn carry_out(self: Arc<Daemon>, command: mcp::Command) -> Result<Value, String> {
        match command {
            mcp::Command::Reload => self.reload().await,
            mcp::Command::ValidateConfig => {
                let until = clock::now() + COMMAND_LIMIT;
                match ask_again(&self.directory.config, until, ConfigMessage::Validate).await {
                    Ok(Ok(changes)) => Ok(json!({ "valid": true, "changes": changes })),
                    Ok(Err(reason)) => Err(reason),
                    Err(error) => Err(format!("the config actor: {error}; try again")),
                }
            }
            mcp::Command::SetProviderEnabled(id, enabled) => {
                let Some(entry) = self.directory.entries.load().get(&id).cloned() else {
                    let known: Vec<String> =
                        self.directory.entries.load().keys().map(ToString::to_string).collect();
                    return Err(format!("no provider \"{id}\"; there are: {}", known.join(", ")));
                };
                entry.cell.enable(enabled);
                self.directory.router.cast(crate::actors::router::RouterMessage::Rebuild);
                Ok(json!({ "provider": id, "enabled": enabled, "until": "the next start" }))
            }
            mcp::Command::SetStrategy(strategy) => {
                self.directory.routes.set_strategy(strategy);
                self.directory.router.cast(crate::actors::router::RouterMessage::Rebuild);
                Ok(json!({ "strategy": strategy, "until": "the next start" }))
            }
            mcp::Command::ClearCache => {
                if !self.directory.config_cell.get().config.cache.enabled {
                    return Err("the response cache is not enabled ([cache] enabled = true)".to_owned());
                }
                Ok(json!({ "cleared": self.directory.answers.clear().await }))
            }
            mcp::Command::InjectFault(rule) => {
                if rule.get("fault").and_then(Value::as_str) == Some("off") {
                    return faults::clear(&self.directory)
                        .await
                        .map(|cleared| json!({ "disarmed": cleared }));
                }
                let rule = serde_json::from_value(rule).map_err(|error| format!("no fault rule: {error}"))?;
                let fired = || self.directory.injector.as_ref().map_or(0, |injector| injector.fired());
                let before = fired();
                let armed = faults::arm(&self.directory, vec![rule]).await?;
                // A plain `kill` is carried out at once and leaves nothing armed.
                let at_once = fired().saturating_sub(before);
                Ok(json!({ "armed": armed, "fired_at_once": at_once, "more": "cproxy://actors" }))
            }
        }
    }
}

impl mcp::Daemon for Arc<Daemon> {
    fn run(&self, request: Request) -> BoxFuture<'static, Answer> {
        let exchange = self.exchange.clone();
        Box::pin(async move { exchange.run(request).await })
    }

    fn status(&self) -> Status {
        Daemon::status(self)
    }

    fn status_changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn models(&self) -> Vec<mcp::ModelInfo> {
        let mut models = Daemon::models(self);
        models.extend(self.patterns());
        models
    }

    fn explain(&self, request: &Request) -> Value {
        self.exchange.explain(request)
    }

    fn next_request_id(&self) -> RequestId {
        RequestId::new()
    }

    fn settings(&self) -> mcp::Settings {
        let loaded = self.directory.config_cell.get();
        mcp::Settings {
            allow_changes: loaded.config.mcp.allow_changes,
            default_model: loaded.config.mcp.default_model.clone(),
            faults_enabled: self.directory.injector.is_some(),
        }
    }

    fn config_redacted(&self) -> Value {
        crate::config::show::to_json(&self.directory.config_cell.get())
    }

    fn usage(&self) -> BoxFuture<'static, Value> {
        let daemon = self.clone();
        Box::pin(async move { daemon.usage_of_late().await })
    }

    fn recent_requests(&self) -> Value {
        json!({ "requests": self.directory.ledger_cell.recent(RECENT) })
    }

    fn cost(&self, provider: &str, model: &str, usage: &Usage) -> Option<f64> {
        let kind = self.directory.entries.load().get(provider)?.cell.setup().config.kind;
        let price = self.directory.ledger_cell.price(&provider.into(), kind, model)?;
        Some(price.cost(usage))
    }

    fn command(&self, command: mcp::Command) -> BoxFuture<'static, Result<Value, String>> {
        Box::pin(self.clone().carry_out(command))
    }
}
