//! `[[routing.rules]]`: what they match.

use std::sync::Arc;

use wildmatch::WildMatch;

use crate::config::{Role, Rule};

use super::Facts;

/// What a rule asks of a request; all of it must hold. A rule that asks nothing matches everything.
#[derive(Clone, Debug, Default)]
pub struct Matcher {
    model: Option<WildMatch>,
    role: Option<Role>,
    above_tokens: Option<u64>,
    header: Vec<(Arc<str>, WildMatch)>,
    session: Option<WildMatch>,
    agent: Option<WildMatch>,
    client: Option<WildMatch>,
    over_budget: Option<bool>,
}

// === impl Matcher ===

impl Matcher {
    /// Compiles the matching half of a rule.
    pub fn new(rule: &Rule) -> Matcher {
        let glob = |text: &Option<String>| text.as_deref().map(WildMatch::new);
        Matcher {
            model: glob(&rule.model),
            role: rule.role,
            above_tokens: rule.above_tokens,
            header: rule
                .header
                .iter()
                .map(|(name, value)| (Arc::from(name.to_ascii_lowercase()), WildMatch::new(value)))
                .collect(),
            session: glob(&rule.session),
            agent: glob(&rule.agent),
            client: glob(&rule.client),
            over_budget: rule.over_budget,
        }
    }

    /// Whether the request is one that the rule means. The model is compared by its own name, with and without
    /// its `[1m]`.
    pub fn matches(&self, facts: &Facts) -> bool {
        let model = without_via(&facts.head.model);
        let names = [model, without_window_suffix(model)];
        let says = |glob: &WildMatch, text: Option<&str>| text.is_some_and(|text| glob.matches(text));
        self.role.is_none_or(|role| has_role(role, facts))
            && self.over_budget.is_none_or(|over| facts.over_budget == over)
            && self.above_tokens.is_none_or(|limit| facts.head.estimated_tokens > limit)
            && self.model.as_ref().is_none_or(|glob| names.iter().any(|name| glob.matches(name)))
            && self.agent.as_ref().is_none_or(|glob| says(glob, facts.agent.as_deref()))
            && self.client.as_ref().is_none_or(|glob| says(glob, facts.client.as_deref()))
            && self
                .session
                .as_ref()
                .is_none_or(|glob| says(glob, facts.session.as_deref().or(facts.head.session.as_deref())))
            && self.header.iter().all(|(name, glob)| {
                facts.headers.iter().any(|(sent, value)| sent == name && glob.matches(value))
            })
    }
}

/// Whether the request plays the role.
///
/// Claude Code makes its housekeeping calls (titles, summaries) to its small model, a Haiku, outside any
/// subagent; a subagent is told by the header `x-claude-code-agent-id` (Claude Code docs, "LLM gateways").
pub fn has_role(role: Role, facts: &Facts) -> bool {
    match role {
        Role::Background => {
            facts.agent.is_none() && !facts.head.thinking && facts.head.model.contains("haiku")
        }
        Role::Thinking => facts.head.thinking,
        Role::WebSearch => facts.head.web_search,
        Role::Images => facts.head.images,
        Role::Subagent => facts.agent.is_some(),
    }
}

/// What stands before the names of models of other makers where Claude Code is shown them: it leaves out what does not
/// hold `claude`. Source: Claude Code docs, "LLM gateway" (model discovery).
pub const VIA: &str = "claude-via-";

/// A model's own name, of the one that is shown for it.
pub fn without_via(shown: &str) -> &str {
    shown.strip_prefix(VIA).unwrap_or(shown)
}

/// The model's name without the suffix by which Claude Code asks for the window of a million tokens.
pub fn without_window_suffix(model: &str) -> &str {
    model.strip_suffix("[1m]").unwrap_or(model)
}

/// Whether the model's name carries that suffix.
pub fn asks_for_wide_window(model: &str) -> bool {
    model.ends_with("[1m]")
}
