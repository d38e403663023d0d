//! The database: SQLite in WAL mode, one writer. A batch of records is one transaction.
//!
//! With `synchronous = NORMAL` a commit survives the death of the process, however it dies; only a crash of the
//! machine may lose the last commits, and never harms what was there before. Source: SQLite documentation,
//! "Write-Ahead Logging" and "PRAGMA synchronous".

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, ErrorCode, OpenFlags, params};

use super::record::{Ended, Priced};
use super::report::{REQUESTS, SUMS};

/// The schema's versions: the n-th step leads from version n to n + 1. Steps are never changed, only added.
pub(super) const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE requests (
        key             INTEGER PRIMARY KEY,
        id              TEXT    NOT NULL UNIQUE,
        at              INTEGER NOT NULL,   -- when it began, in milliseconds since 1970
        front           TEXT    NOT NULL,
        session         TEXT,
        agent           TEXT,
        model           TEXT    NOT NULL,   -- as the caller named it
        outcome         TEXT    NOT NULL,
        fault           TEXT,
        cached          INTEGER NOT NULL,
        attempts        INTEGER NOT NULL,
        queue_ms        REAL    NOT NULL,
        first_byte_ms   REAL,
        first_output_ms REAL,
        total_ms        REAL    NOT NULL
    ) STRICT;
    CREATE INDEX requests_at ON requests (at);
    CREATE TABLE attempts (
        request         INTEGER NOT NULL REFERENCES requests (key),
        n               INTEGER NOT NULL,
        provider        TEXT    NOT NULL,
        model           TEXT    NOT NULL,   -- as the provider names it
        outcome         TEXT    NOT NULL,
        admitted        INTEGER NOT NULL,
        input           INTEGER,            -- tokens; NULL is unknown
        cache_read      INTEGER,
        cache_creation  INTEGER,
        output          INTEGER,
        thinking        INTEGER,
        estimated       INTEGER NOT NULL,
        cost_micros     INTEGER,            -- millionths of a US dollar; NULL is unknown
        prices          TEXT    NOT NULL,   -- the version of the prices
        took_ms         REAL    NOT NULL,
        PRIMARY KEY (request, n)
    ) STRICT, WITHOUT ROWID;
",
    "
    CREATE TABLE sums (                     -- of days whose requests are not kept any more
        day             TEXT    NOT NULL,   -- by UTC
        kind            TEXT    NOT NULL,   -- what the key is: day (then it is empty), provider, model
        key             TEXT    NOT NULL,
        requests        INTEGER NOT NULL,
        errors          INTEGER NOT NULL,
        attempts        INTEGER NOT NULL,
        failures        INTEGER NOT NULL,
        input           INTEGER NOT NULL,
        cache_read      INTEGER NOT NULL,
        cache_creation  INTEGER NOT NULL,
        output          INTEGER NOT NULL,
        thinking        INTEGER NOT NULL,
        estimated       INTEGER NOT NULL,
        cost_micros     INTEGER,            -- NULL: nothing is known
        cost_unknown    INTEGER NOT NULL,
        PRIMARY KEY (day, kind, key)
    ) STRICT, WITHOUT ROWID;
",
    // Ids are random: an index of them had to be changed in another place for each request.
    "
    CREATE TABLE requests_anew (
        key             INTEGER PRIMARY KEY,
        id              TEXT    NOT NULL,
        at              INTEGER NOT NULL,   -- when it began, in milliseconds since 1970
        front           TEXT    NOT NULL,
        session         TEXT,
        agent           TEXT,
        model           TEXT    NOT NULL,   -- as the caller named it
        outcome         TEXT    NOT NULL,
        fault           TEXT,
        cached          INTEGER NOT NULL,
        attempts        INTEGER NOT NULL,
        queue_ms        REAL    NOT NULL,
        first_byte_ms   REAL,
        first_output_ms REAL,
        total_ms        REAL    NOT NULL
    ) STRICT;
    INSERT INTO requests_anew SELECT * FROM requests;
    DROP TABLE requests;
    ALTER TABLE requests_anew RENAME TO requests;
    CREATE INDEX requests_at ON requests (at);
",
];

