//! A daemon for tests: its config as text, a simulator for each provider.

use std::collections::BTreeMap;
use std::time::Duration;

use cproxy::config::{self, Environment, Loaded, Overrides, Source};
use cproxy::drill::{Bench, Where};
use cproxy::simulator::script::{Answer, Pace, Rule, Say, Script};

/// Reads a config; every variable that ends in `_KEY` is set.
pub fn config(text: &str) -> Loaded {
    let variables: BTreeMap<String, String> =
        ["A_KEY", "B_KEY", "C_KEY"].map(|name| (name.to_owned(), "secret".to_owned())).into();
    let environment = Environment { variables, read: &|_| Err(std::io::ErrorKind::NotFound.into()) };
    let source = Source::Text(text.to_owned(), "/".into());
    config::load(&source, &environment, &Overrides::default()).expect("a good config")
}

/// A daemon with this config; all simulators follow `script`.
pub async fn daemon(text: &str, wiring: Where, script: impl Fn(&str) -> Script) -> Bench {
    Bench::start(config(text), wiring, |id| script(id.as_str())).await.expect("a daemon")
}

/// Two providers of different dialects for one alias, `m`; the first is asked first.
pub const TWO: &str = r#"
[providers.a]
kind = "anthropic"
api_key_env = "A_KEY"
health = { interval = "0s" }
priority = 1

[providers.b]
kind = "openai"
api = "chat"
api_key_env = "B_KEY"
health = { interval = "0s" }
priority = 2

[models]
m = ["a/claude-x", "b/gpt-x"]

[routing]
retry_delay = "5ms"
"#;

/// What the simulators say in these tests: long enough to be cut anywhere.
pub const TEXT: &str =
    "One two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen.";

/// An answer with that text, at this pace in milliseconds: before the headers, the first output, between outputs.
pub fn paced(headers: u64, first: u64, between: u64) -> Answer {
    let millis = Duration::from_millis;
    let pace =
        Pace { headers: millis(headers), first: millis(first), between: millis(between), ..Pace::default() };
    Answer { pace, parts: Some(vec![Say::Text(TEXT.to_owned())]), ..Answer::default() }
}

/// The same answer to every request.
pub fn always(answer: Answer) -> Script {
    Script::always(answer)
}

/// A rule that holds for its first so many matches.
pub fn first(times: u64, answer: Answer) -> Rule {
    Rule { times: Some(times), answer, ..Rule::default() }
}
