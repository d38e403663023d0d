//! The plan of a request: its candidates in order, each with the reason why it stands there, and those
//! passed over, each with the reason why not.

use std::time::Instant;

use crate::config::Target;
use crate::dialect::Dialect;

use super::{Facts, Table, Vital};

/// Whom to ask, in order.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Candidates, best first.
    pub candidates: Vec<Candidate>,
    /// Those that were passed over.
    pub skipped: Vec<Skipped>,
    /// A rule refused the request, with this message.
    pub refused: Option<String>,
    /// Reasoning effort set by a rule.
    pub effort: Option<String>,
}

/// One candidate.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its row in the table.
    pub row: usize,
    /// Provider and model.
    pub target: Target,
    /// The dialect in which it is spoken to.
    pub dialect: Dialect,
    /// Why it stands here, in words.
    pub why: String,
}

/// One that was passed over.
#[derive(Clone, Debug)]
pub struct Skipped {
    /// Provider and model.
    pub target: Target,
    /// Why not, in words.
    pub why: String,
}

/// Makes the plan. `vital` tells what is known of a row for a model now; `draw` is a random number.
pub fn plan(
    _facts: &Facts,
    _table: &Table,
    _vital: &dyn Fn(usize, &str) -> Vital,
    _now: Instant,
    _draw: u64,
) -> Plan {
    todo!("room: routing")
}
