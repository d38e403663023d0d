//! The one way to ask an actor.
//!
//! A plain call can hang for ever: a message that is accepted in the moment in which the actor dies stays in
//! its channel as long as the caller holds a sender. So an asker also watches for the actor's end, and has a
//! deadline.

use std::time::{Duration, Instant};

use ractor::Message;
use tokio::sync::oneshot;

use super::{Place, Slot, clock};

/// Where an answer goes. Dropping it tells the asker that there is none.
pub type Reply<R> = oneshot::Sender<R>;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Nobody lives in the slot; the next incarnation is not there yet.
    #[error("the actor is down")]
    Down,
    /// The actor died, or dropped the reply, before it answered.
    #[error("the actor died before it answered")]
    Died,
    /// More messages wait for the actor than it may have ([`super::MAILBOX`]).
    #[error("the actor has too many messages to answer")]
    Overloaded,
    /// The deadline passed.
    #[error("the actor did not answer in time")]
    Deadline,
}

/// Sends the message made by `message` to whoever lives in `slot` and waits for the reply, the actor's end or
/// the deadline, whichever comes first.
pub async fn ask<M: Message, R>(
    slot: &Slot<M>,
    deadline: Instant,
    message: impl FnOnce(Reply<R>) -> M,
) -> Result<R, AskError> {
    let address = slot.get().ok_or(AskError::Down)?;
    if address.is_full() {
        return Err(AskError::Overloaded);
    }
    let (reply, answer) = oneshot::channel();
    address.cast(message(reply)).map_err(|_| AskError::Down)?;
    tokio::select! {
        biased; // a reply that raced the death still wins, and a replay sees the same order
        answer = answer => answer.map_err(|_| AskError::Died),
        () = address.ended() => Err(AskError::Died),
        () = tokio::time::sleep_until(deadline.into()) => Err(AskError::Deadline),
    }
}

/// Like [`ask`], but asks the next incarnation when this one is gone, until the deadline. Only for questions
/// that may be asked twice.
pub async fn ask_again<M: Message, R>(
    slot: &Slot<M>,
    deadline: Instant,
    message: impl Fn(Reply<R>) -> M,
) -> Result<R, AskError> {
    let mut patience = Patience::default();
    loop {
        match ask(slot, deadline, &message).await {
            Err(AskError::Down | AskError::Died) if clock::now() < deadline => patience.wait(slot).await,
            answer => return answer,
        }
    }
}

/// How one who got no answer waits before asking again: until the next incarnation lives. Also without one it asks
/// again, after a while that grows, since a reply may be dropped by an actor that lives on.
#[derive(Debug, Default)]
pub struct Patience {
    waits: u32,
}

// === impl Patience ===

impl Patience {
    /// The first wait without news, and the longest.
    const WAITS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(32));

    /// Waits before the next ask.
    pub async fn wait<M: Message>(&mut self, slot: &Slot<M>) {
        let (first, longest) = Patience::WAITS;
        let most = first.saturating_mul(1 << self.waits.min(8)).min(longest);
        self.waits += 1;
        slot.vitals().change(most).await;
    }
}
