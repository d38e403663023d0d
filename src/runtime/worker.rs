//! How an actor is written: a value whose handler neither waits nor does I/O.
//!
//! Work that waits (timers, probes, accept loops) runs in tasks that the actor owns through [`Me`]; they end
//! with it. A panic in a handler or in such a task ends this incarnation and nothing else: it is logged with its actor
//! and message, counted, and the supervisor starts the next.

use std::any::Any;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, Message};
use tokio::task::JoinSet;

use super::{Address, Place, Slot, current};
use crate::config::error::mask;

/// An actor. One value is one incarnation; `Seat` is what every incarnation is made from.
pub trait Worker: Sized + Send + 'static {
    /// What it is told.
    type Message: Message;
    /// What outlives it: its cell, its config, the slots of those it talks to.
    type Seat: Clone + Send + Sync + 'static;

    /// A new incarnation. Quick: the supervisor waits for it.
    fn start(seat: &Self::Seat, me: &mut Me<Self::Message>) -> Result<Self, String>;

    /// Takes one message. Never waits.
    fn handle(&mut self, message: Self::Message, me: &mut Me<Self::Message>);

    /// The message's name, for logs and fault plans.
    fn name(message: &Self::Message) -> &'static str;
}

/// What an actor has of itself: its address, and the tasks that it owns.
pub struct Me<M> {
    address: Arc<Address<M>>,
    tasks: JoinSet<()>,
    /// What is handled at present: the message whose task a task is.
    message: &'static str,
    failure: Option<String>,
}

/// Lets a fault plan interrupt actors. Absent unless fault injection is on.
pub trait Interrupt: Send + Sync + 'static {
    /// Called before the actor at `path` takes the message of this name.
    fn before(&self, path: &str, message: &'static str) -> Option<Interruption>;
}

/// What a fault plan does to an actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interruption {
    /// The actor is killed; the message is lost.
    Kill,
    /// The handler panics.
    Panic,
    /// The handler takes so long before it begins.
    Delay(Duration),
    /// The message is dropped, its reply with it.
    Drop,
}

/// The ractor actor around a worker.
pub(crate) struct Shell<W: Worker> {
    slot: Arc<Slot<W::Message>>,
    interrupt: Option<Arc<dyn Interrupt>>,
    worker: PhantomData<fn() -> W>,
}

// === impl Me ===

impl<M: Message> Me<M> {
    /// The actor's own address, for tasks that report back.
    pub fn address(&self) -> &Arc<Address<M>> {
        &self.address
    }

    /// Runs a task that ends with this incarnation. If it panics the incarnation ends too, since what the task was
    /// there for (a timer, a loop) would never be done again.
    pub fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.reap();
        let (address, message) = (self.address.clone(), self.message);
        self.tasks.spawn(async move {
            if let Err(panic) = AssertUnwindSafe(task).catch_unwind().await {
                address.end(format!("a task of {message} panicked: {}", panic_text(&*panic)));
            }
        });
    }

    /// Sends itself a message after a while.
    pub fn after(&mut self, delay: Duration, message: M) {
        let address = self.address.clone();
        self.spawn(async move {
            tokio::time::sleep(delay).await;
            let _ = address.cast(message); // gone: then nobody waits for it
        });
    }

    /// Ends this incarnation after the message that it is handling: the supervisor starts the next.
    pub fn fail(&mut self, reason: impl Into<String>) {
        self.failure = Some(reason.into());
    }

    /// Collects tasks that have ended, so that none is kept.
    fn reap(&mut self) {
        while self.tasks.try_join_next().is_some() {}
    }
}

// === impl Shell ===

impl<W: Worker> Shell<W> {
    pub(crate) fn new(slot: Arc<Slot<W::Message>>, interrupt: Option<Arc<dyn Interrupt>>) -> Shell<W> {
        Shell { slot, interrupt, worker: PhantomData }
    }
}

/// Carries out what a fault plan says of this message to the actor at `path`, of which `me` is the living
/// incarnation; true if the message is to be dropped.
pub(crate) async fn interrupted(
    plan: &dyn Interrupt,
    path: &str,
    me: &ActorCell,
    message: &'static str,
) -> bool {
    match plan.before(path, message) {
        None => false,
        Some(Interruption::Kill) => {
            // Not through the slot: the next incarnation may live there already.
            me.kill();
            std::future::pending::<()>().await; // a kill takes effect at the next wait
            true
        }
        #[allow(clippy::panic)] // the purpose of this arm
        Some(Interruption::Panic) => panic!("panicked in {message}: injected"),
        Some(Interruption::Delay(delay)) => {
            tokio::time::sleep(delay).await;
            false
        }
        Some(Interruption::Drop) => true,
    }
}

/// Runs the handler of a message to the actor at `path`.
///
/// # Errors
/// What it panicked with, and in which message.
pub(crate) fn contained<T>(
    path: &Arc<str>,
    message: &'static str,
    handler: impl FnOnce() -> T,
) -> Result<T, String> {
    std::panic::catch_unwind(AssertUnwindSafe(|| current::within(path, handler)))
        .map_err(|panic| format!("panicked in {message}: {}", panic_text(&*panic)))
}

impl<W: Worker> Actor for Shell<W> {
    type Msg = W::Message;
    type State = (W, Me<W::Message>);
    type Arguments = W::Seat;

    async fn pre_start(
        &self,
        actor: ActorRef<W::Message>,
        seat: W::Seat,
    ) -> Result<Self::State, ActorProcessingErr> {
        let address = self.slot.occupy(actor);
        let mut me = Me { address, tasks: JoinSet::new(), message: "start", failure: None };
        let worker = W::start(&seat, &mut me)?;
        Ok((worker, me))
    }

    async fn handle(
        &self,
        myself: ActorRef<W::Message>,
        message: W::Message,
        (worker, me): &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        me.address.taken();
        me.reap();
        let (path, name) = (self.slot.vitals().path(), W::name(&message));
        if let Some(plan) = &self.interrupt
            && interrupted(&**plan, path, &myself.get_cell(), name).await
        {
            return Ok(());
        }
        me.message = name;
        contained(path, name, || worker.handle(message, me))?;
        match me.failure.take() {
            Some(reason) => Err(reason.into()),
            None => Ok(()),
        }
    }
}

/// What a panic said, bounded and without what looks like a credential: it is shown in the log and in the status.
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text");
    mask(text)
}
