//! What a newcomer has: keys in the environment, by name only, and servers on this machine.

use std::time::Duration;

use futures_util::future::join_all;
use serde::Deserialize;

use crate::config::{Environment, ProviderKind};

/// All that was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Vendors with a key.
    pub clouds: Vec<Cloud>,
    /// Local servers that answer.
    pub locals: Vec<Local>,
    /// The user's Claude login goes on to Anthropic.
    pub claude_login: bool,
}

/// A vendor whose key is in the environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cloud {
    /// The vendor.
    pub kind: ProviderKind,
    /// The variable with the key.
    pub variable: &'static str,
}

/// A server on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// The name, also the variant.
    pub name: &'static str,
    /// Its address.
    pub base_url: String,
    /// What it says that it serves.
    pub models: Vec<String>,
}

/// How long a local server may take to answer.
const LIMIT: Duration = Duration::from_millis(800);

/// Most bytes of a list of models.
const MAX_LIST: usize = 1 << 20;

/// Usual ports. Sources: the documentation of Ollama, LM Studio, llama.cpp's server and vLLM.
const USUAL: [(&str, u16); 4] = [("ollama", 11434), ("lmstudio", 1234), ("llamacpp", 8080), ("vllm", 8000)];

/// The vendors whose usual variable is set.
pub fn keys(environment: &Environment<'_>) -> Found {
    let kinds =
        [ProviderKind::Anthropic, ProviderKind::Openai, ProviderKind::Openrouter, ProviderKind::Gemini];
    let clouds = kinds.into_iter().filter_map(|kind| {
        let variable = kind.usual_key_variable()?;
        environment.get(variable).map(|_| Cloud { kind, variable })
    });
    Found { clouds: clouds.collect(), ..Found::default() }
}

/// The servers on loopback that list models as OpenAI's API does. Nothing beyond this machine is asked.
pub async fn locals() -> Vec<Local> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(LIMIT)
        .build();
    let Ok(client) = client else { return Vec::new() };
    let asked = USUAL.map(|(name, port)| local(client.clone(), name, port));
    join_all(asked).await.into_iter().flatten().collect()
}

async fn local(client: reqwest::Client, name: &'static str, port: u16) -> Option<Local> {
    #[derive(Deserialize)]
    struct Model {
        id: String,
    }
    #[derive(Deserialize)]
    struct List {
        data: Option<Vec<Model>>,
    }
    let base_url = format!("http://127.0.0.1:{port}/v1");
    let mut response = client.get(format!("{base_url}/models")).send().await.ok()?;
    if !response.status().is_success() {
        return None;
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_LIST {
            return None;
        }
    }
    // Any program may have this port; one that lists no models is none of these.
    let list: List = serde_json::from_slice(&body).ok()?;
    let ids = list.data.unwrap_or_default().into_iter().map(|model| model.id);
    let models = ids.filter(|id| !id.is_empty() && id.len() <= 200 && !id.contains(char::is_control));
    Some(Local { name, base_url, models: models.take(50).collect() })
}
