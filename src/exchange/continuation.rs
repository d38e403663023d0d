//! The rest of an answer that broke after its first output, from another upstream: where the user wants that
//! (`after_output = "continue"`), and where what there is can be continued: text, and nothing beyond it.
//!
//! The next candidate is shown what there is as words of the assistant. Where a conversation may end with such
//! words it goes on from there (Anthropic API docs, "Prefill Claude's response"); where that is refused, and
//! everywhere else, a turn of the user asks for the rest.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Exchange;
use super::attempt::{Committed, Flowing, Terms};
use super::caller;
use super::life::Wish;
use super::relay::Relay;
use super::request::{CacheWish, Request};
use super::settle::Settlement;
use super::so_far::SoFar;
use crate::actors::directory::Published;
use crate::cells::{Lease, Setup};
use crate::config::AfterOutput;
use crate::dialect::json::Raw;
use crate::dialect::openai_chat::Rectify;
use crate::dialect::{Dialect, Fault, FaultKind, Phase, head};
use crate::routing::{Candidate, Plan};
use crate::runtime::clock;

/// What the user says where the assistant's words can't be the last.
const GO_ON: &str = "Your answer was cut off by a broken connection. The reader has what stands above, and will see \
    what you write now right behind it. Go on exactly where it stops: begin with the very next character (a space, \
    if one belongs there), repeat nothing of it, and do not mention the interruption.";

/// Who may continue an answer, should it break.
#[derive(Clone)]
pub struct Others {
    exchange: Exchange,
    request: Arc<Request>,
    plan: Arc<Plan>,
    published: Arc<Published>,
    /// Who answers now, and before it those whose answers broke, as places in the plan.
    asked: Vec<usize>,
    hops_left: u32,
    /// How long the rest may take to begin.
    limit: Duration,
    /// How long to wait for a place.
    max_wait: Duration,
}

/// How a candidate is asked for the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The conversation ends with what there is.
    Prefill,
    /// The user asks for the rest.
    Turn,
}

// === impl Others ===

impl Others {
    /// Those of the plan, if the user wants answers to be continued.
    pub fn of(
        exchange: &Exchange,
        request: &Arc<Request>,
        plan: &Plan,
        published: &Arc<Published>,
        served_by: &Candidate,
        hops_left: u32,
    ) -> Option<Others> {
        if plan.after_output != AfterOutput::Continue || !request.facts.head.stream {
            return None;
        }
        let loaded = exchange.directory.config_cell.get();
        Some(Others {
            exchange: exchange.clone(),
            request: Arc::clone(request),
            asked: vec![plan.candidates.iter().position(|one| one.target == served_by.target)?],
            plan: Arc::new(plan.clone()),
            published: Arc::clone(published),
            hops_left,
            limit: loaded.config.routing.deadline,
            max_wait: loaded.config.routing.max_wait,
        })
    }

    /// Whether another one may help after this fault, and may be asked.
    pub fn may_help(&self, fault: &Fault) -> bool {
        let is_over = matches!(
            fault.kind,
            FaultKind::Timeout(Phase::Total) | FaultKind::Caller | FaultKind::ContentPolicy
        );
        !is_over && self.hops_left > 0 && !self.exchange.directory.requests.ending().is_cancelled()
    }

    /// Has the rest written by the first who can: the others in their order, and at last those who broke off.
    /// Gives the relay of it, or the error that ends the answer.
    pub async fn go_on(
        mut self,
        mut settlement: Settlement,
        fault: Fault,
        so_far: SoFar,
    ) -> Result<Relay, Bytes> {
        let until = clock::now() + self.limit;
        let plan = Arc::clone(&self.plan);
        let from =
            self.asked.last().and_then(|at| plan.candidates.get(*at)).map(|one| one.target.to_string());
        let from = from.unwrap_or_default();
        let others = (0..plan.candidates.len()).filter(|at| !self.asked.contains(at));
        let mut ahead: VecDeque<usize> = others.chain(self.asked.iter().copied()).collect();
        while let Some(at) = ahead.pop_front() {
            let Some(candidate) = plan.candidates.get(at) else { continue };
            if self.hops_left == 0 || clock::now() >= until {
                break;
            }
            let free = |at: &usize| plan.candidates.get(*at).is_some_and(|one| one.why.blocked.is_none());
            let last_resort = !ahead.iter().any(free);
            self.hops_left -= 1;
            self.asked.retain(|asked| *asked != at);
            self.asked.push(at);
            for &way in ways(&self.request, candidate) {
                match self.ask(&mut settlement, candidate, way, last_resort, &so_far, until).await {
                    Ok((lease, flowing)) => {
                        let news = format!("{from}: {}; {} goes on", fault.kind.as_str(), candidate.target);
                        tracing::warn!(request = %self.request.id, "an answer broke: {news}");
                        return Ok(settlement.went_on(candidate, lease, flowing, self.clone(), &news));
                    }
                    // Whether a conversation may end with words of the assistant is known to the model alone.
                    Err(Some(FaultKind::Caller)) if way == Way::Prefill => {}
                    Err(_) => break,
                }
            }
        }
        settlement.broken(&fault);
        Err(so_far.fail(&self.request, &fault))
    }

