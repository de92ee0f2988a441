//! The database file: opening, reading back, appending, compacting, checkpointing.
//!
//! Locking is exclusive, so the index of the WAL lives in memory and no other process can change the file under us. The
//! writer thread therefore checkpoints itself, in steps small enough (see [`CHECKPOINT_BYTES`]) that a write which arrives
//! meanwhile hardly notices; readers never touch the database.

use crate::intern::Interner;
use crate::record::{checksum, decode_meta, encode_meta, kind_code, kind_of};
use crate::{Error, Event, EventKind, Key, Object};
use bytes::Bytes;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, params};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Format of the file that this version writes, kept in `user_version`.
pub(crate) const FORMAT: u32 = 1;
/// "MnSt" in `application_id`: this is a store and not some other database.
const APPLICATION_ID: i32 = 0x4d6e_5374;
/// The database in the data directory.
const FILE: &str = "store.db";
/// Bytes appended to the WAL after which it is copied into the database. Larger steps cost fewer syncs a row, smaller ones hold up
/// fewer writes.
const CHECKPOINT_BYTES: usize = 4 << 20;
/// Unused pages before the file is made smaller, and how many of them are kept for the next rows.
const FREE_PAGES: i64 = 2_048;
/// Pages given back in one idle step.
const VACUUM_PAGES: i64 = 256;
/// What SQLite may cache; readers never read from it.
const CACHE_KIB: i64 = 2_048;

const SCHEMA: &str = "
CREATE TABLE log (
    revision  INTEGER PRIMARY KEY,
    kind      INTEGER NOT NULL,
    resource  TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name      TEXT NOT NULL,
    meta      BLOB NOT NULL,
    checksum  INTEGER NOT NULL,
    body      BLOB NOT NULL
) STRICT;
CREATE TABLE bounds (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO bounds VALUES ('floor', 1);
";

/// Why a transaction left nothing behind.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No room: the store goes on reading, and writing when there is room again.
    Full,
    /// What is on disk is now unknown, or not what was written.
    Fatal(rusqlite::Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            _ => Self::Fatal(error),
        }
    }
}

/// One record as it was read back.
pub(crate) struct Record {
    pub(crate) kind: EventKind,
    pub(crate) object: Object,
}

#[derive(Debug)]
pub(crate) struct Log {
    connection: Connection,
    path: PathBuf,
    /// Bytes appended to the WAL since the last checkpoint, estimated.
    wal_bytes: usize,
    meta: Vec<u8>,
}

impl Log {
    /// Opens or creates the database in `dir` and takes its lock.
    pub(crate) fn open(dir: &Path, disk_limit_bytes: u64) -> Result<Self, Error> {
        let path = dir.join(FILE);
        let connection = Connection::open(&path).map_err(|source| Error::sqlite("open the database", source))?;
        let log = Self { connection, path, wal_bytes: 0, meta: Vec::new() };
        log.configure().map_err(|source| log.explain("open the database", source))?;
        let version = log.pragma("user_version").map_err(|source| log.explain("read the format", source))?;
        match u32::try_from(version).unwrap_or(u32::MAX) {
            0 => log.create()?,
            FORMAT => log.check_owner()?,
            found => return Err(Error::Newer { found, known: FORMAT }),
        }
        let page_bytes = log.pragma("page_size").map_err(|source| log.explain("read the page size", source))?.max(512);
        let pages = i64::try_from(disk_limit_bytes).unwrap_or(i64::MAX) / page_bytes;
        log.connection
            .pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
            .map_err(|source| log.explain("bound the database's size", source))?;
        Ok(log)
    }

