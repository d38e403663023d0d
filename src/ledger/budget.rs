//! Budgets: what may be spent in a day, a month, a session, by an agent. A value: reserve an estimate before an
//! attempt, settle with the cost after it. What is reserved counts as spent, so that callers who come at the same
//! time can't pass a limit together.
//!
//! Days and months are those of UTC, as in the reports.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::report::dollars;
use crate::config::{Budget, Budgets as Limits};
use crate::ledger::record::micros;

/// Sessions and agents that are remembered; beyond, those unused for the longest time are forgotten.
const REMEMBERED: usize = 10_000;

/// What is spent, against what may be.
#[derive(Clone, Debug, Default)]
pub struct Budgets {
    limits: Limits,
    day: Period,
    month: Period,
    sessions: HashMap<Arc<str>, Spent>,
    agents: HashMap<Arc<str>, Spent>,
    clock: u64,
}

/// An amount that is set apart for an attempt, until it is settled.
#[derive(Debug)]
#[must_use = "what is reserved stays reserved until it is settled"]
pub struct Reserved {
    estimate: i64,
    day: i64,
    month: i64,
    session: Option<Arc<str>>,
    agent: Option<Arc<str>>,
}

/// A hard limit is reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the budget {scope} is used up: {spent} of {limit} is spent or set apart for requests in progress, and this request may cost {estimate}; raise [budgets] {key} or wait{until}", spent = Money(.spent), limit = Money(.limit), estimate = Money(.estimate), until = .scope.until(), key = .scope.key())]
pub struct OverBudget {
    /// Which budget.
    pub scope: Scope,
    /// What is spent and reserved, in millionths of a US dollar.
    pub spent: i64,
    /// The limit.
    pub limit: i64,
    /// What the request may cost.
    pub estimate: i64,
}

/// What a budget is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// A day.
    Day,
    /// A month.
    Month,
    /// A session.
    Session,
    /// An agent.
    Agent,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Spent {
    settled: i64,
    reserved: i64,
    used: u64,
}

/// Spending in a stretch of time that is followed by the next.
#[derive(Clone, Copy, Debug, Default)]
struct Period {
    number: i64,
    spent: Spent,
}

// === impl Budgets ===

