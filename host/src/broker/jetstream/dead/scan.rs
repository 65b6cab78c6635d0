//! Reads the stream of dead letters backwards, by a consumer that lives only for the reading.
//!
//! The server reads forwards only. So a window is read that ends where the page ends; when it holds too few, one in
//! front of it that is larger, until there are enough or the stream's beginning is reached. Only headers are sent.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use async_nats::{Message, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::layout::{self, LETTERS, REDRIVEN};
use super::{DeadLetterStore, store_error};
use crate::broker::jetstream::reply;
use crate::broker::jetstream::session::Session;
use crate::broker::jetstream::setup::stream_info;
use crate::broker::jetstream::wire::ConsumerInfo;
use crate::broker::{DeadLetterError, DeadLetterPage, DeadLetterQuery};
use crate::settle::dead_letter::{DeadLetterId, StoredDeadLetter};

/// How many dead letters a page has when nothing is said, and at the most: 1,000 of 4 KiB are 4 MiB in memory.
const PAGE: usize = 100;
const LARGEST_PAGE: usize = 1000;
/// Sequences of the largest window.
const LARGEST_WINDOW: u64 = 16_384;
/// Messages that are asked for at once.
const BATCH: u64 = 512;
/// How far the clock of a host may be from the server's for the quick way to an id to work, and how long storing may
/// have taken.
const CLOCK_DIFFERENCE: Duration = Duration::from_secs(5);
const STORING: Duration = Duration::from_secs(120);

/// In front of the `@` of a cursor behind a message that is no dead letter.
const NO_ID: &str = "none";

/// Tells readers of one process apart.
static READERS: AtomicU64 = AtomicU64::new(0);

/// Where a reader starts.
#[derive(Debug, Clone, Copy)]
enum Start {
    Sequence(u64),
    Time(SystemTime),
}

/// A consumer that lives only for reading, and what is left to read.
struct Reader<'a> {
    session: &'a Session,
    stream: &'a str,
    name: String,
    inbox: String,
    subscriber: Subscriber,
    left: u64,
    /// Asked for and not come yet.
    asked: u64,
}

impl<'a> Reader<'a> {
    async fn open(
        session: &'a Session,
        stream: &'a str,
        filters: &[String],
        start: Start,
    ) -> Result<Self, DeadLetterError> {
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
        let listening = session.subscribe(inbox.clone()).await;
        let subscriber = listening.map_err(|error| DeadLetterError::Store(error.to_string()))?;
        let question = json!({ "stream_name": stream, "config": config });
        let verb = format!("CONSUMER.CREATE.{stream}.{name}");
        let info: ConsumerInfo = session.api(&verb, &question).await.map_err(|error| store_error(&error))?;
        Ok(Self { session, stream, name, inbox, subscriber, left: info.num_pending, asked: 0 })
    }

    /// The next message with its sequence and the time when it was stored; `None` at the end.
    async fn next(&mut self) -> Result<Option<(Message, reply::Position)>, DeadLetterError> {
        let failed = |text: &str| DeadLetterError::Store(text.to_owned());
        loop {
            if self.left == 0 {
                return Ok(None);
            }
            if self.asked == 0 {
                self.asked = self.left.min(BATCH);
                let limit = u64::try_from(self.session.request_timeout().as_nanos()).unwrap_or(u64::MAX);
                let question = json!({ "batch": self.asked, "expires": limit });
                let subject = self.session.api_subject(&format!("CONSUMER.MSG.NEXT.{}.{}", self.stream, self.name));
                let sent = self.session.send_with_reply(subject, self.inbox.clone(), Bytes::from(question.to_string()));
                sent.await.map_err(|error| DeadLetterError::Store(error.to_string()))?;
            }
            let message = tokio::select! {
                message = self.subscriber.next() => message,
                () = self.session.ended() => None,
                () = tokio::time::sleep(self.session.request_timeout() * 2) => None,
            };
            let Some(message) = message else {
                return Err(failed("the server stopped in the middle of the dead letters"));
            };
            if message.status.is_some() {
                // Fewer than were there at first: some were removed meanwhile.
                return Ok(None);
            }
            self.asked -= 1;
            self.left -= 1;
            let position = message.reply.as_ref().and_then(|reply| reply::parse(reply));
            if let Some(position) = position {
                return Ok(Some((message, position)));
            }
        }
    }

    async fn close(self) {
        let verb = format!("CONSUMER.DELETE.{}.{}", self.stream, self.name);
        // If this fails, the server removes it by itself a few seconds later.
        let _ = self.session.api::<Value>(&verb, &json!({})).await;
    }
}

