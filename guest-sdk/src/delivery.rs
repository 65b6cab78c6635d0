//! The delivery in progress: how much time is left, and what became of the attempt before.
//!
//! Each function asks the host when it is called and costs nothing when it is not.

use std::time::Duration;

use crate::failure::milliseconds;
use crate::host;

/// The wall clock that is left before the host stops this call.
#[must_use]
pub fn remaining() -> Duration {
    Duration::from_millis(u64::from(host::remaining_ms()))
}

/// Asks for more time, and gives back what is left now. All of a call's time together never exceeds the handler's
/// `max_run`.
///
/// ```
/// use std::time::Duration;
/// use tidegate_sdk::{Failure, Message, delivery, handler};
///
/// #[handler]
/// fn batch(message: &Message) -> Result<(), Failure> {
///     for part in message.body().chunks(1024) {
///         if delivery::remaining() < Duration::from_secs(2) {
///             delivery::extend(Duration::from_secs(10))?;
///         }
///         work(part);
///     }
///     Ok(())
/// }
/// # fn work(_: &[u8]) {}
/// ```
///
/// # Errors
/// See [`ExtendError`]; nothing was changed then. With `?` it is a retry.
pub fn extend(by: Duration) -> Result<Duration, ExtendError> {
    host::extend(milliseconds(by)).map(|ms| Duration::from_millis(u64::from(ms)))
}

/// What the attempt before this one came to, when there was one and the host still knows it: a reason code, then a colon
/// and the detail.
#[must_use]
pub fn previous_failure() -> Option<String> {
    host::previous_failure()
}

/// Why there is no more time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtendError {
    /// More than `max_run` allows; nothing was changed.
    OverLimit,
    /// The lease on the message is over; whatever this call does will be discarded.
    LeaseLost,
}

impl std::fmt::Display for ExtendError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::OverLimit => "asked for more time than max_run allows",
            Self::LeaseLost => "the lease on the message is over",
        })
    }
}

impl std::error::Error for ExtendError {}
