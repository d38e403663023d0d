//! What stands on the terminal: aligned tables and a little colour; in a pipe, plain text.
//!
//! Names and messages from configs and upstreams are shown here, so control characters never pass: they could move
//! the cursor or rename the window.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

/// How a text stands out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tint {
    /// Like all others.
    #[default]
    Plain,
    /// Headings.
    Bold,
    /// Less important.
    Dim,
    /// All is well.
    Good,
    /// Deserves a look.
    Warn,
    /// Broken.
    Bad,
}

/// One cell of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tint: Tint,
}

/// Rows of cells, each column as wide as its widest cell. Columns that are empty all the way down are left out.
#[derive(Clone, Debug, Default)]
pub struct Table {
    heads: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

/// Whether stdout takes colour: a terminal that is not dumb, unless `NO_COLOR` is set (no-color.org).
pub fn colour() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    std::io::stdout().is_terminal()
        && !set("NO_COLOR")
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// The text in its tint.
pub fn paint(text: &str, tint: Tint, colour: bool) -> String {
    let text = clean(text);
    let code = match tint {
        _ if !colour || text.is_empty() => return text,
        Tint::Plain => return text,
        Tint::Bold => "1",
        Tint::Dim => "2",
        Tint::Good => "32",
        Tint::Warn => "33",
        Tint::Bad => "31",
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

/// The text in one line, without control characters and the marks that turn the direction of writing.
pub fn clean(text: &str) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if hidden(c) { ' ' } else { c }).collect()
}

/// Prints to stdout; a reader that has gone is no error.
pub fn say(text: &str) -> ExitCode {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    ExitCode::SUCCESS
}

/// Prints a value as JSON, indented.
pub fn say_json(value: &impl serde::Serialize) -> ExitCode {
    match serde_json::to_string_pretty(value) {
        Ok(text) => say(&format!("{text}\n")),
        Err(error) => fail(&format!("the answer can't be shown as JSON: {error}")),
    }
}

/// Says on stderr why a command failed.
pub fn fail(reason: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "cproxy: {reason}");
    ExitCode::FAILURE
}

/// Asks a yes-or-no question on the terminal. Without one to ask at, the answer is no.
pub fn confirm(question: &str, default: bool) -> bool {
    let choice = if default { "[Y/n]" } else { "[y/N]" };
    match ask(&format!("{question} {choice} ")).as_deref().map(str::trim) {
        None => false,
        Some("") => default,
        Some(answer) => answer.eq_ignore_ascii_case("y") || answer.eq_ignore_ascii_case("yes"),
    }
}

/// Asks for a line on the terminal; `None` where there is nobody to answer.
pub fn ask(question: &str) -> Option<String> {
    if !std::io::stdin().is_terminal() {
        return None;
    }
    let mut err = std::io::stderr();
    let _ = err.write_all(question.as_bytes()).and_then(|()| err.flush());
    let mut line = String::new();
    match std::io::stdin().read_line(&mut line) {
        Ok(1..) => Some(line),
        Ok(0) | Err(_) => None,
    }
}

/// A length of time for people: its two largest units.
pub fn span(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let mut left = seconds;
    let mut parts = Vec::new();
    for (size, unit) in units {
        if left >= size || (size == 1 && parts.is_empty()) {
            parts.push(format!("{}{unit}", left / size));
            left %= size;
        }
        if parts.len() == 2 {
            break;
        }
    }
    parts.join(" ")
}

// === impl Cell ===

impl Cell {
    /// A cell that stands out.
    pub fn new(text: impl Into<String>, tint: Tint) -> Cell {
        Cell { text: text.into(), tint }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Cell {
        Cell { text: text.to_owned(), tint: Tint::Plain }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Cell {
        Cell { text, tint: Tint::Plain }
    }
}

// === impl Table ===

impl Table {
    /// A table with these heads; none for a table without.
    pub fn new(heads: &[&'static str]) -> Table {
        Table { heads: heads.to_vec(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The table as lines, each indented by `indent` spaces.
    pub fn render(&self, indent: usize, colour: bool) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |text: &str| text.chars().count();
        let widths: Vec<Option<usize>> = (0..columns)
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                let widest = cells.map(|cell| width(&cell.text)).max().unwrap_or(0);
                (widest > 0).then(|| widest.max(self.heads.get(column).map_or(0, |head| width(head))))
            })
            .collect();
        let heads: Vec<Cell> = self.heads.iter().map(|head| Cell::new(*head, Tint::Dim)).collect();
        let mut text = String::new();
        for row in
            (!heads.is_empty() && !self.rows.is_empty()).then_some(&heads).into_iter().chain(&self.rows)
        {
            let mut line = " ".repeat(indent);
            let mut gap = 0;
            for (cell, width_of_column) in row.iter().zip(&widths) {
                let Some(widest) = width_of_column else { continue };
                line.push_str(&" ".repeat(gap));
                line.push_str(&paint(&cell.text, cell.tint, colour));
                gap = widest - width(&cell.text).min(*widest) + 2;
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_empty_ones_are_left_out() {
        let mut table = Table::new(&["NAME", "NOTE", "STATE"]);
        table.row(["a".into(), "".into(), Cell::new("ready", Tint::Good)]);
        table.row(["longer".into(), "".into(), "no key".into()]);
        assert_eq!(table.render(2, false), "  NAME    STATE\n  a       ready\n  longer  no key\n");
        assert!(table.render(0, true).contains("a       \u{1b}[32mready\u{1b}[0m\n"));
        assert_eq!(Table::new(&["NAME"]).render(0, false), "");
    }

    #[test]
    fn a_hostile_name_can_not_move_the_cursor() {
        let mut table = Table::new(&[]);
        table.row(["\u{1b}[2Jx\r\n\u{202e}y".into()]);
        assert_eq!(table.render(0, true), " [2Jx   y\n");
    }

    #[test]
    fn a_span_shows_its_two_largest_units() {
        assert_eq!(span(0), "0s");
        assert_eq!(span(61), "1m 1s");
        assert_eq!(span(90_061), "1d 1h");
        assert_eq!(span(3_601), "1h 1s");
    }
}
