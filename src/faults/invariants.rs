//! The promises as checks: of one answer, and of a daemon that has come to rest. Shared by tests, by the simulation,
//! by `cproxy drill` and by the assertions of debug builds.
//!
//! A check gives back what is wrong, in words; none panics. Those that need no more than what admission knows, and that
//! debug builds assert, stand in [`routing::invariants`](crate::routing::invariants).

use std::borrow::Cow;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

use crate::actors::Directory;
use crate::config::ProviderId;
use crate::routing::invariants::{buckets, places};
use crate::runtime::{State, clock};
use crate::simulator::Recorded;

/// How an answer in the Messages dialect ended, as its caller sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Whole, with this text.
    Well(String),
    /// With an error of this type; the text that came before it.
    Error(String, String),
}

/// Reads a whole answer and checks promises 1 and 2: exactly one end, an error in its shape.
///
/// # Errors
/// What is wrong with it.
pub fn whole(status: u16, body: &[u8]) -> Result<End, String> {
    let answer: Value =
        serde_json::from_slice(body).map_err(|error| format!("the answer is no JSON: {error}"))?;
    if status == 200 {
        if answer["type"] != "message" || answer["role"] != "assistant" {
            return Err("a 200 that is no message".to_owned());
        }
        if !answer["stop_reason"].is_string() {
            return Err("a message without a stop_reason: truncation that looks like success".to_owned());
        }
        let blocks = answer["content"].as_array().ok_or("a message without content")?;
        return Ok(End::Well(blocks.iter().filter_map(|block| block["text"].as_str()).collect()));
    }
    Ok(End::Error(error_type(&answer)?, String::new()))
}

/// What is looked at of an event; millions of them are read in a campaign.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    index: Option<u64>,
    #[serde(borrow, default)]
    delta: Delta<'a>,
}

#[derive(Default, Deserialize)]
struct Delta<'a> {
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow)]
    stop_reason: Option<Cow<'a, str>>,
}

/// Reads a streamed answer and checks promises 1 and 2: events in order, one end and nothing after it, and never a
/// plain stop.
///
/// # Errors
/// What is wrong with it.
pub fn streamed(status: u16, body: &[u8]) -> Result<End, String> {
    if status != 200 {
        return whole(status, body);
    }
    let text = std::str::from_utf8(body).map_err(|error| format!("the stream is no UTF-8: {error}"))?;
    let mut said = String::new();
    let mut end: Option<End> = None;
    let (mut started, mut stopped, mut open) = (false, false, None);
    for event in text.split("\n\n").filter(|event| !event.trim().is_empty()) {
        let data: String =
            event.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim).collect();
        if data.is_empty() {
            continue; // a comment
        }
        let Event { kind, index, delta } =
            serde_json::from_str(&data).map_err(|error| format!("an event is none: {error}: {data}"))?;
        if end.is_some() {
            return Err(format!("{kind} after the end: answered twice"));
        }
        match &*kind {
            "ping" => {}
            "message_start" if started => {
                return Err("two message_start: replayed after the commit".to_owned());
            }
            "message_start" => started = true,
            "error" => {
                let error = serde_json::from_str(&data).unwrap_or_default();
                end = Some(End::Error(error_type(&error)?, said.clone()));
            }
            _ if !started => return Err(format!("{kind} before message_start")),
            "content_block_start" if open.is_some() => return Err("a block inside a block".to_owned()),
            "content_block_start" => open = index,
            "content_block_delta" if open.is_none() || open != index => {
                return Err("a delta outside its block".to_owned());
            }
            "content_block_delta" => said.push_str(&delta.text.unwrap_or_default()),
            "content_block_stop" => open = None,
            "message_delta" => stopped = delta.stop_reason.is_some(),
            "message_stop" if open.is_some() || !stopped => {
                return Err("message_stop before all was said: truncation that looks like success".to_owned());
            }
            "message_stop" => end = Some(End::Well(said.clone())),
            _ => {}
        }
    }
    end.ok_or_else(|| "the stream has no end: neither message_stop nor an error".to_owned())
}

/// The type of an error in Anthropic's shape.
fn error_type(body: &Value) -> Result<String, String> {
    let error = &body["error"];
    match (body["type"].as_str(), error["type"].as_str(), error["message"].as_str()) {
        (Some("error"), Some(kind), Some(_)) => Ok(kind.to_owned()),
        _ => Err(format!("an error in no shape that a caller knows: {body}")),
    }
}

