//! Messages requests, written as generateContent requests.
//!
//! The conversation is put in order as for Chat Completions, which asks for the same: turns in alternation, the
//! results of calls right behind them. Sources: Anthropic API reference, "Create a Message"; Gemini API reference,
//! "Generating content"; Google's guides "Function calling", "Thinking" and "Thought signatures".

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use super::models::{self, Thinking};
use crate::dialect::anthropic::types::{MessagesRequest, SourceObject};
use crate::dialect::names::{self, NameMap};
use crate::dialect::openai_chat::rectify::{Effort, Param, Rectify};
use crate::dialect::openai_chat::request::content::{Notes, Piece};
use crate::dialect::openai_chat::request::reasoning::Wish;
use crate::dialect::openai_chat::request::tools::{Choice, Tools, parameters};
use crate::dialect::openai_chat::request::turns::{Assistant, Call, Conversation, Result_, Turn, User};
use crate::dialect::openai_chat::request::{local, max_tokens, refuse_what_cannot_be, system_texts, turns};
use crate::dialect::openai_chat::write::{Json, compact};
use crate::dialect::openai_chat::{RequestError, Target, Translated, Translation, calls};
use crate::dialect::schema;

/// What Google takes in place of a thought signature that is lost.
const NO_SIGNATURE: &str = "skip_thought_signature_validator";
/// The answer to a call that never got one.
const NO_RESULT: &str = "[tool call was interrupted; no result]";
/// Most strings that end the answer.
const MAX_STOPS: usize = 5;

/// Writes a Messages body for Gemini. The model stands in the address, see [`path`].
pub fn from_messages(body: &[u8], target: &Target<'_>) -> Result<Translation, RequestError> {
    let request = MessagesRequest::parse(body)?;
    let mut notes = Notes::default();
    refuse_what_cannot_be(&request, &mut notes)?;
    if let Some(answer) = local::answer(&request, target, false) {
        return Ok(Translation::Answer(answer));
    }
    let conversation = turns::read(&request, target, &mut notes)?;
    let wish = Wish::read(&request, target);
    let tools = Tools::choose(&request, &conversation, target, wish.is_on(), &mut notes)?;
    let names = NameMap::new(
        tools
            .list
            .iter()
            .filter_map(|tool| tool.name.as_deref())
            .chain(conversation.called_names.iter().copied()),
    );

    let mut json = Json::with_capacity(body.len() + body.len() / 8 + 256);
    json.object(|json| {
        let system: Vec<&str> = system_texts(&request.system).map(|(text, _)| text.as_ref()).collect();
        if !system.is_empty() {
            json.key("systemInstruction").object(|json| {
                json.key("parts").array(|json| text_part(json, &system.join("\n\n")));
            });
        }
        write_tools(json, &tools, target);
        json.key("generationConfig").object(|json| config(json, &request, target, wish, &mut notes));
        json.key("contents").array(|json| contents(json, &conversation, target, &mut notes));
    });

    let used_ids: Arc<[u64]> = conversation.call_ids.iter().map(|id| calls::id_hash(id)).collect();
    Ok(Translation::Send(Box::new(Translated {
        body: Bytes::from(json.finish()),
        names,
        dropped: notes.dropped,
        healed: notes.healed,
        used_ids,
        one_call: request.tool_choice.as_ref().is_some_and(|choice| choice.disable_parallel_tool_use),
        stream: request.stream,
        input_estimate: target.input_estimate,
        max_tokens: max_tokens(&request, target),
        stops: Arc::default(), // told to the upstream, all of them
    })))
}

