//! The runtime as its user meets it: the built binary, its signals, its config file, `cproxy fault` and `cproxy drill`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]
#![allow(clippy::disallowed_methods, reason = "real processes, real time")]

#[path = "support/daemon.rs"]
mod daemon;

use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use daemon::{Daemon, Upstream, get};
use serde_json::Value;

/// A daemon with one provider and fault injection, and its upstream.
fn with_faults() -> (Daemon, Upstream) {
    let upstream = Upstream::start("");
    let config = format!("{}[faults]\nenabled = true\nseed = 3\n", upstream.provider("local"));
    (Daemon::start(&config), upstream)
}

/// Runs `cproxy fault` against a daemon.
fn fault(daemon: &Daemon, arguments: &[&str]) -> Output {
    let arguments: Vec<&str> = ["fault"].into_iter().chain(arguments.iter().copied()).collect();
    daemon.command(&[&arguments[..], &["--connect", &daemon.url]].concat())
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Sends a request to the Messages front, and gives the connection.
fn send(url: &str, stream: bool) -> TcpStream {
    let body = format!(
        "{{\"model\":\"claude-x\",\"max_tokens\":50,\"stream\":{stream},\
         \"messages\":[{{\"role\":\"user\",\"content\":\"hello\"}}]}}"
    );
    let host = url.strip_prefix("http://").unwrap();
    let mut connection = TcpStream::connect(host).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(
        connection,
        "POST /v1/messages HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    connection
}

/// Reads on until `mark` has come, or to the end.
fn read(connection: &mut TcpStream, mark: &str) -> String {
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    while !String::from_utf8_lossy(&text).contains(mark) {
        match connection.read(&mut piece).unwrap() {
            0 => break,
            n => text.extend_from_slice(&piece[..n]),
        }
    }
    String::from_utf8(text).unwrap()
}

fn generation(status: &Value) -> u64 {
    status["config"]["generation"].as_u64().unwrap()
}

/// Writes a config in one way or another.
type Write<'a> = &'a dyn Fn(&str);

fn write_config(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

#[test]
fn the_config_is_taken_up_however_it_is_written() {
    let (daemon, _upstream) = with_faults();
    let path = daemon.config.clone();
    let text = std::fs::read_to_string(&path).unwrap();
    let folder = daemon.folder();
    let mut limit = 100;
    // Each writes the config with another limit, in its own way.
    let ways: [(&str, Write<'_>); 6] = [
        ("in place", &|text| write_config(&path, text)),
        ("truncated first, written later", &|text| {
            write_config(&path, "");
            std::thread::sleep(Duration::from_millis(50));
            write_config(&path, text);
        }),
        ("another file in its place, as editors do", &|text| {
            write_config(&folder.join("new.toml"), text);
            std::fs::rename(folder.join("new.toml"), &path).unwrap();
        }),
        ("a symlink in its place", &|text| {
            std::fs::create_dir(folder.join("one")).unwrap();
            write_config(&folder.join("one/real.toml"), text);
            symlink("one/real.toml", folder.join("link")).unwrap();
            std::fs::rename(folder.join("link"), &path).unwrap();
        }),
        ("the file behind the symlink, in place", &|text| write_config(&folder.join("one/real.toml"), text)),
        ("the symlink turned to another file", &|text| {
            std::fs::create_dir(folder.join("two")).unwrap();
            write_config(&folder.join("two/real.toml"), text);
            symlink("two/real.toml", folder.join("link")).unwrap();
            std::fs::rename(folder.join("link"), &path).unwrap();
        }),
    ];
    for (way, write) in ways {
        limit += 1;
        let line = format!("limits = {{ max_concurrent = {limit} }}");
        write(&text.replace("[providers.simulated]", &format!("[providers.simulated]\n{line}")));
        daemon.until(way, |status| status["providers"][0]["max_concurrent"] == limit);
    }
}

#[test]
fn a_broken_config_is_refused_with_line_key_and_reason_and_a_hangup_reads_it_again() {
    let (daemon, _upstream) = with_faults();
    let good = std::fs::read_to_string(&daemon.config).unwrap();
    let before = generation(&daemon.status());
    write_config(&daemon.config, &format!("{good}\n[server]\nport = \"many\"\n"));
    let status = daemon.until("refused", |status| status["config"]["last_reload"] != "ok");
    let reason = status["config"]["last_reload"].as_str().unwrap();
    assert!(reason.contains("config.toml:") && reason.contains("server.port"), "{reason}");
    assert_eq!(generation(&status), before);
    assert!(read(&mut send(&daemon.url, false), "\u{0}").contains("200 OK"), "the good one serves");
    assert_eq!(
        fault(&daemon, &["list"]).status.code(),
        Some(0),
        "the command line finds the daemon all the same"
    );

    write_config(&daemon.config, &good);
    daemon.process().hang_up();
    daemon.until("good again", |status| status["config"]["last_reload"] == "ok");
    write_config(&daemon.config, &good.replace("seed = 3", "seed = 4"));
    daemon.process().hang_up();
    daemon.until("taken up", |status| generation(status) > before);
}

/// What a daemon holds: open files, tasks, and kilobytes of memory.
#[derive(Clone, Copy, Debug)]
struct Held {
    files: usize,
    tasks: u64,
    memory: u64,
}

fn held(daemon: &Daemon) -> Held {
    let id = daemon.process().id();
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let metrics = daemon.get("/metrics").body;
    let tasks = metrics.lines().find_map(|line| line.strip_prefix("cproxy_tasks ")).unwrap();
    Held {
        files: std::fs::read_dir(format!("/proc/{id}/fd")).unwrap().count(),
        tasks: tasks.parse().unwrap(),
        memory: memory.trim().trim_end_matches(" kB").parse().unwrap(),
    }
}

/// Reloads under load, each with another config: limits, addresses, strategies and whole providers come and go. The full
/// size: `CPROXY_RELOADS=1000 cargo test --release --test runtime reloads -- --nocapture`.
#[test]
#[cfg(target_os = "linux")]
fn during_reloads_no_request_fails_and_nothing_is_left_behind() {
    let reloads: u64 = std::env::var("CPROXY_RELOADS").ok().and_then(|n| n.parse().ok()).unwrap_or(40);
    let pace =
        "[[rule]]\nanswer = { parts = [{ text = \"one two three four\" }], pace = { between = \"5ms\" } }\n";
    let (a, b) = (Upstream::start(pace), Upstream::start(pace));
    let config = |turn: u64| {
        let provider = |name: &str, url: &str, lines: &str| {
            format!(
                "[providers.{name}]\nkind = \"local\"\nbase_url = \"{url}/v1\"\nmodels = [\"m\"]\n{lines}\n"
            )
        };
        let mut text = format!("[routing]\nmax_wait = \"{}s\"\n[ledger]\nenabled = false\n", 5 + turn % 7);
        text.push_str(&provider("a", &a.url, &format!("limits = {{ max_concurrent = {} }}", 50 + turn % 5)));
        // The one comes and goes, the other moves between two addresses, which are connections of its own.
        if turn.is_multiple_of(2) {
            text.push_str(&provider("b", &b.url, ""));
        }
        text.push_str(&provider("c", if turn.is_multiple_of(3) { &a.url } else { &b.url }, "weight = 2"));
        text.push_str(&format!(
            "[models]\n\"claude-*\" = [\"a/m\", \"c/m\"{}]\n",
            if turn.is_multiple_of(2) { ", \"b/m\"" } else { "" }
        ));
        text
    };
    let daemon = Daemon::start(&config(0));
    let over = std::sync::atomic::AtomicBool::new(false);
    let (mut early, mut asked) = (None, 0);
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..4)
            .map(|caller| {
                let (over, url) = (&over, daemon.url.as_str());
                scope.spawn(move || {
                    let mut asked = 0u64;
                    while !over.load(std::sync::atomic::Ordering::Relaxed) {
                        let streamed = caller % 2 == 0;
                        let answer = read(&mut send(url, streamed), "\u{0}");
                        let end = if streamed { "message_stop" } else { "end_turn" };
                        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(end), "{answer}");
                        asked += 1;
                    }
                    asked
                })
            })
            .collect();
        for turn in 1..=reloads {
            let before = generation(&daemon.status());
            // Whole at any moment, as editors write: an empty file is a config too, one without providers.
            write_config(&daemon.folder().join("next.toml"), &config(turn));
            std::fs::rename(daemon.folder().join("next.toml"), &daemon.config).unwrap();
            daemon.process().hang_up();
            daemon.until("the next generation", |status| generation(status) > before);
            if turn == reloads.div_ceil(10) {
                early = Some(held(&daemon));
            }
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        asked = callers.into_iter().map(|caller| caller.join().unwrap()).sum();
    });
    daemon.until("at rest", |status| status["open_requests"] == 0);
    let early = early.unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    let mut late = held(&daemon);
    while (late.files > early.files || late.tasks > early.tasks) && std::time::Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(100));
        late = held(&daemon);
    }
    println!("{reloads} reloads, {asked} requests; after a tenth of them {early:?}, at the end {late:?}");
    assert!(late.files <= early.files && late.tasks <= early.tasks, "{early:?}, then {late:?}");
    assert!(late.memory < early.memory + 20_000, "{early:?}, then {late:?}");
}

