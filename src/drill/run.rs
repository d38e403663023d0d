//! Runs the scenarios, each on a daemon of its own, and fills the score card.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::bench::{Answered, Bench, Front, Where};
use super::card::{Card, Score};
use super::scenarios::{self, Expect, Scenario, TEXT, USAGE, Within};
use crate::actors::faults;
use crate::config::{AfterOutput, Loaded, ProviderId, Timeouts};
use crate::faults::RuleText;
use crate::faults::invariants::End;
use crate::runtime::clock;
use crate::simulator::{Ended, Handle, Recorded, Script};

/// Requests through each front in each scenario.
const ROUNDS: u64 = 4;

/// What a few quick attempts may take: the waits before retries, and those that an upstream asked for.
const SOON: Duration = Duration::from_secs(10);

/// Between two requests.
const PACE: Duration = Duration::from_millis(250);

/// The fronts that are put under load.
const FRONTS: [Front; 3] = [Front::Whole, Front::Streamed, Front::Mcp];

/// How long a provider may take to be asked first again after its outage: its breaker's longest wait and some.
const RECOVERY: Duration = Duration::from_secs(900);

/// The moments of a request at which actors die.
const PHASES: [(&str, Option<u64>); 6] = [
    ("before the route", None),
    ("in admission", Some(500)),
    ("before the headers", Some(500)),
    ("before the first output", Some(1500)),
    ("in the stream", Some(2500)),
    ("at settlement", Some(u64::MAX)),
];

/// What a drill is to do.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// The seed of all draws.
    pub seed: u64,
    /// Only the scenarios whose names begin so; all if empty.
    pub only: Vec<String>,
    /// The model to ask for, if the user says.
    pub model: Option<String>,
}

/// What all scenarios share.
struct Ground {
    loaded: Loaded,
    model: String,
    first: ProviderId,
    next: Option<ProviderId>,
    /// How long each front takes when all is well.
    usual: [Duration; 3],
}

/// Plays all scenarios. Must run where time is paused: hours pass in seconds.
///
/// # Errors
/// When the config gives nothing to drill with.
pub async fn run(mut loaded: Loaded, order: &Order) -> Result<Card, String> {
    loaded.config.faults.enabled = true;
    loaded.config.faults.seed = order.seed;
    loaded.config.faults.plan = None;
    loaded.config.ledger.enabled = false;
    let ground = Ground::find(loaded, order.model.as_deref()).await?;
    let wanted = |name: &str| order.only.is_empty() || order.only.iter().any(|only| name.starts_with(only));
    let mut scores = Vec::new();
    for scenario in scenarios::all() {
        if wanted(scenario.name) {
            scores.push(ground.play(&scenario).await?);
        }
    }
    for actor in ground.actors().await? {
        let name = format!("K:{actor}");
        if wanted(&name) {
            scores.push(ground.deaths(&actor, name).await?);
        }
    }
    if scores.is_empty() {
        return Err(
            "no scenario has such a name; there are S01 to S16, and K: with an actor's path".to_owned()
        );
    }
    Ok(Card {
        seed: order.seed,
        config: ground.loaded.source.clone(),
        model: ground.model,
        first: ground.first.to_string(),
        next: ground.next.map(|id| id.to_string()),
        passed: scores.iter().all(|score| score.passed),
        scenarios: scores,
    })
}

// === impl Ground ===

impl Ground {
    /// Finds out who answers first, and who when that one does not: by asking.
    async fn find(loaded: Loaded, model: Option<&str>) -> Result<Ground, String> {
        let mut models: Vec<String> = model.map(str::to_owned).into_iter().collect();
        if models.is_empty() {
            models.push("claude-sonnet-4-5".to_owned());
            let aliases = loaded.config.models.iter().map(|alias| &alias.pattern);
            models.extend(aliases.filter(|pattern| !pattern.contains(['*', '?'])).cloned());
            models.extend(loaded.config.providers.values().filter_map(|config| config.default_model.clone()));
            let listed = loaded.config.providers.values().flat_map(|config| &config.models);
            models.extend(listed.filter(|model| !model.contains(['*', '?'])).cloned());
        }
        let mut found: Option<Ground> = None;
        for model in models.into_iter().take(20) {
            let bench = Bench::start(loaded.clone(), Where::Memory, |_| scenarios::polite()).await?;
            let answered = bench.ask(Front::Streamed, &model, "hello").await;
            let first = answered.provider().map(ProviderId::from);
            bench.stop().await;
            let Some(first) = first else { continue };
            let outage = |id: &ProviderId| match *id == first {
                true => scenarios::status(503),
                false => scenarios::polite(),
            };
            let bench = Bench::start(loaded.clone(), Where::Memory, outage).await?;
            let answered = bench.ask(Front::Streamed, &model, "hello").await;
            let next = answered.provider().map(ProviderId::from);
            bench.stop().await;
            let better = next.is_some();
            if better || found.is_none() {
                let usual = [Duration::ZERO; 3];
                found = Some(Ground { loaded: loaded.clone(), model, first, next, usual });
            }
            if better {
                break;
            }
        }
        let mut ground = found.ok_or(
            "no provider of this config answers any model; see cproxy check, or name a model with --model",
        )?;
        let bench = ground.bench(scenarios::polite).await?;
        for (usual, front) in ground.usual.iter_mut().zip(FRONTS) {
            *usual = bench.ask(front, &ground.model, "hello").await.total;
        }
        stop(bench).await;
        Ok(ground)
    }

