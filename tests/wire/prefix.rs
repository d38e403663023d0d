//! Prompt caches live on the beginning of a request: what is sent for the next turn begins with the bytes that
//! were sent for this one. Held over generated sessions such as Claude Code's, for each row of each dialect.

use cproxy::dialect::carrier::Carrier;
use cproxy::dialect::openai_chat::{self, Target, Translation};
use cproxy::dialect::{openai_responses, table};
use proptest::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// What happens in one turn of a session.
#[derive(Clone, Debug)]
enum Happening {
    /// The model answers in words, and the user goes on.
    Says,
    /// The model calls tools, each with such a result; after them the user may say something.
    Calls(Vec<Gives>, bool),
    /// The client puts in a system message before the model answers.
    Reminds,
    /// The user shows an image.
    Shows,
    /// The model looks for a tool that is not loaded yet.
    Loads,
}

/// What a tool gives back.
#[derive(Clone, Copy, Debug)]
enum Gives {
    Text,
    Blocks,
    Nothing,
    Failure,
    Image,
}

/// How a session goes on for an upstream: its row, and the model that is asked.
#[derive(Clone, Copy)]
struct Upstream {
    row: &'static str,
    model: &'static str,
    responses: bool,
}

const UPSTREAMS: &[Upstream] = &[
    Upstream { row: "openai", model: "gpt-5.2", responses: false },
    Upstream { row: "azure", model: "gpt-4.1", responses: false },
    Upstream { row: "openrouter", model: "anthropic/claude-sonnet-5", responses: false },
    Upstream { row: "openrouter", model: "openai/gpt-5.2", responses: false },
    Upstream { row: "deepseek", model: "deepseek-reasoner", responses: false },
    Upstream { row: "groq", model: "openai/gpt-oss-120b", responses: false },
    Upstream { row: "mistral", model: "devstral", responses: false },
    Upstream { row: "gemini", model: "gemini-3-pro", responses: false },
    Upstream { row: "llamacpp", model: "qwen3", responses: false },
    Upstream { row: "ollama", model: "qwen3", responses: false },
    Upstream { row: "vllm", model: "qwen3", responses: false },
    Upstream { row: "lmstudio", model: "qwen3", responses: false },
    Upstream { row: "perplexity", model: "sonar", responses: false },
    Upstream { row: "xai", model: "grok-4.3", responses: false },
    Upstream { row: "moonshot", model: "kimi-k2.6", responses: false },
    Upstream { row: "zai", model: "glm-5.2", responses: false },
    Upstream { row: "together", model: "zai-org/GLM-5", responses: false },
    Upstream { row: "fireworks", model: "accounts/fireworks/models/kimi-k2p6", responses: false },
    Upstream { row: "cerebras", model: "gpt-oss-120b", responses: false },
    Upstream { row: "generic", model: "any", responses: false },
    Upstream { row: "openai", model: "gpt-5.6", responses: true },
    Upstream { row: "generic", model: "any", responses: true },
];

const PNG: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABpfZFQAAAAABJRU5ErkJggg==";

fn happening() -> impl Strategy<Value = Happening> {
    let gives = prop_oneof![
        Just(Gives::Text),
        Just(Gives::Blocks),
        Just(Gives::Nothing),
        Just(Gives::Failure),
        Just(Gives::Image)
    ];
    prop_oneof![
        Just(Happening::Says),
        (proptest::collection::vec(gives, 1..4), any::<bool>())
            .prop_map(|(gives, says)| Happening::Calls(gives, says)),
        Just(Happening::Reminds),
        Just(Happening::Shows),
        Just(Happening::Loads),
    ]
}

/// The reasoning that the upstream gave in this turn, as the client keeps it.
fn thinking(upstream: Upstream, turn: usize, calls: &[String]) -> Value {
    let raw = |json: Value| RawValue::from_string(json.to_string()).ok();
    let carrier = Carrier {
        dialect: upstream.row.to_owned(),
        model: upstream.model.to_owned(),
        details: raw(json!([{"type": "reasoning.text", "signature": "c2ln", "index": 0}])),
        signatures: calls.iter().map(|id| (id.clone(), "dGhvdWdodA==".to_owned())).collect(),
        item: raw(
            json!({"type": "reasoning", "id": format!("rs_{turn}"), "summary": [], "encrypted_content": "eA"}),
        ),
    };
    json!({"type": "thinking", "thinking": format!("Thought {turn}."), "signature": carrier.write()})
}

