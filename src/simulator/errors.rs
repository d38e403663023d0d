//! Errors as the providers write them: status, headers, body; and as an event inside a stream.
//!
//! Sources: Anthropic API reference, "Errors"; OpenAI API reference, "Error codes"; OpenRouter docs, "Errors
//! and debugging"; Google AI docs, "Troubleshooting"; bodies that users quoted in public issues.

use serde_json::{Value, json};

use super::script::{Fail, FailKind};
use super::write::{Event, Kind};
use crate::dialect::Dialect;

/// An error, ready to be sent.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub status: u16,
    pub retry_after: Option<u64>,
    pub body: String,
}

/// What a strict API refuses, and how it says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Refusal {
    pub kind: Option<FailKind>,
    pub message: String,
    /// OpenAI names the parameter,
    pub param: Option<String>,
    /// and a code.
    pub code: Option<&'static str>,
}

/// Whose shape an error has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Voice<'a> {
    pub dialect: Dialect,
    pub openrouter: bool,
    /// The model that was asked for.
    pub model: &'a str,
    /// Where the request's id comes from.
    pub fingerprint: u64,
}

// === impl Refusal ===

impl Refusal {
    pub fn new(message: impl Into<String>) -> Refusal {
        Refusal { message: message.into(), ..Refusal::default() }
    }

    pub fn with(message: impl Into<String>, param: impl Into<String>, code: Option<&'static str>) -> Refusal {
        Refusal { kind: None, message: message.into(), param: Some(param.into()), code }
    }
}

// === impl Voice ===