    /// A daemon whose first provider follows the script; the others are well.
    async fn bench(&self, script: fn() -> Script) -> Result<Arc<Bench>, String> {
        let of = |id: &ProviderId| if *id == self.first { script() } else { scenarios::polite() };
        Bench::start(self.loaded.clone(), Where::Memory, of).await.map(Arc::new)
    }

    /// The daemon of a scenario.
    async fn stage(&self, scenario: &Scenario) -> Result<Arc<Bench>, String> {
        let mut loaded = self.loaded.clone();
        (scenario.setup)(&mut loaded.config, &self.first);
        let of = |id: &ProviderId| if *id == self.first { (scenario.script)() } else { (scenario.others)() };
        Bench::start(loaded, Where::Memory, of).await.map(Arc::new)
    }

    /// The actors of the tree, the root apart.
    async fn actors(&self) -> Result<Vec<String>, String> {
        let bench = self.bench(scenarios::polite).await?;
        let places = bench.directory().places();
        let paths = places.iter().map(|place| place.vitals().path().to_string());
        let actors = paths.filter(|path| path != "root").collect();
        stop(bench).await;
        Ok(actors)
    }

    /// Plays one scenario: load on all fronts during the outage, then the way back.
    async fn play(&self, scenario: &Scenario) -> Result<Score, String> {
        let bench = self.stage(scenario).await?;
        let flapping =
            (scenario.name == "S15").then(|| tokio::spawn(flap(bench.clone(), self.first.clone())));
        let rounds = if flapping.is_some() { ROUNDS * 10 } else { ROUNDS };
        let mut load = Vec::new();
        for round in 0..rounds {
            for (at, front) in FRONTS.into_iter().enumerate() {
                let (bench, model) = (bench.clone(), self.model.clone());
                load.push((
                    at,
                    tokio::spawn(async move { bench.ask(front, &model, &question(round, front)).await }),
                ));
                tokio::time::sleep(if flapping.is_some() { PACE * 2 } else { PACE }).await;
            }
        }
        let mut score =
            Score { name: scenario.name.into(), title: scenario.title.into(), ..Score::default() };
        let mut added = Vec::new();
        for (at, asked) in load {
            match asked.await {
                Ok(answered) => {
                    let usual = self.usual.get(at).copied().unwrap_or_default();
                    added.push(millis(answered.total.saturating_sub(usual)));
                    self.judge(scenario, FRONTS[at], usual, &answered, &mut score);
                }
                Err(error) => score.violations.push(format!("a caller died: {error}")),
            }
        }
        if let Some(flapping) = flapping {
            flapping.abort();
        }
        added.sort_unstable();
        score.added_ms = added.get(added.len() / 2).copied().unwrap_or(0);
        score.worst_ms = added.last().copied().unwrap_or(0);
        self.trace(scenario, &bench, rounds, &mut score);
        self.back(&bench, &mut score).await;
        stop(bench).await;
        score.passed = score.violations.is_empty();
        Ok(score)
    }

