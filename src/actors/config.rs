//! The config actor.
//!
//! Owns: the watch on config.toml and the key files, and the debounce. Its cell holds the config in force. A config
//! that can't be read or is not valid never replaces it: the reason goes to the log, to the status and to whoever
//! asked for the reload.
//!
//! Watches the folders, not the files, since editors write a new file and rename it: those in which the files stand by
//! name, and those in which they stand when links are followed. Looks at the content by itself now and then, since a
//! watch can miss what a network folder or a container mount does.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use notify::event::{EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};

use super::Directory;
use super::otlp::OtlpMessage;
use super::providers::ProvidersMessage;
use crate::config::Loaded;
use crate::runtime::supervisor::SupervisorMessage;
use crate::runtime::{Me, Place, Reply, Worker, clock};
use crate::telemetry::logs;

/// Events of a save come in bursts; they count as one when this quiet.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// A folder in which something happens all the time is looked at after this long all the same.
const RESTLESS: Duration = Duration::from_secs(2);

/// Between two looks at a config that has changed.
const SETTLES: Duration = Duration::from_millis(50);

/// Further looks at most; then what the last one saw counts.
const LOOKS: u32 = 20;

/// How often the content is looked at without an event.
const POLL: Duration = Duration::from_secs(30);

/// Reads the config again, from its file and the environment. Handed in from the command line, which knows where.
pub type Load = Arc<dyn Fn() -> Result<Loaded, String> + Send + Sync>;

/// What the config actor is told.
#[derive(Debug)]
pub enum ConfigMessage {
    /// Read the config again now; answers with the generation in force, or why it was refused.
    Reload(Option<Reply<Result<u64, String>>>),
    /// Read the config, say what would change, and leave the one in force as it is.
    Validate(Reply<Result<String, String>>),
    /// From its watch: something changed.
    Touched,
    /// From its timers: look whether something changed; the number says which burst it belongs to.
    Look(Option<u64>),
    /// From its reading task: what was read, and who waits for the result.
    Read(Box<Result<Loaded, String>>, Option<Reply<Result<u64, String>>>),
}

/// What every incarnation is made from.
#[derive(Clone)]
pub struct Seat {
    /// Where the others live; its cell is in it.
    pub directory: Arc<Directory>,
    /// Reads the config again.
    pub load: Load,
}

/// One incarnation.
pub struct ConfigActor {
    seat: Seat,
    bursts: u64,
    /// Since when it has not been quiet.
    restless: Option<Instant>,
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    names: Arc<Names>,
}

/// The names of the files that the config was read from, for the watch.
#[derive(Default)]
struct Names(Mutex<BTreeSet<OsString>>);

impl Worker for ConfigActor {
    type Message = ConfigMessage;
    type Seat = Seat;

    fn start(seat: &Seat, me: &mut Me<ConfigMessage>) -> Result<ConfigActor, String> {
        let (address, names) = (me.address().clone(), Arc::<Names>::default());
        let known = names.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| known.concerns(&event)) {
                let _ = address.cast(ConfigMessage::Touched); // gone: the next incarnation watches
            }
        });
        let watcher = watcher
            .inspect_err(
                |error| tracing::warn!(%error, "config files are not watched; they are looked at every 30 s"),
            )
            .ok();
        let mut actor = ConfigActor {
            seat: seat.clone(),
            bursts: 0,
            restless: None,
            watcher,
            watched: BTreeSet::new(),
            names,
        };
        actor.watch(&seat.directory.config_cell.get());
        if seat.directory.config.vitals().incarnation() > 1 {
            actor.read(me, None); // what was written while nobody watched
        }
        me.after(POLL, ConfigMessage::Look(None));
        Ok(actor)
    }

    fn handle(&mut self, message: ConfigMessage, me: &mut Me<ConfigMessage>) {
        match message {
            ConfigMessage::Reload(reply) => self.read(me, reply),
            ConfigMessage::Validate(reply) => {
                let (load, cell) = (self.seat.load.clone(), self.seat.directory.config_cell.get());
                me.spawn(async move {
                    let _ = reply
                        .send(look(&load).await.map(|loaded| crate::config::diff(&cell, &loaded).summary()));
                });
            }
            ConfigMessage::Touched => {
                self.bursts += 1;
                self.restless.get_or_insert_with(clock::now);
                me.after(DEBOUNCE, ConfigMessage::Look(Some(self.bursts)));
            }
            ConfigMessage::Look(Some(burst)) if burst != self.bursts && !self.is_restless() => {} // more came since
            ConfigMessage::Look(burst) => {
                self.restless = None;
                self.read(me, None);
                if burst.is_none() {
                    me.after(POLL, ConfigMessage::Look(None));
                }
            }
            ConfigMessage::Read(result, reply) => {
                let result = self.take_up(*result, reply.is_some());
                if let Some(reply) = reply {
                    let _ = reply.send(result); // the asker may have gone
                }
            }
        }
    }

    fn name(message: &ConfigMessage) -> &'static str {
        match message {
            ConfigMessage::Reload(_) => "Reload",
            ConfigMessage::Validate(_) => "Validate",
            ConfigMessage::Touched => "Touched",
            ConfigMessage::Look(_) => "Look",
            ConfigMessage::Read(..) => "Read",
        }
    }
}

