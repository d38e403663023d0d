//! One request: read it, let the script decide, answer.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Limited};
use serde_json::{Value, json};
use tokio::time::Instant;
use wildmatch::WildMatch;

use super::ask::{self, Ask};
use super::cache::Prefixes;
use super::draft::{Body, Draft};
use super::errors::{Refusal, Voice};
use super::journal::{Ended, Journal, Recorded};
use super::reply::{fnv, make};
use super::script::{Answer, FailKind, Rule, Script, Trouble, When};
use super::steps::Broken;
use super::target::{Target, is_openrouter, target};
use super::{polite, strict, write};
use crate::dialect::Dialect;

/// Larger bodies are refused, as Anthropic does.
const MAX_BODY: usize = 32 << 20;

/// What all requests share.
#[derive(Debug)]
pub(super) struct Shared {
    pub script: ArcSwap<Loaded>,
    pub journal: Arc<Journal>,
    prefixes: Mutex<Prefixes>,
}

/// A script, with how often each of its rules has matched.
#[derive(Debug)]
pub(super) struct Loaded {
    script: Script,
    matches: Vec<AtomicU64>,
}

/// A request, read.
struct Received {
    parts: http::request::Parts,
    body: Bytes,
    json: Value,
    target: Target,
    ask: Ask,
    fingerprint: u64,
}

// === impl Loaded ===

impl Loaded {
    pub fn new(script: Script) -> Loaded {
        let matches = script.rules.iter().map(|_| AtomicU64::new(0)).collect();
        Loaded { script, matches }
    }

    /// The first rule that takes this request, with its name.
    fn rule(&self, received: &Received) -> Option<(String, &Rule)> {
        for (at, (rule, matches)) in self.script.rules.iter().zip(&self.matches).enumerate() {
            if !takes(&rule.when, received) {
                continue;
            }
            let count = matches.fetch_add(1, Ordering::Relaxed) + 1;
            let in_time = rule.times.is_none_or(|times| count <= times);
            let in_turn = rule.when.nth.is_none_or(|nth| count == nth);
            if in_time && in_turn {
                let name = rule.name.clone().unwrap_or_else(|| format!("#{}", at + 1));
                return Some((name, rule));
            }
        }
        None
    }
}

// === impl Shared ===

impl Shared {
    pub fn new(script: Script) -> Arc<Shared> {
        Arc::new(Shared {
            script: ArcSwap::from_pointee(Loaded::new(script)),
            journal: Journal::new(),
            prefixes: Mutex::default(),
        })
    }

    /// Answers a request; an error closes the connection without an answer. `reset` marks the connection to
    /// be reset when it closes.
    pub async fn serve<B>(
        self: Arc<Shared>,
        request: Request<B>,
        reset: Arc<AtomicBool>,
    ) -> Result<Response<Body>, Broken>
    where
        B: http_body::Body<Error: std::error::Error + Send + Sync + 'static>,
    {
        let (parts, body) = request.into_parts();
        let (body, too_large) = match Limited::new(body, MAX_BODY).collect().await {
            Ok(collected) => (collected.to_bytes(), false),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => (Bytes::new(), true),
            Err(_) => return Err(Broken),
        };
        let received = Received::read(parts, body);
        let loaded = self.script.load_full();
        let ruled = if too_large { None } else { loaded.rule(&received) };
        let tracker = self.journal.record(received.recorded(ruled.as_ref().map(|(name, _)| name.clone())));
        let blank = Answer::default();
        let answer = ruled.map_or(&blank, |(_, rule)| &rule.answer);

        if matches!(answer.fault, Some(Trouble::Silence)) {
            std::future::pending::<()>().await;
        }
        if !answer.pace.headers.is_zero() {
            tokio::time::sleep(answer.pace.headers).await;
        }
        if matches!(answer.fault, Some(Trouble::Refuse)) {
            let mut tracker = tracker;
            tracker.broken();
            reset.store(true, Ordering::Release);
            return Err(Broken);
        }
        let refused = match too_large {
            true => Some(Refusal {
                kind: Some(FailKind::TooLarge),
                ..Refusal::new("Request exceeds the maximum size")
            }),
            false => received.refused(&loaded.script),
        };
        let draft = match refused {
            Some(refusal) if answer.fail.is_none() => Draft::failure(received.voice().refuse(&refusal)),
            _ => self.draft(&received, &loaded.script, answer),
        };
        let bodiless = received.parts.method == Method::HEAD;
        Ok(draft.send(received.voice(), bodiless, answer, tracker, reset))
    }

