//! Chained both ways, Messages → Chat → Messages and Chat → Messages → Chat, generated conversations keep what they
//! say: the same texts, calls, results, in the same order.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use cproxy::dialect::anthropic::compose::Destination;
use cproxy::dialect::openai_chat::{Target, Translation, from_messages, to_messages::to_messages};
use cproxy::dialect::table;
use proptest::prelude::*;
use serde_json::{Value, json};

/// One thing that was said, in either dialect.
#[derive(Clone, Debug, PartialEq)]
enum Said {
    System(String),
    User(String),
    /// Media type, data.
    Image(String, String),
    Assistant(String),
    /// Id, name, arguments.
    Call(String, String, Value),
    /// Id, text.
    Result(String, String),
}

/// A step of a generated conversation.
#[derive(Clone, Debug)]
enum Step {
    User(Vec<Saying>),
    /// Text, and calls: name, arguments, what each gave back.
    /// And whether the results came back in another order.
    Assistant(Option<String>, Vec<(String, Value, Given)>, bool),
}

/// What a user shows.
#[derive(Clone, Debug)]
enum Saying {
    Text(String),
    /// The data of a picture.
    Image(String),
}

/// What a tool gave back.
#[derive(Clone, Debug)]
struct Given {
    texts: Vec<String>,
    is_error: bool,
}

fn words() -> impl Strategy<Value = String> {
    // Edges without blanks: where texts are joined, what stands there is no part of any.
    prop_oneof![
        "[a-zA-Z]{1,6}",
        "[a-z]{1,3}[ -~é漢😀\\n]{0,30}[a-z.]{1,3}",
        Just("{\"not\": \"json\"}, \"quoted\" \\ and \u{1}".to_owned()),
    ]
}

fn arguments() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<i32>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
        words().prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::btree_map("[a-z]{1,3}", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    });
    proptest::collection::btree_map("[a-z]{1,4}", value, 0..3)
        .prop_map(|map| Value::Object(map.into_iter().collect()))
}

fn conversation() -> impl Strategy<Value = (Option<String>, Vec<Step>)> {
    let given = (proptest::collection::vec(words(), 1..3), any::<bool>());
    let given = given.prop_map(|(texts, is_error)| Given { texts, is_error });
    let call = ("[a-z_]{2,9}", arguments(), given);
    let calls = proptest::collection::vec(call, 0..4);
    let assistant =
        (proptest::option::of(words()), calls, any::<bool>()).prop_map(|(text, calls, reversed)| {
            match (text, calls.is_empty()) {
                (None, true) => Step::Assistant(Some("well".to_owned()), calls, reversed),
                (text, _) => Step::Assistant(text, calls, reversed),
            }
        });
    let saying =
        || prop_oneof![4 => words().prop_map(Saying::Text), 1 => "[A-Za-z0-9+/]{8}".prop_map(Saying::Image)];
    let user = move || proptest::collection::vec(saying(), 1..4).prop_map(Step::User);
    let turn = (user(), assistant).prop_map(|(user, assistant)| vec![user, assistant]);
    (proptest::option::of(words()), proptest::collection::vec(turn, 0..5), user())
        .prop_map(|(system, turns, last)| (system, turns.into_iter().flatten().chain([last]).collect()))
}

