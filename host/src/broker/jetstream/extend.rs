//! Asks the server for another lease on what is held.

use async_nats::Subject;
use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::session::Session;
use super::source::JetStreamSource;
use super::{acks, reply};
use crate::broker::{Receipt, Source as _};

/// Extensions that are under way at once.
const EXTENSIONS: usize = 64;

impl JetStreamSource {
    /// For each delivery the new end of its lease, where the server confirmed one.
    pub(super) async fn extend_all(&self, receipts: &[Receipt]) -> Vec<Option<Instant>> {
        let Ok(session) = self.link.session() else {
            return vec![None; receipts.len()];
        };
        let session = &session;
        futures_util::stream::iter(receipts.to_vec())
            .map(|receipt| async move { self.extend_one(session, &receipt).await })
            .buffered(EXTENSIONS)
            .collect()
            .await
    }

    async fn extend_one(&self, session: &Session, receipt: &Receipt) -> Option<Instant> {
        let sent_at = Instant::now();
        let ends_at = sent_at + self.lease_duration();
        let message = reply::message(receipt);
        let origin = self.held.origins(std::iter::once(message)).pop().flatten();
        if !self.survived(session, message, origin, ends_at).await.ok()? {
            // The server lost it: nobody else has it, and the lease on what stands in its place is not this one's.
            self.held.extend(message, ends_at);
            return Some(ends_at);
        }
        let subject = Subject::try_from(receipt.token.clone()).ok()?;
        session.request(subject, None, acks::in_progress(), session.request_timeout()).await.ok()?;
        self.held.extend(message, ends_at);
        Some(ends_at)
    }
}
