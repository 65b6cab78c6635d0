//! Pages of dead letters that rows in memory tell which they are: these alone are asked for, one by one.
//!
//! A page is the same as one that is read, and goes on where one that was read ends.

use std::ops::Range;
use std::time::Duration;

use async_nats::{Message, Subject};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::json;

use super::catalog::{Meant, View};
use super::scan::{cursor, filters, is_meant, limit};
use super::{DeadLetterStore, subject_of};
use crate::access::Scope;
use crate::broker::jetstream::session::Session;
use crate::broker::jetstream::stored;
use crate::broker::subject::matches;
use crate::broker::{DeadLetterError, DeadLetterFilter, DeadLetterPage, DeadLetterQuery};

/// Questions that are under way at once: of NATS's usual limit of a message these are 16 MiB.
const AT_ONCE: usize = 16;
/// Bytes that their answers may have together. One is asked for at least, however large the server lets it be.
const BYTES_AT_ONCE: usize = 16 << 20;
/// Messages that one page asks for besides those that it has. So many may have gone since its rows were seen, or be none of ours; then it
/// ends, with a cursor.
const IN_VAIN: usize = 1_000;
/// Between two questions to a copy that does not have a message yet, and how often it is asked: it lags behind by some milliseconds as a
/// rule. One that is cut off is not waited for.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);
const LOOKS: usize = 25;
/// The size of a body, as the server tells it with headers alone.
const SIZE: &str = "Nats-Msg-Size";

/// A page that goes on being picked.
struct Picking<'a> {
    session: &'a Session,
    query: &'a DeadLetterQuery,
    view: &'a View,
    meant: Meant<'a>,
    /// What was not looked at yet.
    span: Range<u64>,
    /// So many may still be asked for.
    left: usize,
}

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
        let Some(view) = self.catalog.exact(session, 0).await else { return Ok(None) };
        let Some(start) = self.start_of(session, &query.filter, &view).await? else { return Ok(None) };
        let after = match &query.after {
            Some(after) => Some(self.position(session, after).await?),
            None => None,
        };
        let mut span = view.span();
        // What has no rows is read.
        let is_older = match (query.oldest_first, after) {
            (true, _) => start.max(after.map_or(0, |after| after + 1)) < view.floor(),
            (false, after) => after.unwrap_or(span.end).min(span.end) <= view.floor(),
        };
        if is_older && !view.is_whole() {
            return Ok(None);
        }
        match (query.oldest_first, after) {
            (true, Some(after)) => span.start = span.start.max(after + 1),
            (false, Some(after)) => span.end = span.end.min(after),
            (true | false, None) => {}
        }
        let (meant, left) = (Meant::new(&query.filter, start), limit(query) + IN_VAIN);
        let picking = Picking { session, query, view: &view, meant, span, left };
        let picked = match query.oldest_first {
            true => self.picked_forwards(picking).await,
            false => self.picked_backwards(picking, start).await,
        };
        // Whoever reads is told what is wrong, when that fails too.
        let told = |error: &DeadLetterError| {
            tracing::debug!(stream = self.options.stream, %error, "a page of dead letters is read: what is known of it could not be asked for");
        };
        Ok(picked.inspect_err(told).ok())
    }

    /// `start`: where reading would begin.
    async fn picked_backwards(&self, mut picking: Picking<'_>, start: u64) -> Result<DeadLetterPage, DeadLetterError> {
        let limit = limit(picking.query);
        let mut found = Vec::new();
        while found.len() <= limit && picking.goes_on() {
            found.append(&mut self.fetched(&mut picking, limit + 1 - found.len()).await?);
        }
        let floor = picking.view.floor();
        let rest = if picking.span.is_empty() { (start < floor).then_some(floor) } else { Some(picking.span.end) };
        Ok(self.page_of(found, limit, rest))
    }

    async fn picked_forwards(&self, mut picking: Picking<'_>) -> Result<DeadLetterPage, DeadLetterError> {
        let limit = limit(picking.query);
        let mut page = DeadLetterPage::default();
        while page.letters.len() < limit && picking.goes_on() {
            for (sequence, message) in self.fetched(&mut picking, limit - page.letters.len()).await? {
                page.letters.extend(self.listed(&message, sequence));
                if page.letters.len() == limit {
                    page.next = Some(cursor(sequence));
                }
            }
        }
        if page.next.is_none() && !picking.span.is_empty() {
            page.next = Some(cursor(picking.span.start - 1));
        }
        Ok(page)
    }

    /// The messages of the next sequences, so many at most, as they are listed, without those that went or are not meant.
    async fn fetched(&self, picking: &mut Picking<'_>, most: usize) -> Result<Vec<(u64, Message)>, DeadLetterError> {
        let sequences = picking.next(most).await;
        let (session, filter) = (picking.session, &picking.query.filter);
        let filters = filters(filter);
        let asked = sequences.into_iter().map(async |sequence| {
            let message = self.message_at(session, sequence).await?;
            Ok::<_, DeadLetterError>(message.map(|message| (sequence, as_listed(message))))
        });
        // As a list: a stream over the iterator would hold its closure, of which the compiler cannot see that it may be sent.
        let asked: Vec<_> = asked.collect();
        let at_once = at_once(session.max_payload());
        let found: Vec<_> = futures_util::stream::iter(asked).buffered(at_once).try_collect().await?;
        let is_one = |message: &Message| {
            filters.iter().any(|filter| matches(filter, &message.subject)) && is_meant(filter, message)
        };
        Ok(found.into_iter().flatten().filter(|(_, message)| is_one(message)).collect())
    }

    /// The message of a sequence; `None`: it is gone.
    async fn message_at(&self, session: &Session, sequence: u64) -> Result<Option<Message>, DeadLetterError> {
        for _ in 0..LOOKS {
            let found = self.direct_get(session, &json!({ "seq": sequence })).await?;
            if found.is_some() {
                return Ok(found);
            }
            // A copy may have answered that does not have it yet, or a mirror: what the leader does not have is gone.
            if stored::at(session, &self.options.stream, sequence).await?.is_none() {
                self.catalog.missing(sequence);
                return Ok(None);
            }
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
        Err(DeadLetterError::Store(format!(
            "a copy of stream `{}` does not have message {sequence}, which its leader has",
            self.options.stream
        )))
    }
}

impl Picking<'_> {
    fn goes_on(&self) -> bool {
        self.left > 0 && !self.span.is_empty()
    }

    /// The next that are to be asked for, so many at most.
    async fn next(&mut self, most: usize) -> Vec<u64> {
        let most = most.min(self.left);
        let picked = self.meant.pick(self.view, &mut self.span, most, self.query.oldest_first).await;
        self.left -= picked.len();
        picked
    }
}

/// How many messages of a server with this limit are asked for at once.
fn at_once(max_payload: usize) -> usize {
    BYTES_AT_ONCE.checked_div(max_payload).unwrap_or(AT_ONCE).clamp(1, AT_ONCE)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_at_once_hangs_on_how_large_a_message_may_be() {
        let rows = [(0, 16), (1 << 10, 16), (1 << 20, 16), (4 << 20, 4), (9 << 20, 1), (64 << 20, 1)];
        for (max_payload, expected) in rows {
            assert_eq!(at_once(max_payload), expected, "{max_payload}");
        }
    }
}