fn as_messages(system: Option<&str>, steps: &[Step]) -> Value {
    let mut messages: Vec<Value> = Vec::new();
    let mut results: Vec<Value> = Vec::new();
    let mut next = 0;
    for step in steps {
        match step {
            Step::User(sayings) => {
                let blocks = sayings.iter().map(|saying| match saying {
                    Saying::Text(text) => json!({"type": "text", "text": text}),
                    Saying::Image(data) => {
                        let source = json!({"type": "base64", "media_type": "image/png", "data": data});
                        json!({"type": "image", "source": source})
                    }
                });
                let blocks = results.drain(..).chain(blocks);
                messages.push(json!({"role": "user", "content": blocks.collect::<Vec<_>>()}));
            }
            Step::Assistant(text, calls, reversed) => {
                let mut blocks: Vec<Value> =
                    text.iter().map(|text| json!({"type": "text", "text": text})).collect();
                for (name, input, given) in calls {
                    next += 1;
                    let id = format!("toolu_{next}");
                    blocks.push(json!({"type": "tool_use", "id": id, "name": name, "input": input}));
                    let content = match given.texts.as_slice() {
                        [text] => json!(text),
                        texts => texts.iter().map(|text| json!({"type": "text", "text": text})).collect(),
                    };
                    results.push(json!({"type": "tool_result", "tool_use_id": id, "content": content, "is_error": given.is_error}));
                }
                if *reversed {
                    results.reverse();
                }
                messages.push(json!({"role": "assistant", "content": blocks}));
            }
        }
    }
    let mut body = json!({"model": "m", "max_tokens": 100, "messages": messages});
    if let Some(system) = system {
        body["system"] = json!([{"type": "text", "text": system}]);
    }
    body
}

fn as_chat(system: Option<&str>, steps: &[Step]) -> Value {
    let mut messages: Vec<Value> =
        system.iter().map(|text| json!({"role": "system", "content": text})).collect();
    let mut next = 0;
    for step in steps {
        match step {
            Step::User(sayings) if let [Saying::Text(text)] = sayings.as_slice() => {
                messages.push(json!({"role": "user", "content": text}))
            }
            Step::User(sayings) => {
                let parts = sayings.iter().map(|saying| match saying {
                    Saying::Text(text) => json!({"type": "text", "text": text}),
                    Saying::Image(data) => {
                        json!({"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{data}")}})
                    }
                });
                let parts: Vec<Value> = parts.collect();
                messages.push(json!({"role": "user", "content": parts}));
            }
            Step::Assistant(text, calls, reversed) => {
                let mut message = json!({"role": "assistant", "content": text});
                let mut results = Vec::new();
                let mut list = Vec::new();
                for (name, input, given) in calls {
                    next += 1;
                    let id = format!("call_{next}");
                    let function = json!({"name": name, "arguments": input.to_string()});
                    list.push(json!({"id": id, "type": "function", "function": function}));
                    results
                        .push(json!({"role": "tool", "tool_call_id": id, "content": given.texts.join("\n")}));
                }
                if !list.is_empty() {
                    message["tool_calls"] = list.into();
                }
                if *reversed {
                    results.reverse();
                }
                messages.push(message);
                messages.extend(results);
            }
        }
    }
    json!({"model": "m", "messages": messages})
}

/// Joins what stands side by side.
fn say(said: &mut Vec<Said>, next: Said) {
    match (said.last_mut(), next) {
        (Some(Said::User(last)), Said::User(text)) => *last = format!("{last}\n\n{text}"),
        (Some(Said::Assistant(last)), Said::Assistant(text)) => last.push_str(&text),
        (_, next) => said.push(next),
    }
}

/// Results in the order of their calls: the order in which they came back means nothing.
fn in_call_order(mut said: Vec<Said>) -> Vec<Said> {
    let is_result = |said: &Said| matches!(said, Said::Result(..));
    for run in said.chunk_by_mut(|one, other| is_result(one) && is_result(other)) {
        run.sort_by_key(|said| match said {
            Said::Result(id, _) => id.rsplit('_').next().and_then(|nth| nth.parse::<u32>().ok()),
            _ => None,
        });
    }
    said
}

fn texts(content: &Value, kind: &str) -> Vec<String> {
    match content {
        Value::String(text) => vec![text.clone()],
        Value::Array(blocks) => {
            let texts = blocks.iter().filter(|block| block["type"] == kind);
            texts.map(|block| block["text"].as_str().unwrap().to_owned()).collect()
        }
        _ => Vec::new(),
    }
}

