//! The ledger: what each request and each of its attempts used and cost, kept on disk.
//!
//! [`record`] is what a request leaves behind; [`store`] is the database; [`report`] reads it for people;
//! [`budget`] holds spending to limits. Who writes, and when, is decided by the ledger's actor and its cell.

pub mod budget;
pub mod record;
pub mod report;
pub mod store;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use record::{Attempt, Ended, Outcome, Priced, Record};

use crate::config::Ledger;

/// Where the database is: where the config says, else `cproxy/ledger.sqlite3` in the user's folder for state.
///
/// Source: XDG Base Directory Specification, `XDG_STATE_HOME` (a relative path there is to be ignored).
pub fn place(config: &Ledger, variables: &BTreeMap<String, String>) -> PathBuf {
    if let Some(file) = &config.file {
        return file.clone();
    }
    let state = variables.get("XDG_STATE_HOME").map(Path::new).filter(|dir| dir.is_absolute());
    let state = state.map_or_else(|| crate::config::source::expand("~/.local/state", variables), Path::to_owned);
    state.join("cproxy").join("ledger.sqlite3")
}

#[cfg(test)]
mod tests;
