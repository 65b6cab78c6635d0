//! A consumer on a stream that lives only for reading. Only headers are sent.
//!
//! Of a stream with copies it may read any of them, and that one may lag behind. So it is at its end only when it has seen the
//! last message that the leader had when the copy had no more, or that one is gone.

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

/// Between two questions to a copy that lags behind, or for a consumer that is not known yet: some milliseconds do when all is
/// well. Twice as long each time, up to the longest.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(10);
const LOOK_AGAIN_AFTER_AT_MOST: Duration = Duration::from_millis(500);

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
    /// Whether there is more than one server that may have the stream.
    is_clustered: bool,
    /// The last message that the leader had; `None`: it was not asked.
    last: Option<u64>,
    /// The last one that was read; 0: none.
    seen: u64,
    /// While nothing more has come than was read: since when, and how long to wait next.
    waits: Option<(Instant, Duration)>,
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
        let inbox = session.inbox();
        let subscriber = session.subscribe(inbox.clone()).await?;
        let question = json!({ "stream_name": stream, "config": config });
        let verb = format!("CONSUMER.CREATE.{stream}.{name}");
        let info: ConsumerInfo = session.api(&verb, &question).await?;
        let (left, reads, filters) = (info.num_pending, Reads::WhatWasThere, filters.to_vec());
        let (asked, batch, seen, is_clustered) = (0, BATCH, 0, info.cluster.is_some());
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
            is_clustered,
            last: None,
            seen,
            waits: None,
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
            if let Some(status) = message.status {
                self.asked = 0;
                match status.as_u16() {
                    // Fewer than were there at first: some were removed meanwhile.
                    404 | 408 => self.left = 0,
                    // The consumer is on another server, and this one has not heard of it yet.
                    503 => self.wait_a_moment().await?,
                    code => {
                        let text = format!("{code} {}", message.description.unwrap_or_default());
                        return Err(ApiError::Unreadable(text));
                    }
                }
                continue;
            }
            self.asked -= 1;
            self.left -= 1;
            if let (Reads::WhatComesToo, Some(reply)) = (self.reads, &message.reply) {
                self.left = reply::pending(reply).unwrap_or(self.left);
            }
            let position = message.reply.as_ref().and_then(|reply| reply::parse(reply));
            if let Some(position) = position {
                (self.seen, self.waits) = (position.sequence, None);
                return Ok(Some((message, position)));
            }
        }
    }

    /// Whether there is more to read after all: the copy that is read does not have what the leader has. Waits a moment then, and
    /// asks for more.
    async fn is_behind(&mut self) -> Result<bool, ApiError> {
        if !self.is_clustered || self.last.is_some_and(|last| self.seen >= last) {
            return Ok(false);
        }
        // It stays the same one while this goes on: what comes behind it was not there when this began.
        let target = match self.last {
            None => last(self.session, self.stream, &self.filters, self.start).await?,
            Some(target) => target,
        };
        self.last = Some(target);
        if self.seen >= target {
            return Ok(false);
        }
        // It may be gone by now, and with it all that was missing.
        if stored::at(self.session, self.stream, target).await?.is_none()
            && self.seen >= last(self.session, self.stream, &self.filters, self.start).await?
        {
            return Ok(false);
        }
        self.wait_a_moment().await?;
        self.left = self.batch;
        Ok(true)
    }

    /// Waits before the next question; not for longer than an answer may take, all in all, while nothing comes.
    async fn wait_a_moment(&mut self) -> Result<(), ApiError> {
        let now = Instant::now();
        let (since, pause) = self.waits.unwrap_or((now, LOOK_AGAIN_AFTER));
        let patience = self.session.request_timeout();
        if now >= since + patience {
            return Err(RequestError::from(Unanswered::TimedOut(patience)).into());
        }
        self.waits = Some((since, (pause * 2).min(LOOK_AGAIN_AFTER_AT_MOST)));
        tokio::time::sleep(pause).await;
        Ok(())
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
    for filter in filters.iter().flat_map(|filter| asked_for(filter)) {
        let Some(found) = stored::last(session, stream, filter).await? else { continue };
        let is_meant = match start {
            Start::Sequence(first) => found.seq >= first,
            Start::Time(first) => found.position().stored_at >= first,
        };
        last = last.max(if is_meant { found.seq } else { 0 });
    }
    Ok(last)
}

/// By what a server is asked for the last message of a filter.
fn asked_for(filter: &str) -> Vec<&str> {
    match filter {
        // Asked for the last of `>`, it looks at its last sequence alone, and has none when that one was removed. Of any other filter it
        // looks further back; these two match all that there is.
        ">" => vec!["*", "*.>"],
        other => vec![other],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::subject::matches;

    #[test]
    fn the_last_of_all_is_asked_for_by_filters_that_look_further_back_than_the_last_sequence() {
        let asked = asked_for(">");
        assert!(!asked.contains(&">"));
        for subject in ["a", "a.b", "dlq.orders.timeout.S.7-0"] {
            assert!(asked.iter().any(|filter| matches(filter, subject)), "{subject}");
        }
        assert_eq!(asked_for("dlq.>"), ["dlq.>"]);
    }
}
