//! Dead letters read out of their table: a page, one, a count. See [`schema`](super::schema) for the indexes.
//!
//! Invariants:
//! - A page looks at a bounded number of rows, whatever is asked for: what no index finds is looked for page by page.
//! - What the index that has all traits can tell is looked for in it alone, when reading records one by one took long.
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
/// Rows of the index of all traits that one page goes through after that, without their records: half a second of them.
const SIFT_AT_MOST: usize = 1_000_000;

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
    let order = if query.oldest_first { Order::OldestFirst } else { Order::NewestFirst };
    if let Some(after) = &query.after {
        conditions.add(order.behind(), after.0.clone());
    }
    if !filter.include_redriven {
        conditions.sql.push("redriven_us IS NULL".to_owned());
    }
    let sql = format!("SELECT {COLUMNS} FROM dead_letter WHERE {} ORDER BY id {}", conditions.sql(), order.sql());
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query(params_from_iter(conditions.values))?;
    let mut page = DeadLetterPage::default();
    let mut looked_at: Option<DeadLetterId> = None;
    for looks in 0.. {
        let Some(row) = rows.next()? else { return Ok(page) };
        // There is more than the page holds, or than it may look at: the next one begins behind what was looked at.
        if page.letters.len() == limit {
            break;
        }
        if looks == LOOK_AT_MOST {
            if let Some(last) = looked_at.take_if(|_| can_be_sifted(filter)) {
                return sift(connection, query, page, limit, last);
            }
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

/// Whether all that is asked for stands in the index of all traits: those of dead letters that were not sent back.
fn can_be_sifted(filter: &DeadLetterFilter) -> bool {
    !filter.include_redriven && filter.text.is_none()
}

/// Fills a page up from behind a dead letter, by the index of all traits: only what matches is read. Of two traits that
/// are frequent each and never meet, no index of one of them finds out.
fn sift(
    connection: &Connection,
    query: &DeadLetterQuery,
    mut page: DeadLetterPage,
    limit: usize,
    behind: DeadLetterId,
) -> Result<DeadLetterPage, rusqlite::Error> {
    let mut conditions = Conditions::default();
    conditions.within(&query.filter);
    let order = if query.oldest_first { Order::OldestFirst } else { Order::NewestFirst };
    conditions.add(order.behind(), behind.0);
    let mut statement = connection.prepare(&traits_of(&conditions, "NULL", order))?;
    let mut rows = statement.query(params_from_iter(conditions.values))?;
    let mut whole = connection.prepare(&format!("SELECT {COLUMNS} FROM dead_letter WHERE id = ?1"))?;
    let mut looked_at = None;
    for looks in 0.. {
        let Some(row) = rows.next()? else { return Ok(page) };
        if page.letters.len() == limit || looks == SIFT_AT_MOST {
            break;
        }
        let traits = traits(row)?;
        if query.filter.takes(&traits, "") {
            page.letters.push(whole.query_row([traits.id], stored)?);
        }
        looked_at = Some(DeadLetterId(traits.id.to_owned()));
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
    let mut statement = connection.prepare(&traits_of(&conditions, record, Order::NewestFirst))?;
    let mut rows = statement.query(params_from_iter(conditions.values))?;
    while let Some(row) = rows.next()? {
        let traits = traits(row)?;
        let error = match looks_into_records {
            true => {
                let record = serde_json::from_str::<DeadLetterRecord>(text(row, 7)?);
                record.map(|record| record.error).unwrap_or_default()
            }
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

/// In which order dead letters are read.
#[derive(Debug, Clone, Copy)]
enum Order {
    NewestFirst,
    OldestFirst,
}

impl Order {
    const fn sql(self) -> &'static str {
        match self {
            Self::NewestFirst => "DESC",
            Self::OldestFirst => "ASC",
        }
    }

    /// The condition for what stands behind another one.
    const fn behind(self) -> &'static str {
        match self {
            Self::NewestFirst => "id < ?",
            Self::OldestFirst => "id > ?",
        }
    }
}

/// The question for the traits of those that were not sent back, which one index has; and a column besides.
fn traits_of(conditions: &Conditions, more: &str, order: Order) -> String {
    format!(
        "SELECT id, dead_us, fingerprint, reason, subscription, {HANDLER}, {DIGEST}, {more} FROM dead_letter \
         WHERE {} AND redriven_us IS NULL ORDER BY id {}",
        conditions.sql(),
        order.sql()
    )
}

fn text<'a>(row: &'a Row<'_>, index: usize) -> Result<&'a str, rusqlite::Error> {
    Ok(row.get_ref(index)?.as_str_or_null()?.unwrap_or_default())
}

fn traits<'a>(row: &'a Row<'_>) -> Result<Traits<'a>, rusqlite::Error> {
    Ok(Traits {
        id: text(row, 0)?,
        died: codec::time(row.get(1)?),
        fingerprint: text(row, 2)?,
        reason: text(row, 3)?,
        subscription: text(row, 4)?,
        handler: text(row, 5)?,
        digest: text(row, 6)?,
    })
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::super::schema::open_writer;
    use super::*;

    /// More than a page looks at one by one: handler and subscription go by the row's number, and never meet but in the rows
    /// that are divisible by 10,000.
    const ROWS: i64 = 35_000;

    fn store() -> (tempfile::TempDir, Connection) {
        let directory = tempfile::tempdir().unwrap();
        let connection = open_writer(directory.path()).unwrap();
        let bare = DeadLetterRecord::bare(DeadLetterId("0".to_owned()), "timeout", String::new());
        let sql = "
            WITH RECURSIVE row(n) AS (VALUES(0) UNION ALL SELECT n + 1 FROM row WHERE n + 1 < ?2)
            INSERT INTO dead_letter (id, subscription, reason, fingerprint, subject, source_seq, redrives, dead_us,
                                     record, headers, body)
            SELECT printf('%026d', n), iif(n % 2 = 0 OR n % 10000 = 0, 'even', 'odd'), 'timeout', 'f', 's', n, 0, n,
                   json_set(?1, '$.id', printf('%026d', n), '$.handler', iif(n % 2 = 0 AND n % 10000 > 0, 'h', 'rare')),
                   x'', x''
            FROM row";
        connection.execute(sql, (serde_json::to_string(&bare).unwrap(), ROWS)).unwrap();
        (directory, connection)
    }

    /// All that match, page by page, and how many pages that took.
    fn all(connection: &Connection, mut query: DeadLetterQuery) -> (Vec<u64>, usize) {
        let (mut found, mut pages) = (Vec::new(), 0);
        loop {
            let page = list(connection, &query).unwrap();
            found.extend(page.letters.iter().map(|letter| letter.letter.record.sequence));
            pages += 1;
            match page.next {
                Some(next) => query.after = Some(next),
                None => return (found, pages),
            }
        }
    }

    #[test]
    fn two_frequent_traits_that_seldom_meet_are_looked_for_in_one_index() {
        let (_directory, connection) = store();
        let filter = DeadLetterFilter {
            handler: Some("rare".to_owned()),
            subscription: Some("even".to_owned()),
            ..DeadLetterFilter::default()
        };
        let query = DeadLetterQuery { filter, ..DeadLetterQuery::default() };
        assert_eq!(all(&connection, query.clone()), (vec![30_000, 20_000, 10_000, 0], 1));
        let oldest = DeadLetterQuery { oldest_first: true, ..query.clone() };
        assert_eq!(all(&connection, oldest.clone()), (vec![0, 10_000, 20_000, 30_000], 1));
        // The page ends in the middle of it, and the next one goes on behind.
        let (found, pages) = all(&connection, DeadLetterQuery { limit: 3, ..oldest });
        assert_eq!((found, pages), (vec![0, 10_000, 20_000, 30_000], 2));
        let mut none = query.clone();
        none.filter.reason = Some("denied".to_owned());
        assert_eq!(all(&connection, none), (vec![], 1));
        // What is not in the index is looked for record by record, a bounded number a page.
        let mut text = query;
        text.filter.text = Some("nowhere".to_owned());
        let (found, pages) = all(&connection, text);
        assert!(found.is_empty() && pages > 1, "{pages}");
    }
}
