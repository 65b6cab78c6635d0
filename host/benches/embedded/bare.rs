//! SQLite alone, doing the writes that the queue does on this path: its tables, its settings, prepared statements.

use std::collections::VecDeque;
use std::path::Path;

use bytes::Bytes;
use rusqlite::{Connection, params};

use super::{BODY, ID_BYTES, message_id};

const TABLES: &str = "
PRAGMA page_size = 4096; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 4096;
PRAGMA cache_size = -16384;
CREATE TABLE message (seq INTEGER PRIMARY KEY, subject TEXT NOT NULL, target INTEGER, id TEXT,
    published_us INTEGER NOT NULL, checksum INTEGER NOT NULL, headers BLOB NOT NULL, body BLOB NOT NULL);
CREATE TABLE seen (first_seq INTEGER PRIMARY KEY, at_us INTEGER NOT NULL, ids BLOB NOT NULL);
CREATE TABLE subscription (id INTEGER PRIMARY KEY, cursor INTEGER NOT NULL, floor INTEGER NOT NULL,
    ready INTEGER NOT NULL);
CREATE TABLE totals (one INTEGER PRIMARY KEY, next_seq INTEGER NOT NULL, messages INTEGER NOT NULL,
    bytes INTEGER NOT NULL);
INSERT INTO subscription VALUES (1, 0, 1, 0);
INSERT INTO totals VALUES (1, 1, 0, 0);
";
const NOW_US: i64 = 1_700_000_000_000_000;
const CHECKSUM: i64 = 0x1234_5678;

pub(super) struct Bare {
    connection: Connection,
    window: u64,
    remembered: u64,
    /// The rows of `seen`, the oldest first: key and how many ids.
    seen: VecDeque<(i64, u64)>,
    published: u64,
    cursor: i64,
}

impl Bare {
    pub(super) fn open(directory: &Path, window: u64) -> Self {
        let connection = Connection::open(directory.join("bare.db")).unwrap();
        connection.execute_batch(TABLES).unwrap();
        Self { connection, window, remembered: 0, seen: VecDeque::new(), published: 0, cursor: 0 }
    }

    /// The messages that are left.
    pub(super) fn left(&self) -> u64 {
        let count = self.connection.query_row("SELECT count(*) FROM message", [], |row| row.get::<_, i64>(0));
        count.unwrap().cast_unsigned()
    }

    /// In groups of so many messages a transaction.
    pub(super) fn publish(&mut self, count: u64, group: u64) {
        let prepare = |sql: &str| self.connection.prepare(sql).unwrap();
        let mut insert = prepare("INSERT INTO message VALUES (?1, ?2, NULL, ?3, ?4, ?5, x'', ?6)");
        let mut insert_seen = prepare("INSERT INTO seen VALUES (?1, ?2, ?3)");
        let mut delete_seen = prepare("DELETE FROM seen WHERE first_seq = ?1");
        let mut totals = prepare("UPDATE totals SET next_seq = ?1, messages = ?1, bytes = ?1");
        let mut ready = prepare("UPDATE subscription SET ready = ?1");
        let end_of_all = self.published + count;
        while self.published < end_of_all {
            let first = self.published.cast_signed() + 1;
            let end = end_of_all.min(self.published + group);
            self.connection.execute_batch("BEGIN IMMEDIATE").unwrap();
            for n in self.published..end {
                let sequence = n.cast_signed() + 1;
                insert.execute(params![sequence, "bench.event", message_id(n), NOW_US, CHECKSUM, &BODY[..]]).unwrap();
            }
            let added = end - self.published;
            let ids = vec![7_u8; usize::try_from(added).unwrap() * ID_BYTES];
            insert_seen.execute(params![first, NOW_US, ids]).unwrap();
            self.seen.push_back((first, added));
            self.remembered += added;
            while self.remembered > self.window {
                let (key, forgotten) = self.seen.pop_front().unwrap();
                delete_seen.execute([key]).unwrap();
                self.remembered -= forgotten;
            }
            totals.execute([end.cast_signed()]).unwrap();
            ready.execute([end.cast_signed()]).unwrap();
            self.connection.execute_batch("COMMIT").unwrap();
            self.published = end;
        }
    }

    /// In groups of so many messages a transaction.
    pub(super) fn consume(&mut self, count: u64, group: u64) {
        let prepare = |sql: &str| self.connection.prepare(sql).unwrap();
        let columns = "seq, subject, id, published_us, checksum, headers, body";
        let mut scan = prepare(&format!("SELECT {columns} FROM message WHERE seq > ?1 ORDER BY seq LIMIT ?2"));
        let mut delete = prepare("DELETE FROM message WHERE seq = ?1");
        let mut totals = prepare("UPDATE totals SET messages = ?1, bytes = ?1");
        let mut marks = prepare("UPDATE subscription SET cursor = ?1, floor = ?1, ready = ?1");
        let mut left = count;
        while left > 0 {
            self.connection.execute_batch("BEGIN IMMEDIATE").unwrap();
            let rows = scan.query_map([self.cursor, group.min(left).cast_signed()], |row| {
                let body = Bytes::copy_from_slice(row.get_ref(6)?.as_blob()?);
                Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?, body))
            });
            let came: Vec<_> = rows.unwrap().map(Result::unwrap).collect();
            for (sequence, ..) in &came {
                delete.execute([sequence]).unwrap();
                self.cursor = *sequence;
            }
            totals.execute([self.cursor]).unwrap();
            marks.execute([self.cursor]).unwrap();
            self.connection.execute_batch("COMMIT").unwrap();
            left -= came.len() as u64;
        }
    }
}
