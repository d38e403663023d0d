//! The plan of a request: its candidates in order, each with the reason why it stands there, and those
//! passed over, each with the reason why not.
//!
//! First come those whom somebody named (`gather`), then each is judged (`judge`), then the rest is put in
//! order: written order for targets of the caller, a rule or an alias; tier and strategy for those who list
//! the model; the session's own first of all; blocked ones last. Past the mark of a budget it is the price that
//! puts all of them in order.

mod gather;
mod judge;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::config::{AfterOutput, Strategy, Target};
use crate::dialect::{Dialect, Usage};

use super::rules::{asks_for_wide_window, without_window_suffix};
use super::select::{self, Balance, Entrant};
use super::table::{Usable, dialect_for};
use super::why::{Blocked, Order, Reason, Why, WhyNot};
use super::{Facts, Table, Vital};

use gather::{Asked, Wish, Wishes};
use judge::{Standing, Verdicts};

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
    /// What happens to an answer that breaks after its first output.
    pub after_output: AfterOutput,
    /// The rule that matched, by name.
    pub rule: Option<Arc<str>>,
    /// The caller asked by the suffix `[1m]` for the window of a million tokens.
    pub wide_window: bool,
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
    /// Its context window, where the config says it.
    pub window: Option<u64>,
    /// Why it stands here; `Display` says it in words.
    pub why: Why,
}

/// One that was passed over.
#[derive(Clone, Debug)]
pub struct Skipped {
    /// Provider and model.
    pub target: Target,
    /// Why not; `Display` says it in words.
    pub why: WhyNot,
}

/// All that a plan is made of.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// The request.
    pub facts: &'a Facts,
    /// The published table.
    pub table: &'a Table,
    /// What is known of a row for a model now.
    pub vital: &'a dyn Fn(usize, &str) -> Vital,
    /// Whether the caller sent a credential of its own, for providers with `auth = "caller"`.
    pub credential: bool,
    /// Who served this session before.
    pub affinity: Option<&'a Target>,
    /// Now.
    pub now: Instant,
    /// A random number.
    pub draw: u64,
    /// Whether to list as skipped also those that nobody named (for explanations).
    pub explain: bool,
}

/// Makes the plan.
pub fn plan(inputs: &Inputs<'_>, balance: &mut Balance) -> Plan {
    let Inputs { facts, table, .. } = *inputs;
    let mut plan = Plan {
        wide_window: asks_for_wide_window(&facts.head.model),
        after_output: table.routing.after_output,
        ..Plan::default()
    };

    let rule = table.index.rules.iter().find(|rule| rule.matcher.matches(facts));
    if let Some(rule) = rule {
        plan.rule = Some(Arc::clone(&rule.name));
        plan.effort.clone_from(&rule.effort);
        plan.after_output = rule.after_output.unwrap_or(plan.after_output);
        if rule.refuse.is_some() {
            plan.refused.clone_from(&rule.refuse);
            return plan;
        }
    }

    let (asked, mut wishes) = Wishes::gather(table, facts, rule);
    let list = std::mem::take(&mut wishes.list);
    let mut verdicts = Verdicts {
        standing: Vec::with_capacity(list.len() + 2),
        skipped: std::mem::take(&mut wishes.skipped),
    };
    for wish in list {
        verdicts.judge(inputs, wish);
    }
    if !wishes.pinned {
        last_resorts(inputs, &asked, wishes, &mut verdicts);
    }
    let Verdicts { mut standing, skipped } = verdicts;
    plan.skipped = skipped;
    arrange(inputs, &mut standing, balance);
    finish(inputs, standing, &mut plan);
    // An error that nobody can serve the request says of each what was missing.
    if inputs.explain || plan.candidates.is_empty() {
        name_the_others(table, facts, &mut plan);
    }
    plan
}

