//! What to do when a settlement was not confirmed. Pure.
//!
//! Invariant: no failure ends in an acknowledgement. What cannot be settled in time stays with the broker.

use std::time::Duration;

use crate::broker::{PublishError, SettleError};
use crate::outcome::ReasonCode;

/// How long outputs are tried again in place before the message is returned. Half a minute: a broker's restart or
/// election is over by then, and the messages that wait behind are not held up for longer.
pub const OUTPUTS_IN_PLACE: Duration = Duration::from_secs(30);
/// How long a dead letter is tried again in place before the message is returned. A minute: there is no hurry to give
/// up on a message.
pub const DEAD_LETTER_IN_PLACE: Duration = Duration::from_secs(60);
/// How long a subscription whose outputs or dead-letter queue are unavailable takes nothing new.
pub const PAUSE: Duration = Duration::from_secs(30);

/// The next step for a message whose settlement failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Next {
    /// The same settlement again, after a delay.
    Again(Duration),
    /// Send nothing more; the broker hands the message over again when its lease ends.
    Abandon,
    /// Give it up for this reason instead.
    DeadLetter(ReasonCode),
    /// Return it uncounted for this reason, and take nothing new for [`PAUSE`].
    ReturnAndPause(ReasonCode),
}

/// Decides the next step after the `tries`-th failure (1 the first time) of a settlement that has been failing for so
/// long. The lease is the last bound on all of them: the settle stage asks it before each try.
pub fn after_failure(error: &SettleError, tries: u32, failing_for: Duration) -> Next {
    match error {
        SettleError::LeaseLost => Next::Abandon,
        SettleError::Unconfirmed(_) => Next::Again(backoff(tries, Duration::from_secs(2))),
        SettleError::Output(PublishError::Unavailable(_) | PublishError::Full(_)) => {
            if failing_for < OUTPUTS_IN_PLACE {
                Next::Again(backoff(tries, Duration::from_secs(2)))
            } else {
                Next::ReturnAndPause(ReasonCode::OUTPUT_UNAVAILABLE)
            }
        }
        SettleError::Output(PublishError::Invalid(_) | PublishError::TooLarge { .. }) => {
            Next::DeadLetter(ReasonCode::OUTPUT_REFUSED)
        }
        SettleError::DeadLetter(_) => {
            if failing_for < DEAD_LETTER_IN_PLACE {
                Next::Again(backoff(tries, Duration::from_secs(5)))
            } else {
                Next::ReturnAndPause(ReasonCode::DLQ_UNAVAILABLE)
            }
        }
    }
}

/// 50 ms, doubled with every try, up to a longest.
fn backoff(tries: u32, longest: Duration) -> Duration {
    Duration::from_millis(50).saturating_mul(1 << tries.saturating_sub(1).min(10)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_its_next_step() {
        let ms = Duration::from_millis;
        let away = || PublishError::Unavailable("down".into());
        let rows = [
            (SettleError::LeaseLost, 1, ms(0), Next::Abandon),
            (SettleError::Unconfirmed("?".into()), 1, ms(0), Next::Again(ms(50))),
            (SettleError::Unconfirmed("?".into()), 50, ms(900_000), Next::Again(ms(2000))),
            (SettleError::Output(away()), 2, ms(100), Next::Again(ms(100))),
            (SettleError::Output(away()), 9, ms(30_000), Next::ReturnAndPause(ReasonCode::OUTPUT_UNAVAILABLE)),
            (SettleError::Output(PublishError::Full("disk".into())), 1, ms(0), Next::Again(ms(50))),
            (
                SettleError::Output(PublishError::TooLarge { size: 2, limit: 1 }),
                1,
                ms(0),
                Next::DeadLetter(ReasonCode::OUTPUT_REFUSED),
            ),
            (
                SettleError::Output(PublishError::Invalid("no".into())),
                1,
                ms(0),
                Next::DeadLetter(ReasonCode::OUTPUT_REFUSED),
            ),
            (SettleError::DeadLetter("full".into()), 1, ms(59_999), Next::Again(ms(50))),
            (SettleError::DeadLetter("full".into()), 9, ms(60_000), Next::ReturnAndPause(ReasonCode::DLQ_UNAVAILABLE)),
        ];
        for (error, tries, failing_for, expected) in rows {
            assert_eq!(after_failure(&error, tries, failing_for), expected, "{error} after {tries} tries");
        }
    }
}