#[test]
fn a_stop_lets_streams_finish_and_ends_what_is_left_with_an_error() {
    let pace = "[[rule]]\nanswer = { parts = [{ text = \"one two three four five six seven eight\" }], pace = { between = \"PACE\" } }\n";
    for (pace_of, drain, end) in [("100ms", "20s", "message_stop"), ("2s", "1s", "event: error")] {
        let upstream = Upstream::start(&pace.replace("PACE", pace_of));
        let daemon = Daemon::start(&format!("[server]\ndrain = \"{drain}\"\n{}", upstream.provider("local")));
        let mut stream = send(&daemon.url, true);
        read(&mut stream, "one");
        daemon.process().terminate();
        let rest = read(&mut stream, "\u{0}");
        assert!(rest.contains(end), "drain {drain}: {rest}");
        assert!(rest.trim_end().ends_with("\r\n0") || rest.ends_with("0\r\n\r\n"), "the body ends: {rest}");
        let ended = daemon.ended();
        assert_eq!(ended.status.code(), Some(0), "{}{}", ended.stdout, ended.stderr);
    }
}

#[test]
fn faults_are_added_listed_shown_and_cleared() {
    let (daemon, _upstream) = with_faults();
    assert_eq!(stdout(&fault(&daemon, &["list"])), "no fault is armed\n");
    let told =
        stdout(&fault(&daemon, &["add", "status", "-t", "simulated", "--status", "400", "--times", "9"]));
    assert!(told.contains("armed  status"), "{told}");
    stdout(&fault(&daemon, &["add", "delay", "-t", "router", "--delay", "1ms", "--for", "1s"]));
    assert!(read(&mut send(&daemon.url, false), "\u{0}").starts_with("HTTP/1.1 400"));
    let status = daemon.status();
    assert!(status["faults"].as_u64().unwrap() >= 1);
    assert_eq!(status["fault_rules"].as_array().unwrap().len(), 2);
    daemon.until("the second is over", |status| {
        status["fault_rules"].as_array().unwrap().iter().any(|rule| rule["active"] == false)
    });
    let listed: Value = serde_json::from_str(&stdout(&fault(&daemon, &["list", "--json"]))).unwrap();
    let spent = listed["rules"].as_array().unwrap().iter().find(|rule| rule["active"] == false).unwrap();
    assert_eq!(spent["rule"]["fault"], "delay");
    assert_eq!(stdout(&fault(&daemon, &["clear"])), "cleared 1\n");
    assert!(read(&mut send(&daemon.url, false), "\u{0}").starts_with("HTTP/1.1 200"));
}