    fn configure(&self) -> rusqlite::Result<()> {
        let connection = &self.connection;
        connection.busy_timeout(Duration::from_secs(2))?;
        connection.set_prepared_statement_cache_capacity(16);
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        // Exclusive before the first access in WAL mode: the WAL's index then lives in memory, without a -shm file.
        connection.pragma_update_and_check(None, "locking_mode", "EXCLUSIVE", |_| Ok(()))?;
        if self.pragma("page_count")? == 0 {
            // Only a file without tables can still be told so.
            connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        }
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(()))?;
        connection.pragma_update_and_check(None, "journal_size_limit", 2 * CHECKPOINT_BYTES as i64, |_| Ok(()))?;
        connection.pragma_update(None, "cell_size_check", true)
    }

    fn create(&self) -> Result<(), Error> {
        let tables: i64 = self
            .connection
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .map_err(|source| self.explain("read the schema", source))?;
        if tables > 0 {
            return Err(self.damaged("holds tables, but not those of a store"));
        }
        self.connection
            .execute_batch(&format!("BEGIN IMMEDIATE; {SCHEMA} PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={FORMAT}; COMMIT;"))
            .map_err(|source| self.explain("create the tables", source))
    }

    fn check_owner(&self) -> Result<(), Error> {
        let found = self.pragma("application_id").map_err(|source| self.explain("read the format", source))?;
        if found == i64::from(APPLICATION_ID) { Ok(()) } else { Err(self.damaged("is a database of another program")) }
    }

    fn pragma(&self, name: &str) -> rusqlite::Result<i64> {
        self.connection.pragma_query_value(None, name, |row| row.get(0))
    }

    /// The revision after which no record was removed.
    pub(crate) fn floor(&self) -> Result<u64, Error> {
        let floor: Option<i64> = self
            .connection
            .query_row("SELECT value FROM bounds WHERE name = 'floor'", [], |row| row.get(0))
            .optional()
            .map_err(|source| self.explain("read the history's bound", source))?;
        match floor.map(u64::try_from) {
            Some(Ok(floor)) if floor > 0 => Ok(floor),
            _ => Err(self.damaged("does not say from where its history is complete")),
        }
    }

    /// Reads every record in revision order and verifies its checksum.
    pub(crate) fn replay(&self, interner: &mut Interner, mut each: impl FnMut(Record) -> Result<(), Error>) -> Result<(), Error> {
        let explain = |source| self.explain("read the log", source);
        let mut statement = self
            .connection
            .prepare("SELECT revision, kind, resource, namespace, name, meta, checksum, body FROM log ORDER BY revision")
            .map_err(explain)?;
        let mut rows = statement.query([]).map_err(explain)?;
        while let Some(row) = rows.next().map_err(explain)? {
            each(self.record(row, interner)?)?;
        }
        Ok(())
    }

    fn record(&self, row: &Row<'_>, interner: &mut Interner) -> Result<Record, Error> {
        let explain = |source| self.explain("read a record", source);
        let revision: i64 = row.get(0).map_err(explain)?;
        let bad = || self.damaged(&format!("the record of revision {revision} does not match its checksum"));
        let number = u64::try_from(revision).map_err(|_| bad())?;
        let kind = row.get(1).ok().and_then(kind_of).ok_or_else(bad)?;
        let text = |column| row.get_ref(column).ok().and_then(|value| value.as_str().ok()).ok_or_else(bad);
        let blob = |column| row.get_ref(column).ok().and_then(|value| value.as_blob().ok()).ok_or_else(bad);
        let key = Key { resource: interner.intern_str(text(2)?), namespace: interner.intern_str(text(3)?), name: Arc::from(text(4)?) };
        let (meta, body) = (blob(5)?, blob(7)?);
        let expected: i64 = row.get(6).map_err(explain)?;
        if i64::from(checksum(number, kind, &key, meta, body)) != expected {
            return Err(bad());
        }
        let meta = decode_meta(meta, interner).ok_or_else(bad)?;
        Ok(Record { kind, object: Object { key, revision: number, bytes: Bytes::copy_from_slice(body), meta } })
    }

    /// Appends `events` and removes the records `superseded`, in one transaction that is on disk when this returns. `floor` is the
    /// revision after which no record is removed.
    pub(crate) fn append(&mut self, events: &[Event], superseded: impl Iterator<Item = u64>, floor: u64) -> Result<(), Failure> {
        let done = self.begin().and_then(|()| self.insert(events)).and_then(|()| self.remove(superseded, floor));
        fail::fail_point!("store::before-commit");
        self.finish(done)?;
        fail::fail_point!("store::after-commit");
        Ok(())
    }

    /// Removes the records `superseded`; they are gone at the latest when the next append is on disk.
    pub(crate) fn compact(&mut self, superseded: impl Iterator<Item = u64>, floor: u64) -> Result<(), Failure> {
        let done = self.begin().and_then(|()| self.remove(superseded, floor));
        fail::fail_point!("store::compact");
        self.finish(done)?;
        fail::fail_point!("store::compacted");
        Ok(())
    }

    fn begin(&self) -> rusqlite::Result<()> {
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([]).map(drop)
    }

    fn insert(&mut self, events: &[Event]) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare_cached("INSERT INTO log VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?;
        for event in events {
            let Object { key, revision, bytes, meta } = &*event.object;
            encode_meta(meta, &mut self.meta);
            let sum = checksum(*revision, event.kind, key, &self.meta, bytes);
            statement.execute(params![
                number(*revision),
                kind_code(event.kind),
                &*key.resource,
                &*key.namespace,
                &*key.name,
                &self.meta[..],
                sum,
                &bytes[..]
            ])?;
            self.wal_bytes += bytes.len() + self.meta.len() + 128;
        }
        self.wal_bytes += 8_192;
        Ok(())
    }

    fn remove(&mut self, superseded: impl Iterator<Item = u64>, floor: u64) -> rusqlite::Result<()> {
        let mut superseded = superseded.peekable();
        if superseded.peek().is_none() {
            return Ok(());
        }
        let mut statement = self.connection.prepare_cached("DELETE FROM log WHERE revision = ?1")?;
        for revision in superseded {
            statement.execute([number(revision)])?;
            self.wal_bytes += 2_048;
        }
        self.connection.prepare_cached("UPDATE bounds SET value = ?1 WHERE name = 'floor'")?.execute([number(floor)])?;
        self.wal_bytes += 8_192;
        Ok(())
    }

    /// Commits when all went well, else rolls back.
    fn finish(&self, done: rusqlite::Result<()>) -> Result<(), Failure> {
        fail::fail_point!("store::sync-fails", |_| Err(Failure::Fatal(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_FSYNC), None))));
        let committed = done.and_then(|()| self.connection.prepare_cached("COMMIT")?.execute([]).map(drop));
        let Err(error) = committed else { return Ok(()) };
        if !self.connection.is_autocommit() {
            self.connection.execute_batch("ROLLBACK").map_err(Failure::Fatal)?;
        }
        Err(error.into())
    }

    /// Copies the WAL into the database when enough has gathered there.
    pub(crate) fn checkpoint_if_due(&mut self) -> Result<(), Failure> {
        if self.wal_bytes < CHECKPOINT_BYTES {
            return Ok(());
        }
        fail::fail_point!("store::checkpoint");
        self.wal_bytes = 0;
        // Nobody reads from the database, so PASSIVE copies everything and the next append starts the WAL's file over: it keeps its
        // size, and a sync of it need not write a new length.
        Ok(self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?)
    }

    /// Gives pages that nothing needs back to the file system, some at a time; false when there is nothing left to do.
    pub(crate) fn shrink(&mut self) -> Result<bool, Failure> {
        let free = self.pragma("freelist_count")?;
        // As many free as used is no more than a burst leaves behind: the next rows take them.
        if free < FREE_PAGES || free * 2 < self.pragma("page_count")? {
            return Ok(false);
        }
        let mut statement = self.connection.prepare(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        drop(rows);
        drop(statement);
        self.wal_bytes += usize::try_from(VACUUM_PAGES).unwrap_or(0) * 4_096;
        Ok(true)
    }

    /// Checkpoints and closes; the WAL's file goes away.
    pub(crate) fn close(self) -> Result<(), rusqlite::Error> {
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        self.connection.close().map_err(|(_, error)| error)
    }

    /// An error about this file: damage is told apart from all else.
    fn explain(&self, doing: &'static str, source: rusqlite::Error) -> Error {
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => self.damaged(&format!("cannot be read ({source})")),
            _ => Error::sqlite(doing, source),
        }
    }

    /// An error that says which file and what to do.
    pub(crate) fn damaged(&self, what: &str) -> Error {
        Error::Damaged(format!("{} {what}: restore the data directory from a copy, or move it away to start empty", self.path.display()))
    }
}

/// SQLite's integers are signed; at a million writes a second revisions reach that bound in 292,000 years.
fn number(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}
