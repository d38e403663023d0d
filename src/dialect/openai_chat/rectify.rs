//! What a refusal teaches: the one change with which a second try may pass.
//!
//! The caller tries once more with the change, and remembers it for the upstream and model. Nothing is tried
//! again after bytes were sent.

use super::error::Envelope;
use super::request::Translated;
use crate::dialect::table::MaxField;
use crate::dialect::{Fault, FaultKind, overflow};

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rectify {
    /// Call the limit on output by this name.
    UseMaxField(MaxField),
    /// Leave a parameter out.
    DropParam(Param),
    /// Ask for this much output at most.
    MaxTokens(u64),
    /// Reason at this level at most.
    EffortAtMost(Effort),
    /// Cut tools' descriptions, and put the whole ones into the system prompt.
    CutDescriptions,
    /// Leave images out.
    DropImages,
    /// Leave images out that are given by their address.
    DropImageUrls,
    /// Give the model its reasoning back as `reasoning_content` with each message that calls tools, and a blank where
    /// it is lost.
    ReplayReasoning,
    /// Leave PDFs out.
    DropDocuments,
    /// Leave `strict` out.
    NotStrict,
    /// Write tools' schemas with the few keywords that all servers know.
    StripSchemas,
    /// Make system messages within the conversation text of the user.
    SystemAsUserText,
}

/// A parameter that can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Param {
    /// `temperature`.
    Temperature,
    /// `top_p`.
    TopP,
    /// `top_k`.
    TopK,
    /// `stop`.
    Stop,
    /// `parallel_tool_calls`.
    ParallelToolCalls,
    /// `reasoning_effort`, `reasoning`, `thinking`, `chat_template_kwargs`.
    Reasoning,
    /// `stream_options`.
    StreamOptions,
    /// `tool_choice`.
    ToolChoice,
    /// `response_format`.
    ResponseFormat,
    /// `user`, `safety_identifier`.
    User,
    /// `prompt_cache_key`.
    CacheKey,
    /// `phase` of the assistant's messages in Responses.
    Phase,
}

/// A level of reasoning, from the lowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effort {
    /// `low`.
    Low,
    /// `medium`.
    Medium,
    /// `high`.
    High,
    /// `xhigh`.
    XHigh,
    /// `max`.
    Max,
}

/// Parameters by the names that refusals call them. The longer ones come first.
const PARAMS: &[(&str, Param)] = &[
    ("parallel_tool_calls", Param::ParallelToolCalls),
    ("prompt_cache_key", Param::CacheKey),
    ("safety_identifier", Param::User),
    ("reasoning_effort", Param::Reasoning),
    ("chat_template_kwargs", Param::Reasoning),
    ("response_format", Param::ResponseFormat),
    ("stream_options", Param::StreamOptions),
    ("tool_choice", Param::ToolChoice),
    ("temperature", Param::Temperature),
    ("top_p", Param::TopP),
    ("top_k", Param::TopK),
    ("thinking", Param::Reasoning),
    ("reasoning", Param::Reasoning),
    ("phase", Param::Phase),
    ("stop", Param::Stop),
    ("user", Param::User),
];

/// The words with which servers refuse a parameter.
const REFUSALS: &[&str] = &[
    "unsupported",
    "not support",
    "unrecognized",
    "unknown",
    "not permitted",
    "not allowed",
    "unexpected",
    "extra inputs",
    "not available",
    "invalid parameter",
    "incompatible",
    "is allowed for this model",
];

impl Rectify {
    /// The name of the change, for logs and headers.
    pub fn as_str(&self) -> &'static str {
        match self {
            Rectify::UseMaxField(_) => "max-tokens-field",
            Rectify::MaxTokens(_) => "max-tokens",
            Rectify::DropParam(_) => "parameter-dropped",
            Rectify::CutDescriptions => "tool-descriptions",
            Rectify::DropImages => "images",
            Rectify::DropImageUrls => "image-urls",
            Rectify::ReplayReasoning => "reasoning-replay",
            Rectify::DropDocuments => "documents",
            Rectify::SystemAsUserText => "system-position",
            Rectify::NotStrict => "strict-schema",
            Rectify::StripSchemas => "tool-schemas",
            Rectify::EffortAtMost(_) => "effort",
        }
    }
}

/// The change that a fault asks for; `None` if a second try is pointless or the change was made already.
pub fn rectify(fault: &Fault, translated: &Translated, known: &[Rectify]) -> Option<Rectify> {
    let change = match fault.kind {
        FaultKind::Caller | FaultKind::Protocol | FaultKind::Permission => of_refusal(fault, translated)?,
        FaultKind::ContextLength => {
            let room = overflow::room(&fault.message)?;
            smaller(room, translated)?
        }
        FaultKind::Billing => {
            // OpenRouter says how much the credit is good for.
            let (_, rest) = fault.message.split_once("can only afford ")?;
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            smaller(rest.get(..digits)?.parse().ok()?, translated)?
        }
        _ => return None,
    };
    (!known.contains(&change)).then_some(change)
}

/// The change that a refusal by Anthropic asks for, where the request was composed by us: tools without `strict`, which
/// takes fewer schemas than OpenAI's.
pub fn rectify_composed(fault: &Fault, known: &[Rectify]) -> Option<Rectify> {
    let text = fault.message.to_ascii_lowercase();
    let signs = ["strict", "schema is too complex", "grammar", "must be explicitly set to false"];
    let is_it = fault.kind == FaultKind::Caller && signs.iter().any(|sign| text.contains(sign));
    (is_it && !known.contains(&Rectify::NotStrict)).then_some(Rectify::NotStrict)
}