/// The bodies that a client sends one after another: one for each turn.
fn session(upstream: Upstream, story: &[Happening]) -> Vec<Value> {
    let image =
        json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}});
    let mut messages = vec![
        json!({"role": "user", "content": [
            {"type": "text", "text": "<system-reminder>\nToday is Monday.\n</system-reminder>"},
            {"type": "text", "text": "Fix the \"parser\" in /srv/ü.rs."},
        ]}),
        json!({"role": "system", "content": "The workspace is read-only."}),
    ];
    let mut bodies = vec![body(&messages, 0)];
    for (turn, happening) in story.iter().enumerate() {
        let ids = |count: usize| (0..count).map(|n| format!("toolu_{turn:010}{n}")).collect::<Vec<_>>();
        let said = json!({"type": "text", "text": format!("I see {turn}.")});
        match happening {
            Happening::Says | Happening::Reminds | Happening::Shows => {
                messages.push(json!({"role": "assistant", "content": [thinking(upstream, turn, &[]), said]}));
                let content = match happening {
                    Happening::Shows => json!([{"type": "text", "text": "Look."}, image]),
                    _ => json!([{"type": "text", "text": "Go on."}, {"type": "text", "text": "Please."}]),
                };
                messages.push(json!({"role": "user", "content": content}));
                if matches!(happening, Happening::Reminds) {
                    messages.push(
                        json!({"role": "system", "content": [{"type": "text", "text": "Files changed."}]}),
                    );
                }
            }
            Happening::Calls(gives, says) => {
                let ids = ids(gives.len());
                let mut content = vec![thinking(upstream, turn, &ids), said];
                content.extend(ids.iter().map(|id| {
                    json!({"type": "tool_use", "id": id, "name": "Read", "input": {"file_path": format!("/a b/{id}"), "limit": 5}})
                }));
                messages.push(json!({"role": "assistant", "content": content}));
                let mut results: Vec<Value> = ids.iter().zip(gives).map(|(id, gives)| match gives {
                    Gives::Text => json!({"type": "tool_result", "tool_use_id": id, "content": "fn parse() {}"}),
                    Gives::Blocks => json!({"type": "tool_result", "tool_use_id": id, "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}),
                    Gives::Nothing => json!({"type": "tool_result", "tool_use_id": id}),
                    Gives::Failure => json!({"type": "tool_result", "tool_use_id": id, "content": "exit 1", "is_error": true}),
                    Gives::Image => json!({"type": "tool_result", "tool_use_id": id, "content": [{"type": "text", "text": "shot"}, image]}),
                }).collect();
                if *says {
                    results.push(json!({"type": "text", "text": "And hurry."}));
                }
                messages.push(json!({"role": "user", "content": results}));
            }
            Happening::Loads => {
                let id = &ids(1)[0];
                messages.push(json!({"role": "assistant", "content": [
                    {"type": "tool_use", "id": id, "name": "ToolSearch", "input": {"query": "deploy"}},
                ]}));
                messages.push(json!({"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": id, "content": [
                        {"type": "tool_reference", "tool_name": "mcp__a_server_with_a_long_name__and_a_tool_with_a_longer_name_deploy"},
                    ]},
                ]}));
            }
        }
        bodies.push(body(&messages, turn + 1));
    }
    bodies
}

/// A body as Claude Code sends it: the attribution line changes on each turn, and the last block is marked.
fn body(messages: &[Value], turn: usize) -> Value {
    let mut messages = messages.to_vec();
    let last = messages.iter_mut().rev().find(|message| message["role"] == "user").unwrap();
    *last["content"].as_array_mut().unwrap().last_mut().unwrap() = {
        let mut block = last["content"].as_array().unwrap().last().unwrap().clone();
        block["cache_control"] = json!({"type": "ephemeral"});
        block
    };
    let schema = json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
        "properties": {"file_path": {"type": "string"}, "limit": {"type": "integer", "exclusiveMinimum": 0}},
        "required": ["file_path"], "additionalProperties": false});
    json!({
        "model": "claude-sonnet-5",
        "messages": messages,
        "system": [
            {"type": "text", "text": format!("x-anthropic-billing-header: cc_version=2.1.197.{turn}; cch={turn:05};")},
            {"type": "text", "text": "You are a coding agent.", "cache_control": {"type": "ephemeral"}},
            {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}},
        ],
        "tools": [
            {"name": "Read", "description": "Reads a file.", "input_schema": schema},
            {"name": "ToolSearch", "description": "Finds tools.", "input_schema": schema},
            {"name": "mcp__a_server_with_a_long_name__and_a_tool_with_a_longer_name_deploy", "description": "Deploys.",
             "input_schema": schema, "defer_loading": true},
        ],
        "metadata": {"user_id": "{\"device_id\":\"d\",\"session_id\":\"s\"}"},
        "max_tokens": 64000,
        "thinking": {"type": "adaptive"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "output_config": {"effort": "high"},
        "stream": true,
    })
}

