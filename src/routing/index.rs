//! The names and globs of a table, compiled once, so that a request looks them up without reading text.

use std::collections::HashMap;
use std::sync::Arc;

use wildmatch::WildMatch;

use crate::config::{AfterOutput, Alias, ProviderId, Routing, Target};

use super::rules::Matcher;
use super::table::Row;

/// A chain of aliases longer than this ends there.
const MAX_CHAIN: usize = 8;

/// A name longer than this matches no glob: no model is called so, and matching costs time.
const MAX_NAME: usize = 512;

/// Everything that a request looks up by the name of its model.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    exact: HashMap<Arc<str>, Vec<usize>>,
    globs: Vec<Listing>,
    alias_names: HashMap<Arc<str>, usize>,
    alias_globs: Vec<(WildMatch, usize)>,
    aliases: Vec<Resolved>,
    pub(super) rules: Vec<Compiled>,
    pub(super) defaults: Vec<Option<Arc<str>>>,
}

/// A glob in a provider's list of models.
#[derive(Clone, Debug)]
pub(super) struct Listing {
    pub(super) glob: WildMatch,
    pub(super) text: Arc<str>,
    pub(super) row: usize,
}

/// An alias with its targets found.
#[derive(Clone, Debug)]
pub(super) struct Resolved {
    pub(super) pattern: Arc<str>,
    pub(super) goals: Vec<Goal>,
}

/// A rule, compiled.
#[derive(Clone, Debug)]
pub(super) struct Compiled {
    pub(super) name: Arc<str>,
    pub(super) matcher: Matcher,
    pub(super) goals: Vec<Goal>,
    pub(super) effort: Option<String>,
    pub(super) after_output: Option<AfterOutput>,
    pub(super) refuse: Option<String>,
}

/// Where a target leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// To a provider, and there to this model; `None` is the one that the caller asked for.
    At(usize, Option<Arc<str>>),
    /// Nowhere: no such provider.
    Nowhere(Target),
}

// === impl Index ===

impl Index {
    pub(super) fn new(rows: &[Row], aliases: &[Alias], routing: &Routing) -> Index {
        let mut index = Index {
            defaults: rows.iter().map(|row| row.default_model.as_deref().map(Arc::from)).collect(),
            ..Index::default()
        };
        for (row, entry) in rows.iter().enumerate() {
            for model in &entry.models {
                if is_glob(model) {
                    let listing =
                        Listing { glob: WildMatch::new(model), text: Arc::from(model.as_str()), row };
                    index.globs.push(listing);
                } else {
                    index.exact.entry(Arc::from(model.as_str())).or_default().push(row);
                }
            }
        }
        for (at, alias) in aliases.iter().enumerate() {
            if is_glob(&alias.pattern) {
                index.alias_globs.push((WildMatch::new(&alias.pattern), at));
            } else {
                index.alias_names.entry(Arc::from(alias.pattern.as_str())).or_insert(at);
            }
        }
        let resolver = Resolver { rows, aliases, index: &index };
        let resolved = aliases
            .iter()
            .map(|alias| {
                let mut goals = Vec::new();
                for target in &alias.targets {
                    resolver.target(target, 0, &mut goals);
                }
                Resolved { pattern: Arc::from(alias.pattern.as_str()), goals }
            })
            .collect();
        let rules = routing
            .rules
            .iter()
            .enumerate()
            .map(|(at, rule)| {
                let mut goals = Vec::new();
                for target in &rule.targets {
                    resolver.text(target, &mut goals);
                }
                let name = rule.name.clone().unwrap_or_else(|| format!("number {}", at + 1));
                Compiled {
                    name: Arc::from(name),
                    matcher: Matcher::new(rule),
                    goals,
                    effort: rule.effort.clone(),
                    after_output: rule.after_output,
                    refuse: rule.refuse.clone(),
                }
            })
            .collect();
        index.aliases = resolved;
        index.rules = rules;
        index
    }

