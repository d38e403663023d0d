//! Requests that need no upstream: nothing is to be generated, or nothing could be but inventions.

use std::borrow::Cow;

use super::{Target, tools};
use crate::dialect::anthropic::types::{Content, MessagesRequest};
use crate::dialect::names;
use crate::dialect::openai_chat::write::Json;
use crate::dialect::{Part, Stop, Usage};

/// Most characters of a query that is repeated.
const MAX_QUERY: usize = 400;

/// The answer, if no upstream is needed for it.
pub(in crate::dialect) fn answer(
    request: &MessagesRequest<'_>,
    target: &Target<'_>,
    searches: bool,
) -> Option<Vec<Part<'static>>> {
    let usage = Usage { input: target.input_estimate, estimated: true, ..Usage::default() };
    let start =
        Part::Start { id: Cow::Borrowed(""), model: Cow::Owned(target.model.to_owned()), usage: Some(usage) };
    let end = |stop| Part::End { stop, usage: Some(usage) };
    if request.max_tokens == Some(0) {
        return Some(vec![start, end(Stop::MaxTokens)]);
    }
    // Claude Code's web search is a request of its own with that one tool. An upstream that can't search would
    // invent results.
    let only_search = !request.tools.is_empty()
        && request.tools.iter().all(tools::is_server_tool)
        && request.tools.iter().any(tools::is_web_search);
    if !only_search || searches {
        return None;
    }
    let query = last_text(request);
    let query = query.get(..query.floor_char_boundary(MAX_QUERY)).unwrap_or_default();
    let id = format!("srvtoolu_{}", names::hash(&[query], 24));
    let mut call = Json::default();
    call.object(|json| {
        json.key("type").string("server_tool_use");
        json.key("id").string(&id);
        json.key("name").string("web_search");
        json.key("input").object(|json| json.key("query").string(query));
    });
    let mut result = Json::default();
    result.object(|json| {
        json.key("type").string("web_search_tool_result");
        json.key("tool_use_id").string(&id);
        json.key("content").object(|json| {
            json.key("type").string("web_search_tool_result_error");
            json.key("error_code").string("unavailable");
        });
    });
    Some(vec![
        start,
        Part::Block(Cow::Owned(call.finish_string())),
        Part::Block(Cow::Owned(result.finish_string())),
        Part::Text(Cow::Borrowed("Web search is not available with the selected model.")),
        end(Stop::EndTurn),
    ])
}

/// The last text of the user.
fn last_text<'r>(request: &'r MessagesRequest<'_>) -> &'r str {
    let message = request.messages.iter().rev().find(|message| message.role == "user");
    match message.map(|message| &message.content) {
        Some(Content::Text(text)) => text,
        Some(Content::Blocks(blocks)) => {
            blocks.iter().rev().find_map(|block| block.text.as_deref()).unwrap_or_default()
        }
        Some(Content::None) | None => "",
    }
}
