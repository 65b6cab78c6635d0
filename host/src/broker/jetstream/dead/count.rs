//! Counts dead letters, the newest first, by their headers alone.

use super::DeadLetterStore;
use super::layout;
use super::scan::{LARGEST_WINDOW, error_for, filters, take_newest};
use crate::broker::jetstream::session::Session;
use crate::broker::{DeadLetterError, DeadLetterFilter, Tally, Traits};

/// Dead letters that a count looks at. The server has no way to count by a header, so that each is sent; 200,000 take some
/// seconds.
const COUNT_AT_MOST: u64 = 200_000;

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
        let mut looked_at = 0;
        while !span.is_empty() {
            if looked_at >= COUNT_AT_MOST {
                tally.cut();
                break;
            }
            let window = take_newest(&mut span, LARGEST_WINDOW);
            let seen = |message: async_nats::Message, sequence: u64| {
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
}
