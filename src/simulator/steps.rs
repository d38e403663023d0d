//! How an answer goes out: first a list of waits and writes, with the faults in it (pure); then its player.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};
use http_body::Frame;

use super::journal::Tracker;
use super::script::{Chunks, Pace, Place, Trouble};
use super::write::{Event, Kind};

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    Wait(Duration),
    Send {
        bytes: Bytes,
        events: usize,
        outputs: usize,
    },
    /// Nothing more but signs of life, if any; the connection stays until the client leaves.
    Stall(Option<(Duration, Bytes)>),
    /// The connection is closed.
    HangUp,
    /// The connection is reset.
    Reset,
    /// The answer ends here although it is not whole.
    Cut,
}

/// Why a body ends without its end.
#[derive(Debug, thiserror::Error)]
#[error("the script closes the connection here")]
pub struct Broken;

/// What an answer's events become on the wire.
pub(super) fn compile(
    mut events: Vec<Event>,
    pace: &Pace,
    chunks: &Chunks,
    fault: Option<&Trouble>,
    alive: &Event,
    error: Option<Event>,
) -> Vec<Step> {
    let last_step = apply(fault, &mut events, error);
    if chunks.crlf {
        for event in &mut events {
            event.text = event.text.replace("\r\n", "\n").replace('\n', "\r\n");
        }
    }
    let mut steps = Vec::new();
    let mut first = true;
    for event in events {
        let wait = match (event.kind == Kind::Output, first) {
            (true, true) => pace.first,
            (true, false) => pace.between,
            (false, _) => Duration::ZERO,
        };
        wait_alive(&mut steps, wait, pace.ping, alive);
        let output = event.kind == Kind::Output;
        first &= !output;
        steps.push(Step::Send {
            events: usize::from(event.kind != Kind::Alive),
            outputs: usize::from(output),
            bytes: Bytes::from(event.text),
        });
    }
    if chunks.at_once {
        join(&mut steps);
    }
    if let Some(size) = chunks.bytes {
        steps = split(steps, size.max(1), chunks.trickle);
    }
    let last_step = match (last_step, pace.ping) {
        (Some(Step::Stall(_)), Some(every)) => {
            Some(Step::Stall(Some((every, Bytes::from(alive.text.clone())))))
        }
        (last_step, _) => last_step,
    };
    steps.extend(last_step);
    steps
}

/// The body that does these steps. `reset` marks the connection before it breaks.
pub(super) fn play(
    steps: Vec<Step>,
    tracker: Tracker,
    reset: impl Fn() + Send + 'static,
) -> impl Stream<Item = Result<Frame<Bytes>, Broken>> + Send + 'static {
    let state = (VecDeque::from(steps), tracker, reset);
    stream::unfold(state, async |(mut steps, mut tracker, reset)| {
        while let Some(step) = steps.pop_front() {
            match step {
                Step::Wait(time) => tokio::time::sleep(time).await,
                Step::Send { bytes, events, outputs } => {
                    tracker.sent(events, outputs);
                    if steps.is_empty() {
                        tracker.whole();
                    }
                    return Some((Ok(Frame::data(bytes)), (steps, tracker, reset)));
                }
                Step::Stall(None) => std::future::pending::<()>().await,
                Step::Stall(Some((every, sign))) => {
                    tokio::time::sleep(every).await;
                    steps.push_front(Step::Stall(Some((every, sign.clone()))));
                    return Some((Ok(Frame::data(sign)), (steps, tracker, reset)));
                }
                Step::Cut => {
                    tracker.broken();
                    return None;
                }
                Step::HangUp | Step::Reset => {
                    // What was written must be on its way before the connection breaks.
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    if step == Step::Reset {
                        reset();
                    }
                    tracker.broken();
                    steps.clear();
                    return Some((Err(Broken), (steps, tracker, reset)));
                }
            }
        }
        tracker.whole();
        None
    })
}

