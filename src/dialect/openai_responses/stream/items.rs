//! Items that are done, as parts.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::{Open, Reader};
use crate::dialect::carrier::Carrier;
use crate::dialect::citation::Citations;
use crate::dialect::openai_chat::arguments::{self, Healed};
use crate::dialect::openai_chat::calls::{id_hash, legal_id};
use crate::dialect::openai_chat::write::Json;
use crate::dialect::openai_responses::types::Item;
use crate::dialect::served::{self, Found};
use crate::dialect::{Fault, Part, Sink};

impl Reader {
    /// An item that is done: gives what of it was not given yet.
    pub(super) fn whole(
        &mut self,
        item: &Item<'_>,
        mut open: Open,
        sink: &mut dyn Sink,
    ) -> Result<(), Fault> {
        if open.has_given {
            self.rest(sink);
        }
        match item.kind.as_deref().unwrap_or_default() {
            "reasoning" => self.reasoning(item, &open, sink),
            "message" => self.message(item, &mut open, sink),
            kind @ ("function_call" | "custom_tool_call") => {
                let written = if kind == "function_call" { &item.arguments } else { &item.input };
                let written = written.as_deref().filter(|text| !text.is_empty()).unwrap_or(&open.arguments);
                // The limit cut it short.
                if item.status.as_deref() == Some("incomplete") || (self.context.one_call && self.has_calls) {
                    return Ok(());
                }
                let arguments = if kind == "function_call" {
                    match arguments::heal(written) {
                        Healed::Object(text) => text.into_owned(),
                        Healed::Wrapped(text) => text,
                    }
                } else {
                    let mut json = Json::default();
                    json.object(|json| json.key("input").string(written));
                    json.finish_string()
                };
                let name = item.name.as_deref().filter(|name| !name.is_empty()).unwrap_or(&open.name);
                if name.is_empty() {
                    return Err(Fault::protocol("the upstream's answer has a tool call without a name"));
                }
                let id = item.call_id.as_deref().unwrap_or(&open.id).to_owned();
                let nth = self.given_ids.len().to_string();
                let used = &self.context.used_ids;
                let taken =
                    |id: &str| used.contains(&id_hash(id)) || self.given_ids.iter().any(|given| given == id);
                let id = legal_id(id, &[&self.id, &nth, name, &arguments], used.len(), taken);
                let name = self.context.names.given(name);
                let arguments = arguments::without_empty_pages(name, arguments);
                sink.part(Part::Call {
                    id: Cow::Borrowed(&id),
                    name: Cow::Borrowed(name),
                    arguments: Cow::Owned(arguments),
                });
                self.given_ids.push(id);
                self.has_calls = true;
                self.has_content = true;
            }
            // What the server did counts as an answer, also where no block can say it (an image, a file search).
            kind => self.has_content |= serve(item, sink) || kind.ends_with("_call"),
        }
        Ok(())
    }

    /// Ends a message with what backs its text. The whole item says it best: its events may be missing.
    fn message(&mut self, item: &Item<'_>, open: &mut Open, sink: &mut dyn Sink) {
        let mut whole = Citations::default();
        let mut length = 0;
        for part in &item.content {
            let text = part.text.as_deref().or(part.refusal.as_deref()).unwrap_or_default();
            if !open.has_given {
                if let Some(refusal) = part.refusal.as_deref() {
                    self.refusal.get_or_insert_default().push_str(refusal);
                }
                if !text.is_empty() {
                    self.output_bytes += text.len();
                    self.text(text, sink);
                }
            }
            if let Some(annotations) = part.annotations {
                whole.add_annotations(annotations, length);
            }
            length += text.chars().count() as u64;
        }
        if whole.is_empty() {
            std::mem::swap(&mut whole, &mut open.citations);
        }
        self.rest(sink);
        if !whole.is_empty() {
            sink.part(Part::Citations(whole.take()));
        }
    }

    /// Ends a reasoning item with our carrier, which holds the item if it can be sent back.
    fn reasoning(&mut self, item: &Item<'_>, open: &Open, sink: &mut dyn Sink) {
        let mut has_given = open.has_given;
        if !has_given {
            let texts = if item.summary.is_empty() { &item.content } else { &item.summary };
            for (nth, text) in texts.iter().filter_map(|part| part.text.as_deref()).enumerate() {
                let glue = if nth > 0 { "\n\n" } else { "" };
                has_given = true;
                self.has_content = true;
                sink.part(Part::Thinking(Cow::Owned(format!("{glue}{text}"))));
            }
        }
        let stored = item.encrypted_content.as_deref().filter(|content| !content.is_empty()).map(|content| {
            let mut json = Json::default();
            json.object(|json| {
                json.key("type").string("reasoning");
                json.key("id").string(item.id.as_deref().unwrap_or_default());
                json.key("summary").array(|json| {
                    for text in item.summary.iter().filter_map(|part| part.text.as_deref()) {
                        json.object(|json| {
                            json.key("type").string("summary_text");
                            json.key("text").string(text);
                        });
                    }
                });
                json.key("encrypted_content").string(content);
            });
            json.finish_string()
        });
        if !has_given && stored.is_none() {
            return;
        }
        let carrier = Carrier {
            dialect: self.context.variant.name.to_owned(),
            model: self.context.model.clone(),
            item: stored.and_then(|json| RawValue::from_string(json).ok()),
            ..Carrier::default()
        };
        sink.part(Part::Signature(Cow::Owned(carrier.write())));
    }
}

/// What the server did with a tool of its own, as Anthropic's blocks. False for what has none.
fn serve(item: &Item<'_>, sink: &mut dyn Sink) -> bool {
    let text = |text: &Option<Cow<'_, str>>| text.as_deref().unwrap_or_default().to_owned();
    let seed = text(&item.id);
    match item.kind.as_deref().unwrap_or_default() {
        "web_search_call" => {
            let action = item.action.as_ref();
            let query = action.and_then(|action| action.query.as_deref()).unwrap_or_default();
            let sources = action.iter().flat_map(|action| &action.sources);
            let found: Vec<Found<'_>> = sources
                .filter_map(|source| {
                    let url = source.url.as_deref()?;
                    Some(Found { url, title: source.title.as_deref().unwrap_or(url) })
                })
                .collect();
            served::search(&seed, query, &found, sink);
        }
        "code_interpreter_call" => {
            served::code(&seed, item.code.as_deref().unwrap_or_default(), sink);
            let logs: Vec<&str> = item.outputs.iter().filter_map(|output| output.logs.as_deref()).collect();
            served::code_result(&seed, &logs.join("\n"), "", sink);
        }
        "mcp_call" => {
            let given = text(&item.output);
            let error = item.error.filter(|error| error.get() != "null").map(|error| error.get().to_owned());
            let output = error.as_deref().map_or(Ok(given.as_str()), Err);
            served::mcp(
                &seed,
                &text(&item.server_label),
                &text(&item.name),
                &text(&item.arguments),
                output,
                sink,
            );
        }
        _ => return false,
    }
    true
}
