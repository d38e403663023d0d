#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use crate::config::*;

fn load_text(text: &str) -> Result<Loaded, ConfigError> {
    let read = |_: &Path| -> io::Result<FileText> { Err(io::ErrorKind::NotFound.into()) };
    let environment = Environment { variables: BTreeMap::new(), read: &read };
    load(&Source::Text(text.into(), "/".into()), &environment, &Overrides::default())
}

const PROVIDERS: &str = "[providers.near]\nkind = \"local\"\nbase_url = \"http://127.0.0.1:1\"\n";

/// Each text is refused with a single problem on the line that is marked with `#!`, for the reason after it.
#[test]
fn contradictions_are_refused_where_they_stand() {
    for text in [
        "[server]\nhost = \"0.0.0.0\" #! server.token_file",
        "[server]\nmax_requests = 0 #! 1 is the least",
        "[server]\nmax_connections = 0 #! 1 is the least",
        "[server]\ndrain = \"99999h\" #! longer than a week",
        "[routing]\ndefault_provider = \"naer\" #! did you mean \"near\"?",
        "[routing]\nfallback_provider = \"far\" #! unknown provider \"far\" (defined: near)",
        "[routing]\nmax_hops = 0 #! 1 is the least",
        "[routing]\nmax_hops = 1000 #! more than 32",
        "[routing]\nretry_attempts = 100 #! more than 10",
        "[routing]\ndeadline = \"0s\" #! longer than 0",
        "[routing]\ndeadline = \"1s\"\nretry_delay = \"2s\" #! longer than routing.deadline",
        "[routing.score]\nload = -1.0 #! from 0 to 1000",
        "[routing.score]\nload = nan #! from 0 to 1000",
        "[routing.score] #! all shares are 0\npriority = 0.0\nload = 0.0\nlatency = 0.0\ncost = 0.0",
        "[models]\n\"claude-*\" = [\"far/x\"] #! unknown provider \"far\"",
        "[[routing.rules]]\ntargets = [\"near/x\", \"far/x\"] #! unknown provider \"far\"",
        "[[routing.rules]]\ntargets = [\"nera\"] #! did you mean \"near\"?",
        "[[routing.rules]]\ntargets = [\"near/\"] #! neither",
        "[[routing.rules]]\nmodel = \"\" #! an empty glob\ntargets = [\"near\"]",
        "[[routing.rules]]\neffort = \"hihg\" #! did you mean \"high\"?",
        "[[routing.rules]]\nrefuse = \"no\" #! can't also set\ntargets = [\"near\"]",
        "[[routing.rules]]\nheader = { \"a b\" = \"x\" } #! not a legal header name\ntargets = [\"near\"]",
        "[[routing.rules]]\nheader = { Authorization = \"x\" } #! don't see credentials\ntargets = [\"near\"]",
        "[cache]\nenabled = true\nttl = \"0s\" #! longer than 0",
        "[cache]\nenabled = true\nmax_size = \"0\" #! hold no answer",
        "[logging]\nlevel = \"cproxy=loud\" #! neither a level",
        "[mcp]\ndefault_model = \" \" #! must not be empty",
        "[prices]\nx = { input = -1.0, output = 2.0 } #! from 0 on",
        "[prices]\nx = { input = 1.0, output = nan } #! from 0 on",
        "[[routing.rules]]\nclient = \" \" #! an empty glob\ntargets = [\"near\"]",
        "[providers.\"a/b\"] #! a provider's name\nkind = \"openai\"",
        "[providers.a]\nkind = \"openai\"\nweight = 0 #! disabled = true",
        "[providers.a]\nkind = \"openai\"\nweight = 99999 #! shares",
        "[providers.a]\nkind = \"openai\"\nauth = \"caller\" #! kind \"anthropic\" only",
        "[providers.a] #! needs base_url\nkind = \"local\"",
        "[providers.a]\nkind = \"anthropic\"\nbase_url = \"http://169.254.169.254\" #! metadata",
        "[providers.a]\nkind = \"anthropic\"\napi = \"chat\" #! only one API",
        "[providers.a]\nkind = \"local\"\nbase_url = \"http://[::1]:1\"\nvariant = \"olama\" #! did you mean \"ollama\"?",
        "[providers.a]\nkind = \"anthropic\"\nvariant = \"ollama\" #! no variants",
        "[providers.a]\nkind = \"openai\"\nmodels = [\"x\", \"y\", \"x\"] #! listed twice",
        "[providers.a]\nkind = \"openai\"\nmodels = [\"\"] #! must not be empty",
        "[providers.a]\nkind = \"openai\"\ndefault_model = \"gpt-*\" #! exact name",
        "[providers.a]\nkind = \"openai\"\nlimits = { max_concurrent = 0 } #! 0 would admit nothing",
        "[providers.a]\nkind = \"openai\"\nlimits = { requests_per_minute = 0 } #! 0 would admit nothing",
        "[providers.a.limits]\ntokens_per_minute = 5\ntokens_per_day = 4 #! 4 a day is less\n[providers.a]\nkind = \"openai\"",
        "[providers.a]\nkind = \"openai\"\ntimeouts = { connect = \"0s\" } #! longer than 0",
        "[providers.a]\nkind = \"openai\"\ntimeouts = { connect = \"20s\", total = \"15s\" } #! longer than timeouts.total",
        "[providers.a]\nkind = \"openai\"\nhealth = { timeout = \"0s\" } #! longer than 0",
        "[providers.a]\nkind = \"openai\"\nhealth = { interval = \"1ms\" } #! less than a second",
        "[providers.a]\nkind = \"openai\"\nheaders = { Host = \"x\" } #! the daemon's own",
        "[providers.a]\nkind = \"openai\"\nheaders = { \"x y\" = \"x\" } #! legal header name",
        "[providers.a]\nkind = \"openai\"\nheaders = { X-A = \"a\\nb\" } #! legal header value",
        "[providers.a]\nkind = \"openai\"\nheaders = { X-A = \"a\", x-a = \"b\" } #! listed twice",
        "[providers.a]\nkind = \"openai\"\ncapabilities = { context_window = 5, max_output_tokens = 6 } #! more than",
        "[providers.a]\nkind = \"openai\"\ncapabilities = { context_window = 0 } #! 0 tokens",
    ] {
        let text = format!("{PROVIDERS}{text}");
        let error = load_text(&text).expect_err(&text);
        let (line, reason) =
            text.lines().enumerate().find_map(|(n, line)| Some((n + 1, line.split_once("#! ")?.1))).unwrap();
        let [problem] = error.problems.as_slice() else { panic!("{text}\n{error}") };
        assert!(problem.headline().contains(reason), "{text}\n{error}");
        assert_eq!(problem.line, Some(line), "{text}\n{error}");
    }
}

