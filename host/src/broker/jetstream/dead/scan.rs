//! Reads the stream of dead letters backwards, by a consumer that lives only for the reading.
//!
//! The server reads forwards only. So a window is read that ends where the page ends; when it holds too few, one in
//! front of it that is larger, until there are enough, the stream's beginning is reached, or as many were looked at as a
//! page may look at.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use async_nats::Message;

use super::DeadLetterStore;
use super::layout::{self, LETTERS, REDRIVEN};
use crate::broker::jetstream::reader::{Reader, Start};
use crate::broker::jetstream::session::Session;
use crate::broker::jetstream::setup::stream_info;
use crate::broker::{DeadLetterError, DeadLetterFilter, DeadLetterPage, DeadLetterQuery};
use crate::settle::dead_letter::{DeadLetterId, StoredDeadLetter};

/// How many dead letters a page has when nothing is said, and at the most: 1,000 of 4 KiB are 4 MiB in memory.
const PAGE: usize = 100;
const LARGEST_PAGE: usize = 1000;
/// Sequences of the largest window.
pub(super) const LARGEST_WINDOW: u64 = 16_384;
/// Dead letters that one page looks at: they are read at some 20,000 a second on two cores.
const LOOK_AT_MOST: u64 = 50_000;
/// How far the clock of a host may be from the server's for the quick way to an id to work, and how long storing may
/// have taken.
pub(super) const CLOCK_DIFFERENCE: Duration = Duration::from_secs(5);
const STORING: Duration = Duration::from_secs(120);

/// In front of the `@` of a cursor behind a message that is no dead letter.
const NO_ID: &str = "none";

impl DeadLetterStore {
    /// A page of dead letters, newest first.
    pub(super) async fn page(
        &self,
        session: &Session,
        query: &DeadLetterQuery,
    ) -> Result<DeadLetterPage, DeadLetterError> {
        let limit = limit(query);
        let Some(mut span) = self.span(session, &query.filter).await? else { return Ok(DeadLetterPage::default()) };
        if let Some(after) = &query.after {
            span.end = span.end.min(self.position(session, after).await?);
        }
        let filters = filters(&query.filter);
        let mut found: VecDeque<(u64, Message)> = VecDeque::new();
        let (mut looked_at, mut size) = (0, (limit as u64 * 2).clamp(64, LARGEST_WINDOW));
        while found.len() <= limit && looked_at < LOOK_AT_MOST && !span.is_empty() {
            let window = take_newest(&mut span, size);
            let room = limit + 1 - found.len();
            let mut older = VecDeque::new();
            let seen = |message: Message, sequence| {
                looked_at += 1;
                if is_meant(&query.filter, &message) {
                    older.push_back((sequence, message));
                    if older.len() > room {
                        older.pop_front();
                    }
                }
            };
            self.each(session, &filters, window, seen).await?;
            older.append(&mut found);
            found = older;
            size = (size * 4).min(LARGEST_WINDOW);
        }
        // As many were looked at as one page may look at.
        let rest = (!span.is_empty()).then_some(span.end);
        Ok(self.page_of(found.into_iter().rev().collect(), limit, rest))
    }

    /// A page of what was found, the newest first. `rest`: in front of that nothing was looked at.
    pub(super) fn page_of(&self, found: Vec<(u64, Message)>, limit: usize, rest: Option<u64>) -> DeadLetterPage {
        let more = found.len() > limit;
        let mut page = DeadLetterPage::default();
        let mut last = None;
        for (sequence, message) in found.into_iter().take(limit) {
            last = Some(cursor(sequence));
            if let Some(letter) = self.listed(&message, sequence) {
                last = Some(letter.handle.clone());
                page.letters.push(letter);
            }
        }
        page.next = if more { last } else { rest.map(cursor) };
        page
    }