fn of_messages(body: &Value) -> Vec<Said> {
    let mut said = Vec::new();
    for text in texts(&body["system"], "text") {
        said.push(Said::System(text));
    }
    for message in body["messages"].as_array().unwrap() {
        let is_user = message["role"] == "user";
        if let Value::String(text) = &message["content"] {
            say(&mut said, if is_user { Said::User(text.clone()) } else { Said::Assistant(text.clone()) });
        }
        for block in message["content"].as_array().into_iter().flatten() {
            let field = |name: &str| block[name].as_str().unwrap_or_default().to_owned();
            match block["type"].as_str().unwrap() {
                "text" if is_user => say(&mut said, Said::User(field("text"))),
                "text" => say(&mut said, Said::Assistant(field("text"))),
                "tool_use" => said.push(Said::Call(field("id"), field("name"), block["input"].clone())),
                "image" => {
                    let source = |name: &str| block["source"][name].as_str().unwrap().to_owned();
                    said.push(Said::Image(source("media_type"), source("data")));
                }
                "tool_result" => {
                    let text = texts(&block["content"], "text").join("\n");
                    // Chat has no word for a failure but words.
                    let is_told = text.to_ascii_lowercase().starts_with("error");
                    let text =
                        if block["is_error"] == true && !is_told { format!("Error: {text}") } else { text };
                    said.push(Said::Result(field("tool_use_id"), text));
                }
                other => panic!("a block of type {other}"),
            }
        }
    }
    in_call_order(said)
}

fn of_chat(body: &Value) -> Vec<Said> {
    let mut said = Vec::new();
    for message in body["messages"].as_array().unwrap() {
        let parts = texts(&message["content"], "text");
        match message["role"].as_str().unwrap() {
            "system" => said.push(Said::System(parts.join("\n\n"))),
            "user" if message["content"].is_array() => {
                for part in message["content"].as_array().unwrap() {
                    match part["type"].as_str().unwrap() {
                        "text" => say(&mut said, Said::User(part["text"].as_str().unwrap().to_owned())),
                        "image_url" => {
                            let url = part["image_url"]["url"].as_str().unwrap();
                            let (kind, data) =
                                url.strip_prefix("data:").unwrap().split_once(";base64,").unwrap();
                            said.push(Said::Image(kind.to_owned(), data.to_owned()));
                        }
                        other => panic!("a part of type {other}"),
                    }
                }
            }
            "user" => parts.into_iter().for_each(|text| say(&mut said, Said::User(text))),
            "tool" => {
                let id = message["tool_call_id"].as_str().unwrap().to_owned();
                said.push(Said::Result(id, parts.join("\n")));
            }
            "assistant" => {
                for text in parts {
                    say(&mut said, Said::Assistant(text));
                }
                for call in message["tool_calls"].as_array().into_iter().flatten() {
                    let function = &call["function"];
                    let arguments = serde_json::from_str(function["arguments"].as_str().unwrap()).unwrap();
                    let field = |value: &Value| value.as_str().unwrap().to_owned();
                    said.push(Said::Call(field(&call["id"]), field(&function["name"]), arguments));
                }
            }
            other => panic!("a message of {other}"),
        }
    }
    in_call_order(said)
}

fn to_chat(body: &Value, variant: &str) -> Value {
    let target = Target::new("m", table::by_name(variant).unwrap());
    match from_messages(body.to_string().as_bytes(), &target).unwrap() {
        Translation::Send(translated) => serde_json::from_slice(&translated.body).unwrap(),
        Translation::Answer(_) => panic!("an answer without an upstream"),
    }
}

fn from_chat(body: &Value, is_anthropic: bool) -> Value {
    let to = Destination::new("claude-opus-4-8", is_anthropic);
    serde_json::from_slice(&to_messages(body.to_string().as_bytes(), &to).unwrap()).unwrap()
}

