//! Prompts, which clients offer as slash commands.
//!
//! Source: Model Context Protocol specification, "Prompts".

use rmcp::ErrorData;
use rmcp::model::{GetPromptResult, JsonObject, Prompt, PromptArgument, PromptMessage, Role};
use serde_json::Value;

/// The prompts.
pub(crate) fn list() -> Vec<Prompt> {
    let argument = |name: &str, about: &str, required| {
        PromptArgument::new(name).with_description(about).with_required(required)
    };
    vec![
        Prompt::new(
            "second_opinion",
            Some("Ask another model what it thinks"),
            Some(vec![
                argument("question", "What to ask; by default, the matter at hand", false),
                argument("model", "Which model", false),
            ]),
        ),
        Prompt::new(
            "consensus",
            Some("Ask several models and weigh their answers"),
            Some(vec![
                argument("question", "What to ask; by default, the matter at hand", false),
                argument("models", "Models, separated by commas", false),
            ]),
        ),
        Prompt::new(
            "status",
            Some("How the proxy and its providers are"),
            Some(vec![argument("provider", "Only this one", false)]),
        ),
    ]
}

/// A prompt with its arguments filled in.
pub(crate) fn get(name: &str, arguments: Option<JsonObject>) -> Result<GetPromptResult, ErrorData> {
    let argument = |name: &str| {
        let value = arguments.as_ref()?.get(name).and_then(Value::as_str)?.trim();
        (!value.is_empty()).then(|| value.to_owned())
    };
    let question =
        argument("question").map(|question| format!("this question:\n\n{question}\n\n")).unwrap_or_else(
            || "the matter we are working on; put all that is needed to judge it into the question. ".into(),
        );
    let text = match name {
        "second_opinion" => {
            let model = argument("model")
                .map(|model| format!("with model \"{model}\""))
                .unwrap_or_else(|| "with a strong model of another vendor from the resource cproxy://models".into());
            format!(
                "Call the tool proxy_completion {model} and ask it {question}\
                 Then say where it agrees with you, where not, and who is right in your judgement."
            )
        }
        "consensus" => {
            let models = argument("models")
                .map(|models| format!("with the models {models}"))
                .unwrap_or_else(|| "with three strong models of different vendors from cproxy://models".into());
            format!(
                "Call the tool proxy_compare {models} and ask them {question}\
                 Then say on what they agree, on what not, and what follows in your judgement. \
                 Name those that failed."
            )
        }
        "status" => match argument("provider") {
            Some(provider) => format!(
                "Read the resource cproxy://providers/{provider} of the proxy and tell me in a few lines how it is: \
                 its state, its limits, what is not well, and what to do about it."
            ),
            None => "Read the resource cproxy://health (and cproxy://status if something is not well) of the \
                     proxy and tell me in a few lines how it is: the providers, what is not well, and what to \
                     do about it."
                .to_owned(),
        },
        other => {
            let other: String = other.chars().take(60).collect();
            return Err(ErrorData::invalid_params(
                format!("there is no prompt \"{other}\"; there are second_opinion, consensus and status"),
                None,
            ));
        }
    };
    Ok(GetPromptResult::new(vec![PromptMessage::new_text(Role::User, text)]))
}

/// What may stand for an argument, given what was typed and the names that there are. `models` is a list: its last
/// entry is completed.
pub(crate) fn complete(argument: &str, typed: &str, names: &[String]) -> Vec<String> {
    let (before, last) = match argument {
        "model" | "provider" => ("", typed),
        "models" => match typed.rfind(',') {
            Some(comma) => typed.split_at(comma + 1),
            None => ("", typed),
        },
        _ => return Vec::new(),
    };
    let wanted = last.trim().to_lowercase();
    let found = |name: &&String| name.to_lowercase().contains(&wanted);
    names.iter().filter(found).map(|name| format!("{before}{name}")).collect()
}
