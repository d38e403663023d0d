//! Metrics, in Prometheus's text format. Nothing is counted on a request's path: counts and histograms are folded
//! out of the records of requests that have ended, by whoever reads those; levels are sampled when scraped.
//!
//! Names follow the OpenTelemetry semantic conventions for generative AI clients where those have one, and
//! Prometheus's naming otherwise. Labels are bounded: providers by their names in the config, models as far as the
//! config names them (`other` for the rest), and closed vocabularies. Nothing that a client sends becomes a label.
//!
//! Sources: OpenTelemetry, "Semantic conventions for generative AI metrics"; Prometheus, "Exposition formats".

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use crate::ledger::report::dollars;
use crate::ledger::{Attempt, Ended, Outcome, Priced};

/// Most pairs of provider and model with series of their own, should a config name very many.
const MAX_MODELS: usize = 300;

/// A model that the config does not name.
const OTHER: &str = "other";

/// Counts and histograms since the start.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    requests: BTreeMap<(&'static str, &'static str), u64>,
    cached: u64,
    served: BTreeMap<Model, Served>,
    attempts: BTreeMap<(Box<str>, &'static str), u64>,
    failovers: BTreeMap<&'static str, u64>,
    overhead: Histogram<14>,
    queue: Histogram<10>,
}

/// A provider, and a model that the config names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Model {
    provider: Box<str>,
    kind: &'static str,
    model: Box<str>,
}

#[derive(Clone, Debug, Default)]
struct Served {
    duration: BTreeMap<&'static str, Histogram<14>>,
    first_output: Histogram<14>,
    input: Histogram<14>,
    output: Histogram<14>,
    tokens: [u64; 5],
    cost_micros: i64,
    cost_unknown: u64,
}

/// A histogram with fixed bounds.
#[derive(Clone, Debug)]
struct Histogram<const N: usize> {
    counts: [u64; N],
    count: u64,
    sum: f64,
}

/// The bounds which the conventions advise for durations, in seconds.
const SECONDS: [f64; 14] =
    [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];

/// The bounds which the conventions advise for tokens.
const TOKENS: [f64; 14] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

const OVERHEAD_MICROS: [f64; 14] = [
    20.0, 50.0, 100.0, 150.0, 200.0, 300.0, 500.0, 750.0, 1000.0, 2000.0, 5000.0, 10_000.0, 50_000.0,
    100_000.0,
];