/// The open database.
pub struct Store {
    connection: Connection,
    path: PathBuf,
}

/// Why the database can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It is no database, or a broken one.
    #[error("{path}: the ledger is corrupt ({reason})")]
    Corrupt {
        /// Where it is.
        path: PathBuf,
        /// What SQLite said.
        reason: String,
    },
    /// A later version of cproxy made it.
    #[error(
        "{path}: the ledger was made by a later version of cproxy (schema {found}, this one knows {known}); update cproxy, or name another file in [ledger] file"
    )]
    Newer {
        /// Where it is.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// Anything else: no permission, no space, locked.
    #[error("{path}: {reason}")]
    Unusable {
        /// Where it should be.
        path: PathBuf,
        /// What happened, and what to do.
        reason: String,
    },
}

// === impl Store ===

impl Store {
    /// Opens the database for writing, for its owner alone; makes it, and its folder, if they are not there.
    pub fn open(path: &Path) -> Result<Store, StoreError> {
        prepare(path).map_err(|error| StoreError::io(path, &error))?;
        let open = || {
            let connection = Connection::open_with_flags(
                path,
                OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
            )?;
            connection.busy_timeout(Duration::from_secs(2))?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            connection.pragma_update(None, "cache_size", -512)?; // KiB
            // Nobody else writes. To look for the request of each attempt that was just written finds nothing wrong, and
            // a table could not be made anew.
            connection.pragma_update(None, "foreign_keys", false)?;
            connection.pragma_update(None, "journal_size_limit", 4 << 20)?;
            Ok(connection)
        };
        let connection = open().map_err(|error| StoreError::of(path, &error))?;
        let mut store = Store { connection, path: path.to_owned() };
        store.migrate()?;
        Ok(store)
    }

    /// Opens the database for reading alone; `None` if there is none yet. Works beside a running daemon.
    pub fn open_to_read(path: &Path) -> Result<Option<Store>, StoreError> {
        if !path.exists() {
            return Ok(None);
        }
        // WAL needs its shared-memory file: where that can't be made, the database is read as it lies there.
        let plain = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = |name: &str, flags: OpenFlags| {
            let connection = Connection::open_with_flags(name, flags)?;
            connection.busy_timeout(Duration::from_secs(2))?;
            let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
            Ok((connection, version))
        };
        let name = path.to_string_lossy();
        let immutable = || {
            let escaped = name.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
            open(&format!("file:{escaped}?immutable=1"), plain | OpenFlags::SQLITE_OPEN_URI)
        };
        let opened = open(&name, plain).or_else(|error| match code(&error) {
            Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly) => immutable(),
            _ => Err(error),
        });
        let (connection, version) = opened.map_err(|error| StoreError::of(path, &error))?;
        match version {
            0 => Ok(None), // made, and nothing in it yet
            // Of an earlier cproxy: brought to the present first.
            version if version < known() => Store::open(path).map(Some),
            version if version > known() => {
                Err(StoreError::Newer { path: path.to_owned(), found: version, known: known() })
            }
            _ => Ok(Some(Store { connection, path: path.to_owned() })),
        }
    }

    /// Brings the schema to the present version.
    fn migrate(&mut self) -> Result<(), StoreError> {
        let path = self.path.clone();
        let wrap = |error| StoreError::of(&path, &error);
        let transaction = self
            .connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .map_err(wrap)?;
        let found: i64 =
            transaction.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(wrap)?;
        if found > known() {
            return Err(StoreError::Newer { path, found, known: known() });
        }
        for step in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
            transaction.execute_batch(step).map_err(wrap)?;
        }
        transaction.pragma_update(None, "user_version", known()).map_err(wrap)?;
        transaction.commit().map_err(wrap)
    }

    /// Writes these records, all or none. Those at the beginning that are there already, by a batch whose end nobody
    /// saw, are left as they are.
    pub fn write(&mut self, records: &[Arc<Priced>]) -> Result<(), StoreError> {
        let result = write(&mut self.connection, records);
        result.map_err(|error| StoreError::of(&self.path, &error))
    }

    /// Makes the requests of whole days before this moment into the sums of their days, and forgets them. Gives the
    /// number of days. Each day is one transaction: nothing is counted twice, whenever the process dies.
    pub fn sum_up_before(&mut self, before: SystemTime) -> Result<u32, StoreError> {
        const DAY: i64 = 86_400_000;
        let before = millis_since_1970(before) / DAY * DAY;
        let mut days = 0;
        loop {
            let oldest = self
                .connection
                .query_row("SELECT MIN(at) FROM requests", [], |row| row.get::<_, Option<i64>>(0));
            let oldest = oldest.map_err(|error| self.error(&error))?;
            let Some(oldest) = oldest.filter(|oldest| *oldest < before) else { return Ok(days) };
            let day = oldest.div_euclid(DAY) * DAY;
            let summed = sum_up(&mut self.connection, day, day + DAY);
            summed.map_err(|error| StoreError::of(&self.path, &error))?;
            days += 1;
        }
    }

    /// The connection, for reports.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// What an error of this store means.
    pub(super) fn error(&self, error: &rusqlite::Error) -> StoreError {
        StoreError::of(&self.path, error)
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.path).finish_non_exhaustive()
    }
}

