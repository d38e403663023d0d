//! The pure parts of a request's path, one by one. `cargo bench --bench pure`; benches/README.md records the figures.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]

mod work;

use std::hint::black_box;
use std::time::{Duration, Instant};

use cproxy::config::Config;
use cproxy::dialect::sse::Reader;
use cproxy::dialect::{Head, head};
use cproxy::routing::{Balance, Breaker, BreakerEvent, Bucket, Facts, Inputs, Table, Usable, Vital, plan};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

fn bodies(c: &mut Criterion) {
    let request = work::request();
    let mut group = c.benchmark_group("body");
    group.throughput(Throughput::Bytes(request.len() as u64));
    group.bench_function("scan", |b| b.iter(|| head::scan(black_box(&request)).unwrap()));
    let span = head::scan(&request).unwrap().model_span;
    group.bench_function("splice", |b| b.iter(|| head::splice_model(black_box(&request), &span, "other")));
    group.bench_function("to chat", |b| b.iter(|| work::translate(black_box(&request))));
    group.bench_function("to responses", |b| b.iter(|| work::to_responses(black_box(&request))));
    group.bench_function("to gemini", |b| b.iter(|| work::to_gemini(black_box(&request))));
    group.finish();
}

fn streams(c: &mut Criterion) {
    let (ours, chat) = (work::anthropic_stream(6000), work::chat_stream(5000));
    let mut group = c.benchmark_group("stream");
    group.throughput(Throughput::Bytes(ours.len() as u64));
    let chunks = work::in_chunks(&ours, 1400);
    group.bench_function("sse reader", |b| {
        b.iter(|| {
            let mut reader = Reader::new();
            let mut events = 0;
            for chunk in &chunks {
                reader.push(chunk);
                while reader.next().unwrap().is_some() {
                    events += 1;
                }
            }
            events
        });
    });
    let small = work::request();
    group.bench_function("passed through", |b| b.iter(|| work::pass_through(&small, black_box(&chunks))));
    group.throughput(Throughput::Bytes(chat.len() as u64));
    let chunks = work::in_chunks(&chat, 1400);
    group.bench_function("from chat", |b| b.iter(|| work::translated(&small, black_box(&chunks))));
    group.finish();
}

const PROVIDERS: &str = r#"
    [providers.anthropic]
    kind = "anthropic"
    models = ["claude-*"]
    [providers.openai]
    kind = "openai"
    models = ["gpt-*"]
    [providers.openrouter]
    kind = "openrouter"
    models = ["openai/*", "anthropic/*", "claude-*"]
    priority = 2
    [providers.local]
    kind = "local"
    models = ["qwen3*"]
    priority = 3
"#;

fn routing(c: &mut Criterion) {
    let config: Config = toml::from_str(PROVIDERS).unwrap();
    let table = Table::new(1, &config, |_| Usable::Ready);
    let head = Head { model: "claude-sonnet-4-5".into(), estimated_tokens: 18_000, ..Head::default() };
    let facts = Facts { head, ..Facts::default() };
    let vital = |_: usize, _: &str| Vital { alive: true, healthy: true, headroom: true, ..Vital::default() };
    let mut balance = Balance::default();
    let now = Instant::now();
    c.bench_function("plan", |b| {
        b.iter(|| {
            let inputs = Inputs {
                facts: black_box(&facts),
                table: &table,
                vital: &vital,
                credential: true,
                affinity: None,
                now,
                draw: 7,
                explain: false,
            };
            plan(&inputs, &mut balance)
        });
    });
    c.bench_function("bucket", |b| {
        let mut bucket = Bucket::new(Some(1_000_000_000), Duration::from_secs(60), now);
        b.iter(|| {
            let reserved = bucket.reserve(now, 100).unwrap_or_default();
            bucket.settle(now, reserved, 90);
        });
    });
    c.bench_function("breaker", |b| {
        let well = BreakerEvent::Success { probe: None };
        b.iter_batched_ref(
            Breaker::default,
            |breaker| breaker.on(black_box(well), now, 7),
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(all, bodies, streams, routing);
criterion_main!(all);
