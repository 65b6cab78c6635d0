//! The record of a message that was given up on: its reason, evidence and history beside the untouched original.

use std::fmt;
use std::time::SystemTime;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::message::{Headers, Message, TRACEPARENT_HEADER, TRACESTATE_HEADER};
use crate::settle::progress::AttemptRecord;
use crate::telemetry::trace::{Given, SpanContext, TraceId};

/// The longest error text in a record, in bytes; longer ones are cut.
pub const MAX_ERROR_BYTES: usize = 4096;

/// So many bytes of log lines are kept in a record: a screen or so, and a record stays a few KiB.
pub const MAX_LOG_BYTES: usize = 4096;

/// The header under which a dead letter holds what stood in the place of headers and could not be read, as it was.
pub const UNREADABLE_HEADERS: &str = "Dlq-Unreadable-Headers";

/// The id of a dead letter: a ULID, so that ids sort by the time of death.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeadLetterId(pub String);

impl fmt::Display for DeadLetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A message on its way into the dead-letter queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Why, where from, what ran, what it used.
    pub record: DeadLetterRecord,
    /// The original headers, in their order.
    pub headers: Headers,
    /// The original body, untouched.
    pub body: Bytes,
}

/// A dead letter as its store gives it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDeadLetter {
    /// The dead letter. In listings the body is left out (empty).
    pub letter: DeadLetter,
    /// The size of the body in bytes, known in listings too.
    pub body_size: u64,
    /// When it was sent back, if it was.
    pub redriven_at: Option<SystemTime>,
    /// An id that its store finds it by at once: its own, and where it lies.
    pub handle: DeadLetterId,
}

/// Everything that is known of a dead letter beside the original itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterRecord {
    /// Its id.
    pub id: DeadLetterId,
    /// The reason code of the outcome table.
    pub reason: String,
    /// What was said, for a person; at most [`MAX_ERROR_BYTES`].
    pub error: String,
    /// The same for the same error of the same handler, whatever the version: see
    /// [`fingerprint`](crate::settle::fingerprint). 16 hex digits.
    pub fingerprint: String,
    /// The subscription that gave it up.
    pub subscription: String,
    /// The broker's name in the configuration.
    pub broker: String,
    /// The stream, where the broker has named ones.
    pub stream: Option<String>,
    /// The subject that the message was published to.
    pub subject: String,
    /// Its position in the stream.
    pub sequence: u64,
    /// When it was published.
    pub published_at: SystemTime,
    /// The message's id.
    pub message_id: String,
    /// Counted runs.
    pub attempts: u32,
    /// The last attempt that there would have been, as the handler was told; `None`: a host of before wrote the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// Hand-overs by the broker.
    pub deliveries: u32,
    /// Returns that the handler asked for.
    pub defers: u32,
    /// Runs that ended at the wall clock.
    pub timeouts: u32,
    /// When it was first handed to a host.
    pub first_seen: SystemTime,
    /// When it was given up on.
    pub dead_at: SystemTime,
    /// The handler's name.
    pub handler: String,
    /// The digest of the module that ran last, in hex; empty when none ran.
    pub digest: String,
    /// The number of the version that ran last; `None`: none ran, or a host of before wrote the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// The name of the host.
    pub host: String,
    /// Fuel of the last run, and its limit.
    pub fuel_used: u64,
    /// The fuel that the last run was given.
    pub fuel_limit: u64,
    /// The most memory that the last run held, in bytes.
    pub memory_peak: u64,
    /// How long the last run took, in milliseconds.
    pub run_ms: u64,
    /// The guest's frames at the last fault, innermost first.
    pub backtrace: Vec<String>,
    /// The last lines that the last run logged, oldest first; at most [`MAX_LOG_BYTES`] together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<String>,
    /// The last failures, oldest first.
    pub history: Vec<AttemptRecord>,
    /// How often it had been redriven before it died (again).
    pub redrives: u32,
    /// The span of the last delivery, as a `traceparent`; `None`: traces were off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

impl DeadLetter {
    /// The message, as its handler was given it.
    #[must_use]
    pub fn message(&self) -> Message {
        let Self { record, headers, body } = self;
        Message {
            id: record.message_id.clone(),
            subject: record.subject.clone(),
            headers: headers.clone(),
            body: body.clone(),
            sequence: record.sequence,
            published_at: record.published_at,
        }
    }