const QUEUE: [f64; 10] = [0.0001, 0.001, 0.01, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

const BUCKETS: [&str; 5] = ["input", "cache_read", "cache_creation", "output", "thinking"];

// === impl Metrics ===

impl Metrics {
    /// Adds a request that has ended. `known`: whether the config names this model of this provider.
    pub fn add(&mut self, priced: &Priced, known: impl Fn(&str, &str) -> bool) {
        let record = &priced.record;
        *self.requests.entry((record.front, record.outcome.as_str())).or_default() += 1;
        self.cached += u64::from(record.cached);
        self.queue.add(&QUEUE, record.queue.as_secs_f64());
        if let Some(overhead) = record.overhead {
            self.overhead.add(&OVERHEAD_MICROS, overhead.as_secs_f64() * 1e6);
        }
        for (attempt, cost) in record.attempts.iter().zip(&priced.costs) {
            let counted =
                self.attempts.entry((attempt.provider.as_str().into(), attempt.ended.as_str())).or_default();
            *counted += 1;
            if !matches!(attempt.ended, Ended::NotAdmitted(_)) {
                self.served(attempt, &known).add(attempt, *cost);
            }
        }
        // Every attempt before the last made way for another.
        for attempt in record.attempts.iter().rev().skip(1) {
            *self.failovers.entry(attempt.ended.as_str()).or_default() += 1;
        }
        if let (Some(last), Some(first_output)) = (record.served(), record.first_output)
            && record.outcome != Outcome::Failed
        {
            self.served(last, &known).first_output.add(&SECONDS, first_output.as_secs_f64());
        }
    }

    fn served(&mut self, attempt: &Attempt, known: impl Fn(&str, &str) -> bool) -> &mut Served {
        let named = known(attempt.provider.as_str(), &attempt.model);
        let mut model = Model {
            provider: attempt.provider.as_str().into(),
            kind: attempt.kind.as_str(),
            model: if named { &*attempt.model } else { OTHER }.into(),
        };
        if self.served.len() >= MAX_MODELS && !self.served.contains_key(&model) {
            model.model = OTHER.into();
        }
        self.served.entry(model).or_default()
    }

    /// Writes all of it.
    pub fn render(&self, out: &mut Page) {
        out.family("cproxy_requests_total", "counter", "Requests that have ended, by front and outcome.");
        for ((front, outcome), count) in &self.requests {
            out.sample("cproxy_requests_total", &[("front", front), ("outcome", outcome)], *count);
        }
        out.family("cproxy_cache_hits_total", "counter", "Requests answered from the response cache.");
        out.sample("cproxy_cache_hits_total", &[], self.cached);
        out.family("cproxy_attempts_total", "counter", "Attempts at providers, by what became of them.");
        for ((provider, outcome), count) in &self.attempts {
            out.sample("cproxy_attempts_total", &[("provider", provider), ("outcome", outcome)], *count);
        }
        out.family("cproxy_failovers_total", "counter", "Attempts that made way for another, by reason.");
        for (reason, count) in &self.failovers {
            out.sample("cproxy_failovers_total", &[("reason", reason)], *count);
        }
        out.family("cproxy_overhead_microseconds", "histogram", "What cproxy itself added to a request.");
        self.overhead.render(out, "cproxy_overhead_microseconds", &OVERHEAD_MICROS, &[]);
        out.family("cproxy_queue_seconds", "histogram", "How long requests waited for places at providers.");
        self.queue.render(out, "cproxy_queue_seconds", &QUEUE, &[]);
        self.render_served(out);
    }

    fn render_served(&self, out: &mut Page) {
        let name = "gen_ai_client_token_usage";
        out.family(name, "histogram", "Tokens of an attempt.");
        for (model, served) in &self.served {
            let [a, b, c, d] = model.labels();
            served.input.render(out, name, &TOKENS, &[a, b, c, d, ("gen_ai_token_type", "input")]);
            served.output.render(out, name, &TOKENS, &[a, b, c, d, ("gen_ai_token_type", "output")]);
        }
        let name = "gen_ai_client_operation_duration_seconds";
        out.family(name, "histogram", "How long an attempt took, from admission to its end.");
        for (model, served) in &self.served {
            let [a, b, c, d] = model.labels();
            for (error, histogram) in &served.duration {
                histogram.render(out, name, &SECONDS, &[a, b, c, d, ("error_type", error)]);
            }
        }
        let name = "gen_ai_client_operation_time_to_first_chunk_seconds";
        out.family(name, "histogram", "From a request's begin to its first output.");
        for (model, served) in &self.served {
            served.first_output.render(out, name, &SECONDS, &model.labels());
        }
        out.family("cproxy_tokens_total", "counter", "Tokens by bucket; thinking is a part of output.");
        for (model, served) in &self.served {
            for (bucket, tokens) in BUCKETS.iter().zip(served.tokens) {
                let labels = [("provider", &*model.provider), ("model", &*model.model), ("bucket", bucket)];
                out.sample("cproxy_tokens_total", &labels, tokens);
            }
        }
        out.family("cproxy_cost_usd_total", "counter", "US dollars, as far as prices are known.");
        for (model, served) in &self.served {
            let labels = [("provider", &*model.provider), ("model", &*model.model)];
            out.sample("cproxy_cost_usd_total", &labels, dollars(served.cost_micros));
        }
        out.family("cproxy_cost_unknown_attempts_total", "counter", "Attempts whose cost is unknown.");
        for (model, served) in &self.served {
            let labels = [("provider", &*model.provider), ("model", &*model.model)];
            out.sample("cproxy_cost_unknown_attempts_total", &labels, served.cost_unknown);
        }
    }
}

// === impl Model ===

impl Model {
    fn labels(&self) -> [(&'static str, &str); 4] {
        let system = match self.kind {
            // The conventions' names for who serves; a name of the config tells which of them.
            "gemini" => "gcp.gemini",
            kind => kind,
        };
        [
            ("gen_ai_operation_name", "chat"),
            ("gen_ai_provider_name", system),
            ("provider", &self.provider),
            ("gen_ai_request_model", &self.model),
        ]
    }
}

// === impl Served ===

impl Served {
    fn add(&mut self, attempt: &Attempt, cost: Option<i64>) {
        let error = match attempt.ended {
            Ended::Ok => "",
            ended => ended.as_str(),
        };
        self.duration.entry(error).or_default().add(&SECONDS, attempt.took.as_secs_f64());
        match cost {
            Some(cost) => self.cost_micros = self.cost_micros.saturating_add(cost),
            None => self.cost_unknown += 1,
        }
        let Some(usage) = &attempt.usage else { return };
        self.input.add(&TOKENS, usage.total_input() as f64);
        self.output.add(&TOKENS, usage.output as f64);
        let new =
            [usage.input, usage.cache_read, usage.cache_creation, usage.output, usage.thinking.unwrap_or(0)];
        for (sum, new) in self.tokens.iter_mut().zip(new) {
            *sum = sum.saturating_add(new);
        }
    }
}

// === impl Histogram ===

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Histogram<N> {
        Histogram { counts: [0; N], count: 0, sum: 0.0 }
    }
}

impl<const N: usize> Histogram<N> {
    fn add(&mut self, bounds: &[f64; N], value: f64) {
        self.count += 1;
        self.sum += value;
        let at = bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get_mut(at) {
            *count += 1;
        }
    }

    fn render(&self, out: &mut Page, name: &str, bounds: &[f64; N], labels: &[(&str, &str)]) {
        if self.count == 0 {
            return;
        }
        let mut below = 0;
        for (bound, count) in bounds.iter().zip(self.counts) {
            below += count;
            out.bucket(name, labels, Some(*bound), below);
        }
        out.bucket(name, labels, None, self.count);
        out.suffixed(name, "_sum", labels, self.sum);
        out.suffixed(name, "_count", labels, self.count);
    }
}

/// A page in Prometheus's text format.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
}

