//! The tables of the store, and how a connection to it is set up.
//!
//! Invariants:
//! - A message is there until every subscription that wants it has settled it.
//! - For one subscription, a message is unsettled when its sequence lies above the `cursor` (but where `ready` is -1, see
//!   there); or has a row in `pending`;
//!   or lies between `floor` and `cursor`, is wanted, and has a row in neither `pending` nor `settled`: it was handed
//!   out for the first time and the process died with it. So a message that is handed out once and acknowledged costs
//!   no row but its own.
//! - Sequences are never used twice: `totals.next_seq` only grows.

use std::path::Path;

use rusqlite::Connection;

use super::error::OpenError;
use super::file::{self, Mark, Unfit};

/// The file of the store in the queue's directory.
pub(super) const STORE_FILE: &str = "queue.db";
/// SQLite's log beside it.
pub(super) const LOG_FILE: &str = "queue.db-wal";

/// "TiGa", and the format that this version writes.
const MARK: Mark = Mark { application: 0x5469_4761, format: 1 };

/// Dead letters whose indexing takes a moment that somebody notices.
const TOLD_FROM: i64 = 10_000;

const TABLES: &str = "
CREATE TABLE message (
    seq          INTEGER PRIMARY KEY,
    subject      TEXT    NOT NULL,
    target       INTEGER,            -- the only subscription that gets it (a redrive); NULL: all that want it
    id           TEXT,               -- NULL: the publisher gave none
    published_us INTEGER NOT NULL,
    checksum     INTEGER NOT NULL,   -- CRC-32 over subject, id, headers and body
    headers      BLOB    NOT NULL,
    body         BLOB    NOT NULL
);
CREATE TABLE subscription (
    id           INTEGER PRIMARY KEY,
    name         TEXT    NOT NULL UNIQUE,
    subjects     TEXT    NOT NULL,   -- a filter a line
    cursor       INTEGER NOT NULL,   -- the last sequence that was looked at
    floor        INTEGER NOT NULL,   -- below it, only rows in `pending` are unsettled
    ready        INTEGER NOT NULL,   -- wanted messages above the cursor; -1: none, all of it counts as looked at
    last_seen_us INTEGER NOT NULL
);
CREATE TABLE pending (
    subscription INTEGER NOT NULL,
    seq          INTEGER NOT NULL,
    due_us       INTEGER,            -- NULL: handed out now
    deliveries   INTEGER NOT NULL,
    progress     TEXT,               -- JSON; NULL: nothing is known but the count
    PRIMARY KEY (subscription, seq)
) WITHOUT ROWID;
CREATE INDEX pending_due ON pending (subscription, due_us, seq) WHERE due_us IS NOT NULL;
CREATE TABLE settled (
    subscription INTEGER NOT NULL,
    seq          INTEGER NOT NULL,
    PRIMARY KEY (subscription, seq)
) WITHOUT ROWID;
CREATE TABLE seen (                  -- message ids, a row for each group commit
    first_seq    INTEGER PRIMARY KEY,
    at_us        INTEGER NOT NULL,
    ids          BLOB    NOT NULL    -- for each: 16 bytes of its SHA-256, 8 bytes of its sequence, little-endian
);
CREATE TABLE dead_letter (
    id           TEXT    PRIMARY KEY,
    subscription TEXT    NOT NULL,
    reason       TEXT    NOT NULL,
    fingerprint  TEXT    NOT NULL,
    subject      TEXT    NOT NULL,
    source_seq   INTEGER NOT NULL,
    redrives     INTEGER NOT NULL,
    dead_us      INTEGER NOT NULL,
    redriven_us  INTEGER,
    record       TEXT    NOT NULL,   -- JSON: all that is known of it
    headers      BLOB    NOT NULL,
    body         BLOB    NOT NULL,
    UNIQUE (subscription, source_seq, redrives)
);
CREATE TABLE totals (
    one          INTEGER PRIMARY KEY CHECK (one = 1),
    name         TEXT    NOT NULL,   -- of this queue: made at random, part of the ids of messages that came without
    next_seq     INTEGER NOT NULL,
    messages     INTEGER NOT NULL,
    bytes        INTEGER NOT NULL,
    dead         INTEGER NOT NULL,   -- dead letters, redriven ones not counted
    expired      INTEGER NOT NULL,   -- messages that nobody wanted and age removed
    unreadable   INTEGER NOT NULL    -- rows that were damaged and became dead letters
);
";

/// The handler in a dead letter's record. What asks for it and what indexes it must be the same text. A record that is
/// damaged has none.
pub(super) const HANDLER: &str = "CASE WHEN json_valid(record) THEN json_extract(record, '$.handler') END";
/// The first 12 hex digits of the digest in a dead letter's record.
pub(super) const DIGEST: &str = "CASE WHEN json_valid(record) THEN substr(json_extract(record, '$.digest'), 1, 12) END";

