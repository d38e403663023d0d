//! The campaign in real time: requests by both fronts over sockets, while every actor dies again and again and the way
//! to the upstreams fails at random.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cproxy::actors::config::ConfigMessage;
use cproxy::actors::faults::{self, FaultsMessage};
use cproxy::actors::ledger::LedgerMessage;
use cproxy::actors::provider::ProviderMessage;
use cproxy::drill::{Bench, Front, Where};
use cproxy::faults::RuleText;
use cproxy::faults::invariants::{self, End};
use cproxy::routing::admission::Ask;
use cproxy::runtime::{Random, State, ask_again, clock};
use cproxy::simulator::script::{Answer, Chunks};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::panics;
use super::support::{TEXT, TWO, always, config, paced};
use super::{ACTORS, SOON};

/// Callers at once.
const CALLERS: usize = 8;

/// How long an actor may take to answer after its death: long, since the machine may be busy with other things.
const BACK: Duration = Duration::from_secs(20);

/// What a campaign came to.
#[derive(Debug, Default)]
struct Sum {
    well: u64,
    failed: u64,
    wrong: Vec<String>,
}

/// For each actor, how long after its death its next incarnation answered, its back-off aside.
type Deaths = BTreeMap<&'static str, Vec<Duration>>;

fn rules() -> Vec<RuleText> {
    let network = [
        ("refuse", ""),
        ("reset", ""),
        ("reset", ",\"after_events\":3"),
        ("status", ",\"status\":529"),
        ("status", ",\"status\":429,\"headers\":{\"retry-after\":\"0\"}"),
        ("status", ",\"status\":500"),
        ("cut", ",\"after_events\":3"),
        ("corrupt", ",\"after_events\":3"),
        ("stall-in-stream", ",\"after_events\":3"),
        ("split", ""),
    ];
    let network = network.map(|(fault, more)| format!("\"fault\":\"{fault}\",\"probability\":0.004{more}"));
    let actors = [("panic", "a"), ("kill", "b"), ("drop-reply", "providers/*")].map(|(fault, target)| {
        format!("\"fault\":\"{fault}\",\"target\":\"{target}\",\"probability\":0.0005,\"message\":\"*\"")
    });
    let all = network.iter().chain(&actors);
    all.map(|rule| serde_json::from_str(&format!("{{{rule}}}")).unwrap()).collect()
}

/// Who answers for the actor at `path`: the supervisor has no answers of its own, it is back when its children answer.
fn answering(path: &str) -> &str {
    if path == "root/providers" { "root/providers/a" } else { path }
}

/// Waits until an incarnation after `dead` of whoever answers for `path` has answered something.
async fn next_answer(bench: &Bench, path: &str, dead: u64) -> Result<(), String> {
    let until = clock::now() + BACK;
    let place = bench.place(answering(path)).unwrap();
    loop {
        let answered = answer(bench, answering(path), until).await;
        if place.vitals().incarnation() > dead && place.vitals().state() == State::Running {
            answered?;
            return Ok(());
        }
        if clock::now() > until {
            return Err(format!("{path} does not come back"));
        }
        tokio::task::yield_now().await;
    }
}

/// Has whoever lives at `path` answer something, if it answers anything.
async fn answer(bench: &Bench, path: &str, until: Instant) -> Result<(), String> {
    let directory = bench.directory();
    let asked = match path {
        "root/config" => ask_again(&directory.config, until, ConfigMessage::Validate).await.map(drop),
        "root/ledger" => ask_again(&directory.ledger, until, LedgerMessage::Flush).await,
        "root/faults" => {
            let nothing = |reply| FaultsMessage::Arm(Vec::new(), reply);
            ask_again(&directory.faults, until, nothing).await.map(drop)
        }
        "root/providers/a" | "root/providers/b" => {
            let name = path.strip_prefix("root/providers/").unwrap();
            let entry = directory.entries.load().get(name).unwrap().clone();
            let question = || Ask {
                model: "probe".into(),
                tokens: 1,
                session: None,
                key: None,
                tried: Vec::new(),
                last_resort: false,
                deadline: clock::now(),
            };
            let admit = |reply| ProviderMessage::Admit(question(), reply);
            ask_again(&entry.slot, until, admit).await.map(drop)
        }
        "root/http" => {
            let address = directory.listener.address().unwrap();
            let ask = async {
                let mut stream = tokio::net::TcpStream::connect(address).await?;
                stream
                    .write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
                    .await?;
                stream.read(&mut [0; 64]).await
            };
            return match tokio::time::timeout_at(until.into(), ask).await {
                Ok(read) => read.map(drop).map_err(|error| format!("{path}: {error}")),
                Err(late) => Err(format!("{path}: {late}")),
            };
        }
        _ => Ok(()), // what the router and the MCP front do first, they do when they start
    };
    asked.map_err(|error| format!("{path}: {error}"))
}

