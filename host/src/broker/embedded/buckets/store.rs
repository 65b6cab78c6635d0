//! The tables of the store of buckets, how it is opened, and what is read of it.
//!
//! Invariants:
//! - The bytes and entries of a bucket, as they stand in its row, are those of its entries: both change in one transaction.
//! - A revision is never given twice: it is the number of the entry's row, and a changed entry is a new row.

use std::num::NonZeroU32;
use std::path::Path;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, Row, Statement, params};

use super::change::Stands;
use crate::broker::bucket::{Held, KeyPage};
use crate::broker::embedded::file::{self, Mark, Unfit};
use crate::broker::embedded::options::Durability;

/// The file of the store in the queue's directory.
pub(super) const STORE_FILE: &str = "buckets.db";
/// SQLite's log beside it.
pub(super) const LOG_FILE: &str = "buckets.db-wal";
/// All that belongs to it.
pub(in crate::broker::embedded) const FILES: [&str; 3] = [STORE_FILE, LOG_FILE, "buckets.db-shm"];

/// "TiGb", and the format that this version writes.
const MARK: Mark = Mark { application: 0x5469_4762, format: 1 };
/// The longest number in digits, with its sign: what is longer need not be read to know that it is none.
const LONGEST_NUMBER: i64 = 20;

const TABLES: &str = "
CREATE TABLE bucket (
    id       INTEGER PRIMARY KEY,
    name     TEXT    NOT NULL UNIQUE,
    entries  INTEGER NOT NULL,
    bytes    INTEGER NOT NULL    -- keys, values, and 64 for each entry
);
CREATE TABLE entry (
    revision INTEGER PRIMARY KEY AUTOINCREMENT,
    bucket   INTEGER NOT NULL,
    key      TEXT    NOT NULL,
    value    BLOB    NOT NULL,
    UNIQUE (bucket, key)
);
";

/// What is in a bucket, in sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) id: i64,
    pub(super) entries: i64,
    pub(super) bytes: i64,
}

/// Opens the store to be written, and makes its tables when it is new.
pub(super) fn open_writer(directory: &Path, durability: Durability) -> Result<Connection, String> {
    let text = |error: rusqlite::Error| error.to_string();
    let mut connection = file::open(&directory.join(STORE_FILE), file::TO_WRITE).map_err(text)?;
    let is_fresh = file::is_fresh(&connection).map_err(text)?;
    if !is_fresh {
        check_format(&connection)?;
    }
    let synchronous = match durability {
        Durability::Fsync => "FULL",
        Durability::Relaxed => "NORMAL",
    };
    let pragmas = format!(
        "PRAGMA page_size = 4096; PRAGMA journal_mode = WAL; PRAGMA synchronous = {synchronous};
         PRAGMA journal_size_limit = 67108864; PRAGMA cache_size = -8192; PRAGMA temp_store = MEMORY;"
    );
    connection.execute_batch(&pragmas).map_err(text)?;
    if is_fresh {
        create(&mut connection).map_err(text)?;
    }
    Ok(connection)
}

/// Opens the store to be read.
pub(super) fn open_reader(directory: &Path) -> Result<Connection, String> {
    let text = |error: rusqlite::Error| error.to_string();
    let connection = file::open(&directory.join(STORE_FILE), file::TO_READ).map_err(text)?;
    connection.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -4096;").map_err(text)?;
    Ok(connection)
}

fn check_format(connection: &Connection) -> Result<(), String> {
    MARK.check(connection).map_err(|unfit| match unfit {
        Unfit::Foreign => format!("{STORE_FILE} is a database of something else; move it away"),
        Unfit::Newer(found) => format!(
            "{STORE_FILE} has format {found}, and this version reads formats up to {}; use a newer version",
            MARK.format
        ),
        Unfit::Store(error) => error.to_string(),
    })
}

fn create(connection: &mut Connection) -> Result<(), rusqlite::Error> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(TABLES)?;
    MARK.stamp(&transaction)?;
    transaction.commit()
}

/// The writer's statements, prepared once.
pub(super) struct Statements<'c> {
    begin: Statement<'c>,
    commit: Statement<'c>,
    known: Statement<'c>,
    make: Statement<'c>,
    save: Statement<'c>,
    stands: Statement<'c>,
    put: Statement<'c>,
    remove: Statement<'c>,
}

