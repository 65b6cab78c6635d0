//! Messages that the client library cannot read from the wire: found, and taken out of the way.
//!
//! The server takes any bytes for headers and hands them out as they are. The library ends the connection over bytes
//! that it cannot read, and the server hands the same message out again when its lease ends: to nobody's use, again
//! and again, and whatever was behind it on that connection has to wait as well. So after two connections in a row that
//! ended while messages were asked for, what the server holds for handed out is looked through by a question that
//! answers in JSON, and what cannot be read is handed to the host as such: it ends in the dead-letter queue, its bytes
//! kept.
//!
//! Invariants:
//! - What this calls unreadable is never run by a handler, and never acknowledged before its dead letter is stored.
//! - Looking changes nothing on the server.

use std::str::FromStr;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use async_nats::StatusCode;
use async_nats::header::{HeaderName, HeaderValue};
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::time::Instant;

use super::session::Session;
use super::source::JetStreamSource;
use super::stored::{self, Read, Unreadable};
use super::wire::{ApiError, Stored};
use super::{arrival, reply, setup};
use crate::broker::subject::matches;
use crate::broker::{Delivery, Receipt, ReceiveError, Standing};
use crate::message::{Headers, Message};
use crate::settle::dead_letter::UNREADABLE_HEADERS;

/// Questions that are under way at once: a backlog of 10,000 is looked through in half a second.
const AT_ONCE: usize = 64;
/// Connections that end one soon after the other before anything is looked through: one may always end.
const IN_A_ROW: u32 = 2;

/// Connections that ended while messages were asked for on them.
#[derive(Debug, Default)]
pub(super) struct Breaks {
    in_a_row: u32,
    /// Whether what was handed out is still to be looked through.
    to_look: bool,
    last: Option<Instant>,
}

impl Breaks {
    /// Notes that a connection ended. `soon` is what counts as one soon after the other.
    pub(super) fn note(&mut self, now: Instant, soon: Duration) {
        let soon_after = self.last.replace(now).is_some_and(|last| now.duration_since(last) <= soon);
        self.in_a_row = if soon_after { self.in_a_row.saturating_add(1) } else { 1 };
        self.to_look = self.in_a_row >= IN_A_ROW;
    }

    /// Whether there is reason to look.
    pub(super) const fn to_look(&self) -> bool {
        self.to_look
    }

    /// All was looked through.
    pub(super) const fn looked(&mut self) {
        self.to_look = false;
    }
}

impl JetStreamSource {
    /// Looks through what the server holds for handed out, but what is known to be done and what is held here, for
    /// messages that cannot be read. When there is none left, it is not looked again until a connection ends.
    pub(super) async fn find_unreadable(&self, session: &Session, most: usize) -> Result<Vec<Delivery>, ReceiveError> {
        let info = setup::consumer_info(session, &self.bound.stream, &self.spec.name).await;
        let info = info.map_err(|error| ReceiveError::Away(error.to_string()))?;
        // Gone: what follows says so.
        let Some(info) = info else { return Ok(Vec::new()) };
        tracing::warn!(
            subscription = self.spec.name,
            unsettled = info.num_ack_pending,
            "connections end one after the other; looking for messages that cannot be read"
        );
        let range = info.ack_floor.stream_seq.saturating_add(1)..=info.delivered.stream_seq;
        let candidates = range.filter(|_| info.num_ack_pending > 0);
        let candidates = candidates.filter(|sequence| !self.held.holds(*sequence, Instant::now()));
        let found: Vec<Unreadable> = futures_util::stream::iter(candidates)
            .map(|sequence| self.look_at_stored(session, sequence))
            .buffered(AT_ONCE)
            .try_filter_map(|found| std::future::ready(Ok(found)))
            .take(most.max(1))
            .try_collect()
            .await?;
        if found.is_empty() {
            self.breaks().looked();
        }
        Ok(found.into_iter().map(|unreadable| self.give_up(session, unreadable)).collect())
    }

    /// The message at a place, when it is one of the subscription's that cannot be read and is not done.
    async fn look_at_stored(&self, session: &Session, sequence: u64) -> Result<Option<Unreadable>, ReceiveError> {
        let away = |error: ApiError| ReceiveError::Away(error.to_string());
        let stream = &self.bound.stream;
        let stored = stored::at(session, stream, sequence).await.map_err(away)?;
        let is_due = |stored: &Stored| {
            let known = self.record.look_up(self.source, std::iter::once(stored.position().message()));
            self.spec.subjects.iter().any(|filter| matches(filter, &stored.subject))
                && !known.iter().any(|(done, _)| *done)
        };
        Ok(match stored.filter(is_due).map(|stored| stored.read(stream)).transpose().map_err(away)? {
            Some(Read::Unreadable(unreadable)) => Some(unreadable),
            Some(Read::Message(_)) | None => None,
        })
    }

