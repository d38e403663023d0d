//! Who may talk to the daemon: what must be refused is sent to each of the router's own paths.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods, reason = "real processes, real time")]

#[path = "support/collector.rs"]
mod collector;
#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/ask.rs"]
mod http;

use std::process::Command;

use daemon::{CLIENT_KEY, CPROXY, Daemon, UPSTREAM_KEY, Upstream};
use http::ask;

/// Every path of the daemon, and one that it does not have.
fn paths() -> Vec<String> {
    let mut paths: Vec<String> = cproxy::front::http::paths()
        .map(|path| path.replace("{*id}", "some/model").replace("{file}", "page.js"))
        .collect();
    assert!(paths.len() > 8 && paths.iter().any(|path| path == "/mcp"), "{paths:?}");
    assert!(paths.iter().all(|path| !path.contains('{')), "a parameter without an example: {paths:?}");
    paths.extend(["/mcp/deeper".to_owned(), "/no-such-path".to_owned()]);
    paths
}

const METHODS: [&str; 5] = ["GET", "HEAD", "POST", "DELETE", "OPTIONS"];

fn host(daemon: &Daemon) -> String {
    daemon.url.trim_start_matches("http://").to_owned()
}

#[test]
fn requests_of_other_sites_and_rebinding_names_are_refused_on_every_route() {
    let daemon = Daemon::start("");
    let own = host(&daemon);
    let port = own.rsplit_once(':').unwrap().1;
    let refused: Vec<Vec<(&str, String)>> = vec![
        vec![("host", own.clone()), ("origin", "https://evil.example".into())],
        vec![("host", own.clone()), ("origin", "null".into())],
        vec![("host", own.clone()), ("origin", "http://127.0.0.1.evil.example".into())],
        vec![
            ("host", own.clone()),
            ("origin", "http://localhost".into()),
            ("origin", "http://evil.example".into()),
        ],
        vec![
            ("host", own.clone()),
            ("sec-fetch-site", "cross-site".into()),
            ("sec-fetch-dest", "script".into()),
        ],
        vec![("host", format!("evil.example:{port}"))],
        vec![("host", format!("127.0.0.1.evil.example:{port}"))],
        vec![("host", format!("0.0.0.0:{port}"))],
        vec![("host", String::new())],
    ];
    for path in paths() {
        for method in METHODS {
            for headers in &refused {
                let got = ask(&daemon.url, method, &path, headers, "{}");
                assert_eq!(got.status, 403, "{method} {path} {headers:?}: {}", got.body);
                assert!(!got.head.contains("access-control-"), "{}", got.head);
            }
            // The same from this machine passes the guard, whatever the route makes of it.
            for headers in [
                vec![("host", own.clone())],
                vec![("host", format!("localhost:{port}")), ("origin", format!("http://localhost:{port}"))],
            ] {
                let got = ask(&daemon.url, method, &path, &headers, "{}");
                assert!(got.status != 403 && got.status != 401, "{method} {path}: {}", got.body);
            }
        }
        // A target in absolute form outranks the Host header (RFC 9112, section 3.2.2).
        let got =
            ask(&daemon.url, "GET", &format!("http://evil.example{path}"), &[("host", own.clone())], "");
        assert_eq!(got.status, 403, "{path}: {}", got.body);
    }
}

