//! The whole daemon on simulated time, under seeded load, deaths, faults and reloads. Nothing but the seed decides what
//! happens.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cproxy::actors::config::ConfigMessage;
use cproxy::actors::faults;
use cproxy::drill::bench::{OWN_HEADERS, key_of, message};
use cproxy::drill::{Bench, Front, Where};
use cproxy::faults::RuleText;
use cproxy::faults::invariants::{self, End};
use cproxy::runtime::{self, Random, State, clock};
use cproxy::simulator::script::{Answer, Chunks};

use super::panics;
use super::support::{TEXT, TWO, always, config, paced};

/// Every actor whose death must not be noticed. The root's death is the daemon's.
pub const ACTORS: [&str; 10] = [
    "root/config",
    "root/ledger",
    "root/faults",
    "root/otlp",
    "root/providers",
    "root/providers/a",
    "root/providers/b",
    "root/router",
    "root/mcp",
    "root/http",
];

/// How much happens in one run.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Requests.
    pub requests: u64,
    /// The time between two of them, at random around half of it, in milliseconds.
    pub every: u64,
    /// The time between two deaths, likewise.
    pub deaths: u64,
    /// How often a provider is killed until it is quarantined.
    pub storms: u64,
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// A hash over every request's end, in order, with its simulated times.
    pub trace: u64,
    pub requests: u64,
    /// Whole answers.
    pub well: u64,
    /// Errors in their proper shape.
    pub failed: u64,
    /// Callers that left before the end.
    pub left: u64,
    pub kills: u64,
    /// Deaths of the providers' supervisor, with all its children.
    pub supervisors: u64,
    /// Providers that died until they were quarantined.
    pub quarantines: u64,
    pub faults: u64,
    pub simulated: Duration,
    /// What was not as promised, in words.
    pub wrong: Vec<String>,
}

/// Requests a minute that provider `a` allows.
const ALLOWED: u32 = 240;

/// Counted while a run goes on.
#[derive(Default)]
struct Counts {
    kills: AtomicU64,
    supervisors: AtomicU64,
    quarantines: AtomicU64,
}

impl Outcome {
    /// Adds up what several runs came to.
    pub fn add(&mut self, other: Outcome) {
        self.requests += other.requests;
        self.well += other.well;
        self.failed += other.failed;
        self.left += other.left;
        self.kills += other.kills;
        self.supervisors += other.supervisors;
        self.quarantines += other.quarantines;
        self.faults += other.faults;
        self.simulated += other.simulated;
        self.wrong.extend(other.wrong);
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} requests ({} whole, {} told of an error, {} left) in {:?} of simulated time; {} kills, of them {} \
             supervisors with all their children; {} quarantines; {} faults injected; {} violations",
            self.requests,
            self.well,
            self.failed,
            self.left,
            Duration::from_secs(self.simulated.as_secs()),
            self.kills,
            self.supervisors,
            self.quarantines,
            self.faults,
            self.wrong.len()
        )
    }
}

/// Another mix of faults for each seed.
fn rules(random: &Random) -> Vec<RuleText> {
    let all = [
        "{\"fault\":\"refuse\",\"probability\":0.02}",
        "{\"fault\":\"reset\",\"probability\":0.02}",
        "{\"fault\":\"reset\",\"probability\":0.02,\"after_events\":4}",
        "{\"fault\":\"status\",\"status\":529,\"probability\":0.03}",
        "{\"fault\":\"status\",\"status\":500,\"probability\":0.03}",
        "{\"fault\":\"status\",\"status\":429,\"probability\":0.02,\"headers\":{\"retry-after\":\"1\"}}",
        "{\"fault\":\"stall\",\"probability\":0.01}",
        "{\"fault\":\"stall-in-stream\",\"probability\":0.01,\"after_events\":4}",
        "{\"fault\":\"cut\",\"probability\":0.02,\"after_events\":4}",
        "{\"fault\":\"corrupt\",\"probability\":0.02,\"after_events\":4}",
        "{\"fault\":\"split\",\"probability\":0.05,\"bytes\":2}",
        "{\"fault\":\"slow\",\"probability\":0.05,\"delay_ms\":700}",
        "{\"fault\":\"refuse\",\"target\":\"a\",\"for\":\"10s\"}",
        "{\"fault\":\"panic\",\"target\":\"providers/a\",\"probability\":0.004}",
        "{\"fault\":\"kill\",\"target\":\"providers/b\",\"message\":\"*\",\"probability\":0.004}",
        "{\"fault\":\"drop-reply\",\"target\":\"providers/*\",\"probability\":0.004}",
        "{\"fault\":\"delay\",\"target\":\"providers/*\",\"probability\":0.004,\"delay_ms\":100}",
        "{\"fault\":\"hang\",\"target\":\"providers/a\",\"nth\":50,\"delay_ms\":3000}",
    ];
    let kept = all.iter().filter(|_| !random.draw().is_multiple_of(3));
    kept.map(|text| serde_json::from_str(text).unwrap()).collect()
}

