//! Whether one who was named may and can serve the request, and what stands against it now.

use std::time::Instant;

use crate::config::{Auth, Target};
use crate::routing::Vital;
use crate::routing::rules::asks_for_wide_window;
use crate::routing::table::{Row, Usable};
use crate::routing::why::{Blocked, Demotion, Need, Order, WhyNot};

use super::gather::Wish;
use super::{Inputs, Skipped};

/// A wish that may be fulfilled.
pub(super) struct Standing {
    pub(super) wish: Wish,
    pub(super) vital: Vital,
    pub(super) demoted: Option<Demotion>,
    pub(super) blocked: Option<Blocked>,
    pub(super) order: Option<Order>,
    pub(super) rank: usize,
}

/// The wishes that were judged.
pub(super) struct Verdicts {
    pub(super) standing: Vec<Standing>,
    pub(super) skipped: Vec<Skipped>,
}

// === impl Verdicts ===

impl Verdicts {
    /// Judges a wish: it stands, perhaps with something against it, or it is passed over.
    pub(super) fn judge(&mut self, inputs: &Inputs<'_>, wish: Wish) {
        let Some(row) = inputs.table.rows.get(wish.row) else { return };
        if self.standing.iter().any(|known| known.wish.row == wish.row && known.wish.model == wish.model) {
            return;
        }
        match fitness(inputs, row, &wish.model) {
            Ok(demoted) => {
                let vital = (inputs.vital)(wish.row, &wish.model);
                let blocked = blocked(&vital, row.max_concurrent, inputs.now);
                self.standing.push(Standing { wish, vital, demoted, blocked, order: None, rank: 0 });
            }
            Err(why) => {
                let target = Target { provider: row.id.clone(), model: wish.model };
                if !self.skipped.iter().any(|known| known.target == target) {
                    self.skipped.push(Skipped { target, why });
                }
            }
        }
    }
}

/// Whether the provider may and can serve the request at all; if so, what counts against it.
fn fitness(inputs: &Inputs<'_>, row: &Row, model: &str) -> Result<Option<Demotion>, WhyNot> {
    let head = &inputs.facts.head;
    if row.usable != Usable::Ready {
        return Err(WhyNot::Unusable(row.usable.clone()));
    }
    if row.auth == Auth::Caller && !inputs.credential {
        return Err(WhyNot::NoCredential);
    }
    if model.is_empty() {
        return Err(WhyNot::NoModel);
    }
    let can = &row.capabilities;
    let needs = [
        (head.stream, can.streaming, Need::Streaming, true),
        (head.tools > 0, can.tools, Need::Tools, true),
        (head.images, can.images, Need::Images, true),
        (head.documents, can.documents, Need::Documents, true),
        (head.thinking, can.reasoning, Need::Reasoning, false),
        (head.web_search, can.web_search, Need::WebSearch, false),
    ];
    let mut demoted = None;
    for (needed, able, need, hard) in needs {
        if needed {
            match able {
                Some(true) => {}
                Some(false) if hard => return Err(WhyNot::Lacks(need)),
                Some(false) | None => demoted = demoted.or(Some(Demotion::Unsure(need))),
            }
        }
    }
    if let Some(window) = row.window(asks_for_wide_window(&head.model)) {
        let input = head.estimated_tokens;
        if input > window {
            return Err(WhyNot::Window { input, window });
        }
        let most = can.max_output_tokens.unwrap_or(u64::MAX);
        let output = head.max_tokens.unwrap_or(0).min(most);
        if input.saturating_add(output) > window {
            demoted = demoted.or(Some(Demotion::TightWindow));
        }
    }
    Ok(demoted)
}

/// What stands against asking now; of several things the one that lasts longest.
fn blocked(vital: &Vital, max_concurrent: Option<u32>, now: Instant) -> Option<Blocked> {
    let left = |until: Option<Instant>| {
        until.map(|until| until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    };
    let full = max_concurrent.is_some_and(|limit| vital.open >= limit);
    [
        full.then_some(Blocked::Full),
        (!vital.headroom).then_some(Blocked::NoHeadroom),
        left(vital.embargo_until).map(Blocked::Embargo),
        left(vital.open_until).map(Blocked::Breaker),
        (!vital.healthy).then_some(Blocked::Unhealthy),
        (!vital.alive).then_some(Blocked::Down),
    ]
    .into_iter()
    .flatten()
    .max_by_key(|blocked| blocked.badness())
}
