//! The plan of a request: its candidates in order, each with the reason why it stands there, and those
//! passed over, each with the reason why not.
//!
//! First come those whom somebody named (`gather`), then each is judged (`judge`), then the rest is put in
//! order: written order for targets of the caller, a rule or an alias; tier and strategy for those who list
//! the model; the session's own first of all; blocked ones last.

use std::sync::Arc;
use std::time::Instant;

use crate::config::{ProviderId, Strategy, Target};
use crate::dialect::{Dialect, Head, Usage};

use super::index::{Compiled, Goal, Resolved};
use super::rules::without_window_suffix;
use super::select::{self, Balance, Entrant};
use super::table::{Row, Usable, dialect_for};
use super::why::{Blocked, Demotion, Need, Reason, Why, WhyNot};
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
    /// Who served this session before.
    pub affinity: Option<&'a Target>,
    /// Now.
    pub now: Instant,
    /// A random number.
    pub draw: u64,
    /// Whether to list as skipped also those that nobody named (for explanations).
    pub explain: bool,
}

/// Somebody named this one.
struct Wish {
    row: usize,
    model: Arc<str>,
    reason: Reason,
    /// Lower is asked first; equals are ordered by tier and strategy.
    step: u32,
}

/// A wish that may be fulfilled.
struct Standing {
    wish: Wish,
    vital: Vital,
    demoted: Option<Demotion>,
    blocked: Option<Blocked>,
    order: Option<&'static str>,
    rank: usize,
}

/// The wishes that were judged.
struct Verdicts {
    standing: Vec<Standing>,
    skipped: Vec<Skipped>,
}

/// The model's name as asked for.
struct Asked<'a> {
    /// As written, a provider's prefix left out.
    whole: &'a str,
    /// Without `[1m]`.
    bare: &'a str,
    /// `bare`, shared.
    shared: Arc<str>,
}

/// The wishes as they are gathered.
struct Wishes<'a> {
    table: &'a Table,
    list: Vec<Wish>,
    skipped: Vec<Skipped>,
    step: u32,
    /// Nobody but those named may be asked.
    pinned: bool,
    /// The lists of models were asked, since neither the caller nor a rule nor an alias named anyone.
    by_list: bool,
}

