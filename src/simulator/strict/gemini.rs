//! Gemini generateContent. Sources: Gemini API reference, "Generating content"; Google AI docs, "Thought
//! signatures" and "Function calling".

use serde_json::Value;

use crate::simulator::ask::list;
use crate::simulator::errors::Refusal;
use crate::simulator::reply::SIGNATURE;

type Check = Result<(), Refusal>;

/// The value that Google documents for calls that come from elsewhere.
const FROM_ELSEWHERE: &str = "skip_thought_signature_validator";

/// Keywords that `parameters` does not know (`parametersJsonSchema` does).
const UNKNOWN_KEYWORDS: [&str; 6] =
    ["$schema", "$ref", "$defs", "additionalProperties", "propertyNames", "const"];

pub(super) fn check(body: &Value) -> Check {
    let contents = list(body, "contents");
    if contents.is_empty() {
        return refuse("* GenerateContentRequest.contents: contents is not specified\n");
    }
    for field in ["messages", "model", "stream", "max_tokens", "system"] {
        if body.get(field).is_some_and(|value| !(field == "model" && value.is_string())) {
            return unknown(field, "");
        }
    }
    for (at, tool) in list(body, "tools").iter().enumerate() {
        for (place, function) in list(tool, "functionDeclarations").iter().enumerate() {
            keywords(
                &function["parameters"],
                &format!("tools[{at}].function_declarations[{place}].parameters"),
            )?;
        }
    }
    let mut calls = 0;
    for content in contents {
        let role = content["role"].as_str().unwrap_or("user");
        let parts = list(content, "parts");
        if !matches!(role, "user" | "model") {
            return refuse("Please use a valid role: user, model.");
        }
        if parts.is_empty() {
            return refuse("* GenerateContentRequest.contents.parts: contents.parts must not be empty.\n");
        }
        let results = parts.iter().filter(|part| part["functionResponse"].is_object()).count();
        if results != calls {
            return refuse(
                "Please ensure that the number of function response parts is equal to the number of function \
                 call parts of the function call turn.",
            );
        }
        calls = parts.iter().filter(|part| part["functionCall"].is_object()).count();
        // Only the first call of a turn carries a signature.
        let first = parts.iter().find(|part| part["functionCall"].is_object());
        if let Some(part) = first.filter(|_| role == "model") {
            signature(part)?;
        }
    }
    Ok(())
}

fn signature(part: &Value) -> Check {
    match part["thoughtSignature"].as_str() {
        None => refuse("Function call is missing a thought_signature in functionCall parts."),
        Some(signature) if signature.starts_with(SIGNATURE) || signature == FROM_ELSEWHERE => Ok(()),
        Some(_) => refuse("Corrupted thought signature."),
    }
}

fn keywords(schema: &Value, place: &str) -> Check {
    match schema {
        Value::Object(members) => {
            if let Some(keyword) = UNKNOWN_KEYWORDS.iter().find(|keyword| members.contains_key(**keyword)) {
                return unknown(keyword, place);
            }
            for (name, member) in members {
                if name == "properties" {
                    // Their names are the tool's own.
                    for property in member.as_object().into_iter().flat_map(|members| members.values()) {
                        keywords(property, place)?;
                    }
                } else if name == "items" || name == "anyOf" {
                    keywords(member, place)?;
                }
            }
            Ok(())
        }
        Value::Array(items) => items.iter().try_for_each(|item| keywords(item, place)),
        _ => Ok(()),
    }
}

fn unknown(name: &str, place: &str) -> Check {
    let at = if place.is_empty() { String::new() } else { format!(" at '{place}'") };
    refuse(format!("Invalid JSON payload received. Unknown name \"{name}\"{at}: Cannot find field."))
}

fn refuse(message: impl Into<String>) -> Check {
    Err(Refusal::new(message))
}