    /// A message that cannot be read, as a delivery that is to be given up. Its lease is counted from now: whoever else
    /// was handed it cannot read it either.
    pub(super) fn give_up(&self, session: &Session, found: Unreadable) -> Delivery {
        let sequence = found.position.sequence;
        tracing::error!(
            subscription = self.spec.name,
            stream = self.bound.stream,
            sequence,
            problem = found.problem,
            "a message cannot be read; it goes to the dead-letter queue"
        );
        self.counters.unreadable.fetch_add(1, Ordering::Relaxed);
        let lease_ends_at = self.hold_from_now(session, &found.position);
        let token = reply::of_unseen(&self.bound.stream, &self.spec.name, &found.position);
        let mut headers = Headers::default();
        if !found.headers.is_empty() {
            headers.push(UNREADABLE_HEADERS, found.headers);
        }
        let message = Message {
            id: arrival::position_id(&self.bound.stream, &found.position),
            subject: found.subject,
            headers,
            body: found.body,
            sequence,
            published_at: found.position.stored_at,
        };
        Delivery {
            message,
            progress: arrival::progress(None, found.position.deliveries, SystemTime::now()),
            receipt: Receipt { sequence, token: token.into() },
            lease_ends_at,
            standing: Standing::Unreadable(found.problem),
        }
    }
}

/// What keeps the library from reading a message; `None` when it reads it. Follows the library's own reading, and asks
/// it for names, values and statuses.
pub(super) fn problem(subject: &str, headers: &[u8]) -> Option<String> {
    if subject.contains(char::REPLACEMENT_CHARACTER) {
        return Some("its subject is not UTF-8".to_owned());
    }
    if headers.is_empty() {
        return None;
    }
    if subject.contains(char::is_whitespace) {
        return Some("its subject has white space".to_owned());
    }
    let Ok(text) = std::str::from_utf8(headers) else {
        return Some("its headers are not UTF-8".to_owned());
    };
    let mut lines = text.lines().peekable();
    let Some(status) = lines.next().and_then(|line| line.strip_prefix("NATS/1.0")) else {
        return Some("its headers do not begin with `NATS/1.0`".to_owned());
    };
    let status = status.trim().split(' ').next().unwrap_or_default();
    if !status.is_empty() && StatusCode::from_str(status).is_err() {
        return Some(format!("`{}` is no status", status.escape_debug()));
    }
    while let Some(line) = lines.next() {
        if line.is_empty() {
            continue;
        }
        let Some((name, value)) = line.split_once(':') else {
            return Some(format!("its header line `{}` has no colon", shown(line)));
        };
        if HeaderName::from_str(name).is_err() {
            return Some(format!("`{}` is no name of a header", shown(name)));
        }
        let mut value = value.trim_start().to_owned();
        while let Some(more) = lines.next_if(|line| line.starts_with(char::is_whitespace)) {
            value.push_str(more);
        }
        if HeaderValue::from_str(value.trim_end()).is_err() {
            return Some(format!("its header `{}` has a line break in its value", shown(name)));
        }
    }
    None
}

/// The beginning of a text, made printable.
fn shown(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_library_cannot_read_is_told_from_what_it_can() {
        let rows: [(&str, &[u8], Option<&str>); 14] = [
            ("a.b", b"", None),
            ("a b", b"", None),
            ("a.b", b"NATS/1.0\r\nA: 1\r\n\r\n", None),
            ("a.b", b"NATS/1.0\r\nA: 1\r\n more\r\nB:\r\n\r\n", None),
            ("a.b", b"NATS/1.0 503 no\r\nA: 1\r\n\r\n", None),
            ("a.b", b"NATS/1.0\r\n: no name\r\n\r\n", None),
            ("a.b", b"NATS/1.0\r\nA: \xff\r\n\r\n", Some("not UTF-8")),
            ("a.b", b"NATS/1.0\r\nno colon\r\n\r\n", Some("no colon")),
            ("a.b", b"NATS/1.0\r\nA: x\ry\r\n\r\n", Some("line break")),
            ("a.b", b"NATS/1.0\r\nA B: x\r\n\r\n", Some("no name of a header")),
            ("a.b", b"NATS/1.0 huh\r\n\r\n", Some("no status")),
            ("a.b", b"HELLO", Some("do not begin")),
            ("a\u{a0}b", b"NATS/1.0\r\nA: 1\r\n\r\n", Some("white space")),
            ("a.\u{fffd}", b"", Some("subject is not UTF-8")),
        ];
        for (subject, headers, expected) in rows {
            let found = problem(subject, headers);
            let same = match (&found, expected) {
                (Some(found), Some(expected)) => found.contains(expected),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            };
            assert!(same, "{subject:?} {:?}: {found:?}", String::from_utf8_lossy(headers));
        }
    }

    #[test]
    fn one_connection_may_end_and_two_are_a_reason_to_look() {
        let start = Instant::now();
        let soon = Duration::from_secs(60);
        let mut breaks = Breaks::default();
        breaks.note(start, soon);
        assert!(!breaks.to_look());
        breaks.note(start + soon * 2, soon);
        assert!(!breaks.to_look(), "that was long ago");
        breaks.note(start + soon * 3, soon);
        assert!(breaks.to_look());
        breaks.looked();
        assert!(!breaks.to_look());
        breaks.note(start + soon * 4, soon);
        assert!(breaks.to_look(), "the third in a row is looked into at once");
    }
}
