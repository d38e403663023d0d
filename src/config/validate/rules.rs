//! Checks of `[[routing.rules]]`.

use http::HeaderName;

use super::{Check, KeyPath};
use crate::config::{Config, ProviderId, Rule, Target, error, suggest};

/// Efforts that a rule may set: those of Anthropic's `output_config.effort` and OpenAI's `reasoning_effort`.
const EFFORTS: [&str; 7] = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];

pub(super) fn rules(config: &Config, check: &mut Check<'_, '_>) {
    let mut catch_all = None;
    for (n, rule) in config.routing.rules.iter().enumerate() {
        let path = KeyPath::of(["routing", "rules"]).index(n);
        matches(rule, &path, check);
        sets(rule, &path, check);
        if let Some(first) = catch_all {
            check.warn(format!(
                "routing.rules[{n}] never matches: rules[{first}] before it matches every request"
            ));
        } else if matches_everything(rule) {
            catch_all = Some(n);
        }
    }
}

fn matches(rule: &Rule, path: &KeyPath, check: &mut Check<'_, '_>) {
    for (key, glob) in
        [("model", &rule.model), ("session", &rule.session), ("agent", &rule.agent), ("client", &rule.client)]
    {
        if glob.as_deref().is_some_and(|glob| glob.trim().is_empty()) {
            check.report(&path.key(key), "an empty glob matches nothing; leave it out to match all");
        }
    }
    for (name, glob) in &rule.header {
        let path = path.key("header").key(name);
        if HeaderName::from_bytes(name.as_bytes()).is_err() {
            check.report(&path, "not a legal header name");
        } else if matches!(name.to_ascii_lowercase().as_str(), "authorization" | "x-api-key" | "cookie") {
            check.report(&path, "rules don't see credentials; match on another header");
        } else if glob.is_empty() {
            check.report(&path, "an empty glob matches nothing; use \"*\" for any value");
        }
    }
}

fn sets(rule: &Rule, path: &KeyPath, check: &mut Check<'_, '_>) {
    for (n, text) in rule.targets.iter().enumerate() {
        let at = path.key("targets").index(n);
        match Target::parse(text) {
            Some(target) => check.known_provider(&at, &target.provider),
            None if text.is_empty() || text.contains('/') => {
                let shown = error::mask(text);
                check.report(&at, format!("\"{shown}\" is neither \"provider/model\" nor a provider"));
            }
            None => check.known_provider(&at, &ProviderId::from(text.as_str())),
        }
    }
    if let Some(effort) = rule.effort.as_deref()
        && !EFFORTS.contains(&effort)
    {
        let reason = format!("unknown effort \"{}\" (known: {})", error::mask(effort), EFFORTS.join(", "));
        check.document.report_with(&path.key("effort"), reason, suggest::nearest(effort, EFFORTS));
    }
    let sets_nothing = rule.targets.is_empty()
        && rule.effort.is_none()
        && rule.after_output.is_none()
        && rule.refuse.is_none();
    if sets_nothing && check.document.is_clean(path) {
        check.report(path, "the rule does nothing: set targets, effort, after_output or refuse");
    }
    if rule.refuse.is_some() && (!rule.targets.is_empty() || rule.effort.is_some()) {
        check.report(&path.key("refuse"), "a rule that refuses can't also set targets or effort");
    }
}

fn matches_everything(rule: &Rule) -> bool {
    rule.model.as_deref().is_none_or(|glob| glob == "*")
        && rule.role.is_none()
        && rule.above_tokens.is_none()
        && rule.header.is_empty()
        && rule.session.is_none()
        && rule.agent.is_none()
        && rule.client.is_none()
        && rule.over_budget.is_none()
}
