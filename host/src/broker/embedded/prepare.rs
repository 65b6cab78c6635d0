//! Everything about a message or a settlement that can be checked and encoded before the writer sees it, so that one
//! bad message cannot spoil the group it would be stored with, and the writer's one thread does nothing but store.

use bytes::Bytes;
use tokio::time::Instant;

use super::codec::{self, IdDigest};
use crate::broker::subject::check_subject;
use crate::broker::{PublishError, Settle, SettleError, Settlement};
use crate::message::Publish;
use crate::settle::dead_letter::{DeadLetter, DeadLetterRecord};

/// A message that is fit to be stored.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    pub(super) subject: String,
    pub(super) id: Option<String>,
    pub(super) digest: Option<IdDigest>,
    pub(super) headers: Vec<u8>,
    pub(super) body: Bytes,
    pub(super) checksum: u32,
}

impl Prepared {
    /// What it takes of the queue's bytes; the same sum that a stored row gives.
    pub(super) fn stored_bytes(&self) -> i64 {
        let id = self.id.as_ref().map_or(0, String::len);
        i64::try_from(self.subject.len() + id + self.headers.len() + self.body.len()).unwrap_or(i64::MAX)
    }
}

pub(super) fn prepare(publish: Publish, max_payload: usize) -> Result<Prepared, PublishError> {
    check_subject(&publish.subject).map_err(|error| PublishError::Invalid(error.to_string()))?;
    let size = publish.size();
    if size > max_payload {
        return Err(PublishError::TooLarge { size, limit: max_payload });
    }
    if publish.id.as_deref() == Some("") {
        return Err(PublishError::Invalid("its id is empty".to_owned()));
    }
    let headers = codec::encode_headers(&publish.headers).ok_or(PublishError::TooLarge { size, limit: max_payload })?;
    Ok(Prepared {
        digest: publish.id.as_deref().map(codec::digest),
        checksum: codec::checksum(&publish.subject, publish.id.as_deref(), &headers, &publish.body),
        subject: publish.subject,
        id: publish.id,
        headers,
        body: publish.body,
    })
}

/// A settlement that is fit to be carried out.
#[derive(Debug)]
pub(super) struct Settling {
    pub(super) sequence: i64,
    pub(super) token: u64,
    pub(super) lease_ends_at: Instant,
    pub(super) action: Action,
}

#[derive(Debug)]
pub(super) enum Action {
    Ack { outputs: Vec<Prepared> },
    Return { delay_us: i64, progress: String },
    DeadLetter(Box<DeadRow>),
}

/// A dead letter as its table takes it. Subscription and source sequence are the lease's, not the record's word.
#[derive(Debug)]
pub(super) struct DeadRow {
    pub(super) id: String,
    pub(super) reason: String,
    pub(super) fingerprint: String,
    pub(super) subject: String,
    pub(super) redrives: u32,
    pub(super) dead_us: i64,
    pub(super) record: String,
    pub(super) headers: Vec<u8>,
    pub(super) body: Bytes,
}

pub(super) fn prepare_settle(settle: Settle, token: u64, max_payload: usize) -> Result<Settling, SettleError> {
    let action = match settle.settlement {
        Settlement::Ack { outputs } => {
            let outputs: Result<Vec<_>, _> = outputs.into_iter().map(|output| prepare(output, max_payload)).collect();
            Action::Ack { outputs: outputs.map_err(SettleError::Output)? }
        }
        Settlement::Return { delay, progress } => Action::Return {
            delay_us: codec::duration_micros(delay),
            progress: serde_json::to_string(&progress)
                .map_err(|error| SettleError::Unconfirmed(format!("the progress cannot be written: {error}")))?,
        },
        Settlement::DeadLetter(letter) => Action::DeadLetter(Box::new(prepare_dead(*letter)?)),
    };
    Ok(Settling { sequence: settle.receipt.sequence.cast_signed(), token, lease_ends_at: settle.lease_ends_at, action })
}

fn prepare_dead(letter: DeadLetter) -> Result<DeadRow, SettleError> {
    let headers = codec::encode_headers(&letter.headers)
        .ok_or_else(|| SettleError::DeadLetter("a header is longer than 4 GiB".to_owned()))?;
    dead_row(&letter.record, headers, letter.body).map_err(SettleError::DeadLetter)
}

pub(super) fn dead_row(record: &DeadLetterRecord, headers: Vec<u8>, body: Bytes) -> Result<DeadRow, String> {
    Ok(DeadRow {
        id: record.id.0.clone(),
        reason: record.reason.clone(),
        fingerprint: record.fingerprint.clone(),
        subject: record.subject.clone(),
        redrives: record.redrives,
        dead_us: codec::micros(record.dead_at),
        record: serde_json::to_string(record).map_err(|error| format!("the record cannot be written: {error}"))?,
        headers,
        body,
    })
}