    /// Holds one answer against what the caller was promised.
    fn judge(
        &self,
        scenario: &Scenario,
        front: Front,
        usual: Duration,
        answered: &Answered,
        score: &mut Score,
    ) {
        score.requests += 1;
        score.failovers += u64::from(answered.attempts().is_some_and(|attempts| attempts > 1));
        let others = self.next.is_some();
        let policy = self.loaded.config.routing.after_output;
        // The drill's MCP calls ask for no pieces: they too are before the commit point until they are whole.
        let whole = front != Front::Streamed;
        let goes_on = scenario.name == "S14" || policy == AfterOutput::Continue;
        let rescued = others
            && match scenario.expect {
                Expect::Served => true,
                Expect::ServedOrBroken => whole || goes_on || policy == AfterOutput::Buffer,
                Expect::ServedOrUnended => whole || policy == AfterOutput::Buffer,
                Expect::Refused => false,
            };
        let wrong = match &answered.end {
            Err(reason) => Some(reason.clone()),
            Ok(End::Well(text)) => {
                score.answered += 1;
                match scenario.expect {
                    _ if text != TEXT => Some(format!("an answer that is not what was said: {text}")),
                    Expect::Refused => Some("a refusal of the content was taken elsewhere".to_owned()),
                    _ if scenario.name == "S16" && front != Front::Mcp => miscounted(answered),
                    _ => None,
                }
            }
            Ok(End::Error(kind, said)) => {
                score.errors += 1;
                match scenario.expect {
                    _ if !TEXT.starts_with(said.as_str()) => Some(format!("words that nobody said: {said}")),
                    _ if rescued => Some(format!("{kind}, where another could have answered")),
                    _ => None,
                }
            }
        };
        let limit = usual + self.limit(scenario.within, whole);
        let late = others && answered.total > limit;
        let late = late.then(|| format!("answered after {:?}, not within {limit:?}", answered.total));
        score.violations.extend(wrong.into_iter().chain(late).map(|what| format!("{front:?}: {what}")));
    }

    /// How long an answer may take beyond the usual time.
    fn limit(&self, within: Within, whole: bool) -> Duration {
        let timeouts =
            self.loaded.config.providers.get(&self.first).map_or_else(Timeouts::default, |p| p.timeouts);
        // Who does not stream waits for the writing of its 1024 tokens besides, and sees no stall in it.
        let writing = if whole { Duration::from_millis(50) * 1024 } else { Duration::ZERO };
        SOON + match within {
            Within::Soon => Duration::ZERO,
            Within::FirstOutput => timeouts.first_byte + writing,
            Within::Idle => timeouts.idle.max(timeouts.first_byte + writing),
            Within::Seconds(seconds) => Duration::from_secs(seconds),
        }
    }

    /// Who got which attempt of which request, and whether that is as it should be.
    fn trace(&self, scenario: &Scenario, bench: &Bench, rounds: u64, score: &mut Score) {
        let mut seen: Vec<(&ProviderId, Recorded)> = Vec::new();
        for (id, simulator) in bench.simulators() {
            seen.extend(answers(simulator).into_iter().map(|asked| (id, asked)));
        }
        seen.sort_by_key(|(id, asked)| (asked.at, **id != self.first, asked.number));
        let routing = &self.loaded.config.routing;
        let retries = usize::try_from(routing.retry_attempts).unwrap_or(usize::MAX);
        // Other settings allow for other ways; what callers must see holds for all.
        let one_key = self.loaded.keys.get(&self.first).is_none_or(|keys| keys.pool().len() < 2);
        let plain =
            self.next.is_some() && one_key && !routing.hedge.enabled && retries > 0 && routing.max_hops > 1;
        let mut must = scenario.must.is_empty();
        for (round, front) in (0..rounds).flat_map(|round| FRONTS.map(|front| (round, front))) {
            let question = format!("\"{}\"", question(round, front));
            let is_its = |asked: &Recorded| memchr::memmem::find(&asked.body, question.as_bytes()).is_some();
            let its = || seen.iter().filter(|(_, asked)| is_its(asked));
            let part = |id: &ProviderId| if *id == self.first { "first" } else { "other" };
            let attempts: Vec<String> =
                its().map(|(id, asked)| format!("{}:{}", part(id), came_of(asked))).collect();
            let route: Vec<String> = its().map(|(id, asked)| format!("{id}:{}", came_of(asked))).collect();
            must |= scenarios::fits(scenario.must, &attempts, retries);
            if plain && !scenario.ways.iter().any(|way| scenarios::fits(way, &attempts, retries)) {
                score.violations.push(format!("{front:?}: went {}", attempts.join(" ")));
            }
            *score.routes.entry(route.join(" ")).or_default() += 1;
        }
        if plain && !must {
            score.violations.push(format!("nobody went {}", scenario.must));
        }
    }

