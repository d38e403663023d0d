//! `cproxy usage`: tokens and cost, read from the ledger; with and without a running daemon.

use std::io::{self, IsTerminal as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Args;

use super::client::DaemonArgs;
use crate::ledger::report::{self, By, Line, Query, Report};
use crate::runtime::clock;

/// What `usage` takes.
#[derive(Clone, Debug, Args)]
pub struct UsageArgs {
    /// What the lines stand for
    #[arg(long, value_enum, default_value_t)]
    by: By,
    /// From when on: a length of time such as `7d` or `12h`, a date such as 2026-02-14 (UTC), or `all`
    #[arg(long, value_name = "WHEN", default_value = "30d", value_parser = since)]
    since: Since,
    /// As JSON
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// As CSV
    #[arg(long)]
    csv: bool,
    /// Most lines; the total holds the others too
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: u32,
    /// The config file, which says where the ledger is
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// From when on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    Always,
    Ago(Duration),
    At(SystemTime),
}

/// Prints the usage.
pub fn run(args: &UsageArgs) -> ExitCode {
    let daemon = DaemonArgs { config: args.config.clone(), ..DaemonArgs::default() };
    let ledger = match daemon.load() {
        Ok(loaded) => loaded.config.ledger,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let Some(path) = &ledger.file else {
        eprintln!(
            "cproxy: no home directory to keep the ledger in; name a file in the config ([ledger] file = …)"
        );
        return ExitCode::FAILURE;
    };
    let since = match args.since {
        Since::Always => None,
        Since::Ago(ago) => clock::wall().checked_sub(ago),
        Since::At(at) => Some(at),
    };
    let query = Query { by: args.by, since, limit: args.limit };
    let report = match report::read(path, query) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("cproxy: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut out = io::stdout().lock();
    let written = if args.json {
        json(&mut out, &report)
    } else if args.csv {
        csv(&mut out, &report)
    } else {
        table(&mut out, &report, io::stdout().is_terminal())
    };
    drop(written); // a reader that has gone is no error
    if report.total.requests == 0 && !args.json && !args.csv {
        let off = if ledger.enabled { "" } else { " ([ledger] enabled = false: nothing is kept)" };
        eprintln!("no requests in that time in {}{off}", path.display());
    }
    ExitCode::SUCCESS
}

/// Reads a point in time as people write it.
fn since(text: &str) -> Result<Since, String> {
    if text == "all" {
        return Ok(Since::Always);
    }
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(Since::Ago(ago));
    }
    let time = humantime::parse_rfc3339_weak(text)
        .or_else(|_| humantime::parse_rfc3339(&format!("{text}T00:00:00Z")));
    time.map(Since::At)
        .map_err(|_| "neither a length of time (7d, 12h), nor a date (2026-02-14), nor all".to_owned())
}

fn json(out: &mut impl Write, report: &Report) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, report)?;
    writeln!(out)
}

fn csv(out: &mut impl Write, report: &Report) -> io::Result<()> {
    writeln!(
        out,
        "{},requests,errors,attempts,failures,input,cache_read,cache_creation,output,thinking,estimated,cost_usd,cost_unknown",
        report.by.as_str()
    )?;
    for line in &report.lines {
        let cost = line.cost_usd.map(|cost| format!("{cost:.6}")).unwrap_or_default();
        writeln!(
            out,
            "{},{},{},{},{},{},{},{},{},{},{},{cost},{}",
            field(line.key.as_deref().unwrap_or_default()),
            line.requests,
            line.errors,
            line.attempts,
            line.failures,
            line.input,
            line.cache_read,
            line.cache_creation,
            line.output,
            line.thinking,
            line.estimated,
            line.cost_unknown,
        )?;
    }
    Ok(())
}