fn quarantined(bench: &Bench) -> bool {
    bench.directory().places().iter().any(|place| place.vitals().state() == State::Quarantined)
}

/// Kills every actor again and again, and measures how long each is away.
async fn kill(
    bench: Arc<Bench>,
    random: Random,
    over: Arc<AtomicBool>,
    pause: Duration,
) -> (Deaths, Vec<String>) {
    let (mut deaths, mut wrong) = (Deaths::new(), Vec::new());
    let mut recent: BTreeMap<&str, VecDeque<Instant>> = BTreeMap::new();
    while !over.load(Ordering::Relaxed) {
        tokio::time::sleep(pause).await;
        let actor = ACTORS[usize::try_from(random.draw() % ACTORS.len() as u64).unwrap()];
        let recent = recent.entry(actor).or_default();
        // A child of the root may die ten times in half a minute, a provider five times in ten seconds; the faults
        // kill as well.
        let (most, period) = if actor.starts_with("root/providers/") { (3, 10) } else { (7, 30) };
        recent.retain(|death| clock::now() - *death < Duration::from_secs(period));
        let place = bench.place(actor).unwrap();
        let dead = bench.place(answering(actor)).unwrap().vitals().incarnation();
        if recent.len() >= most || place.vitals().state() != State::Running || !place.kill() {
            continue;
        }
        let killed = clock::now();
        recent.push_back(killed);
        match next_answer(&bench, actor, dead).await {
            Ok(()) => {
                let away = (clock::now() - killed).saturating_sub(place.vitals().away());
                deaths.entry(actor).or_default().push(away);
            }
            // A provider that the faults killed as well may have been quarantined.
            Err(_) if quarantined(&bench) => {}
            Err(reason) => wrong.push(reason),
        }
    }
    (deaths, wrong)
}

async fn callers(bench: &Arc<Bench>, requests: usize) -> Sum {
    let next = Arc::new(AtomicUsize::new(0));
    let callers = (0..CALLERS).map(|_| {
        let (bench, next) = (bench.clone(), next.clone());
        tokio::spawn(async move {
            let mut sum = Sum::default();
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= requests {
                    return sum;
                }
                let front = match n % 8 {
                    0 => Front::Mcp,
                    n if n % 2 == 0 => Front::Whole,
                    _ => Front::Streamed,
                };
                let answered = bench.ask(front, "m", "hello").await;
                match &answered.end {
                    Ok(End::Well(text)) if text == TEXT => sum.well += 1,
                    Ok(End::Error(_, said)) if TEXT.starts_with(said.as_str()) => {
                        sum.failed += 1;
                        // As clients do; else most of the requests would fall into the moments when nobody can serve.
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                    other => sum.wrong.push(format!("{front:?}: {other:?}")),
                }
                sum.wrong.extend(invariants::always(bench.directory()));
            }
        })
    });
    let mut sum = Sum::default();
    for caller in callers.collect::<Vec<_>>() {
        let one = caller.await.unwrap();
        sum.well += one.well;
        sum.failed += one.failed;
        sum.wrong.extend(one.wrong);
    }
    sum
}

/// Tasks that are alive, but for those of the connections that the daemon keeps to its upstreams for the next request.
fn tasks(bench: &Bench) -> usize {
    let kept: usize = bench.simulators().map(|(_, simulator)| simulator.open().connections).sum();
    tokio::runtime::Handle::current().metrics().num_alive_tasks() - kept
}

