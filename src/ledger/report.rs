//! What the ledger says, for people and for machines: usage by day, provider, model, session or agent.

use std::path::Path;
use std::time::SystemTime;

use rusqlite::{Row, params};
use serde::Serialize;

use super::budget::Scope;
use super::record::{Priced, Record};
use super::store::{Store, StoreError, millis_since_1970};

/// What is added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// What the lines stand for.
    pub by: By,
    /// From when on; `None` is from the beginning.
    pub since: Option<SystemTime>,
    /// Most lines; the total holds the others too.
    pub limit: u32,
}

/// What the lines of a report stand for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// Days, by UTC.
    #[default]
    Day,
    /// Providers, by their names in the config.
    Provider,
    /// Models, as their providers name them.
    Model,
    /// Sessions of callers.
    Session,
    /// Agents of callers.
    Agent,
}

/// Usage and cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// What the lines stand for.
    pub by: By,
    /// Days in order; all else by cost, then by tokens, the most first.
    pub lines: Vec<Line>,
    /// All lines together, those beyond the limit too.
    pub total: Line,
    /// By session and agent: the last day of which only the sum is known; it and those before are in the line without
    /// a key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sums_until: Option<String>,
}

/// A line of a report.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Line {
    /// What it stands for; `None` where requests named none.
    pub key: Option<String>,
    /// Requests.
    pub requests: u64,
    /// Those of them that ended with an error.
    pub errors: u64,
    /// Attempts that were made for them.
    pub attempts: u64,
    /// Those of them that failed.
    pub failures: u64,
    /// Input tokens, neither read from nor written to a prompt cache.
    pub input: u64,
    /// Input tokens read from a prompt cache.
    pub cache_read: u64,
    /// Input tokens written to a prompt cache.
    pub cache_creation: u64,
    /// Output tokens.
    pub output: u64,
    /// Those of them that were reasoning, where upstreams say so.
    pub thinking: u64,
    /// Attempts whose tokens are estimates of ours.
    pub estimated: u64,
    /// US dollars, as far as they are known; `None` if nothing is.
    pub cost_usd: Option<f64>,
    /// Attempts whose cost is unknown, and is not in `cost_usd`.
    pub cost_unknown: u64,
}

// === impl By ===

impl By {
    /// The word that stands above the column.
    pub fn as_str(self) -> &'static str {
        match self {
            By::Day => "day",
            By::Provider => "provider",
            By::Model => "model",
            By::Session => "session",
            By::Agent => "agent",
        }
    }

    fn column(self) -> &'static str {
        match self {
            By::Day => "strftime('%Y-%m-%d', r.at / 1000, 'unixepoch')",
            By::Provider => "a.provider",
            By::Model => "a.model",
            By::Session => "r.session",
            By::Agent => "r.agent",
        }
    }
}

impl Default for Query {
    fn default() -> Query {
        Query { by: By::Day, since: None, limit: 1000 }
    }
}

/// Adds up what the database at `path` holds. Reads only; blocks. No database yet is an empty report.
pub fn read(path: &Path, query: Query) -> Result<Report, StoreError> {
    match Store::open_to_read(path)? {
        Some(store) => store.report(query),
        None => Ok(Report { by: query.by, lines: Vec::new(), total: Line::default(), sums_until: None }),
    }
}

/// What was passed over cost nothing and used nothing; it would only add providers that did no work.
pub(super) const REQUESTS: &str = "FROM requests r LEFT JOIN attempts a ON a.request = r.key AND a.admitted";

/// The figures of a line, in the order of the columns of `sums`.
pub(super) const SUMS: &str = "
    COUNT(DISTINCT r.key) AS requests,
    COUNT(DISTINCT CASE WHEN r.outcome IN ('failed', 'broken') THEN r.key END),
    COALESCE(SUM(a.admitted), 0),
    COALESCE(SUM(a.admitted AND a.outcome NOT IN ('ok', 'left')), 0),
    COALESCE(SUM(a.input), 0), COALESCE(SUM(a.cache_read), 0), COALESCE(SUM(a.cache_creation), 0),
    COALESCE(SUM(a.output), 0), COALESCE(SUM(a.thinking), 0), COALESCE(SUM(a.estimated), 0),
    SUM(a.cost_micros), COALESCE(SUM(a.n IS NOT NULL AND a.cost_micros IS NULL), 0)";