fn write(connection: &mut Connection, records: &[Arc<Priced>]) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    {
        let mut request = transaction.prepare_cached(
            "INSERT INTO requests (id, at, front, session, agent, model, outcome, fault, cached, attempts,
                queue_ms, first_byte_ms, first_output_ms, total_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )?;
        let mut attempt = transaction.prepare_cached(
            "INSERT INTO attempts (request, n, provider, model, outcome, admitted, input, cache_read, cache_creation,
                output, thinking, estimated, cost_micros, prices, took_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
        )?;
        let mut there = transaction.prepare_cached("SELECT 1 FROM requests WHERE at = ?1 AND id = ?2")?;
        let mut written = 0;
        for priced in records {
            let record = &priced.record;
            if !there.exists(params![millis_since_1970(record.began), &*record.id])? {
                break;
            }
            written += 1;
        }
        for priced in records.iter().skip(written) {
            let record = &priced.record;
            request.execute(params![
                &*record.id,
                millis_since_1970(record.began),
                record.front,
                record.session.as_deref(),
                record.agent.as_deref(),
                &*record.model,
                record.outcome.as_str(),
                record.fault.map(|fault| fault.as_str()),
                record.cached,
                count(record.made().count()),
                ms(record.queue),
                record.first_byte.map(ms),
                record.first_output.map(ms),
                ms(record.total),
            ])?;
            let key = transaction.last_insert_rowid();
            for (n, (made, cost)) in record.attempts.iter().zip(&priced.costs).enumerate() {
                let usage = made.usage.as_ref();
                let tokens = |tokens: u64| i64::try_from(tokens).unwrap_or(i64::MAX);
                attempt.execute(params![
                    key,
                    count(n + 1),
                    made.provider.as_str(),
                    &*made.model,
                    made.ended.as_str(),
                    !matches!(made.ended, Ended::NotAdmitted(_)),
                    usage.map(|usage| tokens(usage.input)),
                    usage.map(|usage| tokens(usage.cache_read)),
                    usage.map(|usage| tokens(usage.cache_creation)),
                    usage.map(|usage| tokens(usage.output)),
                    usage.and_then(|usage| usage.thinking).map(tokens),
                    usage.is_some_and(|usage| usage.estimated),
                    cost,
                    PRICES,
                    ms(made.took),
                ])?;
            }
        }
    }
    transaction.commit()
}