/// Where the request goes, after the provider's address.
pub fn path(model: &str, stream: bool) -> String {
    let model = model.strip_prefix("models/").unwrap_or(model);
    let mut path = String::from("/v1beta/models/");
    for byte in model.bytes() {
        // What a path may hold as it is (RFC 3986), the slash of tuned models included.
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'@' | b'/') {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    path.push_str(if stream { ":streamGenerateContent?alt=sse" } else { ":generateContent" });
    path
}

fn text_part(json: &mut Json, text: &str) {
    json.object(|json| json.key("text").string(text));
}

fn write_tools(json: &mut Json, tools: &Tools<'_>, target: &Target<'_>) {
    if tools.list.is_empty() {
        return;
    }
    // The field takes JSON Schema as it is; a model that refuses a keyword all the same gets the cut-down form.
    let (field, form) = match target.is_rectified(Rectify::StripSchemas) {
        true => ("parameters", schema::Target::Gemini),
        false => ("parametersJsonSchema", schema::Target::Plain),
    };
    json.key("tools").array(|json| {
        json.object(|json| {
            json.key("functionDeclarations").array(|json| {
                for tool in &tools.list {
                    json.object(|json| {
                        json.key("name").string(&names::wire_name(tool.name.as_deref().unwrap_or_default()));
                        if let Some(description) = tool.description.as_deref() {
                            json.key("description").string(description);
                        }
                        json.key(field).json(&parameters(tool, form));
                    });
                }
            });
        });
    });
    let Some(choice) = tools.choice.filter(|_| target.sends(Param::ToolChoice)) else { return };
    json.key("toolConfig").object(|json| {
        json.key("functionCallingConfig").object(|json| {
            json.key("mode").string(match choice {
                Choice::Auto => "AUTO",
                Choice::Required | Choice::Named(_) => "ANY",
                Choice::None => "NONE",
            });
            if let Choice::Named(name) = choice {
                json.key("allowedFunctionNames").array(|json| json.string(&names::wire_name(name)));
            }
        });
    });
}

fn config(
    json: &mut Json,
    request: &MessagesRequest<'_>,
    target: &Target<'_>,
    wish: Wish,
    notes: &mut Notes,
) {
    if let Some(most) = max_tokens(request, target) {
        json.key("maxOutputTokens").number(most);
    }
    for (key, value, param) in [
        ("temperature", request.temperature, Param::Temperature),
        ("topP", request.top_p, Param::TopP),
        ("topK", request.top_k, Param::TopK),
    ] {
        if let Some(value) = value.filter(|_| target.sends(param)) {
            json.key(key).raw(value);
        }
    }
    if !request.stop_sequences.is_empty() && target.sends(Param::Stop) {
        if request.stop_sequences.len() > MAX_STOPS {
            notes.drop("stop_sequences");
        }
        json.key("stopSequences").array(|json| {
            request.stop_sequences.iter().take(MAX_STOPS).for_each(|stop| json.string(stop));
        });
    }
    let format = request.output_config.as_ref().and_then(|config| config.format.as_ref());
    let wanted = format.or(request.output_format.as_ref()).and_then(|format| format.schema);
    if let Some(wanted) = wanted.filter(|_| target.sends(Param::ResponseFormat)) {
        json.key("responseMimeType").string("application/json");
        json.key("responseJsonSchema").json(&schema::clean(Some(wanted), schema::Target::Plain));
    }
    if target.sends(Param::Reasoning) {
        thinking(json, request, target, wish);
    }
}

fn thinking(json: &mut Json, request: &MessagesRequest<'_>, target: &Target<'_>, wish: Wish) {
    let form = models::thinking(target.model);
    if form == Thinking::None || wish == Wish::Unsaid {
        return;
    }
    let display = request.thinking.as_ref().and_then(|thinking| thinking.display.as_deref());
    let (effort, budget) = match wish {
        Wish::On { effort, budget } => (effort, budget),
        Wish::Unsaid | Wish::Off => (None, None),
    };
    json.key("thinkingConfig").object(|json| {
        json.key("includeThoughts").boolean(wish.is_on() && display != Some("omitted"));
        match form {
            Thinking::None => {}
            Thinking::Budget { least, most } => {
                let of_effort = effort.map(|effort| match effort {
                    Effort::Low => 2048,
                    Effort::Medium => 8192,
                    Effort::High | Effort::XHigh | Effort::Max => most,
                });
                let wished = if wish == Wish::Off { Some(0) } else { budget.or(of_effort) };
                if let Some(wished) = wished {
                    json.key("thinkingBudget").number(wished.clamp(least, most));
                }
            }
            Thinking::Level { is_fine } => {
                let level = match effort.or_else(|| budget.map(Effort::of_budget)) {
                    _ if wish == Wish::Off => Some(if is_fine { "minimal" } else { "low" }),
                    Some(Effort::Low) => Some("low"),
                    Some(Effort::Medium) => Some(if is_fine { "medium" } else { "high" }),
                    Some(Effort::High | Effort::XHigh | Effort::Max) => Some("high"),
                    None => None,
                };
                if let Some(level) = level {
                    json.key("thinkingLevel").string(level);
                }
            }
        }
    });
}

fn contents(json: &mut Json, conversation: &Conversation<'_>, target: &Target<'_>, notes: &mut Notes) {
    if !matches!(conversation.turns.first(), Some(Turn::User(_))) {
        // A conversation must begin with the user.
        notes.heal("conversation that begins with the assistant");
        content(json, "user", |json| text_part(json, "."));
    }
    let mut turns = conversation.turns.iter().peekable();
    while let Some(turn) = turns.next() {
        match turn {
            Turn::Assistant(turn) => {
                content(json, "model", |json| assistant(json, turn, target));
                let next = turns.next_if(|next| matches!(next, Turn::User(_)));
                let user = match next {
                    Some(Turn::User(user)) => Some(user),
                    _ => None,
                };
                answered(json, &turn.calls, user, notes);
            }
            Turn::User(user) => answered(json, &[], Some(user), notes),
        }
    }
}

fn content(json: &mut Json, role: &str, parts: impl FnOnce(&mut Json)) {
    json.object(|json| {
        json.key("role").string(role);
        json.key("parts").array(parts);
    });
}

fn assistant(json: &mut Json, turn: &Assistant<'_>, target: &Target<'_>) {
    if !turn.texts.is_empty() {
        let text: String = turn.texts.iter().flat_map(|said| [said.glue, said.text.as_ref()]).collect();
        text_part(json, &text);
    }
    for (nth, call) in turn.calls.iter().enumerate() {
        json.object(|json| {
            json.key("functionCall").object(|json| {
                json.key("id").string(call.id);
                json.key("name").string(&names::wire_name(call.name));
                json.key("args").json(&compact(call.input));
            });
            let known =
                turn.signatures.iter().find(|(id, _)| id == call.id).map(|(_, signature)| signature.as_str());
            let is_needed = nth == 0 && models::needs_signatures(target.model);
            if let Some(signature) = known.or(is_needed.then_some(NO_SIGNATURE)) {
                json.key("thoughtSignature").string(signature);
            }
        });
    }
}

/// Writes the results of a turn's calls, in their order, and all else of the user's turn: one content.
fn answered(json: &mut Json, calls: &[Call<'_>], user: Option<&User<'_>>, notes: &mut Notes) {
    let given: &[Result_<'_>] = user.map_or(&[], |user| &user.results);
    if calls.is_empty() && given.is_empty() && user.is_none_or(|user| user.pieces.is_empty()) {
        return;
    }
    let mut used = vec![false; given.len()];
    content(json, "user", |json| {
        let mut attached: Vec<(&str, &Piece<'_>)> = Vec::new();
        for call in calls {
            let found = given.iter().position(|result| result.id == call.id);
            let result = found.and_then(|at| {
                *used.get_mut(at)? = true;
                given.get(at)
            });
            if result.is_none() {
                notes.heal("tool_use without a result");
            }
            let text = result.map_or(NO_RESULT, |result| result.output.text.as_ref());
            // The reader of the history marked failures in the text.
            let is_error =
                result.is_none() || text.get(..6).is_some_and(|begin| begin.eq_ignore_ascii_case("error:"));
            json.object(|json| {
                json.key("functionResponse").object(|json| {
                    json.key("id").string(call.id);
                    json.key("name").string(&names::wire_name(call.name));
                    json.key("response").object(|json| {
                        let text = match result {
                            Some(result) if !result.output.attached.is_empty() => {
                                Cow::Owned(format!("{text}\n[attached below]"))
                            }
                            _ => Cow::Borrowed(text),
                        };
                        json.key(if is_error { "error" } else { "result" }).string(text.trim_start());
                    });
                });
            });
            attached.extend(
                result.into_iter().flat_map(|result| &result.output.attached).map(|piece| (call.id, piece)),
            );
        }
        for (id, piece) in attached {
            text_part(json, &format!("From tool result {id}:"));
            write_piece(json, piece);
        }
        let Some(user) = user else { return };
        for (result, _) in given.iter().zip(&used).filter(|(_, used)| !**used) {
            notes.heal("tool_result without a call");
            text_part(json, &format!("[result of tool {}] {}", result.id, result.output.text));
            result.output.attached.iter().for_each(|piece| write_piece(json, piece));
        }
        user.pieces.iter().for_each(|piece| write_piece(json, piece));
    });
}

fn write_piece(json: &mut Json, piece: &Piece<'_>) {
    match piece {
        Piece::Text { text, .. } | Piece::System(text) => text_part(json, text),
        Piece::Image { source, .. } => media(json, source, "image/png"),
        Piece::File { source, .. } => media(json, source, "application/pdf"),
    }
}

fn media(json: &mut Json, source: &SourceObject<'_>, kind: &str) {
    let kind = source.media_type.as_deref().unwrap_or(kind);
    json.object(|json| match (&source.url, &source.data) {
        (Some(url), None) => json.key("fileData").object(|json| {
            json.key("mimeType").string(by_ending(url).unwrap_or(kind));
            json.key("fileUri").string(url);
        }),
        (_, data) => json.key("inlineData").object(|json| {
            json.key("mimeType").string(kind);
            json.key("data").string(data.as_deref().unwrap_or_default());
        }),
    });
}

/// The media type that an address's ending tells.
fn by_ending(url: &str) -> Option<&'static str> {
    let path = url.split(['?', '#']).next()?;
    Some(match path.rsplit_once('.')?.1.to_ascii_lowercase().as_str() {
        "jpg" | "jpeg" => "image/jpeg",
        "png" => "image/png",
        "webp" => "image/webp",
        "gif" => "image/gif",
        "pdf" => "application/pdf",
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
