//! The list of messages.

use std::borrow::Cow;

use super::content::{Notes, Piece};
use super::tools::Tools;
use super::turns::{Assistant, Call, Conversation, Result_, Turn, User};
use super::{Rectify, Target, system_texts};
use crate::dialect::anthropic::types::MessagesRequest;
use crate::dialect::json::{Raw, Text};
use crate::dialect::names;
use crate::dialect::openai_chat::write::{Json, compact};
use crate::dialect::table::{Prefill, Replay};

/// Cache markers, counted: an upstream takes four, and the newest count. Callers move their markers on with each
/// turn, and a marker needs a part to stand on: where markers are known all text is written in parts, so that a
/// message reads the same with its marker and without.
#[derive(Debug)]
pub(in crate::dialect) struct Markers {
    is_known: bool,
    surplus: usize,
}

/// Most cache markers in a request.
const MAX_MARKERS: usize = 4;
/// The answer to a call that never got one.
const NO_RESULT: &str = "[tool call was interrupted; no result]";
/// What Google takes in place of a thought signature that is lost.
const NO_SIGNATURE: &str = "skip_thought_signature_validator";

// === impl Markers ===

impl Markers {
    /// Counts the markers of all that is sent, in Anthropic's order: tools, system, messages.
    pub(in crate::dialect) fn count(
        request: &MessagesRequest<'_>,
        conversation: &Conversation<'_>,
        tools: &Tools<'_>,
        target: &Target<'_>,
    ) -> Markers {
        let is_known = target.variant.cache_control;
        if !is_known {
            return Markers { is_known, surplus: 0 };
        }
        let of_tools = tools.list.iter().filter(|tool| tool.cache_control.is_some()).count();
        let of_system = system_texts(&request.system).filter(|(_, marker)| marker.is_some()).count();
        let of_turns: usize = conversation
            .turns
            .iter()
            .map(|turn| match turn {
                Turn::Assistant(turn) => turn.texts.iter().filter(|said| said.cache.is_some()).count(),
                Turn::User(turn) => {
                    turn.results.iter().filter(|result| result.cache.is_some()).count()
                        + turn.pieces.iter().filter(|piece| piece.cache().is_some()).count()
                }
            })
            .sum();
        let automatic = usize::from(request.cache_control.is_some());
        let total = of_tools + of_system + of_turns + automatic;
        Markers { is_known, surplus: total.saturating_sub(MAX_MARKERS) }
    }

    /// The marker, unless it is one of the oldest surplus ones or means nothing to the upstream.
    pub(in crate::dialect) fn take<'m>(&mut self, marker: Option<Raw<'m>>) -> Option<Raw<'m>> {
        if !self.is_known || marker.is_none() {
            return None;
        }
        if self.surplus > 0 {
            self.surplus -= 1;
            return None;
        }
        marker
    }
}

/// Writes the system prompt as one message.
pub(in crate::dialect) fn system(
    json: &mut Json,
    request: &MessagesRequest<'_>,
    tools: &Tools<'_>,
    target: &Target<'_>,
    markers: &mut Markers,
) {
    let texts: Vec<_> = system_texts(&request.system).collect();
    let headed = tools.long_descriptions(target).map(|(name, text)| format!("## Tool {name}\n\n{text}"));
    let headed: Vec<Text<'_>> = headed.map(Text::from).collect();
    if texts.is_empty() && headed.is_empty() {
        return;
    }
    json.object(|json| {
        json.key("role").string("system");
        if markers.is_known {
            json.key("content").array(|json| {
                for (text, marker) in &texts {
                    let marker = markers.take(*marker);
                    Piece::text(text.borrowed()).write(json, marker);
                }
                headed.iter().for_each(|text| Piece::text(text.borrowed()).write(json, None));
            });
        } else {
            joined(json.key("content"), texts.iter().map(|(text, _)| *text).chain(&headed));
        }
    });
}

/// Writes the turns.
pub(in crate::dialect) fn turns(
    json: &mut Json,
    conversation: &Conversation<'_>,
    target: &Target<'_>,
    markers: &mut Markers,
    notes: &mut Notes,
) {
    let mut turns = conversation.turns.iter().peekable();
    while let Some(turn) = turns.next() {
        match turn {
            Turn::Assistant(turn) => {
                let is_last = turns.peek().is_none();
                assistant(json, turn, target, markers, is_last);
                let next = turns.next_if(|next| matches!(next, Turn::User(_)));
                let user = match next {
                    Some(Turn::User(user)) => Some(user),
                    _ => None,
                };
                results(json, &turn.calls, user, target, markers, notes);
            }
            // The first turn: no call comes before it, so that no result belongs to one.
            Turn::User(user) => results(json, &[], Some(user), target, markers, notes),
        }
    }
}

