//! Keys in a type that never shows them: redacted in `Debug`, zeroed on drop, exposed in one place only,
//! where the request to the key's own provider is written.

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

/// One key of a provider's pool, known to people by its name only.
#[derive(Clone)]
pub struct Key {
    name: Arc<str>,
    value: Arc<SecretString>,
}

impl Key {
    /// A key that is shown as `name` (the environment variable or the file that it came from).
    pub fn new(name: impl Into<Arc<str>>, value: impl Into<String>) -> Key {
        Key { name: name.into(), value: Arc::new(SecretString::from(value.into())) }
    }

    /// The name under which logs, the status and errors speak of it.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The key itself, to be written into a request to its own provider and nowhere else.
    pub fn expose(&self) -> &str {
        self.value.expose_secret()
    }
}

// === impl Key ===

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({}, redacted)", self.name)
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.name == other.name && self.expose() == other.expose()
    }
}

impl Eq for Key {}
