//! How much a subscription may hold after it was paused: one message at first, then more, so that what waited does not fall
//! on whatever the handlers speak to all at once. Pure.

use std::time::Duration;

/// From one message at a time to as many as may run at once. Ten seconds: connections and caches of others are warm again by
/// then, and nobody has to look at a clock.
pub const RAMP: Duration = Duration::from_secs(10);
/// Between two looks at a ramp: forty steps, which nobody tells from a line.
pub(crate) const STEP: Duration = Duration::from_millis(250);

/// How many messages may be held so long after the subscription was resumed, where `limit` may run at once; `None`: the ramp
/// is over, and no more is asked of it than ever. At least 1, at most `limit`, and never less than before.
#[must_use]
pub fn ramp(limit: usize, since: Duration) -> Option<usize> {
    if since >= RAMP {
        return None;
    }
    let more = limit.saturating_sub(1) as u128 * since.as_nanos() / RAMP.as_nanos();
    Some(usize::try_from(more).unwrap_or(usize::MAX).saturating_add(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_goes_from_one_to_the_limit_in_ten_seconds() {
        let at = |seconds: f64| ramp(16, Duration::from_secs_f64(seconds));
        let rows = [(0.0, Some(1)), (0.6, Some(1)), (0.7, Some(2)), (5.0, Some(8)), (9.99, Some(15)), (10.0, None)];
        for (seconds, expected) in rows {
            assert_eq!(at(seconds), expected, "after {seconds} s");
        }
        assert_eq!(ramp(1, Duration::ZERO), Some(1));
        assert_eq!(ramp(0, Duration::ZERO), Some(1), "none at all would never begin");
    }

    proptest! {
        #[test]
        fn it_never_falls_and_stays_within_its_bounds(limit in 1usize..10_000, earlier in 0u64..12_000, more in 0u64..12_000) {
            let at = |ms| ramp(limit, Duration::from_millis(ms)).unwrap_or(limit);
            let (before, after) = (at(earlier), at(earlier + more));
            prop_assert!(1 <= before && before <= after && after <= limit, "{before} then {after} of {limit}");
        }
    }
}
