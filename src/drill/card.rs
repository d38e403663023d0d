//! The score card of a drill.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// The outcome of a drill.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Card {
    /// The seed of all draws.
    pub seed: u64,
    /// Where the config came from.
    pub config: String,
    /// The model that was asked for.
    pub model: String,
    /// The provider that is asked first.
    pub first: String,
    /// Who answers when it does not; `None`: nobody.
    pub next: Option<String>,
    /// Whether all scenarios passed.
    pub passed: bool,
    /// The scenarios.
    pub scenarios: Vec<Score>,
}

/// The outcome of one scenario. Times are simulated.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Score {
    /// Its name.
    pub name: String,
    /// What happened.
    pub title: String,
    /// Whether every promise was kept.
    pub passed: bool,
    /// Requests that were made.
    pub requests: u64,
    /// Those that got a whole answer.
    pub answered: u64,
    /// Those that were told of an error, in its proper shape.
    pub errors: u64,
    /// Those that needed more than one attempt.
    pub failovers: u64,
    /// How much longer an answer took in the middle than without the outage, in milliseconds.
    pub added_ms: u64,
    /// The same for the one that took longest.
    pub worst_ms: u64,
    /// From the end of the outage until all was as before, in milliseconds; `None` if that was not measured.
    pub recovery_ms: Option<u64>,
    /// To whom the requests were sent, and what came of each attempt: how many went which way.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub routes: BTreeMap<String, u64>,
    /// Promises that were not kept, in words.
    pub violations: Vec<String>,
}

impl fmt::Display for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "drill of {} with seed {}", self.config, self.seed)?;
        match &self.next {
            Some(next) => writeln!(f, "{}: {} answers, and {next} when it can't\n", self.model, self.first)?,
            None => writeln!(f, "{}: {} answers, and nobody when it can't\n", self.model, self.first)?,
        }
        let label = |score: &Score| format!("{:5} {}", score.name, score.title);
        let width = self.scenarios.iter().map(|score| label(score).len()).max().unwrap_or(0);
        writeln!(f, "     {:width$}  requests  answered  errors  failovers   added   worst  recovery", "")?;
        for score in &self.scenarios {
            writeln!(
                f,
                "{} {:width$}  {:>8}  {:>8}  {:>6}  {:>9}  {:>6}  {:>6}  {:>8}",
                if score.passed { "pass" } else { "FAIL" },
                label(score),
                score.requests,
                score.answered,
                score.errors,
                score.failovers,
                time(score.added_ms),
                time(score.worst_ms),
                score.recovery_ms.map_or_else(|| "-".to_owned(), time),
            )?;
            for (route, count) in &score.routes {
                writeln!(f, "           {count:>4} x {route}")?;
            }
            for violation in &score.violations {
                writeln!(f, "           {violation}")?;
            }
        }
        let passed = self.scenarios.iter().filter(|score| score.passed).count();
        writeln!(f, "\n{passed} of {} scenarios passed", self.scenarios.len())
    }
}

fn time(millis: u64) -> String {
    match millis {
        0..=999 => format!("{millis}ms"),
        _ => format!("{}.{}s", millis / 1000, millis % 1000 / 100),
    }
}
