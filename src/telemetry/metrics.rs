//! Metrics. Nothing is counted on a request's path: counts and histograms are folded out of the records of requests
//! that have ended, by whoever reads those; levels are sampled when somebody looks. All of them make one [`Page`], which
//! is written in Prometheus's text format for `/metrics`, and by `otlp` for a collector.
//!
//! Names follow the OpenTelemetry semantic conventions for generative AI clients where those have one; ours begin with
//! `cproxy.`. In Prometheus's form dots become underscores and the unit follows. Labels are bounded: providers by their names in the config, models as far as the
//! config names them (`other` for the rest), and closed vocabularies. Nothing that a client sends becomes a label.
//!
//! Sources: OpenTelemetry, "Semantic conventions for generative AI metrics" and "Prometheus and OpenMetrics
//! Compatibility"; Prometheus, "Exposition formats".

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
    pub fn render(&self, page: &mut Page) {
        page.family(
            "cproxy.requests",
            "{request}",
            Kind::Counter,
            "Requests that have ended, by front and outcome.",
        );
        for ((front, outcome), count) in &self.requests {
            page.count(&[("front", front), ("outcome", outcome)], *count);
        }
        page.family(
            "cproxy.cache_hits",
            "{request}",
            Kind::Counter,
            "Requests answered from the response cache.",
        );
        page.count(&[], self.cached);
        page.family(
            "cproxy.attempts",
            "{attempt}",
            Kind::Counter,
            "Attempts at providers, by what became of them.",
        );
        for ((provider, outcome), count) in &self.attempts {
            page.count(&[("provider", provider), ("outcome", outcome)], *count);
        }
        page.family(
            "cproxy.failovers",
            "{attempt}",
            Kind::Counter,
            "Attempts that made way for another, by reason.",
        );
        for (reason, count) in &self.failovers {
            page.count(&[("reason", reason)], *count);
        }
        page.family("cproxy.overhead", "us", Kind::Histogram, "What cproxy itself added to a request.");
        page.histogram(&[], &OVERHEAD_MICROS, &self.overhead);
        page.family(
            "cproxy.queue",
            "s",
            Kind::Histogram,
            "How long requests waited for places at providers.",
        );
        page.histogram(&[], &QUEUE, &self.queue);
        self.render_served(page);
    }

    fn render_served(&self, page: &mut Page) {
        page.family("gen_ai.client.token.usage", "{token}", Kind::Histogram, "Tokens of an attempt.");
        for (model, served) in &self.served {
            let [a, b, c, d] = model.labels();
            page.histogram(&[a, b, c, d, ("gen_ai.token.type", "input")], &TOKENS, &served.input);
            page.histogram(&[a, b, c, d, ("gen_ai.token.type", "output")], &TOKENS, &served.output);
        }
        let help = "How long an attempt took, from admission to its end.";
        page.family("gen_ai.client.operation.duration", "s", Kind::Histogram, help);
        for (model, served) in &self.served {
            let [a, b, c, d] = model.labels();
            for (error, histogram) in &served.duration {
                page.histogram(&[a, b, c, d, ("error.type", error)], &SECONDS, histogram);
            }
        }
        let help = "From a request's begin to its first output.";
        page.family("gen_ai.client.operation.time_to_first_chunk", "s", Kind::Histogram, help);
        for (model, served) in &self.served {
            page.histogram(&model.labels(), &SECONDS, &served.first_output);
        }
        let of =
            |model: &Model| [("provider", model.provider.to_string()), ("model", model.model.to_string())];
        page.family(
            "cproxy.tokens",
            "{token}",
            Kind::Counter,
            "Tokens by bucket; thinking is a part of output.",
        );
        for (model, served) in &self.served {
            for (bucket, tokens) in BUCKETS.iter().zip(served.tokens) {
                let [(a, provider), (b, name)] = &of(model);
                page.count(&[(a, provider), (b, name), ("bucket", bucket)], tokens);
            }
        }
        let help =
            "Of the input tokens since the start, the share that was read from the provider's prompt cache.";
        page.family("cproxy.prompt_cache_hit_rate", "", Kind::Gauge, help);
        for (model, served) in &self.served {
            let [input, read, written, ..] = served.tokens;
            let all = input.saturating_add(read).saturating_add(written);
            if all > 0 {
                let [(a, provider), (b, name)] = &of(model);
                page.sample(&[(a, provider), (b, name)], read as f64 / all as f64);
            }
        }
        page.family("cproxy.cost", "usd", Kind::Counter, "US dollars, as far as prices are known.");
        for (model, served) in &self.served {
            let [(a, provider), (b, name)] = &of(model);
            page.sample(&[(a, provider), (b, name)], dollars(served.cost_micros));
        }
        page.family(
            "cproxy.cost_unknown_attempts",
            "{attempt}",
            Kind::Counter,
            "Attempts whose cost is unknown.",
        );
        for (model, served) in &self.served {
            let [(a, provider), (b, name)] = &of(model);
            page.count(&[(a, provider), (b, name)], served.cost_unknown);
        }
    }
}

// === impl Model ===

