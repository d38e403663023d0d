//! Messages requests, written as Responses requests. The input is a flat list of items, so that blocks stay where
//! they stand; the server keeps nothing (`store: false`), and its reasoning goes back encrypted.
//!
//! Sources: Anthropic API reference, "Create a Message"; OpenAI API reference, "Create a model response", and
//! its guide to reasoning models.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use crate::dialect::anthropic::types::{Block, Content, MessagesRequest};
use crate::dialect::carrier::Carrier;
use crate::dialect::json::{self, Raw};
use crate::dialect::names::{self, IdRule, NameMap};
use crate::dialect::openai_chat::rectify::{Effort, Param, Rectify};
use crate::dialect::openai_chat::request::content::{self, Notes, Piece, ToolOutput};
use crate::dialect::openai_chat::request::reasoning::Wish;
use crate::dialect::openai_chat::request::{
    is_attribution, max_tokens, refuse_what_cannot_be, system_texts, untold_stops,
};
use crate::dialect::openai_chat::request::{local, models, tools, turns};
use crate::dialect::openai_chat::write::{Json, compact};
use crate::dialect::openai_chat::{RequestError, Target, Translated, Translation, calls};
use crate::dialect::schema;

/// Smaller limits on output are refused.
const LEAST_OUTPUT: u64 = 16;
/// Ids of calls that OpenAI takes.
const IDS: IdRule = IdRule::AtMost(64);
/// The answer to a call that never got one.
const NO_RESULT: &str = "[tool call was interrupted; no result]";

