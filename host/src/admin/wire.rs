//! The JSON of the API: what goes over the wire, used by the listener and by the command line alike.

use std::collections::BTreeMap;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::access::Role;
use crate::message::{Headers, Publish};
use crate::settle::dead_letter::StoredDeadLetter;
use crate::telemetry::SubscriptionCounts;

/// One message to publish: a line of a stream.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishLine {
    /// The subject.
    pub subject: String,
    /// The message id, for de-duplication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Headers with text values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// A body that is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// A body that is JSON; it is sent as compact text, its keys and numbers as they were written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<Box<serde_json::value::RawValue>>,
    /// A body of any bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
}

impl PublishLine {
    /// The message, or what is wrong with the line.
    ///
    /// # Errors
    /// When it has more than one body, or one that is no base64.
    pub fn into_publish(self) -> Result<Publish, String> {
        let mut headers = Headers::default();
        for (name, value) in self.headers {
            headers.push(name, value);
        }
        let body = match (self.body, self.json, self.body_base64) {
            (Some(text), None, None) => text.into_bytes(),
            (None, Some(json), None) => json.get().as_bytes().to_vec(),
            (None, None, Some(text)) => STANDARD.decode(text).map_err(|error| format!("`body_base64`: {error}"))?,
            (None, None, None) => Vec::new(),
            _ => return Err("a message has one of `body`, `json` and `body_base64`".to_owned()),
        };
        Ok(Publish { subject: self.subject, id: self.id, headers, body: body.into() })
    }

    /// The line of a message: its body as text where it is text, else as base64.
    ///
    /// # Errors
    /// When a header's value is not text, which a line cannot carry.
    pub fn from_publish(publish: &Publish) -> Result<Self, String> {
        let mut headers = BTreeMap::new();
        for header in publish.headers.iter() {
            let value = std::str::from_utf8(&header.value)
                .map_err(|_| format!("the value of header `{}` is not text", header.name))?;
            headers.insert(header.name.clone(), value.to_owned());
        }
        let mut line = Self { subject: publish.subject.clone(), id: publish.id.clone(), headers, ..Self::default() };
        match std::str::from_utf8(&publish.body) {
            Ok(text) => line.body = Some(text.to_owned()),
            Err(_) => line.body_base64 = Some(STANDARD.encode(&publish.body)),
        }
        Ok(line)
    }
}

/// The answer to one message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedMessage {
    /// Its position in the stream; that of the earlier message when this one was there already.
    pub sequence: u64,
    /// Whether a message of this id was there already.
    pub duplicate: bool,
}

/// The answer to a stream of messages: what was stored, and what was not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishSummary {
    /// Messages that were stored.
    pub published: u64,
    /// Messages that were there already, by their id.
    pub duplicates: u64,
    /// Messages that were not stored. The stream ends with the group of lines in which one was not.
    pub failed: u64,
    /// The first failures, by line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<LineFailure>,
    /// Why the stream was not read to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
}

/// A line whose message was not stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineFailure {
    /// The line, counted from 1.
    pub line: u64,
    /// Why.
    pub error: ErrorBody,
}

/// What went wrong: a word for programs, a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// Stable.
    pub code: String,
    /// For a person.
    pub message: String,
}

/// The body of every answer that is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorAnswer {
    /// What went wrong.
    pub error: ErrorBody,
}

/// The answer of `/v1/whoami`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whoami {
    /// The name of the token or of the client certificate; `local` where none is asked for.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The handlers that it is limited to; nothing when it is not limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handlers: Option<Vec<String>>,
}

/// The answer of `/ready`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Whether messages are taken and given up ones can be stored.
    pub ready: bool,
    /// What is not ready, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<Trouble>,
}

/// Something that is not ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// Which: `host`, `broker NAME` or `subscription NAME`.
    pub what: String,
    /// Why, for a person.
    pub why: String,
}

/// The answer of `/v1/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The host's name.
    pub host: String,
    /// The version of the program.
    pub version: String,
    /// Since when it runs.
    pub uptime_seconds: f64,
    /// Whether it has stopped taking messages for good.
    pub draining: bool,
    /// The brokers.
    pub brokers: Vec<BrokerView>,
    /// The subscriptions.
    pub subscriptions: Vec<SubscriptionView>,
}

/// A broker now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerView {
    /// Its name in the configuration.
    pub name: String,
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it can be reached.
    pub connected: bool,
    /// Why not, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Dead letters that wait; `None` when that could not be learnt.
    pub dead_letters: Option<u64>,
}

/// A subscription now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SubscriptionView {
    /// Its name.
    pub name: String,
    /// Its broker.
    pub broker: String,
    /// Its handler.
    pub handler: String,
    /// The sha256 of the module that runs, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Why it takes no messages, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// What was counted.
    pub counts: SubscriptionCounts,
}

/// A page of dead letters.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DeadLetterList {
    /// Broker by broker, the newest first.
    pub letters: Vec<DeadLetterView>,
    /// What to give as `after` for the next page; nothing when this is the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// The last failures, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<FailureView>,
    /// The original headers; values that are not text have their foreign bytes replaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// Whether headers and body are left out because they need the role `operate`.
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
        let StoredDeadLetter { letter, body_size, redriven_at } = stored;
        let record = letter.record;
        let (mut body, mut body_base64) = (None, None);
        if shown == Shown::All {
            match std::str::from_utf8(&letter.body) {
                Ok(text) => body = Some(text.to_owned()),
                Err(_) => body_base64 = Some(STANDARD.encode(&letter.body)),
            }
        }
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
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
            deliveries: record.deliveries,
            defers: record.defers,
            timeouts: record.timeouts,
            redrives: record.redrives,
            handler: record.handler,
            digest: record.digest,
            host: record.host,
            fuel_used: record.fuel_used,
            fuel_limit: record.fuel_limit,
            memory_peak_bytes: record.memory_peak,
            run_ms: record.run_ms,
            backtrace: record.backtrace,
            history: record.history.into_iter().map(FailureView::new).collect(),
            headers: match shown {
                Shown::Nothing => Vec::new(),
                Shown::Headers | Shown::All => {
                    letter.headers.iter().map(|header| (header.name.clone(), text(&header.value))).collect()
                }
            },
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

fn time(time: SystemTime) -> String {
    // A time before 1970 cannot be written by this format; a message has none.
    let time = time.max(SystemTime::UNIX_EPOCH);
    humantime::format_rfc3339_millis(time).to_string()
}
