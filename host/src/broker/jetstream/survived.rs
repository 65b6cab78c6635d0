//! Whether a message that was handed out is still where it was, before the server is told what became of it.
//!
//! The server takes an acknowledgement for whatever stands at its sequence. One that lost its newest messages with the
//! power, or was put back to an earlier copy, has given their sequences to new ones; an acknowledgement of a message that it
//! lost would take a new one away that nobody has run.
//!
//! Invariants:
//! - What came over this connection, with no sign since that the server was away, is told as it is: no question asked.
//! - All else is looked at in the stream first. Of a message that is not there the server is told nothing: what is to be
//!   done about it is done, and the record knows it should it come again.

use tokio::time::{Instant, timeout_at};

use super::acks::Word;
use super::session::Session;
use super::source::JetStreamSource;
use super::stored;

impl JetStreamSource {
    /// Notes that the server was away, or another one took its place, without an end of the connection: in a cluster it may
    /// be another server that has the stream.
    pub(super) fn note_upset(&self, now: Instant) {
        *self.upset_at() = Some(now);
    }

    /// Whether the message of a word came over this session, and nothing happened since.
    pub(super) fn is_as_it_came(&self, session: &Session, word: &Word) -> bool {
        let upset_at = *self.upset_at();
        word.origin.is_some_and(|origin| {
            origin.session == session.number && upset_at.is_none_or(|upset_at| origin.at > upset_at)
        })
    }

    /// Whether the stream still has the message of a word; the error says why that is not known.
    pub(super) async fn survived(&self, session: &Session, word: &Word) -> Result<bool, String> {
        let (stream, message) = (&self.bound.stream, word.message);
        let looking = timeout_at(word.lease_ends_at, stored::at(session, stream, message.sequence)).await;
        let stored = looking.map_err(|_| "its lease ended first".to_owned())?.map_err(|error| error.to_string())?;
        let survived = stored.is_some_and(|stored| stored.position().message() == message);
        if !survived {
            tracing::warn!(
                subscription = self.spec.name,
                stream,
                sequence = message.sequence,
                "the server does not have a message any more that it handed out before it was away; it is told nothing of it"
            );
        }
        Ok(survived)
    }
}
