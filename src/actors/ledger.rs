//! The ledger's actor.
//!
//! Owns: the rhythm in which records are folded and written. Records themselves, the metrics and the store are in
//! its cell and survive it. It sleeps until a record comes; then it folds what has come within 50 ms (so that a log
//! line is at most that late), and writes what has come within half a second in one transaction. So a process that
//! is killed loses less than a second, and an idle one does nothing.

use std::sync::Arc;
use std::time::Duration;

use crate::cells::LedgerCell;
use crate::runtime::{Me, Reply, Worker};

/// From the first record to the fold.
const FOLD_AFTER: Duration = Duration::from_millis(50);

/// From a fold to the transaction.
const WRITE_AFTER: Duration = Duration::from_millis(400);

/// From a failed transaction to the next try.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What the ledger's actor is told.
#[derive(Debug)]
pub enum LedgerMessage {
    /// From its listening task: records have come a moment ago.
    Fold,
    /// From its timer: write what waits.
    Write,
    /// From its writing task: whether the store took it.
    Wrote(Result<(), String>),
    /// Fold and write all that there is now, then answer; also if the store can't be written.
    Flush(Reply<()>),
}

/// One incarnation.
pub struct Ledger {
    cell: Arc<LedgerCell>,
    /// A timer will bring `Write`.
    scheduled: bool,
    /// A task will bring `Wrote`.
    writing: bool,
    flushing: Vec<Reply<()>>,
    /// Those whose records may have come after the running write began.
    next_flushing: Vec<Reply<()>>,
}

impl Worker for Ledger {
    type Message = LedgerMessage;
    type Seat = Arc<LedgerCell>;

    fn start(cell: &Arc<LedgerCell>, me: &mut Me<LedgerMessage>) -> Result<Ledger, String> {
        let (listening, address) = (cell.clone(), me.address().clone());
        me.spawn(async move {
            loop {
                listening.rung().await;
                tokio::time::sleep(FOLD_AFTER).await;
                if address.cast(LedgerMessage::Fold).is_err() {
                    return; // the next incarnation listens
                }
            }
        });
        let recalling = cell.clone();
        me.spawn(async move {
            let _ = tokio::task::spawn_blocking(move || recalling.recall()).await; // it reports its own trouble
        });
        // What the last incarnation left, the bell included.
        me.after(Duration::ZERO, LedgerMessage::Fold);
        Ok(Ledger {
            cell: cell.clone(),
            scheduled: false,
            writing: false,
            flushing: Vec::new(),
            next_flushing: Vec::new(),
        })
    }

    fn handle(&mut self, message: LedgerMessage, me: &mut Me<LedgerMessage>) {
        match message {
            LedgerMessage::Fold => {
                if self.cell.fold() > 0 {
                    self.schedule(WRITE_AFTER, me);
                }
            }
            LedgerMessage::Write => {
                self.scheduled = false;
                self.write(me);
            }
            LedgerMessage::Wrote(result) => {
                self.writing = false;
                for reply in self.flushing.drain(..) {
                    let _ = reply.send(()); // the asker may have gone
                }
                let waiting = self.cell.fold();
                if !self.next_flushing.is_empty() {
                    self.flushing = std::mem::take(&mut self.next_flushing);
                    self.write(me);
                } else if waiting > 0 {
                    self.schedule(if result.is_ok() { WRITE_AFTER } else { RETRY_AFTER }, me);
                }
            }
            LedgerMessage::Flush(reply) => {
                self.cell.fold();
                if self.writing {
                    self.next_flushing.push(reply);
                } else {
                    self.flushing.push(reply);
                    self.write(me);
                }
            }
        }
    }

    fn name(message: &LedgerMessage) -> &'static str {
        match message {
            LedgerMessage::Fold => "Fold",
            LedgerMessage::Write => "Write",
            LedgerMessage::Wrote(_) => "Wrote",
            LedgerMessage::Flush(_) => "Flush",
        }
    }
}

// === impl Ledger ===

impl Ledger {
    fn schedule(&mut self, after: Duration, me: &mut Me<LedgerMessage>) {
        if !self.scheduled && !self.writing {
            self.scheduled = true;
            me.after(after, LedgerMessage::Write);
        }
    }

    /// Writes in a blocking task. It is not ours to stop: it finishes even if this incarnation dies.
    fn write(&mut self, me: &mut Me<LedgerMessage>) {
        if self.writing {
            return; // its end looks for more
        }
        self.writing = true;
        let (cell, address) = (self.cell.clone(), me.address().clone());
        let task = tokio::task::spawn_blocking(move || cell.write());
        me.spawn(async move {
            let result = match task.await {
                Ok(result) => result,
                Err(error) => Err(format!("writing the ledger failed: {error}")),
            };
            let _ = address.cast(LedgerMessage::Wrote(result)); // gone: the next incarnation writes what is left
        });
    }
}

#[cfg(test)]
mod tests;
