//! Every stream of every dialect, under all that may happen to it on its way: cut at any place, with other line
//! ends, broken off at any event. What is written for the caller keeps the grammar each time.

use bytes::Bytes;
use cproxy::dialect::anthropic;
use cproxy::dialect::openai_chat::{self, Context};
use cproxy::dialect::part::Source;
use cproxy::dialect::{FaultKind, Part, gemini, openai_responses, table};

use crate::support::recordings::{folders, recordings};
use crate::support::recut;
use crate::support::relay::{Outcome, relay};

/// A stream, and how it is read.
pub struct Stream {
    pub name: String,
    pub body: Vec<u8>,
    reader: Reader,
    row: &'static str,
}

/// Which dialect reads it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Reader {
    Anthropic,
    Chat,
    Responses,
    Gemini,
}

/// The folders of the streams, the readers, and the rows of the table.
const FOLDERS: &[(&str, Reader, &str)] = &[
    ("anthropic", Reader::Anthropic, "generic"),
    ("openai_chat", Reader::Chat, "openai"),
    ("openrouter", Reader::Chat, "openrouter"),
    ("deepseek", Reader::Chat, "deepseek"),
    ("groq", Reader::Chat, "groq"),
    ("mistral", Reader::Chat, "mistral"),
    ("llamacpp", Reader::Chat, "llamacpp"),
    ("ollama", Reader::Chat, "ollama"),
    ("perplexity", Reader::Chat, "perplexity"),
    ("gemini_openai", Reader::Chat, "gemini"),
    ("vllm", Reader::Chat, "vllm"),
    ("openai_responses", Reader::Responses, "openai"),
    ("lmstudio", Reader::Responses, "lmstudio"),
];

pub fn streams() -> Vec<Stream> {
    let all = FOLDERS.iter().flat_map(|&(folder, reader, row)| {
        recordings(folder, ".sse").into_iter().map(move |(name, body)| {
            let reader = if name.starts_with("responses_") { Reader::Responses } else { reader };
            Stream { name: format!("{folder}/{name}"), body, reader, row }
        })
    });
    all.chain(others()).collect()
}

/// Streams of providers that have no folder here: what they speak shows in their first events.
fn others() -> Vec<Stream> {
    let known = |folder: &str| FOLDERS.iter().any(|(name, ..)| *name == folder);
    let mut found = Vec::new();
    for folder in folders().into_iter().filter(|folder| !known(folder)) {
        let row = table::NAMES.iter().find(|name| **name == folder).unwrap_or(&"generic");
        for (name, body) in recordings(&folder, ".sse") {
            let text = String::from_utf8_lossy(&body);
            let signs = [
                ("message_start", Reader::Anthropic),
                ("\"response.created\"", Reader::Responses),
                ("\"candidates\"", Reader::Gemini),
                ("\"choices\"", Reader::Chat),
            ];
            if let Some((_, reader)) = signs.into_iter().find(|(sign, _)| text.contains(sign)) {
                found.push(Stream { name: format!("{folder}/{name}"), body, reader, row });
            }
        }
    }
    found
}

impl Stream {
    pub fn source(&self) -> Box<dyn Source> {
        let context = Context::new(table::by_name(self.row).unwrap(), "asked");
        match self.reader {
            Reader::Anthropic => Box::new(anthropic::Reader::new()),
            Reader::Chat => Box::new(openai_chat::Reader::new(context)),
            Reader::Responses => Box::new(openai_responses::Reader::new(context)),
            Reader::Gemini => Box::new(gemini::Reader::new(context)),
        }
    }

    /// Reads the stream as it arrives in these pieces.
    pub fn relay<'b>(&self, pieces: impl IntoIterator<Item = &'b [u8]>) -> Outcome {
        println!("{}", self.name);
        relay(&mut *self.source(), pieces.into_iter().map(Bytes::copy_from_slice))
    }

    /// Whether so much of the stream says that the answer is whole.
    fn is_whole(&self, bytes: &[u8]) -> bool {
        let text: String =
            String::from_utf8_lossy(bytes).chars().filter(|c| !matches!(c, ' ' | '\r' | '\n')).collect();
        let signs: &[&str] = match self.reader {
            Reader::Anthropic => &["\"type\":\"message_stop\""],
            Reader::Chat => &["\"finish_reason\":\"", "data:[DONE]", "failed_generation"],
            Reader::Responses => &["\"type\":\"response.completed\"", "\"type\":\"response.incomplete\""],
            Reader::Gemini => &["\"finishReason\":\"", "\"blockReason\":\""],
        };
        signs.iter().any(|sign| text.contains(sign))
    }
}

