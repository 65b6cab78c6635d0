//! Listings: read on a connection of their own and on the blocking pool, never through the writer.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension as _};

use super::codec;
use super::filters::Filters;
use super::inbox::Counted;
use super::{OpenError, schema};
use crate::broker::{DeadLetterError, KeptSubscription};

/// How many rows are looked at for the oldest message that a subscription wants.
const LOOK_AT_MOST: usize = 1000;

/// What waits for a subscription.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Waiting {
    pub(super) oldest: Option<SystemTime>,
    pub(super) next_due: Option<SystemTime>,
}

/// A connection for listings. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    directory: PathBuf,
    // One connection, so one listing at a time: a person looks, and a second one waits for some milliseconds.
    connection: Arc<Mutex<Option<Connection>>>,
}

impl Reader {
    pub(super) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), connection: Arc::default() }
    }

    /// Runs a listing on the blocking pool. Dropping the future lets it end by itself.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> Result<T, String> {
        let own = self.clone();
        let task = tokio::task::spawn_blocking(move || {
            let mut connection = own.connection.lock().unwrap_or_else(PoisonError::into_inner);
            let open = match connection.take() {
                Some(open) => open,
                None => schema::open_reader(&own.directory).map_err(|error| error.to_string())?,
            };
            let answer = read(&open).map_err(|error| error.to_string());
            *connection = Some(open);
            answer
        });
        task.await.map_err(|error| format!("the listing was interrupted: {error}"))?
    }

    /// Opens the connection now, to say early what is wrong.
    pub(super) async fn probe(&self) -> Result<(), OpenError> {
        let directory = self.directory.clone();
        let path = directory.clone();
        let probed = tokio::task::spawn_blocking(move || schema::open_reader(&directory).map(drop)).await;
        probed.unwrap_or_else(|error| Err(OpenError::Store { path, detail: error.to_string() }))
    }

    /// Counts the kept messages that a subscription is to be handed from the start, when that is not known yet.
    pub(super) async fn count_ready(&self, name: String, filters: Filters) -> Result<Counted, String> {
        self.run(move |connection| {
            let snapshot = connection.unchecked_transaction()?;
            let known = snapshot
                .query_row("SELECT cursor, subjects FROM subscription WHERE name = ?1", [&name], |row| {
                    Ok((row.get::<_, i64>(0)?, Filters::from_text(row.get_ref(1)?.as_str()?)))
                })
                .optional()?;
            let cursor = match known {
                Some((_, known)) if known == filters => return Ok(Counted::default()),
                Some((cursor, _)) => cursor,
                None => 0,
            };
            let through = snapshot.query_row("SELECT next_seq - 1 FROM totals", [], |row| row.get(0))?;
            let mut statement = snapshot.prepare("SELECT subject FROM message WHERE seq > ?1 AND target IS NULL")?;
            let mut rows = statement.query([cursor])?;
            let mut messages = 0;
            while let Some(row) = rows.next()? {
                messages += i64::from(row.get_ref(0)?.as_str().is_ok_and(|subject| filters.want(subject)));
            }
            Ok(Counted { through, messages })
        })
        .await
    }

    /// When the oldest message that a subscription has not settled was published, as far as a short look finds it; and when
    /// the next of those is due that wait for another attempt.
    pub(super) async fn waiting(&self, name: String, floor: i64) -> Result<Waiting, String> {
        self.run(move |connection| {
            let sql = "SELECT id, subjects FROM subscription WHERE name = ?1";
            let own = connection
                .query_row(sql, [&name], |row| {
                    Ok((row.get::<_, i64>(0)?, Filters::from_text(row.get_ref(1)?.as_str()?)))
                })
                .optional()?;
            let Some((id, filters)) = own else { return Ok(Waiting::default()) };
            let sql = "SELECT m.published_us FROM pending AS p JOIN message AS m ON m.seq = p.seq
                       WHERE p.subscription = ?1 ORDER BY p.seq LIMIT 1";
            let waiting: Option<i64> = connection.query_row(sql, [id], |row| row.get(0)).optional()?;
            let fresh = oldest_wanted(connection, id, &filters, floor)?;
            let sql = "SELECT min(due_us) FROM pending WHERE subscription = ?1 AND due_us IS NOT NULL";
            let next_due: Option<i64> = connection.query_row(sql, [id], |row| row.get(0))?;
            let oldest = [waiting, fresh].into_iter().flatten().min();
            Ok(Waiting { oldest: oldest.map(codec::time), next_due: next_due.map(codec::time) })
        })
        .await
    }

    pub(super) async fn subscriptions(&self) -> Result<Vec<KeptSubscription>, String> {
        self.run(|connection| {
            let sql = "SELECT name, subjects, ready, last_seen_us,
                       (SELECT count(*) FROM pending AS p WHERE p.subscription = s.id)
                       FROM subscription AS s ORDER BY name";
            let mut statement = connection.prepare(sql)?;
            let rows = statement.query_map([], |row| {
                Ok(KeptSubscription {
                    name: row.get(0)?,
                    subjects: Filters::from_text(row.get_ref(1)?.as_str()?).into_subjects(),
                    ready: row.get::<_, i64>(2)?.max(0).cast_unsigned(),
                    last_seen: codec::time(row.get(3)?),
                    pending: row.get::<_, i64>(4)?.max(0).cast_unsigned(),
                    in_use: false,
                })
            })?;
            rows.collect()
        })
        .await
    }

    /// What SQLite finds wrong with its file; empty when nothing is. Reads all of it.
    pub(super) async fn check(&self) -> Result<Vec<String>, String> {
        self.run(|connection| {
            let mut statement = connection.prepare("PRAGMA quick_check")?;
            let lines: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
            Ok(lines.into_iter().filter(|line| line != "ok").collect())
        })
        .await
    }

    pub(super) async fn depth(&self) -> Result<u64, DeadLetterError> {
        let depth = self.run(|connection| connection.query_row("SELECT dead FROM totals", [], |row| row.get(0)));
        let depth: i64 = depth.await.map_err(DeadLetterError::Store)?;
        Ok(depth.max(0).cast_unsigned())
    }

    /// When the oldest dead letter that was not sent back died. Ids are in the order of the deaths, and the index has both.
    pub(super) async fn oldest_dead(&self) -> Result<Option<SystemTime>, DeadLetterError> {
        let oldest = self.run(|connection| {
            let sql = "SELECT dead_us FROM dead_letter WHERE redriven_us IS NULL ORDER BY id LIMIT 1";
            connection.query_row(sql, [], |row| row.get(0)).optional()
        });
        Ok(oldest.await.map_err(DeadLetterError::Store)?.map(codec::time))
    }
}

fn oldest_wanted(
    connection: &Connection,
    id: i64,
    filters: &Filters,
    floor: i64,
) -> Result<Option<i64>, rusqlite::Error> {
    let sql = "SELECT subject, target, published_us FROM message WHERE seq >= ?1 ORDER BY seq";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([floor])?;
    for _ in 0..LOOK_AT_MOST {
        let Some(row) = rows.next()? else { break };
        let wants = match row.get::<_, Option<i64>>(1)? {
            Some(target) => target == id,
            None => row.get_ref(0)?.as_str().is_ok_and(|subject| filters.want(subject)),
        };
        if wants {
            return row.get(2).map(Some);
        }
    }
    Ok(None)
}