/// Runs one seed: load, deaths, faults and reloads for a while, then quiet, then all must be well.
pub fn run(seed: u64, shape: Shape) -> Outcome {
    // Without the driver of sockets, of which there are none: it would be woken by a system call for each timer.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(simulate(seed, shape))
}

async fn simulate(seed: u64, shape: Shape) -> Outcome {
    let random = Random::seeded(seed);
    let timeouts = "timeouts = { connect = \"1s\", first_byte = \"2s\", idle = \"2s\", total = \"6s\" }";
    let text = format!(
        "{TWO}\ndeadline = \"8s\"\nmax_wait = \"1s\"\n[faults]\nenabled = true\nseed = {seed}\n"
    )
    .replace("health = { interval = \"0s\" }", "health = { interval = \"20s\", timeout = \"2s\" }")
    .replace(
        "priority = 1",
        &format!(
            "priority = 1\nlimits = {{ max_concurrent = 4, requests_per_minute = {ALLOWED} }}\n{timeouts}"
        ),
    )
    .replace("priority = 2", &format!("priority = 2\nlimits = {{ max_concurrent = 12 }}\n{timeouts}"));
    let answer = Answer { chunks: Chunks { tokens: 6, ..Chunks::default() }, ..paced(20, 30, 20) };
    let bench = Bench::start(config(&text), Where::Memory, |_| always(answer.clone())).await.unwrap();
    let bench = Arc::new(bench);
    faults::arm(bench.directory(), rules(&random)).await.unwrap();
    let (began, counts) = (clock::now(), Arc::<Counts>::default());
    let killer = tokio::spawn(kill(bench.clone(), Random::seeded(seed ^ 0xdead), shape, counts.clone()));
    let (told, mut complaints) = tokio::sync::mpsc::unbounded_channel();
    let reloader = tokio::spawn(reload(bench.clone(), told));

    let mut outcome = Outcome { requests: shape.requests, ..Outcome::default() };
    let mut asked = VecDeque::new();
    for n in 0..shape.requests {
        tokio::time::sleep(Duration::from_millis(random.draw() % shape.every)).await;
        asked.push_back(tokio::spawn(one(bench.clone(), n, random.draw())));
        // Those that have ended need not be kept until all have.
        while asked.front().is_some_and(|first| first.is_finished()) {
            outcome.note(asked.pop_front().unwrap().await.unwrap());
        }
    }
    for one in asked {
        outcome.note(one.await.unwrap());
    }
    killer.abort();
    reloader.abort();
    let _ = (killer.await, reloader.await);
    while let Ok(complaint) = complaints.try_recv() {
        outcome.wrong.push(complaint);
    }
    outcome.faults = bench.directory().injector.as_ref().unwrap().fired();
    outcome.simulated = clock::now() - began;
    outcome.kills = counts.kills.load(Ordering::Relaxed);
    outcome.supervisors = counts.supervisors.load(Ordering::Relaxed);
    outcome.quarantines = counts.quarantines.load(Ordering::Relaxed);

    // Liveness: with the faults gone, all is well again within one quarantine and the longest wait of a breaker.
    outcome.wrong.extend(bench.rest(Duration::from_secs(10)).await);
    outcome.wrong.extend(bench.recover(Duration::from_secs(301)).await);
    outcome.wrong.extend(faults::clear(bench.directory()).await.err());
    tokio::time::sleep(Duration::from_secs(150)).await;
    for _ in 0..5 {
        let answered = bench.ask(Front::Streamed, "m", "are you well?").await;
        if answered.text() != Some(TEXT) {
            outcome.wrong.push(format!("not well after the faults: {:?}", answered.end));
        }
    }
    outcome.wrong.extend(bench.rest(Duration::from_secs(1)).await);
    outcome.wrong.extend(seen(&bench));
    outcome.wrong.extend(panics::seen());
    if let Some(bench) = Arc::into_inner(bench) {
        bench.stop().await;
    }
    outcome
}