proptest! {
    #[test]
    fn messages_to_chat_and_back_say_the_same((system, steps) in conversation(), is_anthropic in any::<bool>()) {
        let given = as_messages(system.as_deref(), &steps);
        for variant in ["openai", "generic", "openrouter", "llamacpp", "xai", "together"] {
            let back = from_chat(&to_chat(&given, variant), is_anthropic);
            prop_assert_eq!(of_messages(&back), of_messages(&given), "{}", variant);
        }
    }

    #[test]
    fn chat_to_messages_and_back_say_the_same((system, steps) in conversation()) {
        let given = as_chat(system.as_deref(), &steps);
        let back = to_chat(&from_chat(&given, false), "openai");
        prop_assert_eq!(of_chat(&back), of_chat(&given));
    }

    #[test]
    fn what_anthropic_is_sent_keeps_its_rules((system, steps) in conversation()) {
        let body = from_chat(&as_chat(system.as_deref(), &steps), true);
        let messages = body["messages"].as_array().unwrap();
        prop_assert_eq!(&messages[0]["role"], "user");
        let mut open: Vec<String> = Vec::new();
        for (nth, message) in messages.iter().enumerate() {
            if nth > 0 {
                prop_assert!(message["role"] != messages[nth - 1]["role"], "turns alternate");
            }
            let blocks = message["content"].as_array().unwrap();
            prop_assert!(!blocks.is_empty());
            let answered: Vec<String> = blocks
                .iter()
                .take_while(|block| block["type"] == "tool_result")
                .map(|block| block["tool_use_id"].as_str().unwrap().to_owned())
                .collect();
            let results = blocks.iter().filter(|block| block["type"] == "tool_result").count();
            prop_assert_eq!(results, answered.len(), "results come first");
            prop_assert_eq!(&answered, &open, "every call is answered in the next message");
            let calls = blocks.iter().filter(|block| block["type"] == "tool_use");
            open = calls.map(|block| block["id"].as_str().unwrap().to_owned()).collect();
        }
    }

    #[test]
    fn a_conversation_that_grows_keeps_the_bytes_of_its_beginning((system, steps) in conversation()) {
        // Up to where the caller's last message ended: what comes after may join it.
        let whole = from_chat(&as_chat(system.as_deref(), &steps), true).to_string();
        let before = from_chat(&as_chat(system.as_deref(), &steps[..1]), true);
        let prefix = serde_json::to_string(&before["messages"][0]).unwrap();
        prop_assert!(whole.contains(prefix.trim_end_matches("]}")), "{whole} lacks {prefix}");
    }
}

#[test]
fn what_a_chat_conversation_lacks_is_mended_for_anthropic() {
    let body = json!({"model": "m", "messages": [
        {"role": "assistant", "content": "I begin"},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "a:1", "type": "function", "function": {"name": "f", "arguments": "not json"}},
            {"id": "b", "type": "function", "function": {"name": "g", "arguments": ""}}]},
        {"role": "user", "content": "meanwhile"},
        {"role": "tool", "tool_call_id": "a:1", "content": "late"},
        {"role": "tool", "tool_call_id": "nobody", "content": "lost"},
        {"role": "system", "content": "be quick"},
    ]});
    let body = from_chat(&body, true);
    let messages = body["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 3);
    assert_eq!(messages[0]["content"][0]["text"], ".");
    let calls = &messages[1]["content"];
    assert_eq!(calls[1]["input"], json!({"_raw": "not json"}));
    assert_eq!(calls[2]["input"], json!({}));
    let after = messages[2]["content"].as_array().unwrap();
    assert_eq!(
        after[0]["tool_use_id"], calls[1]["id"],
        "an illegal id is changed the same way in both places"
    );
    assert_eq!((&after[0]["content"], &after[1]["is_error"]), (&json!("late"), &json!(true)));
    let texts: Vec<&str> = after[2..].iter().map(|block| block["text"].as_str().unwrap()).collect();
    assert_eq!(
        texts,
        ["[result of tool nobody] lost", "meanwhile", "<system-reminder>\nbe quick\n</system-reminder>"]
    );
}
