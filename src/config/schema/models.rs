//! `[models]`: aliases and their targets.

use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::ProviderId;

/// One entry of `[models]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// The name or glob that callers use.
    pub pattern: String,
    /// The targets to try, in order.
    pub targets: Vec<Target>,
}

/// The targets of an alias as written: one, or several in order.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Targets {
    One(String),
    Many(Vec<String>),
}

/// `provider/model`. The model may hold further slashes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The provider.
    pub provider: ProviderId,
    /// The model, as the provider names it.
    pub model: Arc<str>,
}

// === impl Target ===

impl Target {
    /// Reads `provider/model`; `None` if there is no slash or a side is empty.
    pub fn parse(text: &str) -> Option<Target> {
        let (provider, model) = text.split_once('/')?;
        (!provider.is_empty() && !model.is_empty())
            .then(|| Target { provider: ProviderId::from(provider), model: Arc::from(model) })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.provider, self.model)
    }
}

// === reading and writing ===

/// Reads `[models]` in the order in which it is written, since the first match wins.
pub(super) fn read<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Alias>, D::Error> {
    struct InOrder;

    impl<'de> serde::de::Visitor<'de> for InOrder {
        type Value = Vec<Alias>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table: alias = [\"provider/model\", …]")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Vec<Alias>, A::Error> {
            let mut aliases = Vec::new();
            while let Some((pattern, targets)) = map.next_entry::<String, Targets>()? {
                let targets = match targets {
                    Targets::One(target) => vec![target],
                    Targets::Many(targets) => targets,
                };
                let targets = targets
                    .iter()
                    .map(|target| {
                        Target::parse(target).ok_or_else(|| {
                            serde::de::Error::custom(format!("\"{target}\" is not \"provider/model\""))
                        })
                    })
                    .collect::<Result<Vec<_>, _>>()?;
                aliases.push(Alias { pattern, targets });
            }
            Ok(aliases)
        }
    }

    deserializer.deserialize_map(InOrder)
}

/// Writes `[models]` in its order.
pub(super) fn write<S: serde::Serializer>(aliases: &[Alias], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(aliases.iter().map(|alias| {
        let targets: Vec<String> = alias.targets.iter().map(Target::to_string).collect();
        (&alias.pattern, targets)
    }))
}
