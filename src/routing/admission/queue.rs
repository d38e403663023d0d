//! Those who wait for a place, in the order of arrival.

use std::collections::VecDeque;

use super::Ask;

/// Names one who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// One who waits.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) ticket: Ticket,
    pub(super) ask: Ask,
}

/// Those who wait.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    line: VecDeque<Waiting>,
}

// === impl Queue ===

impl Queue {
    pub(super) fn push(&mut self, ticket: Ticket, ask: Ask) {
        self.line.push_back(Waiting { ticket, ask });
    }

    pub(super) fn remove(&mut self, ticket: Ticket) {
        self.line.retain(|waiting| waiting.ticket != ticket);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Waiting> {
        self.line.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.line.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.line.is_empty()
    }
}

impl IntoIterator for Queue {
    type Item = Waiting;
    type IntoIter = std::collections::vec_deque::IntoIter<Waiting>;

    fn into_iter(self) -> Self::IntoIter {
        self.line.into_iter()
    }
}