#[test]
fn without_the_token_every_route_is_closed() {
    let daemon = Daemon::start("[server]\ntoken_file = \"token\"\n");
    let own = host(&daemon);
    let token = std::fs::read_to_string(daemon.folder().join("token")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(daemon.folder().join("token")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    let wrong = format!("{}x", &token[..token.len() - 1]);
    for path in paths() {
        for method in METHODS {
            for sent in
                [None, Some(("x-api-key", wrong.clone())), Some(("authorization", "Bearer ".to_owned()))]
            {
                let headers: Vec<(&str, String)> = [("host", own.clone())].into_iter().chain(sent).collect();
                let got = ask(&daemon.url, method, &path, &headers, "{}");
                assert_eq!(got.status, 401, "{method} {path} {headers:?}: {}", got.body);
                assert!(!got.body.contains(&token) && !got.head.contains(&token));
            }
            let sent = ("authorization", format!("Bearer {token}"));
            let got = ask(&daemon.url, method, &path, &[("host", own.clone()), sent], "{}");
            assert_ne!(got.status, 401, "{method} {path}: {}", got.body);
            let crossed = [
                ("host", own.clone()),
                ("x-api-key", token.clone()),
                ("origin", "https://evil.example".into()),
            ];
            assert_eq!(ask(&daemon.url, method, &path, &crossed, "{}").status, 403, "{method} {path}");
        }
    }
    // A browser is told to ask its user for the token.
    let page = ask(&daemon.url, "GET", "/", &[("host", own), ("accept", "text/html".to_owned())], "");
    assert!(page.head.contains("www-authenticate: basic"), "{}", page.head);
}

#[test]
fn beyond_this_machine_nothing_is_served_without_a_token() {
    for host in ["0.0.0.0", "::", "10.1.2.3"] {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config.toml");
        std::fs::write(&config, "[ledger]\nenabled = false\n").unwrap();
        let output = Command::new(CPROXY)
            .args(["--port", "0", "--host", host, "--config"])
            .arg(&config)
            .env_clear()
            .env("HOME", folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("token_file") && said.contains("--host"), "{said}");
    }
}

#[cfg(unix)]
#[test]
fn a_token_that_others_can_read_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let (config, token) = (folder.path().join("config.toml"), folder.path().join("token"));
    std::fs::write(&config, "[server]\ntoken_file = \"token\"\n[ledger]\nenabled = false\n").unwrap();
    std::fs::write(&token, "0123456789abcdef0123456789abcdef").unwrap();
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let output = Command::new(CPROXY)
        .args(["--port", "0", "--config"])
        .arg(&config)
        .env_clear()
        .env("HOME", folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("chmod 600"), "{said}");
    assert!(!said.contains("0123456789abcdef"), "{said}");
}

/// What MCP clients are shown: every resource, and what each tool answers that tells of the daemon.
fn over_mcp(daemon: &Daemon, prompt: &str) -> Vec<String> {
    use rmcp::ServiceExt;
    use rmcp::model::{CallToolRequestParams, ReadResourceRequestParams};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // Set already: to the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    runtime.block_on(async {
        let client = rmcp::transport::StreamableHttpClientTransport::from_uri(format!("{}/mcp", daemon.url));
        let client = ().serve(client).await.unwrap();
        let mut shown = Vec::new();
        for resource in client.list_all_resources().await.unwrap() {
            let read = client.read_resource(ReadResourceRequestParams::new(resource.uri.clone())).await;
            shown.push(format!("{read:?}"));
        }
        let get = serde_json::json!({ "action": "get" });
        let config =
            CallToolRequestParams::new("proxy_config").with_arguments(get.as_object().unwrap().clone());
        shown.push(format!("{:?}", client.call_tool(config).await.unwrap()));
        for model in ["claude-haiku-4-5", "broken/x"] {
            let asked = serde_json::json!({ "model": model, "messages": "hello", "system": prompt });
            let arguments = asked.as_object().unwrap().clone();
            let asked = CallToolRequestParams::new("proxy_completion").with_arguments(arguments);
            shown.push(format!("{:?}", client.call_tool(asked).await));
        }
        assert!(shown.len() > 7, "{shown:?}");
        shown
    })
}