impl Voice<'_> {
    /// The scripted error.
    pub fn fail(&self, fail: &Fail) -> Failure {
        let kind = fail.kind.unwrap_or_else(|| kind_of(fail.status.unwrap_or(500)));
        let status = fail.status.unwrap_or_else(|| self.status(kind));
        let retry_after = fail.retry_after.or((status == 429).then_some(1));
        let body = match &fail.body {
            Some(body) => body.clone(),
            None => self.body(status, kind, fail.message.as_deref(), None, None).to_string(),
        };
        Failure { status, retry_after, body }
    }

    /// What a strict API says to a wrong request.
    pub fn refuse(&self, refusal: &Refusal) -> Failure {
        let kind = refusal.kind.unwrap_or(FailKind::BadRequest);
        let status = self.status(kind);
        let body = self
            .body(status, kind, Some(&refusal.message), refusal.param.as_deref(), refusal.code)
            .to_string();
        Failure { status, retry_after: None, body }
    }

    /// The error as an event inside a stream.
    pub fn event(&self, fail: &Fail) -> Event {
        let failure = self.fail(fail);
        let text = match self.dialect {
            Dialect::Anthropic => format!("event: error\ndata: {}\n\n", failure.body),
            Dialect::OpenAiResponses => {
                let body: Value = serde_json::from_str(&failure.body).unwrap_or_default();
                let error = &body["error"];
                let data = json!({"type": "error", "code": error["code"], "message": error["message"],
                    "param": error["param"]});
                format!("event: error\ndata: {data}\n\n")
            }
            Dialect::OpenAiChat if self.openrouter && fail.body.is_none() => {
                let mut data: Value = serde_json::from_str(&failure.body).unwrap_or_default();
                data["object"] = json!("chat.completion.chunk");
                data["model"] = json!(self.model);
                data["choices"] = json!([{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]);
                format!("data: {data}\n\n")
            }
            _ => format!("data: {}\n\n", failure.body),
        };
        Event { text, kind: Kind::Frame }
    }

    /// The id of the request, as headers and Anthropic's bodies name it.
    pub fn request_id(&self) -> String {
        format!("req_sim{:016x}", self.fingerprint)
    }

    fn status(&self, kind: FailKind) -> u16 {
        match kind {
            FailKind::RateLimited => 429,
            FailKind::Overloaded if self.dialect == Dialect::Anthropic => 529,
            FailKind::Overloaded => 503,
            FailKind::ServerError => 500,
            FailKind::Auth => 401,
            FailKind::Permission => 403,
            FailKind::Billing if self.dialect == Dialect::Anthropic || self.openrouter => 402,
            FailKind::Billing => 429,
            FailKind::ModelNotFound if self.openrouter => 400,
            FailKind::ModelNotFound => 404,
            FailKind::ContentPolicy if self.openrouter => 403,
            FailKind::ContextLength
            | FailKind::OutputLength
            | FailKind::ContentPolicy
            | FailKind::BadRequest => 400,
            FailKind::TooLarge => 413,
            FailKind::Timeout => 504,
        }
    }

    fn body(
        &self,
        status: u16,
        kind: FailKind,
        message: Option<&str>,
        param: Option<&str>,
        code: Option<&str>,
    ) -> Value {
        let message = message.map_or_else(|| self.message(kind), String::from);
        match self.dialect {
            Dialect::Anthropic => json!({
                "type": "error",
                "error": {"type": anthropic_type(kind), "message": message},
                "request_id": self.request_id(),
            }),
            Dialect::OpenAiChat if self.openrouter => {
                json!({"error": {"message": message, "code": status, "metadata": {"provider_name": null}}})
            }
            Dialect::OpenAiChat | Dialect::OpenAiResponses => {
                let (type_, natural_code) = openai_type(kind);
                let code = code.or(natural_code);
                json!({"error": {"message": message, "type": type_, "param": param, "code": code}})
            }
            Dialect::Gemini => {
                json!({"error": {"code": status, "message": message, "status": google_status(kind)}})
            }
        }
    }

    fn message(&self, kind: FailKind) -> String {
        let model = self.model;
        let anthropic = self.dialect == Dialect::Anthropic;
        match kind {
            FailKind::RateLimited if anthropic => {
                "This request would exceed the rate limit for your organization of 20,000 input tokens per \
                 minute. Please reduce the prompt length or the maximum tokens requested, or try again later."
                    .to_owned()
            }
            FailKind::RateLimited if self.openrouter => "Provider returned error".to_owned(),
            FailKind::RateLimited if self.dialect == Dialect::Gemini => {
                "You exceeded your current quota, please check your plan and billing details.".to_owned()
            }
            FailKind::RateLimited => format!(
                "Rate limit reached for {model} on requests per min (RPM): Limit 3, Used 3, Requested 1. Please \
                 try again in 1s."
            ),
            FailKind::Overloaded if anthropic => "Overloaded".to_owned(),
            FailKind::Overloaded => "The engine is currently overloaded, please try again later.".to_owned(),
            FailKind::ServerError if anthropic => "Internal server error".to_owned(),
            FailKind::ServerError => {
                "The server had an error while processing your request. Sorry about that!".to_owned()
            }
            FailKind::Auth if anthropic => "invalid x-api-key".to_owned(),
            FailKind::Auth if self.openrouter => "User not found.".to_owned(),
            FailKind::Auth => "Incorrect API key provided.".to_owned(),
            FailKind::Permission if anthropic => {
                "Your API key does not have permission to use the specified resource.".to_owned()
            }
            FailKind::Permission => "You are not allowed to sample from this model.".to_owned(),
            FailKind::Billing if anthropic => {
                "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to \
                 upgrade or purchase credits."
                    .to_owned()
            }
            FailKind::Billing if self.openrouter => {
                "This request requires more credits, or fewer max_tokens. You requested up to 32000 tokens, \
                 but can only afford 27342."
                    .to_owned()
            }
            FailKind::Billing => {
                "You exceeded your current quota, please check your plan and billing details.".to_owned()
            }
            FailKind::ModelNotFound if anthropic => format!("model: {model}"),
            FailKind::ModelNotFound if self.openrouter => format!("{model} is not a valid model ID"),
            FailKind::ModelNotFound if self.dialect == Dialect::Gemini => {
                format!("models/{model} is not found for API version v1beta.")
            }
            FailKind::ModelNotFound => {
                format!("The model `{model}` does not exist or you do not have access to it.")
            }
            FailKind::ContextLength if anthropic => {
                "prompt is too long: 213462 tokens > 200000 maximum".to_owned()
            }
            FailKind::ContextLength => {
                "This model's maximum context length is 128000 tokens. However, your messages resulted in \
                 213462 tokens. Please reduce the length of the messages."
                    .to_owned()
            }
            FailKind::OutputLength if anthropic => {
                "input length and `max_tokens` exceed context limit: 196778 + 21333 > 200000, decrease input \
                 length or `max_tokens` and try again"
                    .to_owned()
            }
            FailKind::OutputLength => {
                "This model's maximum context length is 128000 tokens. However, you requested 132000 tokens \
                 (100000 in the messages, 32000 in the completion). Please reduce the length of the messages \
                 or completion."
                    .to_owned()
            }
            FailKind::ContentPolicy if anthropic => "Output blocked by content filtering policy".to_owned(),
            FailKind::ContentPolicy => {
                "Your request was rejected as a result of our safety system.".to_owned()
            }
            FailKind::BadRequest => "invalid request".to_owned(),
            FailKind::TooLarge => "Request exceeds the maximum size".to_owned(),
            FailKind::Timeout => "The request timed out.".to_owned(),
        }
    }
}