#[test]
fn every_folder_has_a_stream_of_our_own() {
    let streams = streams();
    for (folder, ..) in FOLDERS.iter().filter(|(folder, ..)| *folder != "vllm") {
        let of_folder = format!("{folder}/");
        assert!(streams.iter().any(|stream| stream.name.starts_with(&of_folder)), "{folder}");
    }
    println!("{} streams", streams.len());
}

#[test]
fn however_a_stream_is_cut_the_answer_is_the_same() {
    let mut random = recut::random();
    for stream in streams() {
        let whole = stream.relay([stream.body.as_slice()]);
        for (nth, pieces) in recut::ways(&stream.body, &mut random).into_iter().enumerate() {
            let again = stream.relay(pieces);
            assert_eq!(again.parts, whole.parts, "{} cut the way {nth}", stream.name);
            assert_eq!(again.result.is_ok(), whole.result.is_ok(), "{} cut the way {nth}", stream.name);
        }
    }
}

#[test]
fn line_ends_make_no_difference() {
    let mut random = recut::random();
    for stream in streams() {
        let whole = stream.relay([stream.body.as_slice()]);
        for end in ["\n", "\r\n", "\r"] {
            let body = recut::with_line_ends(&stream.body, end);
            assert_eq!(stream.relay([body.as_slice()]).parts, whole.parts, "{} with {end:?}", stream.name);
            let way = recut::ways(&body, &mut random).swap_remove(1);
            assert_eq!(stream.relay(way).parts, whole.parts, "{} with {end:?}, cut between", stream.name);
        }
    }
}

#[test]
fn a_stream_that_breaks_off_never_ends_well() {
    let mut random = recut::random();
    let mut count = 0;
    for stream in streams() {
        let whole = stream.relay([stream.body.as_slice()]);
        let anywhere = recut::ways(&stream.body, &mut random);
        let anywhere = anywhere[2..].iter().map(|way| way[0].len());
        for end in recut::ends(&stream.body).into_iter().chain(anywhere) {
            let cut = &stream.body[..end];
            if stream.is_whole(cut) {
                continue;
            }
            let outcome = stream.relay([cut]);
            let Err(fault) = outcome.result else { panic!("{} cut at {end} ends well", stream.name) };
            // Where the upstream's own error is what breaks off, the fault is that error.
            assert!(
                fault.kind == FaultKind::Protocol || whole.result.is_err() || fault.body.is_some(),
                "{} cut at {end}: {fault:?}",
                stream.name
            );
            assert!(outcome.summary.stop.is_none(), "{} cut at {end} gives a stop reason", stream.name);
            // What was given is the beginning of the whole answer, but for what is open at the break.
            assert!(
                whole.parts.starts_with(&outcome.parts),
                "{} cut at {end}: {:?}",
                stream.name,
                outcome.parts
            );
            count += 1;
        }
    }
    println!("{count} breaks");
}

#[test]
fn what_follows_the_end_is_of_no_interest() {
    for stream in streams() {
        let whole = stream.relay([stream.body.as_slice()]);
        if whole.result.is_err() {
            continue;
        }
        let again = stream.relay([stream.body.as_slice(), stream.body.as_slice()]);
        let ends = again.parts.iter().filter(|part| matches!(part, Part::End { .. })).count();
        assert_eq!(ends, 1, "{}", stream.name);
    }
}

#[test]
fn garbage_in_place_of_an_event_is_a_fault_and_never_an_end() {
    for stream in streams() {
        for garbage in ["data: {\"truncated\":\n\n", "data: {\"choices\":7}\n\n", "data: [1,2\n\n"] {
            for end in recut::ends(&stream.body) {
                let cut = &stream.body[..end];
                if stream.is_whole(cut) || !(cut.is_empty() || cut.ends_with(b"\n\n")) {
                    continue;
                }
                let outcome = stream.relay([cut, garbage.as_bytes()]);
                assert!(outcome.result.is_err(), "{} with {garbage:?} at {end}", stream.name);
            }
        }
    }
}