/// What must hold at any moment: promise 5 in so far as it can be seen from outside.
pub fn always(directory: &Directory) -> Vec<String> {
    let mut wrong = Vec::new();
    for (id, entry) in directory.entries.load().iter() {
        wrong.extend(places(id, entry.cell.open(), entry.cell.setup().config.limits.max_concurrent));
        wrong.extend(buckets(id, entry.cell.buckets(clock::now())));
    }
    wrong
}

/// What must hold of the credentials that an upstream saw (promise 8): its own key, and no other's.
pub fn keys(provider: &ProviderId, own: &str, all: &[String], requests: &[Recorded]) -> Vec<String> {
    let mut wrong = Vec::new();
    for request in requests {
        if !request.has_key(own) {
            wrong.push(format!("{provider}: request {} came without its key", request.number));
        }
        let values = request.headers.values().map(http::HeaderValue::as_bytes);
        for text in values.chain([&*request.body]) {
            let foreign = all.iter().filter(|key| *key != own);
            let seen = foreign.filter(|key| memchr::memmem::find(text, key.as_bytes()).is_some());
            wrong.extend(seen.map(|key| format!("{provider}: request {} carries {key}", request.number)));
        }
    }
    wrong
}

/// What must hold of the moments at which an upstream was asked, in order (promise 5): never more than a bucket of
/// `per_minute` gives, whoever died meanwhile. `late` is the longest time from admission to the upstream.
pub fn rate(provider: &ProviderId, per_minute: u32, late: Duration, times: &[Instant]) -> Option<String> {
    let size = f64::from(per_minute);
    let room = size + size / 60.0 * late.as_secs_f64() + 1.0;
    let mut level = room;
    let mut before = *times.first()?;
    for (n, time) in times.iter().enumerate() {
        level = (level + size / 60.0 * time.saturating_duration_since(before).as_secs_f64()).min(room) - 1.0;
        before = *time;
        if level < 0.0 {
            return Some(format!("{provider}: request {n} is more than {per_minute} a minute allow"));
        }
    }
    None
}

/// What must hold of a body that an upstream of the caller's own dialect saw (promise 4): the bytes that were sent, but
/// for the model's name.
pub fn bytes(provider: &ProviderId, sent: &[u8], seen: &[u8]) -> Option<String> {
    (sent != seen).then(|| {
        let (sent, seen) = (String::from_utf8_lossy(sent), String::from_utf8_lossy(seen));
        format!("{provider}: other bytes than the caller's: {seen} in place of {sent}")
    })
}

/// What must hold of the headers that an upstream of the caller's own dialect saw (promise 4): those of the dialect, as
/// they were sent.
pub fn headers(provider: &ProviderId, sent: &[(&str, &str)], seen: &http::HeaderMap) -> Option<String> {
    let lost = sent.iter().find(|(name, value)| {
        let mut values = seen.get_all(*name).iter();
        !values.any(|seen| seen.as_bytes() == value.as_bytes())
    });
    lost.map(|(name, value)| format!("{provider}: the header {name}: {value} did not come with its request"))
}

/// What must hold when nothing is in progress: promises 1, 5 and 9 leave nothing behind.
pub fn at_rest(directory: &Directory) -> Vec<String> {
    let mut wrong = always(directory);
    if directory.requests.open() != 0 {
        wrong.push(format!("{} requests are open, and nobody waits for one", directory.requests.open()));
    }
    for (id, entry) in directory.entries.load().iter() {
        if entry.cell.open() != 0 {
            wrong.push(format!("{id}: {} leases leaked", entry.cell.open()));
        }
        if entry.cell.held() != 0 {
            wrong.push(format!("{id}: {} places are taken for ever", entry.cell.held()));
        }
    }
    wrong
}

