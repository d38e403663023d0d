//! Metrics and traces in the words of the OpenTelemetry Protocol. Pure: from what was measured, and from the records of
//! requests that have ended, to the bytes that a collector takes.
//!
//! A request is a span, and each of its attempts at a provider one below it. They are made from the request's record
//! when it has ended: on its path nothing is done for them. Prompts and answers are in none of them.
//!
//! Sources: OpenTelemetry, "OTLP Specification", "Semantic conventions for generative client AI spans".

use std::time::{Duration, SystemTime};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1 as proto;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message as _;
use sha2::{Digest, Sha256};

use super::metrics::{Family, Kind, Page, Point, Value, system};
use crate::ledger::report::dollars;
use crate::ledger::{Attempt, Ended, Outcome, Priced};

/// The body of a request to `/v1/metrics`. Counts have grown since `start`.
pub fn metrics(page: &Page, start: SystemTime, now: SystemTime) -> Vec<u8> {
    let times = (nanos(start), nanos(now));
    let metrics = page.families().iter().filter(|family| !family.points.is_empty());
    let metrics = metrics.map(|family| metric(family, times)).collect();
    let scope = proto::ScopeMetrics { scope: Some(scope()), metrics, ..Default::default() };
    let resource = Some(resource());
    let all = proto::ResourceMetrics { resource, scope_metrics: vec![scope], ..Default::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![all] }.encode_to_vec()
}

/// The body of a request to `/v1/traces`.
pub fn traces<'a>(requests: impl Iterator<Item = &'a Priced>) -> Vec<u8> {
    let spans = requests.flat_map(spans).collect();
    let scope = ScopeSpans { scope: Some(scope()), spans, ..Default::default() };
    let all = ResourceSpans { resource: Some(resource()), scope_spans: vec![scope], ..Default::default() };
    ExportTraceServiceRequest { resource_spans: vec![all] }.encode_to_vec()
}

/// Who speaks.
fn resource() -> Resource {
    let attributes = vec![
        text("service.name", "cproxy"),
        text("service.version", env!("CARGO_PKG_VERSION")),
        number("process.pid", i64::from(std::process::id())),
    ];
    Resource { attributes, ..Default::default() }
}

fn scope() -> InstrumentationScope {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    InstrumentationScope { name: "cproxy".to_owned(), version, ..Default::default() }
}

fn metric(family: &Family, (start, now): (u64, u64)) -> proto::Metric {
    let attributes =
        |point: &Point| point.labels.iter().map(|(name, value)| text(name, value)).collect::<Vec<_>>();
    let cumulative = proto::AggregationTemporality::Cumulative.into();
    let numbers = || {
        let points = family.points.iter().filter_map(|point| match point.value {
            Value::Number(number) => Some(proto::NumberDataPoint {
                attributes: attributes(point),
                start_time_unix_nano: start,
                time_unix_nano: now,
                value: Some(proto::number_data_point::Value::AsDouble(number)),
                ..Default::default()
            }),
            Value::Histogram { .. } => None,
        });
        points.collect()
    };
    let data = match family.kind {
        Kind::Gauge => proto::metric::Data::Gauge(proto::Gauge { data_points: numbers() }),
        Kind::Counter => proto::metric::Data::Sum(proto::Sum {
            data_points: numbers(),
            aggregation_temporality: cumulative,
            is_monotonic: true,
        }),
        Kind::Histogram => {
            let points = family.points.iter().filter_map(|point| match &point.value {
                Value::Number(_) => None,
                Value::Histogram { bounds, counts, count, sum } => {
                    let beyond = count.saturating_sub(counts.iter().sum());
                    Some(proto::HistogramDataPoint {
                        attributes: attributes(point),
                        start_time_unix_nano: start,
                        time_unix_nano: now,
                        count: *count,
                        sum: Some(*sum),
                        bucket_counts: counts.iter().copied().chain([beyond]).collect(),
                        explicit_bounds: bounds.to_vec(),
                        ..Default::default()
                    })
                }
            });
            let data_points = points.collect();
            proto::metric::Data::Histogram(proto::Histogram {
                data_points,
                aggregation_temporality: cumulative,
            })
        }
    };
    proto::Metric {
        name: family.name.to_owned(),
        description: family.help.to_owned(),
        unit: family.unit.to_owned(),
        data: Some(data),
        ..Default::default()
    }
}

