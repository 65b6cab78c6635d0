//! The messages that the store still has, read and left as they are.

use rusqlite::{Connection, OptionalExtension as _};

use super::codec;
use super::filters::Filters;
use super::reader::Reader;
use super::row;
use super::statements::message_columns;
use crate::broker::past::Filling;
use crate::broker::{PastError, PastPage, PastQuery};

/// A page looks at so many rows: some milliseconds, also where few of them are wanted.
const LOOK_AT_MOST: usize = 10_000;

impl Reader {
    /// A page of what a subscription wants, whether it has settled it or not.
    pub(super) async fn past(&self, subscription: String, query: PastQuery) -> Result<PastPage, PastError> {
        self.run(move |connection| page(connection, &subscription, &query)).await.map_err(PastError::Away)
    }
}

fn page(connection: &Connection, subscription: &str, query: &PastQuery) -> Result<PastPage, rusqlite::Error> {
    let snapshot = connection.unchecked_transaction()?;
    let sql = "SELECT id, subjects FROM subscription WHERE name = ?1";
    let own = snapshot
        .query_row(sql, [subscription], |row| {
            Ok((row.get::<_, i64>(0)?, Filters::from_text(row.get_ref(1)?.as_str()?)))
        })
        .optional()?;
    let oldest: Option<i64> =
        snapshot.query_row("SELECT published_us FROM message ORDER BY seq LIMIT 1", [], |row| row.get(0)).optional()?;
    let mut filling = Filling::new(query, oldest.map(codec::time), false);
    let Some((id, filters)) = own else { return Ok(filling.done()) };
    let queue: String = snapshot.query_row("SELECT name FROM totals", [], |row| row.get(0))?;
    let mut large_body = snapshot.prepare("SELECT body FROM message WHERE seq = ?1")?;
    let columns = message_columns();
    let sql = format!("SELECT {columns} FROM message AS m WHERE m.seq > ?1 ORDER BY m.seq LIMIT {}", LOOK_AT_MOST + 1);
    let mut statement = snapshot.prepare(&sql)?;
    let mut rows = statement.query([filling.last().cast_signed()])?;
    let mut looked_at = 0;
    while let Some(row) = rows.next()? {
        if looked_at == LOOK_AT_MOST {
            filling.cut();
            break;
        }
        looked_at += 1;
        let sequence: i64 = row.get(0)?;
        let (subject, target) = row::address(row, 0)?;
        let wanted = target.is_none_or(|target| target == id) && subject.is_some_and(|subject| filters.want(subject));
        if wanted && filling.wants(codec::time(row.get(4)?)) {
            let found = row::read(row, 0, &queue, &mut large_body)?;
            // What is damaged cannot be handed to a handler.
            if found.damage.is_none() && !filling.add(found.message) {
                break;
            }
        }
        filling.passed(sequence.cast_unsigned());
    }
    Ok(filling.done())
}
