//! A message that a handler wants published.

use serde::Serialize;

use crate::Failure;
use crate::bindings::tidegate::events::types;

/// A message to publish once the handler is done. The host publishes it, confirmed, before it acknowledges the message
/// that the handler ran on.
///
/// ```
/// use tidegate_sdk::{Failure, Output};
///
/// # fn main() -> Result<(), Failure> {
/// let output = Output::to("invoices").json(&[1, 2, 3])?.subject("invoices.eu").key("customer-7").header("Tenant", "a");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
#[must_use = "an output is published when the handler returns it"]
pub struct Output {
    pub(crate) raw: types::Outgoing,
}

impl Output {
    /// An output with an empty body. `to` is the name of an output that the host's configuration grants to the handler;
    /// it says which broker and which subject that is.
    pub fn to(to: impl Into<String>) -> Self {
        Self {
            raw: types::Outgoing {
                to: to.into(),
                subject: None,
                key: None,
                content_type: None,
                headers: Vec::new(),
                body: Vec::new(),
                id: None,
            },
        }
    }

    /// Sets the body to a value as JSON, and the media type to `application/json`.
    ///
    /// # Errors
    /// A rejection with the code `unserializable-output` when the value has no JSON form (a map with keys that are not
    /// text, say). The next attempt would end the same way.
    pub fn json<T: Serialize + ?Sized>(mut self, value: &T) -> Result<Self, Failure> {
        self.raw.body = serde_json::to_vec(value)
            .map_err(|error| Failure::reject("unserializable-output").detail(error.to_string()))?;
        Ok(self.content_type("application/json"))
    }

    /// Sets the body to text, and the media type to `text/plain; charset=utf-8`.
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.raw.body = text.into().into_bytes();
        self.content_type("text/plain; charset=utf-8")
    }

    /// Sets the body to bytes; the media type is left as it is.
    pub fn bytes(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.raw.body = body.into();
        self
    }

    /// Publishes to this subject in the place of the output's own.
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.raw.subject = Some(subject.into());
        self
    }

    /// Sets the ordering key.
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.raw.key = Some(key.into());
        self
    }

    /// Sets the media type of the body.
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.raw.content_type = Some(content_type.into());
        self
    }

    /// Adds a header behind those that are there.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.raw.headers.push(types::Header { name: name.into(), value: value.into() });
        self
    }

    /// Sets the message id. Without one the host derives it from the message and the output's index, so that a second
    /// run of the same message does not publish twice on a broker that de-duplicates.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.raw.id = Some(id.into());
        self
    }
}
