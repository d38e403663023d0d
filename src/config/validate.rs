//! Checks what types can't: that names exist, limits don't contradict each other, addresses and headers are
//! legal, and nothing is open to the network by accident. Also brings base URLs into their normal form.

use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::document::{Document, KeyPath};
use super::{Config, ProviderId, suggest};

mod provider;
mod rules;

pub use provider::VARIANTS;

/// Longer than this is no deadline; and sums of durations stay far from what a clock can hold.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// What a check needs: the place to report to, and the place for what is legal but strange.
struct Check<'c, 'd> {
    document: &'c mut Document<'d>,
    warnings: &'c mut Vec<String>,
    /// Every provider that the file names, those with mistakes included.
    providers: Vec<String>,
}

/// Checks a config whose types are right. Problems go to the document.
pub fn validate(config: &mut Config, document: &mut Document<'_>, warnings: &mut Vec<String>) {
    let named = document.get(&KeyPath::of(["providers"])).and_then(|value| value.get_ref().as_table());
    let providers =
        named.map(|table| table.keys().map(|name| name.get_ref().to_string()).collect()).unwrap_or_default();
    let mut check = Check { document, warnings, providers };
    server(config, &mut check);
    for (id, provider) in &mut config.providers {
        provider::provider(id, provider, &mut check);
    }
    models(config, &mut check);
    routing(config, &mut check);
    rules::rules(config, &mut check);
    others(config, &mut check);
    otlp(config, &mut check);
}

// === impl Check ===

impl Check<'_, '_> {
    fn report(&mut self, path: &KeyPath, reason: impl Into<String>) {
        self.document.report(path, reason);
    }

    fn warn(&mut self, text: impl Into<String>) {
        self.warnings.push(text.into());
    }

    /// Reports a provider that nobody defines.
    fn known_provider(&mut self, path: &KeyPath, id: &ProviderId) {
        if !self.providers.iter().any(|known| known == id.as_str()) {
            let suggestion = suggest::nearest(id.as_str(), self.providers.iter().map(String::as_str));
            let suggestion = suggestion.map(String::from);
            let reason = match self.providers.is_empty() {
                true => format!("unknown provider \"{id}\": no provider is defined"),
                false => format!("unknown provider \"{id}\" (defined: {})", self.providers.join(", ")),
            };
            self.document.report_with(path, super::error::mask(&reason), suggestion.as_deref());
        }
    }

    /// Reports a duration that is 0 where that means nothing, or absurdly long.
    fn duration(&mut self, path: &KeyPath, value: Duration, zero_is_fine: bool) {
        if value.is_zero() && !zero_is_fine {
            self.report(path, "must be longer than 0");
        } else if value > LONGEST {
            self.report(path, "longer than a week; leave room for a mistake to end");
        }
    }

    fn at_least_one(&mut self, path: &KeyPath, value: u64) {
        if value == 0 {
            self.report(path, "0 would let nothing through; 1 is the least");
        }
    }
}

// === sections ===

fn server(config: &Config, check: &mut Check<'_, '_>) {
    let path = KeyPath::of(["server"]);
    let server = &config.server;
    if !server.host.is_loopback() && server.token_file.is_none() && check.document.is_clean(&path) {
        check.report(
            &path.key("host"),
            format!(
                "{} can be reached from other machines, and needs server.token_file (a file with the token that \
                 callers must send; it is made if it is not there); or listen on 127.0.0.1",
                server.host
            ),
        );
    }
    check.at_least_one(&path.key("max_requests"), server.max_requests as u64);
    check.at_least_one(&path.key("max_connections"), server.max_connections as u64);
    check.duration(&path.key("drain"), server.drain, true);
}

fn models(config: &Config, check: &mut Check<'_, '_>) {
    let path = KeyPath::of(["models"]);
    for alias in &config.models {
        for target in &alias.targets {
            check.known_provider(&path.key(&alias.pattern), &target.provider);
        }
    }
    let catch_all = config.models.iter().position(|alias| alias.pattern == "*");
    if let Some(at) = catch_all.filter(|at| at + 1 < config.models.len()) {
        check.warn(format!(
            "the alias \"*\" matches every model: the {} after it never match",
            config.models.len() - at - 1
        ));
    }
}