#[test]
fn an_actor_that_is_killed_by_hand_comes_back() {
    let (daemon, _upstream) = with_faults();
    for actor in ["config", "ledger", "faults", "providers", "simulated", "router", "mcp", "http"] {
        stdout(&fault(&daemon, &["add", "kill", "-t", actor]));
        daemon.until(actor, |status| {
            let actors = status["actors"].as_array().unwrap();
            let one = actors.iter().find(|one| one["path"].as_str().unwrap().ends_with(&format!("/{actor}")));
            one.unwrap()["restarts"].as_u64() >= Some(1) && actors.iter().all(|one| one["state"] == "running")
        });
    }
    assert!(read(&mut send(&daemon.url, false), "\u{0}").starts_with("HTTP/1.1 200"));
}

#[test]
fn faults_that_can_not_be_are_refused_and_nothing_changes() {
    let (daemon, upstream) = with_faults();
    for (arguments, reason) in [
        (&["add", "explode"][..], "there is no fault \"explode\"; there are: kill"),
        (&["add", "kill", "-t", "rooter"], "there is no actor \"rooter\"; there are: root"),
        (&["add", "cut", "-t", "nobody"], "there is no provider \"nobody\"; there are: simulated"),
        (&["add", "hang", "-t", "faults"], "root/faults can only be killed at once"),
        (&["add", "status"], "status needs status = 529"),
        (&["add", "cut", "--nth", "0"], "count from 1"),
    ] {
        let told = stderr(&fault(&daemon, arguments));
        assert!(told.contains(reason), "{arguments:?}: {told}");
    }
    assert_eq!(stdout(&fault(&daemon, &["list"])), "no fault is armed\n");
    // A plan that catches whatever it can: still it can be cleared.
    stdout(&fault(&daemon, &["add", "hang", "-t", "*", "--message", "*"]));
    assert_eq!(stdout(&fault(&daemon, &["clear"])), "cleared 1\n");

    let off = Daemon::start(&upstream.provider("local"));
    assert_eq!(get(&off.url, "/faults").status, 404);
    let told = stderr(&fault(&off, &["add", "kill", "-t", "router"]));
    assert!(told.contains("not enabled") && told.contains("[faults]"), "{told}");
    assert_eq!(off.status()["faults"], Value::Null);
}

