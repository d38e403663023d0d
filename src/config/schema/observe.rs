//! What is written down, measured and paid: `[logging]`, `[ledger]`, `[otlp]`, `[budgets]`, `[prices]`.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ByteSize;

/// `[logging]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Logging {
    /// A level, or a filter such as `info,cproxy::exchange=debug`.
    pub level: String,
    /// Lines for people, or JSON.
    pub format: LogFormat,
    /// One line for each request.
    pub requests: bool,
    /// Bodies of answers too; redacted and bounded, and for an hour after they were asked for.
    pub responses: bool,
    /// Bodies of requests too; likewise.
    pub request_bodies: bool,
    /// Timings in the line of a request.
    pub performance: bool,
    /// Where the log goes beside the terminal.
    pub file: Option<PathBuf>,
    /// The size at which the file is set aside as `FILE.1`, and a new one begun.
    #[schemars(with = "String")]
    pub max_size: ByteSize,
    /// How many files are kept in all.
    pub max_files: u32,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Pretty,
    /// For machines.
    Json,
}

/// `[ledger]`: usage and cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ledger {
    /// Whether usage is kept on disk.
    pub enabled: bool,
    /// The database; by default `cproxy/ledger.sqlite3` in the user's folder for state (`XDG_STATE_HOME`, else
    /// `~/.local/state`).
    pub file: Option<PathBuf>,
    /// For how many days each request is kept. Of older ones the sums of their days stay, by provider and model.
    pub keep_days: u32,
}

/// `[otlp]`: metrics and traces to a collector, by the OpenTelemetry Protocol over HTTP. Off by default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Otlp {
    /// Whether anything is sent.
    pub enabled: bool,
    /// The collector's address, to which `/v1/metrics` and `/v1/traces` are added; by default what the variable
    /// `OTEL_EXPORTER_OTLP_ENDPOINT` names, else `http://127.0.0.1:4318`.
    pub endpoint: Option<String>,
    /// How often.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub interval: Duration,
    /// Metrics.
    pub metrics: bool,
    /// A trace of each request: a span for it, and one for each attempt. No prompts, no answers.
    pub traces: bool,
}

/// `[budgets]`: what may be spent, in US dollars by the prices that are known. Days and months are those of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Budgets {
    /// In a day.
    pub day: Budget,
    /// In a month.
    pub month: Budget,
    /// In a session.
    pub session: Budget,
    /// By an agent.
    pub agent: Budget,
}

/// One budget: `{ warn = 5.0, stop = 10.0 }`.
#[derive(Clone, Copy, Debug, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Budget {
    /// From here on the status warns, and of several targets the cheapest is asked first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warn: Option<f64>,
    /// Requests that could lead beyond this are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<f64>,
}

/// `[prices]`: what a model costs, in US dollars for a million tokens of each sort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Input.
    pub input: f64,
    /// Output, reasoning included.
    pub output: f64,
    /// Input read from the prompt cache; as input where not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<f64>,
    /// Input written to the prompt cache; as input where not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<f64>,
}

// === impl Budget ===

impl Budget {
    /// Whether it limits anything.
    pub fn is_set(&self) -> bool {
        self.warn.is_some() || self.stop.is_some()
    }
}

// === defaults ===

impl Default for Logging {
    fn default() -> Logging {
        Logging {
            level: "info".into(),
            format: LogFormat::Pretty,
            requests: true,
            responses: false,
            request_bodies: false,
            performance: true,
            file: None,
            max_size: ByteSize(10 << 20),
            max_files: 5,
        }
    }
}

impl Default for Ledger {
    fn default() -> Ledger {
        Ledger { enabled: true, file: None, keep_days: 90 }
    }
}

impl Default for Otlp {
    fn default() -> Otlp {
        Otlp {
            enabled: false,
            endpoint: None,
            interval: Duration::from_secs(15),
            metrics: true,
            traces: true,
        }
    }
}
