//! The events of a stream and the blocks of a message, as they stand in JSON.

use std::borrow::Cow;

use serde::Deserialize;

use super::usage::{StopJson, UsageJson};
use crate::dialect::citation::{Citation, Citations};
use crate::dialect::json::Raw;
use crate::dialect::json::{Str, is_object};
use crate::dialect::sse::Event;
use crate::dialect::{Fault, names};

/// The type of an event or a block.
#[derive(Deserialize)]
pub(super) struct Kind<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Option<Str<'a>>,
    /// Of a call: the tool's name.
    #[serde(borrow, default)]
    pub(super) name: Option<Str<'a>>,
}

#[derive(Deserialize)]
pub(super) struct MessageStart<'a> {
    #[serde(borrow)]
    pub(super) message: StartedMessage<'a>,
}

/// The message with which a stream starts.
#[derive(Deserialize)]
pub(super) struct StartedMessage<'a> {
    #[serde(borrow)]
    pub(super) id: Option<Str<'a>>,
    #[serde(borrow)]
    pub(super) model: Option<Str<'a>>,
    pub(super) usage: Option<UsageJson>,
}

#[derive(Deserialize)]
pub(super) struct BlockStart<'a> {
    pub(super) index: u64,
    #[serde(borrow)]
    pub(super) content_block: Raw<'a>,
}

/// A content block, in a message or where a stream starts it.
#[derive(Deserialize)]
pub(super) struct Block<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Str<'a>,
    #[serde(borrow)]
    pub(super) text: Option<Str<'a>>,
    #[serde(borrow)]
    pub(super) thinking: Option<Str<'a>>,
    #[serde(borrow)]
    pub(super) signature: Option<Str<'a>>,
    #[serde(borrow)]
    pub(super) data: Option<Str<'a>>,
    #[serde(borrow)]
    pub(super) id: Option<Str<'a>>,
    #[serde(borrow)]
    pub(super) name: Option<Str<'a>>,
    #[serde(borrow)]
    pub(super) input: Option<Raw<'a>>,
    #[serde(borrow)]
    pub(super) citations: Option<Raw<'a>>,
}

/// Id and name of a call. Nobody can answer one without a name; an id can be made up.
pub(super) fn call_of(block: &Block<'_>, index: u64) -> Result<(String, String), Fault> {
    let text = |text: &Option<Str<'_>>| text.as_deref().unwrap_or_default().to_owned();
    let (id, name) = (text(&block.id), text(&block.name));
    if name.is_empty() {
        return Err(Fault::protocol("the upstream's answer has a tool call without a name"));
    }
    let made_up = || format!("toolu_{}", names::hash(&[&name, &index.to_string()], 24));
    let id = if id.is_empty() { made_up() } else { id };
    Ok((id, name))
}

/// The citations of a whole text block.
pub(super) fn citations(given: Option<Raw<'_>>) -> Citations {
    let list: Option<Vec<Raw<'_>>> = given.and_then(|list| serde_json::from_str(list.get()).ok());
    let mut citations = Citations::default();
    list.into_iter()
        .flatten()
        .filter_map(|one| Citation::given(one.get()))
        .for_each(|one| citations.add(one));
    citations
}

#[derive(Deserialize)]
pub(super) struct BlockDelta<'a> {
    pub(super) index: u64,
    #[serde(borrow)]
    pub(super) delta: Delta<'a>,
}

#[derive(Deserialize)]
pub(super) struct Delta<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Str<'a>,
    #[serde(borrow)]
    pub(super) text: Option<Str<'a>>,
    #[serde(borrow)]
    pub(super) thinking: Option<Str<'a>>,
    #[serde(borrow)]
    pub(super) signature: Option<Str<'a>>,
    #[serde(borrow)]
    pub(super) partial_json: Option<Str<'a>>,
    /// Of a `compaction_delta`.
    #[serde(borrow)]
    pub(super) content: Option<Str<'a>>,
    #[serde(borrow)]
    pub(super) citation: Option<Raw<'a>>,
}

#[derive(Deserialize)]
pub(super) struct BlockStop {
    pub(super) index: u64,
}

#[derive(Deserialize)]
pub(super) struct MessageDelta<'a> {
    #[serde(borrow)]
    pub(super) delta: Option<StopJson<'a>>,
    pub(super) usage: Option<UsageJson>,
}

/// The type of an event: its name, or where that says nothing (`data`, or no name) the `type` in its data.
pub(super) fn event_type<'a>(event: Event<'a>) -> Result<Cow<'a, str>, Fault> {
    match event.name {
        "content_block_delta" // the most of them
        | "message_start"
        | "content_block_start"
        | "content_block_stop"
        | "message_delta"
        | "message_stop"
        | "ping"
        | "error" => Ok(Cow::Borrowed(event.name)),
        name => {
            let data = event.data.trim_start();
            if !data.starts_with('{') {
                return Ok(Cow::Borrowed(name)); // `[DONE]` and the like
            }
            let kind: Kind<'a> = parse(event.data)?;
            Ok(kind.kind.map_or(Cow::Borrowed(name), |kind| kind.0))
        }
    }
}

pub(super) fn parse<'a, T: Deserialize<'a>>(data: &'a str) -> Result<T, Fault> {
    // What the parser says of the data's values is left out: it may quote them.
    serde_json::from_str(data).map_err(|error| {
        Fault::protocol(format!(
            "the upstream sent an event that is no Anthropic event (line {} column {}, {:?} error)",
            error.line(),
            error.column(),
            error.classify()
        ))
    })
}

/// The arguments of a call, as the text of one object: an empty text is the empty object, and what is no object
/// is wrapped, so that the caller's own schema check reports it to the model.
pub(super) fn arguments(text: &str) -> Cow<'_, str> {
    if text.trim().is_empty() {
        return Cow::Borrowed("{}");
    }
    if is_object(text) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(serde_json::json!({ "_unparsed_arguments": text }).to_string())
}
