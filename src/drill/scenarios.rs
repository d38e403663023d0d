//! The outages that a drill plays: those of FailoverBench (github.com/failoverbench/failoverbench), in its numbering.

use std::time::Duration;

use crate::config::{AfterOutput, Config, ProviderId};
use crate::simulator::Script;
use crate::simulator::script::{Answer, Fail, FailKind, Figures, Pace, Place, Rule, Say, Trouble, When};

/// What the simulators say.
pub const TEXT: &str = "One two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen \
                        sixteen seventeen eighteen nineteen twenty.";

/// What they count.
pub const USAGE: (u64, u64) = (321, 45);

/// One outage of the provider that is asked first.
pub struct Scenario {
    /// Its number.
    pub name: &'static str,
    /// What happens.
    pub title: &'static str,
    /// What the first provider does.
    pub script: fn() -> Script,
    /// What the others do.
    pub others: fn() -> Script,
    /// What the config must say for it.
    pub setup: fn(&mut Config, &ProviderId),
    /// What callers must see.
    pub expect: Expect,
    /// How long that may take.
    pub within: Within,
    /// Whom one request may have been sent to, and what came of each attempt; see [`fits`].
    pub ways: &'static [&'static str],
    /// The one of them that must have been gone at least once.
    pub must: &'static str,
}

/// What callers must see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// A whole answer, as long as anybody else can give one.
    Served,
    /// A whole answer where it had not begun to flow, or where the config has answers held or continued; else an error
    /// at the place where it broke.
    ServedOrBroken,
    /// The same, but what has been said can't be continued: it lacks nothing but its end.
    ServedOrUnended,
    /// The provider's own error, and nobody else is asked.
    Refused,
}

/// How long an answer may take beyond the time that it takes when all is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Within {
    /// As long as a few quick attempts.
    Soon,
    /// Until the first provider's deadline for the first output has passed.
    FirstOutput,
    /// Until its deadline for a stream that stalls has passed.
    Idle,
    /// As long as the first provider takes: so many seconds.
    Seconds(u64),
}

/// All scenarios.
pub fn all() -> Vec<Scenario> {
    let scenario = |name, title, script| Scenario {
        name,
        title,
        script,
        others: polite,
        setup: |_, _| {},
        expect: Expect::Served,
        within: Within::Soon,
        ways: &["first:ok"],
        must: "first:ok",
    };
    vec![
        Scenario {
            ways: &["first:429 other:ok", "other:ok", "first:ok"],
            must: "first:429 other:ok",
            ..scenario("S01", "429 once, with retry-after", || {
                once(Answer {
                    fail: Some(Fail { status: Some(429), retry_after: Some(2), ..Fail::default() }),
                    ..well()
                })
            })
        },
        Scenario {
            ways: &["first:429 other:ok", "other:ok"],
            must: "first:429 other:ok",
            ..scenario("S02", "429 all the time", || status(429))
        },
        Scenario {
            ways: &["first:5xx first:ok", "first:ok"],
            must: "first:5xx first:ok",
            ..scenario("S03", "500 once", || once(Answer::status(500)))
        },
        Scenario {
            ways: &["first:5xx* other:ok", "other:ok"],
            must: "first:5xx* other:ok",
            ..scenario("S04", "503 all the time", || status(503))
        },
        Scenario {
            ways: &["first:reset first:ok", "first:ok"],
            must: "first:reset first:ok",
            ..scenario("S05", "connection reset", || once(trouble(Trouble::Refuse)))
        },
        Scenario {
            within: Within::FirstOutput,
            ways: &["first:silent other:ok", "other:ok"],
            must: "first:silent other:ok",
            ..scenario("S06", "no answer at all", || always(trouble(Trouble::Silence)))
        },
        Scenario {
            within: Within::Seconds(20),
            ways: &["first:ok", "first:left other:ok", "other:ok"],
            must: "",
            ..scenario("S07", "first output after 20 s", || {
                always(Answer { pace: Pace { first: Duration::from_secs(20), ..Pace::default() }, ..well() })
            })
        },
        Scenario {
            expect: Expect::ServedOrBroken,
            ways: BREAKS,
            must: "",
            ..scenario("S08", "stream cut in the middle", || always(trouble(Trouble::Cut(after(6)))))
        },
        Scenario {
            expect: Expect::ServedOrBroken,
            within: Within::Idle,
            ways: &["first:left", "first:left other:ok", "first:left other:4xx other:ok", "other:ok"],
            must: "",
            ..scenario("S09", "stream stalls in the middle", || always(trouble(Trouble::Stall(after(6)))))
        },
        Scenario {
            expect: Expect::ServedOrBroken,
            ways: BREAKS,
            must: "",
            ..scenario("S10", "malformed event", || always(trouble(Trouble::Corrupt(after(4)))))
        },
        Scenario {
            expect: Expect::ServedOrUnended,
            ways: BREAKS,
            must: "",
            ..scenario("S11", "stream without its last word", || always(trouble(Trouble::NoTerminator)))
        },
        Scenario {
            setup: |config, first| {
                for (id, provider) in &mut config.providers {
                    let window = if id == first { 200_000 } else { 1_000_000 };
                    provider.capabilities.context_window = Some(window);
                }
            },
            ways: &["first:4xx other:ok"],
            must: "first:4xx other:ok",
            ..scenario("S12", "input too long for the model", || failing(FailKind::ContextLength))
        },
        Scenario {
            expect: Expect::Refused,
            ways: &["first:4xx"],
            must: "first:4xx",
            ..scenario("S13", "content refused", || failing(FailKind::ContentPolicy))
        },
        Scenario {
            setup: |config, _| {
                config.routing.after_output = AfterOutput::Continue;
                config.routing.rules.iter_mut().for_each(|rule| rule.after_output = None);
            },
            others: choosy,
            expect: Expect::ServedOrBroken,
            ways: BREAKS,
            must: "",
            ..scenario("S14", "cut, and the next one refuses to go on from words of the model", || {
                always(trouble(Trouble::Cut(after(6))))
            })
        },
        Scenario {
            ways: &["first:ok", "first:5xx* first:ok", "first:5xx* other:ok", "other:ok"],
            must: "first:5xx* other:ok",
            ..scenario("S15", "up and down every five seconds", polite)
        },
        scenario("S16", "tokens are counted", polite),
    ]
}

