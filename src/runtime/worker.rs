//! How an actor is written: a value whose handler neither waits nor does I/O.
//!
//! Work that waits (timers, probes, accept loops) runs in tasks that the actor owns through [`Me`]; they end
//! with it. A panic in a handler or in such a task is contained, logged with its actor, and counted.

use std::any::Any;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, Message};
use tokio::task::JoinSet;

use super::{Address, Slot, current};
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
    path: Arc<str>,
    tasks: JoinSet<()>,
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

    /// Runs a task that ends with this incarnation.
    pub fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.reap();
        self.tasks.spawn(task);
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

    /// Collects tasks that have ended, so that none is kept and no panic goes unseen.
    fn reap(&mut self) {
        while let Some(ended) = self.tasks.try_join_next() {
            if let Err(error) = ended
                && error.is_panic()
            {
                tracing::error!(actor = %self.path, panic = %panic_text(&*error.into_panic()), "a task panicked");
            }
        }
    }
}

// === impl Shell ===

impl<W: Worker> Shell<W> {
    pub(crate) fn new(slot: Arc<Slot<W::Message>>, interrupt: Option<Arc<dyn Interrupt>>) -> Shell<W> {
        Shell { slot, interrupt, worker: PhantomData }
    }

    /// Carries out what a fault plan says; true if the message is to be dropped.
    async fn interrupted(&self, me: &Me<W::Message>, message: &'static str) -> bool {
        let Some(interruption) = self.interrupt.as_ref().and_then(|plan| plan.before(&me.path, message))
        else {
            return false;
        };
        match interruption {
            Interruption::Kill => {
                // Not through the slot: the next incarnation may live there already.
                me.address.kill();
                std::future::pending::<()>().await; // a kill takes effect at the next wait
                true
            }
            #[allow(clippy::panic)] // the purpose of this arm
            Interruption::Panic => panic!("panicked in {message}: injected"),
            Interruption::Delay(delay) => {
                tokio::time::sleep(delay).await;
                false
            }
            Interruption::Drop => true,
        }
    }
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
        use super::Place;
        let address = self.slot.occupy(actor);
        let mut me =
            Me { address, path: self.slot.vitals().path().clone(), tasks: JoinSet::new(), failure: None };
        let worker = W::start(&seat, &mut me)?;
        Ok((worker, me))
    }

    async fn handle(
        &self,
        _: ActorRef<W::Message>,
        message: W::Message,
        (worker, me): &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        me.address.taken();
        me.reap();
        let name = W::name(&message);
        if self.interrupt.is_some() && self.interrupted(me, name).await {
            return Ok(());
        }
        let path = me.path.clone();
        let handle = || current::within(&path, || worker.handle(message, me));
        std::panic::catch_unwind(AssertUnwindSafe(handle))
            .map_err(|panic| format!("panicked in {name}: {}", panic_text(&*panic)))?;
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