    /// The trace that the message is in: its publisher's, or the one that began here; `None`: neither is known.
    #[must_use]
    pub fn trace(&self) -> Option<TraceId> {
        let began_here = || self.record.traceparent.as_deref().and_then(|text| SpanContext::parse(text.as_bytes()));
        match Given::of(&self.headers) {
            Given::Parent(parent, _) => Some(parent.trace),
            Given::Nothing | Given::Malformed => began_here().map(|span| span.trace),
        }
    }

    /// The headers that the message is sent back with: its own, and where its publisher began no trace, the one that began
    /// here goes on.
    #[must_use]
    pub fn headers_again(&self) -> Headers {
        again(&self.headers, self.record.traceparent.as_deref())
    }
}

/// Headers of a message that is sent back, in the trace that its record tells of unless they tell of one.
#[must_use]
pub fn again(headers: &Headers, traceparent: Option<&str>) -> Headers {
    let mut headers = headers.clone();
    let goes_on = match Given::of(&headers) {
        Given::Parent(..) => None,
        Given::Nothing | Given::Malformed => traceparent.and_then(|text| SpanContext::parse(text.as_bytes())),
    };
    if let Some(span) = goes_on {
        headers.set(TRACEPARENT_HEADER, span.to_string());
        headers.remove(TRACESTATE_HEADER);
    }
    headers
}

impl DeadLetterRecord {
    /// What the last run was told of the one before it; `None`: there was none. The last failure is that of the last run.
    #[must_use]
    pub fn previous_failure(&self) -> Option<String> {
        let previous = self.history.iter().rev().nth(1);
        previous.map(|failure| format!("{}: {}", failure.reason, failure.error))
    }

    /// A record of which only this much is known: counts are zero, texts empty, times the beginning of 1970.
    #[must_use]
    pub fn bare(id: DeadLetterId, reason: impl Into<String>, error: impl Into<String>) -> Self {
        let unknown = SystemTime::UNIX_EPOCH;
        Self {
            id,
            reason: reason.into(),
            error: error.into(),
            fingerprint: String::new(),
            subscription: String::new(),
            broker: String::new(),
            stream: None,
            subject: String::new(),
            sequence: 0,
            published_at: unknown,
            message_id: String::new(),
            attempts: 0,
            max_attempts: None,
            deliveries: 0,
            defers: 0,
            timeouts: 0,
            first_seen: unknown,
            dead_at: unknown,
            handler: String::new(),
            digest: String::new(),
            version: None,
            host: String::new(),
            fuel_used: 0,
            fuel_limit: 0,
            memory_peak: 0,
            run_ms: 0,
            backtrace: Vec::new(),
            logs: Vec::new(),
            history: Vec::new(),
            redrives: 0,
            traceparent: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_is_sent_back_stays_in_its_trace() {
        const PUBLISHERS: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        const OURS: &str = "00-5bf92f3577b34da6a3ce929d0e0e4736-10f067aa0ba902b7-00";
        // What the message and the record say, and what it is sent back with.
        let rows = [
            (Some(PUBLISHERS), Some(OURS), Some(PUBLISHERS)),
            (Some(PUBLISHERS), None, Some(PUBLISHERS)),
            (None, Some(OURS), Some(OURS)),
            (Some("nonsense"), Some(OURS), Some(OURS)),
            (Some("nonsense"), None, Some("nonsense")),
            (None, Some("nonsense"), None),
            (None, None, None),
        ];
        for (given, recorded, expected) in rows {
            let mut letter = DeadLetter {
                record: DeadLetterRecord::bare(DeadLetterId("1".to_owned()), "timeout", ""),
                headers: Headers::default(),
                body: Bytes::new(),
            };
            letter.headers.push("A", "b");
            if let Some(given) = given {
                letter.headers.push("Traceparent", given);
            }
            letter.record.traceparent = recorded.map(str::to_owned);
            let again = letter.headers_again();
            assert_eq!((again.text("traceparent"), again.text("a")), (expected, Some("b")), "{given:?} {recorded:?}");
            let trace = letter.trace().map(|trace| trace.to_string());
            let readable = expected.filter(|text| *text != "nonsense").and_then(|text| text.get(3..35));
            assert_eq!(trace.as_deref(), readable, "{given:?} {recorded:?}");
        }
    }
}