/// At the most talkative level, with a collector and a panic, after requests that went well and requests that failed.
#[test]
fn a_key_and_a_prompt_show_nowhere_but_at_their_provider() {
    const PROMPT: &str = "canary-of-a-prompt-5d1c";
    let upstream = Upstream::with_key("");
    let (collected, exports) = collector::collector("200 OK");
    let level = "trace,ractor=trace,hyper=trace,hyper_util=trace,reqwest=trace,rustls=trace,rmcp=trace,h2=trace,tower=trace";
    let daemon = Daemon::start(&format!(
        "{}[faults]\nenabled = true\n[otlp]\nenabled = true\nendpoint = \"{collected}\"\ninterval = \"100ms\"\n\
         [logging]\nlevel = \"{level}\"\nfile = \"log\"\n[ledger]\nenabled = true\nfile = \"ledger.db\"\n\
         [providers.broken]\nkind = \"openai\"\nbase_url = \"http://127.0.0.1:9/v1\"\napi_key_env = \"{}\"\n\
         models = [\"broken\"]\n",
        upstream.provider("openai"),
        daemon::KEY_VARIABLE
    ));
    let own = host(&daemon);
    let headers = [("host", own.clone()), ("x-api-key", CLIENT_KEY.to_owned())];
    let body = |model: &str, stream: bool| {
        format!(
            "{{\"model\":\"{model}\",\"max_tokens\":50,\"stream\":{stream},\"system\":\"{PROMPT}\",\
             \"messages\":[{{\"role\":\"user\",\"content\":\"hello\"}}]}}"
        )
    };
    let mut answers = Vec::new();
    for (model, status) in [("claude-haiku-4-5", 200), ("broken/x", 0), ("nobody/y", 0)] {
        for stream in [false, true] {
            let got = ask(&daemon.url, "POST", "/v1/messages", &headers, &body(model, stream));
            assert!(status == 0 || got.status == status, "{model}: {}", got.body);
            answers.push(got.head);
            answers.push(got.body);
        }
    }
    let panic = r#"{"fault":"panic","target":"providers/simulated","times":1}"#;
    let armed = ask(&daemon.url, "POST", "/faults", &headers, panic);
    assert_eq!(armed.status, 200, "{}", armed.body);
    answers.push(ask(&daemon.url, "POST", "/v1/messages", &headers, &body("claude-haiku-4-5", true)).body);
    answers.extend(over_mcp(&daemon, PROMPT));
    let explained = ask(&daemon.url, "POST", "/explain", &headers, &body("claude-haiku-4-5", false));
    answers.push(explained.body);
    for path in ["/", "/status", "/requests", "/usage", "/metrics", "/health", "/v1/models"] {
        answers.push(ask(&daemon.url, "GET", path, &[("host", own.clone())], "").body);
    }
    let folder = daemon.folder().to_path_buf();
    let config = daemon.config.clone();
    let mut files = Vec::new();
    // Read before the daemon's folder goes with it; what it writes at its end is in its output.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    for entry in std::fs::read_dir(&folder).unwrap().flatten() {
        if entry.path().is_file() && entry.path() != config {
            files.push((entry.path(), std::fs::read(entry.path()).unwrap()));
        }
    }
    assert!(files.iter().any(|(path, text)| path.ends_with("log") && text.len() > 1000), "the log is empty");
    assert!(files.iter().any(|(path, _)| path.to_string_lossy().contains("ledger.db")), "there is no ledger");
    let log = files.iter().find(|(path, _)| path.ends_with("log")).unwrap();
    assert!(String::from_utf8_lossy(&log.1).contains("a panic was contained"), "nothing panicked");
    let ended = daemon.stop();
    let exported: Vec<_> = exports.try_iter().collect();
    assert!(exported.iter().any(|export| export.0 == "/v1/traces"), "no trace was exported");
    for collector::Export(path, head, body) in exported {
        files.push((path.into(), [head.as_bytes(), &body[..]].concat()));
    }
    files.push(("stdout".into(), ended.stdout.into_bytes()));
    files.push(("stderr".into(), ended.stderr.into_bytes()));
    files.extend(answers.into_iter().map(|answer| ("an answer".into(), answer.into_bytes())));
    for (place, text) in files {
        for canary in [UPSTREAM_KEY, CLIENT_KEY, PROMPT] {
            let held = text.windows(canary.len()).any(|window| window == canary.as_bytes());
            assert!(!held, "{canary} is in {}: {}", place.display(), String::from_utf8_lossy(&text));
        }
    }
}
