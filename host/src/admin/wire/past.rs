//! Messages that went by, as they go over the wire.

use std::time::SystemTime;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Bytes;
use super::dead_letter::time;
use crate::broker::PastPage;
use crate::message::{Headers, Message};

/// A page of messages that a subscription's stream still has, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PastMessages {
    /// The messages, as they were published.
    pub messages: Vec<PastMessage>,
    /// What to give as `after` for the next page; nothing when this is the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
    /// When the oldest message was published that the stream still has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<String>,
    /// Whether the broker keeps messages that every subscription has settled.
    pub keeps_settled: bool,
}

/// A message that went by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PastMessage {
    /// Its id.
    pub id: String,
    /// The subject that it was published to.
    pub subject: String,
    /// Its position in the stream.
    pub sequence: u64,
    /// When it was published.
    pub published_at: String,
    /// The headers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, Bytes)>,
    /// The body.
    pub body: Bytes,
}

impl PastMessages {
    /// A page as it is shown.
    #[must_use]
    pub fn new(page: PastPage) -> Self {
        Self {
            messages: page.messages.iter().map(PastMessage::new).collect(),
            next: page.next,
            oldest: page.oldest.map(time),
            keeps_settled: page.keeps_settled,
        }
    }
}

impl PastMessage {
    fn new(message: &Message) -> Self {
        Self {
            id: message.id.clone(),
            subject: message.subject.clone(),
            sequence: message.sequence,
            published_at: humantime::format_rfc3339_nanos(message.published_at.max(SystemTime::UNIX_EPOCH)).to_string(),
            headers: message.headers.iter().map(|header| (header.name.clone(), Bytes::new(&header.value))).collect(),
            body: Bytes::new(&message.body),
        }
    }

    /// The message.
    ///
    /// # Errors
    /// When a part of it cannot be read.
    pub fn into_message(self) -> Result<Message, PastMessageError> {
        let mut headers = Headers::default();
        for (name, value) in self.headers {
            headers.push(name, value.decoded().ok_or(PastMessageError)?);
        }
        Ok(Message {
            id: self.id,
            subject: self.subject,
            headers,
            body: self.body.decoded().ok_or(PastMessageError)?,
            sequence: self.sequence,
            published_at: humantime::parse_rfc3339(&self.published_at).map_err(|_| PastMessageError)?,
        })
    }
}

/// What the host answered is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("reading a message out of the host's answer")]
pub struct PastMessageError;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_message_comes_back_as_it_was() {
        for body in [b"text".as_slice(), b"\x00\xff"] {
            let mut headers = Headers::default();
            headers.push("A", b"\xff".to_vec());
            headers.push("A", "b");
            let message = Message {
                id: "m".into(),
                subject: "a.b".into(),
                headers,
                body: body.to_vec().into(),
                sequence: 7,
                published_at: SystemTime::UNIX_EPOCH + Duration::from_nanos(1_767_225_600_000_001_002),
            };
            let page = PastPage { messages: vec![message.clone()], next: Some(7), ..PastPage::default() };
            let text = serde_json::to_string(&PastMessages::new(page)).unwrap();
            let mut read: PastMessages = serde_json::from_str(&text).unwrap();
            assert_eq!((read.next, read.messages.remove(0).into_message().unwrap()), (Some(7), message));
        }
    }
}