/// What must hold one quarantine after the last fault (promise 6): every actor lives.
pub fn alive(directory: &Directory) -> Vec<String> {
    let places = directory.places();
    let ill = places.iter().filter(|place| place.vitals().state() != State::Running);
    ill.map(|place| {
        let vitals = place.vitals();
        let reason = vitals.last_failure().unwrap_or_default();
        format!("{} is {} ({reason})", vitals.path(), vitals.state().as_str())
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "data: {\"type\":\"message_start\",\"message\":{}}\n\n\
        data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{}}\n\n\
        data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"text\":\"hi\"}}\n\n\
        data: {\"type\":\"content_block_stop\",\"index\":0}\n\n\
        data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}}\n\n\
        data: {\"type\":\"message_stop\"}\n\n";

    const ERROR: &str = "data: {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"m\"}}\n\n";

    #[test]
    fn a_good_stream_is_good_and_any_part_of_it_is_not() {
        assert_eq!(streamed(200, GOOD.as_bytes()), Ok(End::Well("hi".into())));
        for (at, _) in GOOD.match_indices("\n\n").take(5) {
            assert!(streamed(200, &GOOD.as_bytes()[..at + 2]).is_err(), "cut at {at}");
            let ended = format!("{}{ERROR}", &GOOD[..at + 2]);
            assert!(matches!(streamed(200, ended.as_bytes()), Ok(End::Error(..))), "cut at {at}");
        }
    }

    #[test]
    fn what_comes_twice_or_too_late_is_seen() {
        assert!(streamed(200, format!("{GOOD}{ERROR}").as_bytes()).is_err());
        assert!(streamed(200, format!("{ERROR}{GOOD}").as_bytes()).is_err());
        let start = "data: {\"type\":\"message_start\",\"message\":{}}\n\n";
        assert!(streamed(200, format!("{start}{GOOD}").as_bytes()).is_err());
        let silent = GOOD.replace("end_turn", "").replace("\"stop_reason\":\"\"", "\"stop_reason\":null");
        assert!(streamed(200, silent.as_bytes()).is_err());
    }

    fn recorded(key: &str, body: &'static str) -> Recorded {
        let mut headers = http::HeaderMap::new();
        if let Ok(key) = key.parse() {
            headers.insert("x-api-key", key);
        }
        Recorded {
            number: 1,
            method: http::Method::POST,
            path: "/v1/messages".into(),
            query: None,
            headers,
            body: body.into(),
            dialect: None,
            model: String::new(),
            rule: None,
            at: tokio::time::Instant::now(),
            status: None,
            events: 0,
            outputs: 0,
            ended: crate::simulator::Ended::Open,
        }
    }

    #[test]
    fn a_key_at_the_wrong_place_is_seen_wherever_it_stands() {
        let (a, all) = (ProviderId::from("a"), ["key-a".to_owned(), "key-b".to_owned()]);
        let of = |request| keys(&a, "key-a", &all, &[request]).len();
        assert_eq!(of(recorded("key-a", "{}")), 0);
        assert_eq!(of(recorded("key-a", "{\"x\":\"key-b\"}")), 1);
        assert_eq!(of(recorded("key-b", "{}")), 2, "its own is missing, and another's is there");
    }

    #[test]
    fn more_than_the_rate_is_seen_and_the_rate_itself_is_not() {
        let (a, start) = (ProviderId::from("a"), clock::now());
        let times = |burst: u32, then: u32| -> Vec<Instant> {
            let rest = (1..=then).map(|n| start + Duration::from_secs(n.into()));
            (0..burst).map(|_| start).chain(rest).collect()
        };
        let of = |times: Vec<Instant>| rate(&a, 60, Duration::ZERO, &times);
        assert_eq!(of(times(60, 600)), None);
        assert!(of(times(62, 0)).is_some(), "a burst that is too large");
        let mut twice = times(60, 10);
        twice.extend((0..60).map(|_| start + Duration::from_secs(10)));
        assert!(of(twice).is_some(), "a bucket that was filled again");
    }

    #[test]
    fn other_bytes_are_seen() {
        let a = ProviderId::from("a");
        assert_eq!(bytes(&a, b"{\"a\": 1}", b"{\"a\": 1}"), None);
        assert!(bytes(&a, b"{\"a\": 1}", b"{\"a\":1}").is_some());
    }

    #[test]
    fn a_header_that_is_lost_or_changed_is_seen() {
        let (a, mut seen) = (ProviderId::from("a"), http::HeaderMap::new());
        let sent = [("anthropic-beta", "x")];
        assert!(headers(&a, &sent, &seen).is_some());
        seen.append("anthropic-beta", http::HeaderValue::from_static("y"));
        assert!(headers(&a, &sent, &seen).is_some());
        seen.append("anthropic-beta", http::HeaderValue::from_static("x"));
        assert_eq!(headers(&a, &sent, &seen), None);
    }

    #[test]
    fn an_error_must_have_its_shape() {
        let error = br#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#;
        assert_eq!(whole(529, error), Ok(End::Error("overloaded_error".into(), String::new())));
        assert!(whole(529, b"{}").is_err());
        assert!(
            whole(200, br#"{"type":"message","role":"assistant","content":[],"stop_reason":null}"#).is_err()
        );
    }
}