#[test]
fn an_address_beyond_the_machine_is_fine_with_a_token() {
    load_text("[server]\nhost = \"0.0.0.0\"\ntoken_file = \"token\"\n").unwrap();
    load_text("[server]\nhost = \"::1\"\n").unwrap();
}

#[test]
fn the_command_line_is_held_to_the_same_rules() {
    let read = |_: &Path| -> io::Result<FileText> { Err(io::ErrorKind::NotFound.into()) };
    let environment = Environment { variables: BTreeMap::new(), read: &read };
    let overrides = Overrides { host: Some("0.0.0.0".parse().unwrap()), port: None };
    let error = load(&Source::Text(String::new(), "/".into()), &environment, &overrides).unwrap_err();
    assert!(error.to_string().starts_with("--host: server.host: 0.0.0.0 can be reached"), "{error}");
}

#[test]
fn every_provider_has_its_address_after_loading() {
    let loaded = load_text(
        "[providers.a]\nkind = \"anthropic\"\n[providers.b]\nkind = \"openai\"\nbase_url = \"https://x.example/\"\n",
    )
    .unwrap();
    assert_eq!(loaded.config.providers["a"].base_url.as_deref(), Some("https://api.anthropic.com"));
    assert_eq!(loaded.config.providers["b"].base_url.as_deref(), Some("https://x.example/v1"));
}

#[test]
fn what_is_legal_but_strange_is_a_warning() {
    for (text, warning) in [
        ("[providers.a]\nkind = \"local\"\nbase_url = \"http://192.168.1.2\"", "plain http"),
        ("[providers.a]\nkind = \"openai\"\nheaders = { Authorization = \"x\" }", "credential in the config"),
        ("[providers.a]\nkind = \"anthropic\"\nauth = \"caller\"\napi_key_env = \"A\"", "are not used"),
        (
            "[providers.a]\nkind = \"openai\"\ndisabled = true\n[routing]\ndefault_provider = \"a\"",
            "disabled",
        ),
        ("[providers.a]\nkind = \"openai\"\n[models]\n\"*\" = \"a/x\"\nb = \"a/y\"", "never match"),
        (
            "[providers.a]\nkind = \"openai\"\n[[routing.rules]]\ntargets = [\"a\"]\n[[routing.rules]]\neffort = \"low\"",
            "rules[1] never matches",
        ),
        ("[faults]\nplan = \"x\"", "no fault will be injected"),
    ] {
        let loaded = load_text(text).unwrap_or_else(|error| panic!("{text}\n{error}"));
        assert!(loaded.warnings.iter().any(|said| said.contains(warning)), "{text}\n{:?}", loaded.warnings);
    }
}

#[test]
fn a_rule_may_set_the_effort_alone() {
    load_text("[[routing.rules]]\nmodel = \"claude-*\"\neffort = \"low\"\n").unwrap();
}

#[test]
fn extra_fields_of_a_provider_are_free_but_for_those_of_the_caller() {
    let text = "[providers.a]\nkind = \"openrouter\"\n[providers.a.extra]\ntransforms = []\n[providers.a.extra.provider]\norder = [\"x\"]\nallow_fallbacks = false\n";
    let loaded = load_text(text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(loaded.config.providers["a"].extra["provider"]["order"][0], "x");
    let error = load_text("[providers.a]\nkind = \"openrouter\"\nextra = { model = \"x\" }\n").unwrap_err();
    assert!(error.to_string().contains("this field is the caller's"), "{error}");
}
