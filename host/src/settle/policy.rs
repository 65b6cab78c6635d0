//! How often a message is tried, and when again.

use std::num::NonZeroU32;
use std::time::Duration;

/// How a subscription retries. There is one retry authority, and it is this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Counted runs before a message is dead-lettered.
    pub max_attempts: NonZeroU32,
    /// Deliveries before a message is dead-lettered, counted or not: bounds deferrals and returns.
    pub max_deliveries: NonZeroU32,
    /// The age, since it was published, at which a message that failed is dead-lettered instead of returned.
    pub max_age: Duration,
    /// How long to wait after each failure.
    pub backoff: Backoff,
    /// The longest delay that a handler may ask for, by retry or by defer; longer ones are cut to it.
    pub retry_after_max: Duration,
}

/// The delay after the n-th failed attempt, before jitter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backoff {
    /// 0.5 s, 1 s, 2 s, 4 s: doubling. With 5 attempts about 8 s in all.
    Quick,
    /// n^3 seconds. With 10 attempts about 34 minutes in all.
    Standard,
    /// n^4 seconds, the schedule of Sidekiq and River. With 20 attempts about 6.5 days: a fix can be deployed meanwhile.
    Patient,
    /// Spelled out; the last one repeats.
    Schedule(Vec<Duration>),
}

impl RetryPolicy {
    /// The `quick` preset: 5 attempts in about 8 seconds.
    #[must_use]
    pub fn quick() -> Self {
        Self::preset(5, Backoff::Quick)
    }

    /// The `standard` preset, the default: 10 attempts in about 34 minutes.
    #[must_use]
    pub fn standard() -> Self {
        Self::preset(10, Backoff::Standard)
    }

    /// The `patient` preset: 20 attempts in about 6.5 days.
    #[must_use]
    pub fn patient() -> Self {
        Self::preset(20, Backoff::Patient)
    }

    fn preset(attempts: u32, backoff: Backoff) -> Self {
        let max_attempts = NonZeroU32::MIN.saturating_add(attempts.saturating_sub(1));
        Self {
            max_attempts,
            max_deliveries: max_attempts.saturating_mul(NonZeroU32::MIN.saturating_add(9)),
            // Two weeks: twice the longest preset, so that age ends only what nothing else has ended.
            max_age: Duration::from_secs(14 * 24 * 3600),
            backoff,
            // A day: a handler that wants longer wants a scheduler.
            retry_after_max: Duration::from_secs(24 * 3600),
        }
    }
}

impl Backoff {
    /// The delay after failure number `failures` (1 for the first), before jitter. Never more than 7 days.
    #[must_use]
    pub fn delay(&self, failures: u32) -> Duration {
        const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
        let n = u64::from(failures.max(1));
        let delay = match self {
            Self::Quick => {
                let doublings = failures.saturating_sub(1).min(20);
                Duration::from_millis(500).saturating_mul(1 << doublings)
            }
            Self::Standard => Duration::from_secs(n.saturating_pow(3)),
            Self::Patient => Duration::from_secs(n.saturating_pow(4)),
            Self::Schedule(delays) => {
                let index = usize::try_from(n - 1).unwrap_or(usize::MAX);
                delays.get(index).or_else(|| delays.last()).copied().unwrap_or_default()
            }
        };
        delay.min(LONGEST)
    }
}

/// Spreads a delay over 80 % to 120 % of itself, so that what failed together does not come back together.
/// `roll` is a random number from 0 up to 1.
#[must_use]
pub fn jitter(delay: Duration, roll: f64) -> Duration {
    delay.mul_f64(0.4f64.mul_add(roll.clamp(0.0, 1.0), 0.8))
}