/// Sorts the standing: who is free before who is not, written order, those that count as sure before others,
/// tier, strategy.
fn arrange(inputs: &Inputs<'_>, standing: &mut [Standing], balance: &mut Balance) {
    let table = inputs.table;
    let routing = &table.routing;
    let tier = |standing: &Standing| table.rows.get(standing.wish.row).map_or(u32::MAX, |row| row.priority);
    // The score weighs the tier itself; where money is short neither it nor the written order counts.
    let strict_tier = |standing: &Standing| match routing.strategy {
        _ if inputs.facts.over_budget => 0,
        Strategy::Score => 0,
        _ => tier(standing),
    };
    let step = |standing: &Standing| match standing.wish.reason {
        Reason::Fallback => u32::MAX,
        _ if inputs.facts.over_budget => 0,
        _ => standing.wish.step,
    };
    let key = |standing: &Standing| {
        (standing.blocked.map(Blocked::badness), step(standing), standing.demoted, strict_tier(standing))
    };
    standing.sort_by(|a, b| {
        key(a).cmp(&key(b)).then_with(|| a.vital.error_rate.total_cmp(&b.vital.error_rate)).then_with(|| {
            // Equal and free: in the order of the rows, as the strategies expect.
            a.wish.row.cmp(&b.wish.row)
        })
    });

    let free = standing.partition_point(|standing| standing.blocked.is_none());
    let mut start = 0;
    while start < free {
        let Some(first) = standing.get(start) else { break };
        let group_key = key(first);
        let len = standing[start..free].iter().take_while(|standing| key(standing) == group_key).count();
        if len > 1 {
            order_group(inputs, &mut standing[start..start + len], balance);
        }
        start += len;
    }

    if let Some(affinity) = inputs.affinity.filter(|_| !inputs.facts.over_budget) {
        let sticky = standing[..free].iter().position(|standing| {
            standing.wish.reason != Reason::Fallback
                && standing.wish.model == affinity.model
                && table.rows.get(standing.wish.row).is_some_and(|row| row.id == affinity.provider)
        });
        if let Some(at) = sticky {
            standing[..=at].rotate_right(1);
        }
    }
}

/// Why candidates stand in the order of their prices, whatever the strategy.
const PAST_A_MARK: &str = "by price, since a budget's mark is passed";

/// Orders equals by the strategy.
fn order_group(inputs: &Inputs<'_>, group: &mut [Standing], balance: &mut Balance) {
    let Inputs { table, facts, .. } = *inputs;
    let routing = &table.routing;
    let strategy = if facts.over_budget { Strategy::Cost } else { routing.strategy };
    group.sort_by_key(|standing| standing.wish.row);
    let needs_cost = matches!(strategy, Strategy::Cost | Strategy::Score);
    let entrants: Vec<Entrant> = group
        .iter()
        .map(|standing| {
            let row = table.rows.get(standing.wish.row);
            let price = row
                .filter(|_| needs_cost)
                .and_then(|row| table.prices.of(row.id.as_str(), row.kind, &standing.wish.model));
            Entrant {
                row: standing.wish.row,
                weight: row.map_or(1, |row| row.weight),
                priority: row.map_or(u32::MAX, |row| row.priority),
                open: standing.vital.open,
                max_concurrent: row.and_then(|row| row.max_concurrent),
                latency: standing.vital.latency,
                cost: price.map(|price| expected_cost(price, facts)),
            }
        })
        .collect();
    let words = if facts.over_budget { PAST_A_MARK } else { select::in_words(strategy) };
    let order = select::order(strategy, &entrants, balance, inputs.draw, routing.score);
    for (rank, who) in order.into_iter().enumerate() {
        if let Some(standing) = group.get_mut(who) {
            standing.rank = rank;
            let cost = entrants.get(who).and_then(|entrant| entrant.cost);
            standing.order = Some(match strategy {
                Strategy::Cost => Order::Price(words, cost.map(|dollars| (dollars * 1e6).round() as u64)),
                _ => Order::By(words),
            });
        }
    }
    group.sort_by_key(|standing| standing.rank);
}

/// Makes candidates of the standing. Who is blocked for a while stays, behind those that are free: should they all
/// fail, it is better asked than nobody.
fn finish(inputs: &Inputs<'_>, standing: Vec<Standing>, plan: &mut Plan) {
    let Inputs { facts, table, .. } = *inputs;
    plan.candidates.reserve(standing.len());
    for standing in standing {
        let Standing { wish, demoted, blocked, order, .. } = standing;
        let Some(row) = table.rows.get(wish.row) else { continue };
        let target = Target { provider: row.id.clone(), model: wish.model };
        let sticky = blocked.is_none() && inputs.affinity == Some(&target);
        plan.candidates.push(Candidate {
            row: wish.row,
            dialect: dialect_for(row, &target.model, &facts.head),
            target,
            window: row.window(plan.wide_window),
            why: Why { reason: wish.reason, tier: row.priority, order, sticky, demoted, blocked },
        });
    }
}

