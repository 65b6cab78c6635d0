//! Takes up the queue as the last process left it.
//!
//! Invariants:
//! - Everything that was handed out and not settled is available again at once, and its deliveries count.
//! - Opening costs reads in proportion to what was in flight, never to the backlog.

use rusqlite::{Connection, params};

use super::codec;
use super::error::Failure;
use super::filters::Filters;
use super::state::{Marks, State, Subscription, Totals};
use super::window::Window;

/// The queue's name and its state.
pub(super) fn load(connection: &mut Connection, dedupe_oldest_us: i64) -> Result<(String, State), Failure> {
    let transaction = connection.transaction()?;
    let (name, totals) = transaction.query_row(
        "SELECT name, next_seq, messages, bytes, dead, expired, unreadable FROM totals",
        [],
        |row| {
            let totals = Totals {
                next_seq: row.get(1)?,
                messages: row.get(2)?,
                bytes: row.get(3)?,
                dead: row.get(4)?,
                expired: row.get(5)?,
                unreadable: row.get(6)?,
            };
            Ok((row.get(0)?, totals))
        },
    )?;
    let mut state = State::new(totals, load_window(&transaction, dedupe_oldest_us)?);
    for (id, name, filters, marks) in load_subscriptions(&transaction)? {
        let interrupted = recover_first_runs(&transaction, id, &filters, marks)?;
        if interrupted > 0 {
            tracing::warn!(subscription = %name, interrupted, "messages that were in flight are handed out again");
        }
        let marks = settle_marks(&transaction, id, marks)?;
        state.subscriptions.insert(id, Subscription::new(id, name, filters, marks));
    }
    transaction.commit()?;
    Ok((name, state))
}

fn load_window(connection: &Connection, oldest_us: i64) -> Result<Window, Failure> {
    let mut window = Window::default();
    let mut statement = connection.prepare("SELECT ids FROM seen WHERE at_us >= ?1 ORDER BY first_seq")?;
    let mut rows = statement.query([oldest_us])?;
    while let Some(row) = rows.next()? {
        window.load_row(row.get_ref(0)?.as_blob().unwrap_or_default());
    }
    Ok(window)
}

fn load_subscriptions(connection: &Connection) -> Result<Vec<(i64, String, Filters, Marks)>, Failure> {
    let mut statement = connection.prepare("SELECT id, name, subjects, cursor, floor, ready FROM subscription")?;
    let rows = statement.query_map([], |row| {
        let marks = Marks::stored(row.get(3)?, row.get(4)?, row.get(5)?);
        Ok((row.get(0)?, row.get(1)?, Filters::from_text(row.get_ref(2)?.as_str()?), marks))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Gives a row, with its one delivery, to each message that was handed out for the first time and not settled.
fn recover_first_runs(connection: &Connection, id: i64, filters: &Filters, marks: Marks) -> Result<u64, Failure> {
    let mut find = connection.prepare(
        "SELECT seq, subject, target FROM message AS m WHERE seq BETWEEN ?2 AND ?3
         AND NOT EXISTS (SELECT 1 FROM pending AS p WHERE p.subscription = ?1 AND p.seq = m.seq)
         AND NOT EXISTS (SELECT 1 FROM settled AS s WHERE s.subscription = ?1 AND s.seq = m.seq)",
    )?;
    let mut put = connection.prepare("INSERT INTO pending VALUES (?1, ?2, 0, 1, NULL)")?;
    let mut rows = find.query(params![id, marks.floor, marks.cursor])?;
    let mut interrupted = 0;
    while let Some(row) = rows.next()? {
        let target: Option<i64> = row.get(2)?;
        let wants = match target {
            Some(target) => target == id,
            None => row.get_ref(1)?.as_str().is_ok_and(|subject| filters.want(subject)),
        };
        if wants {
            put.execute(params![id, row.get::<_, i64>(0)?])?;
            interrupted += 1;
        }
    }
    Ok(interrupted)
}

/// Nothing is handed out now, so everything with a row is due, and the floor is the cursor's.
fn settle_marks(connection: &Connection, id: i64, marks: Marks) -> Result<Marks, Failure> {
    let floor = marks.cursor.saturating_add(1);
    connection.execute("UPDATE pending SET due_us = 0 WHERE subscription = ?1 AND due_us IS NULL", [id])?;
    connection.execute("DELETE FROM settled WHERE subscription = ?1", [id])?;
    connection.execute("UPDATE subscription SET floor = ?2 WHERE id = ?1", [id, floor])?;
    let (pending, next_due_us) =
        connection.query_row("SELECT count(*), min(due_us) FROM pending WHERE subscription = ?1", [id], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    Ok(Marks { floor, pending, next_due_us, ..marks })
}

/// The time of the oldest id that is still remembered.
pub(super) fn oldest_id_us(now_us: i64, window: std::time::Duration) -> i64 {
    now_us.saturating_sub(codec::duration_micros(window))
}
