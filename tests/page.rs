//! The status page: what it may load, and that nothing of a user's or an upstream's becomes markup.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/ask.rs"]
mod http;

use std::process::Command;

use daemon::Daemon;
use http::{Got, ask};

fn get(daemon: &Daemon, path: &str, accept: &str) -> Got {
    let host = daemon.url.trim_start_matches("http://").to_owned();
    ask(&daemon.url, "GET", path, &[("host", host), ("accept", accept.to_owned())], "")
}

const FILES: [(&str, &str); 3] =
    [("/", "text/html"), ("/page/page.js", "text/javascript"), ("/page/page.css", "text/css")];

#[test]
fn the_page_and_its_files_are_held_by_the_binary_and_load_nothing_else() {
    let daemon = Daemon::start("");
    for (path, kind) in FILES {
        let got = get(&daemon, path, "text/html,*/*");
        assert_eq!(got.status, 200, "{path}");
        assert!(got.head.contains(&format!("content-type: {kind}")), "{path}: {}", got.head);
        for header in [
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'",
            "frame-ancestors 'none'",
            "x-content-type-options: nosniff",
            "x-frame-options: deny",
            "referrer-policy: no-referrer",
        ] {
            assert!(got.head.contains(header), "{path} lacks {header}: {}", got.head);
        }
        // A name in XML is no address that is loaded.
        let text = got.body.replace("http://www.w3.org/2000/svg", "");
        for outside in ["http://", "https://", "src=\"//", "href=\"//", "url(", "@import"] {
            assert!(!text.contains(outside), "{path} has {outside}");
        }
        if kind == "text/html" {
            assert!(!text.contains("<style") && !text.contains(" style=") && !text.contains(" onload="));
            assert!(!text.replace("<script src=\"/page/page.js\" defer></script>", "").contains("<script"));
        }
    }
    assert_eq!(get(&daemon, "/page/other.js", "*/*").status, 404);
}

#[test]
fn the_script_sets_text_as_text_only() {
    let script = include_str!("../src/front/http/page/page.js");
    for way in
        ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "setHTML"]
    {
        assert!(!script.contains(way), "the script uses {way}");
    }
}

#[test]
fn only_browsers_get_the_page() {
    let daemon = Daemon::start("");
    let plain = get(&daemon, "/", "*/*");
    assert!(plain.body.starts_with("cproxy ") && plain.body.contains("ANTHROPIC_BASE_URL"), "{}", plain.body);
}

/// The name of a key's file is shown: as text, whatever it holds.
#[cfg(unix)]
#[test]
fn a_hostile_name_is_shown_as_text_in_a_real_browser() {
    let Some(browser) = std::env::var_os("CPROXY_CHROMIUM") else {
        eprintln!("skipped: CPROXY_CHROMIUM names no browser");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("<img src=x onerror=document.title='owned'>");
    std::fs::write(&key, "sk-0123456789abcdef").unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let daemon = Daemon::start(&format!(
        "[providers.a]\nkind = \"local\"\nbase_url = \"http://127.0.0.1:9/v1\"\napi_key_file = {:?}\n",
        key.display().to_string()
    ));
    assert!(daemon.status().to_string().contains("<img src=x"), "the name does not reach the status");
    let output = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
        ])
        .args(["--disable-component-update", "--disable-sync", "--virtual-time-budget=4000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .arg(format!("{}/", daemon.url))
        .output()
        .unwrap();
    let page = String::from_utf8_lossy(&output.stdout);
    assert!(page.contains("&lt;img src=x"), "{page}");
    assert!(!page.contains("<img") && !page.contains("<title>owned"), "{page}");
    assert!(page.contains("<title>cproxy: serving"), "{page}");
}