/// The spans of a request, its own first.
fn spans(priced: &Priced) -> Vec<Span> {
    let record = &priced.record;
    let trace = ids(&record.id, 0);
    let id = trace.get(16..24).unwrap_or_default().to_vec();
    let trace = trace.get(..16).unwrap_or_default().to_vec();
    let usage = record.usage();
    let failed = matches!(record.outcome, Outcome::Failed | Outcome::Broken);
    let mut attributes = vec![
        text("cproxy.request.id", &record.id),
        text("cproxy.front", record.front),
        text("cproxy.outcome", record.outcome.as_str()),
        text("cproxy.route", &record.route),
        text("gen_ai.operation.name", "chat"),
        text("gen_ai.request.model", &record.model),
        KeyValue {
            key: "cproxy.cached".into(),
            value: Some(any(Any::BoolValue(record.cached))),
            ..Default::default()
        },
        double("cproxy.queue_ms", ms(record.queue)),
    ];
    attributes.extend(record.session.as_deref().map(|session| text("gen_ai.conversation.id", session)));
    attributes.extend(record.agent.as_deref().map(|agent| text("gen_ai.agent.id", agent)));
    attributes.extend(record.fault.map(|fault| text("error.type", fault.as_str())));
    attributes.extend(record.connect.map(|took| double("cproxy.connect_ms", ms(took))));
    attributes.extend(record.first_byte.map(|first| double("cproxy.first_byte_ms", ms(first))));
    attributes.extend(record.first_output.map(|first| double("cproxy.first_output_ms", ms(first))));
    attributes
        .extend(record.overhead.map(|overhead| double("cproxy.overhead_us", overhead.as_secs_f64() * 1e6)));
    attributes.extend(priced.cost().map(|cost| double("cproxy.cost_usd", dollars(cost))));
    if let Some(usage) = &usage {
        attributes.extend(tokens(usage));
    }
    let passed_over = record.attempts.iter().filter(|attempt| matches!(attempt.ended, Ended::NotAdmitted(_)));
    let passed_over = passed_over.map(|attempt| Event {
        time_unix_nano: nanos(record.began + attempt.at),
        name: "not admitted".to_owned(),
        attributes: vec![
            text("cproxy.provider", attempt.provider.as_str()),
            text("gen_ai.request.model", &attempt.model),
            text("error.type", attempt.ended.as_str()),
        ],
        ..Default::default()
    });
    let first = record.first_output.map(|at| Event {
        time_unix_nano: nanos(record.began + at),
        name: "first output".to_owned(),
        ..Default::default()
    });
    let request = Span {
        trace_id: trace.clone(),
        span_id: id.clone(),
        name: format!("request {}", record.front),
        kind: SpanKind::Server.into(),
        start_time_unix_nano: nanos(record.began),
        end_time_unix_nano: nanos(record.began + record.total),
        attributes,
        events: passed_over.chain(first).collect(),
        status: Some(status(failed, record.fault.map_or("", |fault| fault.as_str()))),
        ..Default::default()
    };
    let below = record.attempts.iter().zip(&priced.costs).enumerate();
    let below = below.filter(|(_, (attempt, _))| !matches!(attempt.ended, Ended::NotAdmitted(_)));
    let below = below.map(|(n, (attempt, cost))| {
        let own = ids(&record.id, n + 1);
        Span {
            trace_id: trace.clone(),
            parent_span_id: id.clone(),
            span_id: own.get(16..24).unwrap_or_default().to_vec(),
            ..of_attempt(attempt, *cost, record.began)
        }
    });
    let mut spans = vec![request];
    spans.extend(below);
    spans
}

fn of_attempt(attempt: &Attempt, cost: Option<i64>, began: SystemTime) -> Span {
    let start = began + attempt.at;
    let error = match attempt.ended {
        Ended::Ok => None,
        ended => Some(ended.as_str()),
    };
    let mut attributes = vec![
        text("gen_ai.operation.name", "chat"),
        text("gen_ai.provider.name", system(attempt.kind.as_str())),
        text("gen_ai.request.model", &attempt.model),
        text("cproxy.provider", attempt.provider.as_str()),
    ];
    attributes.extend(error.map(|error| text("error.type", error)));
    attributes.extend(cost.map(|cost| double("cproxy.cost_usd", dollars(cost))));
    if let Some(usage) = &attempt.usage {
        attributes.extend(tokens(usage));
    }
    Span {
        name: format!("chat {}", attempt.model),
        kind: SpanKind::Client.into(),
        start_time_unix_nano: nanos(start),
        end_time_unix_nano: nanos(start + attempt.took),
        attributes,
        // That the caller left is no error of the provider's.
        status: Some(status(matches!(attempt.ended, Ended::Fault(_)), error.unwrap_or_default())),
        ..Default::default()
    }
}

/// Tokens by the conventions, whose input holds what was read from and written to a cache.
fn tokens(usage: &crate::dialect::Usage) -> impl Iterator<Item = KeyValue> {
    let count = |tokens: u64| i64::try_from(tokens).unwrap_or(i64::MAX);
    [
        number("gen_ai.usage.input_tokens", count(usage.total_input())),
        number("gen_ai.usage.output_tokens", count(usage.output)),
        number("gen_ai.usage.cache_read.input_tokens", count(usage.cache_read)),
        number("gen_ai.usage.cache_creation.input_tokens", count(usage.cache_creation)),
    ]
    .into_iter()
}

fn status(failed: bool, message: &str) -> Status {
    let code = if failed { StatusCode::Error } else { StatusCode::Unset };
    Status { code: code.into(), message: if failed { message.to_owned() } else { String::new() } }
}

/// Where the ids of a request's trace (16 bytes) and of its n-th span (8 bytes) come from: from the request's own, so
/// that whoever has one finds the other.
fn ids(request: &str, n: usize) -> [u8; 32] {
    let trace = Sha256::digest(request.as_bytes());
    let span = Sha256::new().chain_update(request.as_bytes()).chain_update(n.to_be_bytes()).finalize();
    let mut ids = [0; 32];
    for (to, from) in ids.iter_mut().zip(trace.iter().take(16).chain(span.iter().take(16))) {
        *to = *from;
    }
    ids
}

fn text(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(any(Any::StringValue(value.to_owned()))),
        ..Default::default()
    }
}

fn number(key: &str, value: i64) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(any(Any::IntValue(value))), ..Default::default() }
}

fn double(key: &str, value: f64) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(any(Any::DoubleValue(value))), ..Default::default() }
}

fn any(value: Any) -> AnyValue {
    AnyValue { value: Some(value) }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Nanoseconds since 1970; 0 for times before.
fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