/// Shortens or spoils the events as the fault says; gives what comes after the last one.
fn apply(fault: Option<&Trouble>, events: &mut Vec<Event>, error: Option<Event>) -> Option<Step> {
    match fault? {
        Trouble::Refuse | Trouble::Silence | Trouble::ErrorBody(_) => None,
        Trouble::Stall(place) => cut(events, *place, Step::Stall(None)),
        Trouble::Cut(place) => cut(events, *place, Step::Cut),
        Trouble::HangUp(place) => cut(events, *place, Step::HangUp),
        Trouble::Reset(place) => cut(events, *place, Step::Reset),
        Trouble::Error(wanted) => {
            events.truncate(wanted.at.find(events));
            events.extend(error);
            None
        }
        Trouble::Corrupt(place) => {
            let from = place.find(events);
            if let Some(event) = events.iter_mut().skip(from).find(|event| event.kind != Kind::Alive) {
                spoil(event);
            }
            None
        }
        Trouble::NoTerminator => {
            events.retain(|event| event.kind != Kind::Terminator);
            None
        }
    }
}

fn cut(events: &mut Vec<Event>, place: Place, then: Step) -> Option<Step> {
    events.truncate(place.find(events));
    Some(then)
}

/// Breaks the JSON of an event, not its frame.
fn spoil(event: &mut Event) {
    if let Some(at) = event.text.rfind('}') {
        event.text.replace_range(at..=at, ",,");
    }
}

// === impl Place ===

impl Place {
    /// How many of these events stand before this place.
    fn find(&self, events: &[Event]) -> usize {
        if self.before_end {
            let end = |event: &Event| matches!(event.kind, Kind::End | Kind::Terminator);
            return events.iter().position(end).unwrap_or(events.len());
        }
        let (wanted, counts): (usize, fn(&Event) -> bool) = match (self.after_events, self.after_outputs) {
            (Some(n), _) => (n, |event| event.kind != Kind::Alive),
            (None, Some(n)) => (n, |event| event.kind == Kind::Output),
            (None, None) => return 0,
        };
        let Some(last) = wanted.checked_sub(1) else {
            // Before the first output still stands what opens the answer.
            return if self.after_outputs.is_some() {
                events.iter().position(counts).unwrap_or(events.len())
            } else {
                0
            };
        };
        let place = events.iter().enumerate().filter(|(_, event)| counts(event)).nth(last);
        place.map_or(events.len(), |(at, _)| at + 1)
    }
}

fn wait_alive(steps: &mut Vec<Step>, wait: Duration, ping: Option<Duration>, alive: &Event) {
    let mut left = wait;
    if let Some(every) = ping.filter(|every| !every.is_zero()) {
        while left > every {
            steps.push(Step::Wait(every));
            steps.push(Step::Send { bytes: Bytes::from(alive.text.clone()), events: 0, outputs: 0 });
            left -= every;
        }
    }
    if !left.is_zero() {
        steps.push(Step::Wait(left));
    }
}

/// All writes as one, after all waits.
fn join(steps: &mut Vec<Step>) {
    let (mut all, mut all_events, mut all_outputs) = (Vec::new(), 0, 0);
    steps.retain(|step| match step {
        Step::Send { bytes, events, outputs } => {
            all.extend_from_slice(bytes);
            all_events += events;
            all_outputs += outputs;
            false
        }
        _ => true,
    });
    if all.is_empty() {
        return;
    }
    steps.push(Step::Send { bytes: Bytes::from(all), events: all_events, outputs: all_outputs });
}