    /// A page of dead letters, oldest first: as the server sends them.
    pub(super) async fn page_forwards(
        &self,
        session: &Session,
        query: &DeadLetterQuery,
    ) -> Result<DeadLetterPage, DeadLetterError> {
        let limit = limit(query);
        let Some(mut span) = self.span(session, &query.filter).await? else { return Ok(DeadLetterPage::default()) };
        if let Some(after) = &query.after {
            span.start = span.start.max(self.position(session, after).await? + 1);
        }
        let mut page = DeadLetterPage::default();
        if span.is_empty() {
            return Ok(page);
        }
        let (stream, start) = (&self.options.stream, Start::Sequence(span.start));
        let mut reader = Reader::open(session, stream, &filters(&query.filter), start).await?;
        let mut looked_at = 0;
        let result = loop {
            match reader.next().await {
                Ok(Some((message, position))) => {
                    looked_at += 1;
                    let is_meant = is_meant(&query.filter, &message);
                    page.letters.extend(is_meant.then(|| self.listed(&message, position.sequence)).flatten());
                    if page.letters.len() == limit || looked_at == LOOK_AT_MOST {
                        page.next = Some(cursor(position.sequence));
                        break Ok(page);
                    }
                }
                Ok(None) => break Ok(page),
                Err(error) => break Err(error.into()),
            }
        };
        reader.close().await;
        result
    }

    /// A dead letter as it is listed; nothing for what is none of ours.
    pub(super) fn listed(&self, message: &Message, sequence: u64) -> Option<StoredDeadLetter> {
        match stored(message, sequence) {
            Ok(letter) => Some(letter),
            // Somebody else's, or a later host's: those of ours are listed all the same.
            Err(problem) => {
                let (stream, subject) = (&self.options.stream, &message.subject);
                tracing::warn!(stream, sequence, %subject, problem, "a message among the dead letters is none");
                None
            }
        }
    }

    /// The sequences among which those lie that are meant; `None`: there is no stream.
    pub(super) async fn span(
        &self,
        session: &Session,
        filter: &DeadLetterFilter,
    ) -> Result<Option<Range<u64>>, DeadLetterError> {
        let stream = &self.options.stream;
        let Some(info) = stream_info(session, stream).await? else {
            return Ok(None);
        };
        let mut span = info.state.first_seq..info.state.last_seq + 1;
        if let Some(since) = filter.since {
            let from = since.checked_sub(CLOCK_DIFFERENCE).unwrap_or(SystemTime::UNIX_EPOCH);
            span.start = self.sequence_at(session, from).await?.unwrap_or(span.end).max(span.start);
        }
        // `until` is no end of it: what was sent back or brought in was stored long after it died.
        Ok(Some(span))
    }

    /// The first sequence that was stored at a time or later.
    async fn sequence_at(&self, session: &Session, time: SystemTime) -> Result<Option<u64>, DeadLetterError> {
        let all = [format!("{LETTERS}.>"), format!("{REDRIVEN}.>")];
        let mut reader = Reader::open(session, &self.options.stream, &all, Start::Time(time)).await?;
        let first = reader.first().await;
        reader.close().await;
        Ok(first?.map(|(_, position)| position.sequence))
    }

    /// Looks at all in a range of sequences, oldest first.
    pub(super) async fn each(
        &self,
        session: &Session,
        filters: &[String],
        range: Range<u64>,
        mut seen: impl FnMut(Message, u64) + Send,
    ) -> Result<(), DeadLetterError> {
        let mut reader = Reader::open(session, &self.options.stream, filters, Start::Sequence(range.start)).await?;
        let result = loop {
            match reader.next().await {
                Ok(Some((message, position))) if position.sequence < range.end => seen(message, position.sequence),
                Ok(Some(_) | None) => break Ok(()),
                Err(error) => break Err(error.into()),
            }
        };
        reader.close().await;
        result
    }

    /// How many there are that were not sent back.
    pub(super) async fn count(&self, session: &Session) -> Result<u64, DeadLetterError> {
        let stream = &self.options.stream;
        if stream_info(session, stream).await?.is_none() {
            return Ok(0);
        }
        self.held(session, &[format!("{LETTERS}.>")], 1).await
    }

