//! The message that a handler runs on.

use std::time::{Duration, SystemTime};

use serde::Deserialize;

use crate::bindings::tidegate::events::types;
use crate::{Failure, Output, misfit};

/// One message, as the host handed it over.
///
/// It holds what the host wrote, unchanged; nothing is parsed or copied before it is asked for.
///
/// ```
/// use tidegate_sdk::{Message, Output, handler, info};
///
/// #[handler]
/// fn copy(message: Message) -> Output {
///     info!(bytes = message.body().len(), "copying {}", message.id());
///     message.into_output("copies")
/// }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    pub(crate) raw: types::Message,
}

impl Message {
    /// The same on every redelivery: the key to de-duplicate by.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.raw.id
    }

    /// The name of the subscription that received it.
    #[must_use]
    pub fn subscription(&self) -> &str {
        &self.raw.source
    }

    /// The subject it was published to, such as `orders.eu.created`.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.raw.subject
    }

    /// The ordering key, when the publisher gave one.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        self.raw.key.as_deref()
    }

    /// The media type of the body, when the publisher gave one.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.raw.content_type.as_deref()
    }

    /// The first value under a header's name, when it is UTF-8. Names are compared without regard to ASCII case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.header_bytes(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The first value under a header's name, as bytes: brokers do not agree on an encoding.
    #[must_use]
    pub fn header_bytes(&self, name: &str) -> Option<&[u8]> {
        self.headers().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All headers in the order in which they came; a name may repeat. What has a field of its own (key, media type, trace
    /// context) is not among them, nor is what is of this message alone: what its broker wrote for itself, its id, that it
    /// was sent back.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.raw.headers.iter().map(|header| (header.name.as_str(), header.value.as_slice()))
    }

    /// The body, untouched.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.raw.body
    }

    /// Takes the body out, without a copy.
    #[must_use]
    pub fn into_body(self) -> Vec<u8> {
        self.raw.body
    }

    /// The body as text.
    ///
    /// # Errors
    /// A rejection with the code `invalid-payload` when it is not UTF-8: it will not be on the next attempt either.
    pub fn text(&self) -> Result<&str, Failure> {
        std::str::from_utf8(self.body()).map_err(|error| Failure::reject(INVALID_PAYLOAD).detail(error.to_string()))
    }

    /// The body parsed as JSON, possibly borrowing from it.
    ///
    /// # Errors
    /// A rejection with the code `invalid-payload`, since parsing it again can't help. Its detail says what does not fit and where,
    /// and quotes nothing of the body: it is logged, and shown to who may not see bodies.
    pub fn json<'m, T: Deserialize<'m>>(&'m self) -> Result<T, Failure> {
        serde_json::from_slice(self.body())
            .map_err(|error| Failure::reject(INVALID_PAYLOAD).detail(misfit::told(&error)))
    }

    /// The counted run that this is: 1 the first time. Returns that were nobody's fault do not count.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.raw.attempt
    }

    /// The last attempt there will be; `None`: unlimited.
    #[must_use]
    pub fn max_attempts(&self) -> Option<u32> {
        self.raw.max_attempts
    }

    /// True when a retry from here ends in the dead-letter queue.
    #[must_use]
    pub fn last_chance(&self) -> bool {
        self.max_attempts().is_some_and(|last| self.attempt() >= last)
    }

    /// The position in the broker's stream, where it has one.
    #[must_use]
    pub fn sequence(&self) -> Option<u64> {
        self.raw.sequence
    }

    /// When the broker took it in, to the millisecond.
    #[must_use]
    pub fn published_at(&self) -> Option<SystemTime> {
        self.raw.published_at_ms.and_then(|ms| SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(ms)))
    }

    /// True when an operator sent it back from the dead-letter queue.
    #[must_use]
    pub fn redriven(&self) -> bool {
        self.raw.redriven
    }

    /// The W3C trace context that came with it.
    #[must_use]
    pub fn traceparent(&self) -> Option<&str> {
        self.raw.traceparent.as_deref()
    }

    /// Passes the message on: an output with its body, key, media type and headers, none of them copied.
    ///
    /// The subject is the output's own and the id is derived by the host, as for any output.
    pub fn into_output(self, to: impl Into<String>) -> Output {
        Output {
            raw: types::Outgoing {
                to: to.into(),
                subject: None,
                key: self.raw.key,
                content_type: self.raw.content_type,
                headers: self.raw.headers,
                body: self.raw.body,
                id: None,
            },
        }
    }

    /// Takes the message out of its place, which is left empty.
    pub(crate) fn take(place: &mut Self) -> Self {
        let empty = types::Message {
            id: String::new(),
            source: String::new(),
            subject: String::new(),
            key: None,
            content_type: None,
            headers: Vec::new(),
            body: Vec::new(),
            attempt: 1,
            max_attempts: None,
            sequence: None,
            published_at_ms: None,
            redriven: false,
            traceparent: None,
        };
        std::mem::replace(place, Self { raw: empty })
    }
}

/// The reason code of a body that is not what the handler takes.
pub(crate) const INVALID_PAYLOAD: &str = "invalid-payload";
