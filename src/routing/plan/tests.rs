#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::{Config, ProviderId};
use crate::dialect::Head;

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
    plan(&Inputs { facts, table, vital, affinity, credential: true, now, draw: 7, explain: true }, balance)
}

/// A plan in words, as `cproxy explain` would say it.
fn words(plan: &Plan) -> String {
    let mut lines: Vec<String> =
        plan.candidates.iter().map(|c| format!("+ {}: {}", c.target, c.why)).collect();
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

#[test]
fn a_provider_in_front_of_the_model_pins_the_request_to_it() {
    let table = table(THREE);
    insta::assert_snapshot!(words(&run(&table, &asking("openrouter/openai/gpt-5.2"))), @r#"
    + openrouter/openai/gpt-5.2: named in front of the model
    - anthropic/openrouter/openai/gpt-5.2: not among those named for this request
    - local/openrouter/openai/gpt-5.2: not among those named for this request
    - openai/openrouter/openai/gpt-5.2: not among those named for this request
    "#);
    let mut facts = asking("openrouter/openai/gpt-5.2");
    facts.provider = Some(ProviderId::from("openrouter"));
    assert_eq!(targets(&run(&table, &facts)), ["openrouter/openai/gpt-5.2"]);
}

#[test]
fn a_named_provider_is_asked_for_what_an_alias_says_of_it() {
    let mut facts = asking("sonnet");
    facts.provider = Some(ProviderId::from("openrouter"));
    assert_eq!(targets(&run(&table(THREE), &facts)), ["openrouter/anthropic/claude-sonnet-4.5"]);
}

#[test]
fn an_unknown_provider_is_an_answer_not_a_detour() {
    let mut facts = asking("gpt-5.2");
    facts.provider = Some(ProviderId::from("opnai"));
    let plan = run(&table(THREE), &facts);
    assert!(plan.candidates.is_empty());
    assert!(words(&plan).contains("- opnai/gpt-5.2: there is no provider of this name"));
}

#[test]
fn a_model_name_with_a_slash_is_no_provider_where_that_provider_cannot_be_asked() {
    let config = config(THREE);
    let keyless = |id: &ProviderId| match id.as_str() {
        "openai" => Usable::NoKey("OPENAI_API_KEY is not set".into()),
        _ => Usable::Ready,
    };
    let table = Table::new(1, &config, keyless);
    insta::assert_snapshot!(words(&run(&table, &asking("openai/gpt-5.2"))), @r#"
    + openrouter/openai/gpt-5.2: lists the model; tier 2
    + local/qwen3: the fallback provider
    - anthropic/openai/gpt-5.2: does not list the model
    - openai/openai/gpt-5.2: no key: OPENAI_API_KEY is not set
    "#);
    // With its key the first part names the provider.
    assert_eq!(targets(&run(&super::tests::table(THREE), &asking("openai/gpt-5.2"))), ["openai/gpt-5.2"]);
}

#[test]
fn those_who_list_a_model_by_name_come_before_globs_and_in_tiers() {
    insta::assert_snapshot!(words(&run(&table(THREE), &asking("gpt-5.2"))), @r#"
    + openai/gpt-5.2: lists the model; tier 1
    + openrouter/gpt-5.2: lists "gpt-*"; tier 2
    + local/qwen3: the fallback provider
    - anthropic/gpt-5.2: does not list the model
    "#);
    insta::assert_snapshot!(words(&run(&table(THREE), &asking("claude-sonnet-4-5"))), @r#"
    + anthropic/claude-sonnet-4-5: lists the model; tier 1
    + openrouter/claude-sonnet-4-5: lists the model; tier 2
    + local/qwen3: the fallback provider
    - openai/claude-sonnet-4-5: does not list the model
    "#);
}

#[test]
fn the_million_token_suffix_is_matched_with_and_without_and_not_sent() {
    let table = table(THREE);
    let plan = run(&table, &asking("claude-sonnet-4-5[1m]"));
    assert!(plan.wide_window);
    assert_eq!(targets(&plan)[0], "anthropic/claude-sonnet-4-5");
    assert_eq!(targets(&run(&table, &asking("sonnet[1m]")))[0], "anthropic/claude-sonnet-4-5");
    assert_eq!(
        targets(&run(&table, &asking("anthropic/claude-opus-4-6[1m]"))),
        ["anthropic/claude-opus-4-6"]
    );
    assert!(!run(&table, &asking("sonnet")).wide_window);
}

#[test]
fn a_model_is_asked_for_by_the_name_under_which_it_is_shown_unless_that_is_anothers_own() {
    let shown = table(&format!(
        "{THREE}\n[[routing.rules]]\nname = \"mini\"\nmodel = \"gpt-5-mini\"\ntargets = [\"openai/gpt-5-mini\"]\n"
    ));
    for (asked, target) in [
        ("claude-via-gpt-5.2", "openai/gpt-5.2"),
        ("claude-via-gpt-5.2[1m]", "openai/gpt-5.2"),
        ("claude-via-sonnet", "anthropic/claude-sonnet-4-5"),
        ("claude-via-openai/gpt-5.2", "openai/gpt-5.2"),
        ("claude-via-gpt-5-mini", "openai/gpt-5-mini"),
    ] {
        assert_eq!(targets(&run(&shown, &asking(asked)))[0], target, "{asked}");
    }
    let own = "[providers.other]\nkind = \"openai\"\nmodels = [\"claude-via-x\", \"x\"]\n";
    assert_eq!(targets(&run(&table(own), &asking("claude-via-x")))[0], "other/claude-via-x");
}

#[test]
fn a_model_that_nobody_lists_goes_to_the_default_then_to_the_fallback() {
    let text = format!("{THREE}\ndefault_provider = \"openai\"");
    insta::assert_snapshot!(words(&run(&table(&text), &asking("mystery"))), @r#"
    + openai/mystery: the default provider: nobody who lists the model can be asked
    + local/qwen3: the fallback provider
    - anthropic/mystery: does not list the model
    - openrouter/mystery: does not list the model
    "#);
}

#[test]
fn the_only_provider_needs_not_be_called_the_default() {
    let table = table("[providers.here]\nkind = \"local\"");
    insta::assert_snapshot!(words(&run(&table, &asking("llama"))), @r#"
    + here/llama: the only provider
    "#);
    insta::assert_snapshot!(words(&run(&table, &asking(""))), @r#"
    - here/: the request names no model, and it has no default_model
    "#);
}

#[test]
fn the_first_rule_that_matches_sets_targets_and_effort_or_refuses() {
    let text = format!(
        r#"{THREE}
        [[routing.rules]]
        name = "no secrets abroad"
        header = {{ X-Project = "secret-*" }}
        model = "claude-*"
        refuse = "this project stays on this machine"
        [[routing.rules]]
        name = "background"
        role = "background"
        targets = ["local"]
        effort = "low"
        [[routing.rules]]
        name = "long"
        above_tokens = 60000
        targets = ["sonnet", "openrouter/google/gemini-3-pro", "openai"]
    "#
    );
    let table = table(&text);
    let background = run(&table, &asking("claude-haiku-4-5"));
    assert_eq!(background.effort.as_deref(), Some("low"));
    assert_eq!(targets(&background), ["local/qwen3"]);
    assert_eq!(background.candidates[0].why.to_string(), "target of rule \"background\"");

    let mut long = asking("gpt-5.2");
    long.head.estimated_tokens = 60_001;
    assert_eq!(
        targets(&run(&table, &long)),
        [
            "anthropic/claude-sonnet-4-5",
            "openrouter/anthropic/claude-sonnet-4.5",
            "openrouter/google/gemini-3-pro",
            "openai/gpt-5.2",
            "local/qwen3"
        ]
    );

    let mut secret = asking("claude-opus-4-6");
    secret.headers.push((Arc::from("x-project"), Arc::from("secret-7")));
    let plan = run(&table, &secret);
    assert_eq!(plan.refused.as_deref(), Some("this project stays on this machine"));
    assert!(plan.candidates.is_empty());
    // A provider named by the caller does not lead past the refusal.
    secret.provider = Some(ProviderId::from("anthropic"));
    assert!(run(&table, &secret).refused.is_some());
}

#[test]
fn a_rule_may_be_for_one_program_alone() {
    let text = format!("{THREE}\n[[routing.rules]]\nclient = \"codex_cli_rs/*\"\ntargets = [\"local\"]\n");
    let table = table(&text);
    let mut facts = asking("claude-opus-4-6");
    for (client, is_local) in
        [(None, false), (Some("claude-cli/2.1.197 (external, cli)"), false), (Some("codex_cli_rs/0.9"), true)]
    {
        facts.client = client.map(Arc::from);
        assert_eq!(targets(&run(&table, &facts))[0].starts_with("local/"), is_local, "{client:?}");
    }
}

#[test]
fn who_cannot_serve_is_passed_over_and_who_may_not_comes_later() {
    let table = table(
        r#"
        [providers.a]
        kind = "local"
        models = ["m"]
        capabilities = { images = false }
        [providers.b]
        kind = "local"
        models = ["m"]
        capabilities = { images = true, reasoning = false }
        [providers.c]
        kind = "local"
        models = ["m"]
        capabilities = { images = true, reasoning = true, context_window = 1000 }
        [providers.d]
        kind = "local"
        models = ["m"]
        priority = 9
        capabilities = { images = true, reasoning = true }
    "#,
    );
    let mut facts = asking("m");
    facts.head = Head { images: true, thinking: true, estimated_tokens: 2000, ..facts.head };
    insta::assert_snapshot!(words(&run(&table, &facts)), @r#"
    + d/m: lists the model; tier 9
    + b/m: lists the model; tier 1; behind others: not known to do reasoning
    - a/m: does not do images
    - c/m: about 2000 tokens of input do not fit its window of 1000
    "#);
    facts.head.estimated_tokens = 900;
    facts.head.max_tokens = Some(500);
    insta::assert_snapshot!(words(&run(&table, &facts)), @r#"
    + d/m: lists the model; tier 9
    + b/m: lists the model; tier 1; behind others: not known to do reasoning
    + c/m: lists the model; tier 1; behind others: input and output together may exceed its context window
    - a/m: does not do images
    "#);
}

const PAIR: &str = r#"
    [providers.a]
    kind = "openai"
    models = ["m"]
    weight = 3
    [providers.b]
    kind = "openai"
    models = ["m"]
    limits = { max_concurrent = 4 }
"#;

#[test]
fn where_the_price_decides_it_is_said() {
    let table = table(&format!(
        "{PAIR}\n[providers.c]\nkind = \"openai\"\nmodels = [\"m\"]\n[routing]\nstrategy = \"cost\"\n\
         [prices]\n\"a/m\" = {{ input = 3.0, output = 15.0 }}\n\"b/m\" = {{ input = 0.5, output = 2.5 }}"
    ));
    let mut facts = asking("m");
    (facts.head.estimated_tokens, facts.head.max_tokens) = (10_000, Some(400));
    insta::assert_snapshot!(words(&run(&table, &facts)), @r#"
    + b/m: lists the model; tier 1, by price (about $0.006000)
    + a/m: lists the model; tier 1, by price (about $0.036000)
    + c/m: lists the model; tier 1, by price (unknown, so last)
    "#);
}

#[test]
fn who_is_blocked_for_a_while_is_a_last_resort() {
    let table = table(PAIR);
    let now = Instant::now() + Duration::from_secs(3600);
    let soon = Some(now + Duration::from_secs(5));
    let late = Some(now + Duration::from_secs(50));
    let facts = asking("m");
    let with = |vital: &dyn Fn(usize, &str) -> Vital| {
        let inputs = Inputs {
            facts: &facts,
            table: &table,
            vital,
            affinity: None,
            credential: true,
            now,
            draw: 0,
            explain: true,
        };
        words(&plan(&inputs, &mut Balance::default()))
    };
    insta::assert_snapshot!(with(&|row, _| Vital { open_until: soon.filter(|_| row == 0), ..well() }), @r#"
    + b/m: lists the model; tier 1
    + a/m: lists the model; tier 1; its breaker is open for 5 s: a last resort
    "#);
    insta::assert_snapshot!(with(&|row, _| {
        Vital { open_until: late.filter(|_| row == 0), embargo_until: soon.filter(|_| row == 1), ..well() }
    }), @r#"
    + b/m: lists the model; tier 1; asked to be left alone for 5 s: a last resort
    + a/m: lists the model; tier 1; its breaker is open for 50 s: a last resort
    "#);
    insta::assert_snapshot!(with(&|row, _| Vital { headroom: row == 1, open: 2, ..well() }), @r#"
    + b/m: lists the model; tier 1
    + a/m: lists the model; tier 1; its rate limit is used up: a last resort
    "#);
    insta::assert_snapshot!(with(&|_, _| Vital::default()), @r#"
    + a/m: lists the model; tier 1; its health check fails: a last resort
    + b/m: lists the model; tier 1; its health check fails: a last resort
    "#);
    // A moment that has passed blocks nobody.
    let past = Some(now - Duration::from_secs(1));
    insta::assert_snapshot!(with(&|row, _| Vital { open_until: past, open: 4 * row as u32, ..well() }), @r#"
    + a/m: lists the model; tier 1
    + b/m: lists the model; tier 1; all its places are taken: a last resort
    "#);
}

#[test]
fn a_session_stays_where_it_was_served_while_that_is_well() {
    let table = table(PAIR);
    let facts = asking("m");
    let home = Target::parse("b/m").unwrap();
    let mut balance = Balance::default();
    for _ in 0..10 {
        let plan = run_with(&table, &facts, &|_, _| well(), Some(&home), &mut balance);
        assert_eq!(targets(&plan), ["b/m", "a/m"]);
        assert!(plan.candidates[0].why.to_string().starts_with("served this session before"));
    }
    let sick = |row: usize, _: &str| Vital { alive: row == 0, ..well() };
    assert_eq!(targets(&run_with(&table, &facts, &sick, Some(&home), &mut balance)), ["a/m", "b/m"]);
    // The fallback is a refuge, not a home.
    let text = format!("{PAIR}\n[routing]\nfallback_provider = \"b\"\n[models]\nx = \"a/y\"");
    let home = Target::parse("b/x").unwrap();
    let table = self::table(&text);
    let plan = run_with(&table, &asking("x"), &|_, _| well(), Some(&home), &mut balance);
    assert_eq!(targets(&plan), ["a/y", "b/x"]);
}

#[test]
fn weights_are_kept_exactly_and_evenly_spread() {
    let table = table(PAIR);
    let mut balance = Balance::default();
    let firsts: String = (0..8)
        .map(|_| {
            let plan = run_with(&table, &asking("m"), &|_, _| well(), None, &mut balance);
            plan.candidates[0].target.provider.to_string()
        })
        .collect();
    assert_eq!(firsts, "aabaaaba");
}

#[test]
fn aliases_may_lead_to_aliases_but_never_in_circles() {
    let table = table(
        r#"
        [providers.a]
        kind = "openai"
        [models]
        "x/one" = "x/two"
        "x/two" = ["x/one", "a/m", "nobody/n"]
        start = "x/one"
    "#,
    );
    let plan = run(&table, &asking("start"));
    assert_eq!(targets(&plan), ["a/m"]);
    assert!(words(&plan).contains("- nobody/n: there is no provider of this name"));
}

#[test]
fn openai_models_that_need_it_are_known_by_their_version() {
    use crate::routing::table::wants_responses;
    for model in ["gpt-5.4", "gpt-5.4-mini", "gpt-5.10", "gpt-6"] {
        assert!(wants_responses(model), "{model}");
    }
    for model in ["gpt-5", "gpt-5.2", "gpt-4o", "gpt-oss-120b", "o3", "gpt-"] {
        assert!(!wants_responses(model), "{model}");
    }
}

prop_compose! {
    fn any_head()(
        model in prop_oneof![
            Just(String::new()),
            "[ab/m*?]{0,6}",
            Just("m".to_string()), Just("a/m".to_string()), Just("m[1m]".to_string()), Just("/".to_string()),
            Just("x".repeat(5000)),
        ],
        flags in any::<[bool; 6]>(),
        estimated_tokens in prop_oneof![Just(0), 0..10_000u64, Just(u64::MAX)],
        max_tokens in proptest::option::of(any::<u64>()),
    ) -> Head {
        let [stream, images, documents, thinking, web_search, tools] = flags;
        Head {
            model, stream, images, documents, thinking, web_search, tools: u32::from(tools),
            estimated_tokens, max_tokens, ..Head::default()
        }
    }
}

prop_compose! {
    fn any_vital()(
        flags in any::<[bool; 3]>(),
        open in prop_oneof![0..5u32, Just(u32::MAX)],
        untils in any::<[Option<u8>; 2]>(),
        latency in proptest::option::of(any::<u32>()),
        error_rate in any::<f64>(),
    ) -> (Vital, [Option<u8>; 2]) {
        let [alive, healthy, headroom] = flags;
        let latency = latency.map(|ms| Duration::from_millis(ms.into()));
        (Vital { alive, healthy, headroom, open, latency, error_rate, ..Vital::default() }, untils)
    }
}

fn any_config() -> impl Strategy2<Value = Config> {
    use crate::config::{Alias, Capabilities, Limits, Provider, ProviderKind, Routing, Rule, Strategy};
    let kinds = prop_oneof![
        Just(ProviderKind::Anthropic),
        Just(ProviderKind::Openai),
        Just(ProviderKind::Openrouter),
        Just(ProviderKind::Local),
        Just(ProviderKind::Gemini)
    ];
    let provider = (
        kinds,
        proptest::collection::vec("[ab/m*?]{1,4}", 0..4),
        proptest::option::of("[abm]{1,2}"),
        0..3u32,
        prop_oneof![0..4u32, Just(u32::MAX)],
        any::<[Option<bool>; 3]>(),
        proptest::option::of(0..5u32),
    )
        .prop_map(|(kind, models, default_model, priority, weight, can, max_concurrent)| {
            let mut provider: Provider = toml::from_str("kind = \"local\"").unwrap();
            provider.kind = kind;
            provider.models = models;
            provider.default_model = default_model;
            provider.priority = priority;
            provider.weight = weight;
            provider.capabilities = Capabilities {
                images: can[0],
                reasoning: can[1],
                tools: can[2],
                context_window: max_concurrent.map(|n| u64::from(n) * 1000),
                ..Capabilities::default()
            };
            provider.limits = Limits { max_concurrent, ..Limits::default() };
            provider
        });
    let target = ("[abc]", "[abm/*]{1,3}").prop_map(|(provider, model)| Target {
        provider: ProviderId::from(provider.as_str()),
        model: model.into(),
    });
    let alias = ("[abcm/*?]{1,3}", proptest::collection::vec(target, 0..4))
        .prop_map(|(pattern, targets)| Alias { pattern, targets });
    let rule = (proptest::option::of("[abm*]{1,2}"), proptest::collection::vec("[abc/m]{1,3}", 0..3))
        .prop_map(|(model, targets)| Rule { model, targets, ..Rule::default() });
    let strategy = prop_oneof![
        Just(Strategy::RoundRobin),
        Just(Strategy::Weighted),
        Just(Strategy::LeastConnections),
        Just(Strategy::Latency),
        Just(Strategy::Cost),
        Just(Strategy::Score)
    ];
    (
        proptest::collection::btree_map("[abcde]", provider, 0..5),
        proptest::collection::vec(alias, 0..4),
        proptest::collection::vec(rule, 0..2),
        strategy,
        proptest::option::of("[abc]"),
        proptest::option::of("[abc]"),
    )
        .prop_map(|(providers, models, rules, strategy, default, fallback)| Config {
            providers: providers.into_iter().map(|(id, p)| (ProviderId::from(id.as_str()), p)).collect(),
            models,
            routing: Routing {
                rules,
                strategy,
                default_provider: default.map(|id| ProviderId::from(id.as_str())),
                fallback_provider: fallback.map(|id| ProviderId::from(id.as_str())),
                ..Routing::default()
            },
            ..Config::default()
        })
}

use proptest::strategy::Strategy as Strategy2;

proptest! {
    /// Whatever the table and the request: no panic, nobody twice, nobody both chosen and passed over,
    /// nobody unfit chosen, and nobody blocked in front of somebody free.
    #[test]
    fn a_plan_is_always_in_order(
        config in any_config(),
        head in any_head(),
        vitals in proptest::collection::vec(any_vital(), 5),
        named in proptest::option::of("[abcx]"),
        draws in any::<[u64; 3]>(),
    ) {
        let table = Table::new(1, &config, |id| match id.as_str() {
            "e" => Usable::Disabled,
            _ => Usable::Ready,
        });
        let facts = Facts {
            head,
            provider: named.map(|name| ProviderId::from(name.as_str())),
            ..Facts::default()
        };
        let now = Instant::now() + Duration::from_secs(1000);
        let at = |offset: Option<u8>| offset.map(|s| now + Duration::from_secs(s.into()) - Duration::from_secs(100));
        let vital = |row: usize, _: &str| {
            let (vital, untils) = vitals[row];
            Vital { open_until: at(untils[0]), embargo_until: at(untils[1]), ..vital }
        };
        let affinity = Target::parse("a/m").unwrap();
        let mut balance = Balance::default();
        for draw in draws {
            let inputs = Inputs {
                facts: &facts, table: &table, vital: &vital, affinity: Some(&affinity), credential: true, now, draw, explain: true,
            };
            let plan = plan(&inputs, &mut balance);
            let chosen = targets(&plan);
            for (at, target) in chosen.iter().enumerate() {
                prop_assert!(!chosen[..at].contains(target), "twice: {}", words(&plan));
                prop_assert!(!plan.skipped.iter().any(|s| &s.target.to_string() == target), "{}", words(&plan));
            }
            let first_blocked = plan.candidates.iter().position(|c| c.why.blocked.is_some());
            let last_free = plan.candidates.iter().rposition(|c| c.why.blocked.is_none());
            if let (Some(blocked), Some(free)) = (first_blocked, last_free) {
                prop_assert!(free < blocked, "{}", words(&plan));
            }
            for candidate in &plan.candidates {
                let row = &table.rows[candidate.row];
                prop_assert_eq!(&row.id, &candidate.target.provider);
                prop_assert_eq!(&row.usable, &Usable::Ready);
                prop_assert!(!candidate.target.model.is_empty());
                prop_assert!(!(facts.head.images && row.capabilities.images == Some(false)));
                prop_assert!(candidate.window.is_none_or(|w| w >= facts.head.estimated_tokens));
                prop_assert_eq!(candidate.window, row.window(plan.wide_window));
            }
            if let Some(provider) = &facts.provider {
                prop_assert!(plan.candidates.iter().all(|c| &c.target.provider == provider));
            }
            // Explained: each provider is named at least once.
            for row in &table.rows {
                prop_assert!(
                    plan.candidates.iter().any(|c| c.target.provider == row.id)
                        || plan.skipped.iter().any(|s| s.target.provider == row.id)
                );
            }
            prop_assert!(words(&plan).len() < 100_000);
        }
    }
}

#[test]
#[ignore = "a measurement: cargo test --release --lib routing::plan -- --ignored --nocapture"]
#[allow(clippy::print_stdout)]
fn how_long_a_plan_takes() {
    let mut providers = String::new();
    for name in ["a", "b", "c", "d"] {
        providers +=
            &format!("[providers.{name}]\nkind = \"openai\"\nmodels = [\"gpt-5.2\", \"claude-*\"]\n");
    }
    let table = table(&providers);
    let mut balance = Balance::default();
    let now = Instant::now();
    for model in ["gpt-5.2", "claude-sonnet-4-5", "a/gpt-5.2"] {
        let facts = asking(model);
        let runs = 200_000;
        let start = Instant::now();
        for draw in 0..runs {
            let vital = |_: usize, _: &str| well();
            let inputs = Inputs {
                facts: &facts,
                table: &table,
                vital: &vital,
                affinity: None,
                credential: true,
                now,
                draw,
                explain: false,
            };
            std::hint::black_box(plan(&inputs, &mut balance));
        }
        println!("{model}: {:?} a plan", start.elapsed() / runs as u32);
    }
}

#[test]
fn a_plan_reads_as_a_page_and_a_plan_without_candidates_as_a_sentence() {
    let text = format!(
        r#"{THREE}
        [[routing.rules]]
        name = "subagents"
        role = "subagent"
        targets = ["openrouter/google/gemini-3-flash", "sonnet"]
        effort = "low"
    "#
    );
    let table = table(&text);
    let mut facts = asking("claude-sonnet-4-5");
    facts.agent = Some(Arc::from("agent-7"));
    insta::assert_snapshot!(run(&table, &facts), @r#"
    rule "subagents" matches
    reasoning effort: low
    1. openrouter/google/gemini-3-flash in openai-chat: target of rule "subagents"
    2. anthropic/claude-sonnet-4-5 in anthropic: target of rule "subagents"
    3. openrouter/anthropic/claude-sonnet-4.5 in openai-chat: target of rule "subagents"
    4. local/qwen3 in openai-chat: the fallback provider
    -  openai/claude-sonnet-4-5: not among those named for this request
    "#);
    insta::assert_snapshot!(run(&table, &asking("gpt-5.2")), @r#"
    1. openai/gpt-5.2 in openai-chat: lists the model; tier 1
    2. openrouter/gpt-5.2 in openai-chat: lists "gpt-*"; tier 2
    3. local/qwen3 in openai-chat: the fallback provider
    -  anthropic/gpt-5.2: does not list the model
    "#);

    let two = "[providers.a]\nkind = \"openai\"\n[providers.b]\nkind = \"anthropic\"\nauth = \"caller\"";
    let keyless = |id: &ProviderId| match id.as_str() {
        "a" => Usable::NoKey("OPENAI_API_KEY is not set".into()),
        _ => Usable::Ready,
    };
    let table = Table::new(1, &config(two), keyless);
    let facts = asking("claude-opus-4-6");
    let inputs = Inputs {
        facts: &facts,
        table: &table,
        vital: &|_, _| well(),
        credential: false,
        affinity: None,
        now: Instant::now(),
        draw: 0,
        explain: false,
    };
    let nobody = plan(&inputs, &mut Balance::default());
    insta::assert_snapshot!(nobody.nobody("claude-opus-4-6"), @r#"
    no provider can serve "claude-opus-4-6" (b: it takes the caller's own credential, and the caller sent none; a: no key: OPENAI_API_KEY is not set)
    "#);
    let with = Inputs { credential: true, ..inputs };
    assert_eq!(targets(&plan(&with, &mut Balance::default())), ["b/claude-opus-4-6"]);
}

#[test]
fn the_suffix_for_a_million_tokens_widens_the_window_at_anthropic() {
    let text = "[providers.a]\nkind = \"anthropic\"\ncapabilities = { context_window = 200000 }";
    let table = table(text);
    let mut facts = asking("claude-sonnet-4-5");
    facts.head.estimated_tokens = 300_000;
    assert!(run(&table, &facts).candidates.is_empty());
    facts.head.model.push_str("[1m]");
    let plan = run(&table, &facts);
    assert_eq!(plan.candidates[0].window, Some(1_000_000));
}

#[test]
fn past_the_mark_of_a_budget_what_costs_less_goes_first_and_rules_can_tell() {
    let text = r#"
        [providers.anthropic]
        kind = "anthropic"
        [providers.openrouter]
        kind = "openrouter"
        [providers.local]
        kind = "local"
        [models]
        opus = ["anthropic/claude-opus-4-1", "openrouter/of-unknown-price", "anthropic/claude-haiku-4-5"]
        [routing]
        fallback_provider = "local"
        [[routing.rules]]
        model = "sonnet"
        over_budget = true
        targets = ["local/qwen3"]
    "#;
    let table = table(text);
    let targets = |facts: &Facts, affinity: Option<&Target>| -> Vec<String> {
        let plan = run_with(&table, facts, &|_, _| well(), affinity, &mut Balance::default());
        plan.candidates.iter().map(|candidate| candidate.target.to_string()).collect()
    };
    let usual = targets(&asking("opus"), None);
    assert_eq!(usual[..2], ["anthropic/claude-opus-4-1", "openrouter/of-unknown-price"]);
    let home = Target { provider: "anthropic".into(), model: "claude-opus-4-1".into() };
    let short = Facts { over_budget: true, ..asking("opus") };
    let expected = ["anthropic/claude-haiku-4-5", "anthropic/claude-opus-4-1", "openrouter/of-unknown-price"];
    // Not even a session's home goes before it; the fallback stays last, though it is free.
    assert_eq!(targets(&short, Some(&home))[..3], expected);
    let plan = run(&table, &short);
    assert!(plan.candidates[0].why.to_string().contains("a budget's mark is passed"), "{plan}");

    assert_eq!(targets(&Facts { over_budget: true, ..asking("sonnet") }, None)[0], "local/qwen3");
    assert!(run(&table, &asking("sonnet")).rule.is_none());
}
