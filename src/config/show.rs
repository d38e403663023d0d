//! The config in force, for people: as TOML and JSON, redacted; and its JSON Schema.

use serde_json::Value;

use super::Config;
use super::keys::Keys;
use super::load::Loaded;

/// The JSON Schema of `config.toml`, for editors and for `cproxy config schema`.
pub fn json_schema() -> Value {
    schemars::schema_for!(Config).to_value()
}

/// The config in force as JSON, redacted: keys by name only, values of added headers masked.
pub fn to_json(loaded: &Loaded) -> Value {
    let mut value = serde_json::to_value(&loaded.config).unwrap_or_default();
    strip_nulls(&mut value);
    value
}

/// The config in force as TOML, redacted, with a comment on each provider's keys.
pub fn to_toml(loaded: &Loaded) -> String {
    let mut text = format!("# The config in force, from {}. Secrets are masked.\n", loaded.source);
    for (id, keys) in &loaded.keys {
        let state = match keys {
            Keys::Pool(pool) => {
                let names: Vec<&str> = pool.iter().map(|key| key.name().as_ref()).collect();
                format!("keys: {}", names.join(", "))
            }
            Keys::Missing(why) => format!("no key: {why}"),
            Keys::NotNeeded => "needs no key".to_owned(),
        };
        text.push_str(&format!("# {id}: {}\n", state.replace(char::is_control, " ")));
    }
    text.push('\n');
    match toml::to_string(&loaded.config) {
        Ok(config) => text.push_str(&config),
        Err(error) => text.push_str(&format!("# it can't be shown: {error}\n")),
    }
    text
}

/// What is not set is not shown.
fn strip_nulls(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|_, value| !value.is_null());
            object.values_mut().for_each(strip_nulls);
        }
        Value::Array(array) => array.iter_mut().for_each(strip_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_describes_every_key_and_forbids_others() {
        let schema = json_schema();
        assert_eq!(schema["additionalProperties"], false);
        let definitions = schema["$defs"].as_object().into_iter().flatten();
        for (name, definition) in definitions {
            for (key, property) in definition["properties"].as_object().into_iter().flatten() {
                let text = property["description"].as_str().unwrap_or_default();
                assert!(!text.is_empty(), "{name}.{key} has no description");
            }
        }
        assert!(schema["$defs"]["Provider"]["properties"]["kind"].is_object());
    }
}