/// A field of a CSV file. Names come from callers: one that a spreadsheet would run as a formula is made text.
/// Source: RFC 4180; OWASP, "CSV Injection".
fn field(text: &str) -> String {
    let text =
        if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

const COLUMNS: [&str; 9] =
    ["requests", "errors", "attempts", "input", "cache read", "cache write", "output", "thinking", "cost"];

fn table(out: &mut impl Write, report: &Report, colour: bool) -> io::Result<()> {
    let cells = |name: &str, line: &Line| -> Vec<String> {
        let mut cells = vec![name.to_owned()];
        let counts = [
            line.requests,
            line.errors,
            line.attempts,
            line.input,
            line.cache_read,
            line.cache_creation,
            line.output,
            line.thinking,
        ];
        cells.extend(counts.iter().map(|count| grouped(*count)));
        cells.push(line.cost());
        cells
    };
    let head = std::iter::once(report.by.as_str()).chain(COLUMNS).map(str::to_owned).collect();
    let mut rows: Vec<Vec<String>> = vec![head];
    rows.extend(report.lines.iter().map(|line| cells(&shown(line.key.as_deref()), line)));
    rows.push(cells("total", &report.total));
    let columns = COLUMNS.len() + 1;
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let last = rows.len() - 1;
    for (n, row) in rows.iter().enumerate() {
        let mut text = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let gap = width - cell.chars().count().min(*width);
            let (before, after) = if column == 0 { (0, gap) } else { (gap + 2, 0) };
            text.extend(std::iter::repeat_n(' ', before));
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', after));
        }
        let text = text.trim_end();
        match colour && (n == 0 || n == last) {
            true => writeln!(out, "\x1b[1m{text}\x1b[0m")?,
            false => writeln!(out, "{text}")?,
        }
    }
    if let Some(day) = &report.sums_until {
        writeln!(
            out,
            "(none): the days up to {day} too, of which only the sums are kept ([ledger] keep_days)"
        )?;
    }
    if report.total.cost_unknown > 0 {
        let n = report.total.cost_unknown;
        writeln!(out, "? : the cost of {n} attempts is unknown: no price, or no figures from the provider")?;
    }
    Ok(())
}

/// A name as it may stand in a terminal: callers chose it.
fn shown(name: Option<&str>) -> String {
    const LONGEST: usize = 48;
    let Some(name) = name else { return "(none)".to_owned() };
    let mut shown: String =
        name.chars().take(LONGEST).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if name.chars().count() > LONGEST {
        shown.push('…');
    }
    shown
}

/// 1234567 as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn report() -> Report {
        let line = |key: Option<&str>, cost_usd, cost_unknown| Line {
            key: key.map(str::to_owned),
            requests: 1234,
            input: 1_234_567,
            cost_usd,
            cost_unknown,
            ..Line::default()
        };
        let lines = vec![
            line(Some("s\x1b[31m,\"1"), Some(1.5), 0),
            line(None, None, 3),
            line(Some("=cmd()"), Some(0.5), 0),
        ];
        Report { by: By::Session, lines, total: line(None, Some(2.0), 3), sums_until: None }
    }

    fn text(write: impl Fn(&mut Vec<u8>, &Report) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        write(&mut out, &report()).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_table_is_aligned_and_no_caller_can_colour_the_terminal() {
        let text = text(|out, report| table(out, report, false));
        let lines: Vec<&str> = text.lines().collect();
        assert!(!text.contains('\x1b'), "{text}");
        assert!(lines[0].starts_with("session"), "{text}");
        let ends: Vec<usize> = lines
            .iter()
            .map(|line| line.split_once("1,234,567").map_or(0, |(before, _)| before.chars().count()))
            .collect();
        assert!(ends[1] > 0 && ends[1..5].iter().all(|end| *end == ends[1]), "{text}");
        assert!(
            lines[1].ends_with("$1.50") && lines[2].ends_with('?') && lines[4].ends_with("$2.00 + ?"),
            "{text}"
        );
        assert!(lines[2].starts_with("(none)"), "{text}");
    }

    #[test]
    fn csv_fields_are_quoted_and_never_formulas_and_an_unknown_cost_is_empty() {
        let text = text(csv);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("\"s\x1b[31m,\"\"1\",1234,0,"), "{text}");
        assert!(lines[2].ends_with(",,3"), "{text}");
        assert!(lines[3].starts_with("'=cmd(),"), "{text}");
    }

    #[test]
    fn json_says_unknown_as_null() {
        let value: serde_json::Value = serde_json::from_str(&text(json)).unwrap();
        assert_eq!(value["by"], "session");
        assert!(value["lines"][1]["cost_usd"].is_null() && value["lines"][1]["cost_unknown"] == 3);
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(since("7d"), Ok(Since::Ago(Duration::from_secs(7 * 86_400))));
        assert_eq!(since("all"), Ok(Since::Always));
        let day = SystemTime::UNIX_EPOCH + Duration::from_secs(20_000 * 86_400);
        assert_eq!(since("2024-10-04"), Ok(Since::At(day)));
        assert!(since("yesterday-ish").is_err());
    }
}