fn assistant(
    json: &mut Json,
    turn: &Assistant<'_>,
    target: &Target<'_>,
    markers: &mut Markers,
    is_last: bool,
) {
    json.object(|json| {
        json.key("role").string("assistant");
        if turn.texts.is_empty() {
            if target.variant.null_content {
                json.key("content").null()
            } else {
                json.key("content").string("")
            }
        } else if markers.is_known {
            json.key("content").array(|json| {
                for said in &turn.texts {
                    let marker = markers.take(said.cache);
                    let text = if said.glue.is_empty() {
                        said.text.borrowed()
                    } else {
                        Text::from(format!("{}{}", said.glue, said.text))
                    };
                    Piece::text(text).write(json, marker);
                }
            });
        } else {
            json.key("content").texts(turn.texts.iter().map(|said| (said.glue, &said.text)));
        }
        thoughts(json, turn, target);
        if !turn.calls.is_empty() {
            json.key("tool_calls").array(|json| {
                for (nth, call) in turn.calls.iter().enumerate() {
                    write_call(json, call, turn, nth == 0, target);
                }
            });
        } else if is_last {
            match target.variant.prefill {
                Prefill::Prefix => json.key("prefix").boolean(true),
                Prefill::Partial => json.key("partial").boolean(true),
                Prefill::Continue | Prefill::AsIs => {}
            }
        }
    });
}

/// Gives an upstream its own reasoning back.
fn thoughts(json: &mut Json, turn: &Assistant<'_>, target: &Target<'_>) {
    if target.is_rectified(Rectify::ReplayReasoning) && !turn.calls.is_empty() {
        let lost = turn.thoughts.is_empty().then_some(" ");
        return paragraphs(json.key("reasoning_content"), turn.thoughts.iter().map(Cow::as_ref).chain(lost));
    }
    match target.variant.replay {
        Replay::Details if !turn.details.is_empty() => {
            json.key("reasoning_details").array(|json| {
                for (details, shown) in &turn.details {
                    let list: Vec<Raw<'_>> = serde_json::from_str(details.get()).unwrap_or_default();
                    for detail in list {
                        restore(json, detail.get(), shown);
                    }
                }
            });
        }
        Replay::ContentAlways if !turn.calls.is_empty() => {
            paragraphs(json.key("reasoning_content"), turn.thoughts.iter().map(Cow::as_ref));
        }
        Replay::ContentOfOurs if !turn.thoughts.is_empty() => {
            paragraphs(json.key("reasoning_content"), turn.thoughts.iter().map(Cow::as_ref));
        }
        _ => {}
    }
}

/// Writes a detail; a text that the carrier left out is the block's.
fn restore(json: &mut Json, detail: &str, shown: &str) {
    #[derive(serde::Deserialize)]
    struct Kind<'a> {
        #[serde(rename = "type", borrow)]
        kind: Cow<'a, str>,
        #[serde(borrow, default)]
        text: Option<Raw<'a>>,
    }
    let lacks_text = serde_json::from_str::<Kind<'_>>(detail)
        .is_ok_and(|detail| detail.kind == "reasoning.text" && detail.text.is_none());
    match detail.strip_suffix('}') {
        Some(open) if lacks_text => {
            let mut text = Json::default();
            text.key("text").string(shown);
            json.json(&format!("{open},{}}}", text.finish_string()));
        }
        _ => json.json(detail),
    }
}

fn write_call(json: &mut Json, call: &Call<'_>, turn: &Assistant<'_>, is_first: bool, target: &Target<'_>) {
    json.object(|json| {
        json.key("id").string(&names::wire_id(call.id, target.variant.ids));
        json.key("type").string("function");
        json.key("function").object(|json| {
            json.key("name").string(&names::wire_name(call.name));
            json.key("arguments").string(&compact(call.input));
        });
        if target.variant.replay == Replay::ThoughtSignature {
            let known =
                turn.signatures.iter().find(|(id, _)| id == call.id).map(|(_, signature)| signature.as_str());
            let is_needed =
                is_first && !["gemini-1", "gemini-2"].iter().any(|old| target.model.contains(old));
            if let Some(signature) = known.or(is_needed.then_some(NO_SIGNATURE)) {
                json.key("extra_content").object(|json| {
                    json.key("google").object(|json| json.key("thought_signature").string(signature));
                });
            }
        }
    });
}

