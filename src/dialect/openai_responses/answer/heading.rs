//! What a writer must know of the request.

use super::super::to_messages::flat;

/// What a writer knows of the answer before it begins.
#[derive(Clone, Debug, Default)]
pub struct Heading {
    /// The model as the caller named it.
    pub model: String,
    /// Our id: without `resp_`.
    pub id: String,
    /// Now, in seconds since 1970.
    pub created: u64,
    /// Input tokens as we estimate them.
    pub estimate: u64,
    /// The names of tools that take free text.
    pub custom: Vec<String>,
    /// Tools in namespaces: (the name that went out, namespace, name).
    pub spaced: Vec<(String, String, String)>,
}

// === impl Heading ===

impl Heading {
    /// Reads of a Responses request what its answer depends on. `model`, `id`, `created` and `estimate` stay to be
    /// set.
    pub fn read(body: &[u8]) -> Heading {
        #[derive(Default, serde::Deserialize)]
        #[serde(default)]
        struct Asked {
            tools: Vec<Tool>,
        }
        #[derive(Default, serde::Deserialize)]
        #[serde(default)]
        struct Tool {
            r#type: String,
            name: String,
            tools: Vec<Tool>,
        }
        let asked: Asked = serde_json::from_slice(body).unwrap_or_default();
        let mut heading = Heading::default();
        for tool in asked.tools {
            match tool.r#type.as_str() {
                "custom" => heading.custom.push(tool.name),
                "namespace" => {
                    let space = &tool.name;
                    let names = tool.tools.into_iter().map(|inner| inner.name);
                    heading.spaced.extend(names.map(|name| (flat(space, &name), space.clone(), name)));
                }
                _ => {}
            }
        }
        heading
    }
}
