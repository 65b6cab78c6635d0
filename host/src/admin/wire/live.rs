//! What becomes of messages, as it goes over the wire: a line of JSON each.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dispatch::{Account, Seen, Sent};
use crate::handler::LogLine;
use crate::message::{Headers, Message};
use crate::settle::outputs::Routed;

/// One line of `/v1/live`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum LiveLine {
    /// The first line: from here on nothing is missed without a word.
    Watching,
    /// What became of a delivery.
    Ended(Box<EndedView>),
    /// So many endings were missed, of this handler or of others: the reader was too slow.
    Missed {
        /// How many.
        count: u64,
    },
    /// Nothing happened for a while.
    Quiet,
}

/// What became of a delivery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EndedView {
    /// When it ended.
    pub at: String,
    /// The broker, by its name in the configuration.
    pub broker: String,
    /// The subscription.
    pub subscription: String,
    /// The handler.
    pub handler: String,
    /// The number of the version that ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// The message's id.
    pub message_id: String,
    /// Its position in the stream.
    pub sequence: u64,
    /// Its subject.
    pub subject: String,
    /// Which counted run it was.
    pub attempt: u32,
    /// What it was settled as: `completed`, `skipped`, `retried`, `returned`, `dead-lettered`, `already-done` or
    /// `abandoned`.
    pub settled_as: String,
    /// The reason code.
    pub reason: String,
    /// What was said about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// In how long it comes again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again_in_ms: Option<u64>,
    /// The id of its dead letter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<String>,
    /// Fuel that the run used.
    pub fuel_used: u64,
    /// How long it took.
    pub run_us: u64,
    /// What it logged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<LogView>,
    /// What it published.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<SentView>,
    /// The message itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<MessageView>,
}

/// A line of a handler's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "LogLine")]
pub struct LogView {
    /// How long after the run began.
    pub at_us: u64,
    /// `trace`, `debug`, `info`, `warn` or `error`.
    pub level: String,
    /// What was said.
    pub text: String,
    /// Named values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<(String, String)>,
}

/// Something that a run published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SentView {
    /// The broker.
    pub broker: String,
    /// The subject.
    pub subject: String,
    /// The size of the body in bytes.
    pub size: u64,
    /// How the body begins; foreign bytes are replaced.
    pub start: String,
}

/// A message, whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MessageView {
    /// When it was published.
    pub published_at: String,
    /// The headers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, Bytes)>,
    /// The body.
    pub body: Bytes,
}

/// Bytes: as text where they are text, else as base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "TextOrBytes")]
pub enum Bytes {
    /// Text.
    Text(String),
    /// Something else.
    Base64 {
        /// By its bytes.
        base64: String,
    },
}

impl EndedView {
    /// What was seen, as it is shown.
    #[must_use]
    pub fn new(seen: &Seen) -> Self {
        let Account { logs, outputs, message } = seen.account.clone().unwrap_or_default();
        Self {
            at: time(seen.at),
            broker: seen.identity.broker.to_string(),
            subscription: seen.identity.subscription.to_string(),
            handler: seen.identity.handler.to_string(),
            version: Some(seen.version).filter(|version| *version > 0),
            message_id: seen.message_id.clone(),
            sequence: seen.sequence,
            subject: seen.subject.clone(),
            attempt: seen.attempt,
            settled_as: seen.settled_as.name().to_owned(),
            reason: seen.reason.to_string(),
            detail: seen.detail.clone(),
            again_in_ms: seen.again_in.map(|delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)),
            dead_letter: seen.dead_letter.as_ref().map(ToString::to_string),
            fuel_used: seen.usage.fuel,
            run_us: micros(seen.usage.duration),
            logs: logs.into_iter().map(LogView::new).collect(),
            outputs: outputs.iter().map(SentView::new).collect(),
            message: message.map(MessageView::new),
        }
    }

    /// The message, where it is shown whole.
    #[must_use]
    pub fn message(&self) -> Option<Message> {
        let view = self.message.as_ref()?;
        let mut headers = Headers::default();
        for (name, value) in &view.headers {
            headers.push(name.clone(), value.decoded()?);
        }
        Some(Message {
            id: self.message_id.clone(),
            subject: self.subject.clone(),
            headers,
            body: view.body.decoded()?,
            sequence: self.sequence,
            published_at: humantime::parse_rfc3339(&view.published_at).ok()?,
        })
    }
}

impl LogView {
    /// A line, as it is shown.
    #[must_use]
    pub fn new(line: LogLine) -> Self {
        Self { at_us: micros(line.at), level: line.level.name().to_owned(), text: line.text, fields: line.fields }
    }
}

impl SentView {
    fn new(sent: &Sent) -> Self {
        Self {
            broker: sent.broker.to_string(),
            subject: sent.subject.clone(),
            size: sent.size as u64,
            start: String::from_utf8_lossy(&sent.start).into_owned(),
        }
    }

    /// What would be published.
    #[must_use]
    pub fn routed(routed: &Routed) -> Self {
        Self::new(&Sent::from(routed))
    }
}

impl MessageView {
    fn new(message: Message) -> Self {
        let headers = message.headers.0.into_iter().map(|header| (header.name, Bytes::new(&header.value)));
        Self { published_at: time(message.published_at), headers: headers.collect(), body: Bytes::new(&message.body) }
    }
}

impl Bytes {
    pub(super) fn new(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Base64 { base64: STANDARD.encode(bytes) },
        }
    }

    pub(super) fn decoded(&self) -> Option<bytes::Bytes> {
        match self {
            Self::Text(text) => Some(bytes::Bytes::from(text.clone())),
            Self::Base64 { base64 } => STANDARD.decode(base64).ok().map(bytes::Bytes::from),
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_micros(time.max(SystemTime::UNIX_EPOCH)).to_string()
}