    /// The outage is over: nothing is left behind, and the first provider is asked first again.
    async fn back(&self, bench: &Bench, score: &mut Score) {
        for (_, simulator) in bench.simulators() {
            simulator.set_script(scenarios::polite());
        }
        score.violations.extend(bench.rest(Duration::from_secs(700)).await);
        let since = clock::now();
        loop {
            let answered = bench.ask(Front::Streamed, &self.model, "are you back?").await;
            if answered.provider() == Some(self.first.as_str()) && answered.text().is_some() {
                score.recovery_ms = Some(millis(clock::now() - since - answered.total));
                break;
            }
            if clock::now() - since > RECOVERY {
                score.violations.push(format!("{} is still not asked {RECOVERY:?} later", self.first));
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        score.violations.extend(bench.recover(Duration::from_secs(60)).await);
    }

    /// The death of one actor at each phase of a request, through each front.
    async fn deaths(&self, actor: &str, name: String) -> Result<Score, String> {
        let mut score = Score { name, title: "dies at each phase".into(), ..Score::default() };
        let mut slowest = [Duration::ZERO; 3];
        let bench = self.bench(scenarios::slow).await?;
        for (slowest, front) in slowest.iter_mut().zip(FRONTS) {
            *slowest = bench.ask(front, &self.model, "hello").await.total;
        }
        stop(bench).await;
        let (mut added, mut longest) = (Vec::new(), Duration::ZERO);
        for (phase, at) in PHASES {
            for (front, usual) in FRONTS.into_iter().zip(slowest) {
                let bench = self.bench(scenarios::slow).await?;
                if phase == "in admission" {
                    let hold = RuleText {
                        fault: "delay".into(),
                        target: Some(format!("root/providers/{}", self.first)),
                        message: Some("Admit".into()),
                        delay_ms: Some(1000),
                        times: Some(1),
                        ..RuleText::default()
                    };
                    faults::arm(bench.directory(), vec![hold]).await?;
                }
                let ask = {
                    let (bench, model) = (bench.clone(), self.model.clone());
                    async move { bench.ask(front, &model, "hello").await }
                };
                let answered = match at {
                    None => {
                        bench.place(actor).map(|place| place.kill());
                        ask.await
                    }
                    Some(at) => {
                        let asked = tokio::spawn(ask);
                        tokio::time::sleep(usual.min(Duration::from_millis(at))).await;
                        bench.place(actor).map(|place| place.kill());
                        asked.await.map_err(|error| format!("a caller died: {error}"))?
                    }
                };
                let since = clock::now();
                score.requests += 1;
                score.failovers += u64::from(answered.attempts().is_some_and(|attempts| attempts > 1));
                added.push(millis(answered.total.saturating_sub(usual)));
                match &answered.end {
                    Ok(End::Well(text)) if text == TEXT => score.answered += 1,
                    other => {
                        score.errors += u64::from(other.is_ok());
                        score.violations.push(format!("{phase}, {front:?}: {other:?}"));
                    }
                }
                let left = bench.recover(Duration::from_secs(60)).await;
                longest = longest.max(clock::now() - since);
                let left = left.into_iter().chain(bench.rest(Duration::from_secs(10)).await);
                score.violations.extend(left.map(|what| format!("{phase}, {front:?}: {what}")));
                stop(bench).await;
            }
        }
        added.sort_unstable();
        score.added_ms = added.get(added.len() / 2).copied().unwrap_or(0);
        score.worst_ms = added.last().copied().unwrap_or(0);
        score.recovery_ms = Some(millis(longest));
        score.passed = score.violations.is_empty();
        Ok(score)
    }
}

/// What a request asks: no other asks the same.
fn question(round: u64, front: Front) -> String {
    format!("hello {round} {front:?}")
}

/// What came of an attempt, in one word.
fn came_of(asked: &Recorded) -> &'static str {
    match (asked.status, asked.ended) {
        (Some(429), _) => "429",
        (Some(400..=499), _) => "4xx",
        (Some(500..), _) => "5xx",
        (Some(_), Ended::Whole) => "ok",
        (Some(_), Ended::Broken) => "cut",
        (Some(_), _) => "left",
        (None, Ended::Broken) => "reset",
        (None, _) => "silent",
    }
}

/// The first provider goes down and comes back every five seconds.
async fn flap(bench: Arc<Bench>, first: ProviderId) {
    let Some(simulator) = bench.simulator(first.as_str()).cloned() else { return };
    drop(bench);
    for turn in 0u64.. {
        let down = turn.is_multiple_of(2);
        simulator.set_script(if down { scenarios::status(503) } else { scenarios::polite() });
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
}

/// Whether the tokens that the upstream counted came through.
fn miscounted(answered: &Answered) -> Option<String> {
    let text = String::from_utf8_lossy(&answered.body);
    let numbers: BTreeSet<&str> = text.split(|c: char| !c.is_ascii_digit()).collect();
    let (input, output) = (USAGE.0.to_string(), USAGE.1.to_string());
    (!numbers.contains(&*input) || !numbers.contains(&*output))
        .then(|| format!("the upstream counted {input} and {output} tokens; the answer says otherwise"))
}

/// The requests for answers that a simulator has seen.
fn answers(simulator: &Handle) -> Vec<Recorded> {
    simulator.requests().into_iter().filter(|request| request.dialect.is_some()).collect()
}

async fn stop(bench: Arc<Bench>) {
    if let Some(bench) = Arc::into_inner(bench) {
        bench.stop().await;
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
