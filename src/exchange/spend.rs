//! Budgets on a request's path: an estimate is set apart before the first attempt, and settled with the cost at the
//! end. Where there is no budget, none of this runs.

use super::request::Request;
use crate::actors::Directory;
use crate::cells::Reservation;
use crate::dialect::{Fault, FaultKind};
use crate::ledger::micros;
use crate::routing::Plan;

/// Output that is set apart where the request names no bound: 4096 tokens.
const EXPECTED_OUTPUT: u64 = 4096;

/// Sets apart what the request may cost at the dearest of its candidates, or says which budget forbids it.
///
/// Exact as far as the estimate is: it takes the caller's `max_tokens` for the output and our count of the input,
/// the dearer of writing it to a cache and not. An attempt that fails after output began may come on top.
pub fn reserve(directory: &Directory, request: &Request, plan: &Plan) -> Result<Option<Reservation>, Fault> {
    let cell = &directory.ledger_cell;
    if !cell.is_limited() {
        return Ok(None);
    }
    let head = &request.facts.head;
    let entries = directory.entries.load();
    let (input, output) = (head.estimated_tokens, head.max_tokens.unwrap_or(EXPECTED_OUTPUT));
    let dearest = plan.candidates.iter().filter_map(|candidate| {
        let id = &candidate.target.provider;
        if directory.is_embedded(id) {
            return None;
        }
        let kind = entries.get(id)?.cell.setup().config.kind;
        let price = cell.price(id, kind, &candidate.target.model)?;
        let per_input = price.input.max(price.cache_write.unwrap_or_default());
        Some((per_input * input as f64 + price.output * output as f64) / 1e6)
    });
    let estimate = micros(dearest.fold(0.0, f64::max));
    cell.reserve(request.facts.session.as_ref(), request.facts.agent.as_ref(), estimate)
        .map_err(|over| Fault::new(FaultKind::Billing, over.to_string()))
}
