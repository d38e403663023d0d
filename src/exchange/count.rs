//! Token counts, and the plan of a request without running it.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use super::Exchange;
use super::answer::{Answer, AnswerBody};
use super::outgoing::counting;
use super::request::Request;
use crate::actors::directory::Published;
use crate::routing::{Candidate, Facts, Plan};
use crate::runtime::clock;

/// How long a provider may take to count.
const COUNT_LIMIT: Duration = Duration::from_secs(5);

/// Most bytes of a count.
const MAX_COUNT: usize = 64 << 10;

/// A count, as both Anthropic and OpenAI give it.
#[derive(serde::Deserialize)]
struct Counted {
    input_tokens: u64,
}

impl Exchange {
    /// Counts the tokens of a request: by the provider that would get it, if that is one that counts and answers
    /// soon; else as an estimate of what that provider's model would count. Counting needs no admission and uses up
    /// no limit.
    pub async fn count_tokens(&self, request: Request) -> Answer {
        let published = self.directory.published.load_full();
        let plan = self.plan(&request, &published, true);
        let first = plan.candidates.first();
        let counted = async {
            let candidate = first.filter(|candidate| candidate.why.blocked.is_none())?;
            self.counted(&request, &plan, candidate, &published).await
        };
        let counted = tokio::time::timeout(COUNT_LIMIT, counted).await.ok().flatten();
        let head = &request.facts.head;
        let model = first.map_or(&*head.model, |candidate| &*candidate.target.model);
        let (body, how) = match counted {
            Some(body) => (body, "upstream"),
            None => (in_tokens(head.tokens_for(model).max(1)), "estimate"),
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert("x-cproxy-count", HeaderValue::from_static(how));
        if let Ok(id) = HeaderValue::from_str(&request.id.0) {
            headers.insert("request-id", id);
        }
        Answer { status: StatusCode::OK, headers, body: AnswerBody::Whole(body), served: None }
    }

    /// What the provider that would get the request says, in Anthropic's words; `None` if it can't, or does not.
    async fn counted(
        &self,
        request: &Request,
        plan: &Plan,
        candidate: &Candidate,
        published: &Published,
    ) -> Option<Bytes> {
        let cell = &published.entries.get(candidate.row)?.cell;
        let (setup, key) = (cell.setup(), cell.any_key(clock::now()));
        let message = counting(request, candidate, plan, &setup, key.as_ref())?;
        let response = setup.upstream.send(message).await.ok()?;
        if !response.status().is_success() {
            return None;
        }
        let body = response.into_body().map_err(|fault| fault.message);
        let body = http_body_util::Limited::new(body, MAX_COUNT).collect().await.ok()?;
        let body = body.to_bytes();
        let counted: Counted = serde_json::from_slice(&body).ok()?;
        // Of the caller's own dialect nothing is left out.
        let is_callers = candidate.dialect == request.dialect;
        Some(if is_callers { body } else { in_tokens(counted.input_tokens) })
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

/// A count in Anthropic's words.
fn in_tokens(tokens: u64) -> Bytes {
    format!("{{\"input_tokens\":{tokens}}}").into()
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
