//! What a tool gives back: structured content that is complete by itself, and text beside it.
//!
//! Clients that understand structured content show the model nothing else, so the answer's text is in it.

use std::sync::Arc;

use rmcp::model::{CallToolResult, ContentBlock, Resource};
use serde::Serialize;
use serde_json::Value;

use crate::dialect::Usage;

use super::Shared;
use super::collect::Failure;
use super::guard::Ended;

/// Characters of an answer that are shown; the rest is read from a resource. Clients cut results at about
/// 25,000 tokens.
pub(crate) const SHOWN: usize = 60_000;

/// The result of one question.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Outcome {
    pub text: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<Value>,
    /// The model that was asked for, where several were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Tokens>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Where the rest of a long text is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Trouble>,
}

/// Tokens, as the tool names them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Tokens {
    pub input_tokens: u64,
    pub output_tokens: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub cache_read_tokens: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub cache_creation_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thinking_tokens: Option<u64>,
}

/// What went wrong: what happened, and what to do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Trouble {
    #[serde(rename = "type")]
    pub kind: String,
    pub message: String,
    pub advice: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u64>,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

// === impl Tokens ===

impl From<&Usage> for Tokens {
    fn from(usage: &Usage) -> Tokens {
        Tokens {
            input_tokens: usage.input,
            output_tokens: usage.output,
            cache_read_tokens: usage.cache_read,
            cache_creation_tokens: usage.cache_creation,
            thinking_tokens: usage.thinking,
        }
    }
}

// === impl Trouble ===

impl Trouble {
    /// The caller's arguments can't be used.
    pub fn arguments(message: impl Into<String>) -> Trouble {
        Trouble::new("invalid_arguments", message, "Mend the arguments and call again.")
    }

    pub fn new(kind: &str, message: impl Into<String>, advice: &str) -> Trouble {
        Trouble {
            kind: kind.to_owned(),
            message: message.into(),
            advice: advice.to_owned(),
            status: None,
            retry_after_s: None,
        }
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Error ({}", self.kind)?;
        if let Some(status) = self.status {
            write!(f, ", status {status}")?;
        }
        write!(f, "): {}\n{}", self.message, self.advice)?;
        if let Some(seconds) = self.retry_after_s {
            write!(f, " The provider asks to wait {seconds} s.")?;
        }
        Ok(())
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Trouble {
        let advice = match failure.kind.as_str() {
            "not_found_error" => "Choose a name from the resource cproxy://models.",
            "authentication_error" | "permission_error" => {
                "The provider refused its key. Ask the user to check it, or choose another provider."
            }
            "billing_error" => "The provider wants credit. Choose another provider, or ask the user.",
            "rate_limit_error" | "overloaded_error" | "timeout_error" => {
                "Wait a little and call again, or choose another model. cproxy://health shows who is well."
            }
            "request_too_large" => "Send less, or choose a model with a larger context window.",
            "invalid_request_error" => "Mend the request as the message says and call again.",
            _ => "Call again, or choose another model. cproxy://health shows who is well.",
        };
        Trouble {
            kind: failure.kind,
            message: failure.message,
            advice: advice.to_owned(),
            status: failure.status,
            retry_after_s: failure.retry_after_s,
        }
    }
}

impl From<Ended> for Trouble {
    fn from(ended: Ended) -> Trouble {
        let (kind, advice) = match &ended {
            Ended::Cancelled => {
                ("cancelled", "Nothing more is done for this call; call again if it is still wanted.")
            }
            Ended::TimedOut(_) => {
                ("timeout", "Call again with a larger `timeout`, or choose a quicker model.")
            }
            Ended::Panicked => {
                ("internal_error", "Call again; if it repeats, tell the user to look at the log.")
            }
        };
        Trouble::new(kind, ended.to_string(), advice)
    }
}

// === impl Outcome ===

impl From<Trouble> for Outcome {
    fn from(trouble: Trouble) -> Outcome {
        Outcome { error: Some(trouble), ..Outcome::default() }
    }
}

impl Outcome {
    /// Cuts a text that is too long to show, and keeps the whole of it where `rest` says.
    pub async fn shorten(&mut self, shared: &Shared, most: usize) {
        let Some(at) = cut(&self.text, most) else { return };
        let id = shared.daemon.next_request_id().0.replacen("req_", "ans_", 1);
        let whole: Arc<str> = Arc::from(self.text.as_str());
        self.text.truncate(at);
        self.text.push_str("\n[…]");
        self.rest = Some(format!("cproxy://answers/{id}?from={at}"));
        shared.sessions.keep_answer(id, whole).await;
    }

    /// As the result of a tool call.
    pub fn into_result(self) -> CallToolResult {
        let failed = self.error.is_some();
        let mut content = Vec::new();
        if let Some(trouble) = &self.error {
            // Of an error Claude Code shows the model this text, and no structured content.
            content.push(ContentBlock::text(trouble.to_string()));
        }
        if !self.text.is_empty() {
            content.push(ContentBlock::text(self.text.clone()));
        }
        if !self.tool_calls.is_empty() {
            content.push(ContentBlock::text(Value::Array(self.tool_calls.clone()).to_string()));
        }
        if let Some(rest) = &self.rest {
            content.push(ContentBlock::resource_link(
                Resource::new(rest.clone(), "rest of the answer").with_mime_type("application/json"),
            ));
        }
        result(&self, content, failed)
    }
}

/// A result with structured content, which must be an object, and text beside it.
pub(crate) fn result(
    structured: &impl Serialize,
    mut content: Vec<ContentBlock>,
    failed: bool,
) -> CallToolResult {
    let structured = serde_json::to_value(structured).unwrap_or_else(|error| {
        tracing::error!(%error, "a tool's result is not JSON");
        serde_json::json!({ "text": "" })
    });
    if content.is_empty() {
        content.push(ContentBlock::text(structured.to_string()));
    }
    let mut result = if failed { CallToolResult::error(content) } else { CallToolResult::success(content) };
    result.structured_content = Some(structured);
    result
}

/// Where to cut a text of more than `most` characters: after a paragraph, a line, a sentence or a word, whichever
/// lies in the last fifth.
pub(crate) fn cut(text: &str, most: usize) -> Option<usize> {
    let (limit, _) = text.char_indices().nth(most)?;
    let head = text.get(..limit)?;
    let early = limit - limit / 5;
    ["\n\n", "\n", ". ", " "]
        .iter()
        .find_map(|end| head.rfind(end).map(|at| at + end.len()).filter(|at| *at >= early))
        .or(Some(limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_where_it_reads_well() {
        assert_eq!(cut("short", 10), None);
        let text = format!("{}\n\n{}", "a".repeat(90), "b".repeat(90));
        assert_eq!(cut(&text, 100), Some(92));
        assert_eq!(cut(&"ü".repeat(90), 50), Some(100));
    }
}