/// The same of days that are summed up already.
const COLUMNS: &str =
    "requests, errors, attempts, failures, input, cache_read, cache_creation, output, thinking,
    estimated, cost_micros, cost_unknown";

impl Store {
    /// Adds up.
    pub fn report(&self, query: Query) -> Result<Report, StoreError> {
        self.sum_up(query).map_err(|error| self.error(&error))
    }

    fn sum_up(&self, query: Query) -> rusqlite::Result<Report> {
        let since = query.since.map_or(0, millis_since_1970);
        let kind = match query.by {
            By::Day | By::Session | By::Agent => "day",
            By::Provider => "provider",
            By::Model => "model",
        };
        // Of days that are summed up already it is not known whose sessions they were.
        let key = match query.by {
            By::Day => "day",
            By::Provider | By::Model => "NULLIF(key, '')",
            By::Session | By::Agent => "NULL",
        };
        let (now, before) =
            (format!("{REQUESTS} WHERE r.at >= ?1"), "day >= strftime('%Y-%m-%d', ?1 / 1000, 'unixepoch')");
        let column = query.by.column();
        let lines = format!(
            "SELECT {column} AS key, {SUMS} {now} GROUP BY 1
             UNION ALL SELECT {key}, {COLUMNS} FROM sums WHERE kind = '{kind}' AND {before}"
        );
        let total = format!(
            "SELECT NULL AS key, {SUMS} {now} UNION ALL SELECT NULL, {COLUMNS} FROM sums WHERE kind = 'day' AND {before}"
        );
        let order = match query.by {
            By::Day => "1 DESC", // so that the limit keeps the last days
            _ => "12 DESC NULLS LAST, SUM(input + cache_read + cache_creation + output) DESC, 2 DESC, 1",
        };
        let added = "SUM(requests), SUM(errors), SUM(attempts), SUM(failures), SUM(input), SUM(cache_read),
            SUM(cache_creation), SUM(output), SUM(thinking), SUM(estimated), SUM(cost_micros), SUM(cost_unknown)";
        let names = format!("both (key, {COLUMNS})");
        let mut lines: Vec<Line> = self
            .connection()
            .prepare(&format!(
                "WITH {names} AS ({lines}) SELECT key, {added} FROM both GROUP BY 1 ORDER BY {order} LIMIT ?2"
            ))?
            .query_map(params![since, query.limit], Line::read)?
            .collect::<rusqlite::Result<_>>()?;
        if query.by == By::Day {
            lines.reverse();
        }
        let total = format!("WITH {names} AS ({total}) SELECT NULL, {added} FROM both");
        let total = self.connection().query_row(&total, params![since], Line::read)?;
        let summed = format!("SELECT MAX(day) FROM sums WHERE {before}");
        let summed: Option<String> = match query.by {
            By::Session | By::Agent => {
                self.connection().query_row(&summed, params![since], |row| row.get(0))?
            }
            By::Day | By::Provider | By::Model => None,
        };
        Ok(Report { by: query.by, lines, total, sums_until: summed })
    }
}

impl Store {
    /// What was spent before `before` in the day and month of that moment, and by sessions and agents in the thirty
    /// days before it: what budgets begin with.
    pub fn spent(&self, before: SystemTime) -> Result<Vec<Spent>, StoreError> {
        let mut spent = Vec::new();
        let queries = [
            (
                Scope::Day,
                "NULL",
                "strftime('%Y-%m-%d', r.at / 1000, 'unixepoch') = strftime('%Y-%m-%d', ?1 / 1000, 'unixepoch')",
            ),
            (
                Scope::Month,
                "NULL",
                "strftime('%Y-%m', r.at / 1000, 'unixepoch') = strftime('%Y-%m', ?1 / 1000, 'unixepoch')",
            ),
            (Scope::Session, "r.session", "r.session IS NOT NULL"),
            (Scope::Agent, "r.agent", "r.agent IS NOT NULL"),
        ];
        for (scope, name, which) in queries {
            let sql = format!(
                "SELECT {name}, SUM(a.cost_micros) AS cost FROM requests r JOIN attempts a ON a.request = r.key
                 WHERE r.at < ?1 AND r.at > ?1 - 31 * 86400000 AND {which} GROUP BY 1 HAVING cost > 0 ORDER BY MAX(r.at) DESC LIMIT 10000"
            );
            let read = || -> rusqlite::Result<Vec<Spent>> {
                let row = |row: &Row<'_>| Ok(Spent { scope, name: row.get(0)?, cost: row.get(1)? });
                self.connection().prepare(&sql)?.query_map([millis_since_1970(before)], row)?.collect()
            };
            spent.extend(read().map_err(|error| self.error(&error))?);
        }
        Ok(spent)
    }
}

