//! The items of an answer, as events and as objects.

use super::pieces::{annotation, content_part, output_text, refusal, summary_part};
use super::{Message, Open, Writer};
use crate::dialect::citation::Citation;
use crate::dialect::openai_chat::answer::free_text;
use crate::dialect::openai_chat::write::Json;

/// The most of a call's arguments that goes into one event, in bytes.
const PIECE: usize = 4096;

impl Writer {
    /// The id of the item in progress, or of the next.
    fn item_id(&self, prefix: &str) -> String {
        format!("{prefix}_{}_{}", self.heading.id, self.items.len())
    }

    /// Writes an event about the item in progress.
    fn about_item(&mut self, kind: &str, prefix: &str, members: impl FnOnce(&mut Json)) {
        let (id, index) = (self.item_id(prefix), self.items.len() as u64);
        self.event(kind, |json| {
            json.key("item_id").string(&id);
            json.key("output_index").number(index);
            members(json);
        });
    }

    fn added(&mut self, item: &str) {
        let index = self.items.len() as u64;
        self.event("response.output_item.added", |json| {
            json.key("output_index").number(index);
            json.key("item").json(item);
        });
    }

    fn done(&mut self, item: String) {
        let index = self.items.len() as u64;
        self.event("response.output_item.done", |json| {
            json.key("output_index").number(index);
            json.key("item").json(&item);
        });
        self.items.push(item);
    }

    pub(super) fn thinking(&mut self, text: &str) {
        if !matches!(self.open, Open::Reasoning(_)) {
            self.close("");
            self.open = Open::Reasoning(String::new());
            let item = self.reasoning_item("", None);
            self.added(&item);
            self.about_item("response.reasoning_summary_part.added", "rs", |json| summary_part(json, ""));
        }
        if let Open::Reasoning(so_far) = &mut self.open {
            so_far.push_str(text);
        }
        self.about_item("response.reasoning_summary_text.delta", "rs", |json| {
            json.key("summary_index").number(0);
            json.key("delta").string(text);
        });
    }

    fn reasoning_item(&self, text: &str, proof: Option<&str>) -> String {
        let id = self.item_id("rs");
        let mut json = Json::default();
        json.object(|json| {
            json.key("id").string(&id);
            json.key("type").string("reasoning");
            json.key("summary").array(|json| {
                if !text.is_empty() {
                    json.object(|json| {
                        json.key("type").string("summary_text");
                        json.key("text").string(text);
                    });
                }
            });
            if let Some(proof) = proof {
                json.key("encrypted_content").string(proof);
            }
        });
        json.finish_string()
    }

    pub(super) fn text(&mut self, text: &str) {
        if !matches!(self.open, Open::Message(_)) {
            self.close("");
            self.open = Open::Message(Message::default());
            let item = self.message_item("in_progress", None);
            self.added(&item);
            self.about_item("response.content_part.added", "msg", |json| {
                content_part(json, &output_text("", &[]))
            });
        }
        if let Open::Message(message) = &mut self.open {
            message.text.push_str(text);
            message.ruler.text(text);
        }
        self.about_item("response.output_text.delta", "msg", |json| {
            json.key("content_index").number(0);
            json.key("delta").string(text);
            json.key("logprobs").array(|_| {});
        });
    }

    /// Says what backs the text since the last time. The item goes on: what follows is more of its text.
    pub(super) fn cite(&mut self, citations: &[Citation]) {
        let Open::Message(message) = &mut self.open else { return };
        for (page, from, to) in message.ruler.cited(citations) {
            let annotation = annotation(&page, from, to);
            let Open::Message(message) = &mut self.open else { return };
            let nth = message.annotations.len() as u64;
            message.annotations.push(annotation.clone());
            self.about_item("response.output_text.annotation.added", "msg", |json| {
                json.key("content_index").number(0);
                json.key("annotation_index").number(nth);
                json.key("annotation").json(&annotation);
            });
        }
    }

    fn message_item(&self, status: &str, part: Option<&str>) -> String {
        let id = self.item_id("msg");
        let mut json = Json::default();
        json.object(|json| {
            json.key("id").string(&id);
            json.key("type").string("message");
            json.key("status").string(status);
            json.key("role").string("assistant");
            json.key("content").array(|json| part.into_iter().for_each(|part| json.json(part)));
        });
        json.finish_string()
    }

