//! The pieces of which items and events are made.

use crate::dialect::Usage;
use crate::dialect::citation::Page;
use crate::dialect::openai_chat::write::Json;

pub(super) fn summary_part(json: &mut Json, text: &str) {
    json.key("summary_index").number(0);
    json.key("part").object(|json| {
        json.key("type").string("summary_text");
        json.key("text").string(text);
    });
}

pub(super) fn content_part(json: &mut Json, part: &str) {
    json.key("content_index").number(0);
    json.key("part").json(part);
}

pub(super) fn output_text(text: &str, annotations: &[String]) -> String {
    let mut json = Json::default();
    json.object(|json| {
        json.key("type").string("output_text");
        json.key("text").string(text);
        json.key("annotations").array(|json| annotations.iter().for_each(|one| json.json(one)));
        json.key("logprobs").array(|_| {});
    });
    json.finish_string()
}

/// A page that backs the text between two characters.
pub(super) fn annotation(page: &Page, from: u64, to: u64) -> String {
    let mut json = Json::default();
    json.object(|json| {
        json.key("type").string("url_citation");
        json.key("url").string(&page.url);
        json.key("title").string(&page.title);
        json.key("start_index").number(from);
        json.key("end_index").number(to);
    });
    json.finish_string()
}

pub(super) fn refusal(why: &str) -> String {
    let mut json = Json::default();
    json.object(|json| {
        json.key("type").string("refusal");
        json.key("refusal").string(why);
    });
    json.finish_string()
}

pub(super) fn write_usage(json: &mut Json, usage: &Usage) {
    json.key("input_tokens").number(usage.total_input());
    json.key("input_tokens_details").object(|json| {
        json.key("cached_tokens").number(usage.cache_read);
        json.key("cache_write_tokens").number(usage.cache_creation);
    });
    json.key("output_tokens").number(usage.output);
    json.key("output_tokens_details")
        .object(|json| json.key("reasoning_tokens").number(usage.thinking.unwrap_or(0)));
    json.key("total_tokens").number(usage.total());
}
