//! A message and what it carries: plain data that every station passes on unchanged.

use std::time::SystemTime;

use bytes::Bytes;

/// The header that carries a message's ordering key on brokers that have no field for one.
pub const KEY_HEADER: &str = "Tidegate-Key";
/// The header that carries the media type of the body.
pub const CONTENT_TYPE_HEADER: &str = "Content-Type";
/// The W3C trace context header.
pub const TRACEPARENT_HEADER: &str = "traceparent";
/// The header of what a trace carries along beside its context.
pub const TRACESTATE_HEADER: &str = "tracestate";
/// How often this message was sent back from the dead-letter queue, as a decimal number.
pub const REDRIVE_COUNT_HEADER: &str = "Dlq-Redrive-Count";
/// The dead letter that a message was sent back from with another body.
pub const REDRIVE_OF_HEADER: &str = "Dlq-Redrive-Of";
/// The subscription that a message was sent back for from the dead-letter queue. Only the host sets it, and only on
/// brokers on which every subscription of a subject receives what is published there.
pub const REDRIVE_FOR_HEADER: &str = "Dlq-Redrive-For";

/// The id of a message that was sent back, on a broker whose own field for it must have a new one.
pub const KEPT_ID_HEADER: &str = "Tidegate-Message-Id";

/// Whether a NATS server gives a header a meaning of its own.
pub(crate) fn is_of_nats(name: &str) -> bool {
    name.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("Nats-"))
}

/// Whether a header says something of the message that it came with and of no other: what the broker wrote for itself, its id,
/// that it was sent back. A handler has fields for what matters of that, and does not see it: it may pass on all headers that it
/// sees, to a message that is another one.
#[must_use]
pub fn is_of_its_message_alone(name: &str) -> bool {
    let own = [KEPT_ID_HEADER, REDRIVE_COUNT_HEADER, REDRIVE_OF_HEADER, REDRIVE_FOR_HEADER];
    is_of_nats(name) || own.iter().any(|own| name.eq_ignore_ascii_case(own))
}

/// One header. Values are bytes, because brokers do not agree on an encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The name, as the publisher wrote it. Compared without regard to ASCII case.
    pub name: String,
    /// The value, unchanged.
    pub value: Bytes,
}

impl Header {
    /// A header with a text value.
    pub fn new(name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        Self { name: name.into(), value: value.into() }
    }
}

/// Headers in the order in which they came; names may repeat.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<Header>);

impl Headers {
    /// The first value under a name, compared without regard to ASCII case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Bytes> {
        self.0.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| &header.value)
    }

    /// All values under a name, in their order, compared without regard to ASCII case.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Bytes> {
        self.0.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| &header.value)
    }

    /// The first value under a name, when it is UTF-8.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Adds a header behind those that are there.
    pub fn push(&mut self, name: impl Into<String>, value: impl Into<Bytes>) {
        self.0.push(Header::new(name, value));
    }

    /// Puts a value under a name in the place of all that are there.
    pub fn set(&mut self, name: &str, value: impl Into<Bytes>) {
        self.remove(name);
        self.push(name, value);
    }

    /// Takes every header of a name away.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|header| !header.name.eq_ignore_ascii_case(name));
    }

    /// Walks the headers in their order.
    pub fn iter(&self) -> std::slice::Iter<'_, Header> {
        self.0.iter()
    }

    /// The bytes that names and values take together.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.iter().map(|header| header.name.len() + header.value.len()).sum()
    }
}

/// A message, as its broker handed it over.
///
/// The ordering key, the media type and the trace context travel as headers ([`KEY_HEADER`],
/// [`CONTENT_TYPE_HEADER`], [`TRACEPARENT_HEADER`]), so that no broker needs a field of its own for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The same on every redelivery: the key to de-duplicate by.
    pub id: String,
    /// The subject it was published to, without wildcards.
    pub subject: String,
    /// What the publisher sent along.
    pub headers: Headers,
    /// The body, untouched.
    pub body: Bytes,
    /// The position in the broker's stream; unique there, and growing.
    pub sequence: u64,
    /// When the broker took it in.
    pub published_at: SystemTime,
}

impl Message {
    /// What this message takes of a byte budget: body, headers, subject and id.
    #[must_use]
    pub fn size(&self) -> usize {
        self.body.len() + self.headers.size() + self.subject.len() + self.id.len()
    }

    /// How often it was sent back from the dead-letter queue.
    #[must_use]
    pub fn redrives(&self) -> u32 {
        self.headers.text(REDRIVE_COUNT_HEADER).and_then(|text| text.parse().ok()).unwrap_or(0)
    }
}

/// A message to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// The subject, without wildcards.
    pub subject: String,
    /// The message id: a broker that de-duplicates takes the same id only once within its window.
    pub id: Option<String>,
    /// Sent along unchanged.
    pub headers: Headers,
    /// The body, untouched.
    pub body: Bytes,
}

impl Publish {
    /// What this message takes of a byte budget: body, headers, subject and id.
    #[must_use]
    pub fn size(&self) -> usize {
        let id = self.id.as_ref().map_or(0, String::len);
        self.body.len() + self.headers.size() + self.subject.len() + id
    }
}