/// Lists as skipped the providers that nobody named.
fn name_the_others(table: &Table, facts: &Facts, plan: &mut Plan) {
    let named = plan.candidates.first().map(|candidate| &candidate.why.reason);
    let by_list = matches!(
        named,
        None | Some(Reason::Listed | Reason::Glob(_) | Reason::Default | Reason::Only | Reason::Fallback)
    );
    let model: Arc<str> = Arc::from(without_window_suffix(&facts.head.model));
    for (at, row) in table.rows.iter().enumerate() {
        let known = plan.candidates.iter().any(|candidate| candidate.row == at)
            || plan.skipped.iter().any(|skipped| skipped.target.provider == row.id);
        if !known {
            let why = match &row.usable {
                Usable::Ready if by_list => WhyNot::NotListed,
                Usable::Ready => WhyNot::NotNamed,
                unusable => WhyNot::Unusable(unusable.clone()),
            };
            let target = Target { provider: row.id.clone(), model: Arc::clone(&model) };
            plan.skipped.push(Skipped { target, why });
        }
    }
}

/// Adds the default provider, where nobody who lists the model can be asked, and the fallback provider.
fn last_resorts(inputs: &Inputs<'_>, asked: &Asked<'_>, wishes: Wishes<'_>, verdicts: &mut Verdicts) {
    let Inputs { table, .. } = *inputs;
    let Wishes { step, by_list, .. } = wishes;
    if by_list && verdicts.standing.is_empty() {
        let default = match &table.routing.default_provider {
            Some(id) => table.row(id.as_str()).map(|row| (row, Reason::Default)),
            None => only_row(table).map(|row| (row, Reason::Only)),
        };
        if let Some((row, reason)) = default {
            verdicts.judge(inputs, Wish { row, model: asked.model_at(table, row), reason, step });
        }
    }
    let fallback = table.routing.fallback_provider.as_ref().and_then(|id| table.row(id.as_str()));
    if let Some(row) = fallback {
        let model = asked.model_at(table, row);
        verdicts.judge(inputs, Wish { row, model, reason: Reason::Fallback, step: u32::MAX });
    }
}

/// The only provider that may be asked, if there is just one.
fn only_row(table: &Table) -> Option<usize> {
    let mut ready = table.rows.iter().enumerate().filter(|(_, row)| row.usable == Usable::Ready);
    let (row, _) = ready.next()?;
    ready.next().is_none().then_some(row)
}

/// What a request may cost in US dollars: all of its input at the full price, and some output, since only the
/// order among candidates matters.
fn expected_cost(price: super::Price, facts: &Facts) -> f64 {
    const USUAL_OUTPUT: u64 = 1_000;
    let output = facts.head.max_tokens.map_or(USUAL_OUTPUT, |limit| limit.min(USUAL_OUTPUT));
    price.cost(&Usage { input: facts.head.estimated_tokens, output, ..Usage::default() })
}

// === impl Candidate ===

impl Candidate {
    /// Whether an input that was too long for `failed` may fit here: its window is larger, or, where the
    /// windows are not known, it is another model.
    pub fn may_hold_more_than(&self, failed: &Candidate) -> bool {
        match (self.window, failed.window) {
            (Some(own), Some(other)) => own > other,
            _ => self.target.model != failed.target.model,
        }
    }
}

// === impl Plan ===

impl Plan {
    /// Why nobody can be asked, in one sentence that names each provider; for the error of a plan without
    /// candidates.
    pub fn nobody(&self, model: &str) -> String {
        if let Some(message) = &self.refused {
            return message.clone();
        }
        let each: Vec<String> = self
            .skipped
            .iter()
            .map(|skipped| format!("{}: {}", skipped.target.provider, skipped.why))
            .collect();
        match each.as_slice() {
            [] => format!("no provider can serve \"{model}\": none is configured"),
            each => format!("no provider can serve \"{model}\" ({})", each.join("; ")),
        }
    }
}

/// The plan for people, a line for each: candidates numbered in order, then those passed over.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(rule) = &self.rule {
            writeln!(f, "rule \"{rule}\" matches")?;
        }
        if let Some(effort) = &self.effort {
            writeln!(f, "reasoning effort: {effort}")?;
        }
        if let Some(message) = &self.refused {
            return writeln!(f, "refused: {message}");
        }
        if self.candidates.is_empty() {
            writeln!(f, "nobody can be asked")?;
        }
        for (at, candidate) in self.candidates.iter().enumerate() {
            let dialect = candidate.dialect.as_str();
            writeln!(f, "{}. {} in {dialect}: {}", at + 1, candidate.target, candidate.why)?;
        }
        for skipped in &self.skipped {
            writeln!(f, "-  {}: {}", skipped.target, skipped.why)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
