//! Whom somebody named: the caller, a rule, an alias, or a provider's list of models.

use std::sync::Arc;

use crate::config::{ProviderId, Target};
use crate::routing::index::{Compiled, Goal, Resolved};
use crate::routing::rules::{without_via, without_window_suffix};
use crate::routing::table::Usable;
use crate::routing::why::{Reason, WhyNot};
use crate::routing::{Facts, Table};

use super::Skipped;

/// Somebody named this one.
pub(super) struct Wish {
    pub(super) row: usize,
    pub(super) model: Arc<str>,
    pub(super) reason: Reason,
    /// Lower is asked first; equals are ordered by tier and strategy.
    pub(super) step: u32,
}

/// The model's name as asked for.
pub(super) struct Asked<'a> {
    /// As written, a provider's prefix left out.
    pub(super) whole: &'a str,
    /// Without `[1m]`.
    pub(super) bare: &'a str,
    /// `bare`, shared.
    pub(super) shared: Arc<str>,
}

/// The wishes as they are gathered.
pub(super) struct Wishes<'a> {
    pub(super) table: &'a Table,
    pub(super) list: Vec<Wish>,
    pub(super) skipped: Vec<Skipped>,
    pub(super) step: u32,
    /// Nobody but those named may be asked.
    pub(super) pinned: bool,
    /// The lists of models were asked, since neither the caller nor a rule nor an alias named anyone.
    pub(super) by_list: bool,
}

/// The model that a name means: one that is shown under `claude-via-`, unless that very name is somebody's own.
fn meant<'a>(table: &Table, name: &'a str) -> &'a str {
    let is_own = |name: &str| {
        table.index.exact(name).is_some() || table.aliases.iter().any(|alias| *alias.pattern == *name)
    };
    if is_own(name) || is_own(without_window_suffix(name)) { name } else { without_via(name) }
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
    pub(super) fn model_at(&self, table: &'a Table, row: usize) -> Arc<str> {
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
    pub(super) fn gather(
        table: &'a Table,
        facts: &'a Facts,
        rule: Option<&'a Compiled>,
    ) -> (Asked<'a>, Wishes<'a>) {
        let mut wishes =
            Wishes { table, list: Vec::new(), skipped: Vec::new(), step: 0, pinned: false, by_list: false };
        let model = meant(table, facts.head.model.as_str());
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
