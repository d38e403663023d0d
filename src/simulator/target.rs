//! Which path stands for what. Prefixes are free, so that one simulator can play several providers, told
//! apart by a rule's `path`: `/a/v1/messages`, `/b/v1/messages`.

use http::Method;

use crate::dialect::Dialect;

/// What a path stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// An answer of a model; Gemini names the model, and whether it streams, in the path.
    Answer { dialect: Dialect, model: Option<String>, stream: bool },
    /// A count of tokens.
    Count(Dialect),
    /// The list of models.
    Models,
    /// Gemini's list of models.
    GeminiModels,
    /// A probe.
    Alive,
    /// Nothing.
    Nothing,
}

/// What a request is for.
pub(super) fn target(method: &Method, path: &str) -> Target {
    if method == Method::HEAD || path.ends_with("/api/hello") || path == "/health" {
        return Target::Alive;
    }
    if method == Method::GET {
        return match path {
            _ if path.ends_with("/v1beta/models") => Target::GeminiModels,
            _ if path.ends_with("/models") => Target::Models,
            _ => Target::Nothing,
        };
    }
    if method != Method::POST {
        return Target::Nothing;
    }
    let answer = |dialect| Target::Answer { dialect, model: None, stream: false };
    let endings = [
        ("/messages", answer(Dialect::Anthropic)),
        ("/messages/count_tokens", Target::Count(Dialect::Anthropic)),
        ("/chat/completions", answer(Dialect::OpenAiChat)),
        ("/responses", answer(Dialect::OpenAiResponses)),
        ("/responses/input_tokens", Target::Count(Dialect::OpenAiResponses)),
    ];
    let known = endings.into_iter().find(|(ending, _)| path.ends_with(ending));
    known.map_or_else(|| gemini(path), |(_, target)| target)
}

/// Whether a path is one of OpenRouter's, which writes Chat Completions in its own way.
pub(super) fn is_openrouter(path: &str) -> bool {
    path.contains("/api/v1/")
}

/// `…/models/MODEL:generateContent`
fn gemini(path: &str) -> Target {
    let tail = path.rsplit_once("/models/").map(|(_, tail)| tail);
    let Some((model, verb)) = tail.and_then(|tail| tail.rsplit_once(':')) else {
        return Target::Nothing;
    };
    match verb {
        "countTokens" => Target::Count(Dialect::Gemini),
        "generateContent" | "streamGenerateContent" => Target::Answer {
            dialect: Dialect::Gemini,
            model: Some(model.to_owned()),
            stream: verb == "streamGenerateContent",
        },
        _ => Target::Nothing,
    }
}
