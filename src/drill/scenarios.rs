//! The outages that a drill plays: those of FailoverBench (github.com/failoverbench/failoverbench), in its numbering.

use std::time::Duration;

use crate::simulator::Script;
use crate::simulator::script::{Answer, Fail, FailKind, Figures, Pace, Place, Rule, Say, Trouble};

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
    /// What callers must see.
    pub expect: Expect,
    /// The longest that an answer may take; zero: as long as the config allows.
    pub within: Duration,
}

/// What callers must see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// A whole answer, as long as anybody else can give one.
    Served,
    /// A whole answer of those who wait for it whole; of those who stream, an answer or an error at the place where
    /// it broke.
    ServedOrBroken,
    /// A whole answer of those who stream. Who waits for it whole may be told of a timeout: a long answer and none look
    /// the same until the last deadline.
    ServedIfStreamed,
    /// An answer, or an error at the place where it broke.
    Broken,
    /// The provider's own error, and nobody else is asked.
    Refused,
    /// An answer or an error, and the provider is asked once per request.
    Once,
}

/// All scenarios.
pub fn all() -> Vec<Scenario> {
    let scenario =
        |name, title, expect, script| Scenario { name, title, script, expect, within: Duration::ZERO };
    vec![
        scenario("S01", "429 once, with retry-after", Expect::Served, || {
            once(Answer {
                fail: Some(Fail { status: Some(429), retry_after: Some(2), ..Fail::default() }),
                ..well()
            })
        }),
        scenario("S02", "429 all the time", Expect::Served, || status(429)),
        scenario("S03", "500 once", Expect::Served, || once(Answer::status(500))),
        scenario("S04", "503 all the time", Expect::Served, || status(503)),
        scenario("S05", "connection reset", Expect::Served, || once(trouble(Trouble::Refuse))),
        scenario("S06", "no answer at all", Expect::ServedIfStreamed, || always(trouble(Trouble::Silence))),
        scenario("S07", "first output after 20 s", Expect::Served, || {
            always(Answer { pace: Pace { first: Duration::from_secs(20), ..Pace::default() }, ..well() })
        }),
        scenario("S08", "stream cut in the middle", Expect::ServedOrBroken, || {
            always(trouble(Trouble::Cut(after(8))))
        }),
        scenario("S09", "stream stalls in the middle", Expect::Broken, || {
            always(trouble(Trouble::Stall(after(8))))
        }),
        scenario("S10", "malformed event", Expect::ServedOrBroken, || {
            always(trouble(Trouble::Corrupt(after(4))))
        }),
        scenario("S11", "stream without its last word", Expect::ServedOrBroken, || {
            always(trouble(Trouble::NoTerminator))
        }),
        scenario("S12", "input too long for the model", Expect::Once, || failing(FailKind::ContextLength)),
        scenario("S13", "content refused", Expect::Refused, || failing(FailKind::ContentPolicy)),
        scenario("S14", "overloaded, and the next one refuses the request", Expect::Once, || status(529)),
        scenario("S15", "up and down every five seconds", Expect::Served, polite),
        scenario("S16", "tokens are counted", Expect::Served, polite),
    ]
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

/// A provider that refuses what others take: a conversation that ends with words of the assistant.
pub fn choosy() -> Script {
    let message = "This model does not support assistant message prefill. The conversation must end with a user message.";
    let fail =
        Fail { kind: Some(FailKind::BadRequest), message: Some(message.to_owned()), ..Fail::default() };
    always(Answer { fail: Some(fail), ..Answer::default() })
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