/// What came of one request: its end in words for the trace, and what was wrong.
enum Came {
    Well(String),
    Failed(String),
    Left(String),
    Wrong(String),
}

impl Outcome {
    fn note(&mut self, (came, broken): (Came, Vec<String>)) {
        let text = match &came {
            Came::Well(text) | Came::Failed(text) | Came::Left(text) | Came::Wrong(text) => text.clone(),
        };
        self.trace = text.bytes().fold(self.trace, |hash, byte| runtime::splitmix64(hash ^ u64::from(byte)));
        match came {
            Came::Well(_) => self.well += 1,
            Came::Failed(_) => self.failed += 1,
            Came::Left(_) => self.left += 1,
            Came::Wrong(text) => self.wrong.push(text),
        }
        self.wrong.extend(broken);
    }
}

/// One request. Of 32 callers one leaves at the first piece of its answer; of 64 one comes by the MCP front.
async fn one(bench: Arc<Bench>, n: u64, draw: u64) -> (Came, Vec<String>) {
    let front = match draw % 64 {
        0 => Front::Mcp,
        n if n % 2 == 0 => Front::Whole,
        _ => Front::Streamed,
    };
    if (draw / 64).is_multiple_of(32) && front == Front::Streamed {
        let left = match bench.begin(front, "m", &format!("request {n}")).await {
            Ok(mut begun) => begun.next().await.map(|piece| piece.map_or(0, |piece| piece.len())),
            Err(reason) => Err(reason),
        };
        let came = match left {
            Ok(bytes) => Came::Left(format!("left after {bytes}")),
            Err(reason) => Came::Wrong(format!("request {n}, {front:?}: {reason}")),
        };
        return (came, invariants::always(bench.directory()));
    }
    let question = if front == Front::Mcp { format!("call {n}") } else { format!("request {n}") };
    let answered = bench.ask(front, "m", &question).await;
    let end =
        format!("{:?} {:?} {:?} {:?}", answered.end, answered.first, answered.total, answered.provider());
    let came = match &answered.end {
        Ok(End::Well(text)) if text == TEXT => Came::Well(end),
        Ok(End::Error(_, said)) if TEXT.starts_with(said.as_str()) => Came::Failed(end),
        other => Came::Wrong(format!("request {n}, {front:?}: {other:?}")),
    };
    (came, invariants::always(bench.directory()))
}

fn is_quarantined(bench: &Bench, path: &str) -> bool {
    bench.place(path).is_some_and(|place| place.vitals().state() == State::Quarantined)
}

