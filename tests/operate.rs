//! The daemon as its operator sees it: the log, the metrics, the ledger, budgets; and that no key and no prompt
//! shows in any of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/collector.rs"]
mod collector;
#[path = "support/daemon.rs"]
mod daemon;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use collector::{Export, collector, slow_collector};
use cproxy::ledger::report::{self, By, Query};
use cproxy::runtime::clock;
use daemon::{CLIENT_KEY, CPROXY, Daemon, UPSTREAM_KEY, Upstream};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use prost::Message as _;
use serde_json::Value;

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
    let paced = "[[rule]]\nanswer = { pace = { headers = \"50ms\", first = \"50ms\" } }\n";
    let upstream = Upstream::with_key(paced);
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
    let requests = log.lines().filter(|line| line.contains("\"target\":\"cproxy::request\""));
    let requests: Vec<Value> = requests.map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(requests.len(), 4, "{log}");
    // The connection of the first is kept for the others; who refuses by itself has asked nobody.
    let has = |n: usize, name: &str| requests[n].get(name).is_some();
    assert!(has(0, "connect_ms") && !has(1, "connect_ms") && !has(3, "first_byte_ms"), "{requests:#?}");
    let ms = |name: &str| requests[1][name].as_u64().unwrap();
    let (first_byte, first_output, total) = (ms("first_byte_ms"), ms("first_output_ms"), ms("total_ms"));
    assert!(50 <= first_byte && first_byte + 40 <= first_output && first_output <= total, "{}", requests[1]);

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

/// The next export to this path that is as wanted.
fn next<T>(exports: &Receiver<Export>, path: &str, wanted: impl Fn(&Export) -> Option<T>) -> T {
    let deadline = clock::now() + Duration::from_secs(20);
    loop {
        let left = deadline.saturating_duration_since(clock::now());
        let export =
            exports.recv_timeout(left).unwrap_or_else(|_| panic!("nothing as wanted came to {path}"));
        if let Some(found) = Some(&export).filter(|export| export.0 == path).and_then(&wanted) {
            return found;
        }
    }
}