/// One day, from its first millisecond to that of the next.
fn sum_up(connection: &mut Connection, from: i64, to: i64) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let add = |name: &str| format!("{name} = {name} + excluded.{name}");
    let counts = [
        "requests",
        "errors",
        "attempts",
        "failures",
        "input",
        "cache_read",
        "cache_creation",
        "output",
        "thinking",
        "estimated",
        "cost_unknown",
    ];
    let adds = counts.map(add).join(", ");
    for (kind, key) in
        [("day", "''"), ("provider", "COALESCE(a.provider, '')"), ("model", "COALESCE(a.model, '')")]
    {
        // A day that was summed up before can get more: a clock may have been set back.
        transaction.execute(
            &format!(
                "INSERT INTO sums (day, kind, key, requests, errors, attempts, failures, input, cache_read,
                     cache_creation, output, thinking, estimated, cost_micros, cost_unknown)
                 SELECT strftime('%Y-%m-%d', ?1 / 1000, 'unixepoch'), '{kind}', {key} AS k, {SUMS} {REQUESTS}
                 WHERE r.at >= ?1 AND r.at < ?2 GROUP BY k
                 ON CONFLICT (day, kind, key) DO UPDATE SET {adds}, cost_micros = CASE
                     WHEN excluded.cost_micros IS NULL THEN cost_micros
                     ELSE COALESCE(cost_micros, 0) + excluded.cost_micros END"
            ),
            [from, to],
        )?;
    }
    let of_day = "SELECT key FROM requests WHERE at >= ?1 AND at < ?2";
    transaction.execute(&format!("DELETE FROM attempts WHERE request IN ({of_day})"), [from, to])?;
    transaction.execute("DELETE FROM requests WHERE at >= ?1 AND at < ?2", [from, to])?;
    transaction.commit()
}

/// The version of the prices: they come with the program.
const PRICES: &str = env!("CARGO_PKG_VERSION");

/// The schema's version that this program knows.
fn known() -> i64 {
    count(MIGRATIONS.len())
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// Milliseconds since 1970; 0 for times before.
pub(super) fn millis_since_1970(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Makes the folder and the file, for their owner alone. SQLite's companion files take the file's mode.
fn prepare(path: &Path) -> std::io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(folder)?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

/// Moves a broken database out of the way, its companion files with it; gives back its new name.
pub fn set_aside(path: &Path, now: SystemTime) -> std::io::Result<PathBuf> {
    let stamp: String = humantime::format_rfc3339_seconds(now)
        .to_string()
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect();
    let beside = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let mut aside = beside(&format!(".corrupt-{stamp}"));
    for n in 2..1000 {
        if !aside.exists() {
            break;
        }
        aside = beside(&format!(".corrupt-{stamp}-{n}"));
    }
    std::fs::rename(path, &aside)?;
    for companion in ["-wal", "-shm"] {
        let mut name = aside.as_os_str().to_owned();
        name.push(companion);
        let _ = std::fs::rename(beside(companion), name); // it may not be there
    }
    Ok(aside)
}

// === impl StoreError ===

impl StoreError {
    /// Whether the database itself is broken, so that only another can help.
    pub fn is_corrupt(&self) -> bool {
        matches!(self, StoreError::Corrupt { .. })
    }

    fn of(path: &Path, error: &rusqlite::Error) -> StoreError {
        let path = path.to_owned();
        let missing_table = || {
            let text = error.to_string();
            text.contains("no such table")
                || text.contains("no such column")
                || text.contains("already exists")
        };
        let reason = match code(error) {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                return StoreError::Corrupt { path, reason: error.to_string() };
            }
            Some(ErrorCode::Unknown) if missing_table() => {
                return StoreError::Corrupt { path, reason: error.to_string() };
            }
            Some(ErrorCode::DiskFull) => "the disk is full; make room".to_owned(),
            Some(ErrorCode::SystemIoFailure) => format!("{error} (is the disk full?)"),
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                "no permission to write; give it, or name another file in [ledger] file".to_owned()
            }
            Some(ErrorCode::CannotOpen) => {
                "the ledger can't be opened; check the folder and its permissions".to_owned()
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                "another program holds the ledger locked".to_owned()
            }
            _ => error.to_string(),
        };
        StoreError::Unusable { path, reason }
    }

    fn io(path: &Path, error: &std::io::Error) -> StoreError {
        let reason = match error.kind() {
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                "no permission to write; give it, or name another file in [ledger] file".to_owned()
            }
            std::io::ErrorKind::StorageFull => "the disk is full; make room".to_owned(),
            _ => error.to_string(),
        };
        StoreError::Unusable { path: path.to_owned(), reason }
    }
}

fn code(error: &rusqlite::Error) -> Option<ErrorCode> {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => Some(failure.code),
        rusqlite::Error::SqlInputError { error, .. } => Some(error.code),
        _ => None,
    }
}
