//! What requests leave behind, on its way to the log, to the metrics and to the ledger's store.
//!
//! A request's own task does one thing here: it pushes its record. All else happens later and elsewhere: the
//! ledger's actor folds new records (prices them, writes their log lines, adds them to the metrics) and writes them
//! to the store in a blocking task. The cell survives the actor, so that no record is lost with an incarnation.

use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use super::Outbox;
use crate::config::{Config, ProviderId, ProviderKind};
use crate::ledger::budget::{Budgets, OverBudget, Reserved};
use crate::ledger::report::{Query, Recent, Report, Spent, dollars};
use crate::ledger::store::{Store, StoreError, set_aside};
use crate::ledger::{Priced, Record, sum};
use crate::routing::price::{Price, Prices};
use crate::runtime::clock;
use crate::telemetry::metrics::{Kind, Metrics, Page};
use crate::telemetry::requests;

/// Most records that wait to be written, or to be folded; beyond it the oldest are lost, and counted. About 30 MB.
const MAX_WAITING: usize = 65_536;

/// Requests that are shown as recent.
const RECENT: usize = 200;

/// How often old requests are looked for, in seconds.
const TIDY_EVERY: u64 = 3600;

/// Records in one transaction.
const BATCH: usize = 4096;

/// Records, totals, and the store.
pub struct LedgerCell {
    fresh: Mutex<Vec<Record>>,
    bell: Notify,
    book: Mutex<Book>,
    store: Mutex<Option<Store>>,
    trouble: Mutex<Trouble>,
    /// Where the store is; `None` where nothing is kept on disk.
    path: Option<PathBuf>,
    settings: ArcSwap<Settings>,
    budgets: Mutex<Budgets>,
    limited: AtomicBool,
    recalled: AtomicBool,
    began: std::time::SystemTime,
    lost: AtomicU64,
    /// What waits to be exported.
    outbox: Outbox,
    /// When old requests were last made into sums, in seconds since 1970.
    tidied: AtomicU64,
}

/// What folding fills.
#[derive(Default)]
struct Book {
    unwritten: VecDeque<Arc<Priced>>,
    recent: VecDeque<Arc<Priced>>,
    metrics: Metrics,
}

/// What the config says, as far as it matters here.
struct Settings {
    prices: Prices,
    models: HashSet<(Box<str>, Box<str>)>,
    timings: bool,
    keep: std::time::Duration,
}

/// What is wrong with the store.
#[derive(Default)]
struct Trouble {
    /// Why nothing can be written at present.
    now: Option<String>,
    /// What was lost or set aside since the start.
    past: Vec<String>,
}

/// An amount of money that is set apart for a request; its drop gives it back unspent.
pub struct Reservation {
    cell: Arc<LedgerCell>,
    reserved: Option<Reserved>,
}

// === impl LedgerCell ===

impl LedgerCell {
    /// The ledger that this config asks for. Touches no file yet.
    pub fn of(config: &Config) -> LedgerCell {
        let ledger = &config.ledger;
        LedgerCell::new(ledger.file.clone().filter(|_| ledger.enabled), config)
    }

    /// A ledger that is kept at `path`, or in memory alone. Touches no file yet.
    pub fn new(path: Option<PathBuf>, config: &Config) -> LedgerCell {
        let cell = LedgerCell {
            fresh: Mutex::default(),
            bell: Notify::new(),
            book: Mutex::default(),
            store: Mutex::default(),
            trouble: Mutex::default(),
            path,
            settings: ArcSwap::from_pointee(Settings::of(config)),
            budgets: Mutex::default(),
            limited: AtomicBool::new(false),
            recalled: AtomicBool::new(false),
            began: clock::wall(),
            lost: AtomicU64::new(0),
            outbox: Outbox::default(),
            tidied: AtomicU64::new(0),
        };
        cell.configure(config);
        cell
    }

    /// Another config is in force: its budgets, its models.
    pub fn configure(&self, config: &Config) {
        self.settings.store(Arc::new(Settings::of(config)));
        let mut budgets = lock(&self.budgets);
        budgets.limit(config.budgets);
        self.limited.store(budgets.is_limited(), Ordering::Release);
    }

