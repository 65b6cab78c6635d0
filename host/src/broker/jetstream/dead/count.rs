//! Counts dead letters, the newest first: in memory, where all are known there, else by their headers alone; so many at most then, where
//! no more is asked for.

use std::ops::Range;

use super::DeadLetterStore;
use super::catalog::{Meant, Texts, View, breathe};
use super::layout;
use super::scan::{LARGEST_WINDOW, error_for, filters, take_newest};
use crate::broker::jetstream::reader::{Reader, Start};
use crate::broker::jetstream::session::Session;
use crate::broker::{DeadLetterError, DeadLetterFilter, Tally, Traits};

impl DeadLetterStore {
    /// Counts the newest of those that are meant.
    pub(super) async fn count_each(
        &self,
        session: &Session,
        filter: &DeadLetterFilter,
        tally: Tally,
    ) -> Result<Tally, DeadLetterError> {
        let filter = DeadLetterFilter { include_redriven: false, ..filter.clone() };
        let most = if tally.is_whole() { u64::MAX } else { self.options.count_at_most };
        // The error's text is not in memory.
        let is_told_by_rows = filter.text.is_none() && self.catalog.is_wanted();
        if is_told_by_rows && let Some(view) = self.catalog.exact(session, 0).await {
            return self.count_rows(session, &filter, tally, &view).await;
        }
        let Some(span) = self.span(session, &filter).await? else { return Ok(tally) };
        if is_told_by_rows {
            let patience = self.to_read(session, &filter, &span, most).await?;
            if let Some(view) = self.catalog.exact(session, patience).await {
                return self.count_rows(session, &filter, tally, &view).await;
            }
        }
        self.count_read(session, &filter, tally, (span, most), 0).await
    }

    /// How many messages are read where they are not in memory: more are not read for that before an answer.
    async fn to_read(
        &self,
        session: &Session,
        filter: &DeadLetterFilter,
        span: &Range<u64>,
        most: u64,
    ) -> Result<u64, DeadLetterError> {
        // What the server tells apart may be a few of many.
        if filter.subscription.is_none() && filter.reason.is_none() && filter.since.is_none() {
            return Ok(most);
        }
        Ok(self.held(session, &filters(filter), span.start).await?.min(most))
    }

    /// Counts those of a span by reading them, so many at most. `sent`: so many of those behind it were looked at.
    async fn count_read(
        &self,
        session: &Session,
        filter: &DeadLetterFilter,
        mut tally: Tally,
        (mut span, most): (Range<u64>, u64),
        mut sent: u64,
    ) -> Result<Tally, DeadLetterError> {
        let filters = filters(filter);
        let mut looked_at = 0;
        while !span.is_empty() {
            if looked_at >= most {
                // What the server holds of them, less what it has sent.
                let all = self.held(session, &filters, span.start).await?;
                tally.cut(all.saturating_sub(sent));
                break;
            }
            let size = self.window_of(session, &filters, &span, most - looked_at, sent).await?;
            let window = take_newest(&mut span, size);
            let seen = |message: async_nats::Message, sequence: u64| {
                sent += 1;
                // What is no dead letter of ours is not counted.
                let Some(traits) = layout::traits(&message) else { return };
                looked_at += 1;
                if filter.takes(&traits, &error_for(filter, &message)) {
                    tally.count(&Traits { id: &format!("{}@{sequence}", traits.id), ..traits });
                } else {
                    tally.pass();
                }
            };
            self.each(session, &filters, window, seen).await?;
        }
        Ok(tally)
    }

    /// The size of a window at the end of a span that has no more than so many messages. As many sequences do always, but where few of a
    /// long stream are meant, and few more are to be looked at, they would be read one by one.
    async fn window_of(
        &self,
        session: &Session,
        filters: &[String],
        span: &Range<u64>,
        most: u64,
        sent: u64,
    ) -> Result<u64, DeadLetterError> {
        let mut size = LARGEST_WINDOW;
        while size > most {
            let start = span.end.saturating_sub(size).max(span.start);
            if self.held(session, filters, start).await?.saturating_sub(sent) <= most {
                return Ok(size);
            }
            size /= 2;
        }
        Ok(size.max(1))
    }

    /// Counts by rows, in the order in which they would be read: which groups are folded into the rest hangs on it.
    async fn count_rows(
        &self,
        session: &Session,
        filter: &DeadLetterFilter,
        mut tally: Tally,
        view: &View,
    ) -> Result<Tally, DeadLetterError> {
        let Some(start) = self.start_of(session, filter, view).await? else { return Ok(tally) };
        let (meant, mut texts) = (Meant::new(filter, start), Texts::default());
        let (mut sent, mut looked_at) = (0, 0u64);
        let mut span = view.span();
        while !span.is_empty() {
            let window = take_newest(&mut span, LARGEST_WINDOW);
            for (sequence, row) in view.range(window) {
                looked_at += 1;
                breathe(looked_at).await;
                if !meant.is_sent(view, sequence, row) {
                    continue;
                }
                sent += 1;
                let Some(traits) = view.traits(sequence, row, &mut texts) else { continue };
                if filter.takes(&traits, "") {
                    tally.count(&traits);
                } else {
                    tally.pass();
                }
            }
        }
        if view.is_whole() {
            return Ok(tally);
        }
        // What lies in front of all rows is older, and read as far as all would be read.
        let most = if tally.is_whole() { u64::MAX } else { self.options.count_at_most.saturating_sub(sent) };
        self.count_read(session, filter, tally, (start..view.floor(), most), sent).await
    }

    /// Where reading those that are meant would begin; `None`: there is no stream.
    pub(super) async fn start_of(
        &self,
        session: &Session,
        filter: &DeadLetterFilter,
        view: &View,
    ) -> Result<Option<u64>, DeadLetterError> {
        if view.is_whole() {
            return Ok(Some(view.start(filter)));
        }
        Ok(self.span(session, filter).await?.map(|span| span.start))
    }

    /// How many messages the stream has from a sequence on.
    pub(super) async fn held(&self, session: &Session, filters: &[String], from: u64) -> Result<u64, DeadLetterError> {
        let reader = Reader::open(session, &self.options.stream, filters, Start::Sequence(from)).await?;
        let count = reader.left;
        reader.close().await;
        Ok(count)
    }
}
