//! Prompts, which clients offer as slash commands.
//!
//! Source: Model Context Protocol specification, "Prompts".

use rmcp::ErrorData;
use rmcp::model::{GetPromptResult, JsonObject, Prompt, PromptArgument, PromptMessage, Role};
use serde_json::Value;
use wildmatch::WildMatch;

use super::ModelInfo;

/// The prompts. A client that has only words, such as Claude Code, fills the arguments in by their order, one word
/// each, and drops the rest: so the names come first, which are one word, and the question last.
pub(crate) fn list() -> Vec<Prompt> {
    let argument =
        |name: &str, about: &str| PromptArgument::new(name).with_description(about).with_required(false);
    let question = || argument("question", "What to ask; by default, the matter at hand");
    vec![
        Prompt::new(
            "second_opinion",
            Some("Ask another model what it thinks"),
            Some(vec![argument("model", "Which model"), question()]),
        ),
        Prompt::new(
            "consensus",
            Some("Ask several models and weigh their answers"),
            Some(vec![argument("models", "Models, separated by commas"), question()]),
        ),
        Prompt::new(
            "status",
            Some("How the proxy and its providers are"),
            Some(vec![argument("provider", "Only this one")]),
        ),
    ]
}

/// A prompt with its arguments filled in. `models` are those that there are.
pub(crate) fn get(
    name: &str,
    arguments: Option<JsonObject>,
    models: &[ModelInfo],
) -> Result<GetPromptResult, ErrorData> {
    let argument = |name: &str| {
        let value = arguments.as_ref()?.get(name).and_then(Value::as_str)?.trim();
        (!value.is_empty()).then(|| value.to_owned())
    };
    let text = match name {
        "second_opinion" => {
            let (model, question) = told_apart(argument("model"), argument("question"), models);
            let whom = match model {
                Some(model) => format!("with model \"{model}\""),
                None => "with a strong model of another vendor from the resource cproxy://models".to_owned(),
            };
            format!(
                "Call the tool proxy_completion {whom} and ask it {}\
                 Then say where it agrees with you, where not, and who is right in your judgement.",
                asked(question)
            )
        }
        "consensus" => {
            let (models, question) = told_apart(argument("models"), argument("question"), models);
            let whom = match models {
                Some(models) => format!("with the models {models}"),
                None => "with three strong models of different vendors from cproxy://models".to_owned(),
            };
            format!(
                "Call the tool proxy_compare {whom} and ask them {}\
                 Then say on what they agree, on what not, and what follows in your judgement. \
                 Name those that failed.",
                asked(question)
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

/// The question in a prompt.
fn asked(question: Option<String>) -> String {
    match question {
        Some(question) => format!(
            "this question:\n\n{question}\n\n(If the words after the slash command are shown beside this, they hold \
             the question in full; it may have been cut here.)\n\n"
        ),
        None => "about the matter we are working on; put all that is needed to judge it into the question. "
            .to_owned(),
    }
}

/// Models and question; where no model of that name is there, its place holds the first word of the question.
fn told_apart(
    named: Option<String>,
    question: Option<String>,
    models: &[ModelInfo],
) -> (Option<String>, Option<String>) {
    match named {
        Some(named) if !named.split(',').any(|name| is_known(name.trim(), models)) => {
            let question = question.map_or_else(|| named.clone(), |rest| format!("{named} {rest}"));
            (None, Some(question))
        }
        named => (named, question),
    }
}

/// Whether a word is the name of a model: a listed one, one that fits a pattern, or `provider/model`.
fn is_known(name: &str, models: &[ModelInfo]) -> bool {
    models.iter().any(|model| {
        model.id == name
            || name.strip_prefix(&*model.provider).is_some_and(|rest| rest.starts_with('/'))
            // All fits a pattern without a letter, which says nothing about a word.
            || model.id.contains(char::is_alphanumeric) && WildMatch::new(&model.id).matches(name)
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(model: &str, question: &str) -> (Option<String>, Option<String>) {
        let model_info =
            |id: &str| ModelInfo { id: id.into(), provider: "router".into(), via: String::new() };
        let models = [model_info("echo"), model_info("gpt-*"), model_info("*")];
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        told_apart(text(model), text(question), &models)
    }

    #[test]
    fn a_word_that_is_no_model_belongs_to_the_question() {
        let (some, none) = (|text: &str| Some(text.to_owned()), None::<String>);
        assert_eq!(parts("echo", "why?"), (some("echo"), some("why?")));
        assert_eq!(parts("gpt-9", ""), (some("gpt-9"), none.clone()));
        assert_eq!(parts("router/any", "why?"), (some("router/any"), some("why?")));
        assert_eq!(parts("echo,nobody", "why?"), (some("echo,nobody"), some("why?")));
        assert_eq!(parts("why", "is"), (none.clone(), some("why is")));
        assert_eq!(parts("why", ""), (none.clone(), some("why")));
        assert_eq!(parts("", ""), (none.clone(), none));
    }
}