    /// Where a dead letter stands, or where the cursor of a page points.
    pub(super) async fn position(&self, session: &Session, id: &DeadLetterId) -> Result<u64, DeadLetterError> {
        let (id, hint) = split_cursor(id);
        let sequence = match hint {
            Some(sequence) => Some(sequence),
            None => self.sequence_of(session, id).await?,
        };
        sequence.ok_or_else(|| DeadLetterError::NotFound(id.to_owned()))
    }

    /// The sequence of an id: first among those that were stored about the time in the id, then among all.
    async fn sequence_of(&self, session: &Session, id: &str) -> Result<Option<u64>, DeadLetterError> {
        if let Some(view) = self.catalog.exact_if_there(session).await {
            let found = view.find(id).await;
            if found.is_some() || view.tells_all_ids() {
                return Ok(found);
            }
        }
        let stream = &self.options.stream;
        if stream_info(session, stream).await?.is_none() {
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
                Err(error) => break Err(error.into()),
            }
        };
        reader.close().await;
        result
    }
}

/// A dead letter as it is listed: without its body, whose size the server tells.
fn stored(message: &Message, sequence: u64) -> Result<StoredDeadLetter, String> {
    let decoded = layout::decode(message)?;
    let handle = DeadLetterId(format!("{}@{sequence}", decoded.letter.record.id));
    let told = layout::header(message, "Nats-Msg-Size").and_then(|text| text.parse().ok());
    let body_size = match decoded.elsewhere {
        Some((_, size)) => size,
        None => told.unwrap_or(0),
    };
    Ok(StoredDeadLetter { letter: decoded.letter, body_size, redriven_at: decoded.redriven_at, handle })
}

/// What the server can tell apart by itself: who gave it up, and why.
pub(super) fn filters(filter: &DeadLetterFilter) -> Vec<String> {
    let token = |text: &Option<String>| text.as_deref().map_or_else(|| "*".to_owned(), layout::token);
    let tail = format!("{}.{}.*.*", token(&filter.subscription), token(&filter.reason));
    let mut filters = vec![format!("{LETTERS}.{tail}")];
    if filter.include_redriven {
        filters.push(format!("{REDRIVEN}.{tail}"));
    }
    filters
}

/// Whether a message is one of those that are meant. What is no dead letter of ours is told by whoever reads it.
pub(super) fn is_meant(filter: &DeadLetterFilter, message: &Message) -> bool {
    layout::traits(message).is_none_or(|traits| filter.takes(&traits, &error_for(filter, message)))
}

/// The whole error of a dead letter, where it is looked at.
pub(super) fn error_for(filter: &DeadLetterFilter, message: &Message) -> String {
    if filter.text.is_none() {
        return String::new();
    }
    layout::decode(message).map(|decoded| decoded.letter.record.error).unwrap_or_default()
}

/// Takes the newest of a range out of it.
pub(super) fn take_newest(span: &mut Range<u64>, size: u64) -> Range<u64> {
    let start = span.end.saturating_sub(size).max(span.start);
    let window = start..span.end;
    span.end = start;
    window
}

/// How many dead letters a page has.
pub(super) fn limit(query: &DeadLetterQuery) -> usize {
    if query.limit == 0 { PAGE } else { query.limit.min(LARGEST_PAGE) }
}

/// A cursor that goes on behind a sequence.
pub(super) fn cursor(sequence: u64) -> DeadLetterId {
    DeadLetterId(format!("{NO_ID}@{sequence}"))
}

/// An id, and the sequence behind an `@` when it is a cursor of a page.
pub(super) fn split_cursor(id: &DeadLetterId) -> (&str, Option<u64>) {
    match id.0.split_once('@') {
        Some((id, sequence)) => (id, sequence.parse().ok()),
        None => (&id.0, None),
    }
}