// === impl Page ===

impl Page {
    /// The text.
    pub fn into_text(self) -> String {
        self.text
    }

    /// Begins a family of series. `kind`: `counter`, `gauge`, `histogram`.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Writes a sample.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl fmt::Display) {
        self.suffixed(name, "", labels, value);
    }

    fn suffixed(&mut self, name: &str, suffix: &str, labels: &[(&str, &str)], value: impl fmt::Display) {
        let _ = write!(self.text, "{name}{suffix}");
        self.labels(labels, None);
        let _ = writeln!(self.text, " {value}");
    }

    fn bucket(&mut self, name: &str, labels: &[(&str, &str)], bound: Option<f64>, value: u64) {
        let _ = write!(self.text, "{name}_bucket");
        let bound = bound.map_or_else(|| "+Inf".to_owned(), |bound| bound.to_string());
        self.labels(labels, Some(&bound));
        let _ = writeln!(self.text, " {value}");
    }

    fn labels(&mut self, labels: &[(&str, &str)], le: Option<&str>) {
        let all = labels.iter().copied().chain(le.map(|le| ("le", le)));
        let mut separator = '{';
        for (name, value) in all {
            let _ = write!(self.text, "{separator}{name}=\"");
            for c in value.chars() {
                match c {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    c => self.text.push(c),
                }
            }
            self.text.push('"');
            separator = ',';
        }
        if separator == ',' {
            self.text.push('}');
        }
    }
}
