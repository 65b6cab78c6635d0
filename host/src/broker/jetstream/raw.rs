//! The last message of a subject, read from the leader of its stream.

use std::collections::BTreeMap;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::session::Session;
use super::stored;
use super::wire::{ApiError, Stored};

/// What a message of a bucket does; without it, it puts.
pub(super) const OPERATION: &str = "KV-Operation";
/// Why the server itself put a message in the place of one.
const MARKER: &str = "Nats-Marker-Reason";

/// A message as it stands in its stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Raw {
    pub(super) sequence: u64,
    pub(super) payload: Bytes,
    /// When it was stored, by the server's clock.
    pub(super) stored_at: SystemTime,
    headers: String,
}

impl Raw {
    /// Whether it says that a key was removed: by somebody, or by the server at its age.
    pub(super) fn is_removal(&self) -> bool {
        let headers = self.headers.lines().filter_map(|line| line.split_once(':'));
        headers.into_iter().any(|(name, value)| says_removed(name, value.trim()))
    }
}

/// Whether a header says that a key was removed.
pub(super) fn says_removed(name: &str, value: &str) -> bool {
    (name == OPERATION && value != "PUT") || name == MARKER
}

#[derive(Deserialize)]
struct Subjects {
    state: SubjectsState,
}

#[derive(Deserialize)]
struct SubjectsState {
    #[serde(default)]
    subjects: BTreeMap<String, u64>,
}

/// The subjects of a stream that a filter names and that have messages: all of them in one answer, or none. (The server
/// gives up to 100,000, more than there are handlers or modules.)
pub(super) async fn subjects(session: &Session, stream: &str, filter: &str) -> Result<Vec<String>, ApiError> {
    let asked = json!({ "subjects_filter": filter });
    let found: Subjects = session.api(&format!("STREAM.INFO.{stream}"), &asked).await?;
    Ok(found.state.subjects.into_keys().collect())
}

/// The last message of a subject; `None`: there is none.
pub(super) async fn last(session: &Session, stream: &str, subject: &str) -> Result<Option<Raw>, ApiError> {
    let stored = stored::last(session, stream, subject).await?;
    stored.map(|stored| read(&stored).map_err(ApiError::Unreadable)).transpose()
}

fn read(stored: &Stored) -> Result<Raw, String> {
    let decoded = |what: &str, text: &str| STANDARD.decode(text).map_err(|error| format!("its {what}: {error}"));
    Ok(Raw {
        sequence: stored.seq,
        payload: decoded("data", &stored.data)?.into(),
        stored_at: humantime::parse_rfc3339(&stored.time).map_err(|error| format!("its time: {error}"))?,
        headers: String::from_utf8_lossy(&decoded("headers", &stored.hdrs)?).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_stored_message_is_read_and_a_removal_is_told_from_a_value() {
        let stored = |headers: &str| Stored {
            subject: "a".to_owned(),
            seq: 7,
            data: STANDARD.encode("x"),
            hdrs: STANDARD.encode(headers),
            time: "2026-01-02T03:04:05.123456789Z".to_owned(),
        };
        let plain = read(&stored("")).unwrap();
        assert_eq!((plain.sequence, plain.payload.as_ref(), plain.is_removal()), (7, b"x".as_slice(), false));
        for (operation, removal) in [("DEL", true), ("PURGE", true), ("PUT", false)] {
            let headers = format!("NATS/1.0\r\nKV-Operation: {operation}\r\n\r\n");
            assert_eq!(read(&stored(&headers)).unwrap().is_removal(), removal, "{operation}");
        }
        assert!(read(&stored("NATS/1.0\r\nNats-Marker-Reason: MaxAge\r\n\r\n")).unwrap().is_removal());
        assert!(read(&Stored { data: "?".to_owned(), ..stored("") }).unwrap_err().contains("its data"));
    }
}