    /// Takes what a request left behind. Quick, and on the request's path: a push, and at most once in a round a
    /// ring of the bell.
    pub fn record(&self, record: Record) {
        let mut fresh = lock(&self.fresh);
        if fresh.len() >= MAX_WAITING {
            // Nobody folds: the actor is down for good. The newest is lost, since to drop the oldest moves them all.
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let first = fresh.is_empty();
        fresh.push(record);
        drop(fresh);
        if first {
            self.bell.notify_one();
        }
    }

    /// Resolves when records have come that nobody has folded yet.
    pub async fn rung(&self) {
        self.bell.notified().await;
    }

    /// Prices new records, writes their log lines, adds them to the metrics and to what waits for the store. Gives
    /// back how many wait.
    pub fn fold(&self) -> usize {
        // The book first: two who fold at once must not turn the order of the lines around.
        let mut book = lock(&self.book);
        let fresh = std::mem::take(&mut *lock(&self.fresh));
        let settings = self.settings.load();
        for record in fresh {
            let priced = Arc::new(record.price(&settings.prices));
            requests::line(&priced, settings.timings);
            tracing::debug!(request = &*priced.record.id, cost_usd = priced.cost().map(dollars), "booked");
            book.metrics.add(&priced, |provider, model| settings.names(provider, model));
            self.outbox.put(&priced);
            if book.recent.len() >= RECENT {
                book.recent.pop_front();
            }
            book.recent.push_back(priced.clone());
            if self.path.is_some() {
                if book.unwritten.len() >= MAX_WAITING {
                    book.unwritten.pop_front();
                    self.lost.fetch_add(1, Ordering::Relaxed);
                }
                book.unwritten.push_back(priced);
            }
        }
        book.unwritten.len()
    }

    /// Writes what waits. Blocks; for a blocking task. On failure everything stays, to be tried again.
    pub fn write(&self) -> Result<(), String> {
        let Some(path) = &self.path else { return Ok(()) };
        let mut store = lock(&self.store);
        let mut anew = false;
        loop {
            let batch: Vec<Arc<Priced>> = lock(&self.book).unwritten.iter().take(BATCH).cloned().collect();
            let Some(last) = batch.last() else {
                self.tidy(&mut store);
                return Ok(());
            };
            let written = match &mut *store {
                Some(open) => open.write(&batch),
                closed => Store::open(path).and_then(|open| closed.insert(open).write(&batch)),
            };
            match written {
                Ok(()) => {
                    self.well();
                    for priced in &batch {
                        tracing::debug!(request = &*priced.record.id, "is in the ledger");
                    }
                    let mut book = lock(&self.book);
                    // Those of the batch that are still there: others may have been pushed out meanwhile.
                    if let Some(at) = book.unwritten.iter().position(|waiting| Arc::ptr_eq(waiting, last)) {
                        book.unwritten.drain(..=at);
                    }
                }
                Err(error) if error.is_corrupt() && !anew => {
                    anew = true;
                    *store = None;
                    self.begin_anew(path, &error)?;
                }
                Err(error) => {
                    *store = None; // opened again at the next try
                    return Err(self.ill(error.to_string()));
                }
            }
        }
    }

    /// Makes the requests that are older than `ledger.keep_days` into the sums of their days, now and then.
    fn tidy(&self, store: &mut Option<Store>) {
        let (Some(open), now) = (store, clock::unix()) else { return };
        let last = self.tidied.load(Ordering::Relaxed);
        // A clock that was set back must not keep it from its work.
        if (last..last.saturating_add(TIDY_EVERY)).contains(&now) {
            return;
        }
        self.tidied.store(now, Ordering::Relaxed);
        let keep = self.settings.load().keep;
        match clock::wall().checked_sub(keep).map_or(Ok(0), |before| open.sum_up_before(before)) {
            Ok(0) => {}
            Ok(days) => {
                tracing::info!(days, "old requests in the ledger were made into the sums of their days")
            }
            Err(error) => tracing::warn!(%error, "the ledger could not be tidied"),
        }
    }

    /// Sets a corrupt store aside.
    fn begin_anew(&self, path: &std::path::Path, error: &StoreError) -> Result<(), String> {
        match set_aside(path, clock::wall()) {
            Ok(aside) => {
                let text = format!("{error}; it is set aside as {}, and a new one is begun", aside.display());
                tracing::error!("{text}");
                lock(&self.trouble).past.push(text);
                Ok(())
            }
            Err(failed) => Err(self.ill(format!("{error}, and can't be set aside: {failed}; move it away"))),
        }
    }

    fn ill(&self, reason: String) -> String {
        let mut trouble = lock(&self.trouble);
        if trouble.now.as_ref() != Some(&reason) {
            tracing::error!(reason, "the ledger can't be written; usage is kept in memory for now");
            trouble.now = Some(reason.clone());
        }
        reason
    }

    fn well(&self) {
        if lock(&self.trouble).now.take().is_some() {
            tracing::info!("the ledger can be written again");
        }
    }

    /// What waits to be exported.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// The requests that ended last, the newest first.
    pub fn recent(&self, most: usize) -> Vec<Recent> {
        self.fold();
        let book = lock(&self.book);
        book.recent.iter().rev().take(most).map(|priced| Recent::from(&**priced)).collect()
    }

    /// Writes the metrics of all requests that have ended.
    pub fn render(&self, page: &mut Page) {
        self.fold();
        lock(&self.book).metrics.render(page);
        let help = "Records that could be neither written nor kept.";
        page.family("cproxy.ledger_lost", "{record}", Kind::Counter, help);
        page.count(&[], self.lost.load(Ordering::Relaxed));
    }

    /// Usage and cost so far, what has ended a moment ago included. Blocks; for a blocking task.
    pub fn report(&self, query: Query) -> Result<Report, String> {
        let Some(path) = &self.path else {
            return Err(
                "usage is not kept ([ledger] enabled = false, or no home directory to keep it in)".to_owned()
            );
        };
        self.fold();
        self.write()?;
        crate::ledger::report::read(path, query).map_err(|error| error.to_string())
    }

    /// Whatever deserves a person's attention.
    pub fn warnings(&self) -> Vec<String> {
        let trouble = lock(&self.trouble);
        let mut warnings = trouble.past.clone();
        if let Some(reason) = &trouble.now {
            let waiting = lock(&self.book).unwritten.len();
            warnings.push(format!(
                "the ledger can't be written: {reason}; {waiting} requests are kept in memory"
            ));
        }
        let lost = self.lost.load(Ordering::Relaxed);
        if lost > 0 {
            warnings.push(format!("the ledger has lost {lost} requests, since it could not keep up"));
        }
        if self.limited.load(Ordering::Acquire) {
            warnings.extend(lock(&self.budgets).warnings());
        }
        warnings
    }

    /// Whether the mark `warn` of a budget is passed that counts for this session and this agent.
    pub fn is_past_a_mark(&self, session: Option<&str>, agent: Option<&str>) -> bool {
        self.is_limited() && lock(&self.budgets).is_past_a_mark(session, agent, clock::unix())
    }

    /// Whether there is any budget.
    pub fn is_limited(&self) -> bool {
        self.limited.load(Ordering::Acquire)
    }

    /// The price of a model at a provider; `None` is unknown.
    pub fn price(&self, provider: &ProviderId, kind: ProviderKind, model: &str) -> Option<Price> {
        self.settings.load().prices.of(provider.as_str(), kind, model)
    }

    /// What this record cost in millionths of a US dollar; `None` if that is unknown.
    pub fn cost(&self, record: &Record) -> Option<i64> {
        sum(&record.costs(&self.settings.load().prices))
    }

    /// Sets an amount apart for a request (millionths of a US dollar; 0 where the price is unknown), or says which
    /// budget forbids it. `None` where there is no budget at all.
    pub fn reserve(
        self: &Arc<Self>,
        session: Option<&Arc<str>>,
        agent: Option<&Arc<str>>,
        estimate: i64,
    ) -> Result<Option<Reservation>, OverBudget> {
        if !self.is_limited() {
            return Ok(None);
        }
        let reserved = lock(&self.budgets).reserve(session, agent, estimate, clock::unix())?;
        Ok(Some(Reservation { cell: self.clone(), reserved: Some(reserved) }))
    }

    /// Books what was spent before this process began, once, if there are budgets. Blocks; for a blocking task.
    pub fn recall(&self) {
        let Some(path) = &self.path else { return };
        if !self.limited.load(Ordering::Acquire) || self.recalled.swap(true, Ordering::AcqRel) {
            return;
        }
        let spent = match Store::open_to_read(path) {
            Ok(Some(store)) => store.spent(self.began),
            Ok(None) => return,
            Err(error) => Err(error),
        };
        match spent {
            Ok(spent) => {
                let mut budgets = lock(&self.budgets);
                for Spent { scope, name, cost } in spent {
                    budgets.recall(scope, name.as_deref(), cost, clock::unix());
                }
            }
            Err(error) => {
                let text = format!("{error}; budgets begin at zero");
                tracing::error!("{text}");
                lock(&self.trouble).past.push(text);
            }
        }
    }
}

impl std::fmt::Debug for LedgerCell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LedgerCell").field("path", &self.path).finish_non_exhaustive()
    }
}

