//! What the upstreams' prompt caches do, and what is said of it.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::KINDS;
use crate::inside::{Daemon, asked, in_order, provider, says, upstream, upstreams};

/// A turn of a session with a long system prompt, marked to be cached.
fn turn(system: &str, texts: &[&str]) -> Value {
    let long = format!("{system} {}", "All work and no play makes a dull day. ".repeat(600));
    let roles = ["user", "assistant"].into_iter().cycle();
    let messages: Vec<Value> =
        roles.zip(texts).map(|(role, text)| json!({"role": role, "content": text})).collect();
    json!({"model": "claude-x", "max_tokens": 100, "stream": true, "messages": messages,
        "system": [{"type": "text", "text": long, "cache_control": {"type": "ephemeral"}}]})
}

#[tokio::test]
async fn a_prefix_that_changes_is_counted_as_billed_again() {
    let ups = upstreams(&[&says("yes")]).await;
    let daemon = Daemon::start(&in_order(&ups, "")).await;
    for system in ["Be brief.", "Be brief."] {
        assert!(daemon.ask_in("s1", &turn(system, &["a"])).await.ended_well());
    }
    assert!(daemon.ask_in("s1", &turn("Be brief.", &["a", "yes", "b"])).await.ended_well());
    let status = || cproxy::actors::status::Status::of(daemon.directory());
    let shown = status().prompt_caches;
    assert_eq!(shown.len(), 1, "{shown:?}");
    assert_eq!((shown[0].turns, shown[0].rebilled_tokens, shown[0].session.as_str()), (3, 0, "s1"));
    assert!(shown[0].hit_rate > 0.5, "{shown:?}");
    assert!(status().providers[0].cache_hit_rate.unwrap() > 0.5);
    // The clock of the day in the system prompt: the classic.
    assert!(daemon.ask_in("s1", &turn("Be quick.", &["a", "yes", "b", "yes", "c"])).await.ended_well());
    let status = status();
    assert!(status.prompt_caches[0].rebilled_tokens > 5_000, "{:?}", status.prompt_caches);
    assert_eq!(status.providers[0].cache_rebilled_tokens, status.prompt_caches[0].rebilled_tokens);
    assert_eq!(asked(&ups[0]), 4);
}

/// The log of a test, which runs on one thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Writes what is logged from here on, until the guard is dropped.
    fn begin(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let lines = tracing_subscriber::fmt().json().with_max_level(tracing::Level::WARN);
        tracing::subscriber::set_default(lines.with_writer(move || log.clone()).finish())
    }

    fn lines(&self) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_log_names_the_first_byte_of_a_cached_prefix_that_changed() {
    for (kind, part) in
        KINDS.into_iter().zip(["system[0]", "messages[0]", "instructions[0]", "systemInstruction[0]"])
    {
        let up = upstream(&says("yes")).await;
        let daemon = Daemon::start(&provider("a", &up, kind)).await;
        let log = Log::default();
        let _guard = log.begin();
        let turns: [&[&str]; 4] = [
            &["a"],
            &["a", "yes", "b"],
            &["a", "yes", "b", "yes", "c"],
            &["a", "yes", "b", "yes", "c", "yes", "d"],
        ];
        for turn_of in &turns[..3] {
            assert!(daemon.ask_in("s1", &turn("Be brief.", turn_of)).await.ended_well());
        }
        assert_eq!(log.lines(), Vec::<Value>::new(), "{kind}: nothing was billed again");
        let reply = daemon.ask_in("s1", &turn("Be quick.", turns[3])).await;
        assert!(reply.ended_well(), "{kind}: {reply:?}");
        let lines = log.lines();
        let [line] = &lines[..] else { panic!("{kind}: {lines:?}") };
        assert_eq!(
            (&line["level"], &line["fields"]["request"]),
            (&json!("WARN"), &json!(reply.header("request-id")))
        );
        let body = String::from_utf8(up.handle().requests().last().unwrap().body.to_vec()).unwrap();
        let byte = body.find("Be quick.").unwrap() + "Be ".len();
        let wanted = format!(
            "a cached prefix was billed again: the request's prefix changed at byte {byte}, in {part}"
        );
        assert_eq!(line["fields"]["message"], wanted, "{kind}");
        assert_eq!(line["fields"]["target_model"], "a/claude-x");
        assert!(line["fields"]["tokens"].as_u64().is_some_and(|tokens| tokens > 5_000), "{line}");
    }
}
