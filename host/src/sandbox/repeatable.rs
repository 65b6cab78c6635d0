//! The same time and the same random numbers in every run: what makes a run of a message the same each time.
//!
//! A handler that seeds a hash map, or asks what time it is, takes another amount of fuel each time. Tests, profiles and
//! comparisons want none of that.
//!
//! Invariants:
//! - What a run sees follows from its message and from how often it looked before, and from nothing else.
//! - Time goes on with each look, so that a guest that waits for a moment reaches it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use wasmtime_wasi::random::Deterministic;
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtxBuilder};

/// By so much time goes on with each look, in nanoseconds: about what a call into the host takes.
const STEP_NS: u64 = 1_000;
/// How many random bytes there are before they begin anew. No power of two, so that words are not the same again so soon.
const RANDOM_BYTES: u64 = 65_537;

/// The clock of one instance. Relaxed everywhere: one guest looks at it, in one thread at a time.
#[derive(Debug, Clone, Default)]
pub(super) struct Repeatable(Arc<Times>);

#[derive(Debug, Default)]
struct Times {
    /// When the message was published, in nanoseconds since 1970: the time of day when a run begins.
    begin_ns: AtomicU64,
    /// What has gone by since.
    gone_ns: AtomicU64,
}

impl Repeatable {
    /// A run begins, on a message that was published then.
    pub(super) fn begin(&self, published_at: SystemTime) {
        let since = published_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.0.begin_ns.store(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX / 2), Ordering::Relaxed);
        self.0.gone_ns.store(0, Ordering::Relaxed);
    }

    /// Gives an instance this clock, and random numbers that are the same for each.
    pub(super) fn give(&self, builder: &mut WasiCtxBuilder) {
        builder
            .wall_clock(self.clone())
            .monotonic_clock(self.clone())
            .secure_random(Deterministic::new(random_bytes(1)))
            .insecure_random(Deterministic::new(random_bytes(2)))
            .insecure_random_seed(1 << 64 | 2);
    }

    fn look(&self) -> u64 {
        self.0.gone_ns.fetch_add(STEP_NS, Ordering::Relaxed).saturating_add(STEP_NS)
    }
}

impl HostWallClock for Repeatable {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(STEP_NS)
    }

    fn now(&self) -> Duration {
        Duration::from_nanos(self.0.begin_ns.load(Ordering::Relaxed).saturating_add(self.look()))
    }
}

impl HostMonotonicClock for Repeatable {
    fn resolution(&self) -> u64 {
        STEP_NS
    }

    fn now(&self) -> u64 {
        self.look()
    }
}

/// Bytes that look like chance: SplitMix64 of the numbers in their order.
fn random_bytes(seed: u64) -> Vec<u8> {
    let byte = |number: u64| {
        let mut mixed = seed.wrapping_mul(RANDOM_BYTES).wrapping_add(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).to_le_bytes()[0]
    };
    (0..RANDOM_BYTES).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_begins_with_the_message_and_goes_on_with_each_look() {
        let clock = Repeatable::default();
        let looks = || {
            clock.begin(SystemTime::UNIX_EPOCH + Duration::from_secs(7));
            (HostWallClock::now(&clock), HostMonotonicClock::now(&clock))
        };
        let seen = (Duration::from_nanos(7_000_001_000), 2_000);
        assert_eq!((looks(), looks()), (seen, seen));
    }

    #[test]
    fn random_bytes_are_the_same_and_of_all_kinds() {
        let bytes = random_bytes(1);
        assert_eq!(bytes, random_bytes(1));
        assert_ne!(bytes, random_bytes(2));
        let ones: u32 = bytes.iter().map(|byte| byte.count_ones()).sum();
        let expected = u32::try_from(RANDOM_BYTES * 4).unwrap_or(u32::MAX);
        assert!(ones.abs_diff(expected) < expected / 50, "{ones} of {expected}");
    }
}
