//! The harness can fail: for each promise a deliberate mistake in the code (`src/mutants.rs`), which the simulation or an
//! outage must show.
//!
//!     cargo test --features mutants --test mutants -- --nocapture

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

#[path = "support/panics.rs"]
mod panics;
#[path = "support/simulation.rs"]
#[allow(dead_code)]
mod simulation;
#[path = "support/bench.rs"]
#[allow(dead_code)]
mod support;

use cproxy::drill::{Front, Where};
use cproxy::mutants::{ALL, Mutant, switch};
use cproxy::simulator::Answer;
use simulation::{Shape, run};
use support::{TEXT, TWO, always, daemon, paced};

const SHAPE: Shape = Shape { requests: 400, every: 60, deaths: 1000, storms: 1 };

/// Seeds that are tried before a mistake counts as unseen.
const SEEDS: u64 = 12;

/// What the simulation or an outage complains of, if they do.
fn caught() -> Option<String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    // The outage takes no time, so it comes first.
    runtime.block_on(outage()).or_else(|| {
        (1..=SEEDS).find_map(|seed| {
            let wrong = run(seed, SHAPE).wrong;
            wrong.first().map(|first| format!("seed {seed} of the simulation: {first}"))
        })
    })
}

/// An outage of the first provider, which nobody may notice.
async fn outage() -> Option<String> {
    let script = |id: &str| always(if id == "a" { Answer::status(503) } else { paced(0, 0, 0) });
    let bench = daemon(TWO, Where::Memory, script).await;
    let answered = bench.ask(Front::Streamed, "m", "hello").await;
    (answered.text() != Some(TEXT)).then(|| format!("an outage: {:?}", answered.end))
}

#[test]
fn each_mistake_is_caught_and_without_one_there_is_no_complaint() {
    panics::quiet();
    assert_eq!(caught(), None, "without a mistake");
    let mut unseen = Vec::new();
    panics::silent(true);
    for mutant in ALL {
        switch(Some(mutant));
        match caught() {
            Some(complaint) => println!("{mutant:?} is caught by {complaint:.200}"),
            None => unseen.push(mutant),
        }
        switch(None);
    }
    assert_eq!(unseen, Vec::<Mutant>::new(), "mistakes that nobody sees");
}