impl<'c> Statements<'c> {
    pub(super) fn prepare(connection: &'c Connection) -> Result<Self, rusqlite::Error> {
        let prepare = |sql: &str| connection.prepare(sql);
        Ok(Self {
            begin: prepare("BEGIN IMMEDIATE")?,
            commit: prepare("COMMIT")?,
            known: prepare("SELECT id, entries, bytes FROM bucket WHERE name = ?1")?,
            make: prepare("INSERT INTO bucket (name, entries, bytes) VALUES (?1, 0, 0) RETURNING id, entries, bytes")?,
            save: prepare("UPDATE bucket SET entries = ?2, bytes = ?3 WHERE id = ?1")?,
            // The length of a value stands in its row's head: a long value is not read for it.
            stands: prepare(
                "SELECT revision, length(value), CASE WHEN length(value) <= ?3 THEN value END \
                 FROM entry WHERE bucket = ?1 AND key = ?2",
            )?,
            put: prepare("INSERT OR REPLACE INTO entry (bucket, key, value) VALUES (?1, ?2, ?3)")?,
            remove: prepare("DELETE FROM entry WHERE bucket = ?1 AND key = ?2")?,
        })
    }

    pub(super) fn begin(&mut self) -> Result<(), rusqlite::Error> {
        self.begin.execute([]).map(|_rows| ())
    }

    pub(super) fn commit(&mut self) -> Result<(), rusqlite::Error> {
        self.commit.execute([]).map(|_rows| ())
    }

    /// What is in a bucket, which is made when it is not there.
    pub(super) fn totals(&mut self, name: &str) -> Result<Totals, rusqlite::Error> {
        let read = |row: &Row<'_>| Ok(Totals { id: row.get(0)?, entries: row.get(1)?, bytes: row.get(2)? });
        match self.known.query_row([name], read).optional()? {
            Some(totals) => Ok(totals),
            None => self.make.query_row([name], read),
        }
    }

    pub(super) fn save(&mut self, totals: &Totals) -> Result<(), rusqlite::Error> {
        self.save.execute([totals.id, totals.entries, totals.bytes]).map(|_rows| ())
    }

    /// What stands under a key, for whoever is to change it.
    pub(super) fn stands(&mut self, bucket: i64, key: &str) -> Result<Option<Stands>, rusqlite::Error> {
        let read = |row: &Row<'_>| {
            let revision = row.get::<_, i64>(0)?.cast_unsigned();
            Ok(Stands { revision, bytes: row.get(1)?, short: row.get(2)? })
        };
        self.stands.query_row(params![bucket, key, LONGEST_NUMBER], read).optional()
    }

    pub(super) fn put(&mut self, bucket: i64, key: &str, value: &[u8]) -> Result<(), rusqlite::Error> {
        self.put.execute(params![bucket, key, value]).map(|_rows| ())
    }

    pub(super) fn remove(&mut self, bucket: i64, key: &str) -> Result<(), rusqlite::Error> {
        self.remove.execute(params![bucket, key]).map(|_rows| ())
    }
}

/// The bucket of a name, in a statement whose first parameter it is.
const BUCKET: &str = "(SELECT id FROM bucket WHERE name = ?1)";

pub(super) fn find(connection: &Connection, bucket: &str, key: &str) -> Result<Held, rusqlite::Error> {
    let sql = format!("SELECT revision, value FROM entry WHERE bucket = {BUCKET} AND key = ?2");
    let read = |row: &Row<'_>| {
        let value = Bytes::copy_from_slice(row.get_ref(1)?.as_blob()?);
        Ok(Held { value: Some(value), revision: row.get::<_, i64>(0)?.cast_unsigned() })
    };
    let found = connection.query_row(&sql, [bucket, key], read).optional()?;
    Ok(found.unwrap_or_default())
}

pub(super) fn exists(connection: &Connection, bucket: &str, key: &str) -> Result<bool, rusqlite::Error> {
    let sql = format!("SELECT EXISTS (SELECT 1 FROM entry WHERE bucket = {BUCKET} AND key = ?2)");
    connection.query_row(&sql, [bucket, key], |row| row.get(0))
}

pub(super) fn keys(
    connection: &Connection,
    bucket: &str,
    after: &str,
    limit: NonZeroU32,
) -> Result<KeyPage, rusqlite::Error> {
    let sql = format!("SELECT key FROM entry WHERE bucket = {BUCKET} AND key > ?2 ORDER BY key LIMIT ?3");
    let mut statement = connection.prepare(&sql)?;
    // One more than asked for tells whether there is more.
    let keys = statement.query_map(params![bucket, after, i64::from(limit.get()) + 1], |row| row.get(0))?;
    let mut keys = keys.collect::<Result<Vec<String>, _>>()?;
    let limit = usize::try_from(limit.get()).unwrap_or(usize::MAX);
    let more = keys.len() > limit;
    keys.truncate(limit);
    Ok(KeyPage { keys, more })
}
