//! The line of a request in the log, at `info`, with the target `cproxy::request`. Written from the request's
//! record after it has ended, so that no request waits for its formatting.

use std::time::Duration;

use crate::ledger::Priced;
use crate::ledger::report::dollars;

/// The target of these lines.
pub const TARGET: &str = "cproxy::request";

/// Writes the line. `timings`: also how long each phase took.
pub fn line(priced: &Priced, timings: bool) {
    if !tracing::enabled!(target: TARGET, tracing::Level::INFO) {
        return;
    }
    let record = &priced.record;
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let timed = |duration: Option<Duration>| duration.filter(|_| timings).map(ms);
    let served = record.served();
    let usage = record.usage();
    tracing::info!(
        target: TARGET,
        request = &*record.id,
        began = %humantime::format_rfc3339_millis(record.began),
        front = record.front,
        session = record.session.as_deref(),
        agent = record.agent.as_deref(),
        model = &*record.model,
        provider = served.map(|served| served.provider.as_str()),
        upstream_model = served.map(|served| &*served.model),
        attempts = record.made().count(),
        route = &*record.route,
        healed = (!record.healed.is_empty()).then(|| record.healed.join(",")),
        outcome = record.outcome.as_str(),
        fault = record.fault.map(|fault| fault.as_str()),
        cached = record.cached.then_some(true),
        queue_ms = timed(Some(record.queue)),
        connect_ms = timed(record.connect),
        first_byte_ms = timed(record.first_byte),
        first_output_ms = timed(record.first_output),
        total_ms = timed(Some(record.total)),
        overhead_us = record.overhead.filter(|_| timings).map(|overhead| u64::try_from(overhead.as_micros()).unwrap_or(u64::MAX)),
        input = usage.map(|usage| usage.input),
        cache_read = usage.map(|usage| usage.cache_read),
        cache_creation = usage.map(|usage| usage.cache_creation),
        output = usage.map(|usage| usage.output),
        thinking = usage.and_then(|usage| usage.thinking),
        estimated = usage.filter(|usage| usage.estimated).map(|_| true),
        cost_usd = priced.cost().map(dollars),
        "request"
    );
}
