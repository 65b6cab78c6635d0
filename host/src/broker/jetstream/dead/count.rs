//! Counts dead letters, the newest first, by their headers alone; so many at most, where no more is asked for.

use super::DeadLetterStore;
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
        mut tally: Tally,
    ) -> Result<Tally, DeadLetterError> {
        let filter = DeadLetterFilter { include_redriven: false, ..filter.clone() };
        let Some(mut span) = self.span(session, &filter).await? else { return Ok(tally) };
        let filters = filters(&filter);
        let most = if tally.is_whole() { u64::MAX } else { self.options.count_at_most };
        let (mut looked_at, mut sent) = (0, 0);
        while !span.is_empty() {
            if looked_at >= most {
                // What the server holds of them, less what it has sent.
                let all = self.held(session, &filters, span.start).await?;
                tally.cut(all.saturating_sub(sent));
                break;
            }
            let window = take_newest(&mut span, LARGEST_WINDOW.min(most - looked_at));
            let seen = |message: async_nats::Message, sequence: u64| {
                sent += 1;
                // What is no dead letter of ours is not counted.
                let Some(traits) = layout::traits(&message) else { return };
                looked_at += 1;
                if filter.takes(&traits, &error_for(&filter, &message)) {
                    tally.count(&Traits { id: &format!("{}@{sequence}", traits.id), ..traits });
                } else {
                    tally.pass();
                }
            };
            self.each(session, &filters, window, seen).await?;
        }
        Ok(tally)
    }

    /// How many messages the stream has from a sequence on.
    pub(super) async fn held(&self, session: &Session, filters: &[String], from: u64) -> Result<u64, DeadLetterError> {
        let reader = Reader::open(session, &self.options.stream, filters, Start::Sequence(from)).await?;
        let count = reader.left;
        reader.close().await;
        Ok(count)
    }
}