/// An item of the input.
enum Item<'a> {
    /// A message of the user's, or one within the conversation by the developer.
    Message { role: &'static str, pieces: Vec<Piece<'a>> },
    /// Text of the assistant's.
    Said(std::borrow::Cow<'a, str>),
    /// A call.
    Call { id: &'a str, name: &'a str, input: &'a str },
    /// Its result; `None` if it never got one.
    Output { id: &'a str, output: Option<ToolOutput<'a>> },
    /// The upstream's own reasoning, as it gave it.
    Reasoning(Box<serde_json::value::RawValue>),
}

/// Writes a Messages body for an upstream that speaks Responses.
pub fn from_messages(body: &[u8], target: &Target<'_>) -> Result<Translation, RequestError> {
    let request = MessagesRequest::parse(body)?;
    let mut notes = Notes::default();
    refuse_what_cannot_be(&request, &mut notes)?;
    if let Some(answer) = local::answer(&request, target, true) {
        return Ok(Translation::Answer(answer));
    }
    // For the tools that the conversation has loaded; what it leaves out is not left out here.
    let conversation = turns::read(&request, target, &mut Notes::default())?;
    let wish = Wish::read(&request, target);
    let tools = tools::Tools::choose(&request, &conversation, target, wish.is_on(), &mut notes)?;
    let names = NameMap::new(
        tools
            .list
            .iter()
            .filter_map(|tool| tool.name.as_deref())
            .chain(conversation.called_names.iter().copied()),
    );
    let search = request.tools.iter().find(|tool| tools::is_web_search(tool));
    let items = items(&request, target, &mut notes)?;

    let mut json = Json::with_capacity(body.len() + body.len() / 8 + 256);
    json.object(|json| {
        json.key("model").string(target.model);
        json.key("store").boolean(false);
        if request.stream {
            json.key("stream").boolean(true);
        }
        json.key("include").array(|json| {
            json.string("reasoning.encrypted_content");
            if search.is_some() {
                json.string("web_search_call.action.sources");
            }
        });
        let system: Vec<&str> = system_texts(&request.system).map(|(text, _)| text.as_ref()).collect();
        if !system.is_empty() {
            json.key("instructions").string(&system.join("\n\n"));
        }
        if let Some(most) = max_tokens(&request, target) {
            json.key("max_output_tokens").number(most.max(LEAST_OUTPUT));
        }
        sampling(json, &request, target, &mut notes);
        reasoning(json, &request, target, wish);
        format(json, &request, target);
        tools.write_flat(json, target, search);
        let user = request.metadata.as_ref().and_then(|metadata| metadata.user_id.as_deref());
        if let Some(user) = user.filter(|_| target.sends(Param::User)) {
            json.key("safety_identifier").string(&names::hash(&[user], 64));
        }
        if let Some(session) = target.session.filter(|_| target.sends(Param::CacheKey)) {
            json.key("prompt_cache_key").string(session);
        }
        let has_phases = models::openai_reasoning(target.model).is_some_and(|model| model.has_phases());
        let has_phases = has_phases && target.sends(Param::Phase);
        json.key("input").array(|json| write(json, &items, has_phases));
    });

    let used_ids: Arc<[u64]> = conversation.call_ids.iter().map(|id| calls::id_hash(id)).collect();
    Ok(Translation::Send(Box::new(Translated {
        body: Bytes::from(json::with_extra(json.finish(), target.extra)),
        names,
        dropped: notes.dropped,
        healed: notes.healed,
        used_ids,
        one_call: request.tool_choice.as_ref().is_some_and(|choice| choice.disable_parallel_tool_use),
        stream: request.stream,
        input_estimate: target.input_estimate,
        max_tokens: max_tokens(&request, target),
        stops: untold_stops(&request, 0),
    })))
}

fn sampling(json: &mut Json, request: &MessagesRequest<'_>, target: &Target<'_>, notes: &mut Notes) {
    let reasons = models::is_openai_reasoning(target.model);
    for (key, value, param) in
        [("temperature", request.temperature, Param::Temperature), ("top_p", request.top_p, Param::TopP)]
    {
        match value {
            Some(_) if reasons || !target.sends(param) => notes.drop(key),
            Some(value) => json.key(key).raw(value),
            None => {}
        }
    }
    if request.top_k.is_some() {
        notes.drop("top_k");
    }
}

fn reasoning(json: &mut Json, request: &MessagesRequest<'_>, target: &Target<'_>, wish: Wish) {
    let Some(model) = models::openai_reasoning(target.model).filter(|_| target.sends(Param::Reasoning))
    else {
        return;
    };
    let highest = Effort::read(model.highest()).unwrap_or(Effort::High);
    let learned = target.rectified.iter().filter_map(|rectify| match rectify {
        Rectify::EffortAtMost(effort) => Some(*effort),
        _ => None,
    });
    let ceiling = learned.min().unwrap_or(Effort::Max).min(highest);
    let effort = match wish {
        Wish::Unsaid => return,
        Wish::Off => model.least(),
        Wish::On { effort, budget } => {
            effort.or_else(|| budget.map(Effort::of_budget)).map(|effort| effort.min(ceiling).as_str())
        }
    };
    let display = request.thinking.as_ref().and_then(|thinking| thinking.display.as_deref());
    let is_shown = wish.is_on() && display != Some("omitted");
    json.key("reasoning").object(|json| {
        if let Some(effort) = effort {
            json.key("effort").string(effort);
        }
        if is_shown {
            json.key("summary").string("auto");
        }
    });
}

fn format(json: &mut Json, request: &MessagesRequest<'_>, target: &Target<'_>) {
    let config = request.output_config.as_ref().and_then(|config| config.format.as_ref());
    let wanted = config.or(request.output_format.as_ref()).and_then(|format| format.schema);
    let Some(wanted) = wanted.filter(|_| target.sends(Param::ResponseFormat)) else { return };
    json.key("text").object(|json| {
        json.key("format").object(|json| {
            json.key("type").string("json_schema");
            json.key("name").string("output");
            json.key("schema").json(&schema::clean(Some(wanted), target.schema()));
            json.key("strict").boolean(schema::is_strict(wanted) && !target.is_rectified(Rectify::NotStrict));
        });
    });
}

/// The messages as items, in their order.
fn items<'a>(
    request: &'a MessagesRequest<'a>,
    target: &Target<'_>,
    notes: &mut Notes,
) -> Result<Vec<Item<'a>>, RequestError> {
    let blocks = || request.messages.iter().flat_map(|message| message.content.blocks());
    let answered: HashSet<&str> = blocks().filter_map(|block| block.tool_use_id.as_deref()).collect();
    let last_user = request.messages.iter().rposition(|message| message.role == "user").unwrap_or(0);
    let mut items = Vec::with_capacity(request.messages.len() * 2);
    // Calls that wait for their result.
    let mut waiting: HashSet<&str> = HashSet::new();
    for (at, message) in request.messages.iter().enumerate() {
        match message.role.as_ref() {
            "assistant" => {
                assistant(at, &message.content, target, notes, &answered, &mut waiting, &mut items)?
            }
            "user" => user(at, &message.content, target, notes, &mut waiting, &mut items)?,
            _ => {
                let is_over = message.clear_at.as_deref() == Some("next_user_message") && at < last_user;
                let text = content::texts(&message.content, "\n\n");
                if is_over || text.is_empty() || is_attribution(&text) {
                    continue;
                }
                let (role, text) = if target.is_rectified(Rectify::SystemAsUserText) {
                    ("user", format!("<system-reminder>\n{text}\n</system-reminder>").into())
                } else {
                    ("developer", text)
                };
                items.push(Item::Message { role, pieces: vec![Piece::text(text)] });
            }
        }
    }
    drop_lone_reasoning(&mut items, notes);
    Ok(items)
}

