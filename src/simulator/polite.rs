//! The answer when no rule says otherwise: a small polite model that says what it is, calls the tools that
//! it is told to call (see [`super::program`]), and sums up what they returned.

use serde_json::{Value, json};

use super::ask::{Ask, Prompt};
use super::program::{self, Step};
use super::script::{Say, SayCall};

/// How much of a question or a result is repeated, in characters.
const ECHO: usize = 300;

/// What the polite model says.
pub(super) fn say(ask: &Ask) -> Vec<Say> {
    let prompt = ask.prompt();
    let mut said = Vec::new();
    if ask.thinking {
        said.push(Say::Thinking(thought(&prompt)));
    }
    if let Some(schema) = &ask.schema {
        said.push(Say::Text(example(schema, 0).to_string()));
        return said;
    }
    if ask.last_words().to_ascii_lowercase().contains("detailed summary of") {
        // A client that runs out of context has the session summed up, with its tools still on offer.
        said.push(Say::Text(format!("<summary>The user last asked: {}</summary>", shorten(&prompt.text))));
        return said;
    }
    let steps = program::steps(&prompt.text);
    match steps.get(prompt.done) {
        Some(step) => said.extend(perform(ask, step, &prompt)),
        None if ask.tools.is_empty() && is_housekeeping(ask) => {
            said.push(Say::Text("Simulated session".to_owned()));
        }
        None if !prompt.results.is_empty() || prompt.done > 0 => said.push(Say::Text(summary(&prompt))),
        None => said.push(Say::Text(greeting(&prompt))),
    }
    said
}

fn perform(ask: &Ask, step: &Step, prompt: &Prompt) -> Vec<Say> {
    let mut said = Vec::new();
    if !step.say.is_empty() {
        let words = step.say.join("\n");
        said.push(Say::Text(words.replace("{{result}}", &prompt.results.join("\n"))));
    }
    let mut missing = Vec::new();
    for call in &step.calls {
        match offered(ask, &call.name) {
            Some(name) => said.push(Say::Call(SayCall {
                name: name.to_owned(),
                arguments: call.arguments.clone(),
                ..SayCall::default()
            })),
            None => missing.push(call.name.as_str()),
        }
    }
    if !missing.is_empty() {
        let names = missing.join(", ");
        said.insert(0, Say::Text(format!("I was told to call {names}, but was not offered such a tool.")));
    }
    said
}

/// The tool by this name, as it is offered.
fn offered<'a>(ask: &'a Ask, name: &str) -> Option<&'a str> {
    let exact = ask.tools.iter().find(|tool| *tool == name);
    exact.or_else(|| ask.tools.iter().find(|tool| tool.eq_ignore_ascii_case(name))).map(String::as_str)
}

/// Clients ask on the side for titles and summaries of a session: those get few words.
fn is_housekeeping(ask: &Ask) -> bool {
    let system = ask.system.to_ascii_lowercase();
    ["title", "summar", "topic"].iter().any(|word| system.contains(word))
}

fn thought(prompt: &Prompt) -> String {
    if prompt.results.is_empty() {
        "I am a simulator: I look for lines that tell me what to do, and answer politely.".to_owned()
    } else {
        format!("{} came back; I go on with the next step.", count(prompt.results.len(), "result"))
    }
}

fn greeting(prompt: &Prompt) -> String {
    let asked = shorten(&prompt.text);
    let asked = if asked.is_empty() { String::new() } else { format!("You said: \"{asked}\"\n\n") };
    format!(
        "Hello! I am the simulator built into cproxy, not a real model. {asked}I answer where no provider \
         has a key. To reach a real model, set ANTHROPIC_API_KEY, OPENAI_API_KEY or OPENROUTER_API_KEY \
         where the daemon runs (or name a key in config.toml). To see me use a tool, write a line such as: \
         call NAME {{\"argument\": \"value\"}}"
    )
}

fn summary(prompt: &Prompt) -> String {
    let mut text = format!(
        "Done after {}; {} came back.",
        count(prompt.done, "turn with tools"),
        count(prompt.results.len(), "result")
    );
    for (at, result) in prompt.results.iter().enumerate() {
        let result = shorten(result);
        let result = if result.is_empty() { "(empty)" } else { &result };
        text.push_str(&format!("\n{}. {result}", at + 1));
    }
    text
}

fn count(n: usize, what: &str) -> String {
    match what.split_once(' ') {
        _ if n == 1 => format!("1 {what}"),
        Some((noun, rest)) => format!("{n} {noun}s {rest}"),
        None => format!("{n} {what}s"),
    }
}

fn shorten(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().nth(ECHO) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// A small value that matches a schema, as far as its types go.
fn example(schema: &Value, depth: usize) -> Value {
    if depth > 16 {
        return Value::Null;
    }
    if let Some(fixed) = schema.get("const") {
        return fixed.clone();
    }
    if let Some(first) = schema["enum"].get(0) {
        return first.clone();
    }
    if let Some(first) = schema["anyOf"].get(0).or_else(|| schema["oneOf"].get(0)) {
        return example(first, depth + 1);
    }
    let kind = schema["type"].as_str().or_else(|| schema["type"].get(0).and_then(Value::as_str));
    match kind.map(str::to_ascii_lowercase).as_deref() {
        Some("string") => json!("Simulated session"),
        Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or_else(|| json!(0)),
        Some("boolean") => json!(true),
        Some("null") => Value::Null,
        Some("array") => match schema["minItems"].as_u64() {
            Some(1..) => json!([example(&schema["items"], depth + 1)]),
            _ => json!([]),
        },
        _ => {
            let members = schema["properties"].as_object().into_iter().flatten();
            members.map(|(name, member)| (name.clone(), example(member, depth + 1))).collect()
        }
    }
}