fn translate(upstream: Upstream, body: &Value) -> String {
    let row = table::by_name(upstream.row).unwrap();
    let target = Target { session: Some("s-1"), ..Target::new(upstream.model, row) };
    let body = body.to_string();
    let translation = if upstream.responses {
        openai_responses::from_messages(body.as_bytes(), &target)
    } else {
        openai_chat::from_messages(body.as_bytes(), &target)
    };
    let Ok(Translation::Send(sent)) = translation else { panic!("not sent: {body}") };
    String::from_utf8(sent.body.to_vec()).unwrap()
}

/// A body as its upstream's cache sees it: markers say what to keep, and are no part of it. Split into what comes
/// before the list of the conversation, and the list without its end.
fn seen(body: &str, upstream: Upstream) -> (String, String) {
    let body = body.replace(r#","cache_control":{"type":"ephemeral"}"#, "");
    let list = if upstream.responses { r#""input":["# } else { r#""messages":["# };
    let at = body.find(list).unwrap() + list.len();
    let end = body.rfind("]}").unwrap();
    (body[..at].to_owned(), body[at..end].to_owned())
}

/// The tools of a body, as text, without the end of the list; empty if there are none.
fn tools(before: &str) -> String {
    let Some((_, tools)) = before.split_once(r#""tools":["#) else { return String::new() };
    let tools = format!("[{tools}");
    let whole = serde_json::Deserializer::from_str(&tools).into_iter::<&RawValue>().next();
    let whole = whole.unwrap().unwrap().get().to_owned();
    whole.strip_suffix(']').unwrap().to_owned()
}

fn keeps_its_beginning(upstream: Upstream, story: &[Happening]) {
    let bodies = session(upstream, story);
    for (turn, two) in bodies.windows(2).enumerate() {
        let name =
            format!("{} {} (responses: {}), turn {turn}", upstream.row, upstream.model, upstream.responses);
        let (first, second) = (translate(upstream, &two[0]), translate(upstream, &two[1]));
        assert_eq!(first, translate(upstream, &two[0]), "{name}: the same input gives the same bytes");
        assert!(!first.contains("x-anthropic-billing-header"), "{name}");
        let (before, list) = seen(&first, upstream);
        let (next_before, next_list) = seen(&second, upstream);
        assert!(next_list.starts_with(&list), "{name}:\n{list}\n{next_list}");
        if matches!(story[turn], Happening::Loads) {
            // A tool that is loaded comes behind all others.
            assert!(tools(&next_before).starts_with(&tools(&before)), "{name}:\n{before}\n{next_before}");
        } else {
            assert_eq!(before, next_before, "{name}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_is_sent_for_the_next_turn_begins_with_what_was_sent_for_this_one(
        story in proptest::collection::vec(happening(), 1..7)
    ) {
        for upstream in UPSTREAMS {
            keeps_its_beginning(*upstream, &story);
        }
    }
}

#[test]
fn every_row_of_the_table_has_a_session() {
    for name in table::NAMES {
        assert!(UPSTREAMS.iter().any(|upstream| upstream.row == *name), "{name}");
    }
}

#[test]
fn the_key_of_the_prompt_cache_is_the_session_and_nothing_fresh() {
    let keyed = ["openai", "xai", "moonshot"];
    for upstream in UPSTREAMS.iter().filter(|upstream| keyed.contains(&upstream.row)) {
        let body = body(&[json!({"role": "user", "content": [{"type": "text", "text": "q"}]})], 0);
        assert!(translate(*upstream, &body).contains(r#""prompt_cache_key":"s-1""#));
    }
}
