//! Dead letters read out of their table: a page, one, a count. See [`schema`](super::schema) for the indexes.
//!
//! Invariants:
//! - A page looks at a bounded number of rows, whatever is asked for: what no index finds is looked for page by page.
//! - A count reads no record: all that is counted stands in one index.

use std::time::SystemTime;

use bytes::Bytes;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row, params_from_iter};

use super::codec;
use super::reader::Reader;
use super::schema::{DIGEST, HANDLER};
use crate::broker::dead_letters::short_digest;
use crate::broker::{DeadLetterError, DeadLetterFilter, DeadLetterPage, DeadLetterQuery, Tally, Traits};
use crate::settle::dead_letter::{DeadLetter, DeadLetterId, DeadLetterRecord, StoredDeadLetter};

/// Dead letters on a page when the query does not say.
const PAGE: usize = 100;
/// The most dead letters on a page: their records and headers are held in memory together.
const LARGEST_PAGE: usize = 1000;
/// Rows that one page looks at: a record takes some 10 us to read, so this is a tenth of a second.
const LOOK_AT_MOST: usize = 10_000;

impl Reader {
    pub(super) async fn list(&self, query: &DeadLetterQuery) -> Result<DeadLetterPage, DeadLetterError> {
        let query = query.clone();
        self.run(move |connection| list(connection, &query)).await.map_err(DeadLetterError::Store)
    }

    pub(super) async fn get(&self, id: &DeadLetterId) -> Result<StoredDeadLetter, DeadLetterError> {
        let wanted = id.0.clone();
        let found = self.run(move |connection| {
            let sql = format!("SELECT {COLUMNS}, body FROM dead_letter WHERE id = ?1");
            connection
                .query_row(&sql, [wanted], |row| {
                    let mut stored = stored(row)?;
                    stored.letter.body = Bytes::copy_from_slice(row.get_ref(12)?.as_blob()?);
                    Ok(stored)
                })
                .optional()
        });
        found.await.map_err(DeadLetterError::Store)?.ok_or_else(|| DeadLetterError::NotFound(id.0.clone()))
    }

    pub(super) async fn tally(&self, filter: &DeadLetterFilter, tally: Tally) -> Result<Tally, DeadLetterError> {
        let filter = filter.clone();
        self.run(move |connection| count(connection, &filter, tally)).await.map_err(DeadLetterError::Store)
    }
}

/// Conditions in SQL, with their values.
#[derive(Default)]
struct Conditions {
    sql: Vec<String>,
    values: Vec<Value>,
}

impl Conditions {
    fn add(&mut self, sql: impl Into<String>, value: impl Into<Value>) {
        self.sql.push(sql.into());
        self.values.push(value.into());
    }

    /// Between the times of death, as far as ids tell them: they begin with the millisecond.
    fn within(&mut self, filter: &DeadLetterFilter) {
        if let Some(since) = filter.since {
            self.add("id >= ?", first_id(since));
        }
        if let Some(until) = filter.until {
            // Of the millisecond that the time is in, some may have died before it.
            self.add("id < ?", first_id(until + std::time::Duration::from_millis(1)));
        }
    }

    fn sql(&self) -> String {
        if self.sql.is_empty() { "1".to_owned() } else { self.sql.join(" AND ") }
    }
}

/// The least id of a dead letter that died at a time.
fn first_id(time: SystemTime) -> String {
    let millis = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    ulid::Ulid::from_parts(u64::try_from(millis).unwrap_or(u64::MAX), 0).to_string()
}

/// What the database looks for by an index: one thing, of those that are asked for the one that is likely the rarest. The
/// rest is compared row by row, so that rows are counted.
fn sought(filter: &DeadLetterFilter) -> Option<(&'static str, &str)> {
    if filter.include_redriven {
        return None;
    }
    let rows = [
        ("fingerprint", filter.fingerprint.as_deref()),
        (DIGEST, filter.digest.as_deref().map(short_digest)),
        (HANDLER, filter.handler.as_deref()),
        ("subscription", filter.subscription.as_deref()),
        ("reason", filter.reason.as_deref()),
    ];
    rows.into_iter().find_map(|(column, value)| Some((column, value?)))
}

/// What [`stored`] reads.
const COLUMNS: &str = "id, subscription, reason, subject, source_seq, record, redriven_us, headers, length(body), \
                       fingerprint, dead_us, redrives";