/// Every write in pieces of `size` bytes; the last piece counts for the event.
fn split(steps: Vec<Step>, size: usize, trickle: Duration) -> Vec<Step> {
    let mut pieces = Vec::new();
    for step in steps {
        let Step::Send { mut bytes, events, outputs } = step else {
            pieces.push(step);
            continue;
        };
        while !bytes.is_empty() {
            let piece = bytes.split_to(size.min(bytes.len()));
            if !trickle.is_zero() {
                pieces.push(Step::Wait(trickle));
            }
            let last = bytes.is_empty();
            pieces.push(Step::Send {
                bytes: piece,
                events: if last { events } else { 0 },
                outputs: if last { outputs } else { 0 },
            });
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn event(text: &str, kind: Kind) -> Event {
        Event { text: text.to_owned(), kind }
    }

    fn answer() -> Vec<Event> {
        vec![
            event("a{}", Kind::Frame),
            event(":", Kind::Alive),
            event("b{}", Kind::Output),
            event("c{}", Kind::Output),
            event("d{}", Kind::End),
            event("e", Kind::Terminator),
        ]
    }

    fn wire(fault: Option<&Trouble>) -> (String, Option<Step>) {
        let alive = event(":", Kind::Alive);
        let error = Some(event("X", Kind::Frame));
        let steps = compile(answer(), &Pace::default(), &Chunks::default(), fault, &alive, error);
        let text = steps
            .iter()
            .filter_map(|step| match step {
                Step::Send { bytes, .. } => Some(String::from_utf8_lossy(bytes).into_owned()),
                _ => None,
            })
            .collect();
        (text, steps.last().cloned().filter(|step| !matches!(step, Step::Send { .. })))
    }

    fn place(text: &str) -> Place {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn places_count_events_without_signs_of_life() {
        for (at, expected) in [
            ("{}", ""),
            (r#"{"after_events":0}"#, ""),
            (r#"{"after_events":2}"#, "a{}:b{}"),
            (r#"{"after_outputs":0}"#, "a{}:"),
            (r#"{"after_outputs":1}"#, "a{}:b{}"),
            (r#"{"before_end":true}"#, "a{}:b{}c{}"),
            (r#"{"after_events":99}"#, "a{}:b{}c{}d{}e"),
        ] {
            let fault = Trouble::Cut(place(at));
            assert_eq!(wire(Some(&fault)), (expected.to_owned(), Some(Step::Cut)), "{at}");
        }
    }

    #[test]
    fn faults_spoil_only_what_they_say() {
        assert_eq!(wire(None).0, "a{}:b{}c{}d{}e");
        assert_eq!(wire(Some(&Trouble::NoTerminator)).0, "a{}:b{}c{}d{}");
        let corrupt = Trouble::Corrupt(place(r#"{"after_outputs":1}"#));
        assert_eq!(wire(Some(&corrupt)).0, "a{}:b{}c{,,d{}e");
        let error = Trouble::Error(serde_json::from_str(r#"{"at":{"after_outputs":1}}"#).unwrap());
        assert_eq!(wire(Some(&error)), ("a{}:b{}X".to_owned(), None));
    }

    #[test]
    fn bytes_are_cut_anywhere_but_none_is_lost() {
        let alive = event(":", Kind::Alive);
        let chunks = Chunks { bytes: Some(1), ..Chunks::default() };
        let events = vec![event("é→", Kind::Output)];
        let steps = compile(events, &Pace::default(), &chunks, None, &alive, None);
        assert_eq!(steps.len(), 5);
        let all: Vec<u8> = steps
            .iter()
            .flat_map(|step| match step {
                Step::Send { bytes, .. } => bytes.to_vec(),
                _ => panic!("only writes"),
            })
            .collect();
        assert_eq!(String::from_utf8(all).unwrap(), "é→");
    }

    #[test]
    fn a_long_wait_is_full_of_signs_of_life() {
        let alive = event(":", Kind::Alive);
        let pace =
            Pace { first: Duration::from_secs(3), ping: Some(Duration::from_secs(1)), ..Pace::default() };
        let steps = compile(answer(), &pace, &Chunks::default(), None, &alive, None);
        let waits: Duration =
            steps.iter().map(|step| if let Step::Wait(time) = step { *time } else { Duration::ZERO }).sum();
        assert_eq!(waits, Duration::from_secs(3));
        let signs = steps.iter().filter(|step| matches!(step, Step::Send { events: 0, .. })).count();
        assert_eq!(signs, 3);
    }
}
