//! What serves when no provider can be used: the embedded simulator, as if the config named it.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use crate::actors::config::Load;
use crate::actors::simulator::NAME;
use crate::config::secret::Key;
use crate::config::{Keys, Loaded, Provider, ProviderId};

/// Whether no provider of the config can be used.
pub fn needed(loaded: &Loaded) -> bool {
    !loaded.config.providers.iter().any(|(id, provider)| {
        !provider.disabled && !matches!(loaded.keys.get(id), Some(Keys::Missing(_)) | None)
    })
}

/// A free address on loopback. The actor binds it again; nobody else is told of it meanwhile.
pub fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind(("127.0.0.1", 0))?.local_addr()
}

/// The config with the simulator as its one provider that can be used, and as default.
pub fn with_simulator(mut loaded: Loaded, address: SocketAddr) -> Loaded {
    let text =
        format!("kind = \"anthropic\"\nbase_url = \"http://{address}\"\nmodels = [\"*\"]\npriority = 1000\n");
    // The text is ours and holds what the schema asks for.
    if let Ok(provider) = toml::from_str::<Provider>(&text) {
        let id = ProviderId::from(NAME);
        loaded.keys.insert(id.clone(), Keys::Pool(vec![Key::new(NAME, NAME)]));
        loaded.config.providers.insert(id.clone(), provider);
        loaded.config.routing.default_provider = Some(id);
        loaded.config.routing.fallback_provider = None;
        loaded.config.mcp.default_model.get_or_insert_with(|| "claude-simulator".to_owned());
    }
    loaded
}

/// The same for every reload: once a provider can be used, the simulator makes way.
pub fn wrap(load: Load, address: SocketAddr) -> Load {
    Arc::new(move || {
        load().map(|loaded| if needed(&loaded) { with_simulator(loaded, address) } else { loaded })
    })
}
