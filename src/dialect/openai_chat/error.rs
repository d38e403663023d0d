//! Errors of servers that speak Chat Completions (and Responses), in all the envelopes that exist, read into the
//! one taxonomy.
//!
//! Overflows get Anthropic's wording, since callers compact or lower their limit when they find it. Sources: the
//! error pages of the vendors' API references; Anthropic's API reference, "Errors".

use std::borrow::Cow;

use bytes::Bytes;
use http::HeaderMap;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::dialect::retry_after::retry_after;
use crate::dialect::table::Variant;
use crate::dialect::{Fault, FaultKind, overflow};

/// Most characters of an upstream's message that we repeat.
const MAX_MESSAGE: usize = 2000;

/// What an error body says.
#[derive(Debug, Default)]
pub(super) struct Envelope {
    pub(super) message: String,
    pub(super) code: String,
    pub(super) kind: String,
    pub(super) param: String,
    pub(super) status: Option<u16>,
    pub(super) has_reasons: bool,
    /// The figures of an overflow.
    pub(super) figures: overflow::Fields,
}

/// Reads an error answer. The body stays in the fault as it came.
pub fn read(status: u16, headers: &HeaderMap, body: &[u8], variant: &Variant) -> Fault {
    let envelope = Envelope::read(body);
    let mut fault = classify(Some(status), &envelope, variant);
    fault.retry_after = retry_after(headers, &String::from_utf8_lossy(body), 0);
    fault.body = Some(Bytes::copy_from_slice(body));
    fault
}

/// Reads an error that came in an answer of status 200.
pub(crate) fn in_body(body: &[u8], variant: &Variant) -> Fault {
    let envelope = Envelope::read(body);
    let mut fault = classify(envelope.status, &envelope, variant);
    fault.retry_after = retry_after(&HeaderMap::new(), &String::from_utf8_lossy(body), 0);
    fault.body = Some(Bytes::copy_from_slice(body));
    fault
}

/// The call that Groq's `tool_use_failed` refused: its name and arguments.
pub(super) fn failed_generation(body: &str) -> Option<(String, Box<RawValue>)> {
    #[derive(Deserialize)]
    struct Outer<'a> {
        #[serde(borrow)]
        error: Inner<'a>,
    }
    #[derive(Deserialize)]
    struct Inner<'a> {
        #[serde(borrow)]
        code: Cow<'a, str>,
        #[serde(borrow)]
        failed_generation: Cow<'a, str>,
    }
    #[derive(Deserialize)]
    struct Generation {
        name: String,
        arguments: Box<RawValue>,
    }
    let outer: Outer<'_> = serde_json::from_str(body).ok()?;
    if outer.error.code != "tool_use_failed" {
        return None;
    }
    let generation: Generation = serde_json::from_str(&outer.error.failed_generation).ok()?;
    (!generation.name.is_empty()).then_some((generation.name, generation.arguments))
}

fn classify(status: Option<u16>, envelope: &Envelope, variant: &Variant) -> Fault {
    let text = envelope.message.to_ascii_lowercase();
    let has = |needle: &str| text.contains(needle);
    let code = envelope.code.as_str();
    let status_or_zero = status.unwrap_or(0);
    if is_overflow(status_or_zero, envelope) {
        let message = overflow::wording(&envelope.message, envelope.figures);
        return Fault { status, ..Fault::new(FaultKind::ContextLength, message) };
    }
    let kind = if status_or_zero == 402
        || matches!(code, "insufficient_quota" | "billing_hard_limit_reached" | "insufficient_balance")
        || envelope.kind == "insufficient_quota"
        || has("insufficient balance")
    {
        FaultKind::Billing
    } else if is_lasting(&text) {
        // These come with a 500, but no retry can mend them.
        FaultKind::Caller
    } else if code == "tool_use_failed" {
        // The model's own mistake; the same request may well work.
        FaultKind::Protocol
    } else if matches!(
        code,
        "content_filter" | "content_policy_violation" | "content_policy" | "data_inspection_failed"
    ) || envelope.has_reasons
        || has("responsibleaipolicyviolation")
        || has("content management policy")
    {
        FaultKind::ContentPolicy
    } else if is_unknown_model(status_or_zero, code, &envelope.kind, &text) {
        FaultKind::ModelNotFound
    } else if status_or_zero == 401
        || code == "invalid_api_key"
        || (matches!(status_or_zero, 400 | 403) && (has("api key") || has("api_key")) && !has("parameter"))
    {
        FaultKind::Auth
    } else if matches!(status_or_zero, 503 | 529 | 520..=524)
        || code == "overloaded"
        || envelope.kind == "overloaded_error"
        || has("currently overloaded")
        || has("engine is overloaded")
    {
        FaultKind::Overloaded
    } else {
        match status_or_zero {
            403 => FaultKind::Permission,
            404 => FaultKind::ModelNotFound,
            429 => FaultKind::RateLimited,
            408 | 409 | 425 => FaultKind::ServerError,
            400..=499 => FaultKind::Caller,
            // Without a status, what the body calls itself.
            0 if code == "rate_limit_exceeded" || envelope.kind == "rate_limit_error" => {
                FaultKind::RateLimited
            }
            0 if envelope.kind == "authentication_error" => FaultKind::Auth,
            0 if matches!(envelope.kind.as_str(), "invalid_request_error" | "BadRequestError") => {
                FaultKind::Caller
            }
            _ => FaultKind::ServerError,
        }
    };
    let message = if envelope.message.is_empty() {
        match status {
            Some(status) => format!("{} answered {status} without a message", variant.name),
            None => format!("{} sent an error without a message", variant.name),
        }
    } else {
        envelope.message.clone()
    };
    Fault { status, ..Fault::new(kind, message) }
}

