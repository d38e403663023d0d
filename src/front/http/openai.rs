//! `POST /v1/chat/completions` and `POST /v1/responses`: the same exchange, for callers of OpenAI's dialects.
//!
//! Source: OpenAI API reference, "Chat", "Responses", "Models" and "Error codes".

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use super::{Shared, messages, respond};
use crate::dialect::Dialect;
use crate::dialect::openai_chat::answer::error;
use crate::exchange::RequestId;
use crate::front::mcp::ModelInfo;

/// One model.
#[derive(Debug, Serialize)]
pub struct Model {
    id: String,
    object: &'static str,
    created: u64,
    owned_by: String,
}

/// `GET /v1/models`.
#[derive(Debug, Serialize)]
pub struct Models {
    object: &'static str,
    data: Vec<Model>,
}

/// `POST /v1/chat/completions`.
pub async fn chat(State(daemon): State<Shared>, request: axum::extract::Request) -> Response {
    create(daemon, request, Dialect::OpenAiChat).await
}

/// `POST /v1/responses`.
pub async fn responses(State(daemon): State<Shared>, request: axum::extract::Request) -> Response {
    create(daemon, request, Dialect::OpenAiResponses).await
}

async fn create(daemon: Shared, request: axum::extract::Request, dialect: Dialect) -> Response {
    let id = RequestId::new();
    let (parts, body) = request.into_parts();
    match messages::read(&daemon, &id, &parts, body, dialect).await {
        Ok(request) => respond::answer(daemon.exchange().run(request).await),
        Err(response) => *response,
    }
}

/// An error of the front's own, in OpenAI's shape.
pub fn failure(id: &RequestId, status: StatusCode, message: &str) -> Response {
    let code = (status == StatusCode::NOT_FOUND).then_some("model_not_found");
    let kind = if status.is_server_error() { "server_error" } else { "invalid_request_error" };
    // What is wrong with a field is said as "field: what".
    let param = message.split_once(": ").map(|(field, _)| field).filter(|field| !field.contains(' '));
    let mut response = Response::new(Body::from(error::caller(status, kind, code, message, param).body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(value) = HeaderValue::from_str(&id.0) {
        response.headers_mut().insert("x-request-id", value);
    }
    response
}

// === impl Models ===

impl Models {
    /// The models in OpenAI's shape.
    pub fn new(models: Vec<ModelInfo>) -> Models {
        Models { object: "list", data: models.into_iter().map(Model::from).collect() }
    }
}

impl From<ModelInfo> for Model {
    fn from(info: ModelInfo) -> Model {
        Model { id: info.id, object: "model", created: 0, owned_by: info.provider }
    }
}
