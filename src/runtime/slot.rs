//! An address that survives restarts, and the vital signs of whoever lives there.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use ractor::{ActorRef, Message};
use tokio::sync::Notify;

/// Most messages that may wait in a mailbox. An actor that is so far behind is ill; what more comes is turned away
/// before memory grows.
pub const MAILBOX: u64 = 10_000;

/// The place of an actor in the tree. Holds the living incarnation, if there is one.
pub struct Slot<M> {
    living: ArcSwapOption<Address<M>>,
    vitals: Arc<Vitals>,
}

/// One incarnation of an actor: the only way to send to it, so that its mailbox can be measured.
pub struct Address<M> {
    actor: ActorRef<M>,
    queued: Arc<AtomicI64>,
}

/// What can be seen of an actor from outside, through all its incarnations.
#[derive(Debug)]
pub struct Vitals {
    path: Arc<str>,
    state: AtomicU8,
    incarnation: AtomicU64,
    failures: AtomicU64,
    /// In microseconds.
    away: AtomicU64,
    last_failure: ArcSwap<Option<Arc<str>>>,
    queued: ArcSwap<AtomicI64>,
    changed: Notify,
}

/// Whether an actor lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Not yet started, or ended on purpose.
    Stopped = 0,
    /// It lives.
    Running = 1,
    /// It died, and will be back within its back-off.
    Restarting = 2,
    /// It died too often; its supervisor waits longer before it tries again.
    Quarantined = 3,
}

/// What a supervisor knows of a child's place, whatever the child's messages are.
pub trait Place: Send + Sync + 'static {
    /// The child's vital signs.
    fn vitals(&self) -> &Arc<Vitals>;
    /// Nobody lives here any more.
    fn vacate(&self);
    /// Ends the living incarnation now; false if there is none.
    fn kill(&self) -> bool;
}

/// Messages that were not taken because a mailbox was full, in this process since its start.
static SHED: AtomicU64 = AtomicU64::new(0);

/// Messages that were not taken because a mailbox was full, in this process since its start.
pub fn shed() -> u64 {
    SHED.load(Ordering::Relaxed)
}

// === impl Slot ===

impl<M: Message> Slot<M> {
    /// An empty slot for the actor with this path, such as `root/router`.
    pub fn new(path: impl Into<Arc<str>>) -> Arc<Slot<M>> {
        Arc::new(Slot { living: ArcSwapOption::empty(), vitals: Arc::new(Vitals::new(path.into())) })
    }

    /// The living incarnation, if there is one.
    pub fn get(&self) -> Option<Arc<Address<M>>> {
        self.living.load_full()
    }

    /// Sends a message that needs no answer. Lost if nobody lives here: whatever must not be lost is not a
    /// message (see `cells`).
    pub fn cast(&self, message: M) -> bool {
        match &*self.living.load() {
            Some(address) => address.cast(message).is_ok(),
            None => false,
        }
    }

    /// A new incarnation moves in.
    pub(crate) fn occupy(&self, actor: ActorRef<M>) -> Arc<Address<M>> {
        let queued = Arc::new(AtomicI64::new(0));
        let address = Arc::new(Address { actor, queued: queued.clone() });
        self.vitals.queued.store(queued);
        self.living.store(Some(address.clone()));
        self.vitals.incarnation.fetch_add(1, Ordering::Relaxed);
        self.vitals.set_state(State::Running);
        address
    }
}

impl<M: Message> Place for Slot<M> {
    fn vitals(&self) -> &Arc<Vitals> {
        &self.vitals
    }

    fn vacate(&self) {
        self.living.store(None);
    }

    fn kill(&self) -> bool {
        let living = self.get();
        living.inspect(|address| address.kill()).is_some()
    }
}

// === impl Address ===

impl<M: Message> Address<M> {
    /// Sends a message; gives it back if the actor is known to be dead, or if its mailbox is full. An accepted
    /// message may still be lost with the actor.
    pub fn cast(&self, message: M) -> Result<(), M> {
        if self.is_full() {
            SHED.fetch_add(1, Ordering::Relaxed);
            return Err(message);
        }
        self.queued.fetch_add(1, Ordering::Relaxed);
        self.actor.send_message(message).map_err(|error| {
            self.queued.fetch_sub(1, Ordering::Relaxed);
            match error {
                ractor::MessagingErr::SendErr(message) => message,
                // The types are ours: neither a wrong type nor a closed channel without the message occurs.
                other => unreachable!("an address sends its own type: {other}"),
            }
        })
    }

    /// Whether so many messages wait that no more are taken.
    pub fn is_full(&self) -> bool {
        u64::try_from(self.queued.load(Ordering::Relaxed)).is_ok_and(|queued| queued >= MAILBOX)
    }

    /// Resolves when this incarnation has ended.
    pub async fn ended(&self) {
        // Without a timeout the wait can't fail.
        let _ = self.actor.get_cell().wait(None).await;
    }

    /// Ends this incarnation now, in the middle of whatever it does. Its supervisor starts the next.
    pub fn kill(&self) {
        self.actor.get_cell().kill();
    }

    /// Ends this incarnation for a reason, after what it is handling. Its supervisor starts the next.
    pub(crate) fn end(&self, reason: String) {
        self.actor.get_cell().stop(Some(reason));
    }

    pub(crate) fn taken(&self) {
        self.queued.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Vitals ===

impl Vitals {
    fn new(path: Arc<str>) -> Vitals {
        Vitals {
            path,
            state: AtomicU8::new(State::Stopped as u8),
            incarnation: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            away: AtomicU64::new(0),
            last_failure: ArcSwap::from_pointee(None),
            queued: ArcSwap::from_pointee(AtomicI64::new(0)),
            changed: Notify::new(),
        }
    }

    /// The path from the root.
    pub fn path(&self) -> &Arc<str> {
        &self.path
    }

    /// Whether the actor lives.
    pub fn state(&self) -> State {
        match self.state.load(Ordering::Relaxed) {
            1 => State::Running,
            2 => State::Restarting,
            3 => State::Quarantined,
            _ => State::Stopped,
        }
    }

    /// Counts incarnations, from 1.
    pub fn incarnation(&self) -> u64 {
        self.incarnation.load(Ordering::Relaxed)
    }

    /// How often an incarnation ended that should not have.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// How long its supervisor waits, or waited, after the last of them before it starts the next.
    pub fn away(&self) -> Duration {
        Duration::from_micros(self.away.load(Ordering::Relaxed))
    }

    /// Why the last of them ended.
    pub fn last_failure(&self) -> Option<Arc<str>> {
        self.last_failure.load().as_ref().clone()
    }

    /// Messages that wait in the mailbox of the living incarnation.
    pub fn mailbox(&self) -> u64 {
        u64::try_from(self.queued.load().load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Waits until another incarnation lives, or none will for long; at most for so long.
    pub async fn change(&self, most: Duration) {
        let _ = tokio::time::timeout(most, self.changed.notified()).await; // who waited looks for itself
    }

    pub(crate) fn set_state(&self, state: State) {
        self.state.store(state as u8, Ordering::Relaxed);
        if state != State::Restarting {
            self.changed.notify_waiters();
        }
    }

    pub(crate) fn stays_away(&self, wait: Duration) {
        self.away.store(u64::try_from(wait.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(crate) fn failed(&self, reason: &str) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.last_failure.store(Arc::new(Some(Arc::from(reason))));
    }
}

// === impl State ===

impl State {
    /// As the status says it.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Stopped => "stopped",
            State::Running => "running",
            State::Restarting => "restarting",
            State::Quarantined => "quarantined",
        }
    }
}