/// What becomes of a request whose answer breaks: an error where it broke, or another one writes it anew or further.
const BREAKS: &[&str] = &[
    "first:ok",
    "first:cut",
    "first:left",
    "first:cut* other:ok",
    "first:left* other:ok",
    "first:ok* other:ok",
    "first:ok other:4xx other:ok",
    "first:cut other:4xx other:ok",
    "first:left other:4xx other:ok",
    "other:ok",
];

/// Whether the attempts of a request, in order, are those of a way: `first:429 other:ok`. An attempt with a `*` may
/// be made again `retries` times.
pub fn fits(way: &str, attempts: &[String], retries: usize) -> bool {
    let mut rest = attempts;
    for step in way.split(' ').filter(|step| !step.is_empty()) {
        let (what, most) = match step.strip_suffix('*') {
            Some(what) => (what, 1 + retries),
            None => (step, 1),
        };
        let made = rest.iter().take(most).take_while(|attempt| *attempt == what).count();
        if made == 0 {
            return false;
        }
        rest = &rest[made..];
    }
    rest.is_empty()
}

/// The answer of a provider that is well.
pub fn well() -> Answer {
    Answer {
        parts: Some(vec![Say::Text(TEXT.to_owned())]),
        usage: Figures { input: Some(USAGE.0), output: Some(USAGE.1), ..Figures::default() },
        ..Answer::default()
    }
}

/// A provider that is well.
pub fn polite() -> Script {
    always(well())
}

/// A provider that answers with this status.
pub fn status(status: u16) -> Script {
    always(Answer::status(status))
}

/// A provider that takes its time: a second before the headers, one before the first output, then a tenth for each.
pub fn slow() -> Script {
    let pace = Pace {
        headers: Duration::from_secs(1),
        first: Duration::from_secs(1),
        between: Duration::from_millis(100),
        ..Pace::default()
    };
    always(Answer { pace, ..well() })
}

/// A provider that does not go on from words of the model. Asked by a turn of the user, it begins all over.
pub fn choosy() -> Script {
    let message = "This model does not support assistant message prefill. The conversation must end with a user message.";
    let fail =
        Fail { kind: Some(FailKind::BadRequest), message: Some(message.to_owned()), ..Fail::default() };
    let refuses = Rule {
        when: When { prefill: Some(true), ..When::default() },
        answer: Answer { fail: Some(fail), ..Answer::default() },
        ..Rule::default()
    };
    Script { rules: vec![refuses, Rule { answer: well(), ..Rule::default() }], ..Script::default() }
}

fn failing(kind: FailKind) -> Script {
    always(Answer { fail: Some(Fail { kind: Some(kind), ..Fail::default() }), ..Answer::default() })
}

fn always(answer: Answer) -> Script {
    Script::always(answer)
}

/// Fails once, then is well.
fn once(answer: Answer) -> Script {
    let first = Rule { times: Some(1), answer, ..Rule::default() };
    Script { rules: vec![first, Rule { answer: well(), ..Rule::default() }], ..Script::default() }
}

fn trouble(fault: Trouble) -> Answer {
    Answer { fault: Some(fault), ..well() }
}

fn after(outputs: usize) -> Place {
    Place { after_outputs: Some(outputs), ..Place::default() }
}
