//! When a circuit opens, and for how long.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::outcome::{FaultKind, Outcome};

/// When the circuit of a subscription opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitPolicy {
    /// It opens on no fewer messages than these. Twenty: of fewer, half may fail by chance, and their retries do no harm.
    pub messages: NonZeroU32,
    /// So many of a hundred messages have failed when it opens; from 1 to 100. Fifty: when most of what is tried is in vain,
    /// trying less costs less than it saves.
    pub failures: u32,
    /// Over this time. Half a minute: longer than the restart of whatever handlers speak to takes to be noticed, shorter than
    /// the first five retries of the `standard` preset.
    pub window: Duration,
    /// How long it is open at first. Five seconds: what was a hiccup costs no more.
    pub pause: Duration,
    /// Each probe that fails doubles the pause, up to this. Five minutes: an outage of hours is over for the handler within
    /// five minutes of its end.
    pub max_pause: Duration,
}

impl CircuitPolicy {
    /// The default.
    #[must_use]
    pub const fn standard() -> Self {
        Self {
            messages: NonZeroU32::MIN.saturating_add(19),
            failures: 50,
            window: Duration::from_secs(30),
            pause: Duration::from_secs(5),
            max_pause: Duration::from_secs(300),
        }
    }

    /// Whether so many failures are enough to open it.
    pub(super) fn is_met(&self, good: u64, bad: u64) -> bool {
        let all = good.saturating_add(bad);
        all >= u64::from(self.messages.get()) && bad.saturating_mul(100) >= all.saturating_mul(u64::from(self.failures))
    }

    /// The pause after one that ended with a probe that failed.
    pub(super) fn after(&self, pause: Duration) -> Duration {
        pause.saturating_mul(2).min(self.max_pause)
    }
}

/// What a run says of the handler and of what it speaks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    /// It works: it is done with the message, one way or the other.
    Good,
    /// It could not do its work.
    Bad,
    /// Nothing: the handler was not tried, or said of itself that now is not the time.
    Nothing,
}

/// What an outcome says.
pub(crate) const fn sign(outcome: &Outcome) -> Sign {
    match outcome {
        // A reject is a verdict on the message, and whoever gives one works.
        Outcome::Completed(_) | Outcome::Skipped(_) | Outcome::Rejected(_) => Sign::Good,
        Outcome::Retry { .. } => Sign::Bad,
        Outcome::Defer { .. } => Sign::Nothing,
        Outcome::Fault(fault) => match fault.kind {
            FaultKind::Trap(_)
            | FaultKind::OutOfFuel
            | FaultKind::Timeout
            | FaultKind::MemoryLimit
            | FaultKind::OutputLimit
            | FaultKind::InvalidResult => Sign::Bad,
            FaultKind::Denied | FaultKind::InvalidMessage | FaultKind::NoHandler | FaultKind::Interrupted => {
                Sign::Nothing
            }
        },
    }
}