fn assistant<'a>(
    at: usize,
    content: &'a Content<'a>,
    target: &Target<'_>,
    notes: &mut Notes,
    answered: &HashSet<&str>,
    waiting: &mut HashSet<&'a str>,
    items: &mut Vec<Item<'a>>,
) -> Result<(), RequestError> {
    if let Content::Text(text) = content
        && !text.is_empty()
    {
        items.push(Item::Said((&**text).into()));
    }
    let mut lost = Vec::new();
    for (nth, block) in content.blocks().iter().enumerate() {
        match block.kind() {
            "tool_use" => {
                let (Some(id), Some(name)) = (block.id.as_deref(), block.name.as_deref()) else { continue };
                if !waiting.insert(id) {
                    notes.heal("duplicate tool_use id");
                    continue;
                }
                items.push(Item::Call { id, name, input: block.input.map_or("{}", Raw::get) });
                if !answered.contains(id) {
                    lost.push(id);
                }
            }
            "thinking" => {
                let carrier = Carrier::read(block.signature.as_deref().unwrap_or_default())
                    .map_err(|_| RequestError::Signature { path: format!("messages.{at}.content.{nth}") })?;
                match carrier {
                    Some(Carrier { item: Some(item), dialect, model, .. })
                        if dialect == target.variant.name && model == target.model =>
                    {
                        items.push(Item::Reasoning(item));
                    }
                    _ => notes.drop("thinking"),
                }
            }
            "redacted_thinking" => notes.drop("redacted_thinking"),
            "compaction" => {
                let text = content::texts(&block.content, "\n\n");
                if !text.is_empty() {
                    items.push(Item::Message { role: "user", pieces: vec![Piece::text(text)] });
                }
            }
            _ => match said(block) {
                Some(text) if !text.is_empty() => items.push(Item::Said(text)),
                Some(_) => {}
                None => notes.drop("content block"),
            },
        }
    }
    for id in lost {
        notes.heal("tool_use without a result");
        waiting.remove(id);
        items.push(Item::Output { id, output: None });
    }
    Ok(())
}

fn said<'a>(block: &'a Block<'a>) -> Option<std::borrow::Cow<'a, str>> {
    match block.text.as_deref() {
        Some(text) => Some(text.into()),
        None => content::server_tool(block).map(Into::into),
    }
}

fn user<'a>(
    at: usize,
    content: &'a Content<'a>,
    target: &Target<'_>,
    notes: &mut Notes,
    waiting: &mut HashSet<&'a str>,
    items: &mut Vec<Item<'a>>,
) -> Result<(), RequestError> {
    let mut pieces = Vec::new();
    if let Content::Text(text) = content
        && !text.is_empty()
    {
        pieces.push(Piece::text(text.borrowed()));
    }
    for (nth, block) in content.blocks().iter().enumerate() {
        let path = || format!("messages.{at}.content.{nth}");
        match block.kind() {
            "tool_result" => {
                let id = block.tool_use_id.as_deref().unwrap_or_default();
                let output = content::tool_output(block, &path, target, notes)?;
                if waiting.remove(id) {
                    items.push(Item::Output { id, output: Some(output) });
                } else {
                    notes.heal("tool_result without a call");
                    pieces.push(Piece::text(format!("[result of tool {id}] {}", output.text)));
                    pieces.extend(output.attached);
                }
            }
            "image" => pieces.extend(content::image(block, &path, target, notes)?),
            "document" => pieces.extend(content::document(block, &path, target, notes)?),
            _ => match said(block) {
                Some(text) if !text.is_empty() => pieces.push(Piece::text(text)),
                Some(_) => {}
                None => notes.drop("content block"),
            },
        }
    }
    if !pieces.is_empty() {
        items.push(Item::Message { role: "user", pieces });
    }
    Ok(())
}

