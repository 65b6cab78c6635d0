//! Pages of dead letters that rows in memory tell which they are: these alone are asked for, one by one.
//!
//! A page is the same as one that is read, and goes on where one that was read ends.

use std::time::Duration;

use async_nats::{Message, Subject};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::json;
use tokio::time::Instant;

use super::catalog::{Meant, View};
use super::scan::{cursor, filters, is_meant, limit};
use super::{DeadLetterStore, subject_of};
use crate::access::Scope;
use crate::broker::jetstream::session::Session;
use crate::broker::jetstream::stored;
use crate::broker::subject::matches;
use crate::broker::{DeadLetterError, DeadLetterFilter, DeadLetterPage, DeadLetterQuery};

/// Questions that are under way at once. Sixteen messages of NATS's usual limit are 16 MiB.
const AT_ONCE: usize = 16;
/// Between two questions to a copy that does not have a message yet.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);
/// The size of a body, as the server tells it with headers alone.
const SIZE: &str = "Nats-Msg-Size";

impl DeadLetterStore {
    /// A page, where rows tell what the server does not; `None`: it is to be read.
    pub(super) async fn page_by_rows(
        &self,
        session: &Session,
        query: &DeadLetterQuery,
    ) -> Result<Option<DeadLetterPage>, DeadLetterError> {
        if !is_told_by_rows(&query.filter) {
            return Ok(None);
        }
        let Some(view) = self.catalog.covering(session).await else { return Ok(None) };
        let Some(mut span) = self.span_of(session, &query.filter, &view).await? else { return Ok(None) };
        if let Some(after) = &query.after {
            let after = self.position(session, after).await?;
            if query.oldest_first {
                span.start = span.start.max(after + 1);
            } else {
                span.end = span.end.min(after);
            }
        }
        // What has no rows is read.
        let is_older = if query.oldest_first { span.start < view.floor() } else { span.end <= view.floor() };
        if is_older && !view.is_whole() {
            return Ok(None);
        }
        if query.oldest_first {
            return self.picked_forwards(session, query, &view, span).await.map(Some);
        }
        let rest = (span.start < view.floor()).then_some(view.floor());
        span.start = span.start.max(view.floor());
        let (limit, meant) = (limit(query), Meant::new(&query.filter));
        let mut found = Vec::new();
        while found.len() <= limit && !span.is_empty() {
            let picked = meant.pick(&view, &mut span, limit + 1 - found.len(), false).await;
            found.append(&mut self.fetched(session, &query.filter, &view, picked).await?);
        }
        Ok(Some(self.page_of(found, limit, rest)))
    }

    async fn picked_forwards(
        &self,
        session: &Session,
        query: &DeadLetterQuery,
        view: &View,
        mut span: std::ops::Range<u64>,
    ) -> Result<DeadLetterPage, DeadLetterError> {
        let (limit, meant) = (limit(query), Meant::new(&query.filter));
        let mut page = DeadLetterPage::default();
        while page.letters.len() < limit && !span.is_empty() {
            let picked = meant.pick(view, &mut span, limit - page.letters.len(), true).await;
            for (sequence, message) in self.fetched(session, &query.filter, view, picked).await? {
                page.letters.extend(self.listed(&message, sequence));
                if page.letters.len() == limit {
                    page.next = Some(cursor(sequence));
                }
            }
        }
        Ok(page)
    }

    /// The messages of some sequences as they are listed, without those that went or are not meant.
    async fn fetched(
        &self,
        session: &Session,
        filter: &DeadLetterFilter,
        view: &View,
        sequences: Vec<u64>,
    ) -> Result<Vec<(u64, Message)>, DeadLetterError> {
        let filters = filters(filter);
        let asked = sequences.into_iter().map(async |sequence| {
            let message = self.message_at(session, sequence, view.is_copied()).await?;
            Ok::<_, DeadLetterError>(message.map(|message| (sequence, as_listed(message))))
        });
        // As a list: a stream over the iterator would hold its closure, of which the compiler cannot see that it may be sent.
        let asked: Vec<_> = asked.collect();
        let found: Vec<_> = futures_util::stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
        let is_one = |message: &Message| {
            filters.iter().any(|filter| matches(filter, &message.subject)) && is_meant(filter, message)
        };
        Ok(found.into_iter().flatten().filter(|(_, message)| is_one(message)).collect())
    }

    /// The message of a sequence; `None`: it is gone.
    async fn message_at(
        &self,
        session: &Session,
        sequence: u64,
        is_copied: bool,
    ) -> Result<Option<Message>, DeadLetterError> {
        let until = Instant::now() + session.request_timeout();
        loop {
            let found = self.direct_get(session, &json!({ "seq": sequence })).await?;
            if found.is_some() {
                return Ok(found);
            }
            // A copy may have answered that does not have it yet: what the leader does not have is gone.
            if !is_copied || stored::at(session, &self.options.stream, sequence).await?.is_none() {
                self.catalog.missing(sequence);
                return Ok(None);
            }
            if Instant::now() >= until {
                return Err(DeadLetterError::Store(format!(
                    "a copy of stream `{}` does not have message {sequence}, which its leader has",
                    self.options.stream
                )));
            }
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
    }
}

/// Whether rows tell those that are meant and the server does not: it finds them by subscription, reason and time. The text of an
/// error is in no row.
fn is_told_by_rows(filter: &DeadLetterFilter) -> bool {
    let is_limited = matches!(filter.scope, Scope::Only(_));
    let is_told = filter.fingerprint.is_some() || filter.handler.is_some() || filter.digest.is_some() || is_limited;
    is_told && filter.text.is_none()
}

/// A message that was asked for with its body, as one that was sent without: its size in its place.
fn as_listed(mut message: Message) -> Message {
    message.subject = Subject::from(subject_of(&message));
    let size = message.payload.len().to_string();
    message.headers.get_or_insert_default().insert(SIZE, size.as_str());
    message.payload = Bytes::new();
    message
}