impl DeadLetterStore {
    /// A page of dead letters, newest first.
    pub(super) async fn page(
        &self,
        session: &Session,
        query: &DeadLetterQuery,
    ) -> Result<DeadLetterPage, DeadLetterError> {
        let stream = &self.options.stream;
        let Some(info) = stream_info(session, stream).await.map_err(|error| store_error(&error))? else {
            return Ok(DeadLetterPage::default());
        };
        let limit = if query.limit == 0 { PAGE } else { query.limit.min(LARGEST_PAGE) };
        let mut end = info.state.last_seq + 1;
        if let Some(after) = &query.after {
            let (id, hint) = split_cursor(after);
            let sequence = match hint {
                Some(sequence) => Some(sequence),
                None => self.sequence_of(session, id).await?,
            };
            end = sequence.ok_or_else(|| DeadLetterError::NotFound(id.to_owned()))?;
        }
        let filters = filters(query);
        let mut found: VecDeque<(u64, Message)> = VecDeque::new();
        let mut window = (limit as u64 * 2).clamp(64, LARGEST_WINDOW);
        while found.len() <= limit && end > info.state.first_seq {
            let start = end.saturating_sub(window).max(info.state.first_seq);
            let mut older = self.window(session, &filters, start..end, limit + 1 - found.len()).await?;
            older.append(&mut found);
            found = older;
            end = start;
            window = (window * 4).min(LARGEST_WINDOW);
        }
        let more = found.len() > limit;
        let mut page = DeadLetterPage::default();
        let mut last = None;
        for (sequence, message) in found.into_iter().rev().take(limit) {
            last = Some(DeadLetterId(format!("{NO_ID}@{sequence}")));
            match stored(&message) {
                Ok(letter) => {
                    last = Some(DeadLetterId(format!("{}@{sequence}", letter.letter.record.id)));
                    page.letters.push(letter);
                }
                // Somebody else's, or a later host's: those of ours are listed all the same.
                Err(problem) => tracing::warn!(
                    stream = self.options.stream,
                    sequence,
                    subject = %message.subject,
                    problem,
                    "a message among the dead letters is none"
                ),
            }
        }
        page.next = last.filter(|_| more);
        Ok(page)
    }

    /// The last so many of a range of sequences, oldest first.
    async fn window(
        &self,
        session: &Session,
        filters: &[String],
        range: std::ops::Range<u64>,
        most: usize,
    ) -> Result<VecDeque<(u64, Message)>, DeadLetterError> {
        let mut kept = VecDeque::new();
        let mut reader = Reader::open(session, &self.options.stream, filters, Start::Sequence(range.start)).await?;
        let result = loop {
            match reader.next().await {
                Ok(Some((message, position))) if position.sequence < range.end => {
                    kept.push_back((position.sequence, message));
                    if kept.len() > most {
                        kept.pop_front();
                    }
                }
                Ok(Some(_) | None) => break Ok(kept),
                Err(error) => break Err(error),
            }
        };
        reader.close().await;
        result
    }

    /// How many there are that were not sent back.
    pub(super) async fn count(&self, session: &Session) -> Result<u64, DeadLetterError> {
        let stream = &self.options.stream;
        if stream_info(session, stream).await.map_err(|error| store_error(&error))?.is_none() {
            return Ok(0);
        }
        let reader = Reader::open(session, stream, &[format!("{LETTERS}.>")], Start::Sequence(1)).await?;
        let count = reader.left;
        reader.close().await;
        Ok(count)
    }

    /// The sequence of an id: first among those that were stored about the time in the id, then among all.
    pub(super) async fn sequence_of(&self, session: &Session, id: &str) -> Result<Option<u64>, DeadLetterError> {
        let stream = &self.options.stream;
        if stream_info(session, stream).await.map_err(|error| store_error(&error))?.is_none() {
            return Ok(None);
        }
        let letters = format!("{LETTERS}.>");
        if let Ok(ulid) = ulid::Ulid::from_string(id) {
            let died = SystemTime::UNIX_EPOCH + Duration::from_millis(ulid.timestamp_ms());
            let from = died.checked_sub(CLOCK_DIFFERENCE).unwrap_or(SystemTime::UNIX_EPOCH);
            let until = died + CLOCK_DIFFERENCE + STORING;
            let found =
                self.search(session, std::slice::from_ref(&letters), Start::Time(from), Some(until), id).await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        self.search(session, &[letters, format!("{REDRIVEN}.>")], Start::Sequence(1), None, id).await
    }

    async fn search(
        &self,
        session: &Session,
        filters: &[String],
        start: Start,
        until: Option<SystemTime>,
        id: &str,
    ) -> Result<Option<u64>, DeadLetterError> {
        let mut reader = Reader::open(session, &self.options.stream, filters, start).await?;
        let result = loop {
            match reader.next().await {
                Ok(Some((_, position))) if until.is_some_and(|until| position.stored_at > until) => break Ok(None),
                Ok(Some((message, position))) => {
                    if layout::header(&message, layout::ID) == Some(id) {
                        break Ok(Some(position.sequence));
                    }
                }
                Ok(None) => break Ok(None),
                Err(error) => break Err(error),
            }
        };
        reader.close().await;
        result
    }
}

/// A dead letter as it is listed: without its body, whose size the server tells.
fn stored(message: &Message) -> Result<StoredDeadLetter, String> {
    let decoded = layout::decode(message)?;
    let told = layout::header(message, "Nats-Msg-Size").and_then(|text| text.parse().ok());
    let body_size = match decoded.elsewhere {
        Some((_, size)) => size,
        None => told.unwrap_or(0),
    };
    Ok(StoredDeadLetter { letter: decoded.letter, body_size, redriven_at: decoded.redriven_at })
}

fn filters(query: &DeadLetterQuery) -> Vec<String> {
    let token = |text: &Option<String>| text.as_deref().map_or_else(|| "*".to_owned(), layout::token);
    let tail = format!("{}.{}.*.*", token(&query.subscription), token(&query.reason));
    let mut filters = vec![format!("{LETTERS}.{tail}")];
    if query.include_redriven {
        filters.push(format!("{REDRIVEN}.{tail}"));
    }
    filters
}

/// An id, and the sequence behind an `@` when it is a cursor of a page.
pub(super) fn split_cursor(id: &DeadLetterId) -> (&str, Option<u64>) {
    match id.0.split_once('@') {
        Some((id, sequence)) => (id, sequence.parse().ok()),
        None => (&id.0, None),
    }
}