impl Model {
    fn labels(&self) -> [(&'static str, &str); 4] {
        [
            ("gen_ai.operation.name", "chat"),
            ("gen_ai.provider.name", system(self.kind)),
            ("provider", &self.provider),
            ("gen_ai.request.model", &self.model),
        ]
    }
}

/// The conventions' name for who serves; a name of the config tells which of them.
pub(super) fn system(kind: &'static str) -> &'static str {
    match kind {
        "gemini" => "gcp.gemini",
        kind => kind,
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
}

/// What is measured at a moment: families of series.
#[derive(Clone, Debug, Default)]
pub struct Page {
    families: Vec<Family>,
}

/// Series of one name.
#[derive(Clone, Debug)]
pub(super) struct Family {
    /// By the conventions, with dots.
    pub(super) name: &'static str,
    /// By UCUM: `s`, `us`, `{token}`; empty where there is none.
    pub(super) unit: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
    pub(super) points: Vec<Point>,
}

/// What a series means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// A level.
    Gauge,
    /// How values are distributed.
    Histogram,
}

/// One series at this moment.
#[derive(Clone, Debug)]
pub(super) struct Point {
    pub(super) labels: Vec<(&'static str, Box<str>)>,
    pub(super) value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Number(f64),
    /// How many values lie up to each bound and above the one before; those above the last are only in `count`.
    Histogram {
        bounds: &'static [f64],
        counts: Box<[u64]>,
        count: u64,
        sum: f64,
    },
}

// === impl Page ===

impl Page {
    /// Begins a family.
    pub fn family(&mut self, name: &'static str, unit: &'static str, kind: Kind, help: &'static str) {
        self.families.push(Family { name, unit, kind, help, points: Vec::new() });
    }

    /// A number, in the family that was begun last. A label without a value is none.
    pub fn sample(&mut self, labels: &[(&'static str, &str)], value: f64) {
        self.point(labels, Value::Number(value));
    }

    /// The same for a count.
    pub fn count(&mut self, labels: &[(&'static str, &str)], count: u64) {
        self.sample(labels, count as f64);
    }

    fn histogram<const N: usize>(
        &mut self,
        labels: &[(&'static str, &str)],
        bounds: &'static [f64; N],
        histogram: &Histogram<N>,
    ) {
        if histogram.count > 0 {
            let counts = histogram.counts.into();
            let (count, sum) = (histogram.count, histogram.sum);
            self.point(labels, Value::Histogram { bounds, counts, count, sum });
        }
    }

    fn point(&mut self, labels: &[(&'static str, &str)], value: Value) {
        let labels = labels.iter().filter(|(_, value)| !value.is_empty());
        let labels = labels.map(|(name, value)| (*name, Box::from(*value))).collect();
        if let Some(family) = self.families.last_mut() {
            family.points.push(Point { labels, value });
        }
    }

    /// The families.
    pub(super) fn families(&self) -> &[Family] {
        &self.families
    }

    /// In Prometheus's text format.
    pub fn into_text(self) -> String {
        let mut text = String::new();
        for family in &self.families {
            family.write(&mut text);
        }
        text
    }
}

// === impl Family ===

impl Family {
    /// The name in Prometheus's form.
    fn prometheus(&self) -> String {
        let unit = match self.unit {
            "s" => "_seconds",
            "us" => "_microseconds",
            "usd" => "_usd",
            "By" => "_bytes",
            _ => "", // what is counted is in the name
        };
        let total = if self.kind == Kind::Counter { "_total" } else { "" };
        format!("{}{unit}{total}", self.name.replace('.', "_"))
    }

    fn write(&self, text: &mut String) {
        let name = self.prometheus();
        let kind = match self.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} {kind}", self.help);
        for Point { labels, value } in &self.points {
            match value {
                Value::Number(number) => line(text, &name, "", labels, None, number),
                Value::Histogram { bounds, counts, count, sum } => {
                    let mut below = 0;
                    for (bound, count) in bounds.iter().zip(counts) {
                        below += count;
                        line(text, &name, "_bucket", labels, Some(&bound.to_string()), &below);
                    }
                    line(text, &name, "_bucket", labels, Some("+Inf"), count);
                    line(text, &name, "_sum", labels, None, sum);
                    line(text, &name, "_count", labels, None, count);
                }
            }
        }
    }
}

/// A line of a series.
fn line(
    text: &mut String,
    name: &str,
    suffix: &str,
    labels: &[(&'static str, Box<str>)],
    bound: Option<&str>,
    value: &dyn fmt::Display,
) {
    let _ = write!(text, "{name}{suffix}");
    let all = labels.iter().map(|(name, value)| (*name, &**value)).chain(bound.map(|bound| ("le", bound)));
    let mut separator = '{';
    for (name, value) in all {
        let _ = write!(text, "{separator}{}=\"", name.replace('.', "_"));
        for c in value.chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                c => text.push(c),
            }
        }
        text.push('"');
        separator = ',';
    }
    if separator == ',' {
        text.push('}');
    }
    let _ = writeln!(text, " {value}");
}
