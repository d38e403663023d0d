//! Supervision: one_for_one with back-off, intensity and quarantine, as in Erlang/OTP's `supervisor` with the
//! delayed restarts of RabbitMQ's variant. Whatever ends a child but its supervisor's wish (a panic, an error, a
//! kill, a stop from elsewhere) counts as a failure.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};

use super::worker::{Interrupt, Shell, contained, interrupted};
use super::{Backoff, Place, Random, Reply, Slot, State, Worker, clock};

/// What a supervisor must know to start a child, again and again.
#[derive(Clone)]
pub struct ChildSpec {
    /// Its name among its siblings.
    pub name: Arc<str>,
    /// Where it lives.
    pub place: Arc<dyn Place>,
    /// What to do when it dies.
    pub policy: Policy,
    spawn: Arc<dyn Fn(ActorCell) -> BoxFuture<'static, Result<ActorCell, SpawnErr>> + Send + Sync>,
    stop: Arc<dyn Fn(ActorCell, Duration) -> BoxFuture<'static, ()> + Send + Sync>,
}

/// What to do when a child dies. The first restart within a period is immediate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How many deaths within `period` are borne.
    pub intensity: u32,
    /// The period over which deaths are counted.
    pub period: Duration,
    /// The wait before the second and later restarts within a period.
    pub backoff: Backoff,
    /// What follows when there are more.
    pub beyond: Beyond,
}

/// What follows when a child dies more often than its policy bears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beyond {
    /// The supervisor fails itself, with all its children.
    Escalate,
    /// The child stays down for this long, doubled each time up to `max`; its siblings do not notice.
    Quarantine {
        /// The first time.
        base: Duration,
        /// The longest.
        max: Duration,
    },
}

/// What is special about a supervisor: its children, and what it does when told something.
pub trait Overseer: Send + Sync + Sized + 'static {
    /// What it is told.
    type Message: Send + 'static;
    /// The children of a new incarnation, in the order in which they start.
    fn children(&self) -> Vec<ChildSpec>;
    /// Takes a message; gives back which children come and go. Never waits.
    fn handle(&self, message: Self::Message) -> Changes;
    /// The message's name, for logs and fault plans.
    fn name(message: &Self::Message) -> &'static str;
}

/// Which children come and go.
#[derive(Default)]
pub struct Changes {
    /// To start, or to leave as they are if they run already.
    pub start: Vec<ChildSpec>,
    /// To stop, by name.
    pub stop: Vec<Arc<str>>,
}

/// A supervisor: an actor whose children are actors.
pub struct Supervisor<O: Overseer> {
    overseer: O,
    slot: Arc<Slot<SupervisorMessage<O::Message>>>,
    random: Arc<Random>,
    interrupt: Option<Arc<dyn Interrupt>>,
}

/// What a supervisor is told.
pub enum SupervisorMessage<X> {
    /// From itself: the back-off of this child is over.
    Start(Arc<str>),
    /// What its overseer takes.
    Tell(X),
    /// Stop all children, the last first, each within the limit; then answer.
    StopChildren(Duration, Reply<()>),
}

/// The children of one incarnation.
pub struct Children {
    list: Vec<Child>,
    stopping: bool,
}

struct Child {
    spec: ChildSpec,
    living: Option<ActorCell>,
    deaths: VecDeque<Instant>,
    last_death: Option<Instant>,
    quarantines: u32,
}

// === impl ChildSpec ===

impl ChildSpec {
    /// A worker as a child.
    pub fn worker<W: Worker>(
        name: impl Into<Arc<str>>,
        slot: Arc<Slot<W::Message>>,
        seat: W::Seat,
        policy: Policy,
        interrupt: Option<Arc<dyn Interrupt>>,
    ) -> ChildSpec {
        let place = slot.clone();
        ChildSpec {
            name: name.into(),
            place,
            policy,
            spawn: Arc::new(move |parent| {
                let (slot, seat, interrupt) = (slot.clone(), seat.clone(), interrupt.clone());
                Box::pin(async move {
                    let shell = Shell::<W>::new(slot, interrupt);
                    Actor::spawn_linked(None, shell, seat, parent).await.map(|(actor, _)| actor.get_cell())
                })
            }),
            stop: Arc::new(|child, limit| {
                Box::pin(async move {
                    if child.stop_and_wait(None, Some(limit)).await.is_err() {
                        child.kill();
                    }
                })
            }),
        }
    }

