//! `GET /v1/models` and `/v1/models/{id}`, in Anthropic's shape, or in OpenAI's for callers without a header of
//! Anthropic's.
//!
//! Claude Code shows only models whose id holds `claude` or `anthropic`, so others are listed under an id that does
//! (`claude-via-…`) and are asked for by either name. Source: Claude Code, "LLM gateway" (model discovery);
//! Anthropic API reference, "List Models".

use axum::extract::{Path, Query, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use super::{Shared, openai, respond};
use crate::exchange::RequestId;
use crate::front::mcp::ModelInfo;
use crate::routing::rules::VIA;

/// Paging.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Page {
    limit: Option<usize>,
    after_id: Option<String>,
    before_id: Option<String>,
}

/// One model.
#[derive(Debug, Serialize)]
struct Model {
    r#type: &'static str,
    id: String,
    display_name: String,
    description: String,
    created_at: &'static str,
}

#[derive(Debug, Serialize)]
struct List {
    data: Vec<Model>,
    has_more: bool,
    first_id: Option<String>,
    last_id: Option<String>,
}

/// `GET /v1/models`.
pub async fn list(State(daemon): State<Shared>, Query(page): Query<Page>, headers: HeaderMap) -> Response {
    if !is_anthropics(&headers) {
        return respond::json(&openai::Models::new(daemon.models()));
    }
    let mut models: Vec<Model> = daemon.models().into_iter().map(Model::from).collect();
    if let Some(after) = &page.after_id
        && let Some(at) = models.iter().position(|model| model.id == *after)
    {
        models.drain(..=at);
    }
    if let Some(before) = &page.before_id
        && let Some(at) = models.iter().position(|model| model.id == *before)
    {
        models.truncate(at);
    }
    let limit = page.limit.unwrap_or(20).clamp(1, 1000);
    let has_more = models.len() > limit;
    models.truncate(limit);
    let id = |model: Option<&Model>| model.map(|model| model.id.clone());
    respond::json(&List { first_id: id(models.first()), last_id: id(models.last()), has_more, data: models })
}

/// Whether the caller speaks Anthropic's dialect: one route serves both.
fn is_anthropics(headers: &HeaderMap) -> bool {
    headers.contains_key("anthropic-version") || headers.contains_key("x-api-key")
}

/// `GET /v1/models/{id}`.
pub async fn one(State(daemon): State<Shared>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if !is_anthropics(&headers) {
        return match daemon.models().into_iter().find(|info| info.id == id) {
            Some(info) => respond::json(&openai::Model::from(info)),
            None => {
                let message =
                    format!("The model `{id}` does not exist; GET /v1/models lists those that are known");
                openai::failure(&RequestId::new(), StatusCode::NOT_FOUND, &message)
            }
        };
    }
    let found = daemon.models().into_iter().map(|info| (info.id.clone(), Model::from(info)));
    match found.into_iter().find(|(name, model)| *name == id || model.id == id) {
        Some((_, model)) => respond::json(&model),
        None => {
            let message = format!("model: {id}; GET /v1/models lists those that are known");
            respond::failure(&RequestId::new(), StatusCode::NOT_FOUND, "not_found_error", &message)
        }
    }
}

// === impl Model ===

impl From<ModelInfo> for Model {
    fn from(info: ModelInfo) -> Model {
        let own = info.id.contains("claude") || info.id.contains("anthropic");
        let display_name = if own { info.id.clone() } else { format!("{} ({})", info.id, info.provider) };
        Model {
            r#type: "model",
            display_name,
            description: format!("served by {}", info.provider),
            id: if own { info.id } else { format!("{VIA}{}", info.id) },
            created_at: "1970-01-01T00:00:00Z",
        }
    }
}