    /// The rows that list the name exactly, and the name as they share it.
    pub(super) fn exact(&self, model: &str) -> Option<(&Arc<str>, &[usize])> {
        self.exact.get_key_value(model).map(|(name, rows)| (name, rows.as_slice()))
    }

    /// The globs that match the name.
    pub(super) fn globs<'a>(&'a self, model: &'a str) -> impl Iterator<Item = &'a Listing> {
        let fits = model.len() <= MAX_NAME;
        self.globs.iter().filter(move |listing| fits && listing.glob.matches(model))
    }

    /// Whether the row lists the name.
    pub(super) fn lists(&self, row: usize, model: &str) -> bool {
        self.exact.get(model).is_some_and(|rows| rows.contains(&row))
            || (model.len() <= MAX_NAME
                && self.globs.iter().any(|listing| listing.row == row && listing.glob.matches(model)))
    }

    /// The first alias, in written order, that matches the name.
    pub(super) fn alias(&self, model: &str) -> Option<&Resolved> {
        self.alias_at(model).and_then(|at| self.aliases.get(at))
    }

    fn alias_at(&self, model: &str) -> Option<usize> {
        let exact = self.alias_names.get(model).copied();
        let fits = model.len() <= MAX_NAME;
        let glob = self
            .alias_globs
            .iter()
            .take_while(|(_, at)| exact.is_none_or(|exact| *at < exact))
            .find(|(glob, _)| fits && glob.matches(model))
            .map(|(_, at)| *at);
        glob.or(exact)
    }
}

/// Finds what targets mean while the index is built.
struct Resolver<'a> {
    rows: &'a [Row],
    aliases: &'a [Alias],
    index: &'a Index,
}

// === impl Resolver ===

impl Resolver<'_> {
    fn row(&self, provider: &str) -> Option<usize> {
        self.rows.iter().position(|row| row.id.as_str() == provider)
    }

    /// A target of an alias: a provider's model, or, where no such provider is, another alias.
    fn target(&self, target: &Target, depth: usize, goals: &mut Vec<Goal>) {
        if let Some(row) = self.row(target.provider.as_str()) {
            push(goals, Goal::At(row, Some(Arc::clone(&target.model))));
            return;
        }
        // A cycle ends at the bound: what it leads to is nowhere, and the rest of the targets stands.
        let next = (depth < MAX_CHAIN).then(|| self.index.alias_at(&target.to_string())).flatten();
        match next.and_then(|at| self.aliases.get(at)) {
            Some(alias) => {
                for target in &alias.targets {
                    // Fan-out times depth stays bounded as well.
                    if goals.len() < 64 {
                        self.target(target, depth + 1, goals);
                    }
                }
            }
            None => push(goals, Goal::Nowhere(target.clone())),
        }
    }

    /// A target of a rule: `provider/model`, a provider alone, or an alias.
    fn text(&self, text: &str, goals: &mut Vec<Goal>) {
        if let Some(row) = self.row(text) {
            return push(goals, Goal::At(row, None));
        }
        if let Some(target) = Target::parse(text)
            && self.row(target.provider.as_str()).is_some()
        {
            return self.target(&target, 0, goals);
        }
        match self.index.alias_at(text).and_then(|at| self.aliases.get(at)) {
            Some(alias) => alias.targets.iter().for_each(|target| self.target(target, 0, goals)),
            None => {
                let unknown = Target { provider: ProviderId::from(text), model: Arc::from("") };
                push(goals, Goal::Nowhere(Target::parse(text).unwrap_or(unknown)));
            }
        }
    }
}

fn push(goals: &mut Vec<Goal>, goal: Goal) {
    if !goals.contains(&goal) {
        goals.push(goal);
    }
}

/// Whether a name is a glob.
fn is_glob(text: &str) -> bool {
    text.contains(['*', '?'])
}
