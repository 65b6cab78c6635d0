//! Dead letters as they go over the wire.

use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settle::dead_letter::StoredDeadLetter;

/// A page of dead letters.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetterList {
    /// The newest first, over all brokers.
    pub letters: Vec<DeadLetterView>,
    /// What to give as `after` for the next page; nothing when this is the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetterView {
    /// Its id.
    pub id: String,
    /// The broker that keeps it, by its name in the configuration.
    pub broker: String,
    /// The subscription that gave it up.
    pub subscription: String,
    /// The reason code.
    pub reason: String,
    /// What was said.
    pub error: String,
    /// The same for the same error at the same place.
    pub fingerprint: String,
    /// The subject that it was published to.
    pub subject: String,
    /// The message's id.
    pub message_id: String,
    /// The stream, where the broker has named ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// Its position in the stream.
    pub sequence: u64,
    /// When it was published.
    pub published_at: String,
    /// When it was first handed to a host.
    pub first_seen: String,
    /// When it was given up.
    pub dead_at: String,
    /// When it was sent back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redriven_at: Option<String>,
    /// Runs that counted.
    pub attempts: u32,
    /// The last attempt that there would have been, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// Hand-overs by the broker.
    pub deliveries: u32,
    /// Returns that the handler asked for.
    pub defers: u32,
    /// Runs that ended at the wall clock.
    pub timeouts: u32,
    /// How often it had been sent back before it died again.
    pub redrives: u32,
    /// The handler's name.
    pub handler: String,
    /// The module that ran last.
    pub digest: String,
    /// The number of the version that ran last, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Whether that is a version that the handler still runs here, and the message is likely to fail again when it is sent back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub same_version: bool,
    /// The trace that the message is in, 32 hex digits; where its publisher began one, or traces are exported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// The host that gave it up.
    pub host: String,
    /// Fuel of the last run.
    pub fuel_used: u64,
    /// The fuel that it was given.
    pub fuel_limit: u64,
    /// The most memory that the last run held.
    pub memory_peak_bytes: u64,
    /// How long the last run took.
    pub run_ms: u64,
    /// The guest's frames at the last fault.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backtrace: Vec<String>,
    /// The last lines that the last run logged, oldest first; they need the role `operate`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<String>,
    /// The last failures, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<FailureView>,
    /// The original headers; values that are not text have their foreign bytes replaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// Every header with its value in Base64, in their order; only where a value is not text, and not in lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub raw_headers: Vec<(String, String)>,
    /// Whether headers, log lines and body are left out because they need the role `operate`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub payload_withheld: bool,
    /// The size of the body.
    pub body_size: u64,
    /// The body where it is text; not in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The body where it is not; not in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
}

/// How much of a dead letter's message is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// Nothing: whoever asks may not see payloads.
    Nothing,
    /// The headers, in lists.
    Headers,
    /// Headers and body.
    All,
}

/// One run that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailureView {
    /// Which attempt it was.
    pub attempt: u32,
    /// When it ended.
    pub at: String,
    /// How long it ran.
    pub run_ms: u64,
    /// The reason code.
    pub reason: String,
    /// What was said.
    pub error: String,
}

impl DeadLetterView {
    /// A stored dead letter as it is shown.
    #[must_use]
    pub fn new(stored: StoredDeadLetter, broker: &str, shown: Shown) -> Self {
        let StoredDeadLetter { letter, body_size, redriven_at, handle: _ } = stored;
        let trace_id = letter.trace().map(|trace| trace.to_string());
        let record = letter.record;
        let (mut body, mut body_base64) = (None, None);
        if shown == Shown::All {
            match std::str::from_utf8(&letter.body) {
                Ok(text) => body = Some(text.to_owned()),
                Err(_) => body_base64 = Some(STANDARD.encode(&letter.body)),
            }
        }
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let is_text = letter.headers.iter().all(|header| std::str::from_utf8(&header.value).is_ok());
        let raw_headers = match shown == Shown::All && !is_text {
            true => letter.headers.iter().map(|header| (header.name.clone(), STANDARD.encode(&header.value))).collect(),
            false => Vec::new(),
        };
        Self {
            id: record.id.0,
            broker: broker.to_owned(),
            subscription: record.subscription,
            reason: record.reason,
            error: record.error,
            fingerprint: record.fingerprint,
            subject: record.subject,
            message_id: record.message_id,
            stream: record.stream,
            sequence: record.sequence,
            published_at: time(record.published_at),
            first_seen: time(record.first_seen),
            dead_at: time(record.dead_at),
            redriven_at: redriven_at.map(time),
            attempts: record.attempts,
            max_attempts: record.max_attempts,
            deliveries: record.deliveries,
            defers: record.defers,
            timeouts: record.timeouts,
            redrives: record.redrives,
            handler: record.handler,
            digest: record.digest,
            version: record.version,
            same_version: false,
            trace_id,
            host: record.host,
            fuel_used: record.fuel_used,
            fuel_limit: record.fuel_limit,
            memory_peak_bytes: record.memory_peak,
            run_ms: record.run_ms,
            backtrace: record.backtrace,
            logs: if shown == Shown::Nothing { Vec::new() } else { record.logs },
            history: record.history.into_iter().map(FailureView::new).collect(),
            headers: match shown {
                Shown::Nothing => Vec::new(),
                Shown::Headers | Shown::All => {
                    letter.headers.iter().map(|header| (header.name.clone(), text(&header.value))).collect()
                }
            },
            raw_headers,
            payload_withheld: shown == Shown::Nothing,
            body_size,
            body,
            body_base64,
        }
    }
}

impl FailureView {
    fn new(failure: crate::settle::progress::AttemptRecord) -> Self {
        Self {
            attempt: failure.attempt,
            at: time(failure.at),
            run_ms: failure.run_ms,
            reason: failure.reason,
            error: failure.error,
        }
    }
}

pub(super) fn time(time: SystemTime) -> String {
    // A time before 1970 cannot be written by this format; a message has none.
    let time = time.max(SystemTime::UNIX_EPOCH);
    humantime::format_rfc3339_millis(time).to_string()
}