    /// The answer, before faults and pace.
    fn draft(&self, received: &Received, script: &Script, answer: &Answer) -> Draft {
        let voice = received.voice();
        if let Some(fail) = &answer.fail {
            return Draft::failure(voice.fail(fail));
        }
        if let Some(Trouble::ErrorBody(fail)) = &answer.fault {
            return Draft { status: 200, retry_after: None, ..Draft::failure(voice.fail(fail)) };
        }
        match &received.target {
            Target::Answer { dialect, .. } => {
                let ask = &received.ask;
                let hit = {
                    let mut prefixes = self.prefixes.lock().unwrap_or_else(PoisonError::into_inner);
                    prefixes.see(*dialect, &ask.model, &received.json, received.body.len())
                };
                let polite = if answer.parts.is_some() { Vec::new() } else { polite::say(ask) };
                let reply = make(ask, answer, polite, received.fingerprint, hit);
                if ask.stream {
                    Draft::stream(write::events(ask, &reply, answer.chunks.tokens))
                } else {
                    Draft::json(200, &write::whole(ask, &reply))
                }
            }
            Target::Count(dialect) => {
                let count = (received.body.len() as u64).div_ceil(4);
                Draft::json(
                    200,
                    &match dialect {
                        Dialect::OpenAiResponses => {
                            json!({"object": "response.input_tokens", "input_tokens": count})
                        }
                        Dialect::Gemini => json!({"totalTokens": count}),
                        _ => json!({"input_tokens": count}),
                    },
                )
            }
            Target::Models => Draft::json(200, &models(script, &received.parts)),
            Target::GeminiModels => {
                let names = script.models.iter().map(|id| json!({"name": format!("models/{id}")}));
                Draft::json(200, &json!({"models": names.collect::<Vec<_>>()}))
            }
            Target::Alive => Draft { status: 200, retry_after: None, stream: false, events: Vec::new() },
            Target::Nothing => {
                let message = format!("no such path here: {}", received.parts.uri.path());
                let refusal = Refusal { kind: Some(FailKind::ModelNotFound), ..Refusal::new(message) };
                Draft { status: 404, ..Draft::failure(voice.refuse(&refusal)) }
            }
        }
    }
}

// === impl Received ===

impl Received {
    fn read(parts: http::request::Parts, body: Bytes) -> Received {
        let path = parts.uri.path();
        let target = target(&parts.method, path);
        let openrouter = is_openrouter(path);
        let json: Value = serde_json::from_slice(&body).unwrap_or_default();
        let (dialect, model) = match &target {
            Target::Answer { dialect, model, .. } => (*dialect, model.as_deref()),
            Target::Count(dialect) => (*dialect, None),
            _ if parts.headers.contains_key("anthropic-version") => (Dialect::Anthropic, None),
            _ => (Dialect::OpenAiChat, None),
        };
        let mut ask = ask::read(dialect, openrouter, &json, model);
        if let Target::Answer { dialect: Dialect::Gemini, stream, .. } = &target {
            ask.stream = *stream;
        }
        let fingerprint = fnv(&body);
        Received { parts, body, json, target, ask, fingerprint }
    }

    fn recorded(&self, rule: Option<String>) -> Recorded {
        let dialect = match &self.target {
            Target::Answer { dialect, .. } | Target::Count(dialect) => Some(*dialect),
            _ => None,
        };
        Recorded {
            number: 0,
            method: self.parts.method.clone(),
            path: self.parts.uri.path().to_owned(),
            query: self.parts.uri.query().map(String::from),
            headers: self.parts.headers.clone(),
            body: self.body.clone(),
            dialect,
            model: self.ask.model.clone(),
            rule,
            at: Instant::now(),
            status: None,
            events: 0,
            outputs: 0,
            ended: Ended::Open,
        }
    }