#[test]
fn a_plan_that_can_not_be_read_ends_the_start_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[providers.a]\nkind = \"local\"\nbase_url = \"http://127.0.0.1:9/v1\"\nmodels = [\"*\"]\n\
                  [faults]\nenabled = true\nplan = \"plan.toml\"\n[ledger]\nenabled = false\n";
    write_config(&folder.path().join("config.toml"), config);
    for (plan, reason) in [
        (None, "plan.toml: No such file"),
        (
            Some("[[rule]]\nfault = \"kill\"\ntarget = \"nobody\"\n"),
            "fault rule 1: there is no actor \"nobody\"",
        ),
        (Some("[[rule]]\nfault = \n"), "can't be read"),
        (Some("[[rule]]\nfault = \"cut\"\nwhere = \"a\"\n"), "unknown field"),
    ] {
        if let Some(plan) = plan {
            write_config(&folder.path().join("plan.toml"), plan);
        }
        let mut command = std::process::Command::new(daemon::CPROXY);
        command.args(["serve", "--port", "0", "--config", "config.toml"]).current_dir(folder.path());
        let ended = daemon::Process::start(command, &[("HOME", &folder.path().display().to_string())])
            .finish(Duration::from_secs(20));
        assert_eq!(ended.status.code(), Some(1));
        assert!(ended.stderr.contains(reason), "{plan:?}: {}", ended.stderr);
    }
}

#[test]
fn past_the_intensity_of_the_root_the_process_ends_with_the_reason() {
    let upstream = Upstream::start("");
    let daemon = Daemon::start(&format!(
        "{}[faults]\nenabled = true\n[logging]\nfile = \"cproxy.log\"\n",
        upstream.provider("local")
    ));
    let log = daemon.folder().join("cproxy.log");
    // Each change of the file is told to the config actor; each time it panics.
    stdout(&fault(&daemon, &["add", "panic", "-t", "config", "--message", "Touched"]));
    let text = std::fs::read_to_string(&daemon.config).unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !daemon.process().said().contains("gives up") && std::time::Instant::now() < deadline {
        write_config(&daemon.config, &text);
        std::thread::sleep(Duration::from_millis(20));
    }
    let logged = std::fs::read_to_string(&log).unwrap();
    let ended = daemon.ended();
    assert_eq!(ended.status.code(), Some(70), "{}{}", ended.stdout, ended.stderr);
    for said in [&logged, &ended.stderr] {
        assert!(said.contains("root/config") && said.contains("panicked in Touched"), "{said}");
    }
}

#[test]
fn a_drill_of_the_default_config_passes_and_the_same_seed_gives_the_same_card() {
    let home = tempfile::tempdir().unwrap();
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("config.toml");
    let drill = |more: &[&str]| {
        let mut command = std::process::Command::new(daemon::CPROXY);
        command.args(["drill", "--json", "--config"]).arg(&config).args(more);
        command.env_clear().env("HOME", home.path()).current_dir(home.path()).output().unwrap()
    };
    let whole = drill(&["--seed", "7"]);
    let card: Value = serde_json::from_slice(&whole.stdout).unwrap();
    assert!(whole.status.success() && card["passed"] == true, "{card:#}");
    let names: Vec<&str> =
        card["scenarios"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    for name in ["S01", "S16", "K:root/config", "K:root/ledger", "K:root/faults", "K:root/http"] {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
    assert_eq!(whole.stdout, drill(&["--seed", "7"]).stdout, "the same seed, another card");
    let two = drill(&["--scenario", "S03", "--scenario", "K:root/router"]);
    let card: Value = serde_json::from_slice(&two.stdout).unwrap();
    assert_eq!(card["scenarios"].as_array().unwrap().len(), 2);
    let none = drill(&["--scenario", "S99"]);
    assert_eq!(none.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&none.stderr).contains("no scenario has such a name"));
}
