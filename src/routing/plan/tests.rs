#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::Config;

fn config(text: &str) -> Config {
    toml::from_str(text).expect("the test's config is valid")
}

const THREE: &str = r#"
    [providers.anthropic]
    kind = "anthropic"
    models = ["claude-sonnet-4-5", "claude-*"]
    [providers.local]
    kind = "local"
    default_model = "qwen3"
    priority = 3
    [providers.openai]
    kind = "openai"
    models = ["gpt-5.2"]
    [providers.openrouter]
    kind = "openrouter"
    models = ["openai/gpt-5.2", "anthropic/*", "gpt-*", "claude-sonnet-4-5"]
    priority = 2
    [models]
    sonnet = ["anthropic/claude-sonnet-4-5", "openrouter/anthropic/claude-sonnet-4.5"]
    "claude-haiku-*" = "local/qwen3"
    [routing]
    fallback_provider = "local"
"#;

fn well() -> Vital {
    Vital { alive: true, healthy: true, headroom: true, ..Vital::default() }
}

fn table(text: &str) -> Table {
    Table::new(1, &config(text), |_| Usable::Ready)
}

fn asking(model: &str) -> Facts {
    Facts { head: Head { model: model.into(), ..Head::default() }, ..Facts::default() }
}

fn run(table: &Table, facts: &Facts) -> Plan {
    run_with(table, facts, &|_, _| well(), None, &mut Balance::default())
}

fn run_with(
    table: &Table,
    facts: &Facts,
    vital: &dyn Fn(usize, &str) -> Vital,
    affinity: Option<&Target>,
    balance: &mut Balance,
) -> Plan {
    let now = Instant::now();
    plan(&Inputs { facts, table, vital, affinity, now, draw: 7, explain: true }, balance)
}

/// A plan in words, as `cproxy explain` would say it.
fn words(plan: &Plan) -> String {
    let mut lines: Vec<String> = plan.candidates.iter().map(|c| format!("+ {}: {}", c.target, c.why)).collect();
    lines.extend(plan.skipped.iter().map(|s| format!("- {}: {}", s.target, s.why)));
    lines.join("\n")
}

fn targets(plan: &Plan) -> Vec<String> {
    plan.candidates.iter().map(|candidate| candidate.target.to_string()).collect()
}

#[test]
fn an_alias_is_tried_in_written_order_and_explained() {
    insta::assert_snapshot!(words(&run(&table(THREE), &asking("sonnet"))), @r#"
    + anthropic/claude-sonnet-4-5: target of alias "sonnet"
    + openrouter/anthropic/claude-sonnet-4.5: target of alias "sonnet"
    + local/qwen3: the fallback provider
    - openai/sonnet: not among those named for this request
    "#);
}
