//! Why a message is not done, and what should become of it.
//!
//! Invariants: an error that nobody classified is a retry, never a reject, so that a mistake in error handling costs
//! attempts and not messages.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use crate::bindings::tidegate::events::types;

/// Why a message is not done. What kind of failure it is decides what becomes of the message.
///
/// ```
/// use std::time::Duration;
/// use tidegate_sdk::Failure;
///
/// let busy = Failure::retry("gateway-down").after(Duration::from_secs(30)).detail("503 from the gateway");
/// assert_eq!(busy.to_string(), "retry gateway-down: 503 from the gateway");
/// ```
///
/// Any [`std::error::Error`] becomes a retry with the code `error` and the error's chain as its detail, so `?` is always
/// safe: it never gives a message up. To say otherwise, see [`OrFail`].
///
/// ```
/// use tidegate_sdk::{Failure, FailureKind};
///
/// fn parse(text: &str) -> Result<u32, Failure> {
///     Ok(text.parse::<u32>()?)
/// }
/// assert_eq!(parse("seven").unwrap_err().kind(), FailureKind::Retry { after: None });
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a failure has an effect when the handler returns it"]
pub struct Failure {
    kind: FailureKind,
    code: Cow<'static, str>,
    detail: Option<String>,
}

/// What should become of a message that is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// Run it again later; it counts as an attempt.
    Retry {
        /// The delay before the next attempt; `None`: as the subscription's backoff says.
        after: Option<Duration>,
    },
    /// Bring it back after the delay, without counting an attempt.
    Defer {
        /// The delay.
        after: Duration,
    },
    /// Put it into the dead-letter queue; no more attempts.
    Reject,
    /// Acknowledge it, counted as skipped.
    Skip,
}

impl Failure {
    /// Transient: run the message again later, as the subscription's backoff says or [`after`](Self::after) a delay of
    /// the handler's. Counts as an attempt.
    ///
    /// The code is short and stable, for grouping: `gateway-down`. What differs from message to message goes into
    /// [`detail`](Self::detail).
    pub fn retry(code: impl Into<Cow<'static, str>>) -> Self {
        Self::new(FailureKind::Retry { after: None }, code)
    }

    /// Not now, and nobody's fault: a rate limit, a window that is not open yet. The message comes back after the delay
    /// and it costs no attempt; its maximum age still bounds it.
    pub fn defer(code: impl Into<Cow<'static, str>>, after: Duration) -> Self {
        Self::new(FailureKind::Defer { after }, code)
    }

    /// Permanent: to the dead-letter queue with this reason, no more attempts.
    pub fn reject(code: impl Into<Cow<'static, str>>) -> Self {
        Self::new(FailureKind::Reject, code)
    }

    /// Permanent and worthless: acknowledged and counted as skipped, not dead-lettered.
    pub fn skip(code: impl Into<Cow<'static, str>>) -> Self {
        Self::new(FailureKind::Skip, code)
    }

    fn new(kind: FailureKind, code: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, code: code.into(), detail: None }
    }

    /// Sets the delay of a retry or a deferral. What is rejected or skipped does not come back: there it does nothing.
    pub fn after(mut self, delay: Duration) -> Self {
        self.kind = match self.kind {
            FailureKind::Retry { .. } => FailureKind::Retry { after: Some(delay) },
            FailureKind::Defer { .. } => FailureKind::Defer { after: delay },
            FailureKind::Reject => FailureKind::Reject,
            FailureKind::Skip => FailureKind::Skip,
        };
        self
    }

    /// Says more, for a person to read.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// What should become of the message.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        self.kind
    }

    /// The reason's code.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }

    /// What was said beside the code.
    #[must_use]
    pub fn detail_text(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    pub(crate) fn into_raw(self) -> types::Failure {
        let reason = types::Reason { code: self.code.into_owned(), detail: self.detail };
        match self.kind {
            FailureKind::Retry { after } => {
                types::Failure::Retry(types::Retry { after_ms: after.map(milliseconds), reason })
            }
            FailureKind::Defer { after } => {
                types::Failure::Defer(types::Defer { after_ms: milliseconds(after), reason })
            }
            FailureKind::Reject => types::Failure::Reject(reason),
            FailureKind::Skip => types::Failure::Skip(reason),
        }
    }
}

/// Whole milliseconds, rounded up so that a short delay is not none, and at most what the contract can say (49 days).
pub(crate) fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX)
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            FailureKind::Retry { .. } => "retry",
            FailureKind::Defer { .. } => "defer",
            FailureKind::Reject => "reject",
            FailureKind::Skip => "skip",
        };
        write!(f, "{kind} {}", self.code)?;
        match &self.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

/// `Failure` itself is not a `std::error::Error`, which is what lets every error become one.
impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::retry("error").detail(chain(&error))
    }
}

/// An error and its sources, joined by colons. A source that the text before it already ends with is not repeated.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(next) = source {
        let said = next.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        source = next.source();
    }
    text
}

/// Says what an error, or a missing value, means for the message.
///
/// ```
/// use tidegate_sdk::{Failure, FailureKind, OrFail};
///
/// fn amount(text: &str) -> Result<u32, Failure> {
///     text.parse::<u32>().or_reject("bad-amount")
/// }
/// let failure = amount("seven").unwrap_err();
/// assert_eq!(failure.to_string(), "reject bad-amount: invalid digit found in string");
///
/// let none: Option<u32> = None;
/// assert_eq!(none.or_skip("no-amount").unwrap_err().kind(), FailureKind::Skip);
/// ```
pub trait OrFail<T>: Sized {
    /// Turns an error into the failure that the function makes; an error's own words become the detail unless the
    /// failure has one.
    ///
    /// # Errors
    /// That failure, when there is no value.
    fn or_fail(self, failure: impl FnOnce() -> Failure) -> Result<T, Failure>;

    /// Transient: see [`Failure::retry`].
    ///
    /// # Errors
    /// A retry, when there is no value.
    fn or_retry(self, code: &'static str) -> Result<T, Failure> {
        self.or_fail(|| Failure::retry(code))
    }

    /// Permanent: see [`Failure::reject`].
    ///
    /// # Errors
    /// A rejection, when there is no value.
    fn or_reject(self, code: &'static str) -> Result<T, Failure> {
        self.or_fail(|| Failure::reject(code))
    }

    /// Worthless: see [`Failure::skip`].
    ///
    /// # Errors
    /// A skip, when there is no value.
    fn or_skip(self, code: &'static str) -> Result<T, Failure> {
        self.or_fail(|| Failure::skip(code))
    }
}

impl<T, E: fmt::Display> OrFail<T> for Result<T, E> {
    fn or_fail(self, failure: impl FnOnce() -> Failure) -> Result<T, Failure> {
        self.map_err(|error| {
            let mut failure = failure();
            failure.detail.get_or_insert_with(|| error.to_string());
            failure
        })
    }
}

impl<T> OrFail<T> for Option<T> {
    fn or_fail(self, failure: impl FnOnce() -> Failure) -> Result<T, Failure> {
        self.ok_or_else(failure)
    }
}