fn routing(config: &Config, check: &mut Check<'_, '_>) {
    let path = KeyPath::of(["routing"]);
    let routing = &config.routing;
    for (key, id) in
        [("default_provider", &routing.default_provider), ("fallback_provider", &routing.fallback_provider)]
    {
        let Some(id) = id else { continue };
        check.known_provider(&path.key(key), id);
        if config.providers.get(id.as_str()).is_some_and(|provider| provider.disabled) {
            check.warn(format!("routing.{key} is \"{id}\", which is disabled"));
        }
    }
    if routing.retry_attempts > 10 {
        check.report(&path.key("retry_attempts"), "more than 10 retries would only prolong an outage");
    }
    if routing.max_hops > 32 {
        check.report(&path.key("max_hops"), "more than 32 candidates for one request");
    }
    check.at_least_one(&path.key("max_hops"), routing.max_hops.into());
    check.duration(&path.key("retry_delay"), routing.retry_delay, true);
    check.duration(&path.key("deadline"), routing.deadline, false);
    check.duration(&path.key("max_wait"), routing.max_wait, true);
    if routing.retry_delay > routing.deadline && !routing.deadline.is_zero() {
        check.report(&path.key("retry_delay"), "longer than routing.deadline: no retry would ever be made");
    }

    let hedge = &routing.hedge;
    let at = path.key("hedge");
    check.duration(&at.key("min_delay"), hedge.min_delay, true);
    check.duration(&at.key("max_delay"), hedge.max_delay, false);
    if hedge.min_delay > hedge.max_delay {
        check.report(&at.key("min_delay"), "longer than routing.hedge.max_delay");
    }
    if !(0.0..=1.0).contains(&hedge.budget) {
        check.report(&at.key("budget"), "must be a share of the requests, from 0 to 1");
    }

    let score = &routing.score;
    let shares = [
        ("priority", score.priority),
        ("load", score.load),
        ("latency", score.latency),
        ("cost", score.cost),
    ];
    for (key, share) in shares {
        if !share.is_finite() || !(0.0..=1000.0).contains(&share) {
            check.report(&path.key("score").key(key), "must be a number from 0 to 1000");
        }
    }
    if shares.iter().all(|(_, share)| *share == 0.0) {
        check.report(&path.key("score"), "all shares are 0: nothing would count");
    }
}

/// The least that is kept: budgets of a month look back as far.
const SHORTEST_KEEP: u32 = 32;

/// Brings the collector's address into its normal form.
fn otlp(config: &mut Config, check: &mut Check<'_, '_>) {
    let path = KeyPath::of(["otlp"]);
    if let Some(endpoint) = &config.otlp.endpoint {
        match super::address::server(endpoint) {
            Ok(normal) => config.otlp.endpoint = Some(normal),
            Err(reason) if config.otlp.enabled => check.report(&path.key("endpoint"), reason),
            Err(_) => {} // nothing is sent there
        }
    }
    check.duration(&path.key("interval"), config.otlp.interval, false);
}

fn others(config: &Config, check: &mut Check<'_, '_>) {
    let cache = KeyPath::of(["cache"]);
    check.duration(&cache.key("ttl"), config.cache.ttl, !config.cache.enabled);
    if config.cache.enabled && config.cache.max_size.0 == 0 {
        check.report(&cache.key("max_size"), "0 bytes hold no answer; use enabled = false");
    }
    if EnvFilter::builder().parse(&config.logging.level).is_err() || config.logging.level.trim().is_empty() {
        check.report(
            &KeyPath::of(["logging", "level"]),
            "neither a level (error, warn, info, debug, trace, off) nor a filter such as \
             \"info,cproxy::exchange=debug\"",
        );
    }
    let logging = KeyPath::of(["logging"]);
    check.at_least_one(&logging.key("max_files"), config.logging.max_files.into());
    if config.logging.max_size.0 < 64 << 10 {
        check.report(&logging.key("max_size"), "less than 64KiB: files would be set aside all the time");
    }
    let budgets = &config.budgets;
    for (key, budget) in [
        ("day", budgets.day),
        ("month", budgets.month),
        ("session", budgets.session),
        ("agent", budgets.agent),
    ] {
        let path = KeyPath::of(["budgets"]).key(key);
        for (mark, dollars) in [("warn", budget.warn), ("stop", budget.stop)] {
            if dollars.is_some_and(|dollars| !dollars.is_finite() || !(0.0..=1e9).contains(&dollars)) {
                check.report(&path.key(mark), "must be a number of US dollars from 0 on");
            }
        }
        if let (Some(warn), Some(stop)) = (budget.warn, budget.stop)
            && warn > stop
        {
            check.report(&path.key("warn"), "above stop: it would never warn before it stops");
        }
    }
    for (name, price) in &config.prices {
        let path = KeyPath::of(["prices"]).key(name);
        let figures = [
            ("input", Some(price.input)),
            ("output", Some(price.output)),
            ("cache_read", price.cache_read),
            ("cache_write", price.cache_write),
        ];
        for (sort, dollars) in figures {
            if dollars.is_some_and(|dollars| !(0.0..=1e6).contains(&dollars)) {
                check.report(
                    &path.key(sort),
                    "must be a number of US dollars for a million tokens, from 0 on",
                );
            }
        }
    }
    if config.ledger.keep_days < SHORTEST_KEEP {
        check.report(
            &KeyPath::of(["ledger", "keep_days"]),
            "less than 32 days: budgets of a month look back as far",
        );
    }
    if config.mcp.default_model.as_deref().is_some_and(|model| model.trim().is_empty()) {
        check.report(&KeyPath::of(["mcp", "default_model"]), "must not be empty; leave it out");
    }
    if config.faults.plan.is_some() && !config.faults.enabled {
        check.warn("faults.plan is set, but faults.enabled is false: no fault will be injected");
    }
}

#[cfg(test)]
mod tests;