fn attributes(pairs: &[KeyValue]) -> BTreeMap<&str, String> {
    let shown = |pair: &KeyValue| match pair.value.as_ref().and_then(|value| value.value.as_ref()).unwrap() {
        Any::StringValue(text) => text.clone(),
        Any::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    pairs.iter().map(|pair| (pair.key.as_str(), shown(pair))).collect()
}

#[test]
fn metrics_and_traces_reach_a_collector_and_say_what_happened() {
    let upstream = Upstream::with_key("");
    let (url, exports) = collector("200 OK");
    let broken = "[routing]\nretry_attempts = 0\n[providers.broken]\nkind = \"local\"\nbase_url = \"http://127.0.0.1:1/v1\"\n\
                  [models]\nboth = [\"broken/x\", \"simulated/claude-opus-4-1\"]\n";
    let export = format!("[otlp]\nenabled = true\nendpoint = \"{url}/\"\ninterval = \"200ms\"\n");
    let daemon = Daemon::start(&format!("{}{broken}{export}", upstream.provider("anthropic")));
    assert_eq!(ask(&daemon, "both", true).0, 200);

    let (head, spans, resource) = next(&exports, "/v1/traces", |Export(_, head, body)| {
        let request = ExportTraceServiceRequest::decode(&body[..]).unwrap();
        let [all] = &request.resource_spans[..] else { panic!("{request:?}") };
        Some((head.clone(), all.scope_spans[0].spans.clone(), all.resource.clone().unwrap()))
    });
    assert!(head.contains("content-type: application/x-protobuf"), "{head}");
    assert_eq!(attributes(&resource.attributes)["service.name"], "cproxy");
    let [request, failed, served] = &spans[..] else { panic!("{spans:#?}") };
    assert_eq!((request.name.as_str(), failed.name.as_str()), ("request messages", "chat x"));
    assert_eq!(served.name, "chat claude-opus-4-1");
    for span in &spans {
        assert_eq!((span.trace_id.len(), span.span_id.len()), (16, 8));
        assert_eq!(span.trace_id, request.trace_id);
        assert!(span.start_time_unix_nano >= request.start_time_unix_nano);
        assert!(span.end_time_unix_nano <= request.end_time_unix_nano + 1_000_000);
    }
    assert!(request.parent_span_id.is_empty());
    assert!([failed, served].iter().all(|span| span.parent_span_id == request.span_id));
    assert_ne!(failed.span_id, served.span_id);
    let of_request = attributes(&request.attributes);
    assert!(of_request["cproxy.request.id"].starts_with("req_"));
    assert_eq!((&*of_request["gen_ai.request.model"], &*of_request["cproxy.outcome"]), ("both", "ok"));
    assert_eq!(attributes(&failed.attributes)["error.type"], "network");
    assert_eq!(failed.status.as_ref().unwrap().code, 2);
    let of_served = attributes(&served.attributes);
    assert_eq!(of_served["gen_ai.provider.name"], "anthropic");
    assert!(of_served["gen_ai.usage.output_tokens"].parse::<u64>().unwrap() > 0);

    // The duration of an operation, by the name and the unit of the conventions.
    next(&exports, "/v1/metrics", |Export(_, _, body)| {
        let request = ExportMetricsServiceRequest::decode(&body[..]).unwrap();
        let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
        let find = |name: &str| metrics.iter().find(|metric| metric.name == name);
        let duration = find("gen_ai.client.operation.duration")?;
        assert_eq!(duration.unit, "s");
        let Some(Data::Histogram(histogram)) = &duration.data else { panic!("{duration:?}") };
        let point = histogram
            .data_points
            .iter()
            .find(|point| attributes(&point.attributes)["provider"] == "simulated")?;
        assert_eq!((point.count, point.bucket_counts.iter().sum::<u64>()), (1, 1));
        assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
        let Some(Data::Sum(failovers)) = &find("cproxy.failovers")?.data else { panic!("no sum") };
        assert!(failovers.is_monotonic);
        assert_eq!(attributes(&failovers.data_points[0].attributes)["reason"], "network");
        Some(())
    });
    assert!(daemon.stop().status.success());
    for Export(_, head, body) in exports.try_iter() {
        for secret in [UPSTREAM_KEY, CLIENT_KEY, PROMPT] {
            assert!(!holds(&body, secret) && !head.contains(secret), "\"{secret}\" was exported");
        }
    }
}

#[test]
fn the_last_requests_are_exported_before_the_end_and_redirects_are_not_followed() {
    let upstream = Upstream::with_key("");
    let (url, exports) = collector("200 OK");
    let export = |url: &str, interval: &str| {
        format!(
            "{}[otlp]\nenabled = true\nendpoint = \"{url}\"\ninterval = \"{interval}\"\n",
            upstream.provider("anthropic")
        )
    };
    let daemon = Daemon::start(&export(&url, "1h"));
    assert_eq!(ask(&daemon, "claude-opus-4-1", false).0, 200);
    assert!(daemon.stop().status.success());
    next(&exports, "/v1/traces", |_| Some(()));

    let elsewhere: &'static str = format!("307 Temporary Redirect\r\nlocation: {url}/v1/metrics").leak();
    let (redirecting, asked) = collector(elsewhere);
    let daemon = Daemon::start(&export(&redirecting, "200ms"));
    next(&asked, "/v1/metrics", |_| Some(()));
    daemon.until("a warning", |status| status["warnings"].to_string().contains("redirects (307"));
    assert!(exports.try_iter().next().is_none(), "the redirect was followed");
    // A daemon whose collector is of no use serves, and ends in time.
    assert_eq!(ask(&daemon, "claude-opus-4-1", false).0, 200);
    assert!(daemon.stop().status.success());
}

#[test]
fn what_happens_while_an_export_is_on_its_way_is_exported_before_the_end() {
    let upstream = Upstream::with_key("");
    let (url, exports) = slow_collector("200 OK", Duration::from_millis(700));
    let export =
        format!("[otlp]\nenabled = true\nendpoint = \"{url}\"\ninterval = \"100ms\"\ntraces = false\n");
    let daemon = Daemon::start(&format!("{}{export}", upstream.provider("anthropic")));
    next(&exports, "/v1/metrics", |_| Some(()));
    assert_eq!(ask(&daemon, "claude-opus-4-1", false).0, 200);
    assert!(daemon.stop().status.success());
    next(&exports, "/v1/metrics", |Export(_, _, body)| {
        let request = ExportMetricsServiceRequest::decode(&body[..]).unwrap();
        let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
        metrics.iter().find(|metric| metric.name == "gen_ai.client.operation.duration").map(|_| ())
    });
}

#[test]
fn one_id_shows_the_whole_story() {
    let upstream = Upstream::with_key("");
    let kept = "[routing]\nretry_attempts = 0\n[logging]\nlevel = \"info,cproxy=debug\"\nformat = \"json\"\nfile = \"cproxy.log\"\nresponses = true\n\
                request_bodies = true\n[ledger]\nfile = \"ledger.sqlite3\"\n\
                [models]\nboth = [\"broken/x\", \"simulated/claude-opus-4-1\"]\n\
                [providers.broken]\nkind = \"local\"\nbase_url = \"http://127.0.0.1:1/v1\"\n";
    let daemon = Daemon::start(&format!("{}{kept}", upstream.provider("anthropic")));
    for stream in [true, false] {
        assert_eq!(ask(&daemon, "both", stream).0, 200);
        assert_eq!(ask(&daemon, "claude-opus-4-1", stream).0, 200);
    }
    let recent: serde_json::Value = serde_json::from_str(&daemon.get("/requests").body).unwrap();
    let of_both = recent["requests"].as_array().unwrap().iter().filter(|one| one["model"] == "both");
    let ids: Vec<String> = of_both.map(|one| one["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 2);
    let story = |id: &str| {
        let mut command = std::process::Command::new(CPROXY);
        command.args(["logs", "--request", id, "--config"]).arg(&daemon.config);
        let home = daemon.folder().display().to_string();
        daemon::Process::start(command, &[("HOME", &home)]).finish(Duration::from_secs(20)).stdout
    };
    for id in ids {
        let deadline = clock::now() + Duration::from_secs(10);
        let told = loop {
            let told = story(&id);
            if told.contains("is in the ledger") || clock::now() > deadline {
                break told;
            }
        };
        let mut rest = told.as_str();
        // In this order: the plan, the first provider's actor, the failure, the second one's, the end.
        for part in [
            "\"planned\"",
            "1. broken/x",
            "\"admitted\",\"provider\":\"broken\"",
            "\"an attempt failed\"",
            "\"admitted\",\"provider\":\"simulated\"",
            "\"ended\",\"outcome\":\"ok\"",
            "cproxy::request",
            "\"booked\"",
            "is in the ledger",
        ] {
            let at =
                rest.find(part).unwrap_or_else(|| panic!("{part} is not told, or not in its turn:\n{told}"));
            rest = &rest[at..];
        }
        for what in ["request", "answer"] {
            assert!(told.contains(&format!("\"what\":\"{what}\"")), "no body of the {what}:\n{told}");
        }
        for secret in [UPSTREAM_KEY, CLIENT_KEY] {
            assert!(!told.contains(secret), "{told}");
        }
        assert_eq!(told.matches("cproxy::request\"").count(), 1, "{told}");
    }
}

#[test]
fn past_the_mark_of_a_budget_a_cheaper_target_is_asked() {
    let upstream = Upstream::with_key("");
    let rest = "[budgets]\nday = { warn = 0.001 }\n\
                [models]\nbest = [\"simulated/claude-opus-4-1\", \"simulated/claude-haiku-4-5\"]\n";
    let daemon = Daemon::start(&format!("{}{KEPT}{rest}", upstream.provider("anthropic")));
    let asked = |model: &str| {
        assert_eq!(ask(&daemon, model, false).0, 200);
        let recent: serde_json::Value = serde_json::from_str(&daemon.get("/requests").body).unwrap();
        recent["requests"][0]["route"].as_str().unwrap().to_owned()
    };
    // Until the mark is passed the dear one is asked; from then on the cheap one.
    let mut routes = Vec::new();
    for _ in 0..20 {
        routes.push(asked("best"));
        if routes.last().unwrap().contains("haiku") {
            break;
        }
    }
    assert!(routes[0].contains("claude-opus-4-1: ok"), "{routes:?}");
    assert!(routes.last().unwrap().contains("claude-haiku-4-5: ok"), "{routes:?}");
    assert!(daemon.said().contains("the mark of the budget of today is passed"), "{}", daemon.said());
}

#[test]
fn a_key_that_is_changed_in_its_file_is_taken_up_without_a_restart() {
    use std::os::unix::fs::PermissionsExt;
    let upstream = Upstream::with_key("");
    let provider = |name: &str, key: &str| {
        format!(
            "[providers.{name}]\nkind = \"anthropic\"\nbase_url = \"{}\"\n{key}\nhealth = {{ interval = \"0s\" }}\n",
            upstream.url
        )
    };
    let config =
        provider("by-file", "api_key_file = \"key\"") + &provider("by-variable", "api_key_env = \"ROTATED\"");
    let daemon = Daemon::start(&config);
    let state = |status: &serde_json::Value, name: &str| {
        let providers = status["providers"].as_array().unwrap().iter();
        providers
            .filter(|one| one["name"] == name)
            .map(|one| one["state"].as_str().unwrap().to_owned())
            .next()
            .unwrap()
    };
    let put = |name: &str, text: &str| {
        let (path, new) = (daemon.folder().join(name), daemon.folder().join("new"));
        std::fs::write(&new, text).unwrap();
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::rename(new, path).unwrap();
    };
    for (name, model, file, prefix) in [
        ("by-file", "by-file/claude-x", "key", ""),
        ("by-variable", "by-variable/claude-x", "cproxy.env", "ROTATED="),
    ] {
        assert_eq!(state(&daemon.status(), name), "no key");
        put(file, &format!("{prefix}sk-of-yesterday"));
        daemon.until("a key", |status| state(status, name) == "ready");
        assert_ne!(ask(&daemon, model, false).0, 200, "another key than the upstream's");
        put(file, &format!("{prefix}{UPSTREAM_KEY}"));
        let deadline = clock::now() + Duration::from_secs(20);
        while ask(&daemon, model, false).0 != 200 {
            assert!(clock::now() < deadline, "the new key of {name} is not taken up: {}", daemon.said());
        }
    }
}

/// A limit on the size of files is how a full disk looks to whoever writes.
#[test]
fn on_a_full_disk_requests_go_on_and_the_status_says_so() {
    let upstream = Upstream::with_key("");
    let shell = ["sh", "-c", "trap '' XFSZ; ulimit -f 120; exec \"$0\" \"$@\""];
    let kept = "[logging]\nlevel = \"trace\"\nfile = \"cproxy.log\"\n[ledger]\nfile = \"ledger.sqlite3\"\n";
    let daemon = Daemon::start_by(&shell, &format!("{}{kept}", upstream.provider("anthropic")), 0);
    let warned = |status: &serde_json::Value| {
        let warnings = status["warnings"].to_string();
        warnings.contains("the ledger can't be written")
            && warnings.contains("could not be written to the log file")
    };
    let deadline = clock::now() + Duration::from_secs(60);
    while !warned(&daemon.status()) {
        assert!(clock::now() < deadline, "{}", daemon.status()["warnings"]);
        for stream in [true, false] {
            assert_eq!(ask(&daemon, "claude-opus-4-1", stream).0, 200);
        }
    }
    assert_eq!(ask(&daemon, "claude-opus-4-1", true).0, 200);
    // What is shown of late is there all the same.
    assert!(daemon.get("/requests").body.contains("claude-opus-4-1"));
    assert!(daemon.stop().status.success());
}

#[test]
fn a_corrupt_ledger_is_set_aside_and_another_begun_and_that_is_said() {
    let upstream = Upstream::with_key("");
    let place = tempfile::tempdir().unwrap();
    let ledger = place.path().join("ledger.sqlite3");
    std::fs::write(&ledger, "this is no database".repeat(1000)).unwrap();
    let config = format!("{}[ledger]\nfile = \"{}\"\n", upstream.provider("anthropic"), ledger.display());
    let daemon = Daemon::start(&config);
    assert_eq!(ask(&daemon, "claude-opus-4-1", false).0, 200);
    let status = daemon.until("a warning", |status| status["warnings"].to_string().contains("corrupt"));
    let names: Vec<String> = std::fs::read_dir(place.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let aside = names.iter().find(|name| name.contains(".corrupt-")).unwrap_or_else(|| panic!("{names:?}"));
    assert!(status["warnings"].to_string().contains(aside.as_str()), "{}", status["warnings"]);
    daemon.until("the new one", |_| {
        report::read(&ledger, Query::default()).is_ok_and(|all| all.total.requests == 1)
    });
    assert!(daemon.said().contains("set aside"), "{}", daemon.said());
}