    /// A supervisor as a child. `overseer` makes the overseer of each incarnation.
    pub fn supervisor<O: Overseer>(
        name: impl Into<Arc<str>>,
        slot: Arc<Slot<SupervisorMessage<O::Message>>>,
        overseer: impl Fn() -> O + Send + Sync + 'static,
        policy: Policy,
        random: Arc<Random>,
        interrupt: Option<Arc<dyn Interrupt>>,
    ) -> ChildSpec {
        let (place, stop_slot, overseer) = (slot.clone(), slot.clone(), Arc::new(overseer));
        ChildSpec {
            name: name.into(),
            place,
            policy,
            spawn: Arc::new(move |parent| {
                let mut supervisor = Supervisor::new(overseer(), slot.clone(), random.clone());
                supervisor.interrupt = interrupt.clone();
                Box::pin(async move {
                    Actor::spawn_linked(None, supervisor, (), parent).await.map(|(actor, _)| actor.get_cell())
                })
            }),
            stop: Arc::new(move |child, limit| {
                let slot = stop_slot.clone();
                Box::pin(async move {
                    let _ = super::ask(&slot, clock::now() + limit, |reply| {
                        SupervisorMessage::StopChildren(limit, reply)
                    })
                    .await;
                    if child.stop_and_wait(None, Some(limit)).await.is_err() {
                        child.kill();
                    }
                })
            }),
        }
    }
}

// === impl Supervisor ===

impl<O: Overseer> Supervisor<O> {
    /// A supervisor that lives in `slot`.
    pub fn new(
        overseer: O,
        slot: Arc<Slot<SupervisorMessage<O::Message>>>,
        random: Arc<Random>,
    ) -> Supervisor<O> {
        Supervisor { overseer, slot, random, interrupt: None }
    }

    /// Starts a child that is due. A child that can't be started counts as one that died at once.
    async fn start(
        &self,
        me: &ActorRef<SupervisorMessage<O::Message>>,
        child: &mut Child,
    ) -> Result<(), ActorProcessingErr> {
        match (child.spec.spawn)(me.get_cell()).await {
            Ok(cell) => {
                child.living = Some(cell);
                Ok(())
            }
            Err(error) => self.died(me, child, &format!("did not start: {error}")),
        }
    }

    /// A child is dead: decides when it comes back, or fails with its reason.
    fn died(
        &self,
        me: &ActorRef<SupervisorMessage<O::Message>>,
        child: &mut Child,
        reason: &str,
    ) -> Result<(), ActorProcessingErr> {
        let now = clock::now();
        let vitals = child.spec.place.vitals().clone();
        child.living = None;
        child.spec.place.vacate();
        vitals.failed(reason);
        #[cfg(feature = "mutants")]
        if crate::mutants::is(crate::mutants::Mutant::KilledStaysDead) && reason == "killed" {
            vitals.set_state(State::Stopped);
            return Ok(());
        }
        let policy = &child.spec.policy;
        while child.deaths.front().is_some_and(|death| now.duration_since(*death) > policy.period) {
            child.deaths.pop_front();
        }
        child.deaths.push_back(now);
        if let Beyond::Quarantine { max, .. } = policy.beyond
            && child.last_death.is_some_and(|death| now.duration_since(death) > max * 2)
        {
            child.quarantines = 0; // it has been well for long: what was is forgotten
        }
        child.last_death = Some(now);
        let deaths = u32::try_from(child.deaths.len()).unwrap_or(u32::MAX);
        let delay = if deaths <= policy.intensity {
            vitals.set_state(State::Restarting);
            match deaths {
                1 => Duration::ZERO,
                n => policy.backoff.delay(n - 2, self.random.draw()),
            }
        } else {
            match policy.beyond {
                Beyond::Escalate => {
                    vitals.set_state(State::Stopped);
                    return Err(format!(
                        "{} died {deaths} times within {}: {reason}",
                        vitals.path(),
                        humantime::format_duration(policy.period)
                    )
                    .into());
                }
                Beyond::Quarantine { base, max } => {
                    vitals.set_state(State::Quarantined);
                    child.deaths.clear();
                    let doubled = 1u32.checked_shl(child.quarantines).unwrap_or(u32::MAX);
                    child.quarantines = child.quarantines.saturating_add(1);
                    base.saturating_mul(doubled).min(max)
                }
            }
        };
        tracing::warn!(actor = %vitals.path(), reason, restart_in = ?delay, "an actor died");
        vitals.stays_away(delay);
        let name = child.spec.name.clone();
        if delay.is_zero() {
            me.send_message(SupervisorMessage::Start(name))?;
        } else {
            me.send_after(delay, move || SupervisorMessage::Start(name));
        }
        Ok(())
    }
}