    /// Asks one candidate for the rest, in one way. An error tells what kind of fault it met, if it came to that.
    async fn ask(
        &self,
        settlement: &mut Settlement,
        candidate: &Candidate,
        way: Way,
        last_resort: bool,
        so_far: &SoFar,
        until: Instant,
    ) -> Result<(Lease, Flowing), Option<FaultKind>> {
        let now = clock::now();
        if !self.exchange.directory.routes.spend_retry(now) {
            return Err(None);
        }
        let wish = Wish { tried: &[], last_resort, until: until.min(now + self.max_wait) };
        let lease = match self.exchange.admit(&self.request, candidate, &self.published, wish).await {
            Ok(lease) => lease,
            Err(refusal) => {
                settlement.passed_over(candidate, &refusal);
                return Err(None);
            }
        };
        let learned = self.exchange.directory.routes.learned(&candidate.target);
        let request = match asking(&self.request, candidate, lease.setup(), &learned, so_far, way) {
            Ok(request) => request,
            Err(fault) => return Err(Some(fault.kind)),
        };
        settlement.attempting(candidate, &lease);
        let terms = Terms { after_output: AfterOutput::Continue, hurry: false, so_far: Some(so_far) };
        let tried = self.exchange.attempt(&request, candidate, &self.plan, lease, until, terms).await;
        match tried.result {
            Ok(Committed::Stream(flowing)) => Ok((tried.lease, flowing)),
            Ok(Committed::Whole { .. }) => Err(None),
            Err(failed) => {
                let kind = failed.fault.kind;
                settlement.faulted(candidate, tried.lease, &failed.fault);
                Err(Some(kind))
            }
        }
    }
}

/// How a candidate is asked, the better way first. With reasoning Anthropic refuses every prefill.
fn ways(request: &Request, candidate: &Candidate) -> &'static [Way] {
    match candidate.dialect {
        Dialect::Anthropic if !request.facts.head.thinking => &[Way::Prefill, Way::Turn],
        _ => &[Way::Turn],
    }
}

/// The request for the rest, in the Messages dialect.
fn asking(
    request: &Request,
    candidate: &Candidate,
    setup: &Setup,
    learned: &[Rectify],
    so_far: &SoFar,
    way: Way,
) -> Result<Request, Fault> {
    let mut turns = vec![json!({ "role": "assistant", "content": so_far.text.trim_end() })];
    if way == Way::Turn {
        turns.push(json!({ "role": "user", "content": GO_ON }));
    }
    let body = caller::messages(request, candidate, setup, learned)?;
    let unreadable = || Fault::new(FaultKind::Protocol, "the conversation can't be continued");
    let body = with_turns(&body, &turns).ok_or_else(unreadable)?;
    let head = head::scan(&body).map_err(|_| unreadable())?;
    let headers = match request.dialect {
        Dialect::Anthropic => request.headers.clone(),
        _ => http::HeaderMap::new(),
    };
    Ok(Request {
        dialect: Dialect::Anthropic,
        body,
        facts: crate::routing::Facts { head, ..request.facts.clone() },
        headers,
        cache: CacheWish::Off,
        timeout: None,
        progress: None,
        ..request.clone()
    })
}

/// A Messages body with more turns at the end of its conversation, and every other byte as it was.
pub(super) fn with_turns(body: &Bytes, turns: &[Value]) -> Option<Bytes> {
    #[derive(Deserialize)]
    struct Conversation<'a> {
        #[serde(borrow)]
        messages: Raw<'a>,
    }
    let conversation: Conversation<'_> = serde_json::from_slice(body).ok()?;
    let list = conversation.messages.get();
    let inside = list.strip_prefix('[')?.strip_suffix(']')?;
    let end = (list.as_ptr() as usize).checked_sub(body.as_ptr() as usize)? + list.len() - 1;
    let mut joined = Vec::with_capacity(body.len() + 1024);
    joined.extend_from_slice(body.get(..end)?);
    for (n, turn) in turns.iter().enumerate() {
        if n > 0 || !inside.trim().is_empty() {
            joined.push(b',');
        }
        joined.extend_from_slice(turn.to_string().as_bytes());
    }
    joined.extend_from_slice(body.get(end..)?);
    Some(joined.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn turns_are_added_and_every_other_byte_stays() {
        let turns = [json!({ "role": "assistant", "content": "a \"b\"" })];
        let added = |body: &str| {
            let body = with_turns(&Bytes::from(body.to_owned()), &turns)?;
            Some(String::from_utf8(body.to_vec()).unwrap())
        };
        assert_eq!(
            added(r#"{ "x": 1.0e5, "messages": [ {"role":"user","content":"]"} ], "messages2": [] }"#).unwrap(),
            r#"{ "x": 1.0e5, "messages": [ {"role":"user","content":"]"} ,{"content":"a \"b\"","role":"assistant"}], "messages2": [] }"#
                .replace(r#"{"content":"a \"b\"","role":"assistant"}"#, &turns[0].to_string()),
        );
        assert_eq!(added(r#"{"messages":[]}"#).unwrap(), format!(r#"{{"messages":[{}]}}"#, turns[0]));
        for body in ["[]", "{}", r#"{"messages":"no list"}"#, "", "{\"messages\":[}"] {
            assert_eq!(added(body), None, "{body}");
        }
    }
}