/// Makes the plan.
pub fn plan(inputs: &Inputs<'_>, balance: &mut Balance) -> Plan {
    let Inputs { facts, table, .. } = *inputs;
    let bare = without_window_suffix(&facts.head.model);
    let mut plan = Plan { wide_window: bare.len() != facts.head.model.len(), ..Plan::default() };

    let rule = table.index.rules.iter().find(|rule| rule.matcher.matches(facts));
    if let Some(rule) = rule {
        plan.rule = Some(Arc::clone(&rule.name));
        plan.effort.clone_from(&rule.effort);
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
    if inputs.explain {
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
    // The score weighs the tier itself.
    let strict_tier = |standing: &Standing| match routing.strategy {
        Strategy::Score => 0,
        _ => tier(standing),
    };
    let key = |standing: &Standing| {
        (standing.blocked.map(Blocked::badness), standing.wish.step, standing.demoted, strict_tier(standing))
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

    if let Some(affinity) = inputs.affinity {
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

/// Orders equals by the strategy.
fn order_group(inputs: &Inputs<'_>, group: &mut [Standing], balance: &mut Balance) {
    let Inputs { table, facts, .. } = *inputs;
    let routing = &table.routing;
    group.sort_by_key(|standing| standing.wish.row);
    let needs_cost = matches!(routing.strategy, Strategy::Cost | Strategy::Score);
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
    let words = select::in_words(routing.strategy);
    let order = select::order(routing.strategy, &entrants, balance, inputs.draw, routing.score);
    for (rank, who) in order.into_iter().enumerate() {
        if let Some(standing) = group.get_mut(who) {
            standing.rank = rank;
            standing.order = Some(words);
        }
    }
    group.sort_by_key(|standing| standing.rank);
}

/// Splits the standing into candidates and skipped. Who is blocked for a while is asked only when nobody is
/// free; who merely has no place at this moment stays behind the free ones, since its provider lets it queue.
fn finish(inputs: &Inputs<'_>, standing: Vec<Standing>, plan: &mut Plan) {
    let Inputs { facts, table, .. } = *inputs;
    let any_free = standing.iter().any(|standing| standing.blocked.is_none());
    plan.candidates.reserve(standing.len());
    for standing in standing {
        let Standing { wish, demoted, blocked, order, .. } = standing;
        let Some(row) = table.rows.get(wish.row) else { continue };
        let target = Target { provider: row.id.clone(), model: wish.model };
        if let Some(blocked) = blocked
            && any_free
            && !blocked.can_queue()
        {
            plan.skipped.push(Skipped { target, why: WhyNot::Blocked(blocked) });
            continue;
        }
        let sticky = blocked.is_none() && inputs.affinity == Some(&target);
        plan.candidates.push(Candidate {
            row: wish.row,
            dialect: dialect_for(row, &target.model, &facts.head),
            target,
            window: row.capabilities.context_window,
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

// === impl Asked ===

impl<'a> Asked<'a> {
    fn new(whole: &'a str) -> Asked<'a> {
        let bare = without_window_suffix(whole);
        Asked { whole, bare, shared: Arc::from(bare) }
    }

    /// The alias that the name matches, as written or without `[1m]`.
    fn alias(&self, table: &'a Table) -> Option<&'a Resolved> {
        table
            .index
            .alias(self.whole)
            .or_else(|| (self.bare.len() != self.whole.len()).then(|| table.index.alias(self.bare)).flatten())
    }

    /// The model to ask for at a provider that was not chosen for its list: what an alias of the name says
    /// of it, the name itself if listed there, its default model, and else the name all the same.
    fn model_at(&self, table: &'a Table, row: usize) -> Arc<str> {
        let aliased = self.alias(table).and_then(|alias| {
            alias.goals.iter().find_map(|goal| match goal {
                Goal::At(at, Some(model)) if *at == row => Some(model),
                _ => None,
            })
        });
        if let Some(model) = aliased {
            return Arc::clone(model);
        }
        if table.index.lists(row, self.bare) {
            return Arc::clone(&self.shared);
        }
        match table.index.defaults.get(row) {
            Some(Some(model)) => Arc::clone(model),
            _ => Arc::clone(&self.shared),
        }
    }
}

// === impl Wishes ===

impl<'a> Wishes<'a> {
    /// Gathers those whom somebody named: the caller, a rule, an alias, or a list of models.
    fn gather(table: &'a Table, facts: &'a Facts, rule: Option<&'a Compiled>) -> (Asked<'a>, Wishes<'a>) {
        let mut wishes =
            Wishes { table, list: Vec::new(), skipped: Vec::new(), step: 0, pinned: false, by_list: false };
        let model = facts.head.model.as_str();
        if let Some(provider) = &facts.provider {
            let asked = wishes.named(provider, model);
            return (asked, wishes);
        }
        if let Some((row, rest)) = wishes.prefix(model) {
            let asked = Asked::new(rest);
            wishes.pinned = true;
            wishes.add(row, Arc::clone(&asked.shared), Reason::Prefixed);
            return (asked, wishes);
        }
        let asked = Asked::new(model);
        if let Some(rule) = rule.filter(|rule| !rule.goals.is_empty()) {
            wishes.goals(&rule.goals, &asked, &Reason::Rule(Arc::clone(&rule.name)));
        } else if let Some(alias) = asked.alias(table) {
            wishes.goals(&alias.goals, &asked, &Reason::Alias(Arc::clone(&alias.pattern)));
        } else {
            wishes.by_list = true;
            wishes.listers(&asked);
        }
        (asked, wishes)
    }

    /// The caller named the provider beside the model.
    fn named(&mut self, provider: &ProviderId, model: &'a str) -> Asked<'a> {
        self.pinned = true;
        let Some(row) = self.table.row(provider.as_str()) else {
            let asked = Asked::new(model);
            let target = Target { provider: provider.clone(), model: Arc::clone(&asked.shared) };
            self.skipped.push(Skipped { target, why: WhyNot::UnknownProvider });
            return asked;
        };
        let own = model.strip_prefix(provider.as_str()).and_then(|rest| rest.strip_prefix('/'));
        let asked = match own {
            Some(rest) if !self.table.lists(row, model) => Asked::new(rest),
            _ => Asked::new(model),
        };
        let aliased = asked.alias(self.table).is_some();
        let model = if aliased || asked.bare.is_empty() {
            asked.model_at(self.table, row)
        } else {
            Arc::clone(&asked.shared)
        };
        self.add(row, model, Reason::Named);
        asked
    }

    /// Reads `provider/model`. A name with a slash that somebody lists as it is stays a name where the
    /// provider of the first part does not exist or cannot be asked.
    fn prefix(&self, model: &'a str) -> Option<(usize, &'a str)> {
        let (provider, rest) = model.split_once('/')?;
        let row = self.table.row(provider).filter(|_| !rest.is_empty())?;
        let usable = self.table.rows.get(row).is_some_and(|row| row.usable == Usable::Ready);
        let listed_as_it_is = || {
            let bare = without_window_suffix(model);
            self.table.index.exact(bare).is_some() || self.table.index.globs(bare).next().is_some()
        };
        (usable || !listed_as_it_is()).then_some((row, rest))
    }

    /// Targets of a rule or an alias, in written order.
    fn goals(&mut self, goals: &[Goal], asked: &Asked<'a>, reason: &Reason) {
        for goal in goals {
            match goal {
                Goal::At(row, Some(model)) => self.add(*row, Arc::clone(model), reason.clone()),
                Goal::At(row, None) => self.add(*row, asked.model_at(self.table, *row), reason.clone()),
                Goal::Nowhere(target) => {
                    let target = target.clone();
                    self.skipped.push(Skipped { target, why: WhyNot::UnknownProvider });
                }
            }
            self.step += 1;
        }
    }

    /// Those who list the model: by name, then by a glob.
    fn listers(&mut self, asked: &Asked<'a>) {
        let index = &self.table.index;
        let exact = index.exact(asked.whole).or_else(|| index.exact(asked.bare));
        if let Some((name, rows)) = exact {
            for &row in rows {
                self.add(row, Arc::clone(name), Reason::Listed);
            }
        }
        self.step += 1;
        for listing in index.globs(asked.bare) {
            if !self.list.iter().any(|wish| wish.row == listing.row) {
                self.add(listing.row, Arc::clone(&asked.shared), Reason::Glob(Arc::clone(&listing.text)));
            }
        }
        self.step += 1;
    }

    fn add(&mut self, row: usize, model: Arc<str>, reason: Reason) {
        if !self.list.iter().any(|wish| wish.row == row && wish.model == model) {
            self.list.push(Wish { row, model, reason, step: self.step });
        }
    }
}

// === impl Verdicts ===

impl Verdicts {
    /// Judges a wish: it stands, perhaps with something against it, or it is passed over.
    fn judge(&mut self, inputs: &Inputs<'_>, wish: Wish) {
        let Some(row) = inputs.table.rows.get(wish.row) else { return };
        if self.standing.iter().any(|known| known.wish.row == wish.row && known.wish.model == wish.model) {
            return;
        }
        match fitness(row, &wish.model, &inputs.facts.head) {
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
fn fitness(row: &Row, model: &str, head: &Head) -> Result<Option<Demotion>, WhyNot> {
    if row.usable != Usable::Ready {
        return Err(WhyNot::Unusable(row.usable.clone()));
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
    if let Some(window) = can.context_window {
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

#[cfg(test)]
mod tests;
