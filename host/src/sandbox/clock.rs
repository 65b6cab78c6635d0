//! When a run must end: its own deadline and the end of the lease, readable while the guest runs.
//!
//! Invariants:
//! - A deadline only moves by `extend`, and never past `max_run` from the start.
//! - Whichever of deadline and lease ends first ends the run.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::fault::Stop;

/// The clock of one store. The guest's imports move the deadline; whoever drives the run brings the lease up to date
/// each time before the guest goes on. Relaxed everywhere: no other memory hangs on these values, and the tick comes
/// again in a millisecond.
#[derive(Debug)]
pub(super) struct Clock {
    origin: Instant,
    started_us: AtomicU64,
    deadline_us: AtomicU64,
    longest_us: AtomicU64,
    lease_us: AtomicU64,
}

/// Why `extend` gave no more time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExtendRefused {
    /// It would go past `max_run`.
    OverLimit,
    /// The lease is over.
    LeaseLost,
}

impl Clock {
    /// A clock that no run uses yet.
    pub(super) fn new(now: Instant) -> Self {
        let zero = || AtomicU64::new(0);
        Self { origin: now, started_us: zero(), deadline_us: zero(), longest_us: zero(), lease_us: zero() }
    }

    /// A run starts now.
    pub(super) fn start(&self, now: Instant, timeout: Duration, max_run: Duration, lease_ends: Instant) {
        let started = self.at(now);
        self.started_us.store(started, Ordering::Relaxed);
        self.deadline_us.store(started.saturating_add(micros(timeout)), Ordering::Relaxed);
        self.longest_us.store(started.saturating_add(micros(max_run.max(timeout))), Ordering::Relaxed);
        self.see_lease(lease_ends);
    }

    /// Takes over the lease's end, which whoever keeps the lease may have moved.
    pub(super) fn see_lease(&self, ends_at: Instant) {
        self.lease_us.store(self.at(ends_at), Ordering::Relaxed);
    }

    /// How long the run has been going on.
    pub(super) fn elapsed(&self, now: Instant) -> Duration {
        Duration::from_micros(self.at(now).saturating_sub(self.started_us.load(Ordering::Relaxed)))
    }

    /// When the run ends, as known now.
    pub(super) fn ends_at(&self) -> Instant {
        self.origin + Duration::from_micros(self.end_us())
    }

    /// What is left.
    pub(super) fn remaining(&self, now: Instant) -> Duration {
        Duration::from_micros(self.end_us().saturating_sub(self.at(now)))
    }

    /// Whether the run is over, and by what.
    pub(super) fn check(&self, now: Instant) -> Result<(), Stop> {
        let now = self.at(now);
        if now >= self.lease_us.load(Ordering::Relaxed) {
            return Err(Stop::LeaseOver);
        }
        let deadline = self.deadline_us.load(Ordering::Relaxed);
        if now >= deadline {
            let started = self.started_us.load(Ordering::Relaxed);
            return Err(Stop::Timeout { limit: Duration::from_micros(deadline.saturating_sub(started)) });
        }
        Ok(())
    }

    /// Moves the deadline out, and gives back what is left.
    pub(super) fn extend(&self, now: Instant, by: Duration) -> Result<Duration, ExtendRefused> {
        if self.at(now) >= self.lease_us.load(Ordering::Relaxed) {
            return Err(ExtendRefused::LeaseLost);
        }
        let wanted = self.deadline_us.load(Ordering::Relaxed).saturating_add(micros(by));
        if wanted > self.longest_us.load(Ordering::Relaxed) {
            return Err(ExtendRefused::OverLimit);
        }
        self.deadline_us.store(wanted, Ordering::Relaxed);
        Ok(self.remaining(now))
    }

    fn end_us(&self) -> u64 {
        self.deadline_us.load(Ordering::Relaxed).min(self.lease_us.load(Ordering::Relaxed))
    }

    fn at(&self, instant: Instant) -> u64 {
        micros(instant.saturating_duration_since(self.origin))
    }
}

fn micros(duration: Duration) -> u64 {
    // A hundred years is as good as never, and adding to it overflows neither the number nor an instant.
    const NEVER: u64 = 100 * 365 * 24 * 3600 * 1_000_000;
    u64::try_from(duration.as_micros()).unwrap_or(NEVER).min(NEVER)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn started() -> (Clock, Instant) {
        let now = Instant::now();
        let clock = Clock::new(now);
        clock.start(now, seconds(10), seconds(60), now + seconds(30));
        (clock, now)
    }

    #[test]
    fn the_earlier_of_deadline_and_lease_ends_the_run() {
        let (clock, now) = started();
        assert!(clock.check(now + seconds(9)).is_ok());
        assert!(matches!(clock.check(now + seconds(10)), Err(Stop::Timeout { limit }) if limit == seconds(10)));
        clock.see_lease(now + seconds(5));
        assert!(matches!(clock.check(now + seconds(5)), Err(Stop::LeaseOver)));
        assert_eq!(clock.ends_at(), now + seconds(5));
    }

    #[test]
    fn extend_goes_to_max_run_and_not_further() {
        let (clock, now) = started();
        assert_eq!(clock.extend(now + seconds(5), seconds(10)), Ok(seconds(15)));
        assert_eq!(clock.extend(now + seconds(5), seconds(41)), Err(ExtendRefused::OverLimit));
        assert_eq!(clock.extend(now + seconds(5), seconds(40)), Ok(seconds(25)), "the lease is what is left");
        assert_eq!(clock.extend(now + seconds(30), seconds(0)), Err(ExtendRefused::LeaseLost));
    }
}
