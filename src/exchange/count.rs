//! Token counts, and the plan of a request without running it.

use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::Exchange;
use super::answer::{Answer, AnswerBody};
use super::request::Request;
use crate::routing::{Candidate, Facts, Plan};
use crate::runtime::clock;

impl Exchange {
    /// Counts the tokens of a request, as an estimate.
    pub async fn count_tokens(&self, request: Request) -> Answer {
        let tokens = request.facts.head.estimated_tokens.max(1);
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert("x-cproxy-count", HeaderValue::from_static("estimate"));
        if let Ok(id) = HeaderValue::from_str(&request.id.0) {
            headers.insert("request-id", id);
        }
        let body = format!("{{\"input_tokens\":{tokens}}}").into();
        Answer { status: StatusCode::OK, headers, body: AnswerBody::Whole(body), served: None }
    }

    /// The plan of a request in words: whom it would be sent to, in order and why; whom not, and why not.
    pub fn explain(&self, request: &Request) -> Value {
        let published = self.directory.published.load_full();
        let plan = self.plan(request, &published, true);
        let now = clock::now();
        in_words(&plan, &request.facts, |candidate| {
            let entry = published.entries.get(candidate.row);
            entry.map_or(0, |entry| entry.vital(&candidate.target.model, now).open)
        })
    }
}

/// A plan for people; `open` tells how many requests a candidate has open.
pub fn in_words(plan: &Plan, facts: &Facts, open: impl Fn(&Candidate) -> u32) -> Value {
    let candidates = plan.candidates.iter().map(|candidate| {
        json!({
            "target": candidate.target.to_string(),
            "dialect": candidate.dialect.as_str(),
            "why": candidate.why.to_string(),
            "open_requests": open(candidate),
        })
    });
    let skipped = plan
        .skipped
        .iter()
        .map(|skipped| json!({ "target": skipped.target.to_string(), "why_not": skipped.why.to_string() }));
    json!({
        "model": facts.head.model,
        "estimated_tokens": facts.head.estimated_tokens,
        "rule": plan.rule,
        "effort": plan.effort,
        "refused": plan.refused,
        "candidates": candidates.collect::<Vec<_>>(),
        "skipped": skipped.collect::<Vec<_>>(),
    })
}
