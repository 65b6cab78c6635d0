//! Whether a message that was handed out is still where it was, before the server is told what became of it.
//!
//! The server takes an acknowledgement for whatever stands at its sequence. One that lost its newest messages with the
//! power, or was put back to an earlier copy, has given their sequences to new ones; an acknowledgement of a message that it
//! lost would take a new one away that nobody has run.
//!
//! Invariants:
//! - What came over this connection, with no sign since that the server was away (see `upsets`), is told as it is: no question
//!   asked.
//! - All else is looked at in the stream first. Of a message that is not there the server is told nothing: what is to be
//!   done about it is done, and the record knows it should it come again.

use tokio::time::{Instant, timeout_at};

use super::held::Origin;
use super::session::Session;
use super::source::JetStreamSource;
use super::stored;
use crate::broker::done::MessageIdentity;

/// Whether a message came over a session, and after the last upset.
pub(super) fn is_as_it_came(session: &Session, upset_at: Option<Instant>, origin: Option<Origin>) -> bool {
    origin
        .is_some_and(|origin| origin.session == session.number && upset_at.is_none_or(|upset_at| origin.at > upset_at))
}

impl JetStreamSource {
    /// Whether the stream still has a message: for sure, or looked at until a time; the error says why that is not known.
    pub(super) async fn survived(
        &self,
        session: &Session,
        message: MessageIdentity,
        origin: Option<Origin>,
        until: Instant,
    ) -> Result<bool, String> {
        if is_as_it_came(session, self.last_upset(), origin) {
            return Ok(true);
        }
        let stream = &self.bound.stream;
        let looking = timeout_at(until, stored::at(session, stream, message.sequence)).await;
        let stored =
            looking.map_err(|_| "the lease on it ended first".to_owned())?.map_err(|error| error.to_string())?;
        let Some(stored) = stored else {
            // As often as not it was acknowledged just before the connection ended, and a work queue keeps it no longer.
            tracing::debug!(subscription = self.spec.name, stream, sequence = message.sequence, "a message is gone");
            return Ok(false);
        };
        let survived = stored.position().message() == message;
        if !survived {
            tracing::warn!(
                subscription = self.spec.name,
                stream,
                sequence = message.sequence,
                "the server lost a message that it had handed out, and has another one in its place; that one stays as it is"
            );
        }
        Ok(survived)
    }
}