fn kind_of(status: u16) -> FailKind {
    match status {
        401 => FailKind::Auth,
        402 => FailKind::Billing,
        403 => FailKind::Permission,
        404 => FailKind::ModelNotFound,
        413 => FailKind::TooLarge,
        429 => FailKind::RateLimited,
        503 | 529 => FailKind::Overloaded,
        408 | 504 => FailKind::Timeout,
        400..500 => FailKind::BadRequest,
        _ => FailKind::ServerError,
    }
}

fn anthropic_type(kind: FailKind) -> &'static str {
    match kind {
        FailKind::RateLimited => "rate_limit_error",
        FailKind::Overloaded => "overloaded_error",
        FailKind::ServerError => "api_error",
        FailKind::Auth => "authentication_error",
        FailKind::Permission => "permission_error",
        FailKind::Billing => "billing_error",
        FailKind::ModelNotFound => "not_found_error",
        FailKind::TooLarge => "request_too_large",
        FailKind::Timeout => "timeout_error",
        FailKind::ContextLength | FailKind::OutputLength | FailKind::ContentPolicy | FailKind::BadRequest => {
            "invalid_request_error"
        }
    }
}

fn openai_type(kind: FailKind) -> (&'static str, Option<&'static str>) {
    match kind {
        FailKind::RateLimited => ("requests", Some("rate_limit_exceeded")),
        FailKind::Overloaded | FailKind::ServerError | FailKind::Timeout => ("server_error", None),
        FailKind::Auth => ("invalid_request_error", Some("invalid_api_key")),
        FailKind::Permission => ("invalid_request_error", Some("model_not_available")),
        FailKind::Billing => ("insufficient_quota", Some("insufficient_quota")),
        FailKind::ModelNotFound => ("invalid_request_error", Some("model_not_found")),
        FailKind::ContextLength | FailKind::OutputLength => {
            ("invalid_request_error", Some("context_length_exceeded"))
        }
        FailKind::ContentPolicy => ("invalid_request_error", Some("content_policy_violation")),
        FailKind::BadRequest | FailKind::TooLarge => ("invalid_request_error", None),
    }
}

fn google_status(kind: FailKind) -> &'static str {
    match kind {
        FailKind::RateLimited | FailKind::Billing => "RESOURCE_EXHAUSTED",
        FailKind::Overloaded => "UNAVAILABLE",
        FailKind::ServerError => "INTERNAL",
        FailKind::Auth => "UNAUTHENTICATED",
        FailKind::Permission => "PERMISSION_DENIED",
        FailKind::ModelNotFound => "NOT_FOUND",
        FailKind::Timeout => "DEADLINE_EXCEEDED",
        _ => "INVALID_ARGUMENT",
    }
}