impl Budgets {
    /// Other limits are in force; what is spent stays spent.
    pub fn limit(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Whether there is any limit.
    pub fn is_limited(&self) -> bool {
        self.limits != Limits::default()
    }

    /// Sets apart `estimate` (millionths of a US dollar; 0 where the price is unknown), or says which budget
    /// forbids it. `now` is in seconds since 1970.
    pub fn reserve(
        &mut self,
        session: Option<&Arc<str>>,
        agent: Option<&Arc<str>>,
        estimate: i64,
        now: u64,
    ) -> Result<Reserved, OverBudget> {
        let estimate = estimate.max(0);
        self.turn(now);
        let session = session.filter(|_| self.limits.session.is_set());
        let agent = agent.filter(|_| self.limits.agent.is_set());
        let (by_session, by_agent) = (session.map(|name| &**name), agent.map(|name| &**name));
        for (scope, limit, spent) in self.scopes(by_session, by_agent) {
            let spent = spent.all();
            if let Some(limit) = limit.stop.map(micros)
                && spent.saturating_add(estimate) > limit.max(0)
            {
                return Err(OverBudget { scope, spent, limit, estimate });
            }
        }
        self.clock += 1;
        let clock = self.clock;
        let add = |spent: &mut Spent| {
            spent.reserved = spent.reserved.saturating_add(estimate);
            spent.used = clock;
        };
        add(&mut self.day.spent);
        add(&mut self.month.spent);
        if let Some(name) = session {
            add(entry(&mut self.sessions, name));
        }
        if let Some(name) = agent {
            add(entry(&mut self.agents, name));
        }
        Ok(Reserved {
            estimate,
            day: self.day.number,
            month: self.month.number,
            session: session.cloned(),
            agent: agent.cloned(),
        })
    }

    /// Whether the mark `warn` of a budget is passed that counts for this session and this agent.
    pub fn is_past_a_mark(&mut self, session: Option<&str>, agent: Option<&str>, now: u64) -> bool {
        self.turn(now);
        self.scopes(session, agent)
            .any(|(_, budget, spent)| budget.warn.is_some_and(|warn| spent.all() >= micros(warn)))
    }

    /// The budgets that count for this session and this agent, with what is spent of them.
    fn scopes(
        &self,
        session: Option<&str>,
        agent: Option<&str>,
    ) -> impl Iterator<Item = (Scope, Budget, Spent)> {
        let scopes = [
            (Scope::Day, self.limits.day, Some(self.day.spent)),
            (Scope::Month, self.limits.month, Some(self.month.spent)),
            (Scope::Session, self.limits.session, session.map(|name| of(&self.sessions, name))),
            (Scope::Agent, self.limits.agent, agent.map(|name| of(&self.agents, name))),
        ];
        scopes.into_iter().filter_map(|(scope, budget, spent)| Some((scope, budget, spent?)))
    }

    /// Takes back what was set apart, and books the cost. Unknown costs are booked as they were estimated. Gives the
    /// budgets whose mark `warn` was passed by it.
    pub fn settle(&mut self, reserved: Reserved, cost: Option<i64>, now: u64) -> Vec<Scope> {
        self.turn(now);
        let limits = self.limits;
        let mut passed = Vec::new();
        let Reserved { estimate, day, month, session, agent, .. } = reserved;
        let cost = cost.unwrap_or(estimate).max(0);
        let mut book = |scope: Scope, budget: Budget, spent: &mut Spent, was_reserved: bool| {
            if was_reserved {
                spent.reserved = spent.reserved.saturating_sub(estimate).max(0);
            }
            let before = spent.settled;
            spent.settled = spent.settled.saturating_add(cost);
            if budget.warn.map(micros).is_some_and(|mark| before < mark && mark <= spent.settled) {
                passed.push(scope);
            }
        };
        // A reservation from before midnight went with its day; the cost falls on the day on which it is known.
        book(Scope::Day, limits.day, &mut self.day.spent, day == self.day.number);
        book(Scope::Month, limits.month, &mut self.month.spent, month == self.month.number);
        if let Some(name) = session {
            book(Scope::Session, limits.session, entry(&mut self.sessions, &name), true);
        }
        if let Some(name) = agent {
            book(Scope::Agent, limits.agent, entry(&mut self.agents, &name), true);
        }
        passed
    }

    /// Books what was spent before this process began, as the ledger's store has it.
    pub fn recall(&mut self, scope: Scope, name: Option<&str>, cost: i64, now: u64) {
        self.turn(now);
        let spent = match (scope, name) {
            (Scope::Day, _) => &mut self.day.spent,
            (Scope::Month, _) => &mut self.month.spent,
            (Scope::Session, Some(name)) => entry(&mut self.sessions, &Arc::from(name)),
            (Scope::Agent, Some(name)) => entry(&mut self.agents, &Arc::from(name)),
            (Scope::Session | Scope::Agent, None) => return,
        };
        spent.settled = spent.settled.saturating_add(cost.max(0));
    }

    /// What deserves a person's attention.
    pub fn warnings(&self) -> Vec<String> {
        let periods =
            [(Scope::Day, self.limits.day, self.day), (Scope::Month, self.limits.month, self.month)];
        let passed = |budget: Budget, spent: i64| {
            let reached = |limit: Option<f64>| limit.filter(|limit| spent >= micros(*limit));
            reached(budget.stop).or(reached(budget.warn))
        };
        let mut warnings: Vec<String> = periods
            .into_iter()
            .filter_map(|(scope, budget, period)| {
                let spent = period.spent.all();
                let limit = passed(budget, spent)?;
                Some(format!(
                    "spent {} {scope}; the budget's mark is {}",
                    Money(&spent),
                    Money(&micros(limit))
                ))
            })
            .collect();
        for (scope, budget, spent) in [
            (Scope::Session, self.limits.session, &self.sessions),
            (Scope::Agent, self.limits.agent, &self.agents),
        ] {
            let over = spent.values().filter(|spent| passed(budget, spent.all()).is_some()).count();
            if over > 0 {
                warnings.push(format!("{over} past the budget {scope}"));
            }
        }
        warnings
    }

    /// Begins another day or month when its time has come. A clock that jumps back begins none.
    fn turn(&mut self, now: u64) {
        let day = i64::try_from(now / 86_400).unwrap_or(i64::MAX);
        self.day.turn(day);
        self.month.turn(month(day));
    }
}

// === impl Period ===

impl Period {
    fn turn(&mut self, number: i64) {
        if number > self.number {
            *self = Period { number, spent: Spent::default() };
        }
    }
}

// === impl Spent ===

impl Spent {
    fn all(self) -> i64 {
        self.settled.saturating_add(self.reserved)
    }
}

fn of(spent: &HashMap<Arc<str>, Spent>, name: &str) -> Spent {
    spent.get(name).copied().unwrap_or_default()
}

fn entry<'a>(spent: &'a mut HashMap<Arc<str>, Spent>, name: &Arc<str>) -> &'a mut Spent {
    if spent.len() >= REMEMBERED && !spent.contains_key(name) {
        let idle = spent.iter().filter(|(_, spent)| spent.reserved == 0);
        if let Some(oldest) = idle.min_by_key(|(_, spent)| spent.used).map(|(name, _)| name.clone()) {
            spent.remove(&oldest);
        }
    }
    spent.entry(name.clone()).or_default()
}

/// The month of a day, both counted from 1970. Source: Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", `civil_from_days`.
fn month(day: i64) -> i64 {
    let z = day.saturating_add(719_468);
    let era = z.div_euclid(146_097);
    let of_era = z.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    // Years that begin in March, twelve months each: enough to tell months apart, and in order.
    (era * 400 + year_of_era) * 12 + from_march
}

// === impl Scope ===

impl Scope {
    fn key(self) -> &'static str {
        match self {
            Scope::Day => "day",
            Scope::Month => "month",
            Scope::Session => "session",
            Scope::Agent => "agent",
        }
    }

    fn until(self) -> &'static str {
        match self {
            Scope::Day => " until midnight (UTC)",
            Scope::Month => " until the next month (UTC)",
            Scope::Session => " with another session",
            Scope::Agent => " with another agent",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scope::Day => "of today",
            Scope::Month => "of this month",
            Scope::Session => "of a session",
            Scope::Agent => "of an agent",
        })
    }
}

/// Millionths of a US dollar, for people.
struct Money<'a>(&'a i64);

impl fmt::Display for Money<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${:.4}", dollars(*self.0))
    }
}

#[cfg(test)]
mod tests;