impl<O: Overseer> Actor for Supervisor<O> {
    type Msg = SupervisorMessage<O::Message>;
    type State = Children;
    type Arguments = ();

    async fn pre_start(&self, me: ActorRef<Self::Msg>, (): ()) -> Result<Children, ActorProcessingErr> {
        let address = self.slot.occupy(me.clone());
        let mut children = Children { list: Vec::new(), stopping: false };
        for spec in self.overseer.children() {
            let mut child = Child::new(spec);
            self.start(&me, &mut child).await?;
            children.list.push(child);
        }
        drop(address);
        Ok(children)
    }

    async fn handle(
        &self,
        me: ActorRef<Self::Msg>,
        message: Self::Msg,
        children: &mut Children,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SupervisorMessage::Start(name) => {
                let due =
                    children.list.iter_mut().find(|child| child.spec.name == name && child.living.is_none());
                if let Some(child) = due
                    && !children.stopping
                {
                    self.start(&me, child).await?;
                }
            }
            SupervisorMessage::Tell(message) => {
                self.taken();
                let (path, name) = (self.slot.vitals().path(), O::name(&message));
                if let Some(plan) = &self.interrupt
                    && interrupted(&**plan, path, &me.get_cell(), name).await
                {
                    return Ok(());
                }
                let changes = contained(path, name, || self.overseer.handle(message))?;
                for name in changes.stop {
                    children.stop(&name, Duration::from_secs(5)).await;
                }
                for spec in changes.start {
                    if !children.stopping && !children.list.iter().any(|child| child.spec.name == spec.name) {
                        let mut child = Child::new(spec);
                        self.start(&me, &mut child).await?;
                        children.list.push(child);
                    }
                }
            }
            SupervisorMessage::StopChildren(limit, reply) => {
                self.taken();
                children.stopping = true;
                while let Some(name) = children.list.last().map(|child| child.spec.name.clone()) {
                    children.stop(&name, limit).await;
                }
                let _ = reply.send(()); // the asker may have gone
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        children: &mut Children,
    ) -> Result<(), ActorProcessingErr> {
        let (dead, reason) = match &event {
            SupervisionEvent::ActorFailed(cell, error) => (cell.get_id(), error.to_string()),
            SupervisionEvent::ActorTerminated(cell, _, reason) => {
                (cell.get_id(), reason.clone().unwrap_or_else(|| "stopped".to_owned()))
            }
            _ => return Ok(()),
        };
        let child = children
            .list
            .iter_mut()
            .find(|child| child.living.as_ref().is_some_and(|cell| cell.get_id() == dead));
        match child {
            Some(child) => self.died(&me, child, &reason),
            None => Ok(()), // one that we stopped ourselves
        }
    }
}

impl<O: Overseer> Supervisor<O> {
    /// Messages from outside pass through the slot, which counts them.
    fn taken(&self) {
        if let Some(address) = self.slot.get() {
            address.taken();
        }
    }
}

// === impl Children ===

impl Children {
    async fn stop(&mut self, name: &str, limit: Duration) {
        let Some(at) = self.list.iter().position(|child| &*child.spec.name == name) else { return };
        let child = self.list.remove(at);
        if let Some(cell) = child.living {
            (child.spec.stop)(cell, limit).await;
        }
        child.spec.place.vacate();
        child.spec.place.vitals().set_state(State::Stopped);
    }
}

// === impl Child ===

impl Child {
    fn new(spec: ChildSpec) -> Child {
        Child { spec, living: None, deaths: VecDeque::new(), last_death: None, quarantines: 0 }
    }
}
