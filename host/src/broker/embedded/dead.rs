//! The writer's part of the dead letters: send back, discard, and the record of a message that is damaged.

use std::time::SystemTime;

use bytes::Bytes;
use rusqlite::{OptionalExtension as _, params};

use super::codec;
use super::error::Failure;
use super::inbox::{Forgotten, Redrive, Restore};
use super::prepare::{self, DeadRow, Prepared};
use super::publish::Audience;
use super::row::{Damage, Found};
use super::writer::Writer;
use crate::broker::{DeadLetterError, MAX_REDRIVES, PublishError, Published, SendBack};
use crate::message::{Headers, Publish, REDRIVE_COUNT_HEADER, REDRIVE_OF_HEADER};
use crate::outcome::FaultKind;
use crate::settle::dead_letter::{DeadLetterId, DeadLetterRecord, UNREADABLE_HEADERS, again};
use crate::settle::progress::Progress;

/// What a redrive reads of a dead letter.
struct Stored {
    subscription: String,
    subject: String,
    redrives: u32,
    redriven: bool,
    message_id: Option<String>,
    headers: Option<Headers>,
    body: Bytes,
}

impl Writer<'_> {
    /// Publishes a dead letter again, for the subscription that gave it up, and marks it, in one transaction.
    pub(super) fn redrive(&mut self, request: &Redrive) -> Result<Result<Published, DeadLetterError>, Failure> {
        let id = &request.id;
        let Some(stored) = self.read_dead(id)? else {
            return Ok(Err(DeadLetterError::NotFound(id.clone())));
        };
        if stored.redriven {
            return Ok(Err(DeadLetterError::AlreadyRedriven(id.clone())));
        }
        if stored.redrives >= MAX_REDRIVES && !request.how.force {
            return Ok(Err(DeadLetterError::Loop { id: id.clone(), count: stored.redrives }));
        }
        let refused = |source| Ok(Err(DeadLetterError::Publish { id: id.clone(), source }));
        let audience = match self.audience_again(&stored, request) {
            Ok(audience) => audience,
            Err(error) => return Ok(Err(error)),
        };
        let prepared = match republish(stored, request) {
            Ok(prepared) => prepared,
            Err(source) => return refused(source),
        };
        if let Some(source) = self.refusal(std::slice::from_ref(&prepared)) {
            return refused(source);
        }
        let published = self.store(&prepared, audience)?;
        self.connection.execute("UPDATE dead_letter SET redriven_us = ?2 WHERE id = ?1", params![id, self.wall_us])?;
        self.state.totals.dead -= 1;
        tracing::info!(dead_letter = %id, sequence = published.sequence, "redriven");
        Ok(Ok(published))
    }

    /// For whom it is published again. What nobody would run is refused: the dead letter is all there is of its message.
    fn audience_again(&mut self, stored: &Stored, request: &Redrive) -> Result<Audience, DeadLetterError> {
        let id = || request.id.clone();
        if let Some(to) = &request.how.to {
            if self.state.wanted_by(to).is_empty() {
                let why = "no subscription of this queue receives that subject".to_owned();
                return Err(DeadLetterError::NobodyTakes { id: id(), to: to.clone(), why });
            }
            return Ok(Audience::Redirected);
        }
        let target = self.state.subscriptions.values().find(|own| own.name == stored.subscription).map(|own| own.id);
        target.map(Audience::Redriven).ok_or_else(|| {
            let problem = format!("there is no subscription `{}` any more that would receive it", stored.subscription);
            DeadLetterError::Publish { id: id(), source: PublishError::Invalid(problem) }
        })
    }

    pub(super) fn discard(&mut self, id: &str) -> Result<Result<(), DeadLetterError>, Failure> {
        let redriven = self
            .connection
            .query_row("DELETE FROM dead_letter WHERE id = ?1 RETURNING redriven_us IS NOT NULL", [id], |row| {
                row.get::<_, bool>(0)
            })
            .optional()?;
        let Some(redriven) = redriven else {
            return Ok(Err(DeadLetterError::NotFound(id.to_owned())));
        };
        if !redriven {
            self.state.totals.dead -= 1;
        }
        tracing::info!(dead_letter = %id, "discarded");
        Ok(Ok(()))
    }

    /// Removes those that were sent back before a time; none of them is counted any more.
    pub(super) fn forget_redriven(&mut self, forgotten: &Forgotten) -> Result<usize, Failure> {
        let sql = "DELETE FROM dead_letter WHERE id IN \
                   (SELECT id FROM dead_letter WHERE redriven_us < ?1 ORDER BY redriven_us LIMIT ?2)";
        Ok(self.connection.execute(sql, [forgotten.before_us, forgotten.at_most])?)
    }

    /// Stores a dead letter that was kept elsewhere, unless it is there.
    pub(super) fn restore(&mut self, restore: &Restore) -> Result<Result<bool, DeadLetterError>, Failure> {
        let Restore { subscription, row } = restore;
        let is_there = self.connection.query_row("SELECT 1 FROM dead_letter WHERE id = ?1", [&row.id], |_| Ok(()));
        if is_there.optional()?.is_some() {
            return Ok(Ok(false));
        }
        // Its sequence may become, or be, that of another message of this queue; its record keeps the true one.
        if self.insert_dead(subscription, stand_in(&row.id), row)? {
            self.state.totals.dead += 1;
            tracing::info!(dead_letter = row.id, "brought in");
            return Ok(Ok(true));
        }
        Ok(Err(DeadLetterError::Store(format!("there is another dead letter in the place of `{}`", row.id))))
    }

    /// Stores the dead letter of a message of this queue, or finds that this very death of it is stored. `Err`: why it
    /// cannot be stored.
    pub(super) fn keep_dead(
        &mut self,
        subscription: &str,
        sequence: i64,
        row: &DeadRow,
    ) -> Result<Result<(), String>, Failure> {
        // The place of its sequence may be taken by one that was brought in from another queue, by a host of before.
        for place in [sequence, stand_in(&row.id)] {
            if self.insert_dead(subscription, place, row)? {
                self.state.totals.dead += 1;
                return Ok(Ok(()));
            }
            let there = self.st.dead_record.query_row(params![subscription, place, row.redrives], |there| {
                Ok(is_same_death(there.get_ref(0)?.as_str_or_null().ok().flatten(), &row.record))
            });
            if there.optional()? == Some(true) {
                return Ok(Ok(()));
            }
        }
        Ok(Err(format!("there is another dead letter `{}`", row.id)))
    }

    /// Whether it was stored; else its id or its place is taken.
    fn insert_dead(&mut self, subscription: &str, sequence: i64, row: &DeadRow) -> Result<bool, Failure> {
        let stored = self.st.insert_dead.execute(params![
            row.id,
            subscription,
            row.reason,
            row.fingerprint,
            row.subject,
            sequence,
            row.redrives,
            row.dead_us,
            row.record,
            row.headers,
            row.body.as_ref(),
        ])?;
        Ok(stored > 0)
    }

    fn read_dead(&self, id: &str) -> Result<Option<Stored>, Failure> {
        let sql = "SELECT subscription, subject, redrives, redriven_us IS NOT NULL, record, headers, body \
                   FROM dead_letter WHERE id = ?1";
        let stored = self.connection.query_row(sql, [id], |row| {
            let record: Option<DeadLetterRecord> = serde_json::from_str(row.get_ref(4)?.as_str()?).ok();
            Ok(Stored {
                subscription: row.get(0)?,
                subject: row.get(1)?,
                redrives: row.get(2)?,
                redriven: row.get(3)?,
                headers: codec::decode_headers(row.get_ref(5)?.as_blob()?)
                    .map(|headers| again(&headers, record.as_ref().and_then(|record| record.traceparent.as_deref()))),
                message_id: record.map(|record| record.message_id).filter(|id| !id.is_empty()),
                body: Bytes::copy_from_slice(row.get_ref(6)?.as_blob()?),
            })
        });
        Ok(stored.optional()?)
    }
}