/// A reasoning item is refused unless the item that it led to comes right after it.
fn drop_lone_reasoning(items: &mut Vec<Item<'_>>, notes: &mut Notes) {
    let mut leads = false;
    let mut kept: Vec<bool> = items
        .iter()
        .rev()
        .map(|item| match item {
            Item::Reasoning(_) => leads,
            Item::Said(_) | Item::Call { .. } => {
                leads = true;
                true
            }
            Item::Message { .. } | Item::Output { .. } => {
                leads = false;
                true
            }
        })
        .collect();
    if kept.contains(&false) {
        notes.drop("thinking");
    }
    items.retain(|_| kept.pop().unwrap_or(true));
}

/// What a text of the assistant's was: on the way to a call, or an answer. Told by what follows it, so that a
/// conversation with another provider in it has it, too. `None` where nothing follows.
fn phase(after: &[Item<'_>]) -> Option<&'static str> {
    let next = after.iter().find(|item| !matches!(item, Item::Said(_) | Item::Reasoning(_)))?;
    Some(if matches!(next, Item::Call { .. }) { "commentary" } else { "final_answer" })
}

fn write(json: &mut Json, items: &[Item<'_>], has_phases: bool) {
    for (nth, item) in items.iter().enumerate() {
        if let Item::Reasoning(item) = item {
            json.raw(Raw::from(&**item));
            continue;
        }
        json.object(|json| match item {
            Item::Reasoning(_) => {}
            Item::Message { role, pieces } => {
                json.key("type").string("message");
                json.key("role").string(role);
                json.key("content").array(|json| pieces.iter().for_each(|piece| part(json, piece)));
            }
            Item::Said(text) => {
                json.key("type").string("message");
                json.key("role").string("assistant");
                let after = items.get(nth + 1..).unwrap_or_default();
                if let Some(phase) = phase(after).filter(|_| has_phases) {
                    json.key("phase").string(phase);
                }
                json.key("content").array(|json| {
                    json.object(|json| {
                        json.key("type").string("output_text");
                        json.key("text").string(text);
                        json.key("annotations").array(|_| {});
                    });
                });
            }
            Item::Call { id, name, input } => {
                json.key("type").string("function_call");
                json.key("call_id").string(&names::wire_id(id, IDS));
                json.key("name").string(&names::wire_name(name));
                json.key("arguments").string(&compact(input));
            }
            Item::Output { id, output } => {
                json.key("type").string("function_call_output");
                json.key("call_id").string(&names::wire_id(id, IDS));
                match output {
                    None => json.key("output").string(NO_RESULT),
                    Some(output) if output.attached.is_empty() => json.key("output").string(&output.text),
                    Some(output) => json.key("output").array(|json| {
                        if !output.text.is_empty() {
                            part(json, &Piece::text(output.text.borrowed()));
                        }
                        output.attached.iter().for_each(|piece| part(json, piece));
                    }),
                }
            }
        });
    }
}

/// A piece as a part of the input.
fn part(json: &mut Json, piece: &Piece<'_>) {
    json.object(|json| match piece {
        Piece::Text { text, .. } | Piece::System(text) => {
            json.key("type").string("input_text");
            json.key("text").string(text);
        }
        Piece::Image { source, .. } => {
            json.key("type").string("input_image");
            content::data_url(json.key("image_url"), source, "image/png");
            json.key("detail").string("auto");
        }
        Piece::File { name, source, .. } => {
            json.key("type").string("input_file");
            match (&source.url, &source.data) {
                (Some(url), None) => json.key("file_url").string(url),
                _ => {
                    json.key("filename").string(name);
                    content::data_url(json.key("file_data"), source, "application/pdf");
                }
            }
        }
    });
}

#[cfg(test)]
mod tests;