/// Whether the input is too long for the model.
fn is_overflow(status: u16, envelope: &Envelope) -> bool {
    let text = envelope.message.to_ascii_lowercase();
    // Groq: a request that alone is larger than a minute's tokens.
    let is_large = status == 413 && (text.contains("token") || text.contains("context"));
    is_large
        || [&envelope.code, &envelope.kind, &envelope.message]
            .into_iter()
            .any(|text| overflow::is_overflow(text))
}

/// Errors that some servers send as 500 although the request itself can't work there.
fn is_lasting(text: &str) -> bool {
    [
        "requires --jinja",
        "image input is not supported",
        "jinja exception",
        "cannot use both json_schema and grammar",
        "system message must be at the beginning",
        "cannot make get request",
    ]
    .iter()
    .any(|sign| text.contains(sign))
}

fn is_unknown_model(status: u16, code: &str, kind: &str, text: &str) -> bool {
    matches!(code, "model_not_found" | "unknown_model")
        || matches!(kind, "invalid_model" | "not_found_error")
        || (matches!(status, 0 | 400 | 403 | 404 | 422)
            && [
                "model not found",
                "invalid model",
                "is not a valid model",
                "model identifier is invalid",
                "unknown model",
            ]
            .iter()
            .any(|sign| text.contains(sign)))
        || (matches!(status, 400 | 404) && text.contains("model") && text.contains("does not exist"))
}

// === impl Envelope ===

impl Envelope {
    /// Reads any of the envelopes; what is no JSON is the message itself, unless it is a page of HTML.
    pub(super) fn read(body: &[u8]) -> Envelope {
        let Ok(json) = serde_json::from_slice::<Value>(body) else {
            return Envelope { message: plain(body), ..Envelope::default() };
        };
        let top = match &json {
            Value::Array(list) => list.first().unwrap_or(&Value::Null),
            other => other,
        };
        let inner = match top.get("error").or_else(|| top.pointer("/response/error")) {
            Some(inner @ Value::Object(_)) => inner,
            _ => top,
        };
        let either = |key: &str| inner.get(key).filter(|value| !value.is_null()).or_else(|| top.get(key));
        let word = |key: &str| match either(key) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ => String::new(),
        };
        let detail = top.get("detail").map(|detail| match detail {
            Value::Array(list) => list.first().and_then(|first| first.get("msg")).unwrap_or(&Value::Null),
            other => other,
        });
        let mut message =
            [inner.get("message"), top.get("error"), top.get("message"), detail, top.as_str().map(|_| top)]
                .into_iter()
                .flatten()
                .find_map(Value::as_str)
                .unwrap_or_default()
                .to_owned();
        let metadata = inner.get("metadata");
        if let Some(raw) = metadata.and_then(|metadata| metadata.get("raw")).and_then(Value::as_str)
            && (message.is_empty() || message == "Provider returned error")
        {
            let nested = Envelope::nested(raw);
            message = if message.is_empty() { nested } else { format!("{message}: {nested}") };
        }
        let number = |key: &str| either(key).and_then(Value::as_u64);
        let numeric = ["code", "status", "status_code", "raw_status_code"].iter().find_map(|key| number(key));
        Envelope {
            message: shown(&message),
            code: word("code"),
            kind: word("type"),
            param: word("param"),
            status: numeric
                .and_then(|code| u16::try_from(code).ok())
                .filter(|code| (400..600).contains(code)),
            has_reasons: metadata.is_some_and(|metadata| metadata.get("reasons").is_some()),
            figures: overflow::Fields { prompt: number("n_prompt_tokens"), window: number("n_ctx") },
        }
    }

    /// The message in a provider's own error, which OpenRouter hands on as text.
    fn nested(raw: &str) -> String {
        if raw.trim_start().starts_with(['{', '[']) {
            let nested = Envelope::read(raw.as_bytes());
            if !nested.message.is_empty() {
                return nested.message;
            }
        }
        raw.to_owned()
    }
}

fn plain(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body.get(..body.len().min(4 * MAX_MESSAGE)).unwrap_or_default());
    let text = text.trim();
    if !text.starts_with('<') {
        return shown(text);
    }
    // A page of a proxy: its title says what there is to say.
    let lower = text.to_ascii_lowercase();
    let title = lower.find("<title>").and_then(|start| {
        let end = lower.get(start..)?.find("</title>")?;
        text.get(start + "<title>".len()..start + end)
    });
    shown(title.map_or("an HTML page in place of an answer", str::trim))
}

/// A message as we repeat it: not too long, and without keys.
fn shown(message: &str) -> String {
    let mut out = String::with_capacity(message.len().min(MAX_MESSAGE));
    for (nth, word) in message.split(' ').enumerate() {
        if out.len() + word.len() > MAX_MESSAGE {
            out.push('…');
            break;
        }
        if nth > 0 {
            out.push(' ');
        }
        let bare = word.trim_start_matches(['"', '\'', '`', '(']);
        let is_key =
            ["sk-", "gsk_", "xai-", "AIza"].iter().any(|prefix| bare.starts_with(prefix)) && bare.len() > 16;
        out.push_str(if is_key { "[key]" } else { word });
    }
    out
}

#[cfg(test)]
mod tests;
