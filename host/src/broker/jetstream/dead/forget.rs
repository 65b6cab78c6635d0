//! Removes dead letters that were sent back, at their age.
//!
//! Invariants:
//! - Only what lies among those that were sent back goes, and of what is none of ours nothing.
//! - What a dead letter refers to that still waits stays: a host that was killed between keeping the copy and taking the letter
//!   out leaves both, and they refer to the same parts.

use std::time::SystemTime;

use super::DeadLetterStore;
use super::layout::{self, Decoded, LETTERS, REDRIVEN};
use crate::broker::DeadLetterError;
use crate::broker::jetstream::reader::{Reader, Start};
use crate::broker::jetstream::session::Session;
use crate::broker::jetstream::setup::stream_info;

impl DeadLetterStore {
    /// Removes those that were sent back before a time, the oldest first, with what they refer to.
    pub(super) async fn forget(
        &self,
        session: &Session,
        before: SystemTime,
        at_most: usize,
    ) -> Result<usize, DeadLetterError> {
        if stream_info(session, &self.options.stream).await?.is_none() {
            return Ok(0);
        }
        let all = [format!("{REDRIVEN}.>")];
        let mut reader = Reader::open(session, &self.options.stream, &all, Start::Sequence(1)).await?;
        let mut old = Vec::new();
        let read = loop {
            match reader.next().await {
                // They were stored when they were sent back.
                Ok(Some((message, position))) if position.stored_at < before && old.len() < at_most => {
                    // Somebody else's, or a later host's, is left alone.
                    if let Ok(decoded) = layout::decode(&message) {
                        old.push((decoded, position.sequence));
                    }
                }
                Ok(Some(_) | None) => break Ok(()),
                Err(error) => break Err(DeadLetterError::from(error)),
            }
        };
        reader.close().await;
        read?;
        for (decoded, sequence) in &old {
            self.delete(session, *sequence).await?;
            self.discard_parts_unless_awaited(session, decoded).await?;
        }
        Ok(old.len())
    }

    /// Removes what a dead letter refers to that was sent back, unless it lies among those that wait, too.
    pub(super) async fn discard_parts_unless_awaited(
        &self,
        session: &Session,
        decoded: &Decoded,
    ) -> Result<(), DeadLetterError> {
        if decoded.elsewhere.is_none() && decoded.rest.is_none() {
            return Ok(());
        }
        let record = &decoded.letter.record;
        let waiting = [layout::tail(record), layout::other_tail(record)].map(|tail| format!("{LETTERS}.{tail}"));
        if self.lies_among(session, &waiting, &record.id).await? {
            return Ok(());
        }
        self.discard_parts(session, decoded).await
    }
}
