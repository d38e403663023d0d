//! What an upstream did with tools of its own, as Anthropic's blocks: a call, and its result.
//!
//! Source: Anthropic documentation, "Code execution tool", "Web search tool" and "MCP connector" (the blocks).

use std::borrow::Cow;

use super::openai_chat::write::Json;
use super::{Part, Sink, names};

/// A page that a search found.
pub(crate) struct Found<'a> {
    pub(crate) url: &'a str,
    pub(crate) title: &'a str,
}

fn id(prefix: &str, seed: &str) -> String {
    format!("{prefix}_{}", names::hash(&[seed], 24))
}

fn give(sink: &mut dyn Sink, write: impl FnOnce(&mut Json)) {
    let mut json = Json::default();
    json.object(write);
    sink.part(Part::Block(Cow::Owned(json.finish_string())));
}

/// A search of the web. `seed` tells it from the others of the answer.
pub(crate) fn search(seed: &str, query: &str, found: &[Found<'_>], sink: &mut dyn Sink) {
    let id = id("srvtoolu", seed);
    give(sink, |json| {
        json.key("type").string("server_tool_use");
        json.key("id").string(&id);
        json.key("name").string("web_search");
        json.key("input").object(|json| json.key("query").string(query));
    });
    give(sink, |json| {
        json.key("type").string("web_search_tool_result");
        json.key("tool_use_id").string(&id);
        json.key("content").array(|json| {
            for page in found {
                json.object(|json| {
                    json.key("type").string("web_search_result");
                    json.key("url").string(page.url);
                    json.key("title").string(page.title);
                    json.key("encrypted_content").string("");
                    json.key("page_age").null();
                });
            }
        });
    });
}

/// Code that the upstream has run.
pub(crate) fn code(seed: &str, code: &str, sink: &mut dyn Sink) {
    give(sink, |json| {
        json.key("type").string("server_tool_use");
        json.key("id").string(&id("srvtoolu", seed));
        json.key("name").string("code_execution");
        json.key("input").object(|json| json.key("code").string(code));
    });
}

/// What came of it.
pub(crate) fn code_result(seed: &str, stdout: &str, stderr: &str, sink: &mut dyn Sink) {
    give(sink, |json| {
        json.key("type").string("code_execution_tool_result");
        json.key("tool_use_id").string(&id("srvtoolu", seed));
        json.key("content").object(|json| {
            json.key("type").string("code_execution_result");
            json.key("stdout").string(stdout);
            json.key("stderr").string(stderr);
            json.key("return_code").number(u64::from(!stderr.is_empty()));
            json.key("content").array(|_| {});
        });
    });
}

/// A call that the upstream made to an MCP server, and what that gave: its output, or its error.
pub(crate) fn mcp(
    seed: &str,
    server: &str,
    name: &str,
    arguments: &str,
    output: Result<&str, &str>,
    sink: &mut dyn Sink,
) {
    let id = id("mcptoolu", seed);
    give(sink, |json| {
        json.key("type").string("mcp_tool_use");
        json.key("id").string(&id);
        json.key("name").string(name);
        json.key("server_name").string(server);
        let is_object = super::json::is_object(arguments);
        json.key("input").json(if is_object { arguments } else { "{}" });
    });
    give(sink, |json| {
        json.key("type").string("mcp_tool_result");
        json.key("tool_use_id").string(&id);
        json.key("is_error").boolean(output.is_err());
        json.key("content").array(|json| {
            json.object(|json| {
                json.key("type").string("text");
                json.key("text").string(output.unwrap_or_else(|error| error));
            });
        });
    });
}
