//! The writer's statements, prepared once.

use rusqlite::{Connection, Statement};

pub(super) struct Statements<'c> {
    pub(super) begin: Statement<'c>,
    pub(super) commit: Statement<'c>,
    pub(super) rollback: Statement<'c>,
    pub(super) insert_message: Statement<'c>,
    pub(super) delete_message: Statement<'c>,
    pub(super) scan: Statement<'c>,
    pub(super) scan_due: Statement<'c>,
    pub(super) large_body: Statement<'c>,
    pub(super) next_due: Statement<'c>,
    pub(super) hand_out_again: Statement<'c>,
    pub(super) put_pending: Statement<'c>,
    pub(super) make_due: Statement<'c>,
    pub(super) give_back: Statement<'c>,
    pub(super) delete_pending: Statement<'c>,
    pub(super) is_pending: Statement<'c>,
    pub(super) insert_settled: Statement<'c>,
    pub(super) trim_settled: Statement<'c>,
    pub(super) save_subscription: Statement<'c>,
    pub(super) save_totals: Statement<'c>,
    pub(super) insert_seen: Statement<'c>,
    pub(super) oldest_seen: Statement<'c>,
    pub(super) seen_ids: Statement<'c>,
    pub(super) delete_seen: Statement<'c>,
    pub(super) insert_dead: Statement<'c>,
    pub(super) dead_record: Statement<'c>,
    pub(super) oldest_messages: Statement<'c>,
}

/// Bodies above this are left to [`Statements::large_body`]: a scan that passes over messages for others should not
/// read what it does not hand out. Smaller ones lie in the row's own page, and cost nothing more.
const LARGE_BODY: usize = 2048;

/// The columns that [`super::row`] reads, of a table or alias `m`.
pub(super) fn message_columns() -> String {
    format!(
        "m.seq, m.subject, m.target, m.id, m.published_us, m.checksum, m.headers, \
         CASE WHEN length(m.body) <= {LARGE_BODY} THEN m.body END, length(m.body)"
    )
}

impl<'c> Statements<'c> {
    pub(super) fn prepare(connection: &'c Connection) -> Result<Self, rusqlite::Error> {
        let columns = message_columns();
        let prepare = |sql: &str| connection.prepare(sql);
        Ok(Self {
            begin: prepare("BEGIN IMMEDIATE")?,
            commit: prepare("COMMIT")?,
            rollback: prepare("ROLLBACK")?,
            insert_message: prepare("INSERT INTO message VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?,
            delete_message: prepare("DELETE FROM message WHERE seq = ?1")?,
            scan: prepare(&format!("SELECT {columns} FROM message AS m WHERE m.seq > ?1 ORDER BY m.seq"))?,
            scan_due: prepare(&format!(
                "SELECT p.seq, p.deliveries, p.progress, {columns} FROM pending AS p LEFT JOIN message AS m \
                 ON m.seq = p.seq WHERE p.subscription = ?1 AND p.due_us <= ?2 ORDER BY p.due_us, p.seq LIMIT ?3"
            ))?,
            large_body: prepare("SELECT body FROM message WHERE seq = ?1")?,
            next_due: prepare("SELECT min(due_us) FROM pending WHERE subscription = ?1 AND due_us IS NOT NULL")?,
            hand_out_again: prepare(
                "UPDATE pending SET due_us = NULL, deliveries = ?3 WHERE subscription = ?1 AND seq = ?2",
            )?,
            put_pending: prepare(
                "INSERT INTO pending VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO UPDATE SET \
                 due_us = excluded.due_us, deliveries = excluded.deliveries, progress = excluded.progress",
            )?,
            make_due: prepare("UPDATE pending SET due_us = ?3 WHERE subscription = ?1 AND seq = ?2")?,
            give_back: prepare(
                "UPDATE pending SET due_us = ?3, deliveries = deliveries - 1 WHERE subscription = ?1 AND seq = ?2",
            )?,
            delete_pending: prepare("DELETE FROM pending WHERE subscription = ?1 AND seq = ?2")?,
            is_pending: prepare("SELECT 1 FROM pending WHERE subscription = ?1 AND seq = ?2")?,
            insert_settled: prepare("INSERT OR IGNORE INTO settled VALUES (?1, ?2)")?,
            trim_settled: prepare("DELETE FROM settled WHERE subscription = ?1 AND seq < ?2")?,
            save_subscription: prepare(
                "UPDATE subscription SET cursor = ?2, floor = ?3, ready = ?4, last_seen_us = ?5 WHERE id = ?1",
            )?,
            save_totals: prepare(
                "UPDATE totals SET next_seq = ?1, messages = ?2, bytes = ?3, dead = ?4, expired = ?5, unreadable = ?6",
            )?,
            insert_seen: prepare("INSERT INTO seen VALUES (?1, ?2, ?3)")?,
            oldest_seen: prepare("SELECT first_seq, at_us FROM seen ORDER BY first_seq LIMIT 1")?,
            seen_ids: prepare("SELECT ids FROM seen WHERE first_seq = ?1")?,
            delete_seen: prepare("DELETE FROM seen WHERE first_seq = ?1")?,
            insert_dead: prepare(
                "INSERT INTO dead_letter VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, NULL, ?9, ?10, ?11) \
                 ON CONFLICT DO NOTHING",
            )?,
            dead_record: prepare(
                "SELECT record FROM dead_letter WHERE subscription = ?1 AND source_seq = ?2 AND redrives = ?3",
            )?,
            oldest_messages: prepare(
                "SELECT seq, subject, target, published_us, \
                 octet_length(subject) + coalesce(octet_length(id), 0) + length(headers) + length(body) \
                 FROM message WHERE seq > ?1 ORDER BY seq LIMIT ?2",
            )?,
        })
    }
}