    /// Ends the item in progress; a reasoning with what proves it.
    pub(super) fn close(&mut self, proof: &str) {
        match std::mem::replace(&mut self.open, Open::Nothing) {
            Open::Nothing => {
                if !proof.is_empty() {
                    self.encrypted(proof);
                }
            }
            Open::Reasoning(text) => {
                self.about_item("response.reasoning_summary_text.done", "rs", |json| {
                    json.key("summary_index").number(0);
                    json.key("text").string(&text);
                });
                self.about_item("response.reasoning_summary_part.done", "rs", |json| {
                    summary_part(json, &text)
                });
                let item = self.reasoning_item(&text, (!proof.is_empty()).then_some(proof));
                self.done(item);
            }
            Open::Message(Message { text, annotations, .. }) => {
                self.about_item("response.output_text.done", "msg", |json| {
                    json.key("content_index").number(0);
                    json.key("text").string(&text);
                    json.key("logprobs").array(|_| {});
                });
                let part = output_text(&text, &annotations);
                self.about_item("response.content_part.done", "msg", |json| content_part(json, &part));
                let item = self.message_item("completed", Some(&part));
                self.done(item);
                if !proof.is_empty() {
                    self.encrypted(proof);
                }
            }
        }
    }

    /// Reasoning without a text to read.
    pub(super) fn encrypted(&mut self, proof: &str) {
        let item = self.reasoning_item("", None);
        self.added(&item);
        let item = self.reasoning_item("", Some(proof));
        self.done(item);
    }

    pub(super) fn call(&mut self, id: &str, name: &str, arguments: &str) {
        self.close("");
        let is_custom = self.heading.custom.iter().any(|custom| custom == name);
        let text = if is_custom { free_text(arguments) } else { arguments.to_owned() };
        let (prefix, field, about) = match is_custom {
            true => ("ctc", "input", "response.custom_tool_call_input"),
            false => ("fc", "arguments", "response.function_call_arguments"),
        };
        let item = self.call_item(prefix, field, id, name, "", "in_progress");
        self.added(&item);
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.floor_char_boundary(PIECE.min(rest.len())));
            rest = after;
            self.about_item(&format!("{about}.delta"), prefix, |json| json.key("delta").string(piece));
        }
        self.about_item(&format!("{about}.done"), prefix, |json| {
            if !is_custom {
                json.key("name").string(name);
            }
            json.key(field).string(&text);
        });
        let item = self.call_item(prefix, field, id, name, &text, "completed");
        self.done(item);
    }

    fn call_item(&self, prefix: &str, field: &str, id: &str, name: &str, text: &str, status: &str) -> String {
        let item_id = self.item_id(prefix);
        let spaced = self.heading.spaced.iter().find(|(sent, ..)| sent == name);
        let mut json = Json::default();
        json.object(|json| {
            json.key("id").string(&item_id);
            json.key("type").string(if prefix == "ctc" { "custom_tool_call" } else { "function_call" });
            json.key("status").string(status);
            json.key("call_id").string(id);
            match spaced {
                Some((_, space, name)) => {
                    json.key("namespace").string(space);
                    json.key("name").string(name);
                }
                None => json.key("name").string(name),
            }
            json.key(field).string(text);
        });
        json.finish_string()
    }

    pub(super) fn refuse(&mut self, why: &str) {
        self.close("");
        let item = self.message_item("in_progress", None);
        self.added(&item);
        self.about_item("response.content_part.added", "msg", |json| content_part(json, &refusal("")));
        self.about_item("response.refusal.delta", "msg", |json| {
            json.key("content_index").number(0);
            json.key("delta").string(why);
        });
        self.about_item("response.refusal.done", "msg", |json| {
            json.key("content_index").number(0);
            json.key("refusal").string(why);
        });
        let part = refusal(why);
        self.about_item("response.content_part.done", "msg", |json| content_part(json, &part));
        let item = self.message_item("completed", Some(&part));
        self.done(item);
    }
}