/// What was spent of a budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spent {
    /// The budget.
    pub scope: Scope,
    /// The session or agent.
    pub name: Option<String>,
    /// Millionths of a US dollar.
    pub cost: i64,
}

// === impl Line ===

impl Line {
    fn read(row: &Row<'_>) -> rusqlite::Result<Line> {
        let number = |at: usize| {
            row.get::<_, Option<i64>>(at)
                .map(|number| number.unwrap_or(0))
                .map(|number| u64::try_from(number).unwrap_or(0))
        };
        Ok(Line {
            key: row.get(0)?,
            requests: number(1)?,
            errors: number(2)?,
            attempts: number(3)?,
            failures: number(4)?,
            input: number(5)?,
            cache_read: number(6)?,
            cache_creation: number(7)?,
            output: number(8)?,
            thinking: number(9)?,
            estimated: number(10)?,
            cost_usd: row.get::<_, Option<i64>>(11)?.map(dollars),
            cost_unknown: number(12)?,
        })
    }

    /// The cost for people: `$1.23`, `$1.23 + ?` where a part is unknown, `?` where all is.
    pub fn cost(&self) -> String {
        match (self.cost_usd, self.cost_unknown) {
            (None, 0) => "$0.00".to_owned(),
            (None, _) => "?".to_owned(),
            (Some(known), 0) => money(known),
            // Free is what was refused; next to something unknown it says nothing.
            (Some(0.0), _) => "?".to_owned(),
            (Some(known), _) => format!("{} + ?", money(known)),
        }
    }
}

/// A request that has ended, for `cproxy://requests/recent` and the status page.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recent {
    /// Its id.
    pub id: String,
    /// When it began, by RFC 3339.
    pub began: String,
    /// The front.
    pub front: &'static str,
    /// The session.
    pub session: Option<String>,
    /// The agent.
    pub agent: Option<String>,
    /// The model that was asked for.
    pub model: String,
    /// Who was tried, with what result.
    pub route: String,
    /// How it ended: `ok`, `failed`, `broken`, `left`.
    pub outcome: &'static str,
    /// What went wrong.
    pub fault: Option<&'static str>,
    /// Whether it came out of the cache.
    pub cached: bool,
    /// Attempts that were made.
    pub attempts: usize,
    /// Milliseconds to the first output.
    pub first_output_ms: Option<u64>,
    /// Milliseconds in all.
    pub total_ms: u64,
    /// Input tokens, whatever bucket they are in.
    pub input_tokens: Option<u64>,
    /// Output tokens.
    pub output_tokens: Option<u64>,
    /// US dollars, if known.
    pub cost_usd: Option<f64>,
}

impl From<&Priced> for Recent {
    fn from(priced: &Priced) -> Recent {
        let record: &Record = &priced.record;
        let ms = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let usage = record.usage();
        Recent {
            id: record.id.to_string(),
            began: humantime::format_rfc3339_millis(record.began).to_string(),
            front: record.front,
            session: record.session.as_deref().map(str::to_owned),
            agent: record.agent.as_deref().map(str::to_owned),
            model: record.model.to_string(),
            route: record.route.clone(),
            outcome: record.outcome.as_str(),
            fault: record.fault.map(|fault| fault.as_str()),
            cached: record.cached,
            attempts: record.made().count(),
            first_output_ms: record.first_output.map(ms),
            total_ms: ms(record.total),
            input_tokens: usage.map(|usage| usage.total_input()),
            output_tokens: usage.map(|usage| usage.output),
            cost_usd: priced.cost().map(dollars),
        }
    }
}

/// Millionths of a US dollar as dollars.
pub fn dollars(micros: i64) -> f64 {
    micros as f64 / 1e6
}

fn money(dollars: f64) -> String {
    if dollars != 0.0 && dollars.abs() < 0.01 { format!("${dollars:.4}") } else { format!("${dollars:.2}") }
}