/// Runs so many requests; gives the median time from a death to the next answer.
async fn campaign(requests: usize, pause: Duration) -> Duration {
    panics::quiet();
    let seed: u64 = std::env::var("CPROXY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let timeouts =
        "timeouts = { connect = \"1s\", first_byte = \"500ms\", idle = \"500ms\", total = \"3s\" }";
    let text = format!(
        "{TWO}\ndeadline = \"5s\"\nmax_wait = \"1s\"\n[faults]\nenabled = true\nseed = {seed}\n\
         [ledger]\nenabled = false\n"
    )
    .replace("priority = 1", &format!("priority = 1\nlimits = {{ max_concurrent = 6 }}\n{timeouts}"))
    .replace("priority = 2", &format!("priority = 2\n{timeouts}"));
    let answer = Answer { chunks: Chunks { tokens: 6, ..Chunks::default() }, ..paced(0, 0, 0) };
    let bench = Bench::start(config(&text), Where::Sockets, |_| always(answer.clone())).await.unwrap();
    let bench = Arc::new(bench);
    for (front, model) in [(Front::Mcp, "a/claude-x"), (Front::Whole, "b/gpt-x"), (Front::Streamed, "m")] {
        assert_eq!(bench.ask(front, model, "hello").await.text(), Some(TEXT));
    }
    bench.hang_up().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = tasks(&bench);
    faults::arm(bench.directory(), rules()).await.unwrap();

    let (began, over) = (clock::now(), Arc::new(AtomicBool::new(false)));
    let killer = tokio::spawn(kill(bench.clone(), Random::seeded(seed), over.clone(), pause));
    let mut sum = callers(&bench, requests).await;
    over.store(true, Ordering::Relaxed);
    let (deaths, wrong) = killer.await.unwrap();
    sum.wrong.extend(wrong);
    let took = clock::now() - began;
    let injected = bench.directory().injector.as_ref().unwrap().fired();
    let dead: u64 = bench.directory().places().iter().map(|place| place.vitals().failures()).sum();
    faults::clear(bench.directory()).await.unwrap();
    sum.wrong.extend(panics::seen());
    sum.wrong.extend(bench.rest(SOON).await);
    sum.wrong.extend(bench.recover(Duration::from_secs(310)).await);
    bench.hang_up().await;
    let until = clock::now() + Duration::from_secs(30);
    while tasks(&bench) > before && clock::now() < until {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    println!(
        "seed {seed}: {requests} requests in {took:?}, {} whole, {} told of an error, {} violations; {dead} deaths, \
         {injected} faults; tasks {before} before, {} after",
        sum.well,
        sum.failed,
        sum.wrong.len(),
        tasks(&bench)
    );
    let mut all = Vec::new();
    for (actor, mut times) in deaths {
        times.sort_unstable();
        println!(
            "  {actor}: {} deaths, answered again after {:?} in the middle",
            times.len(),
            times[times.len() / 2]
        );
        all.extend(times);
    }
    all.sort_unstable();
    assert_eq!(sum.wrong, Vec::<String>::new(), "seed {seed}");
    assert_eq!(
        usize::try_from(sum.well + sum.failed).unwrap(),
        requests,
        "seed {seed}: each is answered, once"
    );
    // Nearly all are, where nothing else keeps the machine busy.
    assert!(sum.well > sum.failed / 3, "seed {seed}: hardly anybody was served: {sum:?}");
    assert!(!all.is_empty(), "seed {seed}: nobody died: {sum:?}");
    assert!(
        tasks(&bench) <= before,
        "seed {seed}: {} tasks are left, {before} were there before",
        tasks(&bench)
    );
    let median = all[all.len() / 2];
    println!("  all: answered again after {median:?} in the middle, back-off aside");
    median
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_campaign_of_random_deaths_and_faults_leaves_nobody_unanswered() {
    campaign(1500, Duration::from_millis(30)).await;
}

/// The whole campaign: `cargo test --release --test kill a_hundred_thousand -- --ignored --nocapture`, or another number
/// in `CPROXY_REQUESTS`, another seed in `CPROXY_SEED`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a minute or more with a release build; run by hand and before releases"]
async fn a_hundred_thousand_requests_under_random_deaths_and_faults_are_answered_once() {
    let requests = std::env::var("CPROXY_REQUESTS").ok().and_then(|count| count.parse().ok());
    let median = campaign(requests.unwrap_or(100_000), Duration::from_millis(50)).await;
    assert!(median < Duration::from_millis(5), "from a death to the next answer: {median:?}");
}
