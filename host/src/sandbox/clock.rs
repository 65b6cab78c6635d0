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
    started_ns: AtomicU64,
    deadline_ns: AtomicU64,
    longest_ns: AtomicU64,
    lease_ns: AtomicU64,
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
        Self { origin: now, started_ns: zero(), deadline_ns: zero(), longest_ns: zero(), lease_ns: zero() }
    }

    /// A run starts now. Its lease has to be seen before it is checked.
    pub(super) fn start(&self, now: Instant, timeout: Duration, max_run: Duration) {
        let started = self.at(now);
        self.started_ns.store(started, Ordering::Relaxed);
        self.deadline_ns.store(started.saturating_add(nanos(timeout)), Ordering::Relaxed);
        self.longest_ns.store(started.saturating_add(nanos(max_run.max(timeout))), Ordering::Relaxed);
    }

    /// Takes over the lease's end, which whoever keeps the lease may have moved.
    pub(super) fn see_lease(&self, ends_at: Instant) {
        self.lease_ns.store(self.at(ends_at), Ordering::Relaxed);
    }

    /// How long the run has been going on.
    pub(super) fn elapsed(&self, now: Instant) -> Duration {
        Duration::from_nanos(self.at(now).saturating_sub(self.started_ns.load(Ordering::Relaxed)))
    }

    /// When the run ends, as known now.
    pub(super) fn ends_at(&self) -> Instant {
        self.origin + Duration::from_nanos(self.end_ns())
    }

    /// What is left.
    pub(super) fn remaining(&self, now: Instant) -> Duration {
        Duration::from_nanos(self.end_ns().saturating_sub(self.at(now)))
    }

    /// Whether the run is over, and by what.
    pub(super) fn check(&self, now: Instant) -> Result<(), Stop> {
        let now = self.at(now);
        if now >= self.lease_ns.load(Ordering::Relaxed) {
            return Err(Stop::LeaseOver);
        }
        let deadline = self.deadline_ns.load(Ordering::Relaxed);
        if now >= deadline {
            let started = self.started_ns.load(Ordering::Relaxed);
            return Err(Stop::Timeout { limit: Duration::from_nanos(deadline.saturating_sub(started)) });
        }
        Ok(())
    }

    /// Moves the deadline out, and gives back what is left.
    pub(super) fn extend(&self, now: Instant, by: Duration) -> Result<Duration, ExtendRefused> {
        if self.at(now) >= self.lease_ns.load(Ordering::Relaxed) {
            return Err(ExtendRefused::LeaseLost);
        }
        let wanted = self.deadline_ns.load(Ordering::Relaxed).saturating_add(nanos(by));
        if wanted > self.longest_ns.load(Ordering::Relaxed) {
            return Err(ExtendRefused::OverLimit);
        }
        self.deadline_ns.store(wanted, Ordering::Relaxed);
        Ok(self.remaining(now))
    }

    fn end_ns(&self) -> u64 {
        self.deadline_ns.load(Ordering::Relaxed).min(self.lease_ns.load(Ordering::Relaxed))
    }

    fn at(&self, instant: Instant) -> u64 {
        nanos(instant.saturating_duration_since(self.origin))
    }
}

fn nanos(duration: Duration) -> u64 {
    // A hundred years is as good as never, and adding to it overflows neither the number nor an instant. The seconds
    // are cut first: 64 bits are enough then, and dividing 128 is what this is to avoid.
    const NEVER: u64 = 100 * 365 * 24 * 3600;
    duration.as_secs().min(NEVER) * 1_000_000_000 + u64::from(duration.subsec_nanos())
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
        clock.start(now, seconds(10), seconds(60));
        clock.see_lease(now + seconds(30));
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
