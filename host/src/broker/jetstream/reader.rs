//! A consumer on a stream that lives only for reading. Only headers are sent.
//!
//! Of a stream with copies it may read any of them, and that one may lag behind. So it is at its end only when it has seen the
//! last message that the leader has told of, or that one is gone.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use async_nats::{Message, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::reply;
use super::session::{RequestError, Session, Unanswered};
use super::stored;
use super::wire::{ApiError, ConsumerInfo};

/// Messages that are asked for at once.
const BATCH: u64 = 512;

/// Between two looks at a copy that lags behind: it is some milliseconds late when all is well.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// Tells readers of one process apart.
static READERS: AtomicU64 = AtomicU64::new(0);

/// Where a reader starts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Start {
    Sequence(u64),
    Time(SystemTime),
}

/// When a reader is at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    /// When it has read as much as was there when it was opened.
    WhatWasThere,
    /// When there is nothing more at that moment: what takes the place of something meanwhile is read too.
    WhatComesToo,
}

/// A consumer that lives only for reading, and what is left to read.
pub(super) struct Reader<'a> {
    session: &'a Session,
    stream: &'a str,
    name: String,
    inbox: String,
    subscriber: Subscriber,
    pub(super) left: u64,
    /// Asked for and not come yet.
    asked: u64,
    /// Asked for at once.
    batch: u64,
    reads: Reads,
    filters: Vec<String>,
    start: Start,
    /// The last message that the leader has told of, and the last that was read; 0: none.
    last: u64,
    seen: u64,
    /// Since when nothing more has come than was read.
    waits_since: Option<Instant>,
}

impl<'a> Reader<'a> {
    pub(super) async fn open(
        session: &'a Session,
        stream: &'a str,
        filters: &[String],
        start: Start,
    ) -> Result<Self, ApiError> {
        let name = format!(
            "tidegate-reader-{}-{}-{:08x}",
            std::process::id(),
            READERS.fetch_add(1, Ordering::Relaxed),
            fastrand::u32(..)
        );
        let mut config = json!({
            "name": name,
            "ack_policy": "none",
            "replay_policy": "instant",
            "filter_subjects": filters,
            "headers_only": true,
            "mem_storage": true,
            "num_replicas": 1,
            // Ten seconds: should we be gone before we remove it, the server does.
            "inactive_threshold": 10_000_000_000_u64,
        });
        let (policy, field, value) = match start {
            Start::Sequence(sequence) => ("by_start_sequence", "opt_start_seq", json!(sequence.max(1))),
            Start::Time(time) => {
                ("by_start_time", "opt_start_time", json!(humantime::format_rfc3339_nanos(time).to_string()))
            }
        };
        if let Some(fields) = config.as_object_mut() {
            fields.insert("deliver_policy".to_owned(), json!(policy));
            fields.insert(field.to_owned(), value);
        }
        let last = last(session, stream, filters, start).await?;
        let inbox = session.inbox();
        let subscriber = session.subscribe(inbox.clone()).await?;
        let question = json!({ "stream_name": stream, "config": config });
        let verb = format!("CONSUMER.CREATE.{stream}.{name}");
        let info: ConsumerInfo = session.api(&verb, &question).await?;
        let (left, reads, filters) = (info.num_pending, Reads::WhatWasThere, filters.to_vec());
        let (asked, batch, seen, waits_since) = (0, BATCH, 0, None);
        Ok(Self {
            session,
            stream,
            name,
            inbox,
            subscriber,
            left,
            asked,
            batch,
            reads,
            filters,
            start,
            last,
            seen,
            waits_since,
        })
    }

    /// The same reader with another end.
    pub(super) fn reading(self, reads: Reads) -> Self {
        Self { reads, ..self }
    }

    /// The first message alone: no more is sent.
    pub(super) async fn first(&mut self) -> Result<Option<(Message, reply::Position)>, ApiError> {
        self.batch = 1;
        self.next().await
    }

    /// The next message with its sequence and the time when it was stored; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<(Message, reply::Position)>, ApiError> {
        loop {
            if self.left == 0 && !self.is_behind().await? {
                return Ok(None);
            }
            if self.asked == 0 {
                self.asked = self.left.min(self.batch);
                // All of it is there: what is not is not waited for.
                let question = json!({ "batch": self.asked, "no_wait": true });
                let subject = self.session.api_subject(&format!("CONSUMER.MSG.NEXT.{}.{}", self.stream, self.name));
                let question = Bytes::from(question.to_string());
                self.session.send_with_reply(subject, self.inbox.clone(), question).await?;
            }
            let patience = self.session.request_timeout() * 2;
            let message = tokio::select! {
                message = self.subscriber.next() => message.ok_or(RequestError::from(Unanswered::Ended))?,
                () = self.session.ended() => return Err(RequestError::from(Unanswered::Ended).into()),
                () = tokio::time::sleep(patience) => return Err(RequestError::from(Unanswered::TimedOut(patience)).into()),
            };
            if message.status.is_some() {
                // Fewer than were there at first: some were removed meanwhile.
                (self.left, self.asked) = (0, 0);
                continue;
            }
            self.asked -= 1;
            self.left -= 1;
            if let (Reads::WhatComesToo, Some(reply)) = (self.reads, &message.reply) {
                self.left = reply::pending(reply).unwrap_or(self.left);
            }
            let position = message.reply.as_ref().and_then(|reply| reply::parse(reply));
            if let Some(position) = position {
                (self.seen, self.waits_since) = (position.sequence, None);
                return Ok(Some((message, position)));
            }
        }
    }

    /// Whether there is more to read after all: the copy that is read does not have what the leader told of. Waits a moment then,
    /// and asks for more.
    async fn is_behind(&mut self) -> Result<bool, ApiError> {
        if self.seen >= self.last {
            return Ok(false);
        }
        // It may be gone by now.
        self.last = last(self.session, self.stream, &self.filters, self.start).await?;
        if self.seen >= self.last {
            return Ok(false);
        }
        let patience = self.session.request_timeout();
        if self.waits_since.get_or_insert_with(Instant::now).elapsed() >= patience {
            return Err(RequestError::from(Unanswered::TimedOut(patience)).into());
        }
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        self.left = self.batch;
        Ok(true)
    }

    pub(super) async fn close(self) {
        let verb = format!("CONSUMER.DELETE.{}.{}", self.stream, self.name);
        // If this fails, the server removes it by itself a few seconds later.
        let _ = self.session.api::<Value>(&verb, &json!({})).await;
    }
}

/// The last message that the leader of a stream has of what is to be read; 0: there is none.
async fn last(session: &Session, stream: &str, filters: &[String], start: Start) -> Result<u64, ApiError> {
    let mut last = 0;
    for filter in filters {
        let Some(found) = stored::last(session, stream, filter).await? else { continue };
        let is_meant = match start {
            Start::Sequence(first) => found.seq >= first,
            Start::Time(first) => found.position().stored_at >= first,
        };
        last = last.max(if is_meant { found.seq } else { 0 });
    }
    Ok(last)
}