    fn voice(&self) -> Voice<'_> {
        let Ask { dialect, openrouter, model, .. } = &self.ask;
        Voice { dialect: *dialect, openrouter: *openrouter, model, fingerprint: self.fingerprint }
    }

    /// What the real API would refuse, if anything.
    fn refused(&self, script: &Script) -> Option<Refusal> {
        if matches!(self.target, Target::Alive) {
            return None;
        }
        if let Some(key) = &script.require_key
            && !credentials(&self.parts.headers).any(|sent| sent == key)
        {
            let missing = credentials(&self.parts.headers).next().is_none();
            let message = match self.ask.dialect {
                Dialect::Anthropic if missing => "x-api-key header is required",
                Dialect::Anthropic => "invalid x-api-key",
                _ if missing => "You didn't provide an API key.",
                _ => "Incorrect API key provided.",
            };
            return Some(Refusal {
                kind: Some(FailKind::Auth),
                code: Some("invalid_api_key"),
                ..Refusal::new(message)
            });
        }
        let (dialect, counting) = match self.target {
            Target::Answer { dialect, .. } => (dialect, false),
            Target::Count(dialect) => (dialect, true),
            _ => return None,
        };
        if !self.json.is_object() {
            return Some(Refusal::new("The request body is not valid JSON."));
        }
        if !script.strict {
            return None;
        }
        strict::check(dialect, self.ask.openrouter, &self.parts.headers, &self.json, counting).err()
    }
}

/// The credentials of a request: `x-api-key`, a bearer token, Google's header.
pub(super) fn credentials(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = bearer.and_then(|value| value.strip_prefix("Bearer "));
    let named = ["x-api-key", "x-goog-api-key"];
    let named = named.into_iter().filter_map(|name| headers.get(name).and_then(|value| value.to_str().ok()));
    named.chain(bearer)
}

fn takes(when: &When, received: &Received) -> bool {
    let ask = &received.ask;
    let path_fits = match &when.path {
        Some(glob) => fits(glob, received.parts.uri.path()),
        None => matches!(received.target, Target::Answer { .. }),
    };
    let header_fits = |(name, glob): (&String, &String)| {
        let value = received.parts.headers.get(name).and_then(|value| value.to_str().ok());
        value.is_some_and(|value| fits(glob, value))
    };
    path_fits
        && when.dialect.is_none_or(|dialect| dialect == ask.dialect)
        && when.model.as_ref().is_none_or(|glob| fits(glob, &ask.model))
        && when.stream.is_none_or(|stream| stream == ask.stream)
        && when.tools.is_none_or(|tools| tools != ask.tools.is_empty())
        && when.tool_result.is_none_or(|wanted| wanted == ask.has_results())
        && when.thinking.is_none_or(|thinking| thinking == ask.thinking)
        && when.prefill.is_none_or(|prefill| prefill == ask.is_prefill())
        && when.system.as_ref().is_none_or(|text| ask.system.contains(text.as_str()))
        && when.text.as_ref().is_none_or(|text| ask.prompt().text.contains(text.as_str()))
        && when.headers.iter().all(header_fits)
}

fn fits(glob: &str, text: &str) -> bool {
    WildMatch::new(glob).matches(text)
}

fn models(script: &Script, parts: &http::request::Parts) -> Value {
    let anthropic =
        parts.headers.contains_key("anthropic-version") || parts.headers.contains_key("x-api-key");
    if !anthropic {
        let data: Vec<Value> = script
            .models
            .iter()
            .map(|id| json!({"id": id, "object": "model", "created": 1_767_225_600, "owned_by": "simulator"}))
            .collect();
        return json!({"object": "list", "data": data});
    }
    let data: Vec<Value> = script
        .models
        .iter()
        .map(|id| {
            json!({"type": "model", "id": id, "display_name": id, "created_at": "2026-01-01T00:00:00Z",
                "max_input_tokens": 200_000, "max_tokens": 64_000})
        })
        .collect();
    json!({"data": data, "has_more": false, "first_id": script.models.first(), "last_id": script.models.last()})
}