fn list(connection: &Connection, query: &DeadLetterQuery) -> Result<DeadLetterPage, rusqlite::Error> {
    let limit = if query.limit == 0 { PAGE } else { query.limit.min(LARGEST_PAGE) };
    let filter = &query.filter;
    let mut conditions = Conditions::default();
    if let Some((column, value)) = sought(filter) {
        conditions.add(format!("{column} = ?"), value.to_owned());
    }
    conditions.within(filter);
    let (behind, order) = if query.oldest_first { ("id > ?", "ASC") } else { ("id < ?", "DESC") };
    if let Some(after) = &query.after {
        conditions.add(behind, after.0.clone());
    }
    if !filter.include_redriven {
        conditions.sql.push("redriven_us IS NULL".to_owned());
    }
    let sql = format!("SELECT {COLUMNS} FROM dead_letter WHERE {} ORDER BY id {order}", conditions.sql());
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query(params_from_iter(conditions.values))?;
    let mut page = DeadLetterPage::default();
    let mut looked_at = None;
    for looks in 0.. {
        let Some(row) = rows.next()? else { return Ok(page) };
        // There is more than the page holds, or than it may look at: the next one begins behind what was looked at.
        if page.letters.len() == limit || looks == LOOK_AT_MOST {
            break;
        }
        let found = stored(row)?;
        looked_at = Some(DeadLetterId(row.get(0)?));
        if filter.matches(&found.letter.record, found.redriven_at.is_some()) {
            page.letters.push(found);
        }
    }
    page.next = looked_at;
    Ok(page)
}

fn count(connection: &Connection, filter: &DeadLetterFilter, mut tally: Tally) -> Result<Tally, rusqlite::Error> {
    // The index has microseconds.
    let since = filter.since.map(|since| codec::time(codec::micros(since)));
    let filter = &DeadLetterFilter { since, ..filter.clone() };
    let mut conditions = Conditions::default();
    conditions.within(filter);
    let looks_into_records = filter.text.is_some();
    let record = if looks_into_records { "record" } else { "NULL" };
    let sql = format!(
        "SELECT id, dead_us, fingerprint, reason, subscription, {HANDLER}, {DIGEST}, {record} FROM dead_letter \
         WHERE {} AND redriven_us IS NULL ORDER BY id DESC",
        conditions.sql()
    );
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query(params_from_iter(conditions.values))?;
    while let Some(row) = rows.next()? {
        let text = |index: usize| Ok::<_, rusqlite::Error>(row.get_ref(index)?.as_str_or_null()?.unwrap_or_default());
        let traits = Traits {
            id: text(0)?,
            died: codec::time(row.get(1)?),
            fingerprint: text(2)?,
            reason: text(3)?,
            subscription: text(4)?,
            handler: text(5)?,
            digest: text(6)?,
        };
        let error = match looks_into_records {
            true => serde_json::from_str::<DeadLetterRecord>(text(7)?).map(|record| record.error).unwrap_or_default(),
            false => String::new(),
        };
        if filter.takes(&traits, &error) {
            tally.count(&traits);
        } else {
            tally.pass();
        }
    }
    Ok(tally)
}

fn stored(row: &Row<'_>) -> Result<StoredDeadLetter, rusqlite::Error> {
    let text = row.get_ref(5)?.as_str()?;
    let record = match serde_json::from_str::<DeadLetterRecord>(text) {
        // The queue's own words on who gave it up and which message it was; see `prepare::DeadRow`. One that was brought
        // in may have a stand-in for its sequence, which is below zero.
        Ok(record) => {
            let sequence = u64::try_from(row.get::<_, i64>(4)?).unwrap_or(record.sequence);
            DeadLetterRecord { subscription: row.get(1)?, sequence, ..record }
        }
        Err(error) => unreadable_record(row, &error.to_string())?,
    };
    // Headers that cannot be decoded are left out of what is shown; `redrive` refuses them.
    let headers = codec::decode_headers(row.get_ref(7)?.as_blob()?).unwrap_or_default();
    Ok(StoredDeadLetter {
        handle: record.id.clone(),
        letter: DeadLetter { record, headers, body: Bytes::new() },
        body_size: row.get::<_, i64>(8)?.max(0).cast_unsigned(),
        redriven_at: row.get::<_, Option<i64>>(6)?.map(codec::time),
    })
}

/// A record that cannot be read is still listed, with what the columns beside it say.
fn unreadable_record(row: &Row<'_>, problem: &str) -> Result<DeadLetterRecord, rusqlite::Error> {
    let error = format!("the record of this dead letter cannot be read: {problem}");
    Ok(DeadLetterRecord {
        subscription: row.get(1)?,
        broker: "embedded".to_owned(),
        subject: row.get(3)?,
        sequence: row.get::<_, i64>(4)?.cast_unsigned(),
        fingerprint: row.get(9)?,
        dead_at: codec::time(row.get(10)?),
        redrives: row.get(11)?,
        ..DeadLetterRecord::bare(DeadLetterId(row.get(0)?), row.get::<_, String>(2)?, error)
    })
}