/// A smaller limit on output, if it leaves room for an answer.
fn smaller(most: u64, translated: &Translated) -> Option<Rectify> {
    const LEAST: u64 = 256;
    (most >= LEAST && translated.max_tokens.is_none_or(|asked| most < asked))
        .then_some(Rectify::MaxTokens(most))
}

fn of_refusal(fault: &Fault, translated: &Translated) -> Option<Rectify> {
    let envelope = fault.body.as_ref().map(|body| Envelope::read(body)).unwrap_or_default();
    let text = fault.message.to_ascii_lowercase();
    let has = |needle: &str| text.contains(needle);
    if has("max_completion_tokens") && has("instead") && envelope.param != "max_completion_tokens" {
        return Some(Rectify::UseMaxField(MaxField::MaxCompletionTokens));
    }
    if has("max_completion_tokens") && is_refused(&text) {
        return Some(Rectify::UseMaxField(MaxField::MaxTokens));
    }
    if has("max_tokens") || has("max_completion_tokens") {
        // "max_tokens is too large: 64000. This model supports at most 16384 completion tokens"
        let most = ["at most ", "less than or equal to ", "maximum value for `max_tokens` is ", "<= "]
            .iter()
            .find_map(|sign| text.split_once(sign))
            .map(|(_, rest)| rest.trim_start_matches('`'))
            .and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
        if let Some(most) = most {
            return smaller(most, translated);
        }
    }
    let param = envelope.param.as_str();
    if envelope.code == "string_above_max_length" || has("string_above_max_length") || has("string too long")
    {
        let of_tool = param.contains("description") || has("description");
        return of_tool.then_some(Rectify::CutDescriptions);
    }
    // DeepSeek and its kin, while they think.
    if has("reasoning_content") && (has("passed back") || has("missing") || has("required")) {
        return Some(Rectify::ReplayReasoning);
    }
    if has("cannot make get request") || has("failed to download image") {
        return Some(Rectify::DropImageUrls);
    }
    if has("image_url")
        || has("image input")
        || has("does not support image")
        || has("images are not supported")
    {
        return Some(Rectify::DropImages);
    }
    if is_refused(&text) && (has("`file`") || has("pdf")) {
        return Some(Rectify::DropDocuments);
    }
    if has("system message must be at the beginning") || (has("system") && has("role") && has("first")) {
        return Some(Rectify::SystemAsUserText);
    }
    if has("effort") && (has("supported levels") || has("supported values")) {
        return Some(effort_at_most(&text));
    }
    if (param.ends_with("strict") || has("'strict'") || has("strict")) && (is_refused(&text) || has("schema"))
    {
        return Some(Rectify::NotStrict);
    }
    let keyword = [
        "additionalproperties",
        "propertynames",
        "exclusiveminimum",
        "$ref",
        "$defs",
        "anyof",
        "oneof",
        "const",
    ]
    .iter()
    .any(|keyword| has(keyword));
    if has("invalid schema")
        || (keyword && (has("schema") || has("function_declarations") || is_refused(&text)))
    {
        return Some(Rectify::StripSchemas);
    }
    if !is_refused(&text) && envelope.code != "unsupported_parameter" && envelope.code != "unsupported_value"
    {
        return None;
    }
    let named = |name: &str| {
        param == name || has(&format!("'{name}'")) || has(&format!("`{name}`")) || has(&format!("\"{name}\""))
    };
    let by_quotes = PARAMS.iter().find(|(name, _)| named(name));
    // Short names are words too; they count in quotes only.
    let by_words = || PARAMS.iter().find(|(name, _)| name.len() > 4 && *name != "thinking" && has(name));
    by_quotes.or_else(by_words).map(|(_, param)| Rectify::DropParam(*param))
}

fn is_refused(text: &str) -> bool {
    REFUSALS.iter().any(|sign| text.contains(sign))
}

/// The highest level in a list of those that are supported.
fn effort_at_most(text: &str) -> Rectify {
    let list = text.rsplit_once("supported ").map_or(text, |(_, list)| list);
    let levels = list.split(|c: char| !c.is_ascii_alphanumeric()).filter_map(Effort::read);
    match levels.max() {
        Some(level) => Rectify::EffortAtMost(level),
        None => Rectify::DropParam(Param::Reasoning),
    }
}

// === impl Effort ===

impl Effort {
    /// Reads a level by its name. Levels below `low` count as `low`.
    pub fn read(name: &str) -> Option<Effort> {
        Some(match name {
            "minimal" | "low" => Effort::Low,
            "medium" => Effort::Medium,
            "high" => Effort::High,
            "xhigh" => Effort::XHigh,
            "max" => Effort::Max,
            _ => return None,
        })
    }

    /// The level that a budget of reasoning tokens stands for.
    pub fn of_budget(tokens: u64) -> Effort {
        match tokens {
            0..=2048 => Effort::Low,
            2049..=8192 => Effort::Medium,
            8193..=24576 => Effort::High,
            _ => Effort::XHigh,
        }
    }

    /// The level's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Effort::Low => "low",
            Effort::Medium => "medium",
            Effort::High => "high",
            Effort::XHigh => "xhigh",
            Effort::Max => "max",
        }
    }
}

#[cfg(test)]
mod tests;
