//! Builds the message, and the delivery around it, that a handler is tested on.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::Ran;
use crate::bindings::tidegate::events::types;
use crate::failure::milliseconds;
use crate::host::{Recorder, record};
use crate::{Handler, Message};

/// A message to test a handler on: the first attempt of five, on the subject `test`, with ten seconds to run.
#[derive(Debug, Clone)]
#[must_use = "a test message does something when it is run"]
pub struct TestMessage {
    raw: types::Message,
    recorder: Recorder,
}

impl TestMessage {
    /// A message with a JSON body and its media type.
    ///
    /// # Panics
    /// When the value has no JSON form.
    #[track_caller]
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Self::bytes(body).content_type("application/json"),
            Err(error) => fail(&format!("the test's message has no JSON form: {error}")),
        }
    }

    /// A message with text as its body.
    pub fn text(text: impl Into<String>) -> Self {
        Self::bytes(text.into())
    }

    /// A message with bytes as its body.
    pub fn bytes(body: impl Into<Vec<u8>>) -> Self {
        Self {
            raw: types::Message {
                id: "test-1".to_owned(),
                source: "test".to_owned(),
                subject: "test".to_owned(),
                key: None,
                content_type: None,
                headers: Vec::new(),
                body: body.into(),
                attempt: 1,
                max_attempts: Some(5),
                sequence: Some(1),
                published_at_ms: None,
                redriven: false,
                traceparent: None,
            },
            recorder: Recorder { remaining_ms: 10_000, extendable_ms: 890_000, ..Recorder::default() },
        }
    }

    /// Sets the message id.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.raw.id = id.into();
        self
    }

    /// Sets the name of the subscription that received it.
    pub fn subscription(mut self, subscription: impl Into<String>) -> Self {
        self.raw.source = subscription.into();
        self
    }

    /// Sets the subject it was published to.
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.raw.subject = subject.into();
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

    /// Sets which counted run this is; 1 is the first.
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.raw.attempt = attempt;
        self
    }

    /// Sets the last attempt there will be; `None`: unlimited.
    pub fn max_attempts(mut self, max_attempts: Option<u32>) -> Self {
        self.raw.max_attempts = max_attempts;
        self
    }

    /// Sets the position in the broker's stream.
    pub fn sequence(mut self, sequence: u64) -> Self {
        self.raw.sequence = Some(sequence);
        self
    }

    /// Sets when the broker took it in, to the millisecond. A time before 1970 counts as 1970.
    pub fn published_at(mut self, at: SystemTime) -> Self {
        let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.raw.published_at_ms = Some(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// Marks it as sent back from the dead-letter queue.
    pub fn redriven(mut self) -> Self {
        self.raw.redriven = true;
        self
    }

    /// Sets the W3C trace context that came with it.
    pub fn traceparent(mut self, traceparent: impl Into<String>) -> Self {
        self.raw.traceparent = Some(traceparent.into());
        self
    }

    /// Sets what the attempt before came to.
    pub fn previous_failure(mut self, failure: impl Into<String>) -> Self {
        self.recorder.previous_failure = Some(failure.into());
        self
    }

    /// Sets how much time is left. The clock of a test stands still: only [`delivery::extend`](crate::delivery::extend)
    /// changes it.
    pub fn remaining(mut self, remaining: Duration) -> Self {
        self.recorder.remaining_ms = milliseconds(remaining);
        self
    }

    /// Sets by how much the handler may extend its time, all extensions together.
    pub fn extendable(mut self, by: Duration) -> Self {
        self.recorder.extendable_ms = milliseconds(by);
        self
    }

    /// Makes every extension find that the lease is over.
    pub fn lease_lost(mut self) -> Self {
        self.recorder.lease_lost = true;
        self
    }

    /// Runs a handler on the message, by the name of its function.
    ///
    /// A panic of the handler is a panic of the test; the host would record a trap.
    #[must_use = "check what the handler did"]
    pub fn run<H: Handler>(self) -> Ran {
        let message = Message { raw: self.raw };
        let (result, recorder) = record(self.recorder, || H::handle(message));
        Ran::new(result, recorder)
    }

    /// The message alone, to call the function with.
    #[must_use]
    pub fn build(self) -> Message {
        Message { raw: self.raw }
    }
}

/// Fails the test.
#[allow(clippy::panic, reason = "a test says what it expects by failing")]
#[track_caller]
pub(super) fn fail(why: &str) -> ! {
    panic!("{why}")
}