/// Whether two records, as they are stored, are of one death of one message. One that cannot be read is of another: a dead
/// letter too many is looked at by a person, and one too few is a message lost.
fn is_same_death(there: Option<&str>, record: &str) -> bool {
    let read = |text: &str| serde_json::from_str::<DeadLetterRecord>(text).ok();
    let (Some(there), Some(record)) = (there.and_then(read), read(record)) else { return false };
    there.message_id == record.message_id
        && there.published_at == record.published_at
        && there.redrives == record.redrives
}

/// A sequence below zero, which no message has, the same for each id.
fn stand_in(id: &str) -> i64 {
    let digest = codec::digest(id);
    digest.first_chunk::<8>().map_or(-1, |bytes| i64::from_le_bytes(*bytes) | i64::MIN)
}

fn republish(stored: Stored, redrive: &Redrive) -> Result<Prepared, PublishError> {
    let Some(mut headers) = stored.headers else {
        return Err(PublishError::Invalid("its stored headers cannot be decoded".to_owned()));
    };
    headers.set(REDRIVE_COUNT_HEADER, (stored.redrives.saturating_add(1)).to_string());
    let SendBack { body, to, force: _ } = &redrive.how;
    if body.is_some() || to.is_some() {
        headers.set(REDRIVE_OF_HEADER, redrive.id.clone());
    }
    let (body, subject) = (body.clone().unwrap_or(stored.body), to.clone().unwrap_or(stored.subject));
    let publish = Publish { subject, id: stored.message_id, headers, body };
    // No limit: it was within the limit when it was published.
    prepare::prepare(publish, usize::MAX)
}

/// The dead letter of a message whose row is damaged: everything that could be read, and the headers as they stand.
pub(super) fn damaged_row(
    subscription: &str,
    found: &Found,
    damage: &Damage,
    progress: &Progress,
) -> Result<DeadRow, String> {
    let message = &found.message;
    let mut headers = Headers::default();
    headers.push(UNREADABLE_HEADERS, damage.headers.clone());
    let id = DeadLetterId(ulid::Ulid::generate().to_string());
    let error = format!("the stored message is damaged: {}", damage.problem);
    let record = DeadLetterRecord {
        fingerprint: hex::encode(codec::digest(damage.problem)).chars().take(16).collect(),
        subscription: subscription.to_owned(),
        broker: "embedded".to_owned(),
        subject: message.subject.clone(),
        sequence: message.sequence,
        published_at: message.published_at,
        message_id: message.id.clone(),
        attempts: progress.attempt().saturating_sub(1),
        deliveries: progress.deliveries,
        defers: progress.defers,
        timeouts: progress.timeouts,
        first_seen: progress.first_seen,
        dead_at: SystemTime::now(),
        history: progress.history.clone(),
        redrives: message.redrives(),
        ..DeadLetterRecord::bare(id, FaultKind::InvalidMessage.code().0, error)
    };
    let headers = codec::encode_headers(&headers).ok_or("its headers are longer than 4 GiB")?;
    prepare::dead_row(&record, headers, message.body.clone())
}