/// Kills actors at random, and now and then a provider until it is quarantined.
async fn kill(bench: Arc<Bench>, random: Random, shape: Shape, counts: Arc<Counts>) {
    let mut deaths: [VecDeque<Instant>; ACTORS.len()] = Default::default();
    let between = shape.requests * shape.every / 2 / (shape.storms + 1).max(1);
    let mut storm_at = clock::now() + Duration::from_millis(between);
    let count = |place: Option<Arc<dyn runtime::Place>>| {
        let killed = place.is_some_and(|place| place.kill());
        counts.kills.fetch_add(u64::from(killed), Ordering::Relaxed);
    };
    loop {
        tokio::time::sleep(Duration::from_millis(1 + random.draw() % shape.deaths)).await;
        let now = clock::now();
        if now >= storm_at && shape.storms > 0 {
            storm_at = now + Duration::from_millis(between);
            let mut paths = ["root/providers/a", "root/providers/b"];
            paths.rotate_left(usize::from(random.draw().is_multiple_of(2)));
            let Some(path) = paths.into_iter().find(|path| !is_quarantined(&bench, path)) else { continue };
            for _ in 0..80 {
                count(bench.place(path));
                tokio::time::sleep(Duration::from_millis(20)).await;
                if is_quarantined(&bench, path) {
                    counts.quarantines.fetch_add(1, Ordering::Relaxed);
                    break;
                }
            }
            continue;
        }
        let at = usize::try_from(random.draw() % ACTORS.len() as u64).unwrap();
        let (path, recent) = (ACTORS[at], &mut deaths[at]);
        // The root bears ten deaths in thirty seconds of each of its children, and gives up at the next.
        recent.retain(|death| now - *death < Duration::from_secs(30));
        if recent.len() >= 8 {
            continue;
        }
        recent.push_back(now);
        if path == "root/providers" {
            // ractor ends children in no fixed order; ended in order first, a replay sees the same.
            counts.supervisors.fetch_add(1, Ordering::Relaxed);
            count(bench.place("root/providers/a"));
            count(bench.place("root/providers/b"));
        }
        count(bench.place(path));
    }
}

/// Reloads: now a config that changes nothing for the requests, but all for the reload, now a broken one.
async fn reload(bench: Arc<Bench>, wrong: tokio::sync::mpsc::UnboundedSender<String>) {
    let mut loaded = bench.directory().config_cell.get().as_ref().clone();
    for turn in 0u64.. {
        tokio::time::sleep(Duration::from_millis(3137)).await;
        loaded.config.server.drain += Duration::from_secs(1);
        let read = match turn % 2 {
            0 => Ok(loaded.clone()),
            _ => Err("broken, on purpose".to_owned()),
        };
        let until = clock::now() + Duration::from_secs(1);
        let read = || Box::new(read.clone());
        let directory = bench.directory();
        let asked =
            runtime::ask(&directory.config, until, |reply| ConfigMessage::Read(read(), Some(reply))).await;
        // The actor may just have died: then nothing is known of it.
        if let Ok(taken) = asked
            && (taken.is_ok() != (turn % 2 == 0) || directory.config_cell.get().config.providers.len() != 2)
        {
            let _ = wrong.send(format!("reload {turn} was answered {taken:?}")); // nobody counts any more
        }
    }
}

/// What the upstreams saw: their own key only, the caller's bytes, and no more than is allowed.
fn seen(bench: &Bench) -> Vec<String> {
    let mut wrong = Vec::new();
    let keys: Vec<String> = bench.simulators().map(|(id, _)| key_of(id)).collect();
    for (id, simulator) in bench.simulators() {
        let requests: Vec<_> =
            simulator.requests().into_iter().filter(|request| request.dialect.is_some()).collect();
        wrong.extend(invariants::keys(id, &key_of(id), &keys, &requests));
        if id.as_str() == "a" {
            let times: Vec<Instant> = requests.iter().map(|request| request.at.into_std()).collect();
            // Between admission and the upstream an attempt may be held up, by a fault of up to 700 ms.
            wrong.extend(invariants::rate(id, ALLOWED, Duration::from_secs(1), &times));
            for request in requests {
                let body = request.json();
                let question = body["messages"][0]["content"].as_str().unwrap_or_default();
                if question.starts_with("request ") {
                    let sent = message("claude-x", question, body["stream"] == true).to_string();
                    wrong.extend(invariants::bytes(id, sent.as_bytes(), &request.body));
                    wrong.extend(invariants::headers(id, &OWN_HEADERS, &request.headers));
                }
            }
        }
    }
    wrong
}