// === impl Settings ===

impl Settings {
    fn of(config: &Config) -> Settings {
        let mut models = HashSet::new();
        let mut add = |provider: &str, model: &str| {
            if !model.contains(['*', '?']) {
                models.insert((provider.into(), model.into()));
            }
        };
        for (id, provider) in &config.providers {
            for model in provider.models.iter().chain(&provider.default_model) {
                add(id.as_str(), model);
            }
        }
        for target in config.models.iter().flat_map(|alias| &alias.targets) {
            add(target.provider.as_str(), &target.model);
        }
        for target in config.routing.rules.iter().flat_map(|rule| &rule.targets) {
            if let Some((provider, model)) = target.split_once('/') {
                add(provider, model);
            }
        }
        Settings {
            prices: Prices::of_config(config),
            models,
            timings: config.logging.performance,
            keep: std::time::Duration::from_secs(86_400 * u64::from(config.ledger.keep_days)),
        }
    }

    fn names(&self, provider: &str, model: &str) -> bool {
        self.models.contains(&(Box::from(provider), Box::from(model)))
    }
}

// === impl Reservation ===

impl Reservation {
    /// The request has ended, and cost this much; `None` if that is unknown: then it counts as estimated.
    pub fn settle(mut self, cost: Option<i64>) {
        self.give_back(cost);
    }

    fn give_back(&mut self, cost: Option<i64>) {
        if let Some(reserved) = self.reserved.take() {
            let passed = lock(&self.cell.budgets).settle(reserved, cost, clock::unix());
            for scope in passed {
                tracing::warn!(
                    "the mark of the budget {scope} is passed: what costs less is asked first from now on"
                );
            }
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.give_back(Some(0));
    }
}

/// A holder that panicked left a whole value: every change is a push, a pop or an assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
