//! The active health check of a provider: one request to an endpoint that costs nothing, the list of models.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Method};

use super::ProviderCell;
use crate::config::{Auth, ProviderKind};
use crate::routing::table::Usable;

/// What active health checks have found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// Nothing yet.
    #[default]
    Unknown,
    /// The provider answered.
    Well,
    /// It did not, or not well: what happened.
    Ill(String),
}

impl ProviderCell {
    /// A health check, ready to be run; `None` if there is nothing to check with: no key, or the caller's only.
    pub fn probe(&self) -> Option<BoxFuture<'static, Health>> {
        let setup = self.setup();
        if setup.config.auth == Auth::Caller || self.usable() != Usable::Ready {
            return None;
        }
        let path = match setup.config.kind {
            ProviderKind::Anthropic => "/v1/models?limit=1",
            ProviderKind::Gemini => "/v1beta/models?pageSize=1",
            ProviderKind::Openai | ProviderKind::Openrouter | ProviderKind::Local => "/models",
        };
        let mut request = http::Request::new(Bytes::new());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = format!("{}{path}", setup.base_url).parse().ok()?;
        let headers = request.headers_mut();
        if let Some(key) = setup.keys.first() {
            let (name, value) = match setup.config.kind {
                ProviderKind::Anthropic => ("x-api-key".parse().ok()?, key.expose().to_owned()),
                ProviderKind::Gemini => ("x-goog-api-key".parse().ok()?, key.expose().to_owned()),
                _ => (AUTHORIZATION, format!("Bearer {}", key.expose())),
            };
            let mut value = HeaderValue::try_from(value).ok()?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
        let limit = setup.config.health.timeout;
        let sending = setup.upstream.send(request);
        let probe = async move {
            match tokio::time::timeout(limit, sending).await {
                // Any answer but a failure of the server's own shows that it is there.
                Ok(Ok(response)) if response.status().as_u16() < 500 => Health::Well,
                Ok(Ok(response)) => Health::Ill(format!("answers {}", response.status().as_u16())),
                Ok(Err(fault)) => Health::Ill(fault.message),
                Err(_) => Health::Ill(format!("no answer within {}", humantime::format_duration(limit))),
            }
        };
        Some(probe.boxed())
    }

    /// Takes up what a health check found.
    pub fn probed(&self, health: Health) {
        let before = self.health.swap(Arc::new(health.clone()));
        if *before != health {
            let setup = self.setup();
            match health {
                Health::Ill(reason) => tracing::warn!(provider = %setup.id, reason, "health check failed"),
                _ => tracing::debug!(provider = %setup.id, "health check passed"),
            }
        }
    }
}

// === impl Health ===

impl Health {
    /// As the status says it.
    pub fn describe(&self) -> &str {
        match self {
            Health::Unknown => "unknown",
            Health::Well => "ok",
            Health::Ill(reason) => reason,
        }
    }
}