/// Writes the results of an assistant's calls, in the order of the calls, and then all else of the user's turn.
fn results(
    json: &mut Json,
    calls: &[Call<'_>],
    user: Option<&User<'_>>,
    target: &Target<'_>,
    markers: &mut Markers,
    notes: &mut Notes,
) {
    let given: &[Result_<'_>] = user.map_or(&[], |user| &user.results);
    let mut used = vec![false; given.len()];
    let mut attached: Vec<Cow<'_, str>> = Vec::new();
    let mut images: Vec<(usize, &Piece<'_>)> = Vec::new();
    for call in calls {
        let found = given.iter().position(|result| result.id == call.id);
        let result = found.and_then(|at| {
            *used.get_mut(at)? = true;
            given.get(at)
        });
        if result.is_none() {
            notes.heal("tool_use without a result");
        }
        json.object(|json| {
            json.key("role").string("tool");
            json.key("tool_call_id").string(&names::wire_id(call.id, target.variant.ids));
            let Some(result) = result else {
                json.key("content").string(NO_RESULT);
                return;
            };
            let output = &result.output;
            let marker = markers.take(result.cache);
            let in_place = target.variant.tool_images && !output.attached.is_empty();
            let text = if in_place {
                output.text.borrowed()
            } else {
                said(with_notes(output, images.len()), target)
            };
            // A part without text is refused by some; an empty string is not.
            if in_place || (markers.is_known && !text.is_empty()) {
                json.key("content").array(|json| {
                    if !text.is_empty() {
                        Piece::text(text).write(json, marker);
                    }
                    output.attached.iter().filter(|_| in_place).for_each(|piece| piece.write(json, None));
                });
            } else {
                json.key("content").text(&text);
            }
            if !in_place {
                for piece in &output.attached {
                    let nth = images.len() + 1;
                    attached.push(format!("Image {nth} from tool result {}:", result.id).into());
                    images.push((attached.len() - 1, piece));
                }
            }
        });
    }
    let Some(user) = user else { return };

    let mut pieces: Vec<(Piece<'_>, Option<Raw<'_>>)> = Vec::new();
    for (label, piece) in images {
        pieces.push((Piece::text(attached.get(label).map_or("", Cow::as_ref)), None));
        pieces.push((borrowed(piece), None));
    }
    for (result, _) in given.iter().zip(&used).filter(|(_, used)| !**used) {
        notes.heal("tool_result without a call");
        pieces.push((
            Piece::text(format!("[result of tool {}] {}", result.id, result.output.text)),
            result.cache,
        ));
        pieces.extend(result.output.attached.iter().map(|piece| (borrowed(piece), None)));
    }
    pieces.extend(user.pieces.iter().map(|piece| (borrowed(piece), piece.cache())));
    for run in
        pieces.chunk_by(|(a, _), (b, _)| !matches!(a, Piece::System(_)) && !matches!(b, Piece::System(_)))
    {
        user_message(json, run, markers);
    }
}

/// One message: a system message in its place, or the user's.
fn user_message(json: &mut Json, pieces: &[(Piece<'_>, Option<Raw<'_>>)], markers: &mut Markers) {
    json.object(|json| {
        if let [(Piece::System(text), _)] = pieces {
            json.key("role").string("system");
            json.key("content").text(text);
            return;
        }
        json.key("role").string("user");
        let is_text =
            !markers.is_known && pieces.iter().all(|(piece, _)| matches!(piece, Piece::Text { .. }));
        if is_text {
            let texts = pieces.iter().filter_map(|(piece, _)| match piece {
                Piece::Text { text, .. } => Some(text),
                _ => None,
            });
            joined(json.key("content"), texts);
        } else {
            json.key("content").array(|json| {
                for (piece, marker) in pieces {
                    let marker = markers.take(*marker);
                    piece.write(json, marker);
                }
            });
        }
    });
}

/// A tool's text, with a note for each image that comes after.
fn with_notes<'a>(output: &'a super::content::ToolOutput<'_>, before: usize) -> Text<'a> {
    if output.attached.is_empty() {
        return output.text.borrowed();
    }
    let mut text = output.text.to_string();
    for nth in 1..=output.attached.len() {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&format!("[image {} attached below]", before + nth));
    }
    Text::from(text)
}

/// A tool's text, or what stands for none.
fn said<'a>(text: Text<'a>, target: &Target<'_>) -> Text<'a> {
    if text.is_empty() && !target.variant.empty_tool_content { Text::from("(no output)") } else { text }
}

fn borrowed<'b>(piece: &'b Piece<'_>) -> Piece<'b> {
    match piece {
        Piece::Text { text, cache } => Piece::Text { text: text.borrowed(), cache: *cache },
        Piece::Image { source, cache } => Piece::Image { source, cache: *cache },
        Piece::File { name, source, cache } => Piece::File { name, source, cache: *cache },
        Piece::System(text) => Piece::System(text.borrowed()),
    }
}

/// One string out of texts, an empty line between them.
fn joined<'t>(json: &mut Json, texts: impl Iterator<Item = &'t Text<'t>>) {
    json.texts(texts.enumerate().map(|(nth, text)| (if nth == 0 { "" } else { "\n\n" }, text)));
}

/// The same out of strings.
fn paragraphs<'t>(json: &mut Json, strings: impl Iterator<Item = &'t str>) {
    let texts: Vec<Text<'_>> = strings.map(Text::from).collect();
    joined(json, texts.iter());
}
