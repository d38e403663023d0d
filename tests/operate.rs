//! The daemon as its operator sees it: the log, the metrics, the ledger, budgets; and that no key and no prompt
//! shows in any of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/daemon.rs"]
mod daemon;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use cproxy::ledger::report::{self, By, Query};
use daemon::{CLIENT_KEY, Daemon, UPSTREAM_KEY, Upstream};

const PROMPT: &str = "a prompt that is nobodys business 7391";

/// Posts a message; gives status and body.
fn ask(daemon: &Daemon, model: &str, stream: bool) -> (u16, String) {
    let body = format!(
        "{{\"model\":\"{model}\",\"max_tokens\":100,\"stream\":{stream},\"system\":\"{PROMPT}\",\
         \"messages\":[{{\"role\":\"user\",\"content\":\"{PROMPT}\"}}]}}"
    );
    let host = daemon.url.strip_prefix("http://").unwrap();
    let mut connection = TcpStream::connect(host).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(
        connection,
        "POST /v1/messages HTTP/1.1\r\nhost: {host}\r\nx-api-key: {CLIENT_KEY}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// All files below a folder, as bytes.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push((path.display().to_string(), std::fs::read(&path).unwrap())),
        }
    }
    found
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

const KEPT: &str = "[logging]\nlevel = \"trace\"\nformat = \"json\"\nfile = \"log/cproxy.log\"\n\
                    [ledger]\nfile = \"state/ledger.sqlite3\"\n";

#[test]
fn each_request_is_in_the_log_the_metrics_and_the_ledger_and_no_key_or_prompt_is() {
    let upstream = Upstream::with_key("");
    let refused = "[[routing.rules]]\nmodel = \"model-of-nobody\"\nrefuse = \"not here\"\n";
    let daemon = Daemon::start(&format!("{}{KEPT}{refused}", upstream.provider("anthropic")));
    for (model, stream) in
        [("claude-opus-4-1", false), ("claude-opus-4-1", true), ("claude-nobody-knows", false)]
    {
        assert_eq!(ask(&daemon, model, stream).0, 200);
    }
    assert_eq!(ask(&daemon, "model-of-nobody", false).0, 403);

    let metrics = daemon.get("/metrics");
    assert!(metrics.headers["content-type"].starts_with("text/plain; version=0.0.4"));
    for line in [
        "cproxy_requests_total{front=\"messages\",outcome=\"ok\"} 3",
        "cproxy_requests_total{front=\"messages\",outcome=\"failed\"} 1",
        "cproxy_attempts_total{provider=\"simulated\",outcome=\"ok\"} 3",
        "cproxy_actor_up{actor=\"root/ledger\"} 1",
        "cproxy_overhead_microseconds_count 3",
    ] {
        assert!(metrics.body.contains(line), "{line} is not in\n{}", metrics.body);
    }
    assert!(!metrics.body.contains("opus") && !metrics.body.contains("nobody"), "{}", metrics.body);
    let status = daemon.get("/status").body;

    let (folder, kept) = (daemon.folder().to_owned(), tempfile::tempdir().unwrap());
    let ledger = kept.path().join("ledger.sqlite3");
    daemon.until("the ledger", |_| {
        let total = |by| report::read(&folder.join("state/ledger.sqlite3"), Query { by, ..Query::default() });
        total(By::Day).is_ok_and(|report| report.total.requests == 4)
    });
    let mut seen = files(&folder);
    for (name, bytes) in &seen {
        if let Some((_, suffix)) = name.split_once("ledger.sqlite3") {
            std::fs::write(kept.path().join(format!("ledger.sqlite3{suffix}")), bytes).unwrap();
        }
    }
    let ended = daemon.stop();
    assert!(ended.status.success());

    let report = report::read(&ledger, Query { by: By::Model, ..Query::default() }).unwrap();
    let line = |key: &str| report.lines.iter().find(|line| line.key.as_deref() == Some(key)).unwrap();
    assert!(line("claude-opus-4-1").cost_usd.is_some_and(|cost| cost > 0.0));
    assert_eq!((line("claude-nobody-knows").cost_usd, line("claude-nobody-knows").cost_unknown), (None, 1));
    assert_eq!((report.total.requests, report.total.errors, report.total.attempts), (4, 1, 3));

    let log = seen.iter().find(|(name, _)| name.ends_with("cproxy.log")).unwrap();
    let log = String::from_utf8_lossy(&log.1).into_owned();
    let requests = log.lines().filter(|line| line.contains("\"target\":\"cproxy::request\"")).count();
    assert_eq!(requests, 4, "{log}");

    seen.push(("stdout".into(), ended.stdout.into_bytes()));
    seen.push(("stderr".into(), ended.stderr.into_bytes()));
    seen.push(("/metrics".into(), metrics.body.into_bytes()));
    seen.push(("/status".into(), status.into_bytes()));
    for (name, bytes) in seen {
        for secret in [UPSTREAM_KEY, CLIENT_KEY, PROMPT] {
            assert!(!holds(&bytes, secret), "\"{secret}\" is in {name}");
        }
    }
}

#[test]
fn a_budget_that_is_used_up_refuses_and_says_what_to_do() {
    let upstream = Upstream::with_key("");
    let budgets = "[budgets]\nday = { warn = 0.001, stop = 0.012 }\n";
    let daemon = Daemon::start(&format!("{}{KEPT}{budgets}", upstream.provider("anthropic")));
    // 100 tokens of output are set apart: $0.0075 of Opus 4.1. One request fits, then another does not.
    assert_eq!(ask(&daemon, "claude-opus-4-1", false).0, 200);
    let (status, body) = ask(&daemon, "claude-opus-4-1", false);
    assert_eq!(status, 402, "{body}");
    assert!(body.contains("billing_error") && body.contains("[budgets] day"), "{body}");
    // What is cheaper still goes through.
    assert_eq!(ask(&daemon, "claude-haiku-4-5", false).0, 200);
    let warnings = daemon.status()["warnings"].to_string();
    assert!(warnings.contains("spent $") && warnings.contains("today"), "{warnings}");
}

#[test]
fn a_daemon_that_is_stopped_has_written_its_last_request() {
    let upstream = Upstream::with_key("");
    let place = tempfile::tempdir().unwrap();
    let ledger = place.path().join("ledger.sqlite3");
    let config = format!("{}[ledger]\nfile = \"{}\"\n", upstream.provider("anthropic"), ledger.display());
    let daemon = Daemon::start(&config);
    assert_eq!(ask(&daemon, "claude-opus-4-1", false).0, 200);
    assert!(daemon.stop().status.success());
    assert_eq!(report::read(&ledger, Query::default()).unwrap().total.requests, 1);
}

#[test]
fn requests_go_on_while_the_ledger_can_not_be_written() {
    let upstream = Upstream::with_key("");
    let config = format!("{}[ledger]\nfile = \"/dev/null/ledger\"\n", upstream.provider("anthropic"));
    let daemon = Daemon::start(&config);
    assert_eq!(ask(&daemon, "claude-opus-4-1", false).0, 200);
    let warned =
        |status: &serde_json::Value| status["warnings"].to_string().contains("ledger can't be written");
    daemon.until("a warning", warned);
    assert_eq!(ask(&daemon, "claude-opus-4-1", true).0, 200);
    assert!(daemon.stop().status.success());
}