/// How dead letters are found, a million of them deep: those alone that were not sent back, the newest first, by each
/// thing that a person asks for; and one index that has all that is counted, so that counting reads no record.
///
/// They are no part of the format: a host of before keeps them up to date without knowing of them, and a store without
/// them answers the same, later.
fn dead_letter_indexes() -> String {
    format!(
        "DROP INDEX IF EXISTS dead_letter_by_subscription;
         DROP INDEX IF EXISTS dead_letter_by_reason;
         CREATE INDEX IF NOT EXISTS dead_letter_waiting ON dead_letter
             (id, dead_us, fingerprint, reason, subscription, {HANDLER}, {DIGEST}) WHERE redriven_us IS NULL;
         CREATE INDEX IF NOT EXISTS dead_letter_redriven ON dead_letter (redriven_us) WHERE redriven_us IS NOT NULL;
         CREATE INDEX IF NOT EXISTS dead_letter_of_fingerprint ON dead_letter (fingerprint, id) WHERE redriven_us IS NULL;
         CREATE INDEX IF NOT EXISTS dead_letter_of_version ON dead_letter ({DIGEST}, id) WHERE redriven_us IS NULL;
         CREATE INDEX IF NOT EXISTS dead_letter_of_handler ON dead_letter ({HANDLER}, id) WHERE redriven_us IS NULL;
         CREATE INDEX IF NOT EXISTS dead_letter_of_subscription ON dead_letter (subscription, id)
             WHERE redriven_us IS NULL;
         CREATE INDEX IF NOT EXISTS dead_letter_of_reason ON dead_letter (reason, id) WHERE redriven_us IS NULL;"
    )
}

/// Opens the store for the writer, and makes its tables when it is new.
pub(super) fn open_writer(directory: &Path) -> Result<Connection, OpenError> {
    let file = directory.join(STORE_FILE);
    let failed = |error: rusqlite::Error| store_error(directory, &error);
    let mut connection = file::open(&file, file::TO_WRITE).map_err(failed)?;
    let fresh = file::is_fresh(&connection).map_err(failed)?;
    if !fresh {
        check_format(&connection, directory)?;
    }
    // `page_size` only acts on a file without pages. 4 KiB: a single publish writes two or three pages, and each
    // goes whole through the log.
    //
    // `journal_size_limit` gives back what a long reader let the log grow to.
    //
    // No memory-mapped reads: an I/O error under a mapping is a signal that ends the process.
    let pragmas = "PRAGMA page_size = 4096; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         PRAGMA journal_size_limit = 67108864; PRAGMA cache_size = -16384;
         PRAGMA temp_store = MEMORY; PRAGMA foreign_keys = OFF;";
    connection.execute_batch(pragmas).map_err(failed)?;
    if fresh {
        create(&mut connection).map_err(failed)?;
    }
    if let Err(error) = index_dead_letters(&mut connection) {
        // A disk that is full is no reason not to hand out what waits.
        tracing::warn!(%error, "the dead letters could not be indexed; looking for them takes longer");
    }
    Ok(connection)
}

/// Opens the store for listings only.
pub(super) fn open_reader(directory: &Path) -> Result<Connection, OpenError> {
    let file = directory.join(STORE_FILE);
    if !file.exists() {
        let source = std::io::Error::new(std::io::ErrorKind::NotFound, "there is no queue here");
        return Err(OpenError::Io { path: file, source });
    }
    let failed = |error: rusqlite::Error| store_error(directory, &error);
    let connection = file::open(&file, file::TO_READ).map_err(failed)?;
    connection.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -4096;").map_err(failed)?;
    check_format(&connection, directory)?;
    Ok(connection)
}

pub(super) fn store_error(directory: &Path, error: &rusqlite::Error) -> OpenError {
    OpenError::Store { path: directory.to_owned(), detail: error.to_string() }
}

fn check_format(connection: &Connection, directory: &Path) -> Result<(), OpenError> {
    MARK.check(connection).map_err(|unfit| match unfit {
        Unfit::Foreign => OpenError::Foreign { path: directory.join(STORE_FILE) },
        Unfit::Newer(found) => OpenError::Newer { path: directory.to_owned(), found, known: MARK.format },
        Unfit::Store(error) => store_error(directory, &error),
    })
}

/// Says so before where it takes long: with a million dead letters it is two minutes in which the queue does not open.
fn index_dead_letters(connection: &mut Connection) -> Result<(), rusqlite::Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'dead_letter_of_reason'), dead FROM totals";
    let (is_indexed, dead) =
        connection.query_row(sql, [], |row| Ok((row.get::<_, bool>(0)?, row.get::<_, i64>(1)?)))?;
    if !is_indexed && dead >= TOLD_FROM {
        tracing::info!(
            dead_letters = dead,
            "indexing the dead letters of this queue, once; this takes some ten seconds for 100,000"
        );
    }
    let transaction = connection.transaction()?;
    transaction.execute_batch(&dead_letter_indexes())?;
    transaction.commit()
}

fn create(connection: &mut Connection) -> Result<(), rusqlite::Error> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(TABLES)?;
    transaction.execute(
        "INSERT INTO totals VALUES (1, ?1, 1, 0, 0, 0, 0, 0)",
        [ulid::Ulid::generate().to_string().to_lowercase()],
    )?;
    MARK.stamp(&transaction)?;
    transaction.commit()
}
