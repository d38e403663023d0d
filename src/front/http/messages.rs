//! `POST /v1/messages` and `/v1/messages/count_tokens`: a caller's request becomes a [`Request`], the exchange's
//! answer becomes the response.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};

use super::{Shared, body, openai, respond};
use crate::config::secret::Key;
use crate::dialect::head::BodyError;
use crate::dialect::{Dialect, head};
use crate::exchange::{CacheWish, Credential, Front, Request, RequestId};
use crate::routing::Facts;

/// `POST /v1/messages`.
pub async fn create(State(daemon): State<Shared>, request: axum::extract::Request) -> Response {
    let id = RequestId::new();
    let (parts, body) = request.into_parts();
    match read(&daemon, &id, &parts, body, Dialect::Anthropic).await {
        Ok(request) => respond::answer(daemon.exchange().run(request).await),
        Err(response) => *response,
    }
}

/// `POST /v1/messages/count_tokens`.
pub async fn count_tokens(State(daemon): State<Shared>, request: axum::extract::Request) -> Response {
    let id = RequestId::new();
    let (parts, body) = request.into_parts();
    match read(&daemon, &id, &parts, body, Dialect::Anthropic).await {
        Ok(request) => respond::answer(daemon.exchange().count_tokens(request).await),
        Err(response) => *response,
    }
}

/// Reads a caller's request; what is wrong with it is answered here, in its dialect.
pub(super) async fn read(
    daemon: &Shared,
    id: &RequestId,
    parts: &Parts,
    body: Body,
    dialect: Dialect,
) -> Result<Request, Box<Response>> {
    let is_openai = matches!(dialect, Dialect::OpenAiChat | Dialect::OpenAiResponses);
    let refuse = |status, kind, message: &str| match is_openai {
        true => Box::new(openai::failure(id, status, message)),
        false => Box::new(respond::failure(id, status, kind, message)),
    };
    let bytes = body::read(&parts.headers, body).await.map_err(|error| {
        let (status, kind) = error.status();
        refuse(status, kind, &error.to_string())
    })?;
    let head = head::scan_as(&bytes, dialect).map_err(|error: BodyError| {
        refuse(StatusCode::BAD_REQUEST, "invalid_request_error", &error.to_string())
    })?;
    let text =
        |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).map(Arc::<str>::from);
    // Codex names its session in a header of its own.
    let session = text("x-claude-code-session-id").or_else(|| text("session_id"));
    let session = session.or_else(|| head.session.as_deref().map(Arc::from));
    let facts = Facts {
        provider: text("x-cproxy-provider").map(crate::config::ProviderId),
        session,
        agent: text("x-claude-code-agent-id"),
        client: text("user-agent"),
        headers: matchable(&parts.headers),
        over_budget: false,
        head,
    };
    Ok(Request {
        id: id.clone(),
        front: if is_openai { Front::OpenAi } else { Front::Messages },
        dialect,
        body: bytes,
        facts,
        headers: forwarded(&parts.headers),
        credential: credential(&parts.headers, daemon),
        timeout: None,
        cache: CacheWish::of(&parts.headers),
        unseen: false,
        progress: None,
    })
}

/// Headers that go on to an upstream of the same dialect, byte for byte. Source: Claude Code, "LLM gateway"
/// (headers that a gateway must forward).
fn forwarded(headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for (name, value) in headers {
        let name_text = name.as_str();
        let is_known = matches!(name_text, "x-app" | "openai-beta" | "http-referer" | "x-title");
        if is_known || name_text.starts_with("anthropic-") || name == header::USER_AGENT {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}

/// Headers that rules may match: all but credentials.
fn matchable(headers: &HeaderMap) -> Vec<(Arc<str>, Arc<str>)> {
    let own = headers.iter().filter(|(name, _)| {
        let name = name.as_str();
        name.starts_with("x-")
            && name != "x-api-key"
            && name != "x-cproxy-token"
            && !name.starts_with("x-stainless")
    });
    own.filter_map(|(name, value)| Some((Arc::from(name.as_str()), Arc::from(value.to_str().ok()?))))
        .collect()
}

/// The caller's own credential. The daemon's token is none: it must not leave this machine.
fn credential(headers: &HeaderMap, daemon: &Shared) -> Credential {
    let token = daemon.token();
    let take = |name: &str| {
        let value = headers.get(name)?.to_str().ok()?;
        if token.as_ref().is_some_and(|token| value.contains(token.expose())) {
            return None;
        }
        Some(Key::new("the caller's own", value))
    };
    Credential { api_key: take("x-api-key"), authorization: take("authorization") }
}
