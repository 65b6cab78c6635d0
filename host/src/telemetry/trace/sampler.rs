//! Which traces are recorded: as the publisher decided, else one in so many; and failures beyond that, within a budget.
//!
//! Invariants:
//! - The same trace is decided about in the same way at every attempt, on every host.
//! - Failures that are kept are bounded: when everything fails, so many a second are enough to see why.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use super::context::TraceId;

/// Traces that are kept in a second for their failure alone. A person reads some of them; a store that is paid by the span
/// should not be filled by an outage.
const FAILURES_A_SECOND: u64 = 100;
/// The bits of the second in which the budget stands, above those of what it has left.
const SHIFT: u32 = 16;

/// Decides which traces are recorded.
#[derive(Debug)]
pub struct Sampler {
    /// A trace whose last 63 bits are below this is recorded; `None`: every one is.
    below: Option<u64>,
    keeps_failures: bool,
    /// The second, and the failures that were kept in it.
    kept: AtomicU64,
}

impl Sampler {
    /// One that records this share of the traces that begin here, from 0 to 1.
    #[must_use]
    pub fn new(ratio: f64, keeps_failures: bool) -> Self {
        #[allow(clippy::cast_possible_truncation, reason = "a part of 2^63 fits, and what is behind the point is cut")]
        let bound = (ratio.clamp(0.0, 1.0) * (1u64 << 63) as f64) as u64;
        Self { below: (ratio < 1.0).then_some(bound), keeps_failures, kept: AtomicU64::new(0) }
    }

    /// Whether a trace that begins here is recorded.
    #[must_use]
    pub fn takes(&self, trace: TraceId) -> bool {
        // The bits that other samplers by ratio look at too, so that those which are asked later decide alike.
        let bits = trace.halves().1 >> 1;
        self.below.is_none_or(|below| bits < below)
    }

    /// Whether failures of traces that are not recorded are kept, as far as the budget goes.
    #[must_use]
    pub const fn keeps_failures(&self) -> bool {
        self.keeps_failures
    }

    /// Whether a failure of a trace that is not recorded is kept all the same.
    pub fn keeps_failure(&self, now: SystemTime) -> bool {
        if !self.keeps_failures {
            return false;
        }
        let second = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let take = |kept: u64| {
            let in_this = if kept >> SHIFT == second { kept & ((1 << SHIFT) - 1) } else { 0 };
            (in_this < FAILURES_A_SECOND).then_some((second << SHIFT) | (in_this + 1))
        };
        self.kept.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn as_many_are_taken_as_the_ratio_says() {
        let mut rng = fastrand::Rng::with_seed(1);
        for (ratio, least, most) in [(0.0, 0, 0), (0.01, 50, 150), (0.5, 4_800, 5_200), (1.0, 10_000, 10_000)] {
            let sampler = Sampler::new(ratio, false);
            let taken = (0..10_000).filter(|_| sampler.takes(TraceId::of(rng.u128(..)))).count();
            assert!((least..=most).contains(&taken), "{ratio}: {taken}");
        }
        assert!(Sampler::new(1.0, false).takes(TraceId::of(u128::MAX)));
        assert!(!Sampler::new(0.0, false).takes(TraceId::of(1 << 64)));
    }

    #[test]
    fn failures_are_kept_within_their_budget() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        assert!(!Sampler::new(0.0, false).keeps_failure(now));
        let sampler = Sampler::new(0.0, true);
        for second in 0..3 {
            let at = now + Duration::from_secs(second);
            let kept = (0..1000).filter(|_| sampler.keeps_failure(at)).count();
            assert_eq!(kept as u64, FAILURES_A_SECOND);
        }
        // A clock that goes back is another second.
        assert!(sampler.keeps_failure(now - Duration::from_secs(3600)));
    }
}
