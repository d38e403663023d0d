//! Reading a tool's arguments: forgiving where models are sloppy (numbers and lists as strings, nulls), exact
//! in what it says when it can't.

use std::time::Duration;

use rmcp::model::JsonObject;
use serde_json::Value;

/// A tool's arguments, taken out one by one; what is left over is unknown.
#[derive(Debug)]
pub(crate) struct Args {
    tool: &'static str,
    left: JsonObject,
    asked: Vec<&'static str>,
}

/// An argument that can't be used: which, and what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadArgs(pub String);

// === impl Args ===

impl Args {
    pub fn new(tool: &'static str, arguments: Option<JsonObject>) -> Args {
        let mut left = arguments.unwrap_or_default();
        left.retain(|_, value| !value.is_null());
        Args { tool, left, asked: Vec::new() }
    }

    /// The argument as it came.
    pub fn value(&mut self, name: &'static str) -> Option<Value> {
        self.asked.push(name);
        self.left.remove(name)
    }

    /// Text; empty counts as absent.
    pub fn text(&mut self, name: &'static str) -> Result<Option<String>, BadArgs> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text).filter(|text| !text.trim().is_empty())),
            Some(other) => Err(wrong(name, "text", &other)),
        }
    }

    /// A whole number, also as text.
    pub fn whole(&mut self, name: &'static str) -> Result<Option<u64>, BadArgs> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) if text.trim().is_empty() => Ok(None),
            Some(value) => {
                let number = match &value {
                    Value::Number(number) => number.as_u64().or_else(|| number.as_f64().and_then(whole)),
                    Value::String(text) => {
                        text.trim().parse().ok().or_else(|| text.trim().parse().ok().and_then(whole))
                    }
                    _ => None,
                };
                number.map(Some).ok_or_else(|| wrong(name, "a whole number of 0 or more", &value))
            }
        }
    }

    /// A number, also as text.
    pub fn number(&mut self, name: &'static str) -> Result<Option<f64>, BadArgs> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) if text.trim().is_empty() => Ok(None),
            Some(value) => {
                let number = match &value {
                    Value::Number(number) => number.as_f64(),
                    Value::String(text) => text.trim().parse::<f64>().ok(),
                    _ => None,
                };
                number
                    .filter(|number| number.is_finite())
                    .map(Some)
                    .ok_or_else(|| wrong(name, "a number", &value))
            }
        }
    }

    /// Yes or no, also as text.
    pub fn flag(&mut self, name: &'static str) -> Result<Option<bool>, BadArgs> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
            Some(other) => Err(wrong(name, "true or false", &other)),
        }
    }

    /// A list; one value counts as a list of one, and a list written as JSON text is read.
    pub fn list(&mut self, name: &'static str) -> Vec<Value> {
        match self.value(name) {
            None => Vec::new(),
            Some(Value::Array(list)) => list,
            Some(Value::String(text)) if text.trim().is_empty() => Vec::new(),
            Some(Value::String(text)) => match json_list(&text) {
                Some(list) => list,
                None => vec![Value::String(text)],
            },
            Some(other) => vec![other],
        }
    }

    /// A list of texts.
    pub fn texts(&mut self, name: &'static str) -> Result<Vec<String>, BadArgs> {
        self.list(name)
            .into_iter()
            .map(|value| match value {
                Value::String(text) => Ok(text),
                other => Err(wrong(name, "a list of texts", &other)),
            })
            .collect()
    }

    /// A time span: seconds, or text such as `90s`.
    pub fn span(&mut self, name: &'static str) -> Result<Option<Duration>, BadArgs> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let span = match &value {
            Value::Number(seconds) => seconds.as_f64().and_then(|s| Duration::try_from_secs_f64(s).ok()),
            Value::String(text) => text
                .trim()
                .parse::<f64>()
                .ok()
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
                .or_else(|| humantime::parse_duration(text.trim()).ok()),
            _ => None,
        };
        span.filter(|span| !span.is_zero())
            .map(Some)
            .ok_or_else(|| wrong(name, "seconds above 0, or a time such as \"90s\"", &value))
    }

    /// All has been asked for: whatever is left is unknown.
    pub fn done(self) -> Result<(), BadArgs> {
        match self.left.keys().next() {
            None => Ok(()),
            Some(unknown) => Err(BadArgs(format!(
                "unknown argument `{}`; {} takes: {}",
                shown(unknown),
                self.tool,
                self.asked.join(", ")
            ))),
        }
    }
}

fn whole(number: f64) -> Option<u64> {
    // Beyond 2^53 a float no longer says which whole number it means.
    (number.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&number)).then_some(number as u64)
}

fn json_list(text: &str) -> Option<Vec<Value>> {
    if !text.trim_start().starts_with('[') {
        return None;
    }
    serde_json::from_str(text).ok()
}

/// What an argument should have been.
pub(crate) fn wrong(name: &str, expected: &str, got: &Value) -> BadArgs {
    BadArgs(format!("`{name}` must be {expected}, not {}", shown(&got.to_string())))
}

fn shown(text: &str) -> String {
    const MOST: usize = 60;
    match text.char_indices().nth(MOST) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn args(value: Value) -> Args {
        Args::new("tool", value.as_object().cloned())
    }

    #[test]
    fn numbers_flags_and_lists_may_be_text() {
        let mut args =
            args(json!({ "a": "7", "b": "0.5", "c": "true", "d": "[\"x\",\"y\"]", "e": "x", "f": 7.0 }));
        assert_eq!(args.whole("a").unwrap(), Some(7));
        assert_eq!(args.number("b").unwrap(), Some(0.5));
        assert_eq!(args.flag("c").unwrap(), Some(true));
        assert_eq!(args.texts("d").unwrap(), ["x", "y"]);
        assert_eq!(args.texts("e").unwrap(), ["x"]);
        assert_eq!(args.whole("f").unwrap(), Some(7));
        args.done().unwrap();
    }

    #[test]
    fn what_cannot_be_read_is_named_with_what_it_should_be() {
        assert_eq!(
            args(json!({ "a": -1 })).whole("a").unwrap_err().0,
            "`a` must be a whole number of 0 or more, not -1"
        );
        assert!(args(json!({ "a": [1] })).text("a").unwrap_err().0.contains("`a` must be text"));
        assert!(args(json!({ "a": "NaN" })).number("a").is_err());
        assert!(args(json!({ "t": -3 })).span("t").is_err());
        assert!(args(json!({ "t": 1e300 })).span("t").is_err());
    }

    #[test]
    fn an_unknown_argument_is_refused_and_a_null_is_none() {
        let mut args = args(json!({ "model": null, "modle": "x" }));
        assert_eq!(args.text("model").unwrap(), None);
        assert_eq!(args.done().unwrap_err().0, "unknown argument `modle`; tool takes: model");
    }
}
