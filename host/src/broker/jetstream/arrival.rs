//! From what came on the wire to our own message, and to what is known of its earlier deliveries.

use std::fmt::Write as _;
use std::time::SystemTime;

use bytes::Bytes;

use super::headers::{self, MESSAGE_ID};
use super::reply::Position;
use crate::message::{Headers, KEPT_ID_HEADER, Message};
use crate::settle::progress::Progress;

/// The message; its body is moved.
pub(super) fn message(stream: &str, message: async_nats::Message, position: &Position) -> Message {
    let headers = headers::from_nats(&message);
    assembled(stream, message.subject.as_str().to_owned(), headers, message.payload, position)
}

/// The message of these parts.
pub(super) fn assembled(stream: &str, subject: String, headers: Headers, body: Bytes, position: &Position) -> Message {
    let given = headers.text(KEPT_ID_HEADER).or_else(|| headers.text(MESSAGE_ID));
    let id = given.map_or_else(|| position_id(stream, position), str::to_owned);
    Message { id, subject, headers, body, sequence: position.sequence, published_at: position.stored_at }
}

/// The id of a message that came without one: where it stands, and the millisecond in which it was stored. Its outputs have
/// their ids from it, and after a server lost its newest messages another one may stand there.
pub(super) fn position_id(stream: &str, position: &Position) -> String {
    let since = position.stored_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // A sequence has at most 20 digits, the milliseconds have 13 for the next two hundred years: allocated once.
    let mut id = String::with_capacity(stream.len() + 35);
    id.push_str(stream);
    // Writing to a string cannot fail.
    let _ = write!(id, ":{}:{}", position.sequence, since.as_millis());
    id
}

/// What is known of earlier deliveries: the note, if there is one, and the server's count.
pub(super) fn progress(note: Option<Progress>, deliveries: u32, now: SystemTime) -> Progress {
    match note {
        Some(mut progress) => {
            // A server that was killed may have forgotten some of its count; ours does not go back.
            progress.deliveries = deliveries.max(progress.deliveries.saturating_add(1));
            progress
        }
        None => Progress { deliveries: deliveries.max(1), ..Progress::first(now) },
    }
}
