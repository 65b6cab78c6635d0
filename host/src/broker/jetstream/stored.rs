//! Messages as a stream keeps them: asked for by their place, and read as if they had come.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::held::Origin;
use super::reply::Position;
use super::session::Session;
use super::source::JetStreamSource;
use super::unreadable::problem;
use super::wire::{ApiError, Stored, StoredMessage, code};
use super::{arrival, headers};
use crate::broker::Source as _;
use crate::message::Message;

/// What stands at a place of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// What a handler is given.
    Message(Message),
    /// What the client library cannot read from the wire.
    Unreadable(Unreadable),
}

/// A message that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    pub(super) position: Position,
    pub(super) subject: String,
    /// What stands where headers should be, as it is.
    pub(super) headers: Bytes,
    pub(super) body: Bytes,
    /// What is wrong, for a person.
    pub(super) problem: String,
}

/// The message at a position; `None`: it is gone by now, removed by a limit or by somebody.
pub(super) async fn at(session: &Session, stream: &str, sequence: u64) -> Result<Option<Stored>, ApiError> {
    ask(session, stream, &json!({ "seq": sequence })).await
}

/// The first message from a position on whose subject a filter matches; `None`: there is none.
pub(super) async fn next(session: &Session, stream: &str, from: u64, filter: &str) -> Result<Option<Stored>, ApiError> {
    ask(session, stream, &json!({ "seq": from, "next_by_subj": filter })).await
}

/// The last message of a subject; `None`: there is none.
pub(super) async fn last(session: &Session, stream: &str, subject: &str) -> Result<Option<Stored>, ApiError> {
    ask(session, stream, &json!({ "last_by_subj": subject })).await
}

async fn ask(session: &Session, stream: &str, question: &Value) -> Result<Option<Stored>, ApiError> {
    match session.api::<StoredMessage>(&format!("STREAM.MSG.GET.{stream}"), question).await {
        Ok(answer) => Ok(Some(answer.message)),
        Err(error) if error.is(code::MESSAGE_NOT_FOUND) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Stored {
    /// Where it stands, as at its first delivery.
    pub(super) fn position(&self) -> Position {
        let stored_at = humantime::parse_rfc3339(&self.time).unwrap_or(SystemTime::UNIX_EPOCH);
        Position { deliveries: 1, sequence: self.seq, stored_at }
    }

    /// Reads it.
    pub(super) fn read(self, stream: &str) -> Result<Read, ApiError> {
        let decode = |text: &str| STANDARD.decode(text).map_err(|error| ApiError::Unreadable(error.to_string()));
        let position = self.position();
        let (headers, body) = (decode(&self.hdrs)?, decode(&self.data)?.into());
        if let Some(problem) = problem(&self.subject, &headers) {
            let headers = headers.into();
            return Ok(Read::Unreadable(Unreadable { position, subject: self.subject, headers, body, problem }));
        }
        let headers = headers::from_stored(&String::from_utf8_lossy(&headers));
        Ok(Read::Message(arrival::assembled(stream, self.subject, headers, body, &position)))
    }
}

impl JetStreamSource {
    /// Holds a message that was fetched by its place. Its lease is counted from now, and ends then.
    pub(super) fn hold_from_now(&self, session: &Session, position: &Position) -> Instant {
        let now = Instant::now();
        let ends_at = now + self.lease_duration();
        self.held.renew(
            position.message(),
            Origin { session: session.number, at: now, losses: self.losses.found() },
            ends_at,
        );
        ends_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Headers;

    #[test]
    fn a_stored_message_reads_as_it_would_come() {
        let stored = |headers: &[u8]| Stored {
            subject: "a.b".into(),
            seq: 7,
            hdrs: STANDARD.encode(headers),
            data: STANDARD.encode("body"),
            time: "2026-01-02T03:04:05.123456789Z".into(),
        };
        let read = |stored: Stored| match stored.read("S") {
            Ok(Read::Message(message)) => Some(message),
            Ok(Read::Unreadable(_)) | Err(_) => None,
        };
        let found = read(stored(b"NATS/1.0\r\nKind: new\r\nA:1\r\n more\r\nNats-Msg-Id: m-7\r\n\r\n"));
        let found = found.map(|message| (message.id, message.body, message.headers, message.sequence));
        let mut headers = Headers::default();
        for (name, value) in [("A", "1 more"), ("Kind", "new"), ("Nats-Msg-Id", "m-7")] {
            headers.push(name, value);
        }
        assert_eq!(found, Some(("m-7".to_owned(), "body".into(), headers, 7)));
        assert_eq!(read(stored(b"")).map(|message| message.id).as_deref(), Some("S:7:1767323045123"));
        assert!(read(stored(b"NATS/1.0\r\nno colon\r\n\r\n")).is_none());
    }
}