// === impl ConfigActor ===

impl ConfigActor {
    /// Reads the config in a task of its own, since files may be slow.
    fn read(&self, me: &mut Me<ConfigMessage>, reply: Option<Reply<Result<u64, String>>>) {
        let (load, address) = (self.seat.load.clone(), me.address().clone());
        let in_force = self.seat.directory.config_cell.get();
        me.spawn(async move {
            let result = settled(&load, &in_force).await;
            let _ = address.cast(ConfigMessage::Read(Box::new(result), reply)); // gone: the asker is told by the drop
        });
    }

    /// Takes up what was read, if it is good and other than the config in force.
    fn take_up(&mut self, read: Result<Loaded, String>, asked: bool) -> Result<u64, String> {
        let directory = self.seat.directory.clone();
        let cell = &directory.config_cell;
        match read {
            Ok(loaded) => {
                if *cell.get() == loaded {
                    cell.accepted();
                    return Ok(cell.generation());
                }
                self.watch(&loaded);
                if let Err(error) = logs::reconfigure(&loaded.config.logging) {
                    tracing::warn!(error, "the log goes on as it was");
                }
                directory.ledger_cell.configure(&loaded.config);
                let generation = cell.replace(loaded);
                tracing::info!(generation, "took up a changed config");
                // Lost if the supervisor is just away: its next incarnation reads the cell.
                directory.providers.cast(SupervisorMessage::Tell(ProvidersMessage::Apply));
                directory.otlp.cast(OtlpMessage::Configured);
                Ok(generation)
            }
            Err(reason) => {
                if asked || *cell.last_reload() != reason {
                    tracing::error!(reason, "the changed config is refused; the one in force stays");
                }
                cell.refused(reason.clone());
                #[cfg(feature = "mutants")]
                if crate::mutants::is(crate::mutants::Mutant::BrokenConfigTakenUp) {
                    let mut broken = cell.get().as_ref().clone();
                    broken.config.providers.clear();
                    return Ok(cell.replace(broken));
                }
                Err(reason)
            }
        }
    }

    fn is_restless(&self) -> bool {
        self.restless.is_some_and(|since| clock::now().saturating_duration_since(since) >= RESTLESS)
    }

    /// Watches the folders of all files that the config was read from.
    fn watch(&mut self, loaded: &Loaded) {
        let Some(watcher) = &mut self.watcher else { return };
        let files = &loaded.files_to_watch;
        let real: Vec<PathBuf> = files.iter().filter_map(|file| std::fs::canonicalize(file).ok()).collect();
        let files = || files.iter().chain(&real).map(PathBuf::as_path);
        self.names.set(files().filter_map(Path::file_name).map(ToOwned::to_owned).collect());
        let folders: BTreeSet<PathBuf> = files()
            .filter_map(Path::parent)
            .map(|folder| if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.to_owned() })
            .collect();
        for gone in self.watched.difference(&folders) {
            let _ = watcher.unwatch(gone); // it may have been removed
        }
        for new in folders.difference(&self.watched) {
            if let Err(error) = watcher.watch(new, RecursiveMode::NonRecursive) {
                tracing::debug!(%error, folder = %new.display(), "a folder can't be watched");
            }
        }
        self.watched = folders;
    }
}

/// Reads the config until two looks at it agree: who writes a file in place has it empty, or cut off, for a moment,
/// and half a config can be a valid one. What is in force already needs no second look.
async fn settled(load: &Load, in_force: &Loaded) -> Result<Loaded, String> {
    let mut seen = look(load).await;
    for _ in 0..LOOKS {
        if seen.as_ref().is_ok_and(|loaded| loaded == in_force) {
            break;
        }
        tokio::time::sleep(SETTLES).await;
        let before = std::mem::replace(&mut seen, look(load).await);
        if seen == before {
            break;
        }
    }
    seen
}

/// Reads the config once, where slow files hold up nobody.
async fn look(load: &Load) -> Result<Loaded, String> {
    let load = load.clone();
    let read = tokio::task::spawn_blocking(move || load()).await;
    read.unwrap_or_else(|error| Err(format!("reading the config failed: {error}")))
}

// === impl Names ===

impl Names {
    fn set(&self, names: BTreeSet<OsString>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = names;
    }

    /// Whether an event may have changed the config. What comes, goes and is renamed may be a link on the way to one
    /// of its files; what is written to another file (a log in the same folder) is of no interest.
    fn concerns(&self, event: &notify::Event) -> bool {
        match event.kind {
            EventKind::Access(_) => false,
            EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Metadata(_)) => {
                let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                event.paths.iter().any(|path| path.file_name().is_some_and(|name| names.contains(name)))
            }
            _ => true,
        }
    }
}
